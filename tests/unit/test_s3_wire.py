"""What S3 requests are signed with and what its answers mean, without a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountcore.errors import Corrupt, Denied, InvalidName, NotFound, Quota, Refused, StorageError, Unreachable
from mountcore.remotes.objects import raw_names, times
from mountcore.remotes.objects.s3.documents import page
from mountcore.remotes.objects.s3.errors import error, parse
from mountcore.remotes.objects.s3.options import parse as parse_options
from mountcore.remotes.objects.s3.sigv4 import EMPTY, Keys, Scope, presigned_query, signed_headers
from mountcore.remotes.objects.store import TimeForm
from mountcore.remotes.registry import open_remote, types
from mountcore.remotes.words import Words

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
SCOPE = Scope("us-east-1", datetime(2013, 5, 24, tzinfo=UTC))
"""Of the examples in "Authenticating Requests (AWS Signature Version 4)"."""


def test_the_signature_of_amazons_example_of_a_get() -> None:
    given = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"}
    found = signed_headers("GET", "/test.txt", {}, given, EMPTY, KEYS, SCOPE)
    assert found["authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_the_signature_of_amazons_example_of_a_listing() -> None:
    given = {"host": "examplebucket.s3.amazonaws.com"}
    found = signed_headers("GET", "/", {"max-keys": "2", "prefix": "J"}, given, EMPTY, KEYS, SCOPE)
    assert found["authorization"].endswith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")


def test_the_signature_of_amazons_example_of_a_url() -> None:
    query = presigned_query("GET", "/test.txt", "examplebucket.s3.amazonaws.com", 86400, KEYS, SCOPE)
    assert query.endswith("Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_keys_are_in_no_repr() -> None:
    assert "wJalr" not in repr(KEYS)
    remote = open_remote("s3", {"access_key_id": "AKIA1", "secret_access_key": "wJalr", "endpoint": "http://h:1"}, "b")
    assert "wJalr" not in repr(remote) + remote.identity
    assert "AKIA1" not in repr(remote) + remote.identity


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1500000000.123456789", 1_500_000_000_123_456_789),
        ("1500000000", 1_500_000_000 * 10**9),
        ("-1.5", -1_500_000_000),
        ("2017-07-14T02:40:00.123456789Z", 1_500_000_000_123_456_789),
        ("2017-07-14T04:40:00+02:00", 1_500_000_000 * 10**9),
    ],
)
def test_times_as_rclone_writes_them(text: str, ns: int) -> None:
    assert times.read({"mtime": text}) == ns
    for form in TimeForm:
        assert times.read({"mtime": times.written(ns, form)}) == ns


@pytest.mark.parametrize("text", ["", "yesterday", "1e9", "2017-99-14T02:40:00Z", "nan"])
def test_times_that_are_none(text: str) -> None:
    assert times.read({"mtime": text}) is None


def test_a_page_of_a_listing() -> None:
    document = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>a+b</NextContinuationToken>
      <Contents><Key>d/a%2Bb+c%0A</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>"ab"</ETag>
      <Size>7</Size></Contents><CommonPrefixes><Prefix>d/e%26/</Prefix></CommonPrefixes></ListBucketResult>"""
    found = page(document, True)
    assert [(one.key, one.size, one.tag) for one in found.objects] == [("d/a+b c\n", 7, "ab")]
    assert found.objects[0].modified_ns == 1_767_323_045 * 10**9
    assert (list(found.prefixes), found.more) == (["d/e&/"], "a+b")


@pytest.mark.parametrize(
    "document",
    [b"", b"<html>welcome</html>", b"not xml", b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
     b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"],
)  # fmt: skip
def test_what_is_no_listing_is_not_an_empty_one(document: bytes) -> None:
    with pytest.raises(Corrupt):
        page(document, True)


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [(403, "InvalidAccessKeyId", Denied, "access_key_id"), (403, "SignatureDoesNotMatch", Denied, "secret_access_key"),
     (400, "ExpiredToken", Denied, "expired"), (403, "RequestTimeTooSkewed", Denied, "clock"),
     (404, "NoSuchBucket", NotFound, "no such bucket"), (503, "SlowDown", Unreachable, "too many requests"),
     (403, "QuotaExceeded", Quota, "quota"), (500, "", Unreachable, "HTTP 500"), (403, "", Denied, "not allowed"),
     (418, "Teapot", StorageError, "Teapot")],
)  # fmt: skip
def test_refusals_say_what_to_do(status: int, code: str, kind: type[StorageError], words: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode() if code else b""
    found = error(parse(status, {}, body), "https://s3.example.com, bucket b")
    assert type(found) is kind
    assert words in found.said
    assert "bucket b" in found.said


def test_another_region_is_named() -> None:
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>x; expecting 'eu-west-3'</Message></Error>"
    assert parse(400, {}, body).region == "eu-west-3"
    assert "region = eu-west-3" in error(parse(400, {}, body), "here").said


@pytest.mark.parametrize(
    ("options", "words"),
    [({"access_key_id": "a"}, "secret_access_key"), ({"endpoint": "ftp://h"}, "endpoint"),
     ({"provider": "Minio"}, "endpoint"), ({"v2_auth": "true"}, "version 4"),
     ({"chunk_size": "1Ki"}, "chunk_size"), ({"list_chunk": "x"}, "list_chunk"), ({"timeout": "0"}, "timeout"),
     ({"sse_kms_key_id": "k"}, "sse_kms_key_id"), ({"sse_customer_key": "short"}, "32 bytes"),
     ({"endpoint": "http://user:pw@h"}, "without user"), ({"env_auth": "maybe"}, "env_auth"),
     ({"ca_cert": "/nowhere"}, "ca_cert"), ({"endpiont": "http://h"}, "did you mean 'endpoint'")],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        open_remote("s3", options, "bucket")
    assert "pw" not in str(caught.value)


def test_where_buckets_are() -> None:
    def origin(**options: str) -> tuple[str, bool]:
        values = {option.name: option.default for option in types()["s3"].options}
        found = parse_options(Words("s3", values | options))
        return str(found.origin) + found.prefix, found.path_style

    assert origin() == ("https://s3.us-east-1.amazonaws.com", False)
    assert origin(region="eu-west-1", use_dual_stack="true") == ("https://s3.dualstack.eu-west-1.amazonaws.com", False)
    assert origin(use_accelerate_endpoint="true") == ("https://s3-accelerate.amazonaws.com", False)
    assert origin(region="cn-north-1") == ("https://s3.cn-north-1.amazonaws.com.cn", False)
    assert origin(endpoint="minio.lan:9000") == ("https://minio.lan:9000", True)
    assert origin(endpoint="http://[::1]:9000/base/") == ("http://[::1]:9000/base", True)
    assert origin(endpoint="https://h", force_path_style="false") == ("https://h", False)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("d/x\udcff", "d/x‛FF"),
        ("\udcc3", "‛C3"),
        ("a‛FFb", "a‛‛FFb"),
        ("‛", "‛"),
        ("‛c3", "‛c3"),
        ("q‛7Fz", "q‛7Fz"),
        ("‛‛FF", "‛‛‛FF"),
        ("日本語", "日本語"),
    ],
)
def test_names_that_are_not_utf_8_are_written_as_rclone_writes_them(path: str, key: str) -> None:
    assert raw_names.written(path) == key
    assert raw_names.read(key) == path


@given(st.text(st.one_of(st.sampled_from("‛‛F8a0Cz."), st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))))
def test_every_name_comes_back_or_is_refused(path: str) -> None:
    try:
        key = raw_names.written(path)
    except InvalidName:
        return
    key.encode()
    assert raw_names.read(key) == path


@given(st.text("‛F8aC."))
def test_every_key_can_be_asked_for_again(key: str) -> None:
    try:
        assert raw_names.written(raw_names.read(key)) == key
    except InvalidName:
        assert raw_names.read(key) == key

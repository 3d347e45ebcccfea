"""What a user can say about an S3 server, as in rclone.conf; parsed and checked once. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ....errors import Refused
from ...words import Words
from ..http import HttpSettings, Origin
from .sigv4 import Keys

MIB = 1 << 20
GIB = 1 << 30
SMALLEST_PART = 5 * MIB
LARGEST_PUT = 5 * GIB
LARGEST = 5 << 40
_VIRTUAL = frozenset({"aws", "alibaba", "arvancloud", "huaweiobs", "netease", "storj", "tencentcos"})
"""Providers that want, or can do with, the bucket in the host name."""
_CONDITIONS = frozenset({"aws"})


@dataclass(frozen=True, slots=True)
class Encryption:
    """Headers of what is stored, and (SSE-C) of every request for content."""

    stored: tuple[tuple[str, str], ...] = ()
    customer: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    opaque_tags: bool = False
    """The etag is no MD5."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """One S3 server and how to talk to it. No secret is in a repr."""

    origin: Origin
    keys: Keys | None = field(default=None, repr=False)
    env_auth: bool = False
    profile: str = ""
    shared_credentials_file: str = ""
    region: str = "us-east-1"
    region_given: bool = False
    amazon: bool = False
    path_style: bool = True
    prefix: str = ""
    """Path of the endpoint, in front of every bucket."""
    stored: tuple[tuple[str, str], ...] = ()
    """Headers of what is stored: storage class, ACL."""
    encryption: Encryption = Encryption()
    requester_pays: bool = False
    upload_cutoff: int = 200 * MIB
    chunk_size: int = SMALLEST_PART
    max_parts: int = 10_000
    concurrency: int = 4
    copy_cutoff: int = 4656 * MIB
    leave_parts: bool = False
    checksum: bool = True
    sign_payload: bool = False
    list_chunk: int = 1000
    list_version: int = 2
    url_encode: bool = True
    conditional: bool | None = None
    location: str = ""
    http: HttpSettings = field(default_factory=HttpSettings)

    @property
    def compares(self) -> bool:
        """What is sent is compared with the etag afterwards; a signed payload the server compares itself."""
        return self.checksum and not self.sign_payload

    @property
    def identity(self) -> str:
        """Which store this is."""
        if self.amazon:
            return "s3://amazonaws.com"
        return f"s3://{self.origin.authority}{self.prefix}"


def parse(words: Words) -> S3Options:
    """Typed options; raises Refused naming the option and what it accepts."""
    provider = words.text("provider").lower()
    region = words.text("region")
    key, secret = words.text("access_key_id"), words.text("secret_access_key")
    if bool(key) != bool(secret):
        raise Refused(f"s3: {'secret_access_key' if key else 'access_key_id'} is missing; both or none")
    env_auth = words.flag("env_auth") and not key
    if words.text("session_token") and not key:
        raise Refused("s3: session_token belongs to access_key_id and secret_access_key")
    endpoint = words.text("endpoint")
    amazon = not endpoint
    if amazon and provider not in ("", "aws", "other"):
        raise Refused(f"s3: endpoint is missing; {words.text('provider')} tells it, like https://s3.example.com")
    origin, prefix = _origin(words, endpoint, region or "us-east-1")
    virtual = amazon or provider in _VIRTUAL
    if virtual and _is_address(origin.host):
        virtual = False
    unsigned = words.flag("use_unsigned_payload", origin.scheme == "https")
    conditional: bool | None = provider in _CONDITIONS or amazon or None
    if words.text("conditional_put") not in ("", "unset"):
        conditional = words.flag("conditional_put")
    stored = [
        (header, words.text(name))
        for header, name in (("x-amz-acl", "acl"), ("x-amz-storage-class", "storage_class"))
        if words.text(name)
    ]
    parts = words.number("max_upload_parts", 1, 10_000, 10_000)
    return S3Options(
        origin=origin,
        keys=Keys(key, secret, words.text("session_token")) if key else None,
        env_auth=env_auth,
        profile=words.text("profile"),
        shared_credentials_file=words.text("shared_credentials_file"),
        region=region or "us-east-1",
        region_given=bool(region),
        amazon=amazon,
        path_style=words.flag("force_path_style", not virtual),
        prefix=prefix,
        stored=tuple(stored),
        encryption=_encryption(words),
        requester_pays=words.flag("requester_pays"),
        upload_cutoff=words.size("upload_cutoff", 0, LARGEST_PUT, 200 * MIB),
        chunk_size=words.size("chunk_size", SMALLEST_PART, LARGEST_PUT, SMALLEST_PART),
        max_parts=parts,
        concurrency=words.number("upload_concurrency", 1, 64, 4),
        copy_cutoff=words.size("copy_cutoff", SMALLEST_PART, LARGEST_PUT, 4656 * MIB),
        leave_parts=words.flag("leave_parts_on_error"),
        checksum=not words.flag("disable_checksum"),
        sign_payload=not unsigned,
        list_chunk=words.number("list_chunk", 1, 1_000_000, 1000),
        list_version=words.number("list_version", 0, 2, 2) or 2,
        url_encode=words.flag("list_url_encode", True),
        conditional=conditional,
        location=words.text("location_constraint"),
        http=http_settings(words),
    )


def http_settings(words: Words) -> HttpSettings:
    """The waits and whom to trust."""
    return HttpSettings(
        connect_timeout=words.duration("connect_timeout", 60.0),
        timeout=words.duration("timeout", 60.0),
        connections=words.number("concurrency", 1, 1024, 64),
        check_certificate=not words.flag("no_check_certificate"),
        ca_cert=words.text("ca_cert"),
    )


def _origin(words: Words, endpoint: str, region: str) -> tuple[Origin, str]:
    if not endpoint:
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        if words.flag("use_accelerate_endpoint"):
            dual = ".dualstack" if words.flag("use_dual_stack") else ""
            return Origin("https", f"s3-accelerate{dual}.{domain}", 443), ""
        dual = ".dualstack" if words.flag("use_dual_stack") else ""
        return Origin("https", f"s3{dual}.{region}.{domain}", 443), ""
    for name in ("use_accelerate_endpoint", "use_dual_stack"):
        if words.flag(name):
            raise Refused(f"s3: {name} is about Amazon's endpoints; leave endpoint empty, or {name} out")
    url = endpoint if "://" in endpoint else f"https://{endpoint}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.username is not None:
        raise Refused("s3: endpoint is http://HOST[:PORT] or https://HOST[:PORT], without user, password or query")
    return Origin(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme]), parts.path.rstrip("/")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _encryption(words: Words) -> Encryption:
    kind, kms = words.text("server_side_encryption"), words.text("sse_kms_key_id")
    if kms and not kind.startswith("aws:kms"):
        raise Refused("s3: sse_kms_key_id needs server_side_encryption = aws:kms")
    stored = [("x-amz-server-side-encryption", kind)] if kind else []
    if kms:
        stored.append(("x-amz-server-side-encryption-aws-kms-key-id", kms))
    text, encoded = words.text("sse_customer_key"), words.text("sse_customer_key_base64")
    algorithm = words.text("sse_customer_algorithm")
    if not text and not encoded:
        if algorithm:
            raise Refused("s3: sse_customer_algorithm needs sse_customer_key")
        return Encryption(tuple(stored), (), kind.startswith("aws:kms"))
    if text and encoded:
        raise Refused("s3: sse_customer_key and sse_customer_key_base64 exclude each other")
    if kind:
        raise Refused("s3: server_side_encryption and sse_customer_key exclude each other")
    try:
        key = text.encode() if text else base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise Refused("s3: sse_customer_key_base64 is not base64") from None
    if len(key) != 32:
        raise Refused(f"s3: sse_customer_key is 32 bytes long, not {len(key)}")
    md5 = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if (given := words.text("sse_customer_key_md5")) and given != md5:
        raise Refused("s3: sse_customer_key_md5 is not the MD5 of sse_customer_key")
    name = "x-amz-server-side-encryption-customer-"
    customer = (
        (f"{name}algorithm", algorithm or "AES256"),
        (f"{name}key", base64.b64encode(key).decode()),
        (f"{name}key-md5", md5),
    )
    return Encryption((), customer, True)

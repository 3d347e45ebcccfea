"""S3 servers that fail, lie or hang, buckets elsewhere, and where keys come from. Scripted and real servers."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from sources import entries, fetch, put

from mountcore.errors import Corrupt, Denied, StorageError, TimedOut, Unreachable
from mountcore.remotes.protocol import ANYTHING, Remote, Span, Version
from mountcore.remotes.registry import open_remote
from tests.servers.certificate import make_certificate
from tests.servers.objects import KEY, SECRET
from tests.servers.scripted_http import answer, scripted_http

pytestmark = pytest.mark.trio
LISTING = b"<ListBucketResult><Contents><Key>f</Key><Size>5</Size><ETag>t</ETag></Contents></ListBucketResult>"
KEYS = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "", "Expiration": "2099-01-01T00:00:00Z"}


def opened(url: str, **options: str) -> Remote:
    given = {"access_key_id": "k", "secret_access_key": "s", "timeout": "1s", "use_server_modtime": "true"}
    return open_remote("s3", {"endpoint": url} | given | options, "bucket")


async def test_a_bucket_in_another_region_is_found() -> None:
    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        if "/eu-west-3/s3/" in headers["authorization"]:
            return answer(200, LISTING)
        return answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>")

    async with scripted_http(script) as server:
        remote = opened(server.url)
        assert list(await entries(remote)) == ["f"]
        assert list(await entries(remote)) == ["f"]
        assert len(server.heard) == 3, "asked wrongly once"
        await remote.aclose()


async def test_a_refused_head_is_asked_why() -> None:
    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        if method == "HEAD":
            return answer(403)
        return answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>")

    async with scripted_http(script) as server:
        remote = opened(server.url)
        with pytest.raises(Denied, match="clock"):
            await remote.stat("f")
        await remote.aclose()


async def test_what_fails_for_a_moment_is_asked_again() -> None:
    asked = 0

    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        nonlocal asked
        asked += 1
        return answer(503, b"<Error><Code>SlowDown</Code></Error>") if asked < 3 else answer(200, LISTING)

    async with scripted_http(script) as server:
        remote = opened(server.url)
        assert list(await entries(remote)) == ["f"]
        await remote.aclose()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(200, b"<html>please log in to the hotel's network</html>"), Corrupt),
        (answer(200, b""), Corrupt),
        (answer(200, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"), Corrupt),
        (answer(500), Unreachable),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Corrupt),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<ListBucketResult>", Unreachable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc", Unreachable),
        (None, TimedOut),
    ],
    ids=["portal", "empty", "truncated", "500", "not-http", "short", "short-chunk", "silence"],
)
async def test_nothing_looks_empty_because_the_server_is_broken(reply: bytes | None, kind: type[StorageError]) -> None:
    async with scripted_http(lambda method, target, headers: reply) as server:
        remote = opened(server.url)
        for ask in (entries(remote), remote.stat("")):
            with trio.fail_after(40), pytest.raises(kind):
                await ask
        await remote.aclose()


async def test_a_download_that_breaks_off_goes_on() -> None:
    content = bytes(range(256)) * 40

    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        start = int(headers["range"].removeprefix("bytes=").partition("-")[0]) if "range" in headers else 0
        head = f"HTTP/1.1 206 Words\r\nContent-Range: bytes {start}-{len(content) - 1}/{len(content)}\r\nETag: t\r\n"
        return (
            head.encode() + f"Content-Length: {len(content) - start}\r\n\r\n".encode() + content[start : start + 3000]
        )

    async with scripted_http(script) as server:
        remote = opened(server.url)
        assert await fetch(remote, "f", Span(7, len(content)), Version(len(content), tag="t")) == content[7:]
        assert len(server.heard) == 4
        await remote.aclose()


async def test_a_listing_that_makes_a_file_shorter_than_it_is_does_not_cut_it() -> None:
    content = b"whole content"

    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        start, _, last = headers["range"].removeprefix("bytes=").partition("-")
        piece = content[int(start) : int(last) + 1]
        where = f"bytes {start}-{int(start) + len(piece) - 1}/{len(content)}"
        return answer(206, piece, ETag="t", **{"Content-Range": where})

    async with scripted_http(script) as server:
        remote = opened(server.url)
        assert await fetch(remote, "f", Span(0, 5), Version(len(content), tag="t")) == b"whole"
        with pytest.raises(Corrupt, match="13 bytes of it, and said that it has 5"):
            await fetch(remote, "f", Span(0, 5), Version(5, tag="t"))
        await remote.aclose()


async def test_what_was_damaged_on_the_way_up_is_noticed() -> None:
    """The etag is another MD5 than that of what was sent."""

    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        return answer(200, b"<ListBucketResult/>", ETag='"00000000000000000000000000000000"')

    async with scripted_http(script) as server:
        remote = opened(server.url, use_unsigned_payload="true")
        with pytest.raises(Corrupt, match="MD5"):
            await put(remote, "f", b"content", ANYTHING)
        await remote.aclose()


# proxies


async def test_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_http(lambda method, target, headers: answer(200, LISTING)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://me:p%40ss@"))
        remote = opened("http://store.invalid:8080")
        assert list(await entries(remote)) == ["f"]
        _, target, headers = proxy.heard[0]
        assert target.startswith("http://store.invalid:8080/bucket?")
        assert headers["host"] == "store.invalid:8080"
        assert headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        await remote.aclose()
        monkeypatch.setenv("no_proxy", ".invalid")
        direct = opened("http://store.invalid:8080", connect_timeout="2s")
        with pytest.raises(Unreachable, match="no such host"):
            await entries(direct)
        await direct.aclose()
        monkeypatch.delenv("no_proxy")
        near = opened(proxy.url)  # this machine is never asked for through a proxy
        await entries(near)
        assert proxy.heard[-1][1].startswith("/bucket?")
        await near.aclose()


async def test_through_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)
    asked: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += bytes(await stream.receive_some(1))
        asked.append(head.split(b"\r\n")[0])
        if b"store" not in head:
            await stream.send_all(b"HTTP/1.1 407 Who are you\r\n\r\n")
            return
        await stream.send_all(b"HTTP/1.1 200 Yes\r\n\r\n")
        secure = trio.SSLStream(stream, context, server_side=True)
        await secure.receive_some(65536)
        await secure.send_all(answer(200, LISTING))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, proxy, 0)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        remote = opened("https://store.invalid", no_check_certificate="true")
        assert list(await entries(remote)) == ["f"]
        assert asked == [b"CONNECT store.invalid:443 HTTP/1.1"]
        await remote.aclose()
        other = opened("https://other.invalid")
        with pytest.raises(Unreachable, match="407 Who are you"):
            await entries(other)
        await other.aclose()
        nursery.cancel_scope.cancel()


# keys


@pytest.fixture
def strict(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A server that checks signatures, and an environment without keys of its own."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "ROLE_ARN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # nothing is asked beyond this machine
    return fresh("rclone-s3", servers, tmp_path)


ENV = {"env_auth": "true", "access_key_id": "", "secret_access_key": ""}


async def works(place: Place, **options: str) -> None:
    remote = place.open(**(ENV | options))
    await put(remote, "f", b"x")
    assert list(await entries(remote)) == ["f"]
    await remote.aclose()


async def test_keys_of_the_environment(strict: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = strict.open(**ENV)
    with pytest.raises(Denied, match=r"AWS_ACCESS_KEY_ID.*credentials"):
        await remote.stat("")
    await remote.aclose()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    await works(strict)


async def test_keys_of_a_profile(strict: Place, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = no\naws_secret_access_key = no\n"
        f"[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    (tmp_path / "config").write_text(
        f"[profile other]\nregion = x\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n"
    )
    await works(strict, profile="work")
    await works(strict, profile="other")
    await works(strict, profile="work", shared_credentials_file=str(tmp_path / "credentials"))
    for profile, words in (("", "access key is not known"), ("absent", "no keys in profile 'absent'")):
        remote = strict.open(**ENV, profile=profile)
        with pytest.raises(Denied, match=words):
            await remote.stat("")
        await remote.aclose()


async def test_keys_of_the_instance(strict: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        if method == "PUT":
            return answer(200, b"a-token")
        assert headers["x-aws-ec2-metadata-token"] == "a-token"
        return answer(200, json.dumps(KEYS).encode() if target.endswith("/a-role") else b"a-role\n")

    async with scripted_http(script) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        await works(strict)
        assert len(server.heard) == 3, "they are kept until they expire"


async def test_keys_of_the_container(strict: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        allowed = headers.get("authorization") == "a-token" and target == "/keys?x=1"
        return answer(200, json.dumps(KEYS).encode()) if allowed else answer(403)

    async with scripted_http(script) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/keys?x=1")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a-token")
        await works(strict)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
        remote = strict.open(**ENV)
        with pytest.raises(Denied, match="container's credentials address"):
            await remote.stat("")
        await remote.aclose()


async def test_keys_for_a_web_identity(strict: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("an-identity\n")

    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        inner = f"<AccessKeyId>{KEY}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        inner += "<SessionToken></SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        return answer(200, f"<R><Credentials>{inner}</Credentials></R>".encode())

    async with scripted_http(script) as server:
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        await works(strict)


async def test_encryption_with_a_key_of_the_users() -> None:
    """moto takes any key, so what is sent is looked at."""

    def script(method: str, target: str, headers: dict[str, str]) -> bytes:
        if "list-type" in target:
            return answer(200, b"<ListBucketResult/>")
        return answer(200, b"<CopyObjectResult><ETag>t</ETag></CopyObjectResult>", ETag="t")

    async with scripted_http(script) as server:
        remote = opened(server.url, sse_customer_algorithm="AES256", sse_customer_key="k" * 32)
        await put(remote, "f", b"secret", ANYTHING)
        await fetch(remote, "f")
        await remote.rename("f", "g")
        await remote.aclose()
        name = "x-amz-server-side-encryption-customer-key"
        about_content = [h for method, target, h in server.heard if "list-type" not in target and method != "DELETE"]
        assert about_content
        for headers in about_content:
            assert headers[name] == "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
            assert name in headers["authorization"], "it is signed"
        copied = [headers for headers in about_content if "x-amz-copy-source" in headers]
        assert [headers["x-amz-copy-source-server-side-encryption-customer-algorithm"] for headers in copied] == [
            "AES256"
        ]

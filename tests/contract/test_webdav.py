"""WebDAV and index pages: what options change, logging in, hostile answers, servers in their odd moments."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from conftest import WEBDAV, Servers, fresh
from sources import entries, fetch, put

from mountcore.errors import (
    Corrupt,
    Denied,
    IsDirectory,
    NotDirectory,
    NotFound,
    Quota,
    ReadOnly,
    Refused,
    Stale,
    StorageError,
    TimedOut,
    Unreachable,
    Unsupported,
)
from mountcore.remotes.conf import Config
from mountcore.remotes.protocol import ABSENT, Kind, Remote, Span, Version
from mountcore.remotes.registry import open_remote
from mountcore.remotes.webdav import WebDav
from mountcore.remotes.webdav.multistatus import Reader
from mountcore.remotes.webdav.options import parse
from tests.servers import DAV_SERVERS, INDEX_SERVERS, WebServer
from tests.servers.web import apache, copyparty

pytestmark = pytest.mark.trio
HEAD = '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">'


async def used(remote: Remote) -> None:
    try:
        await put(remote, "f", b"content" * 10_000)
        assert await fetch(remote, "f", Span(7, 14)) == b"content"
        assert "f" in await entries(remote)
        await remote.remove("f")
    finally:
        await remote.aclose()


async def refused(remote: Remote, kind: type[StorageError], words: str) -> str:
    with pytest.raises(kind, match=words) as caught:
        await remote.stat("")
    await remote.aclose()
    return str(caught.value)


# logging in


@pytest.mark.parametrize("name", WEBDAV)
async def test_a_wrong_login_is_denied(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    said = await refused(place.open(**{"pass": "wrong secret"}), Denied, "login of 'harbour' was refused")
    assert "wrong secret" not in said
    await refused(place.open(user="", **{"pass": ""}), Denied, "was refused")


async def test_digest() -> None:
    with apache(auth="digest") as server:
        await used(open_remote("webdav", server.options, ""))
        await refused(open_remote("webdav", server.options | {"pass": "x"}, ""), Denied, "refused")


async def test_tls_and_urls(tmp_path: Path) -> None:
    with apache(tls=True) as server:
        await used(open_remote("webdav", server.options, ""))
        await used(open_remote("webdav", server.options | {"ca_cert": "", "no_check_certificate": "true"}, ""))
        await refused(open_remote("webdav", server.options | {"ca_cert": ""}, ""), Denied, "certificate is not trusted")
    with apache(auth="") as server:
        config = Config(None, {"HOME": str(tmp_path)})
        remote = config.open(f"dav://127.0.0.1:{server.port}/")
        assert remote.identity == f"webdav:http://127.0.0.1:{server.port}/"
        assert config.label(f"dav://me:secret@127.0.0.1:{server.port}/x") == f"dav://me@127.0.0.1:{server.port}/x"
        await used(remote)


async def test_bearer_tokens_and_headers(tmp_path: Path) -> None:
    """A token that has run out is asked for again, once."""
    counter = tmp_path / "count"
    script = f"import pathlib; p = pathlib.Path({str(counter)!r}); n = len(p.read_text()) if p.exists() else 0; " \
        "p.write_text('x' * (n + 1)); print(f'token{n}')"  # fmt: skip
    program = tmp_path / "token.py"
    program.write_text(script)
    seen: list[str] = []

    def answer(head: str) -> bytes:
        seen.append(head)
        if "Authorization: Bearer token1\r\n" not in head:
            return b"HTTP/1.1 401 no\r\nContent-Length: 0\r\n\r\n"
        body = f"{HEAD}<d:response><d:href>/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/>" \
            "</d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>" \
            "</d:multistatus>"  # fmt: skip
        return f"HTTP/1.1 207 ok\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    async with scripted(answer) as port:
        url = f"http://127.0.0.1:{port}"
        command = f"{sys.executable} {program}"
        remote = open_remote("webdav", {"url": url, "bearer_token_command": command, "headers": 'A,"b,c",X-D,e'}, "")
        assert (await remote.stat("")).kind is Kind.DIRECTORY
        assert "A: b,c\r\n" in seen[0]
        assert "X-D: e\r\n" in seen[0]
        await remote.aclose()
        await refused(open_remote("webdav", {"url": url, "bearer_token": "old"}, ""), Denied, "refused")
        broken = open_remote("webdav", {"url": url, "bearer_token_command": "false"}, "")
        await refused(broken, Denied, "bearer_token_command failed")


# servers in their odd moments


@asynccontextmanager
async def scripted(answer: Callable[[str], bytes]) -> AsyncIterator[int]:
    """An HTTP server that answers each head with what a function makes of it; its port."""

    async def talk(stream: trio.SocketStream) -> None:
        data = b""
        async for piece in stream:
            data += bytes(piece)
            while b"\r\n\r\n" in data:
                head, _, data = data.partition(b"\r\n\r\n")
                text = head.decode("latin-1") + "\r\n"
                length = next((int(line.partition(":")[2]) for line in text.split("\r\n")
                               if line.lower().startswith("content-length:")), 0)  # fmt: skip
                while len(data) < length:
                    data += bytes(await stream.receive_some())
                data = data[length:]
                await stream.send_all(answer(text))

    async def tolerant(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await talk(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, tolerant, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def always(status: str, body: str = "", **headers: str) -> Callable[[str], bytes]:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return lambda head: f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (always("200 OK", "hello"), Unsupported, "no WebDAV server"),
        (always("207 ok", "hello"), Corrupt, "not XML"),
        (always("207 ok", "<a/>"), Corrupt, "not about files"),
        (always("207 ok", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), Corrupt, "refused"),
        (always("207 ok", HEAD + "<d:response>" * 100), Corrupt, "nested too deeply"),
        (always("302 no", Location="http://elsewhere.example/"), Unsupported, "redirects to http://elsewhere.example"),
        (always("302 no", Location="/"), Unsupported, "circle"),
        (always("500 no"), StorageError, "says 500"),
        (always("503 no"), Unreachable, "says 503"),
        (always("404 no"), NotFound, "No such file"),
        (lambda head: b"SSH-2.0-x\r\n\r\n", Corrupt, "not an HTTP answer"),
        (lambda head: b"", TimedOut, "too long"),
    ],
)
async def test_answers_that_make_no_sense(answer: Callable[[str], bytes], kind: type[StorageError], words: str) -> None:
    async with scripted(answer) as port:
        remote = WebDav(parse({"url": f"http://127.0.0.1:{port}", "timeout": "500ms"}))
        with trio.fail_after(20):
            await refused(remote, kind, words)


async def test_an_endless_value_is_refused() -> None:
    reader = Reader()
    reader.feed(HEAD.encode())
    with pytest.raises(Corrupt, match="without an end"):
        reader.feed(b"x" * 1_000_000)


async def test_a_full_disk_and_a_quota() -> None:
    known = f"{HEAD}<d:response><d:href>/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/>" \
        "</d:resourcetype><d:quota-available-bytes>7</d:quota-available-bytes><d:quota-used-bytes>3" \
        "</d:quota-used-bytes></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>" \
        "</d:multistatus>"  # fmt: skip

    def answer(head: str) -> bytes:
        if head.startswith("PROPFIND / "):
            return always("207 ok", known)(head)
        return always("507 full", "Quota exceeded")(head) if head.startswith("PUT") else always("404 no")(head)

    async with scripted(answer) as port:
        remote = WebDav(parse({"url": f"http://127.0.0.1:{port}"}))
        usage = await remote.usage()
        assert (usage.total, usage.used, usage.free) == (10, 3, 7)
        with pytest.raises(Quota) as caught:
            await put(remote, "f", b"x")
        assert caught.value.path == "f"
        await remote.aclose()


@pytest.mark.parametrize("name", WEBDAV)
async def test_a_server_that_is_down_says_nothing_about_files(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.server is not None
    remote = WebDav(parse(place.options | {"timeout": "10s"}), place.root)
    await put(remote, "f", b"x")
    place.server.stop()
    try:
        for attempt in (remote.stat("f"), fetch(remote, "f"), entries(remote), put(remote, "g"), remote.remove("f")):
            with pytest.raises(Unreachable, match="127"):
                await attempt
    finally:
        place.server.start()
    assert await fetch(remote, "f") == b"x"
    await remote.aclose()


async def test_times_and_etags_are_found_out(servers: Servers, tmp_path: Path) -> None:
    for name, times, tags in (("rclone-webdav", True, True), ("apache", False, True)):
        remote = fresh(name, servers, tmp_path).open()
        await put(remote, "f", b"one", mtime_ns=1_500_000_000_000_000_000)
        assert (remote.caps.set_mtime, remote.caps.tags) == (times, tags)
        first = await remote.stat("f")
        same = Version(first.size, first.mtime_ns, first.resolution_ns, "another tag")
        with pytest.raises(Stale):
            await put(remote, "f", b"two", expect=same)
        await put(remote, "f", b"two", expect=first.version)
        with pytest.raises(Stale):
            await fetch(remote, "f", Span(0, 3), first.version)
        await remote.aclose()


@pytest.mark.parametrize("name", ["copyparty", "rclone-webdav"])
async def test_times_go_with_the_upload_as_owncloud_wants_them(name: str) -> None:
    """copyparty has no other way to set one; neither Nextcloud nor ownCloud can be had as a package."""
    with copyparty() if name == "copyparty" else DAV_SERVERS[name]() as server:
        for vendor in ("owncloud", "nextcloud"):
            remote = open_remote("webdav", {**server.options, "vendor": vendor}, "")
            stored = await put(remote, vendor, b"content", mtime_ns=1_500_000_000_123_456_789)
            assert stored.mtime_ns == (await remote.stat(vendor)).mtime_ns == 1_500_000_000_000_000_000
            assert (server.root / vendor).stat().st_mtime == 1_500_000_000
            assert await fetch(remote, vendor) == b"content"
            await put(remote, vendor, b"again", expect=stored.version, mtime_ns=1_600_000_000_000_000_000)
            assert (server.root / vendor).stat().st_mtime == 1_600_000_000
            with pytest.raises(Unsupported, match="md5"):  # claimed by the vendor, and not there: said, not made up
                await remote.hash(vendor, "md5")
            await remote.aclose()


async def test_an_upload_where_nothing_may_be_is_refused_by_the_server(servers: Servers, tmp_path: Path) -> None:
    """Not only looked at before: made while the upload was on its way."""
    place = fresh("apache", servers, tmp_path)
    remote = place.open()
    await remote.stat("")

    class Racing:
        size = 1

        def pread(self, length: int, offset: int) -> bytes:
            place.make("f", b"theirs")
            return b"x"

    with pytest.raises(Stale):
        await remote.put("f", Racing(), expect=ABSENT, mtime_ns=None)
    assert await fetch(remote, "f") == b"theirs"
    assert sorted(await entries(remote)) == ["f"]
    await remote.aclose()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"url": "ftp://h"}, "url is http"), ({"url": "http://h/?a=b"}, "cannot have a '\\?'"),
     ({"vendor": "x"}, "vendor is one"), ({"vendor": "sharepoint"}, "not supported"),
     ({"bearer_token": "a", "user": "b"}, "exclude each other"),
     ({"headers": "a"}, "headers is name,value"), ({"nextcloud_chunk_size": "1Mi"}, "uploaded in one request"),
     ({"connections": "0"}, "connections is a whole number"), ({"ca_cert": "/no/such"}, "ca_cert"),
     ({"encoding": "Nope"}, "webdav: encoding")],
)  # fmt: skip
async def test_bad_options_are_refused_by_name(options: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        open_remote("webdav", {"url": "http://h"} | options, "")


async def test_names_are_encoded_when_asked(servers: Servers, tmp_path: Path) -> None:
    place = fresh("apache", servers, tmp_path)
    remote = place.open(encoding="Colon,Question")
    await put(remote, "a:b?", b"x")
    assert place.disk is not None
    assert os.listdir(place.disk) == ["a：b？"]
    assert list(await entries(remote)) == ["a:b?"]
    await remote.aclose()


# index pages


@pytest.fixture(params=INDEX_SERVERS, scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[WebServer]:
    """Every server of index pages in turn, with a small tree."""
    with INDEX_SERVERS[request.param]() as server:
        for name in ("plain", "with space & <b>", "caf\u00e9", "#%;a", "x" * 80, "日本"):
            (server.root / name).write_bytes(b"0123456789")
            os.utime(server.root / name, (1_500_000_000, 1_500_000_000))
        (server.root / "d/e").mkdir(parents=True)
        (server.root / "d/e/big").write_bytes(bytes(range(256)) * 8192)
        (server.root / "d/empty").touch()
        for path in server.root.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        server.root.chmod(0o755)
        yield server


async def test_an_index_is_read(site: WebServer) -> None:
    remote = open_remote("http", site.options, "")
    listed = await entries(remote)
    names = {"plain", "with space & <b>", "caf\u00e9", "#%;a", "x" * 80, "日本"}
    assert {name for name, entry in listed.items() if entry.kind is Kind.FILE} == names
    assert listed["d"].kind is Kind.DIRECTORY
    for name in names:
        assert (listed[name].size, listed[name].mtime_ns) == (10, 1_500_000_000_000_000_000)
        assert await fetch(remote, name) == b"0123456789"
        assert (await remote.stat(name)).version.matches(listed[name].version)
    assert sorted(await entries(remote, "d")) == ["e", "empty"]
    assert (await remote.stat("d")).kind is Kind.DIRECTORY
    content = bytes(range(256)) * 8192
    big = await remote.stat("d/e/big")
    for span in (Span(0, 5), Span(100_000, 1_200_000), Span(len(content) - 3, len(content) + 9)):
        assert await fetch(remote, "d/e/big", span, big.version) == content[span.start : span.stop]
    assert remote.caps.ranged_read == (site.name != "python")
    assert await fetch(remote, "d/empty") == b""
    for attempt in (remote.stat("absent"), fetch(remote, "absent"), entries(remote, "absent")):
        with pytest.raises(NotFound):
            await attempt
    with pytest.raises(NotDirectory):
        await entries(remote, "plain")
    with pytest.raises(IsDirectory):
        await fetch(remote, "d")
    with pytest.raises(Stale):
        await fetch(remote, "plain", Span(0, 5), Version(11, 1_500_000_000_000_000_000))
    await remote.aclose()


async def test_an_index_is_only_read(site: WebServer) -> None:
    remote = open_remote("http", site.options, "d")
    for attempt in (put(remote, "f"), remote.mkdir("f"), remote.rmdir("e"), remote.remove("empty"),
                    remote.rename("empty", "x"), remote.set_mtime("empty", 0)):  # fmt: skip
        with pytest.raises(ReadOnly):
            await attempt
    with pytest.raises(Unsupported):
        await remote.usage()
    await remote.aclose()


async def test_a_path_that_is_no_index(site: WebServer) -> None:
    for root in ("absent", "plain"):
        remote = open_remote("http", site.options, root)
        with pytest.raises((NotFound, NotDirectory)):
            await remote.stat("")
        await remote.aclose()


async def test_a_tree_is_copied_as_rclone_copies_it(site: WebServer, tmp_path: Path) -> None:
    login = ":".join(quote(site.login[name], safe="") for name in ("user", "pass") if site.login)
    words = f"http://{f'{login}@' if login else ''}127.0.0.1:{site.port}/d"
    remote = Config(None, {"HOME": str(tmp_path)}).open(words)
    assert await fetch(remote, "e/big") == (site.root / "d/e/big").read_bytes()
    subprocess.run(
        ["rclone", "copy", ":http:", tmp_path / "theirs", "--http-url", f"{words}/", "--config", os.devnull], check=True
    )
    assert sorted(p.name for p in (tmp_path / "theirs").rglob("*")) == ["big", "e", "empty"]
    await remote.aclose()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"no_head": "true"}, "nobody knows how large"), ({"no_escape": "true"}, "raw characters"),
     ({"url": "x"}, "url is http")],
)  # fmt: skip
async def test_bad_options_of_http(options: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        open_remote("http", {"url": "http://h"} | options, "")

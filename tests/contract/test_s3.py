"""S3 beyond the port: what rclone and others left there, conditions, parts, links, bad input. Real servers."""

from __future__ import annotations

import os
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from sources import Content, Failing, Pattern, entries, fetch, put

from mountcore.errors import Denied, NotDirectory, NotFound, Stale, StorageError, Unreachable, Unsupported
from mountcore.remotes.protocol import ABSENT, ANYTHING, Kind, Remote, Span, Version
from mountcore.remotes.registry import open_remote
from tests.servers.certificate import make_certificate
from tests.servers.objects import ObjectServer
from tests.servers.process import find_program

pytestmark = pytest.mark.trio
MIB = 1 << 20
SOME_TIME = 1_500_000_000_123_456_789


@pytest.fixture(params=["moto", "rclone-s3"])
def s3(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Place:
    return fresh(request.param, servers, tmp_path)


@pytest.fixture
def moto(servers: Servers, tmp_path: Path) -> Place:
    return fresh("moto", servers, tmp_path)


@pytest.fixture
def strict(servers: Servers, tmp_path: Path) -> Place:
    """Checks signatures."""
    return fresh("rclone-s3", servers, tmp_path)


@pytest.fixture
async def remote(s3: Place) -> AsyncIterator[Remote]:
    opened = s3.open()
    yield opened
    await opened.aclose()


def rclone(place: Place, *arguments: str) -> str:
    """Run rclone; ``srv:`` is the place's bucket."""
    assert isinstance(place.server, ObjectServer)
    environment = {f"RCLONE_CONFIG_RAW_{name.upper()}": value for name, value in place.server.options.items()}
    environment |= {"RCLONE_CONFIG_RAW_TYPE": "s3", "RCLONE_CONFIG": "/nowhere/none.conf"}
    environment |= {"RCLONE_CONFIG_RAW_PROVIDER": "Other", "PATH": "/usr/bin:/bin"}
    environment |= {"RCLONE_CONFIG_SRV_TYPE": "alias", "RCLONE_CONFIG_SRV_REMOTE": f"raw:{place.root}"}
    done = subprocess.run(
        [find_program("rclone"), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def store(remote: Remote, files: Path) -> None:
    """A local tree, put into the remote with its times."""
    for path in sorted(files.rglob("*")):  # noqa: ASYNC240 - nothing else runs here
        name = str(path.relative_to(files))
        if path.is_dir():
            await remote.mkdir(name)
        else:
            await remote.put(name, Content(path.read_bytes()), expect=ABSENT, mtime_ns=path.stat().st_mtime_ns)


async def test_what_rclone_copied_is_read_with_its_times(s3: Place, remote: Remote, tmp_path: Path) -> None:
    files = tmp_path / "files"
    await trio.to_thread.run_sync(make_files, files)
    await trio.to_thread.run_sync(rclone, s3, "copy", str(files), "srv:")
    async for directory, entry in remote.list_tree(""):
        real = files / directory / entry.name
        assert (entry.kind is Kind.DIRECTORY) == real.is_dir()
        if entry.kind is Kind.FILE:
            path = f"{directory}/{entry.name}" if directory else entry.name
            assert await fetch(remote, path, version=entry.version) == real.read_bytes()
            assert entry.mtime_ns == real.stat().st_mtime_ns
    found = {str(path.relative_to(files)) for path in files.rglob("*")}
    listed = [f"{where}/{e.name}".lstrip("/") async for where, e in remote.list_tree("")]
    assert sorted(listed) == sorted(found)


async def test_what_is_stored_here_is_the_same_for_rclone(s3: Place, remote: Remote, tmp_path: Path) -> None:
    files = tmp_path / "files"
    await trio.to_thread.run_sync(make_files, files)
    await store(remote, files)
    await trio.to_thread.run_sync(rclone, s3, "check", "--download", str(files), "srv:")
    # by size and time, then by hash: nothing is found to be copied
    await trio.to_thread.run_sync(rclone, s3, "copy", "--dry-run", "--max-transfer=1B", str(files), "srv:")
    await trio.to_thread.run_sync(rclone, s3, "check", str(files), "srv:")
    said = await trio.to_thread.run_sync(rclone, s3, "lsl", "srv:deep/er/time")
    assert "2017-07-14 02:40:00.123456789" in said


def make_files(files: Path) -> None:
    command = [find_program("rclone"), "test", "makefiles", files, "--files=40", "--seed=7", "--max-file-size=300k"]
    subprocess.run(command, check=True, capture_output=True)
    (files / "deep/er").mkdir(parents=True)
    (files / "deep/er/time").write_bytes(b"x")
    os.utime(files / "deep/er/time", ns=(SOME_TIME, SOME_TIME))


async def test_of_two_writers_one_is_told(moto: Place) -> None:
    """Nobody's edit is lost: each adds to what it read, and tries again when it was too slow."""
    first, second = moto.open(), moto.open()
    await put(first, "f", b"", ABSENT)
    assert first.caps.conditional_put

    async def add(remote: Remote, who: bytes) -> None:
        for _ in range(10):
            while True:
                entry = await remote.stat("f")
                try:
                    content = await fetch(remote, "f", version=entry.version)
                    await put(remote, "f", content + who, entry.version)
                    break
                except Stale:
                    continue

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, first, b"1")
            nursery.start_soon(add, second, b"2")
    assert sorted(await fetch(first, "f")) == sorted(b"1" * 10 + b"2" * 10)
    await first.aclose()
    await second.aclose()


async def test_conditions_are_tried_where_the_server_is_unknown(s3: Place, remote: Remote) -> None:
    assert not remote.caps.conditional_put
    await put(remote, "f", b"1", ABSENT)
    assert remote.caps.conditional_put == (s3.name == "moto")
    assert list(await entries(remote)) == ["f"]
    assert "partial" not in await trio.to_thread.run_sync(rclone, s3, "lsf", "-R", "srv:"), "the trial was cleaned up"
    known = s3.open(conditional_put="true")
    assert known.caps.conditional_put
    await known.aclose()


async def test_parts(s3: Place) -> None:
    remote = s3.open(upload_cutoff="1Mi", chunk_size="5Mi")
    source = Pattern(11 * MIB + 7)
    stored = await remote.put("big", source, expect=ABSENT, mtime_ns=SOME_TIME)
    with pytest.raises(Stale):
        await remote.put("big", source, expect=ABSENT, mtime_ns=SOME_TIME)
    with pytest.raises(Stale):
        await remote.put("big", source, expect=stored.version._replace(tag="0" * 32), mtime_ns=SOME_TIME)
    await remote.put("big", source, expect=stored.version, mtime_ns=SOME_TIME)
    found = await remote.stat("big")
    assert (found.size, found.mtime_ns) == (source.size, SOME_TIME)
    assert await fetch(remote, "big", Span(5 * MIB - 3, 5 * MIB + 3)) == pattern(source, 5 * MIB - 3, 6)
    said = await trio.to_thread.run_sync(rclone, s3, "md5sum", "--download", "srv:big")
    assert said.split()[0] == await remote.hash("big", "md5")
    await remote.aclose()


def pattern(source: Pattern, offset: int, length: int) -> bytes:
    out = b""
    while len(out) < length:
        out += source.pread(length - len(out), offset + len(out))
    return out


async def test_an_upload_in_parts_that_fails_leaves_none(moto: Place) -> None:
    remote = moto.open(upload_cutoff="1Mi")
    with pytest.raises(OSError, match="broke"):
        await remote.put("f", Failing(b"x" * 12 * MIB, 6 * MIB), expect=ANYTHING, mtime_ns=None)
    assert isinstance(moto.server, ObjectServer)
    url = f"{moto.server.url}/{moto.root}?uploads"
    with urllib.request.urlopen(url) as answer:  # noqa: ASYNC210 - nothing else runs here
        assert b"<Upload>" not in answer.read()
    assert await entries(remote) == {}
    await remote.aclose()


async def test_empty_directories(moto: Place) -> None:
    plain, marking = moto.open(), moto.open(directory_markers="true")
    assert not plain.caps.real_directories
    assert marking.caps.real_directories
    await plain.mkdir("remembered")
    await marking.mkdir("marked")
    assert set(await entries(plain)) == {"remembered", "marked"}
    assert set(await entries(marking)) == {"marked"}
    await put(plain, "marked/f", b"x")
    await plain.remove("marked/f")
    assert (await marking.stat("marked")).kind is Kind.DIRECTORY
    await plain.mkdir("emptied")
    await put(plain, "emptied/f", b"x")
    await plain.remove("emptied/f")
    assert (await plain.stat("emptied")).kind is Kind.DIRECTORY
    assert "marked/" in await trio.to_thread.run_sync(rclone, moto, "lsf", "srv:")
    await plain.rmdir("marked")
    with pytest.raises(NotFound):
        await marking.stat("marked")
    await plain.aclose()
    await marking.aclose()


async def test_keys_that_are_no_paths_are_passed_over(moto: Place, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(moto.server, ObjectServer)
    for key in ("a//b", "../up", "d/./x", "file", "file/below", "ok"):
        request = urllib.request.Request(f"{moto.server.url}/{moto.root}/{key}", data=b"x", method="PUT")
        urllib.request.urlopen(request).close()  # noqa: ASYNC210 - nothing else runs here
    remote = moto.open()
    listed = await entries(remote)
    assert {name: e.kind for name, e in listed.items()} == {
        "a": Kind.DIRECTORY, "d": Kind.DIRECTORY, "file": Kind.FILE, "ok": Kind.FILE,
    }  # fmt: skip
    assert "no path" in caplog.text
    assert "below it" in caplog.text
    assert await entries(remote, "a") == {}
    await remote.aclose()


async def test_listings_are_paged(moto: Place) -> None:
    for version in ("1", "2"):
        remote = moto.open(list_chunk="7", list_version=version)
        if version == "1":
            for number in range(20):
                await put(remote, f"f{number:02}", b"x")
            for number in range(9):
                await remote.mkdir(f"d{number}")
                await put(remote, f"d{number}/f", b"x")
        assert len(await entries(remote)) == 29
        assert len([entry async for entry in remote.list_tree("")]) == 38
        await remote.aclose()


async def test_times_of_the_server(s3: Place) -> None:
    remote, plain = s3.open(), s3.open(use_server_modtime="true")
    await put(remote, "f", b"x", mtime_ns=SOME_TIME)
    assert (await entries(remote))["f"].mtime_ns == SOME_TIME
    theirs = (await entries(plain))["f"]
    assert theirs.mtime_ns != SOME_TIME
    assert theirs.mtime_ns == (await plain.stat("f")).mtime_ns or s3.name == "rclone-s3"
    assert theirs.version.matches((await remote.stat("f")).version), "the etag decides"
    with pytest.raises(Unsupported):
        await plain.set_mtime("f", 1)
    await remote.aclose()
    await plain.aclose()


async def test_setting_a_time_keeps_the_rest(moto: Place) -> None:
    remote = moto.open(storage_class="STANDARD_IA")
    await put(remote, "page.html", b"<p>")
    await remote.set_mtime("page.html", SOME_TIME)
    link = await remote.public_link("page.html", 60)
    with urllib.request.urlopen(link) as answer:  # noqa: ASYNC210 - nothing else runs here
        assert answer.headers["Content-Type"] == "text/html"
        assert answer.headers["x-amz-storage-class"] == "STANDARD_IA"
        assert answer.headers["x-amz-meta-mtime"] == "1500000000.123456789"
    await remote.aclose()


async def test_a_link_needs_no_login(s3: Place, remote: Remote) -> None:
    await remote.mkdir("a b")
    await put(remote, "a b/c", b"shared")
    link = await remote.public_link("a b/c", 60)
    with urllib.request.urlopen(link) as answer:  # noqa: ASYNC210 - nothing else runs here
        assert answer.read() == b"shared"
    with pytest.raises(NotFound):
        await remote.public_link("absent", 60)


async def test_copies_are_made_at_the_server(s3: Place, remote: Remote) -> None:
    stored = await put(remote, "f", b"content", mtime_ns=SOME_TIME)
    copied = await remote.copy("f", "g", expect=ABSENT)
    assert (copied.size, copied.mtime_ns) == (7, SOME_TIME)
    with pytest.raises(Stale):
        await remote.copy("f", "g", expect=ABSENT)
    with pytest.raises(Stale):
        await remote.copy("f", "g", expect=Version(999))
    assert (await remote.copy("f", "g", expect=copied.version)).version.matches(stored.version)
    assert await fetch(remote, "g") == b"content"


async def test_large_copies_are_made_in_parts(moto: Place) -> None:
    remote = moto.open(copy_cutoff="5Mi", upload_cutoff="1Mi")
    source = Pattern(11 * MIB)
    await remote.put("f", source, expect=ANYTHING, mtime_ns=SOME_TIME)
    await remote.rename("f", "g")
    found = await remote.stat("g")
    assert (found.size, found.mtime_ns) == (source.size, SOME_TIME)
    assert await fetch(remote, "g", Span(10 * MIB, 10 * MIB + 9)) == pattern(source, 10 * MIB, 9)
    await remote.aclose()


async def test_all_buckets(s3: Place) -> None:
    everything = replace(s3, root="").open()
    assert s3.root in await entries(everything)
    await put(everything, f"{s3.root}/f", b"x")
    async with aclosing(everything.list_tree("")) as walk:  # type: ignore[type-var]
        told = [(place, entry.name, entry.kind) async for place, entry in walk]  # a key may be of both kinds
    assert {("", s3.root, Kind.DIRECTORY), (s3.root, "f", Kind.FILE)} <= set(told)
    assert len(told) == len(set(told))
    assert await fetch(everything, f"{s3.root}/f") == b"x"
    await everything.mkdir("another-bucket")
    await everything.rename(f"{s3.root}/f", "another-bucket/g")
    assert await fetch(everything, "another-bucket/g") == b"x"
    await everything.remove("another-bucket/g")
    await everything.rmdir("another-bucket")
    assert "another-bucket" not in await entries(everything)
    await everything.aclose()


async def test_a_root_that_is_a_file(s3: Place, remote: Remote) -> None:
    await put(remote, "f", b"x")
    below = replace(s3, root=f"{s3.root}/f").open()
    with pytest.raises(NotDirectory):
        await below.stat("")
    await below.aclose()


QUICK = {"connect_timeout": "2s", "timeout": "2s"}


@pytest.mark.parametrize(
    ("options", "root", "kind", "words"),
    [
        ({"access_key_id": "nobody"}, "", Denied, "access_key_id"),
        ({"secret_access_key": "wrong"}, "", Denied, "secret_access_key"),
        ({}, "no-such-bucket", NotFound, "no such bucket"),
        ({"endpoint": "http://no-such-host.invalid"}, "", Unreachable, "endpoint"),
        ({"endpoint": "http://127.0.0.1:1"}, "", Unreachable, "refused"),
    ],
)
async def test_bad_input_is_told(
    strict: Place, options: dict[str, str], root: str, kind: type[StorageError], words: str
) -> None:
    remote = (replace(strict, root=root) if root else strict).open(**(QUICK | options))
    with trio.fail_after(60), pytest.raises(kind) as caught:
        await remote.stat("")
    assert words in caught.value.said
    assert strict.options["secret_access_key"] not in str(caught.value)
    with pytest.raises(kind):
        await entries(remote)
    with pytest.raises(StorageError) as caught:
        await put(remote, "f", b"x", ABSENT)
    assert isinstance(caught.value, kind)
    await remote.aclose()


async def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)

    async def greet(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.receive_some(65536)
            await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, greet, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        options = {"endpoint": f"https://localhost:{port}", "force_path_style": "true"}
        with pytest.raises(Denied, match="ca_cert"):
            await open_remote("s3", options, "b").stat("f")
        with pytest.raises(NotFound):
            await open_remote("s3", options | {"no_check_certificate": "true"}, "b").stat("f")
        with pytest.raises(NotFound):
            await open_remote("s3", options | {"ca_cert": str(made.authority)}, "b").stat("f")
        nursery.cancel_scope.cancel()

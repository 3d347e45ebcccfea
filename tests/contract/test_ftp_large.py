"""Large files over FTP, which are moved in the kernel, or by threads, where that can be: the same bytes as else."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from sources import fetch

from mountcore.errors import Stale, Unreachable
from mountcore.handle import OpenFlags
from mountcore.remotes.ftp.feed import Feed
from mountcore.remotes.protocol import ANYTHING, Remote, Span, Version, for_a_file
from mountcore.remotes.registry import open_remote
from mountcore.remotes.sources import FileSource
from mountcore.service import open_core
from mountcore.settings import CacheSettings, VfsSettings
from mountcore.splicing import Pipe
from tests.model.live import read_file
from tests.servers.faultproxy import Fault, fault_proxy
from tests.servers.scripted import scripted

pytestmark = pytest.mark.trio
CONTENT = random.Random(6).randbytes(5 << 20) + b"and an odd end"
PLAIN = ["vsftpd", "proftpd", "pure-ftpd", "pyftpdlib", "rclone"]
SECURE = ["vsftpd-tls", "proftpd-tls", "pure-ftpd-tls", "pyftpdlib-tls"]


class Moved:
    """Bytes that the kernel has moved out of sockets, and that threads have sent."""

    down = 0
    up = 0


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Moved:
    counted, put, push = Moved(), Pipe.put, Feed.push

    def watched_put(self: Pipe, file: int, offset: int, count: int) -> int:
        done = put(self, file, offset, count)
        counted.down += done if self.usable else 0
        return done

    def watched_push(self: Feed, stream: trio.SocketStream, address: str) -> bool:
        before = self.offset
        try:
            return push(self, stream, address)
        finally:
            counted.up += self.offset - before

    monkeypatch.setattr(Pipe, "put", watched_put)
    monkeypatch.setattr(Feed, "push", watched_push)
    return counted


async def into_file(remote: Remote, path: str, span: Span, version: Version | None, sink: Path) -> bytes:
    """A span, read as the cache does it."""
    at = 0
    with sink.open("wb", buffering=0) as file:
        async with remote.read(path, span, version) as pieces:
            async for piece in for_a_file(pieces):
                if isinstance(piece, Pipe):
                    piece.put_all(file.fileno(), at)
                else:
                    os.pwrite(file.fileno(), piece, at)
                at += len(piece)
    return sink.read_bytes()  # noqa: ASYNC240 - nothing else runs here


async def stored(remote: Remote, path: str, content: bytes, scratch: Path) -> Version:
    """Put a file there from this machine's disk, as the cache does it."""
    (scratch / "content").write_bytes(content)
    with (scratch / "content").open("rb") as file:
        return (await remote.put(path, FileSource(file.fileno(), len(content)), expect=ANYTHING, mtime_ns=None)).version


@pytest.fixture(params=PLAIN + SECURE)
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Place:
    return fresh(request.param, servers, tmp_path)


async def test_up_and_down_and_ranges(place: Place, moved: Moved, tmp_path: Path) -> None:
    remote = place.open()
    secure = place.name in SECURE
    version = await stored(remote, "f", CONTENT, tmp_path)
    assert version.size == len(CONTENT)
    assert await fetch(remote, "f") == CONTENT
    assert (moved.up > 4 << 20) is not secure
    size = len(CONTENT)
    for start, stop in [
        (0, size),
        (1, size),
        (0, size - 1),
        (1 << 20, 3 << 20),
        (size - 200_000, size),
        (5, size + 99),
    ]:
        for known in (version, None):
            assert await into_file(remote, "f", Span(start, stop), known, tmp_path / "sink") == CONTENT[start:stop]
    assert (moved.down > 8 << 20) is not secure
    await remote.aclose()


async def test_a_reader_may_leave_early_and_come_back(place: Place, tmp_path: Path) -> None:
    remote = place.open(concurrency="2")
    version = await stored(remote, "f", CONTENT, tmp_path)
    for count in (0, 1, 2):
        async with remote.read("f", Span(0, len(CONTENT)), version) as pieces:
            reader = for_a_file(pieces)
            for _ in range(count):
                piece = await anext(reader)
                if isinstance(piece, Pipe):
                    piece.skip(len(piece))
        assert await fetch(remote, "f", Span(7, 99), version) == CONTENT[7:99]
    await remote.aclose()


@pytest.mark.parametrize("way", ["reset", "close", "truncate"])
@pytest.mark.parametrize("name", ["vsftpd", "proftpd", "pyftpdlib"])
async def test_it_goes_on_behind_what_has_arrived(
    name: str, way: str, servers: Servers, tmp_path: Path, moved: Moved
) -> None:
    place = fresh(name, servers, tmp_path)
    version = await stored(place.open(), "f", CONTENT, tmp_path)
    with fault_proxy(int(place.options["port"]), ftp=True) as proxy:
        remote = place.open(host="127.0.0.1", port=str(proxy.port), timeout="5s")
        fault = proxy.fault = Fault(way, after=2 << 20, times=2, up=False)
        assert await into_file(remote, "f", Span(0, len(CONTENT)), version, tmp_path / "sink") == CONTENT
        assert fault.injected
        assert moved.down > 3 << 20
        assert moved.down < len(CONTENT) + (1 << 20), "what had arrived was fetched again"
        await remote.aclose()


async def test_an_upload_goes_on_behind_what_had_been_sent(servers: Servers, tmp_path: Path, moved: Moved) -> None:
    place = fresh("pyftpdlib", servers, tmp_path)
    content = CONTENT * 8
    with fault_proxy(int(place.options["port"]), ftp=True) as proxy:
        remote = place.open(host="127.0.0.1", port=str(proxy.port), timeout="5s")
        await remote.stat("")
        proxy.fault = Fault("reset", after=20 << 20, times=1, up=True)
        with pytest.raises(Unreachable):
            await stored(remote, "f", content, tmp_path)
        proxy.fault = None
        before = moved.up
        with (tmp_path / "content").open("rb") as file:
            await remote.put("f", FileSource(file.fileno(), len(content)), expect=ANYTHING, mtime_ns=None)
        assert 0 < moved.up - before < len(content) - (16 << 20)
        assert await fetch(remote, "f") == content
        await remote.aclose()


async def test_a_file_that_is_longer_than_it_was_said_is_stale(tmp_path: Path) -> None:
    size = 3 << 20
    facts = f"250-\r\n type=file;size={size};modify=20240101000000; f\r\n250 End"
    version = Version(size, 1704067200 * 10**9, 10**9)
    for extra in (b"", b"x"):
        async with scripted({"MLST": facts}, data={"RETR": CONTENT[:size] + extra}) as server:
            remote = open_remote("ftp", server.options, "")
            if extra:
                with pytest.raises(Stale):
                    await into_file(remote, "f", Span(0, size), version, tmp_path / "sink")
            else:
                assert await into_file(remote, "f", Span(0, size), version, tmp_path / "sink") == CONTENT[:size]
            await remote.aclose()


@pytest.mark.parametrize("name", ["vsftpd", "pyftpdlib"])
async def test_what_is_written_during_a_download_stays(
    name: str, servers: Servers, tmp_path: Path, moved: Moved
) -> None:
    place = fresh(name, servers, tmp_path)
    place.make("f", CONTENT)
    settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=0.05))
    dice = random.Random(name)
    expected = bytearray(CONTENT)
    async with open_core() as core:
        vfs = await core.attach(place.open(), settings)
        node = await vfs.resolve("f")
        handle = await vfs.open(node, OpenFlags.READ | OpenFlags.WRITE)

        async def write() -> None:
            for _ in range(60):
                at = dice.randrange(len(CONTENT) - 5000)
                data = dice.randbytes(dice.randrange(1, 5000))
                expected[at : at + len(data)] = data
                await handle.write(at, data)
                await trio.sleep(0.0005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            at = 0
            while part := await handle.read(at, 128 << 10):
                at += len(part)
        await handle.close()
        assert await read_file(vfs, "f") == expected
        assert not await vfs.drain()
    assert place.disk is not None
    assert (place.disk / "f").read_bytes() == expected
    assert moved.down > 1 << 20
    assert moved.up > 1 << 20

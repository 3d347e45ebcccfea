"""What uploads that break off leave on a server: gone on with, deleted, or put back; never published as a mix."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from sources import Content, Pattern, entries, fetch, put

from mountcore.errors import Unreachable
from mountcore.remotes.ftp import FtpRemote, leftovers
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.partials import belongs_to, is_ours, partial_name
from mountcore.remotes.protocol import ANYTHING, Source
from tests.servers import proxies
from tests.servers.scripted import scripted

pytestmark = pytest.mark.trio
MIB = 1 << 20
FOLDER = "250-\r\n type=dir; x\r\n250 End"


class Cut:
    """A source that breaks the connections of a remote when it has given ``after`` bytes, once."""

    def __init__(self, source: Source, after: int, cut: Callable[[], None]) -> None:
        self.size = source.size
        self._source = source
        self._after = after
        self._cut: Callable[[], None] | None = cut

    def pread(self, length: int, offset: int) -> bytes:
        if offset + length > self._after and self._cut is not None:
            cut, self._cut = self._cut, None
            trio.from_thread.run_sync(cut)
        return self._source.pread(length, offset)


async def through_a_relay(place: Place, nursery: trio.Nursery) -> tuple[FtpRemote, proxies.Relay]:
    """A remote behind something that can cut its connections, and counts what passes."""
    assert place.server is not None
    relay = proxies.Relay()
    port = await relay.start(nursery)
    options = place.options | {"socks_proxy": f"127.0.0.1:{port}", "timeout": "5s", "shut_timeout": "5s"}
    return FtpRemote(parse(options), place.root), relay


SERVERS = ["pyftpdlib", "vsftpd", "proftpd", "pure-ftpd", "rclone", "vsftpd-tls"]


@pytest.mark.parametrize("ftp_place", SERVERS, indirect=True)
async def test_an_upload_that_broke_off_goes_on(ftp_place: Place) -> None:
    assert ftp_place.disk is not None
    whole = Pattern(24 * MIB)
    async with trio.open_nursery() as nursery:
        remote, relay = await through_a_relay(ftp_place, nursery)
        await put(remote, "big", b"old")
        with pytest.raises(Unreachable):
            await remote.put("big", Cut(whole, 12 * MIB, relay.cut), expect=ANYTHING, mtime_ns=None)
        # rclone's server stores what it was sent by way of temporary names of its own, for all to see
        listed = [name for name in await entries(remote) if ftp_place.name != "rclone" or not name.endswith(".partial")]
        assert listed == ["big"]
        assert await fetch(remote, "big") == b"old"
        before = relay.sent
        stored = await remote.put("big", whole, expect=ANYTHING, mtime_ns=10**18)
        assert stored.size == whole.size
        assert relay.sent - before < 22 * MIB, "it began anew"
        await _same(ftp_place.disk / "big", whole)
        assert [path.name for path in ftp_place.disk.iterdir() if is_ours(path.name)] == []
        await remote.aclose()
        nursery.cancel_scope.cancel()


async def _same(path: Path, source: Source) -> None:
    with path.open("rb") as stored:
        for offset in range(0, source.size, MIB):
            assert stored.read(MIB) == _exactly(source, MIB, offset)
        assert not stored.read(1)


def _exactly(source: Source, length: int, offset: int) -> bytes:
    data = b""
    while len(data) < length and (piece := source.pread(length - len(data), offset + len(data))):
        data += piece
    return data


class Changed(Pattern):
    """The same size, and one other byte near the start."""

    def pread(self, length: int, offset: int) -> bytes:
        data = super().pread(length, offset)
        if offset <= 1000 < offset + len(data):
            at = 1000 - offset
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data


async def test_another_content_of_the_same_size_is_sent_whole(servers: Servers, tmp_path: Path) -> None:
    place = fresh("vsftpd", servers, tmp_path)
    assert place.disk is not None
    async with trio.open_nursery() as nursery:
        remote, relay = await through_a_relay(place, nursery)
        await remote.stat("")
        with pytest.raises(Unreachable):
            await remote.put("big", Cut(Pattern(24 * MIB), 12 * MIB, relay.cut), expect=ANYTHING, mtime_ns=10**18)
        await remote.put("big", Changed(24 * MIB), expect=ANYTHING, mtime_ns=10**18)
        await _same(place.disk / "big", Changed(24 * MIB))
        assert [path.name for path in place.disk.iterdir()] == ["big"]
        await remote.aclose()
        nursery.cancel_scope.cancel()


async def test_a_partial_that_nobody_goes_on_with_is_deleted_at_the_next_contact(
    servers: Servers, tmp_path: Path
) -> None:
    place = fresh("proftpd", servers, tmp_path)
    assert place.disk is not None
    async with trio.open_nursery() as nursery:
        remote, relay = await through_a_relay(place, nursery)
        await put(remote, "big", b"old")
        for size, left in ((24 * MIB, 2), (MIB // 2, 1)):  # the second is not worth going on with
            with pytest.raises(Unreachable):
                await remote.put("big", Cut(Pattern(size), size // 2, relay.cut), expect=ANYTHING, mtime_ns=None)
            await remote.stat("big")
            assert len(list(place.disk.iterdir())) == left
            await remote.remove("big")
            await remote.stat("")
            assert list(place.disk.iterdir()) == []
            await put(remote, "big", b"old")
        await remote.aclose()
        nursery.cancel_scope.cancel()


async def test_a_partial_of_another_program_that_does_not_grow_is_deleted(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fresh("vsftpd", servers, tmp_path)
    assert place.disk is not None
    remote = place.open()
    still, growing = partial_name("still"), partial_name("growing")
    for name in (still, growing):
        place.make(name, b"x")
    await entries(remote)
    monkeypatch.setattr(leftovers, "STALLED_AFTER", 1e-9)
    place.make(growing, b"xx")
    await entries(remote)
    await put(remote, "f")
    assert {path.name for path in place.disk.iterdir()} == {"f", growing}
    await remote.aclose()


async def test_appe_where_rest_and_stor_do_not_go_together() -> None:
    size = 3 * MIB

    def length(path: str) -> str:
        if "partial" not in path:
            return "550 No such file"
        return f"250-\r\n type=file;size={sum(map(len, server.uploads))};modify=20240101000000; x\r\n250 End"

    async with scripted({"MLST": length}) as server:
        remote = FtpRemote(parse(server.options | {"shut_timeout": "2s"}))
        server._final = {"STOR": "426 broken"}
        with pytest.raises(Unreachable):
            await remote.put("f", Pattern(2 * MIB + MIB // 2), expect=ANYTHING, mtime_ns=None)
        first = sum(map(len, server.uploads))
        assert first > MIB
        server._final = {}
        server.uploads[0] = server.uploads[0][: 2 * MIB]  # the rest was lost on the way
        server._answers |= {"REST": "502 what?", "STOR": "550 not so"}
        await remote.put("f", Pattern(2 * MIB + MIB // 2), expect=ANYTHING, mtime_ns=None)
        assert b"".join(server.uploads) == _exactly(Pattern(size), 2 * MIB + MIB // 2, 0)
        assert len(server.told("APPE")) == 1
        assert server.told("RNFR") == server.told("APPE")


# a server that cannot rename over a file


@pytest.mark.parametrize("ftp_place", ["proftpd-no-overwrite", "vsftpd", "pyftpdlib-list", "pure-ftpd"], indirect=True)
async def test_a_file_set_aside_when_the_program_died_is_put_back(
    ftp_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ftp_place.disk is not None
    monkeypatch.setattr(leftovers, "PATIENCE", 0.05)
    aside = partial_name(".config", kept=True)
    ftp_place.make(aside, b"the only copy", mtime=time.time() - 10)
    ftp_place.make("other", b"new")
    ftp_place.make(partial_name("other", kept=True), b"old")
    remote = ftp_place.open()
    assert sorted(await entries(remote)) == [".config", "other"]
    assert await fetch(remote, ".config") == b"the only copy"
    assert await fetch(remote, "other") == b"new"
    assert aside not in os.listdir(ftp_place.disk)
    await remote.aclose()


@pytest.mark.parametrize("name", ["a", ".a", "x.portside-00000000.partial", "é" * 60], ids=ascii)
async def test_to_whom_a_leftover_belongs(name: str) -> None:
    assert belongs_to(partial_name(name)) == name
    assert belongs_to(partial_name(name, kept=True)) == name
    assert belongs_to(partial_name("é" * 127)) is None
    assert belongs_to(name) in (None, "x")


async def test_only_the_same_content_is_gone_on_with() -> None:
    source = Content(b"x" * (2 * MIB))
    done = leftovers.Interrupted("p", source.size, MIB, leftovers.digest(source, MIB) or b"")
    assert await done.is_of(source)
    assert not await done.is_of(Content(b"y" * (2 * MIB)))
    assert not await done.is_of(Content(b"x" * MIB))

"""What makes the FTP remote fast, and must not make it wrong: commands sent ahead, folders listed side by side."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
from conftest import Servers, fresh
from sources import fetch, put

from mountcore.errors import Denied, NotDirectory, NotFound, Quota, Stale, TooLarge, Unreachable
from mountcore.remotes.ftp import FtpRemote
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.protocol import ANYTHING, Entry, Remote, Span, Version
from mountcore.remotes.registry import open_remote
from mountcore.remotes.sources import FileSource
from tests.servers.scripted import ScriptedFtp, scripted

pytestmark = pytest.mark.trio
QUICK = {"timeout": "2s", "connect_timeout": "2s", "shut_timeout": "2s"}
FOLDER = "250-\r\n type=dir;modify=20240101000000; x\r\n250 End"
FILE = "250-\r\n type=file;size=5;modify=20240101000000; x\r\n250 End"


def opened(server: ScriptedFtp, **options: str) -> FtpRemote:
    return FtpRemote(parse(server.options | QUICK | options))


async def tree(remote: Remote, top: str = "") -> list[str]:
    async with aclosing(cast(AsyncGenerator[tuple[str, Entry], None], remote.list_tree(top))) as found:
        return sorted([f"{place}/{entry.name}" async for place, entry in found])


async def test_commands_go_ahead_in_one_packet() -> None:
    async with scripted({"MLST": FILE}, data={"RETR": b"12345"}) as server:
        remote = opened(server)
        for _ in range(2):
            assert await fetch(remote, "f", Span(0, 5), Version(5, 1704067200 * 10**9, 10**9)) == b"12345"
        await put(remote, "f", b"12345", mtime_ns=1704067200 * 10**9)
        assert ["MLST /f", "EPSV"] in server.packets
        assert [[line.split()[0] for line in packet] for packet in server.packets][-2:] == [
            ["MDTM", "MLST"], ["RNFR", "RNTO"],
        ]  # fmt: skip


async def test_a_listing_is_asked_for_with_the_way_for_it() -> None:
    files = b"type=file;size=1;modify=20240101000000; f\r\n"
    async with scripted({"MLST": FOLDER}, data={"MLSD": files}) as server:
        remote = opened(server)
        for _ in range(3):
            assert [entry.name async for entry in remote.list("d")] == ["f"]
        assert server.packets[-1] == ["EPSV", "MLSD /d"]
        server._answers["MLSD"] = "550 No such file or directory"
        del server._data["MLSD"]
        server._answers["MLST"] = "550 No such file or directory"
        with pytest.raises(NotFound):
            [entry async for entry in remote.list("d")]
        assert server.connections == 1


async def test_a_server_that_wants_the_way_first() -> None:
    """It is asked once, and then in the order that it wants."""
    files = b"type=file;size=1;modify=20240101000000; f\r\n"
    async with scripted({"MLST": FOLDER}, data={"MLSD": files}) as server:
        remote = opened(server)
        assert [entry.name async for entry in remote.list("d")] == ["f"]
        server.refuses_early = True
        remote._server.begins = None
        for _ in range(3):
            assert [entry.name async for entry in remote.list("d")] == ["f"]
            assert server.packets[-2:] == [["EPSV"], ["MLSD /d"]]


async def test_a_small_file_is_sent_before_the_server_says_that_it_takes_it(tmp_path: Path) -> None:
    """One that waits for the end of it first would otherwise wait for ever."""
    async with scripted({"MLST": FILE}) as server:
        remote = opened(server)
        (tmp_path / "f").write_bytes(b"12345")
        with (tmp_path / "f").open("rb") as file:
            for server.takes_first in (False, True):  # the way is proved by the first
                await remote.put("f", FileSource(file.fileno(), 5), expect=ANYTHING, mtime_ns=None)
        assert server.uploads == [b"12345"] * 2
        early = [packet for packet in server.packets if packet[0] == "EPSV" and len(packet) == 2]
        assert [packet[1].split()[0] for packet in early] == ["STOR"]
        assert len(server.told("RNTO")) == 2


@pytest.mark.parametrize("known", [True, None])
async def test_a_server_that_wants_the_way_before_an_upload(known: bool | None, tmp_path: Path) -> None:
    async with scripted({"MLST": FILE}) as server:
        remote = opened(server)
        await put(remote, "f", b"12345")
        server.refuses_early = True
        remote._server.begins = known
        (tmp_path / "f").write_bytes(b"12345")
        with (tmp_path / "f").open("rb") as file:
            for _ in range(3):
                await remote.put("f", FileSource(file.fileno(), 5), expect=ANYTHING, mtime_ns=None)
                assert [[line.split()[0] for line in packet] for packet in server.packets][-4:] == [
                    ["EPSV"], ["STOR"], ["MLST"], ["RNFR", "RNTO"],
                ]  # fmt: skip
        assert server.uploads == [b"12345"] * 4, "refused once, and asked again in order"


async def test_an_upload_that_is_refused_with_the_way_for_it_says_why() -> None:
    async with scripted({"MLST": FILE}) as server:
        remote = opened(server)
        await put(remote, "f", b"12345")
        for known, reply, kind in [(True, "552 Quota exceeded", Quota), (None, "553 Permission denied", Denied)]:
            server._answers["STOR"] = reply
            remote._server.begins = known
            with pytest.raises(kind):
                await put(remote, "f", b"12345")
        del server._answers["STOR"]
        await put(remote, "f", b"12345")
        assert server.uploads == [b"12345"] * 2
        assert len(server.told("RNTO")) == 2


@pytest.mark.parametrize(
    "name", ["vsftpd", "proftpd", "pure-ftpd", "pyftpdlib", "pyftpdlib-list", "rclone", "vsftpd-tls", "proftpd-tls"]
)
async def test_a_folder_that_is_not_there_costs_no_connection(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    remote = place.open(concurrency="1")
    for number in range(3):
        await remote.mkdir(f"d{number}")
        await put(remote, f"d{number}/f")
    for _ in range(3):
        for number in range(3):
            assert [entry.name async for entry in remote.list(f"d{number}")] == ["f"]
        with pytest.raises(NotFound):
            [entry async for entry in remote.list("absent")]
        assert (await remote.stat("d0/f")).size == 0
        with pytest.raises(NotDirectory):
            [entry async for entry in remote.list("d0/f")]
    await remote.aclose()


async def test_a_server_that_loses_the_second_of_two_commands() -> None:
    """It is found out at the first contact, and sent one command at a time."""
    async with scripted({"MLST": FILE}, data={"RETR": b"12345"}) as server:
        server.one_at_a_time = True
        remote = opened(server, timeout="500ms")
        for _ in range(2):
            assert await fetch(remote, "f", Span(0, 5), Version(5)) == b"12345"
        assert (await put(remote, "f", b"12345")).size == 5
        assert server.connections == 2
        assert not [packet for packet in server.packets[3:] if len(packet) > 1]


async def test_what_was_sent_ahead_and_is_not_wanted_does_no_harm() -> None:
    async with scripted({"MLST": FILE}, data={"RETR": b"12345", "MLSD": b"type=file;size=5; f\r\n"}) as server:
        remote = opened(server)
        assert await fetch(remote, "f", Span(0, 5), Version(5)) == b"12345"
        for _ in range(3):
            with pytest.raises(Stale):
                await fetch(remote, "f", Span(0, 5), Version(6))
            assert await fetch(remote, "f") == b"12345"
        assert server.connections == 1


async def test_a_tree_is_listed_over_several_connections() -> None:
    folders = {f"/d{number}" for number in range(20)}

    class Tree(dict[str, bytes]):
        def __getitem__(self, verb: str) -> bytes:
            where = server.told("MLSD")[-1]
            inside = "".join(f"type=dir; {name[1:]}\r\n" for name in sorted(folders))
            return (inside if where == "/" else "type=file;size=1; f\r\n").encode()

    async with scripted(data=Tree(MLSD=b"")) as server:
        found = await tree(opened(server, concurrency="4"))
        assert found == sorted([*folders, *(f"{name[1:]}/f" for name in folders)])
        assert 2 <= server.connections <= 4


async def test_a_walk_that_fails_says_so_and_one_that_is_left_ends() -> None:
    listing = b"type=file;size=1; f\r\ntype=dir; a-rather-long-name\r\n"
    async with scripted(data={"MLSD": listing}) as server:  # a tree without an end
        remote = opened(server)
        walk = cast(AsyncGenerator[tuple[str, Entry], None], remote.list_tree(""))
        async with aclosing(walk):
            async for _, entry in walk:
                if entry.name == "f":
                    break
        with pytest.raises(TooLarge, match="circle"):
            await tree(remote)
    async with scripted(data={"MLSD": listing}, final={"MLSD": "426 gone"}) as server:
        with pytest.raises(Unreachable):
            await tree(opened(server))
    async with scripted({"MLSD": "550 No such file or directory"}) as server:
        with pytest.raises(NotFound):
            await tree(open_remote("ftp", server.options | QUICK, ""), "absent")

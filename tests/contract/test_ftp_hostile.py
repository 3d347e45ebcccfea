"""Servers that lie, stall, or break off. A scripted server plays them; nothing hangs, nothing looks deleted."""

from __future__ import annotations

import logging

import pytest
import trio
from sources import Content, entries, fetch, put

from mountcore.errors import (
    Busy,
    Corrupt,
    Denied,
    InvalidName,
    NoSpace,
    NotFound,
    Quota,
    Stale,
    StorageError,
    TimedOut,
    TooLarge,
    Unreachable,
)
from mountcore.remotes.ftp import FtpRemote, directories
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.protocol import ABSENT, ANYTHING, Kind, Span, Version
from mountcore.remotes.registry import open_remote
from tests.servers.scripted import ScriptedFtp, scripted

pytestmark = pytest.mark.trio
QUICK = {"timeout": "500ms", "connect_timeout": "500ms", "shut_timeout": "500ms", "close_timeout": "500ms"}
FOLDER = "250-\r\n type=dir; x\r\n250 End"
NO_MLST = {"FEAT": "502 what?"}


def opened(server: ScriptedFtp, **options: str) -> FtpRemote:
    """Without the guard that would try again: each test counts its tries."""
    return FtpRemote(parse(server.options | QUICK | options))


def file_of(size: int, modify: str = "20240101000000") -> str:
    return f"250-\r\n type=file;size={size};modify={modify}; x\r\n250 End"


@pytest.mark.parametrize(("name", "warned"), [("a/b", True), ("..", False), ("a\0b", True), ("a\rb", True),
                                              ("/etc/passwd", True), ("../x", True)], ids=ascii)  # fmt: skip
async def test_bad_names_in_listings_are_skipped(name: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    lines = f"type=file;size=1; {name}\r\ntype=file;size=2; good\r\n".encode()
    with caplog.at_level(logging.WARNING):
        async with scripted(data={"MLSD": lines}) as server:
            assert list(await entries(opened(server))) == ["good"]
    assert bool(caplog.records) == warned


async def test_a_listing_that_breaks_off_is_no_listing() -> None:
    async with scripted(data={"MLSD": b"type=file; a\r\n"}, final={"MLSD": "426 gone"}) as server:
        with pytest.raises(Unreachable, match="426"):
            await entries(opened(server))
    async with scripted(data={"MLSD": b"type=file; a\r\n"}, final={"MLSD": None}) as server:
        with pytest.raises(Unreachable):
            await entries(opened(server))


async def test_a_listing_line_without_an_end() -> None:
    async with scripted(data={"MLSD": b"x" * 100_000}) as server:
        with pytest.raises(Corrupt):
            await entries(opened(server))


@pytest.mark.parametrize("before", [0, 1, 500, 1000])
async def test_a_listing_line_that_is_too_long(before: int) -> None:
    """Wherever in a listing it is."""
    few = b"".join(b"type=file;size=1; %d\r\n" % number for number in range(before))
    longest = b"type=file;size=1; ".ljust(directories.LINE_LIMIT, b"x") + b"\r\n"
    async with scripted(data={"MLSD": few + longest}) as server:
        assert len(await entries(opened(server))) == before + 1
    async with scripted(data={"MLSD": few + b"t" + longest + b"type=file;size=1; b\r\n"}) as server:
        with pytest.raises(Corrupt, match=r"too long|without an end"):
            await entries(opened(server))


async def test_a_listing_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "LISTING_LIMIT", 1 << 20)
    async with scripted(data={"MLSD": b"type=file;size=1; a\r\n" * 100_000}) as server:
        with pytest.raises(TooLarge, match="no end"):
            await entries(opened(server))


async def test_a_listing_in_an_unknown_form_is_not_empty() -> None:
    async with scripted(NO_MLST, data={"LIST": b"somebody's own: form of a listing\r\n"}) as server:
        with pytest.raises(Corrupt):
            await entries(opened(server))


@pytest.mark.parametrize("listing", [None, b"somebody's own: form of a listing\r\n"])
async def test_names_alone_where_list_is_of_no_use(listing: bytes | None) -> None:
    """NLST, then SIZE and CWD for each: a file, a folder, something that has gone, something odd."""
    answers = NO_MLST | {
        "SIZE": lambda path: {"/d/file": "213 7"}.get(path, "550 nothing"),
        "MDTM": "213 20240101120000",
        "CWD": lambda path: "250 ok" if path in ("/d", "/d/folder") else "550 No such file",
    }
    names = b"file\r\n/d/folder\r\ngone\r\n"
    data = {"NLST": names} | ({"LIST": listing} if listing is not None else {})
    async with scripted(answers, data=data) as server:
        found = await entries(opened(server), "d")
        assert {name: (entry.kind, entry.size) for name, entry in found.items()} == {
            "file": (Kind.FILE, 7), "folder": (Kind.DIRECTORY, 0),
        }  # fmt: skip


async def test_sizes_that_a_listing_does_not_tell_are_asked() -> None:
    text = b"Directory SYS$DISK:[ME]\r\n\r\nA.TXT;2   1/3   15-APR-1997 17:45 [ME] (RWED,RE,RE,RE)\r\n"
    async with scripted(NO_MLST | {"SIZE": "213 42", "MDTM": "213 19970415154500"}, data={"LIST": text}) as server:
        assert (await entries(opened(server)))["A.TXT"].size == 42


async def test_a_truncated_listing_is_an_error() -> None:
    async with scripted(
        data={"MLSD": b"type=file; a\r\n"}, final={"MLSD": "226-Output truncated to 1 matches\r\n226 1 match"}
    ) as server:
        with pytest.raises(TooLarge):
            await entries(opened(server))


async def test_an_empty_listing_of_nothing_is_absence() -> None:
    async with scripted({"MLST": "550 No such file or directory"}, data={"MLSD": b""}) as server:
        with pytest.raises(NotFound):
            await entries(opened(server), "absent")
    async with scripted({"MLST": FOLDER}, data={"MLSD": b""}) as server:
        assert await entries(opened(server), "empty") == {}


async def test_list_minus_a_is_used_only_where_it_is_understood() -> None:
    plain = b"-rw-r--r-- 1 o g 1 Jan 01 2020 f\r\n"
    async with scripted(NO_MLST, data={"LIST": plain}) as server:
        remote = opened(server)
        assert list(await entries(remote)) == list(await entries(remote)) == ["f"]
        assert server.told("LIST") == ["-a", "", ""]
    async with scripted(NO_MLST, data={"LIST": b"drwxr-xr-x 1 o g 1 Jan 01 2020 .\r\n" + plain}) as server:
        remote = opened(server)
        assert list(await entries(remote)) == list(await entries(remote)) == ["f"]
        assert server.told("LIST") == ["-a", "-a"]


async def test_local_times_are_corrected_by_mdtm() -> None:
    """The server is two hours ahead of UTC: LIST says 14:05, MDTM 12:05:30."""
    line = b"drwxr-xr-x 1 o g 1 Jan 01 2020 .\r\n-rw-r--r-- 1 o g 1 2024-01-01 14:05 f\r\n"
    answers = NO_MLST | {"MDTM": "213 20240101120530", "SIZE": "213 1"}
    async with scripted(answers, data={"LIST": line}) as server:
        remote = opened(server)
        listed, found = (await entries(remote))["f"], await remote.stat("f")
        assert found.version.matches(listed.version)
        assert listed.mtime_ns is not None
        assert found.mtime_ns is not None
        assert abs(listed.mtime_ns - found.mtime_ns) < 60 * 10**9
        assert listed.resolution_ns >= 3600 * 10**9, "summer time is not known"
        assert server.told("MDTM") == ["/f", "/f"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [("550 Permission denied.", Denied), ("550 Access is denied.", Denied), ("553 Prohibited name: x", InvalidName),
     ("552 Quota exceeded", Quota), ("452 Insufficient storage space", NoSpace), ("550 No space left", NoSpace),
     ("450 File is busy", Busy), ("451 Local error", Busy), ("421 Timeout", Unreachable), ("530 Not in", Denied)],
)  # fmt: skip
async def test_refused_uploads_say_why(reply: str, error: type[StorageError]) -> None:
    async with scripted({"STOR": reply, "MLST": FOLDER}) as server:
        with pytest.raises(error) as caught:
            await put(opened(server), "d/f", b"x")
        assert caught.value.path == "d/f"
        assert reply in caught.value.said


async def test_a_550_of_something_that_exists_is_not_absence() -> None:
    listing = b"type=file;size=1; secret\r\n"
    async with scripted({"MLST": "550 Nope", "RNFR": "550 Nope"}, data={"MLSD": listing}) as server:
        remote = opened(server)
        assert (await remote.stat("secret")).size == 1
        with pytest.raises(NotFound):
            await remote.stat("absent")


async def test_a_server_that_contradicts_itself_is_asked_again() -> None:
    """rclone's says now and then that a folder which it made a moment ago is not there, and then that it is."""
    answers = iter(["550 file does not exist", None])
    folder = {"MLST": FOLDER, "MLSD": lambda _: next(answers)}
    async with scripted(folder) as server:
        with pytest.raises(Busy, match="yet it is there"):
            await entries(opened(server), "d")
    async with scripted({"MLST": file_of(1), "RETR": "550 file does not exist"}) as server:
        with pytest.raises(Busy, match="yet it is there"):
            await fetch(opened(server), "f")


@pytest.mark.parametrize("verb", ["MLST", "RETR", "EPSV", "PWD", "USER"])
async def test_silence_is_bounded(verb: str) -> None:
    with trio.fail_after(20):
        async with scripted({"MLST": file_of(5), "RETR": "", verb: ""}) as server:
            with pytest.raises(TimedOut):
                await fetch(opened(server), "f", Span(0, 5), Version(5))


async def test_a_server_that_does_not_greet() -> None:
    with trio.fail_after(20):
        async with scripted() as server:
            server.greeting = None
            with pytest.raises(TimedOut):
                await opened(server).stat("f")


@pytest.mark.parametrize("reply", [b"hello\r\n", b"SSH-2.0-x\r\n", b"x" * 100_000, b"250-a\r\n" * 5000 + b"250 x\r\n"])
async def test_replies_that_are_none(reply: bytes) -> None:
    async with scripted({"MLST": reply}) as server:
        with pytest.raises(Corrupt):
            await opened(server).stat("f")


async def test_a_connection_that_breaks_says_nothing_about_files() -> None:
    async with scripted({"MLST": None}) as server:
        with pytest.raises(Unreachable, match=f"127.0.0.1:{server.port}"):
            await opened(server).stat("f")


async def test_old_connections_that_broke_are_replaced() -> None:
    answers = iter([file_of(1), None, file_of(1)])
    async with scripted({"MLST": lambda _: next(answers)}) as server:
        remote = opened(server)
        assert (await remote.stat("f")).size == 1
        assert (await remote.stat("f")).size == 1
        assert server.connections == 2


async def test_a_passive_reply_is_not_followed_to_another_host() -> None:
    async with scripted({"MLST": file_of(3)}, data={"RETR": b"abc"}) as server:
        (decoy,) = await trio.open_tcp_listeners(0, host="127.0.0.2")
        port = decoy.socket.getsockname()[1]
        server._answers |= {"EPSV": "500 no", "PASV": f"227 Entering (127,0,0,2,{port >> 8},{port & 255})"}
        with pytest.raises(Unreachable):
            await fetch(opened(server), "f", Span(0, 3))
        with trio.move_on_after(0.1):
            await decoy.accept()
            pytest.fail("somebody else was connected to")
        await decoy.aclose()


@pytest.mark.parametrize("reply", ["229 (|||99999|)", "229 (|||0|)", "229 what?", "227 (1,2,3)"])
async def test_passive_replies_that_make_no_sense(reply: str) -> None:
    async with scripted({"MLST": file_of(3), "EPSV": reply, "PASV": "227 Entering (1,2)"}) as server:
        with pytest.raises(StorageError):
            await fetch(opened(server), "f", Span(0, 3))


async def test_a_short_download_is_noticed() -> None:
    async with scripted({"MLST": file_of(10)}, data={"RETR": b"abc"}) as server:
        with pytest.raises(Corrupt):
            await fetch(opened(server), "f", Span(0, 10), Version(10))
    async with scripted({"MLST": file_of(10)}, data={"RETR": b"abc"}, final={"RETR": "426 broken"}) as server:
        with pytest.raises(Unreachable):
            await fetch(opened(server), "f", Span(0, 10), Version(10))


async def test_a_server_without_rest_is_read_from_the_start() -> None:
    async with scripted({"MLST": file_of(10), "REST": "502 what?"}, data={"RETR": b"0123456789"}) as server:
        remote = opened(server)
        assert await fetch(remote, "f", Span(4, 7)) == b"456"
        assert not remote.caps.ranged_read


async def test_an_upload_that_lost_bytes_is_not_published() -> None:
    async with scripted({"MLST": file_of(3)}) as server:
        with pytest.raises(Corrupt, match="5 bytes were sent and 3 arrived"):
            await put(opened(server), "f", b"12345")
        assert server.told("RNTO") == []
        assert len(server.told("DELE")) == 1


async def test_an_upload_without_a_final_yes_is_not_published() -> None:
    async with scripted({"MLST": file_of(5)}, final={"STOR": "426 broken"}) as server:
        with pytest.raises(Unreachable):
            await put(opened(server), "f", b"12345")
        assert server.told("RNTO") == []


async def test_a_lost_answer_to_the_publication_is_looked_up() -> None:
    """RNTO was done and the connection broke: the file is there, and its temporary name is not."""

    def known(path: str) -> str:
        return file_of(5) if path.endswith("/f") or "RNTO" not in "".join(server.heard) else "550 No such file"

    async with scripted({"RNTO": None}) as server:
        server._answers["MLST"] = known
        stored = await put(opened(server), "f", b"12345")
        assert stored.size == 5


async def test_a_change_in_the_last_moment_is_stale() -> None:
    async with scripted({"MLST": lambda path: file_of(5 if "partial" in path else 7)}) as server:
        with pytest.raises(Stale):
            await put(opened(server), "f", b"12345", Version(6))
        with pytest.raises(Stale):
            await put(opened(server), "f", b"12345", ABSENT)
        assert server.told("RNTO") == []


@pytest.mark.parametrize("path", ["a\r\nDELE b", "a\nb", "a\rb"])
async def test_no_name_becomes_a_command(path: str) -> None:
    async with scripted({"MLST": file_of(1), "MKD": "257 ok"}) as server:
        remote = opened(server, encoding="None")
        await remote.remove(path)
        assert not [line for line in server.heard if line == "DELE b"]
        assert server.told("DELE") == ["/" + path.replace("\r", "␍").replace("\n", "␊")]


async def test_too_many_connections_are_learned() -> None:
    limit = 2
    async with scripted({"MLST": file_of(1)}, data={"RETR": b"x" * 10_000_000}) as server:
        served = server.serve

        async def serve(control: trio.SocketStream) -> None:
            if len(open_now) >= limit:
                await control.send_all(b"421 Too many connections from this address\r\n")
                return
            open_now.add(control)
            try:
                await served(control)
            finally:
                open_now.discard(control)

        open_now: set[trio.SocketStream] = set()
        server.serve = serve  # type: ignore[method-assign]
        remote = opened(server, timeout="5s")
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(remote.stat, f"f{number}")
        async with remote.read("f", Span(0, 5), None), trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(remote.stat, f"f{number}")
        assert remote.caps.parallelism <= limit


async def test_a_server_that_takes_nobody_is_busy() -> None:
    async with scripted() as server:
        server.greeting = b"421 Too many users\r\n"
        with pytest.raises(Busy, match="Too many users"):
            await opened(server).stat("f")


async def test_passwords_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with scripted({"PASS": "530 Login incorrect"}) as server:
            with pytest.raises(Denied, match="refused") as caught:
                await opened(server, **{"pass": "hush-hush"}).stat("f")
    assert "hush" not in caplog.text + str(caught.value)


async def test_the_guard_asks_again_and_gives_up() -> None:
    answers = iter(["421 bye", "421 bye", file_of(4)])
    async with scripted({"MLST": lambda _: next(answers)}) as server:
        remote = open_remote("ftp", server.options | QUICK, "")
        assert (await remote.stat("f")).size == 4
        assert server.connections == 3
    async with scripted({"MLST": "421 bye"}) as server:
        with pytest.raises(Unreachable):
            await open_remote("ftp", server.options | QUICK, "").stat("f")
        assert 3 <= server.connections <= 8


async def test_the_guard_waits_in_vain_twice_and_no_more() -> None:
    async with scripted({"MLST": ""}) as server:
        began = trio.current_time()
        with pytest.raises(TimedOut):
            await open_remote("ftp", server.options | {"timeout": "1s"}, "").stat("f")
        assert server.connections == 2
        assert 2 <= trio.current_time() - began < 4


async def test_the_guard_reads_on_where_it_broke() -> None:
    content = bytes(range(256)) * 4096
    breaks = iter(["426 broken", "426 broken", "226 done"])

    async with scripted({"MLST": file_of(len(content))}, final={"RETR": lambda _: next(breaks)}) as server:
        served = {"from": 0}

        class Halves(dict[str, bytes]):
            def __getitem__(self, verb: str) -> bytes:
                start = int(server.told("REST")[-1]) if server.told("REST") else 0
                served["from"] = start
                return content[start : start + len(content) // 3 + 1]

        server._data = Halves(RETR=b"")
        remote = open_remote("ftp", server.options | QUICK, "")
        got = await fetch(remote, "f", Span(0, len(content)), Version(len(content)))
        assert got == content
        assert len(server.told("RETR")) == 3
        assert served["from"] > 0


async def test_uploads_are_never_repeated_by_the_guard() -> None:
    async with scripted({"STOR": "421 bye"}) as server:
        with pytest.raises(Unreachable):
            await open_remote("ftp", server.options | QUICK, "").put("f", Content(b"x"), expect=ANYTHING, mtime_ns=None)
        assert len(server.told("STOR")) == 1

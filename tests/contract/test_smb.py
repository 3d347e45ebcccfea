"""What every option of the SMB remote changes, what it says of logins and shares, and servers in their odd moments."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from smbprotocol.open import FilePipePrinterAccessMask
from sources import Pattern, entries, fetch, put

from mountcore.errors import Busy, Denied, InvalidName, NoSpace, NotFound, Refused, Stale, TimedOut, Unreachable
from mountcore.remotes.address import parse_address
from mountcore.remotes.protocol import ANYTHING, Span
from mountcore.remotes.registry import open_remote
from mountcore.remotes.smb import SmbRemote
from mountcore.remotes.smb.link import Link
from mountcore.remotes.smb.options import parse
from tests.fuse.mounting import mounted, need_fuse
from tests.servers.process import _descendants
from tests.servers.samba import SmbServer, samba

pytestmark = pytest.mark.trio
BASE = {"host": "127.0.0.1", "user": "me"}


@pytest.fixture
def at(servers: Servers, tmp_path: Path) -> Place:
    """A folder of the share that all tests have."""
    return fresh("smb", servers, tmp_path)


@pytest.fixture
def own() -> Iterator[SmbServer]:
    """A server that a test may hurt."""
    with samba() as server:
        yield server


def bare(server: SmbServer, **options: str) -> SmbRemote:
    """Without patience."""
    return SmbRemote(parse(server.options | {"timeout": "10s"} | options, server.prefix))


def connections(server: SmbServer) -> list[threading.Thread]:
    """The library's threads that listen to it."""
    return [one for one in threading.enumerate() if one.name == f"msg_worker-127.0.0.1:{server.port}"]


async def test_a_wrong_password(at: Place) -> None:
    remote = at.open(**{"pass": "wrong"})
    with pytest.raises(Denied, match="check user, pass and domain"):
        await remote.stat("")
    await remote.aclose()


async def test_a_user_that_is_not_there(at: Place) -> None:
    remote = at.open(user="nobody-at-all")
    with pytest.raises(Denied, match="check user, pass and domain"):
        await remote.stat("f")
    await remote.aclose()


async def test_a_domain_before_the_user(at: Place) -> None:
    remote = at.open(user=f"ELSEWHERE\\{at.options['user']}")
    await put(remote, "f", b"x")
    assert "ELSEWHERE" in remote.identity
    await remote.aclose()


async def test_a_share_that_is_not_there(at: Place) -> None:
    remote = open_remote("smb", at.options, "absent/folder")
    with pytest.raises(Denied, match="no such share"):
        await remote.stat("x")
    await remote.aclose()


async def test_a_root_that_is_not_there(at: Place) -> None:
    remote = open_remote("smb", at.options, f"{at.root}/absent")
    with pytest.raises(NotFound):
        await remote.stat("")
    await remote.aclose()


async def test_no_server() -> None:
    with samba() as server:
        server.stop()
        remote = bare(server)
        with pytest.raises(Unreachable):
            await remote.stat("f")
        await remote.aclose()


async def test_a_server_killed_and_started_again(own: SmbServer) -> None:
    remote = bare(own)
    await put(remote, "f", b"x" * 3_000_000)
    own.stop()
    with pytest.raises(Unreachable):
        await remote.stat("f")
    with pytest.raises(Unreachable):
        await put(remote, "f", b"y")
    own.start()
    await remote.mkdir("d")
    own.stop()
    with trio.fail_after(10):
        while connections(own):  # noqa: ASYNC110 - the library's thread, not an event
            await trio.sleep(0.02)
    own.start()
    await remote.rename("d", "e")
    assert await fetch(remote, "f") == b"x" * 3_000_000
    assert set(await entries(remote)) == {"e", "f"}
    await remote.aclose()


async def test_a_server_killed_during_an_upload(own: SmbServer) -> None:
    remote = bare(own)
    await put(remote, "f", b"old")
    source = Pattern(64 << 20)
    read, stopped = source.pread, threading.Event()

    def pread(length: int, offset: int) -> bytes:
        if offset > 8 << 20 and not stopped.is_set():
            stopped.set()
            own.stop()
        return read(length, offset)

    source.pread = pread  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        await remote.put("f", source, expect=ANYTHING, mtime_ns=None)
    assert stopped.is_set()
    own.start()
    assert await fetch(remote, "f") == b"old"
    assert set(await entries(remote)) == {"f"}
    await remote.aclose()


@contextmanager
def frozen(server: SmbServer) -> Iterator[None]:
    """It takes what is sent and answers nothing."""
    pids = _descendants(server.process.pid)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_server_that_does_not_answer(own: SmbServer) -> None:
    remote = bare(own, timeout="1s", connect_timeout="3s")
    await put(remote, "f", b"x")
    with frozen(own):
        begun = time.monotonic()
        with pytest.raises(TimedOut):
            await remote.mkdir("d")
        with pytest.raises((TimedOut, Unreachable)):
            await remote.mkdir("d")  # a new connection, by the other option
        assert 2.5 < time.monotonic() - begun < 12
        with trio.fail_after(5):
            await remote.aclose()


async def test_an_idle_connection_is_closed(own: SmbServer) -> None:
    for timeout, stays in (("0", True), ("300ms", False)):
        remote = bare(own, idle_timeout=timeout)
        await put(remote, "f", b"x")
        assert connections(own)
        with trio.move_on_after(0.6 if stays else 10) as waited:
            while connections(own):  # noqa: ASYNC110 - the library's thread, not an event
                await trio.sleep(0.02)
        assert waited.cancelled_caught == stays
        assert await fetch(remote, "f") == b"x"
        await remote.aclose()
        with trio.fail_after(10):
            while connections(own):  # noqa: ASYNC110
                await trio.sleep(0.02)


async def test_a_reader_that_pauses_keeps_its_connection(own: SmbServer) -> None:
    remote = bare(own, idle_timeout="200ms")
    content = os.urandom(1 << 20) * 8
    await put(remote, "f", content)
    async with remote.read("f", Span(0, 8 << 20), None) as pieces:
        found = await anext(aiter(pieces))
        await trio.sleep(0.6)
        async for piece in pieces:
            found += piece
    assert found == content
    await remote.aclose()


async def test_a_file_that_somebody_has_open(at: Place) -> None:
    remote = at.open()
    await put(remote, "f", b"x")
    options = parse(at.options | {"timeout": "10s"}, at.root)
    link = await trio.to_thread.run_sync(Link, options)
    wire = f"{options.root}\\f"
    file, _ = link.open("f", wire, FilePipePrinterAccessMask.FILE_READ_DATA, share=0)
    with pytest.raises(Busy, match="somebody else"):
        await fetch(remote, "f")
    with pytest.raises(Busy, match="somebody else"):
        await remote.remove("f")
    link.shut("f", file)
    await put(remote, "f", b"new")
    link.close()
    await remote.aclose()


@pytest.mark.parametrize("change", ["put", "rename", "remove", "tree"])
async def test_changing_what_is_being_read(at: Place, change: str) -> None:
    """Servers refuse to replace a file that the same connection has open, and to move a directory with one in it."""
    remote = at.open()
    await remote.mkdir("d")
    await put(remote, "d/f", bytes(16 << 20))
    await put(remote, "g", b"new")
    with trio.fail_after(20):
        async with remote.read("d/f", Span(0, 16 << 20), None) as pieces:
            assert await anext(aiter(pieces))
            match change:
                case "put":
                    await put(remote, "d/f", b"new")
                case "rename":
                    await remote.rename("g", "d/f")
                case "remove":
                    await remote.remove("d/f")
                case _:
                    await remote.rename("d", "e")
            with pytest.raises((Stale, NotFound)):
                async for _ in pieces:
                    pass
    if change == "remove":
        assert await entries(remote, "d") == {}
    elif change == "tree":
        assert (await remote.stat("e/f")).size == 16 << 20
    else:
        assert await fetch(remote, "d/f") == b"new"
    await remote.aclose()


async def test_a_share_that_is_read_only(tmp_path: Path) -> None:
    with samba("read only = yes") as server:
        (server.root / "f").write_bytes(b"x")
        remote = bare(server)
        assert await fetch(remote, "f") == b"x"
        for attempt in (put(remote, "g", b"y"), remote.remove("f"), remote.mkdir("d"), remote.set_mtime("f", 10**18)):
            with pytest.raises(Denied):
                await attempt
        await remote.aclose()


async def test_a_full_disk(own: SmbServer) -> None:
    need_fuse()  # it takes root to mount
    small = own.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", str(small)], check=True)
    try:
        remote = bare(own)
        with pytest.raises(NoSpace, match="no room"):
            await remote.put("small/f", Pattern(4 << 20), expect=ANYTHING, mtime_ns=None)
        assert await entries(remote, "small") == {}
        assert list(small.iterdir()) == []
        await remote.aclose()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


async def test_a_share_that_insists_on_encryption() -> None:
    with samba("server smb encrypt = required") as server:
        remote = bare(server)
        content = os.urandom(3_000_000)
        await put(remote, "f", content)
        assert await fetch(remote, "f") == content
        assert (server.root / "f").read_bytes() == content
        await remote.aclose()


async def test_times_to_a_hundred_nanoseconds(at: Place) -> None:
    remote = at.open()
    stored = await remote.put("f", Pattern(10), expect=ANYTHING, mtime_ns=1_234_567_890_123_456_789)
    assert stored.mtime_ns == 1_234_567_890_123_456_700
    assert (await remote.set_mtime("f", 10**18 + 100)).mtime_ns == 10**18 + 100
    assert (await entries(remote))["f"].mtime_ns == 10**18 + 100
    await remote.aclose()


async def test_the_encoding(at: Place) -> None:
    assert at.disk is not None
    remote = at.open()
    await put(remote, 'a:b"c. ', b"x")
    assert [path.name for path in at.disk.iterdir()] == ["a：b＂c.␠"]
    assert list(await entries(remote)) == ['a:b"c. ']
    with pytest.raises(InvalidName):
        await remote.stat("\udcff")
    await remote.aclose()
    plain = at.open(encoding="None")
    with pytest.raises(InvalidName):
        await put(plain, "a*b", b"x")
    assert list(await entries(plain)) == ["a：b＂c.␠"]
    await plain.aclose()


async def test_case(at: Place) -> None:
    remote = at.open()
    await put(remote, "Name", b"x")
    await remote.rename("Name", "NAME")
    assert list(await entries(remote)) == ["NAME"]
    assert await fetch(remote, "name") == b"x"
    await remote.mkdir("Folder")
    await remote.rename("Folder", "FOLDER")
    assert set(await entries(remote)) == {"NAME", "FOLDER"}
    assert remote.caps.case_insensitive
    assert not at.open(case_insensitive="false").caps.case_insensitive
    await remote.aclose()


@pytest.mark.parametrize(
    ("options", "root", "words"),
    [
        ({}, "", "name of a share"),
        ({}, "sha*re", "name of a share"),
        ({}, "share/../x", "leaves the share"),
        ({"host": "a:1"}, "share", "port is an option"),
        ({"port": "0"}, "share", "port is a whole number"),
        ({"timeout": "0"}, "share", "timeout must be more than 0"),
        ({"idle_timeout": "x"}, "share", "idle_timeout"),
        ({"case_insensitive": "maybe"}, "share", "case_insensitive is true or false"),
        ({"encoding": "Nonsense"}, "share", "encoding"),
        ({"spn": "cifs/x"}, "share", "Kerberos is not supported"),
        ({"use_kerberos": "true"}, "share", "Kerberos is not supported"),
    ],
)
async def test_options_that_make_no_sense(options: dict[str, str], root: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        open_remote("smb", BASE | options, root)


async def test_a_url() -> None:
    address = parse_address("smb://me:secret@nas:4450/share/a/folder")
    assert (address.kind, address.path) == ("smb", "share/a/folder")
    remote = open_remote("smb", dict(address.options), address.path)
    assert remote.identity == "smb://WORKGROUP;me@nas:4450/share/a/folder"
    assert "secret" not in f"{remote!r}{address}"


async def test_a_mount(at: Place, tmp_path: Path) -> None:
    await trio.to_thread.run_sync(use_a_mount, at, tmp_path)


def use_a_mount(at: Place, tmp_path: Path) -> None:
    need_fuse()
    assert at.disk is not None
    with mounted(at.open(), tmp_path) as mount:
        (mount.path / "d").mkdir()
        (mount.path / "d/f").write_bytes(b"content" * 100_000)
        (mount.path / "d/f").rename(mount.path / "g")
        with (mount.path / "g").open("r+b") as file:
            file.seek(7)
            file.write(b"CHANGED")
        assert (mount.path / "g").read_bytes()[:21] == b"contentCHANGEDcontent"
        assert not mount.run(mount.vfs.drain)
    assert (at.disk / "g").read_bytes()[:21] == b"contentCHANGEDcontent"
    assert sorted(path.name for path in at.disk.rglob("*")) == ["d", "g"]

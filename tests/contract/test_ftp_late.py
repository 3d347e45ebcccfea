"""Servers that carry out a command after its client is dead, or has given up: a late rename undoes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from sources import OnDisk, fetch, put

from mountcore.errors import NotFound, StorageError
from mountcore.remotes.ftp import FtpRemote, settling, upload
from mountcore.remotes.ftp.deeds import Deed, Diary
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.partials import is_ours
from mountcore.remotes.protocol import ANYTHING
from tests.servers.faultproxy import Fault, FaultProxy, fault_proxy

pytestmark = pytest.mark.trio
MIB = 1 << 20
SERVERS = ["pyftpdlib", "vsftpd", "proftpd", "pure-ftpd", "rclone"]
CLIENT = """
    import json, sys, trio
    sys.path[:] = json.loads(sys.argv[4])
    from mountcore.remotes.ftp import FtpRemote
    from mountcore.remotes.ftp.options import parse
    from mountcore.remotes.protocol import ANYTHING
    from sources import Content, OnDisk

    async def main():
        remote = FtpRemote(parse(json.loads(sys.argv[1])), sys.argv[2])
        await eval(sys.argv[3])

    trio.run(main)
"""


@pytest.fixture(autouse=True)
def diaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/portside/ftp"


@contextmanager
def behind_a_proxy(place: Place) -> Iterator[tuple[FaultProxy, dict[str, str]]]:
    assert place.server is not None
    with fault_proxy(int(place.options["port"]), ftp=True) as proxy:
        yield proxy, place.options | {"host": "127.0.0.1", "port": str(proxy.port), "timeout": "5s"}


def open_here(options: dict[str, str], place: Place) -> FtpRemote:
    return FtpRemote(parse(options), place.root)


async def killed_while(proxy: FaultProxy, options: dict[str, str], place: Place, act: str, command: str) -> Fault:
    """Another process does something, and is killed as ``command`` is on its way to the server."""
    fault = proxy.fault = Fault("hold", command=command, times=1)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT), json.dumps(options), place.root, act, json.dumps(sys.path)]
    )
    with trio.fail_after(20):
        while not fault.injected:
            assert process.poll() is None, "it ended, and never said that"
            await trio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return fault


async def released(fault: Fault, bad: Callable[[], bool]) -> None:
    """Let the server have what was held back, and watch for what must not come of it."""
    fault.release()
    deadline = trio.current_time() + 1
    while trio.current_time() < deadline:
        assert not bad()
        await trio.sleep(0.02)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", ["RNFR", "RNTO"])
@pytest.mark.parametrize("name", SERVERS)
async def test_a_rename_of_a_dead_process_that_comes_late_brings_nothing_back(
    name: str, command: str, servers: Servers, tmp_path: Path
) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    place.make("f", b"stored")
    with behind_a_proxy(place) as (proxy, options):
        act = "remote.put('f', Content(b'x' * 5000), expect=ANYTHING, mtime_ns=None)"
        fault = await killed_while(proxy, options, place, act, command)
        remote = open_here(options, place)
        assert await fetch(remote, "f") == b"stored"
        await remote.rename("f", "g")
        await released(fault, (place.disk / "f").exists)
        with pytest.raises(NotFound):
            await remote.stat("f")
        assert await fetch(remote, "g") == b"stored"
        assert [path.name for path in place.disk.iterdir() if is_ours(path.name)] == []
        await remote.aclose()


@pytest.mark.parametrize("name", ["vsftpd", "pyftpdlib"])
async def test_a_rename_that_this_process_gave_up_replaces_nothing_later(
    name: str, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CLEANUP", 0.5)
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    with behind_a_proxy(place) as (proxy, options):
        remote = open_here(options | {"timeout": "1s"}, place)
        await remote.stat("")
        fault = proxy.fault = Fault("hold", command="RNFR", times=1)
        with pytest.raises(StorageError):
            await put(remote, "f", b"older")
        await put(remote, "f", b"newest")
        stored = place.disk / "f"
        await released(fault, lambda: stored.read_bytes() != b"newest")
        assert await fetch(remote, "f") == b"newest"
        fault = proxy.fault = Fault("hold", command="RNFR", times=1)
        with trio.move_on_after(0.5):  # withdrawn
            await put(remote, "f", b"oldest")
        await remote.remove("f")
        await released(fault, stored.exists)
        assert list(place.disk.iterdir()) == []
        await remote.aclose()


@pytest.mark.parametrize("name", SERVERS)
async def test_a_change_of_a_dead_process_is_waited_for(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    for what, act, command in (
        ("moved", "remote.rename('moved', 'here')", "RNFR .*moved"),
        ("gone", "remote.remove('gone')", "DELE"),
    ):
        place.make(what, b"old")
        with behind_a_proxy(place) as (proxy, options):
            fault = await killed_while(proxy, options, place, act, command)
            remote = open_here(options, place)
            async with trio.open_nursery() as nursery:

                async def later(fault: Fault = fault) -> None:
                    await trio.sleep(0.5)
                    fault.release()

                nursery.start_soon(later)
                with pytest.raises(NotFound):  # and not "it is still there"
                    await remote.stat(what)
            await put(remote, what, b"new")
            assert (place.disk / what).read_bytes() == b"new"
            await remote.aclose()


async def test_what_was_never_carried_out_is_not_waited_for_for_long(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diaries: Path
) -> None:
    monkeypatch.setattr(settling, "PATIENCE", 0.3)
    place = fresh("vsftpd", servers, tmp_path)
    place.make("f", b"old")
    place.make("other", b"x")
    dead = Diary(place.open().identity)
    dead.note(Deed("remove", "f"))
    assert dead._file is not None
    os.close(dead._file)  # as death does
    dead._file = None
    remote = open_here(place.options, place)
    began = trio.current_time()
    await remote.stat("other")
    assert trio.current_time() - began < 0.3, "it waited for what does not concern it"
    assert (await remote.stat("f")).size == 3
    assert trio.current_time() - began >= 0.3
    await remote.aclose()
    assert files_in(diaries) == [], "diaries are left"


@pytest.mark.parametrize("name", ["vsftpd", "proftpd", "pure-ftpd", "pyftpdlib"])
async def test_an_upload_of_a_dead_process_goes_on(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    local = tmp_path / "local"
    local.write_bytes(os.urandom(24 * MIB))
    with behind_a_proxy(place) as (proxy, options):
        act = f"remote.put('big', OnDisk({str(local)!r}), expect=ANYTHING, mtime_ns=10**18)"
        fault = await killed_while(proxy, options, place, act, "RNFR|MFMT|MDTM [0-9]")
        (partial,) = [path for path in place.disk.iterdir() if is_ours(path.name)]
        os.truncate(partial, 20 * MIB)
        inode = partial.stat().st_ino
        remote = open_here(options, place)
        stored = await remote.put("big", OnDisk(str(local)), expect=ANYTHING, mtime_ns=10**18)
        fault.release()
        assert stored.size == 24 * MIB
        assert (place.disk / "big").stat().st_ino == inode, "it began anew"
        assert (place.disk / "big").read_bytes() == local.read_bytes()
        assert [path.name for path in place.disk.iterdir()] == ["big"]
        await remote.aclose()


@pytest.mark.parametrize("name", ["vsftpd", "pyftpdlib"])
async def test_a_partial_of_a_dead_process_is_not_gone_on_with_blindly(
    name: str, servers: Servers, tmp_path: Path
) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    local = tmp_path / "local"
    for way in ("the source changed", "the partial did"):
        local.write_bytes(os.urandom(4 * MIB))
        with behind_a_proxy(place) as (proxy, options):
            act = f"remote.put('big', OnDisk({str(local)!r}), expect=ANYTHING, mtime_ns=None)"
            fault = await killed_while(proxy, options, place, act, "RNFR")
            (partial,) = [path for path in place.disk.iterdir() if is_ours(path.name)]
            with (local if way == "the source changed" else partial).open("r+b") as file:
                file.seek(4 * MIB - 100)
                file.write(b"other")
            remote = open_here(options, place)
            await remote.put("big", OnDisk(str(local)), expect=ANYTHING, mtime_ns=None)
            fault.release()
            assert (place.disk / "big").read_bytes() == local.read_bytes(), way
            assert [path.name for path in place.disk.iterdir()] == ["big"]
            await remote.aclose()

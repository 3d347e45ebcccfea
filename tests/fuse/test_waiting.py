"""What a program waits for, and what it does not: one slow file delays nobody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from mountcore.remotes.protocol import ANYTHING
from mountcore.settings import CacheSettings, ReadSettings, VfsSettings

from .mounting import Mount, mounted, spoken
from .slow import Slow


class Bytes:
    """Content for `Memory.put`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]


@pytest.fixture
def slow(tmp_path: Path, session: str) -> Iterator[tuple[Mount, Slow]]:
    remote = Slow()

    async def fill() -> None:
        for number in range(8):
            await remote.inner.mkdir(f"d{number}")
            await remote.inner.put(f"d{number}/f", Bytes(b"inside"), expect=ANYTHING, mtime_ns=None)
        for name in ("stuck", "free"):
            await remote.inner.put(name, Bytes(name.encode() * 1000), expect=ANYTHING, mtime_ns=None)

    trio.run(fill)
    settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache"), read=ReadSettings(timeout=30))
    with mounted(remote, tmp_path, settings, spoken(session)) as mount:  # type: ignore[arg-type]
        remote.stuck["stuck"] = trio.Event()
        try:
            yield mount, remote
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                mount.core.token.run_sync_soon(remote.stuck["stuck"].set)


def until(question: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if question():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def test_a_stuck_read_delays_nobody_else(slow: tuple[Mount, Slow]) -> None:
    mount, remote = slow
    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit((mount.path / "stuck").read_bytes) for _ in range(10)]
        until(lambda: "stuck" in remote.reading)
        assert "free" in os.listdir(mount.path)
        assert (mount.path / "free").read_bytes() == b"free" * 1000
        (mount.path / "new").write_bytes(b"written meanwhile")
        (mount.path / "new").rename(mount.path / "newer")
        assert (mount.path / "stuck").stat().st_size == 5000
        assert not any(reader.done() for reader in readers)
        mount.core.token.run_sync_soon(remote.stuck["stuck"].set)
        assert {reader.result(10) for reader in readers} == {b"stuck" * 1000}


def test_cold_lookups_in_many_directories_wait_together(slow: tuple[Mount, Slow]) -> None:
    mount, remote = slow
    remote.together = 8
    with ThreadPoolExecutor(8) as pool:
        sizes = pool.map(lambda number: (mount.path / f"d{number}/f").stat().st_size, range(8))
        assert list(sizes) == [6] * 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("session", ["direct"])
def test_a_program_that_waits_for_the_remote_can_be_ended(slow: tuple[Mount, Slow], number: signal.Signals) -> None:
    mount, remote = slow
    program = subprocess.Popen(["cat", mount.path / "stuck"], stdout=subprocess.DEVNULL)
    until(lambda: "stuck" in remote.reading)
    program.send_signal(number)
    assert program.wait(10) == -number
    assert (mount.path / "free").read_bytes() == b"free" * 1000


SIGNALLED = """
import ctypes, os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
file = os.open(sys.argv[1], os.O_RDONLY)
buffer = ctypes.create_string_buffer(5000)
print(ctypes.CDLL(None, use_errno=True).read(file, buffer, 5000), ctypes.get_errno())
"""


@pytest.mark.parametrize("session", ["direct"])
def test_another_signal_does_not_end_a_read(slow: tuple[Mount, Slow]) -> None:
    """On a disk it would not either, and programs do not expect it."""
    mount, remote = slow
    program = subprocess.Popen([sys.executable, "-c", SIGNALLED, mount.path / "stuck"], stdout=subprocess.PIPE)
    until(lambda: "stuck" in remote.reading)
    program.send_signal(signal.SIGUSR1)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.5)
    mount.core.token.run_sync_soon(remote.stuck["stuck"].set)
    assert program.communicate(timeout=10)[0].split() == [b"5000", b"0"]


def test_a_mount_ends_while_a_read_is_stuck(slow: tuple[Mount, Slow]) -> None:
    mount, remote = slow
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit((mount.path / "stuck").read_bytes)
        until(lambda: "stuck" in remote.reading)
        mount.cancel()
        assert mount.ended.wait(40)
        with pytest.raises(OSError):  # noqa: PT011 - aborted, interrupted or not connected
            reader.result(10)


def test_fifty_stuck_files_delay_nobody_else(tmp_path: Path, session: str) -> None:
    """More than the kernel lets wait on its own account: 12 reads of pages."""
    remote, stuck, count = Slow(), trio.Event(), 50

    async def fill() -> None:
        for number in range(count):
            await remote.inner.put(f"stuck{number}", Bytes(b"x" * 100_000), expect=ANYTHING, mtime_ns=None)
        await remote.inner.put("free", Bytes(b"free" * 10_000), expect=ANYTHING, mtime_ns=None)

    trio.run(fill)
    for number in range(count):
        remote.stuck[f"stuck{number}"] = stuck
    settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache"), read=ReadSettings(timeout=60))
    with (
        mounted(remote, tmp_path, settings, spoken(session)) as mount,  # type: ignore[arg-type]
        ThreadPoolExecutor(count) as pool,
    ):
        try:
            readers = [pool.submit((mount.path / f"stuck{number}").read_bytes) for number in range(count)]
            until(lambda: len(remote.reading) >= count)
            with ThreadPoolExecutor(1) as another:
                assert another.submit(busy, mount.path).result(20) == count + 2
            assert not any(reader.done() for reader in readers)
            mount.core.token.run_sync_soon(stuck.set)
            assert {reader.result(30) for reader in readers} == {b"x" * 100_000}
        finally:
            mount.core.token.run_sync_soon(stuck.set)


def busy(place: Path) -> int:
    """What another program does meanwhile; answers how many names there are."""
    with (place / "free").open("rb") as file:
        assert file.read() == b"free" * 10_000
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.seek(0) == 0
        assert file.read() == b"free" * 10_000
    (place / "new").write_bytes(b"written meanwhile" * 10_000)
    return len(os.listdir(place))

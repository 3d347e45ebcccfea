"""A storage that is down, or hangs, behind a real mount: bounded waits, the right errors, and nobody else stalls."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import FtpStorage, Portside, Running, until

SESSIONS = ("direct",)
"""`tests/fuse/test_waiting.py` has the other one, too."""
READ = "import sys\nopen(sys.argv[1], 'rb').read()"


@pytest.fixture(params=SESSIONS)
def running(
    request: pytest.FixtureRequest, portside: Portside, storage: FtpStorage, mountpoint: Path
) -> Iterator[Running]:
    """A mount with some files known and one of them cached."""
    portside.configure(storage.section("box") + "timeout = 2s\n")
    (storage.folder / "dir").mkdir()
    (storage.folder / "dir/inside").write_text("inside")
    for number in range(5):
        (storage.folder / f"f{number}").write_bytes(b"x" * 1000)
    (storage.folder / "cached").write_text("cached")
    running = portside.mount(
        "box:", mountpoint, "--fuse-session", str(request.param), "--timeout", "2s", "--drain-timeout", "1s"
    )
    assert len(os.listdir(mountpoint)) == 7
    assert (mountpoint / "cached").read_text() == "cached"
    yield running
    if storage.process is not None:
        storage.process.send_signal(signal.SIGCONT)


def test_a_storage_that_is_down(running: Running, storage: FtpStorage, mountpoint: Path) -> None:
    storage.stop()
    began = time.monotonic()
    for question in (lambda: (mountpoint / "f1").read_bytes(), lambda: os.listdir(mountpoint / "dir")):
        with pytest.raises(OSError, match=r"Errno") as caught:
            question()
        assert caught.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EIO)
    assert time.monotonic() - began < 30
    assert (mountpoint / "cached").read_text() == "cached"
    assert len(os.listdir(mountpoint)) == 7
    (mountpoint / "new").write_text("new")
    assert (mountpoint / "new").read_text() == "new"
    storage.start()
    until(lambda: (storage.folder / "new").exists(), "it is uploaded when the storage is back")
    assert (mountpoint / "f1").read_bytes() == b"x" * 1000


def test_a_storage_that_hangs(running: Running, storage: FtpStorage, mountpoint: Path) -> None:
    assert storage.process is not None
    storage.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        stuck = [pool.submit((mountpoint / f"f{number}").read_bytes) for number in range(4)]
        began = time.monotonic()
        assert (mountpoint / "cached").read_text() == "cached"
        assert len(os.listdir(mountpoint)) == 7
        (mountpoint / "new").write_text("new")
        (mountpoint / "new").rename(mountpoint / "newer")
        assert time.monotonic() - began < 3, "nobody else waits"
        for reader in stuck:
            problem = reader.exception(60)
            assert isinstance(problem, OSError)
            assert problem.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
    storage.process.send_signal(signal.SIGCONT)
    assert (mountpoint / "f0").read_bytes() == b"x" * 1000
    until(lambda: (storage.folder / "newer").exists(), "what was written meanwhile is uploaded")


def test_a_program_that_waits_for_it_can_be_killed(running: Running, storage: FtpStorage, mountpoint: Path) -> None:
    assert storage.process is not None
    storage.process.send_signal(signal.SIGSTOP)
    reader = subprocess.Popen([sys.executable, "-c", READ, str(mountpoint / "f2")])
    try:
        reader.wait(0.5)
    except subprocess.TimeoutExpired:
        began = time.monotonic()
        reader.kill()
        reader.wait(10)
        assert time.monotonic() - began < 2
    storage.process.send_signal(signal.SIGCONT)


def test_ending_with_a_storage_that_hangs(running: Running, storage: FtpStorage, mountpoint: Path) -> None:
    assert storage.process is not None
    (mountpoint / "late").write_text("late")
    storage.process.send_signal(signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    assert running.ended() == 5
    assert "late" in running.said()
    assert not os.path.ismount(mountpoint)

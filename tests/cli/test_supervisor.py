"""What a service manager is told: sd_notify(3), heard on a socket of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.command import PATIENCE

from .conftest import FtpStorage, Portside, is_mounted, until


class Ear:
    """Hears what is sent to it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(place))

    def lines(self) -> list[str]:
        try:
            while True:
                self.heard += self._socket.recv(65536).decode().splitlines()
        except BlockingIOError:
            return self.heard

    def wait_for(self, start: str) -> str:
        until(lambda: any(line.startswith(start) for line in self.lines()), f"{start} in {self.heard}")
        return next(line for line in reversed(self.heard) if line.startswith(start))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    listening = Ear(tmp_path / "notify")
    yield listening
    listening.close()


def test_a_service_from_its_start_to_its_end(
    portside: Portside, storage: FtpStorage, mountpoint: Path, ear: Ear
) -> None:
    portside.configure(storage.section("box"))
    mountpoint.mkdir(exist_ok=True)
    running = portside.start("mount", "box:", mountpoint, "--vfs-write-back", "1h", NOTIFY_SOCKET=str(ear.place))
    ear.wait_for("READY=1")
    assert is_mounted(mountpoint), "it is ready when it is mounted, not before"
    assert ear.wait_for("MAINPID=") == f"MAINPID={running.process.pid}"
    assert "everything is stored" in ear.wait_for("STATUS=")
    (mountpoint / "late").write_bytes(b"x" * 100_000)
    until(lambda: "1 file" in ear.wait_for("STATUS="), "the status says what is to be uploaded")
    running.signal(signal.SIGHUP)
    ear.wait_for("RELOADING=1")
    stamp = int(ear.wait_for("MONOTONIC_USEC=").partition("=")[2])
    assert 0 < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 - stamp < 1e6 * PATIENCE
    until(lambda: ear.lines().count("READY=1") == 2, "ready again")
    assert storage.process is not None
    storage.process.send_signal(signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    ear.wait_for("STOPPING=1")
    assert int(ear.wait_for("EXTEND_TIMEOUT_USEC=").partition("=")[2]) > 10_000_000
    storage.process.send_signal(signal.SIGCONT)
    assert running.ended() == 0
    assert (storage.folder / "late").exists()


def test_a_watchdog(portside: Portside, mountpoint: Path, ear: Ear) -> None:
    running = portside.start("mount", ":memory:", mountpoint, NOTIFY_SOCKET=str(ear.place), WATCHDOG_USEC="200000")
    until(lambda: ear.lines().count("WATCHDOG=1") > 3, "it says that it lives")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_a_name_without_a_file(portside: Portside, mountpoint: Path) -> None:
    name = f"portside-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(f"\0{name}")
        ear.settimeout(PATIENCE)
        running = portside.start("mount", ":memory:", mountpoint, NOTIFY_SOCKET=f"@{name}")
        while b"READY=1" not in ear.recv(65536):
            pass
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


def test_nobody_at_the_socket(portside: Portside, mountpoint: Path, tmp_path: Path) -> None:
    running = portside.start("mount", ":memory:", mountpoint, NOTIFY_SOCKET=str(tmp_path / "nobody"))
    running.wait_until_says("mounted")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0

"""Starting a server process, waiting until it answers, ending it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from .install import PREFIX

START_WITHIN = 20.0


class ServerMissing(Exception):
    """A server's program is not installed."""


def find_program(name: str) -> str:
    """The program's path: on PATH, beside the running Python, or where `install` puts it."""
    places = [Path(sys.executable).parent / name]
    places += [root / name for root in (PREFIX / "usr/sbin", PREFIX / "usr/bin", Path("/usr/sbin"))]
    found = shutil.which(name) or next((str(place) for place in places if place.exists()), None)
    if found is None:
        raise ServerMissing(f"{name} is not installed; python -m tests.servers.install fetches the FTP servers")
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server that listens on a port. ``command`` runs in the foreground and is killed at the end."""

    def __init__(self, command: list[str], port: int, log: Path, *, greets: bool) -> None:
        self._command = command
        self._port = port
        self._log = log
        self._greets = greets
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        sink: IO[bytes]
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
                preexec_fn=_die_with_parent,
            )  # fmt: skip
        deadline = time.monotonic() + START_WITHIN
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command[0]} ended at once: {self._said()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._command[0]} does not answer: {self._said()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, with the sessions it has forked."""
        process, self._process = self._process, None
        if process is not None:
            for child in _descendants(process.pid):
                _kill(child)
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """The main process."""
        assert self._process is not None
        return self._process.pid

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 5) as probe:
                if not self._greets:
                    return True
                probe.settimeout(5)
                return probe.recv(3) == b"220"
        except OSError:
            return False


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in map(int, children):
        found += [*_descendants(child), child]
    return found


def _die_with_parent() -> None:
    """A test run that is killed leaves no servers behind: PR_SET_PDEATHSIG, prctl(2). The parent is the *thread*
    that starts the server: a worker thread would take it along when it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

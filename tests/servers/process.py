"""Starting a server process, waiting until it answers, ending it."""

from __future__ import annotations

import os
import random
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
_KEEPER = '("$@" </dev/null; kill -TERM $$) & read -r _; kill -KILL 0'
"""Runs the server and ends with it; kills all of it when our end of the pipe closes, also because we were killed."""


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
    """A port that nobody listens on, and that the system gives to no connection before a server has it."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(15_000, 32_000)  # below what Linux takes for connections
        with (
            suppress(OSError),
            socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe,
        ):
            probe.bind((host, port))
            return port


class ServerProcess:
    """A server that listens on a port. ``command`` runs in the foreground and is killed at the end."""

    def __init__(
        self,
        command: list[str],
        port: int,
        log: Path,
        *,
        greets: bool,
        greeting: bytes = b"220",
        host: str = "127.0.0.1",
    ) -> None:
        self._command = command
        self._port = port
        self._log = log
        self._greets = greets
        self._host = host
        self._greeting = greeting
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that all of the server descends from."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        sink: IO[bytes]
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                ["sh", "-c", _KEEPER, "keeper", *self._command],
                stdin=subprocess.PIPE, stdout=sink, stderr=sink, start_new_session=True,
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
        if process is not None and process.stdin is not None:
            sessions = _descendants(process.pid)  # vsftpd gives each a process group of its own
            process.stdin.close()
            process.wait()
            for pid in sessions:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self._host, self._port), 5) as probe:
                if not self._greets:
                    return True
                probe.settimeout(5)
                return probe.recv(len(self._greeting)) == self._greeting
        except OSError:
            return False


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [*_descendants(child), child]
    return found

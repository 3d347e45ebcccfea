"""Telling systemd how it goes: sd_notify(3), the protocol behind ``Type=notify``. Does nothing where nobody asked.

Used by :mod:`.process`. Needs no library of systemd's: messages are lines in a datagram to ``$NOTIFY_SOCKET``.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import final

import trio

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between looks at what the status line should say."""
EXTENSION = 60.0
"""Seconds that systemd is asked for while uploads are drained; asked again while they go on."""


@final
class Supervisor:
    """The service manager's ear."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Takes the variables out of the environment: programs that are started from here are not the service."""
        environ = os.environ if environ is None else environ
        place = environ.pop("NOTIFY_SOCKET", "")
        self._place = "\0" + place[1:] if place.startswith("@") else place
        interval = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(interval) / 2e6 if interval.isdecimal() and meant else None
        self._status = ""
        self._extended = float("-inf")

    @property
    def asked(self) -> bool:
        """Whether anybody listens."""
        return bool(self._place)

    def ready(self) -> None:
        """All is up. The main process is said because it may have gone into the background."""
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={self._status}")

    def reloading(self) -> None:
        """Followed by `ready`."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It ends, and that may take a while."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """What ``systemctl status`` shows."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def extend(self) -> None:
        """It still gets on: do not count this time against ``TimeoutStopSec``."""
        now = time.monotonic()
        if now - self._extended > EXTENSION / 4:
            self._extended = now
            self._send(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")

    async def run(self, describe: Callable[[], str]) -> None:
        """Keep the status line and the watchdog up to date until cancelled."""
        if not self.asked:
            return
        every = LOOK_EVERY if self._watchdog is None else min(LOOK_EVERY, self._watchdog)
        while True:
            self.status(describe())
            if self._watchdog is not None:
                self._send("WATCHDOG=1")
            await trio.sleep(every)

    def _send(self, *lines: str) -> None:
        if not self._place:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
                ear.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._place)
        except OSError as problem:
            log.info("the service manager cannot be told %s: %s", lines[0], problem)

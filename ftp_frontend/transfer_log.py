"""A line for every transfer, in a file: xferlog(5), which many programs read, or JSON. Used by the sessions.

The file is opened for each line, so that it can be rotated by renaming it, and nothing need be told.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from mountcore.errors import Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One that has ended."""

    user: str
    client: str
    command: str
    path: str
    bytes: int
    seconds: float
    upload: bool
    text: bool
    complete: bool
    encrypted: bool
    anonymous: bool
    reply: str = ""


def xferlog_line(transfer: Transfer, now: float) -> str:
    """As in xferlog(5) of wu-ftpd and all after it; local time, blanks in names are underscores."""
    path = "".join("_" if c.isspace() or not c.isprintable() else c for c in transfer.path) or "/"
    user = "".join("_" if c.isspace() or not c.isprintable() else c for c in transfer.user) or "-"
    return " ".join(
        (
            time.ctime(now), str(max(1, round(transfer.seconds))), transfer.client, str(transfer.bytes), path,
            "a" if transfer.text else "b", "_", "i" if transfer.upload else "o",
            "a" if transfer.anonymous else "r", user, "ftp", "0", "*", "c" if transfer.complete else "i",
        )
    )  # fmt: skip


def json_line(transfer: Transfer, now: float) -> str:
    """The same and more, as an object."""
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {
            "time": when, "user": transfer.user, "client": transfer.client, "command": transfer.command,
            "path": transfer.path, "direction": "in" if transfer.upload else "out", "bytes": transfer.bytes,
            "seconds": round(transfer.seconds, 3), "type": "A" if transfer.text else "I",
            "complete": transfer.complete, "encrypted": transfer.encrypted, "reply": transfer.reply,
        }
    )  # fmt: skip


@final
class TransferLog:
    """The file. From any thread; a line is one write(2)."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._line = json_line if kind == "json" else xferlog_line
        self._complained = False
        try:
            self._write(b"")
        except OSError as problem:
            raise Refused(f"--transfer-log {path}: {problem.strerror}") from None

    def note(self, transfer: Transfer) -> None:
        """Write it down. A log that cannot be written is complained about once, and hinders nothing."""
        try:
            self._write(self._line(transfer, time.time()).encode("utf-8", "backslashreplace") + b"\n")
        except OSError as problem:
            if not self._complained:
                log.warning("--transfer-log %s cannot be written: %s", self._path, problem.strerror)
            self._complained = True
        else:
            self._complained = False

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            if line:
                os.write(descriptor, line)
        finally:
            os.close(descriptor)

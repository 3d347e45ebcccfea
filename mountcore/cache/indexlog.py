"""SQLite's log on the disk itself. Used by the index.

A commit in WAL mode with ``synchronous=NORMAL`` is in the log file but not synced (https://www.sqlite.org/wal.html,
section 2.1); syncing that file by any descriptor does what ``synchronous=FULL`` would have done at each commit.

Where a file grows, syncing it makes the disk's file system write its journal as well, which takes five to twenty times
as long as writing over what is there. So the log is made longer ahead of what is written to it, with zeros, which
SQLite takes for its end: no page has the number 0.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import final

from .shared import SharedSync

AHEAD = 1 << 20
"""Bytes of zeros that the log is given at a time."""


@final
class IndexLog:
    """The log of a database that is open."""

    def __init__(self, database: Path) -> None:
        self._path = f"{database}-wal"
        self._shared_sync = SharedSync(self._sync)
        self._named = False
        """The disk has its name in the directory, for it was synced before."""
        self._stop = 0
        """Where its zeros end; 0 before there are some."""
        self._synced = 0
        """How long it was when it was last synced: longer than that means that it was written to the end."""

    def sync(self) -> None:
        """Put it on the disk. Blocking, from any thread; those who wait share one."""
        self._shared_sync()

    def _sync(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self._synced = os.fstat(descriptor).st_size
            if self._named:
                os.fdatasync(descriptor)
            else:
                os.fsync(descriptor)
                self._named = True
        finally:
            os.close(descriptor)

    def grow(self) -> None:
        """Make it longer where that helps: it is synced now and then, and has been written to its end.

        Nobody may be writing to the database. Does nothing where the disk refuses, and nearly always: then it costs
        no call of the system.
        """
        if self._synced <= self._stop:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(descriptor, bytes(AHEAD), os.fstat(descriptor).st_size)
                self._stop = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)

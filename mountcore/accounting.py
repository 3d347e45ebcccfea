"""Counters, and frozen snapshots of them for people and programs to read.

The core counts as it goes, on the trio thread, without locks; a snapshot is a plain value that nobody
changes afterwards.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import final


class UploadState(enum.Enum):
    """Where a file that the remote does not have yet stands; see :mod:`mountcore.cache.writeback`."""

    OPEN = "open"
    WAITING = "waiting"
    UPLOADING = "uploading"
    RETRYING = "retrying"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Upload:
    """One file on its way to the remote."""

    path: str
    size: int
    state: UploadState
    sent: int = 0
    """Bytes handed to the remote so far, while uploading."""
    tries: int = 0
    error: str = ""
    """Why the last try failed."""
    speed: float = 0.0
    """Bytes per second since this try began."""

    @property
    def percent(self) -> int:
        """How much of it was handed over."""
        return 100 * min(self.sent, self.size) // self.size if self.size else 0


@dataclass(frozen=True, slots=True)
class Download:
    """One stream that reads a file of the remote."""

    path: str
    size: int
    position: int
    ahead: int
    """Bytes between what somebody asked for last and where it is."""
    speed: float
    """Bytes per second since it began."""
    waiting: bool
    """It is far enough ahead, and waits for its reader."""

    @property
    def percent(self) -> int:
        """How far into the file it is."""
        return 100 * min(self.position, self.size) // self.size if self.size else 0


@dataclass(frozen=True, slots=True)
class VfsSnapshot:
    """What one Vfs is doing."""

    identity: str
    uploads: tuple[Upload, ...]
    cached_bytes: int
    open_files: int
    hits: int
    """Reads answered from the cache alone."""
    misses: int
    fetched_bytes: int
    uploaded_bytes: int
    uploaded_files: int
    downloads: tuple[Download, ...]
    errors: int
    dirty_bytes: int = 0
    """Held bytes of files that are to be uploaded."""
    cache_bound: int | None = None
    """``--vfs-cache-max-size``."""
    streams_per_file: int = 0
    streams_at_once: int = 0
    """Bounds of the downloads: of one file, and in all."""
    doubts: int = 0
    """Renames and removals of which it is not known yet whether the storage did them."""
    users: int = 0
    """Mounts, servers and log-ins that use this storage."""

    @property
    def streams(self) -> int:
        """Downloads, reading or waiting."""
        return len(self.downloads)

    @property
    def bytes_ahead(self) -> int:
        """What was fetched before anybody asked for it, of the downloads there are."""
        return sum(download.ahead for download in self.downloads)


@final
class Counters:
    """What is counted."""

    __slots__ = ("errors", "fetched_bytes", "hits", "misses", "uploaded_bytes", "uploaded_files")

    def __init__(self) -> None:
        self.hits = self.misses = self.fetched_bytes = self.uploaded_bytes = self.uploaded_files = self.errors = 0

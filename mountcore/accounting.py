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
    streams: int
    """Downloads running."""
    errors: int


@final
class Counters:
    """What is counted."""

    __slots__ = ("errors", "fetched_bytes", "hits", "misses", "uploaded_bytes", "uploaded_files")

    def __init__(self) -> None:
        self.hits = self.misses = self.fetched_bytes = self.uploaded_bytes = self.uploaded_files = self.errors = 0

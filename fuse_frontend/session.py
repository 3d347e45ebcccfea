"""The seam between the operations and the kernel: what every session offers, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .invalidation import Notifier

TOGETHER = 1024
"""Reads ahead and writes behind that the kernel lets wait at once. The read of a page counts as one of them, and what
is over waits for its turn whatever file it is of: with the kernel's 12, a dozen stuck files would stop all others."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How to mount."""

    mountpoint: str
    """Absolute, symlinks resolved."""
    source: str
    """What df shows."""
    timeout: float
    """Seconds that the kernel believes names (also absent ones) and attributes."""
    allow_other: bool = False
    allow_root: bool = False
    default_permissions: bool = True
    direct_io: bool = False
    writeback: bool = False
    read_only: bool = False
    async_read: bool = True
    passthrough: bool = False
    """The kernel may use whole files of the cache itself, where it can."""
    max_read_ahead: int = 1 << 20
    flags: tuple[str, ...] = ()
    tasks: int | None = None
    """Requests that may wait at once; None: what suits the session."""
    xattrs: bool = False
    """Whether extended attributes can be read; those that do something can always be written."""
    patience: float | None = None
    """Seconds after which a request that still waits is answered with ETIMEDOUT; None: never."""
    debug: bool = False
    """Log every request and its answer."""


class Session(Notifier, Protocol):
    """A mount. Constructing one mounts; `run` serves until it is unmounted or cancelled; `close` ends it."""

    async def run(self) -> None:
        """Serve requests until cancelled, or until somebody else unmounts."""

    def close(self) -> None:
        """Unmount, lazily where the mount is in use. Idempotent."""

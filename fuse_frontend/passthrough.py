"""Which opens of a file the kernel may serve from the cache file itself (FOPEN_PASSTHROUGH), past this process.

Used by the direct session's `requests`. The kernel wants every inode to be in one of two modes while it is open:
by pages that it caches, or by one backing file (linux/fs/fuse/iomode.c); opening it the other way is EIO. So the
first open decides. Who opens it later and is to ask for every read and write (O_DIRECT, which on a disk wants aligned
offsets; a cache with a bound) has FOPEN_DIRECT_IO on top: only what he maps is the backing file then. Where the content
is another one by now, in another file, the inode gets another number (`fits`). The kernel leaves a mode before it
says RELEASE, so what is counted here is never behind.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from mountcore.vfs import Handle

from . import kernel as k

log = logging.getLogger(__name__)


def asks(flags: int) -> bool:
    """Whether every write of such an open is to come here: on a disk O_DIRECT wants aligned offsets, and what is to be
    synced (O_SYNC has O_DSYNC in it) has to be in the journal, too."""
    return bool(flags & (os.O_DIRECT | os.O_DSYNC))


@dataclass(slots=True)
class _Mode:
    """How an inode is open."""

    cached: int = 0
    through: int = 0
    descriptor: int = -1
    backing: int = 0
    """The kernel's number for the backing file."""


@final
class Passthrough:
    """The modes of all inodes that are open."""

    def __init__(self, distrust: Callable[[int], None]) -> None:
        self._distrust = distrust
        self._device = -1
        self.on = False
        """Whether there is any hope."""
        self._modes: dict[int, _Mode] = {}
        self._opens: dict[int, tuple[int, bool]] = {}
        """Handles: their inode, and whether they are by the backing file."""

    def start(self, device: int) -> None:
        """The kernel agreed."""
        self._device = device
        self.on = True

    def hopeless(self, inode: int, flags: int) -> bool:
        """Whether an open cannot be by the backing file, whatever the cache holds: it need not be lent."""
        mode = self._modes.get(inode)
        return not self.on or asks(flags) or (mode is not None and mode.cached > 0)

    def through(self, inode: int) -> bool:
        """Whether the inode is open by its backing file now, so that every other open is, too."""
        mode = self._modes.get(inode)
        return mode is not None and mode.through > 0

    def fits(self, inode: int, handle: Handle) -> bool:
        """Whether the inode may be opened with this handle: not if it is open by another backing file."""
        mode = self._modes.get(inode)
        return mode is None or not mode.through or handle.fileno() == mode.descriptor

    def opened(self, number: int, inode: int, handle: Handle, *, lent: bool) -> tuple[int, int]:
        """Flags for the kernel, and the number of the backing file. The reply is sent before anything else happens."""
        if self._device < 0:  # nothing ever was
            return 0, 0
        mode = self._modes.setdefault(inode, _Mode())
        flags = k.FOPEN_PASSTHROUGH
        if mode.through:
            if not lent:
                flags |= k.FOPEN_DIRECT_IO
        elif not lent or mode.cached or not self._register(mode, handle.fileno()):
            mode.cached += 1
            self._opens[number] = inode, False
            return 0, 0
        mode.through += 1
        self._opens[number] = inode, True
        self._distrust(inode)  # pages that the kernel may hold know nothing of what is written past them
        return flags, mode.backing

    def released(self, number: int) -> None:
        """The handle is closed."""
        inode, through = self._opens.pop(number, (0, False))
        mode = self._modes.get(inode)
        if mode is None:
            return
        if through:
            mode.through -= 1
            if not mode.through:
                self._unregister(mode)
        else:
            mode.cached -= 1
        if not mode.through and not mode.cached:
            del self._modes[inode]

    def _register(self, mode: _Mode, descriptor: int) -> bool:
        try:
            # a buffer that can be written to: only then is ioctl's answer handed on
            mode.backing = fcntl.ioctl(self._device, k.BACKING_OPEN, bytearray(k.BACKING_MAP.pack(descriptor, 0, 0)))
        except OSError as problem:
            # EPERM: not the right to; ELOOP: the cache's file system lies on others itself. It will not become better
            log.debug("no passthrough: %s", problem)
            self.on = False
            return False
        mode.descriptor = descriptor
        return True

    def _unregister(self, mode: _Mode) -> None:
        try:
            fcntl.ioctl(self._device, k.BACKING_CLOSE, struct.pack("<I", mode.backing))
        except OSError as problem:
            log.debug("backing file %d: %s", mode.backing, problem)
        mode.descriptor, mode.backing = -1, 0

"""Tells the kernel what changed by another door: FTP, another mount of the same storage, a newer listing.

The kernel is given long timeouts and so has to be told. A notification can wait for a lock that a request in
work holds, so it is sent from worker threads, never from the task that answers requests, and in the order of
the changes for each name.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Protocol, final

import trio

from mountcore.vfs import ORIGIN, Change, ChangeKind

from .operations import Operations

log = logging.getLogger(__name__)


class Notifier(Protocol):
    """The part of a session that reaches into the kernel's caches. Blocking; any thread."""

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        """Forget attributes, and pages unless ``attributes_only``."""

    def invalidate_entry(self, parent: int, name: str) -> None:
        """Forget what a name stands for, also that it stands for nothing."""


@final
class Invalidation:
    """Follows a Vfs on behalf of one session. ``origin`` marks the changes that the session made itself."""

    def __init__(self, operations: Operations, notifier: Notifier, origin: object) -> None:
        self._vfs = operations.vfs
        self._inodes = operations.inodes
        self._operations = operations
        operations.stale_entry = self.entry
        operations.stale_content = self.content
        self._notifier = notifier
        self._origin = origin
        self._send, self._receive = trio.open_memory_channel[Change](float("inf"))
        self._pending: set[tuple[ChangeKind, int, str, int]] = set()

    async def run(self) -> None:
        """Follow until cancelled."""
        ORIGIN.set(self._origin)
        unsubscribe = self._vfs.subscribe(self._changed)
        try:
            async for change in self._receive:
                self._pending.discard(_key(change))
                with contextlib.suppress(OSError):  # ENOENT: the kernel does not have it; ENOTCONN: it is unmounted
                    await trio.to_thread.run_sync(self._tell, change)
        finally:
            unsubscribe()

    def entry(self, parent: int, name: str) -> None:
        """The kernel may hold a name that went by another spelling."""
        self._queue(Change(ChangeKind.ENTRY, parent, name, 0, None))

    def content(self, inode: int) -> None:
        """The kernel's pages of a file are wrong."""
        self._queue(Change(ChangeKind.CONTENT, 0, "", inode, None))

    def _changed(self, change: Change) -> None:
        if change.origin is self._origin:
            return
        if change.what is ChangeKind.CONTENT:
            self._operations.distrust(change.inode)
        self._queue(change)

    def _queue(self, change: Change) -> None:
        known = change.parent in self._inodes if change.what is ChangeKind.ENTRY else change.inode in self._inodes
        key = _key(change)
        if known and key not in self._pending:
            self._pending.add(key)
            self._send.send_nowait(change)

    def _tell(self, change: Change) -> None:
        match change.what:
            case ChangeKind.ENTRY:
                self._notifier.invalidate_entry(change.parent, change.name)
                with contextlib.suppress(OSError):
                    self._notifier.invalidate_inode(change.parent, attributes_only=True)
            case ChangeKind.CONTENT:
                self._notifier.invalidate_inode(change.inode, attributes_only=False)
            case ChangeKind.ATTRIBUTES:
                self._notifier.invalidate_inode(change.inode, attributes_only=True)


def _key(change: Change) -> tuple[ChangeKind, int, str, int]:
    entry = change.what is ChangeKind.ENTRY
    return change.what, change.parent if entry else 0, change.name if entry else "", 0 if entry else change.inode

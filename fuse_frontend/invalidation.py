"""Tells the kernel what changed by another door: FTP, another mount of the same storage, a newer listing.

The kernel is given long timeouts and so has to be told. A notification can wait for a lock that a request in
work holds, so it is sent from worker threads, never from the task that answers requests.
"""

from __future__ import annotations

import contextlib
from typing import Protocol, final

import trio

from mountcore.vfs import ORIGIN, Change, ChangeKind

from .operations import Operations

THREADS = 16
"""Notifications that may wait for locks at once."""


class Notifier(Protocol):
    """The part of a session that reaches into the kernel's caches. Blocking; any thread."""

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        """Forget attributes, and pages unless ``attributes_only``."""

    def invalidate_entry(self, parent: int, name: str) -> None:
        """Forget what a name stands for, also that it stands for nothing."""


@final
class Invalidation:
    """Follows a Vfs on behalf of one session. ``origin`` marks the changes that the session made itself.

    Changes of one directory, and of one file, are told in their order, and those of different ones side by side:
    a directory whose lock is held by a slow request holds up nobody else.
    """

    def __init__(self, operations: Operations, notifier: Notifier, origin: object) -> None:
        self._vfs = operations.vfs
        self._inodes = operations.inodes
        self._operations = operations
        operations.stale_entry = self.entry
        operations.stale_content = self.content
        self._notifier = notifier
        self._origin = origin
        self._waiting: dict[int, dict[Change, None]] = {}
        """What is to be told, by the inode whose lock it needs; an empty entry while somebody tells."""
        self._limiter = trio.CapacityLimiter(THREADS)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        ORIGIN.set(self._origin)
        unsubscribe = self._vfs.subscribe(self._changed)
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None  # files that are still open when the mount has ended are closed after this
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
        match change.what:
            case ChangeKind.CONTENT:
                self._operations.distrust(change.inode)
            case ChangeKind.ENTRY:
                self._operations.distrust(change.parent)
        self._queue(change)

    def _queue(self, change: Change) -> None:
        inode = change.parent if change.what is ChangeKind.ENTRY else change.inode
        if inode not in self._inodes or self._nursery is None:
            return
        waiting = self._waiting.get(inode)
        if waiting is None:
            self._waiting[inode] = {change: None}
            self._nursery.start_soon(self._tell_all, inode)
        else:
            waiting[change] = None

    async def _tell_all(self, inode: int) -> None:
        try:
            while changes := self._waiting[inode]:
                self._waiting[inode] = {}
                # abandoned at the end: the request whose lock a notification waits for is then not answered any more
                await trio.to_thread.run_sync(self._tell, list(changes), limiter=self._limiter, abandon_on_cancel=True)
        finally:
            del self._waiting[inode]

    def _tell(self, changes: list[Change]) -> None:
        parents: set[int] = set()
        for change in changes:
            with contextlib.suppress(OSError):  # ENOENT: the kernel does not have it; ENOTCONN: it is unmounted
                match change.what:
                    case ChangeKind.ENTRY:
                        parents.add(change.parent)
                        self._notifier.invalidate_entry(change.parent, change.name)
                    case ChangeKind.CONTENT:
                        self._notifier.invalidate_inode(change.inode, attributes_only=False)
                    case ChangeKind.ATTRIBUTES:
                        self._notifier.invalidate_inode(change.inode, attributes_only=True)
        for parent in parents:
            with contextlib.suppress(OSError):
                self._notifier.invalidate_inode(parent, attributes_only=False)  # its names are content

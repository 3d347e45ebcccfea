"""Staging: a file that is being received and has no name yet. Used by the FTP front end for every upload.

Bytes are written by a foreign thread straight into the cache file; nothing of it is visible, and nothing
survives a crash, until `commit`, which publishes the whole in one step of the index. An upload that is
aborted is discarded and leaves the old file as it was (invariant 8).
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
from typing import TYPE_CHECKING, final

import trio

from .cache.item import Item
from .errors import BadHandle, Exists
from .remotes.protocol import Kind
from .spans import Span

if TYPE_CHECKING:
    from .handle import Handle
    from .tree import Node
    from .vfs import Vfs

STEP = 1 << 20
_SYNC_FILE_RANGE_WRITE = 2


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return library


class Publish(enum.Enum):
    """What a staged upload does to the file of its name."""

    REPLACE = "replace"
    OVERLAY = "overlay"
    """Written over the existing file from an offset (REST n, STOR); what lies behind it stays."""
    APPEND = "append"


class Syncing(enum.Enum):
    """Who puts an upload on the disk itself, before anybody is told that it is there."""

    COMMIT = "commit"
    CALLER = "caller"
    """The caller has called `Stage.sync` before, and calls `Stage.sync_index` after, in its own thread."""
    NEVER = "never"
    """Nobody: it survives the end of this process, and not a loss of power."""


@final
class Stage:
    """An upload under way. Ended by exactly one `commit` or `discard`; a `commit` that fails can be discarded."""

    __slots__ = ("_item", "_open", "_vfs")

    def __init__(self, vfs: Vfs, item: Item) -> None:
        self._vfs = vfs
        self._item = item
        self._open = True
        vfs.store.acquire(item)

    def fileno(self) -> int:
        """Where to write, with pwrite(2), from any thread, until `commit` or `discard` is called."""
        return self._item.fd

    def wrote(self, start: int, stop: int) -> None:
        """Say which bytes were written, now and then. Not a checkpoint; on the trio thread."""
        if self._open:
            self._vfs.store.staged(self._item, Span(start, stop))

    async def reserve(self, count: int) -> None:
        """Return when there is room for ``count`` more bytes; NoSpace if there will be none."""
        await self._vfs.make_room(count)

    def write_out(self, start: int, stop: int) -> None:
        """Have the disk begin with these bytes, so that `sync` finds little left to do. From any thread.

        Waits only where the disk's own queue is full.
        """
        _libc().sync_file_range(self._item.fd, start, stop - start, _SYNC_FILE_RANGE_WRITE)

    def sync(self) -> None:
        """Put what was received on the disk itself. Blocking, in any thread but trio's; see `Syncing.CALLER`."""
        self._vfs.store.sync(self._item)

    def sync_index(self) -> None:
        """Put on the disk itself that it was published. Blocking, in any thread but trio's."""
        self._vfs.store.index.sync()

    async def commit(
        self,
        parent: Node,
        name: str,
        *,
        size: int,
        how: Publish,
        offset: int = 0,
        mtime_ns: int | None = None,
        syncing: Syncing = Syncing.COMMIT,
    ) -> Node:
        """Publish the first ``size`` bytes; when it returns they will be uploaded, whatever becomes of this process.

        And unless ``syncing`` says that this is the caller's business, or nobody's, they are on the disk itself.
        """
        if not self._open:
            raise BadHandle(name)
        item = self._item
        self._vfs.store.staged(item, Span(0, size))
        if how is not Publish.REPLACE:
            syncing = Syncing.COMMIT
            async with self._vfs.naming(parent, name):  # two appends come one after the other
                try:
                    found = await self._vfs.lookup(parent, name)
                except FileNotFoundError:
                    found = None
                if found is not None and found.kind is Kind.FILE:
                    return await self._overlay(found, size, None if how is Publish.APPEND else offset, mtime_ns)
            if offset:
                await self._shift(size, offset)
                size += offset
        self._vfs.store.received(item, size)
        if mtime_ns is not None:
            item.row.mtime_ns = mtime_ns
        self._promise(size, syncing)
        if syncing is Syncing.COMMIT:
            await trio.to_thread.run_sync(self.sync)
        try:
            node = await self._vfs.publish(item, parent, name, replace=how is not Publish.APPEND)
        except Exists:  # made by somebody else since we looked
            return await self.commit(parent, name, size=size, how=how, mtime_ns=mtime_ns)
        if syncing is Syncing.COMMIT:
            await trio.to_thread.run_sync(self.sync_index)
        self._end()
        return node

    def try_commit(self, parent: Node, name: str, *, size: int, syncing: Syncing) -> Node | None:
        """`commit`, of a file whose name is new, if that need not wait; None: use that. Not a checkpoint."""
        if not self._open or syncing is Syncing.COMMIT:
            return None
        self._vfs.store.received(self._item, size)
        self._promise(size, syncing)
        node = self._vfs.try_publish(self._item, parent, name)
        if node is not None:
            self._end()
        return node

    def _promise(self, size: int, syncing: Syncing) -> None:
        """What the journal is to say of what was received."""
        row = self._item.row
        row.promise, row.synced = (1, 0) if syncing is Syncing.NEVER else (2, size)
        self._item.claimed = row.promise == 2

    async def _overlay(self, node: Node, size: int, offset: int | None, mtime_ns: int | None) -> Node:
        """Lay what was received over a file: all of it or nothing, whatever stops it.

        Before the first byte is changed, the journal has on the disk what is to be laid where; a start after a crash
        does it again, from the beginning. What the file had is kept behind what was received, to put it back should
        the disk be full.
        """
        from .handle import OpenFlags

        vfs, stage = self._vfs, self._item
        handle = await vfs.open(node, OpenFlags.READ | OpenFlags.WRITE)
        before, done = handle.size, 0
        offset = before if offset is None else offset
        item = node.item
        assert item is not None, "what is open for reading and writing is in the cache"
        try:
            await self._keep(handle, size, offset)
            await trio.to_thread.run_sync(self.sync)
            await vfs.make_dirty(item)
            vfs.store.index.begin_overlay(stage.id, item.id, offset, size)
            await trio.to_thread.run_sync(self.sync_index)
            try:
                for start in range(0, size, STEP):
                    done = start + STEP
                    await handle.write(offset + start, os.pread(stage.fd, min(STEP, size - start), start))
                    await trio.lowlevel.checkpoint()
                await handle.fsync()
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._put_back(handle, before, min(done, size), offset, size)
                raise
            finally:
                vfs.store.index.end_overlay(stage.id)
        finally:
            await handle.close()
        if mtime_ns is not None:
            await vfs.set_mtime(node, mtime_ns)
        vfs.content_changed(node)
        await self.discard()
        return node

    async def _keep(self, handle: Handle, size: int, offset: int) -> None:
        """Copy what the file has where the upload goes to behind the upload."""
        for start in range(0, max(0, min(size, handle.size - offset)), STEP):
            old = await handle.read(offset + start, min(STEP, size - start))
            await self.reserve(len(old))
            os.pwrite(self._item.fd, old, size + start)

    async def _put_back(self, handle: Handle, before: int, done: int, offset: int, size: int) -> None:
        """Undo the first ``done`` bytes of an overlay, with what `_keep` kept behind the ``size`` received ones."""
        kept = max(0, min(done, before - offset))
        for start in range(0, kept, STEP):
            await handle.write(offset + start, os.pread(self._item.fd, min(STEP, kept - start), size + start))
        if handle.size > before:
            await handle.truncate(before)

    async def _shift(self, size: int, offset: int) -> None:
        """REST beyond the end of nothing: what was received starts at ``offset``, zeros before it."""
        for start in reversed(range(0, size, STEP)):
            data = os.pread(self._item.fd, min(STEP, size - start), start)
            self._vfs.store.write(self._item, offset + start, data)
            await trio.lowlevel.checkpoint()
        self._vfs.store.write(self._item, 0, bytes(min(offset, STEP)))
        for start in range(STEP, offset, STEP):
            self._vfs.store.write(self._item, start, bytes(min(STEP, offset - start)))

    async def discard(self) -> None:
        """Forget the upload; nothing was published. Not a checkpoint."""
        if self._open:
            self._end()

    def _end(self) -> None:
        self._open = False
        self._vfs.store.release(self._item)

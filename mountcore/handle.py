"""An open file: positional reads and writes on one item. Made by the Vfs, used by the front ends.

`try_read` and `try_write` answer at once or say None; `read` and `write` wait for the remote, for an upload
that has to be withdrawn, or for room. All but `fileno` belong to the trio thread.
"""

from __future__ import annotations

import enum
import functools
import os
from typing import TYPE_CHECKING, Protocol, final

import trio

from . import ranges
from .cache.item import Data, Item
from .direct import DirectReader
from .errors import BadHandle, NoSpace

if TYPE_CHECKING:
    from .tree import Node
    from .vfs import Vfs


class OpenFlags(enum.Flag):
    """What a handle may do. APPEND and TRUNCATE imply WRITE."""

    READ = enum.auto()
    WRITE = enum.auto()
    APPEND = enum.auto()
    TRUNCATE = enum.auto()

    @classmethod
    @functools.cache
    def from_os(cls, flags: int) -> OpenFlags:
        """Translate open(2) flags. Remembered: there are few combinations, and operators of `enum.Flag` are slow."""
        access = flags & os.O_ACCMODE
        made = cls(0)
        if access in (os.O_RDONLY, os.O_RDWR):
            made |= cls.READ
        if access in (os.O_WRONLY, os.O_RDWR):
            made |= cls.WRITE
        if flags & os.O_APPEND and access != os.O_RDONLY:
            made |= cls.APPEND
        if flags & os.O_TRUNC:
            made |= cls.TRUNCATE
        return made

    @property
    def changes(self) -> bool:
        """Whether a handle like this can change the file."""
        return self.value & ~1 != 0  # all but READ; by number, for operators of `enum.Flag` take a microsecond each


class Handle(Protocol):
    """An open file, whatever is behind it. Every handle is closed; closing again does nothing."""

    node: Node

    def fileno(self) -> int:
        """Descriptor of the sparse cache file, whose leased or written bytes alone mean anything; -1: has none."""

    @property
    def size(self) -> int:
        """Length of the file now."""

    def try_read(self, offset: int, length: int) -> bytes | None:
        """The bytes if they are in the cache, short only at the end of the file; None: use `read`."""

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes, short only at the end of the file; waits for the remote."""

    async def lease(self, offset: int, length: int) -> int:
        """Wait until there are bytes at ``offset`` in `fileno`; answers where the unbroken run of them ends.

        The run is at most ``length`` long, and empty only at the end of the file. It stays held until
        the handle is closed: what is open is not evicted.
        """

    def try_lend(self) -> bool:
        """Let somebody read `fileno` without telling, until `close`; False where not every byte is here."""

    async def lend(self, *, anyway: bool = False) -> bool:
        """Like `try_lend`, for handles that write: whoever has it may also write as this handle may.

        ``anyway``: he cannot be kept from writing into what is there, so that is watched; False then asks him to make
        the file longer by `write` alone.
        """

    def wrote(self) -> bool:
        """Whether something was written into what was lent since this was last asked."""

    async def sever(self) -> None:
        """The borrower may never return what was lent: from here on he has a file of his own. Before `close`."""

    def try_write(self, offset: int, data: Data) -> int | None:
        """Write at once if nothing has to be waited for; None: use `write`."""

    async def write(self, offset: int, data: Data) -> int:
        """Write all of ``data``; NoSpace when neither clean files nor finished uploads make room for it."""

    async def truncate(self, size: int) -> None:
        """Set the length; what is new is zeros."""

    async def zero(self, offset: int, length: int) -> None:
        """Zeros, as a hole in the cache file where the disk can; Unsupported past the cache."""

    async def allocate(self, offset: int, length: int) -> None:
        """Room for these bytes, and at least that length; NoSpace when there is none; Unsupported past the cache."""

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE; what is not in the cache counts as data. Not a checkpoint."""

    async def flush(self) -> None:
        """One close(2): what was written survives ``kill -9``. With ``--vfs-write-back 0`` it is uploaded here."""

    async def fsync(self) -> None:
        """What was written survives power loss."""

    async def close(self) -> None:
        """Let go; the last close of a changed file starts the write-back delay."""


@final
class CachedHandle:
    """An open file in the cache. See :class:`Handle` for what the methods promise."""

    __slots__ = ("_appends", "_changes", "_closed", "_item", "_leased", "_lent", "_noticed", "_past", "_reads", "_vfs",
                 "node")  # fmt: skip

    def __init__(self, vfs: Vfs, node: Node, item: Item, flags: OpenFlags) -> None:
        self._vfs = vfs
        self._item = item
        self._changes = flags.changes
        self._reads = OpenFlags.READ in flags
        self._appends = OpenFlags.APPEND in flags
        self._closed = False
        self._leased = False
        self._lent = False
        self._noticed = item.generation
        self._past: DirectReader | None = None
        self.node = node
        try:
            vfs.store.acquire(item)
        except OSError:  # the node must not keep what may be evicted
            vfs.released(node)
            raise
        item.handles += 1
        if self._changes:
            item.writers += 1

    def fileno(self) -> int:
        return self._item.fd

    @property
    def size(self) -> int:
        return self._item.size

    # reading

    def try_read(self, offset: int, length: int) -> bytes | None:
        item = self._item
        data = item.read(offset, length)
        if data is not None:
            self._vfs.counters.hits += 1
            if item.streams:
                self._vfs.fetcher.advance(item, offset, offset + length)
        return data

    async def read(self, offset: int, length: int) -> bytes:
        self._check(self._reads)
        data = self.try_read(offset, length)
        while data is None:
            self._vfs.counters.misses += 1
            try:
                await self._vfs.fetcher.ensure(self._item, offset, offset + length)
            except NoSpace:
                return await self._read_past(offset, length)
            data = self._item.read(offset, length)
        return data

    async def _read_past(self, offset: int, length: int) -> bytes:
        """The cache may hold no more: read the remote itself, and keep nothing."""
        if self._item.dirty:
            await self._vfs.fetcher.ensure(self._item, offset, offset + length, must=True)
            return self._item.read(offset, length) or b""
        if self._past is None:
            self._past = DirectReader(self._vfs, self.node)
        return await self._past.read(offset, length)

    def try_lease(self, offset: int, length: int) -> int | None:
        """`lease`, if the bytes at ``offset`` are here; None: use that. Not a checkpoint."""
        item = self._item
        stop = min(offset + length, item.size)
        if offset < stop and not item.spans.covers(offset, offset + 1):
            return None
        if not self._leased:
            self._leased = True
            item.leases += 1
        if offset >= stop:
            return offset
        self._vfs.counters.hits += 1
        stop = min(stop, item.spans.run_from(offset))
        if item.streams:
            self._vfs.fetcher.advance(item, offset, stop)
        return stop

    async def lease(self, offset: int, length: int) -> int:
        item = self._item
        if not self._leased:
            self._leased = True
            item.leases += 1
        stop = min(offset + length, item.size)
        if offset >= stop:
            return offset
        if not item.spans.covers(offset, offset + 1):
            self._vfs.counters.misses += 1
            self._vfs.fetcher.advance(item, offset, offset)
            # one byte is asked for, so that what is there is handed on; the window asks for the rest
            await self._vfs.fetcher.ensure(item, offset, offset + 1)
        else:
            self._vfs.counters.hits += 1
        if item.streams:
            self._vfs.fetcher.advance(item, offset, min(stop, item.spans.run_from(offset)))
        return min(stop, item.spans.run_from(offset))

    # lending

    def try_lend(self) -> bool:
        item = self._item
        if self._changes or self._closed or not item.complete or not self._vfs.store.can_lend:
            return False
        if not self._leased:
            self._leased = True
            item.leases += 1
        return True

    async def lend(self, *, anyway: bool = False) -> bool:
        if not self._changes:
            return self.try_lend()
        free = self._vfs.lends_freely()
        if (free or anyway) and not self._lent and await self._vfs.lend(self._item):
            self._lent = True
            self._noticed = self._item.generation
        return self._lent and free

    def wrote(self) -> bool:
        if not self._lent:
            return False
        self._vfs.store.look(self._item)
        before, self._noticed = self._noticed, self._item.generation
        return self._noticed != before

    async def sever(self) -> None:
        if self._lent:
            await trio.to_thread.run_sync(self._vfs.store.sever, self._item)

    # writing

    def try_write(self, offset: int, data: Data) -> int | None:
        item = self._item
        if not item.dirty or not self._changes or self._closed or self._vfs.writeback.busy(item):
            return None
        if self._vfs.bounded and self._vfs.evictor.over() + len(data) > 0:
            return None
        if self._appends:
            offset = item.size
        try:
            return self._vfs.store.write(item, offset, data)
        except NoSpace:
            return None

    async def write(self, offset: int, data: Data) -> int:
        self._check(self._changes)
        item = self._item
        await self._vfs.make_room(len(data))
        await self._vfs.make_dirty(item)
        if self._appends:
            offset = item.size
        try:
            return self._vfs.store.write(item, offset, data)
        except NoSpace:
            if not self._vfs.evictor.rescue():
                raise
            return self._vfs.store.write(item, offset, data)

    async def truncate(self, size: int) -> None:
        self._check(self._changes)
        item, store = self._item, self._vfs.store
        await self._vfs.make_dirty(item)
        if size < item.size and item.claimed:
            # the disk may cut the file before it has the index's word of that: then the rest would come back as zeros
            store.shorten(item, size)
            await trio.to_thread.run_sync(store.index.sync)
            item.claimed = False
            await self._vfs.make_dirty(item)  # an upload of all that is open may have begun
        store.truncate(item, size)

    async def zero(self, offset: int, length: int) -> None:
        self._check(self._changes)
        await ranges.zero(self._vfs, self._item, offset, length)

    async def allocate(self, offset: int, length: int) -> None:
        self._check(self._changes)
        await ranges.allocate(self._vfs, self._item, offset, length)

    def seek(self, offset: int, whence: int) -> int:
        return ranges.seek(self._item, offset, whence)

    # durability

    async def flush(self) -> None:
        self._check(True)
        item = self._item
        if not item.dirty or not self._changes or item.untouched:
            return
        self._vfs.store.promise(item, 1)
        writeback = self._vfs.writeback
        if self._vfs.settings.cache.write_back == 0 and item.row.path is not None and not writeback.held(item):
            await writeback.upload_now(item)

    async def fsync(self) -> None:
        self._check(True)
        item = self._item
        if item.dirty and not item.untouched:
            self._vfs.store.look(item)
            synced = item.row.now()
            await trio.to_thread.run_sync(self._vfs.store.sync, item)
            self._vfs.store.promise(item, 2, synced.up_to(item.size))  # it may have been cut meanwhile
            await trio.to_thread.run_sync(self._vfs.store.index.sync)

    def try_close(self) -> bool:
        """`close`, of a handle that only read from the cache; answers whether it is done. Not a checkpoint."""
        if self._changes or self._past is not None:
            return False
        if not self._closed:
            self._closed = True
            item = self._item
            item.handles -= 1
            item.leases -= self._leased
            self._vfs.store.release(item)
            self._vfs.released(self.node)
        return True

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        item = self._item
        item.handles -= 1
        item.leases -= self._leased
        try:
            if self._past is not None:
                await self._past.close()
            if self._changes:
                self._written()
        finally:
            self._vfs.store.release(item)
            self._vfs.released(self.node)

    def _written(self) -> None:
        """A writer is gone, and the last one of a changed file has it uploaded, whatever the index can be told."""
        item = self._item
        item.writers -= 1
        if self._lent:
            self._vfs.take_back(item)
        try:
            if item.untouched and not item.writers and not self._vfs.writeback.busy(item):
                self._vfs.unmark(self.node, item)
            elif item.dirty and item.row.path is not None:
                self._vfs.store.promise(item, 1)
        finally:
            if item.dirty and item.row.path is not None and not item.writers:
                self._vfs.writeback.schedule(item)

    def _check(self, allowed: bool) -> None:
        if self._closed or not allowed:
            raise BadHandle(self.node.path())

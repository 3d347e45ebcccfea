"""Open files that bypass the cache: what the cache modes ``off``, ``minimal`` and ``writes`` need.

A :class:`DirectReader` reads the remote in order through a window in memory; a jump starts a new request.
A :class:`DirectWriter` takes bytes in order and stores the file at close (and at fsync), without a retry: the error is
the closer's. It keeps the bytes in a nameless file of the cache directory until then, because storage wants to
know a file's size before its first byte; after a crash nothing is left of it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, final

import trio

from .accounting import Download
from .cache import verify
from .cache.item import Data, Item
from .cache.writeback import Snapshot
from .errors import BadHandle, Corrupt, NoSpace, NotSeekable, StorageError, TimedOut, Unsupported
from .ranges import WithoutRanges
from .remotes.protocol import ABSENT, Span

if TYPE_CHECKING:
    from .tree import Node
    from .vfs import Vfs

log = logging.getLogger(__name__)

SKIP = 1 << 20
"""A jump forward by less than this reads on and throws away, instead of asking the remote again."""


@final
class DirectReader(WithoutRanges):
    """A file read straight from the remote. See :class:`~mountcore.handle.Handle` for what the methods promise."""

    def __init__(self, vfs: Vfs, node: Node) -> None:
        self._vfs = vfs
        self.node = node
        self._version = node.version
        self._path = node.path()
        self._position = 0
        """Where the window starts."""
        self._window: deque[memoryview] = deque()
        self._pump: trio.CancelScope | None = None
        self._pieces: trio.MemoryReceiveChannel[bytes] | None = None
        self._error: StorageError | None = None
        self._asked = 0
        """Up to where somebody wants it."""
        self._arrived = 0
        """Up to where bytes came from the remote."""
        self._began = 0.0
        self._since = 0
        """When, and where, the request began that runs."""
        self._turn = trio.Lock()
        self._moved = trio.Event()
        self._closed = False

    def download(self) -> Download:
        """What is on its way, as a value; while it is in ``Vfs.reading_past``."""
        ahead = max(0, self._arrived - self._position)
        seconds = max(trio.current_time() - self._began, 1e-3)
        return Download(
            path=self._path, size=self.size, position=self._arrived, ahead=ahead,
            speed=(self._arrived - self._since) / seconds, waiting=ahead >= self._vfs.settings.read.buffer_size,
        )  # fmt: skip

    def fileno(self) -> int:
        return -1

    @property
    def size(self) -> int:
        return self._version.size if self._version else self.node.size

    def try_read(self, offset: int, length: int) -> bytes | None:
        return b"" if offset >= self.size else None

    async def read(self, offset: int, length: int) -> bytes:
        if self._closed:
            raise BadHandle(self._path)
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        self._vfs.counters.misses += 1
        if 0 < offset - self._position < 8 * SKIP or (self._turn.locked() and offset != self._position):
            with trio.move_on_after(self._vfs.settings.read.read_wait):
                while self._position != offset:
                    await self._moved.wait()
        async with self._turn:
            if offset != self._position:
                await self._seek(offset)
            return await self._take(length)

    async def lease(self, offset: int, length: int) -> int:
        raise Unsupported(self._path, "this file is not in the cache")

    def try_write(self, offset: int, data: Data) -> int | None:
        return None

    async def write(self, offset: int, data: Data) -> int:
        raise BadHandle(self._path)

    async def truncate(self, size: int) -> None:
        raise BadHandle(self._path)

    def try_lend(self) -> bool:
        return False

    async def lend(self, *, anyway: bool = False) -> bool:
        return False

    def wrote(self) -> bool:
        return False

    async def sever(self) -> None:
        """Nothing is lent."""

    async def flush(self) -> None:
        """Nothing to do: nothing can have been written."""

    async def fsync(self) -> None:
        """Nothing to do: nothing can have been written."""

    async def close(self) -> None:
        self._closed = True
        self._stop()

    async def _seek(self, offset: int) -> None:
        gap = offset - self._position
        if 0 < gap < SKIP and self._pump is not None:
            await self._take(gap)
            return
        if self._vfs.settings.read.no_seek:
            raise NotSeekable(self._path, "--no-seek is set")
        self._stop()
        self._position = offset

    def _stop(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._pump = self._pieces = None
        self._window.clear()
        self._vfs.reading_past.discard(self)

    async def _take(self, length: int) -> bytes:
        """The next bytes of the window, exactly ``length`` of them."""
        taken: list[memoryview] = []
        missing = length
        self._asked = self._position + length
        self._wake()
        try:
            while missing:
                if not self._window:
                    self._window.append(memoryview(await self._next_piece()))
                head = self._window.popleft()
                if len(head) > missing:
                    self._window.appendleft(head[missing:])
                    head = head[:missing]
                taken.append(head)
                missing -= len(head)
        except BaseException:  # given up, perhaps half way: the window does not begin at the position any more
            self._stop()
            raise
        self._position += length
        self._wake()
        return b"".join(taken)

    def _wake(self) -> None:
        """Who waits for his turn, and who fetches, may go on."""
        self._moved.set()
        self._moved = trio.Event()

    async def _next_piece(self) -> bytes:
        if self._pieces is None:
            send, self._pieces = trio.open_memory_channel[bytes](math.inf)  # what bounds it is the size of the pieces
            self._pump = trio.CancelScope()
            self._error = None
            start = self._arrived = self._since = self._position
            self._began = trio.current_time()
            self._vfs.reading_past.add(self)
            self._vfs.start_task(self._run, self._pump, send, start)
        with trio.move_on_after(self._vfs.settings.read.timeout):
            try:
                return await self._pieces.receive()
            except trio.EndOfChannel:
                error = self._error or Corrupt(self._path, "the remote's file is shorter than it was")
                self._stop()
                raise error from None
        self._stop()
        raise TimedOut(self._path, f"nothing arrived for {self._vfs.settings.read.timeout:g} seconds")

    async def _run(self, scope: trio.CancelScope, send: trio.MemorySendChannel[bytes], start: int) -> None:
        settings = self._vfs.settings.read
        chunk = settings.chunk_size
        with scope, send:
            try:
                while start < self.size:
                    stop = self.size if chunk is None else min(self.size, start + chunk)
                    before = start
                    async with self._vfs.remote.read(self._path, Span(start, stop), self._version) as body:
                        async for piece in body:
                            start += len(piece)
                            if start > stop:
                                raise Corrupt(self._path, "the remote sent more than it was asked for")
                            self._vfs.counters.fetched_bytes += len(piece)
                            self._arrived = start
                            await send.send(piece)
                            while start >= self._asked + settings.buffer_size and start < self.size:
                                await self._moved.wait()
                    if start == before:
                        return
                    if start == stop and chunk is not None:
                        chunk = min(chunk * 2, settings.chunk_limit or chunk * 2)
            except StorageError as problem:
                self._error = problem
            except Exception:  # a defect of an adapter: this read's, and not the end of everything else
                log.exception("reading %s failed in a way that nobody foresaw", self._path)
                self._error = Corrupt(self._path, "the storage's adapter failed; see the log")
            if self._pump is scope:
                self._vfs.reading_past.discard(self)


@final
class DirectWriter(WithoutRanges):
    """A file written in order and stored at close. See :class:`~mountcore.handle.Handle`."""

    def __init__(self, vfs: Vfs, node: Node, item: Item) -> None:
        self._vfs = vfs
        self._item = item
        self.node = node
        self._stored = -1
        """The generation that the remote has."""
        self._problem: StorageError | None = None
        """Why it could not be stored; there is no second try."""
        self._moved = trio.Event()
        self._closed = False
        vfs.store.acquire(item)
        item.handles += 1
        item.writers += 1

    def fileno(self) -> int:
        return -1

    @property
    def size(self) -> int:
        return self._item.size

    def try_read(self, offset: int, length: int) -> bytes | None:
        return None

    async def read(self, offset: int, length: int) -> bytes:
        raise BadHandle(self.node.path())

    async def lease(self, offset: int, length: int) -> int:
        raise BadHandle(self.node.path())

    def try_write(self, offset: int, data: Data) -> int | None:
        if offset != self._item.size or self._closed or self._vfs.crowded(len(data)):
            return None
        try:
            return self._append(data)
        except NoSpace:
            return None

    def _append(self, data: Data) -> int:
        written = self._vfs.store.write(self._item, self._item.size, data)
        self._moved.set()
        self._moved = trio.Event()
        return written

    async def write(self, offset: int, data: Data) -> int:
        if self._closed:
            raise BadHandle(self.node.path())
        await self._vfs.make_room(len(data))
        with trio.move_on_after(self._vfs.settings.read.write_wait):
            while offset > self._item.size:
                await self._moved.wait()
        if offset != self._item.size:
            raise NotSeekable(self.node.path(), "in this --vfs-cache-mode a file is written in order only")
        try:
            return self._append(data)
        except NoSpace:
            if not self._vfs.evictor.rescue():
                raise
            return self._append(data)

    async def truncate(self, size: int) -> None:
        if size != self._item.size:
            raise NotSeekable(
                self.node.path(), "in this --vfs-cache-mode a file that is being written keeps its length"
            )

    def try_lend(self) -> bool:
        return False

    async def lend(self, *, anyway: bool = False) -> bool:
        return False

    def wrote(self) -> bool:
        return False

    async def sever(self) -> None:
        """Nothing is lent."""

    async def flush(self) -> None:
        """Store the file; what the remote answers is the closer's, and there is no retry."""
        node = self.node
        while (parent := node.parent) is not None:  # else nothing has its name any more, and there is nothing to store
            name = node.name
            async with self._vfs.naming(parent, name):
                if node.parent is parent and node.name == name:
                    await self._store()
                    return

    async def _store(self) -> None:
        """`flush`, while nobody can change the name."""
        item = self._item
        if self._closed or self._problem is not None or self._stored == item.generation:
            return
        generation, node = item.generation, self.node
        expect = node.version if node.version is not None else ABSENT
        try:
            stored = await verify.put(
                self._vfs.remote, node.path(), Snapshot(item), expect=expect, mtime_ns=item.row.mtime_ns,
                checksum=self._vfs.settings.cache.checksum,
            )  # fmt: skip
        except StorageError as problem:
            self._problem = problem
            if node.parent is not None:
                self._vfs.tree.expire(node.parent)  # who knows what is there now
            raise
        self._stored = generation
        self._vfs.stored_directly(node, item, stored)

    async def fsync(self) -> None:
        """Store what there is so far: nothing less survives a loss of power."""
        if self._closed:
            raise BadHandle(self.node.path())
        if self._problem is not None:  # who asks again is not told that all is well
            raise type(self._problem)(self.node.path(), self._problem.said)
        await self.flush()

    async def close(self) -> None:
        if self._closed:
            return
        try:
            if self._stored != self._item.generation:
                await self.flush()
        finally:
            self._closed = True
            item = self._item
            item.handles -= 1
            item.writers -= 1
            self._vfs.direct_writer_closed(self.node, item, stored=self._stored >= 0 and self._problem is None)
            self._vfs.store.release(item)

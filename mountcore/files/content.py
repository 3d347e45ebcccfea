"""Bytes on their way from a read to a put.

`Remote.put` takes a `Source` and asks it for bytes from a worker thread; `Remote.read` yields pieces on the trio
thread. In between: a small file is read into memory first; a large one streams through `Stream`, whose reader waits
in its thread for what has not arrived; and where an adapter does not ask in order, a file is spooled to disk.

A part is never published: when the read fails or the length is not what the listing said, the source raises in the
adapter's thread, before the last byte, and `put` gives up.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import final

import trio

from ..errors import Corrupt, Stale, StorageError, Unsupported

IN_MEMORY = 2 << 20
"""Files up to this size are read whole before they are stored."""
WINDOW = 8 << 20
"""Bytes that a stream holds between reader and writer."""
Arrived = Callable[[int], None]


class OutOfOrder(Unsupported):
    """The adapter does not ask for the bytes in order, so that the file must be spooled."""


@final
class InMemory:
    """Bytes that are all there. See :class:`~mountcore.remotes.protocol.Source`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]


@final
class OnDisk:
    """A file without a name, for content of unknown length or to be read out of order."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="portside-")  # noqa: SIM115 (closed by `close`)
        self.size = 0

    def append(self, piece: bytes) -> None:
        """Add to the end; blocks."""
        self._file.write(piece)
        self.size += len(piece)

    def whole(self) -> None:
        """All is there."""
        self._file.flush()

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def close(self) -> None:
        self._file.close()


@final
class Stream:
    """A source whose bytes are still arriving: fed on the trio thread, read once and in order in another.

    The first byte that is asked for says where feeding has to begin (`begins`): an upload that broke off goes on.
    """

    def __init__(self, path: str, size: int, stamp: str = "") -> None:
        self.size = size
        self.stamp = stamp
        self._path = path
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._position: int | None = None
        self._wanted = WINDOW
        self._problem: StorageError | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._room = trio.Event()
        self._asked = trio.Event()

    async def begins(self) -> int:
        """The offset of the byte that is fed first; waits until one is asked for."""
        await self._asked.wait()
        assert self._position is not None
        return self._position

    async def feed(self, piece: bytes) -> None:
        """Hand over the next bytes; waits while the reader is behind."""
        with self._changed:
            self._pieces.append(piece)
            self._held += len(piece)
            self._room = trio.Event()
            full = self._held >= max(WINDOW, self._wanted)
            self._changed.notify()
        if full:
            await self._room.wait()

    def fail(self, problem: StorageError) -> None:
        """Nothing more comes: the reader gets ``problem``."""
        with self._changed:
            self._problem = problem
            self._changed.notify()

    def pread(self, length: int, offset: int) -> bytes:
        """The next bytes, ``length`` of them but at the end; waits for them. Not on the trio thread."""
        if trio.lowlevel.in_trio_run():
            raise OutOfOrder(self._path, "asked for on the thread that brings the bytes")
        with self._changed:
            if self._position is None:
                self._position = offset
                self._token.run_sync_soon(self._asked.set)
            if offset != self._position:
                raise OutOfOrder(self._path, f"byte {offset} is wanted after byte {self._position}")
            length = min(length, self.size - offset)
            self._wanted = length
            if self._held < length:
                self._token.run_sync_soon(self._room.set)
            while self._held < length and self._problem is None:
                self._changed.wait()
            if self._held < length:
                assert self._problem is not None
                raise self._problem
            data = self._take(length)
            self._position += len(data)
            if self._held < WINDOW // 2:
                self._token.run_sync_soon(self._room.set)
            return data

    def _take(self, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            piece = self._pieces.popleft()
            if len(piece) > length:
                self._pieces.appendleft(piece[length:])
                piece = piece[:length]
            parts.append(piece)
            length -= len(piece)
            self._held -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)


@final
class Intake:
    """Counts, hashes and checks what a read brings, against what the listing promised."""

    def __init__(self, path: str, size: int, arrived: Arrived, algorithm: str = "") -> None:
        self._path = path
        self._size = size
        self._arrived = arrived
        self.digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
        self.got = 0

    def skip(self, count: int) -> None:
        """So much of the beginning is there already, and does not come."""
        self.got = count
        if count:
            self.digest = None

    def take(self, piece: bytes) -> bytes:
        """The next piece; raises where there is more than there should be."""
        self.got += len(piece)
        if self.got > self._size:
            raise Stale(self._path, f"the file grew while it was copied; it had {self._size} bytes")
        if self.digest is not None:
            self.digest.update(piece)
        self._arrived(len(piece))
        return piece

    def end(self) -> None:
        """All has arrived; raises where something is missing."""
        if self.got < self._size:
            raise Stale(self._path, f"the file became shorter while it was copied: {self.got} of {self._size} bytes")


async def into_memory(pieces: AsyncIterator[bytes], intake: Intake) -> InMemory:
    """Read a small file whole."""
    parts = [intake.take(piece) async for piece in pieces]
    intake.end()
    return InMemory(parts[0] if len(parts) == 1 else b"".join(parts))


async def onto_disk(pieces: AsyncIterator[bytes], intake: Intake | None = None) -> OnDisk:
    """Read a file whole into one without a name; the caller closes it."""
    spool = OnDisk()
    try:
        async for piece in pieces:
            await trio.to_thread.run_sync(spool.append, intake.take(piece) if intake else piece)
        if intake:
            intake.end()
        await trio.to_thread.run_sync(spool.whole)
    except BaseException:
        spool.close()
        raise
    return spool


async def through(
    pieces: AsyncIterator[bytes], intake: Intake, stream: Stream, confirm: Callable[[], Awaitable[None]]
) -> None:
    """Feed a stream from a read. The last piece is held back until the length is right and ``confirm`` agrees."""
    last = b""
    try:
        async for piece in pieces:
            intake.take(piece)
            if last:
                await stream.feed(last)
            last = piece
        intake.end()
        await confirm()
        await stream.feed(last)
    except StorageError as problem:
        stream.fail(problem)
        raise
    except OSError as problem:
        stream.fail(Corrupt("", str(problem)))
        raise
    except BaseException:
        stream.fail(Unsupported("", "the copy was called off"))  # frees the adapter's thread
        raise

"""From a source to a data connection.

A source is read in threads: it may be on a busy disk, or hold back for a bandwidth limit. What does not go through TLS
is sent there as well (:mod:`.feed`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import final

import trio

from ...errors import StorageError
from ..protocol import Source, peek
from ..sources import PIECE, piece_of
from .data import Data
from .feed import Feed
from .replies import ReplyError

PEEKED = 128 << 10
"""Bytes that are read without a thread, if they are in memory."""


@dataclass(slots=True)
class Progress:
    """How far an upload has come."""

    partial: str
    start: int = 0
    sent: int = 0


@final
class FirstPiece:
    """The beginning of a source, read while the server is still asked to take it."""

    def __init__(self, source: Source, offset: int, path: str) -> None:
        self._source = source
        self._offset = offset
        self._path = path
        self._left = source.size - offset
        self._found: bytes | StorageError | OSError = b""
        if self._left > 0:
            self._found = peek(source, min(PEEKED, self._left), offset)

    async def meanwhile(self, opening: Awaitable[Data]) -> Data:
        """Read while a transfer is opened; what that raises is raised by `take`, and what ``opening`` raises as it
        is."""
        if self._left <= 0 or self._found:
            return await opening
        problem: StorageError | ReplyError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run)
            try:
                data = await opening
            except (StorageError, ReplyError) as failure:
                problem = failure
        if problem is not None:
            raise problem
        return data

    @property
    def whole(self) -> bytes:
        """The piece, if it has been read and is all there is; else b""."""
        if isinstance(self._found, bytes) and len(self._found) == self._source.size:
            return self._found
        return b""

    def take(self) -> bytes:
        """The piece."""
        if not isinstance(self._found, bytes):
            raise self._found
        return self._found

    async def _run(self) -> None:
        try:
            self._found = await trio.to_thread.run_sync(piece_of, self._source, PIECE, self._offset, self._path)
        except (StorageError, OSError) as problem:
            self._found = problem


async def send_all(data: Data, source: Source, path: str, progress: Progress, first: FirstPiece) -> None:
    """All of the source, behind its first piece."""
    piece = first.take()
    if len(piece) > data.sent:
        await data.send(memoryview(piece)[data.sent :])
    progress.sent += len(piece)
    feed = Feed(source, progress.sent, path)
    try:
        while not feed.done and await data.send_from(feed):
            pass
    finally:
        progress.sent = feed.offset
    if not feed.done:
        await _send_read(data, source, path, progress)


async def _send_read(data: Data, source: Source, path: str, progress: Progress) -> None:
    """The rest of the source, read one piece ahead."""

    async def read_ahead(sink: trio.MemorySendChannel[bytes | StorageError | OSError]) -> None:
        offset = progress.sent
        async with sink:
            while offset < source.size:
                try:
                    more = await trio.to_thread.run_sync(piece_of, source, PIECE, offset, path)
                except (StorageError, OSError) as problem:
                    await sink.send(problem)  # raised where it is used: not wrapped in a group
                    return
                await sink.send(more)
                offset += len(more)

    problem: BaseException | None = None
    sink, pieces = trio.open_memory_channel[bytes | StorageError | OSError](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_ahead, sink)
        async with pieces:
            try:
                async for found in pieces:
                    if not isinstance(found, bytes):
                        raise found
                    await data.send(found)
                    progress.sent += len(found)
            except (StorageError, OSError) as failure:
                problem = failure
                nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem

"""Moving bytes: many requests at once on one link, in order and bounded. On the asyncio loop.

A download keeps a window of requests ahead of its reader and stops while nobody reads. An upload keeps as many
writes on their way. Both windows are `WINDOW` bytes at most: more is memory and brings nothing up to 40 ms away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, final

import asyncssh

from ..protocol import Source
from ..sources import piece_of
from .link import File, Link
from .options import SftpOptions

T = TypeVar("T")
WINDOW = 4 << 20
BLOCK = 1 << 20
"""Bytes taken from a source, or handed to a reader, in one go."""
InThread = Callable[[Callable[[], bytes]], Coroutine[Any, Any, bytes]]


def chunk_size(link: Link, options: SftpOptions, *, writing: bool) -> int:
    """Bytes in one request: what the user said, no more than the server takes."""
    limits = link.sftp.limits
    offered = limits.max_write_len if writing else limits.max_read_len
    return max(1024, min(options.chunk, offered or 32 << 10))


def window(chunk: int, options: SftpOptions, parallel: bool) -> int:
    """Requests at once."""
    return max(2, min(options.requests, WINDOW // chunk)) if parallel else 1


@final
class Download:
    """The bytes of a span of an open file. :meth:`next` is called by one task at a time."""

    def __init__(self, file: File, start: int, stop: int, options: SftpOptions) -> None:
        self._file = file
        self._at = start
        self._stop = stop
        self._chunk = chunk_size(file.link, options, writing=False)
        self._window = window(self._chunk, options, options.parallel_reads)
        self._asked: deque[asyncio.Task[bytes]] = deque()
        self.received = 0

    @property
    def complete(self) -> bool:
        """Whether all has been asked for and handed on."""
        return self._at >= self._stop and not self._asked

    def begin(self) -> None:
        """Send the first requests; a reader will come."""
        self._fill()

    async def next(self) -> list[bytes]:
        """The next pieces, as many as are here but at least one; empty at the end."""
        self._fill()
        pieces: list[bytes] = []
        while self._asked and (not pieces or (self._asked[0].done() and sum(map(len, pieces)) < BLOCK)):
            piece = await self._asked[0]
            self._asked.popleft()
            if not piece:
                await self.cancel()
                self._at = self._stop
                break
            pieces.append(piece)
            self.received += len(piece)
        self._fill()
        return pieces

    async def cancel(self) -> None:
        """Want no more."""
        asked = list(self._asked)
        self._asked.clear()
        for task in asked:
            task.cancel()
        if asked:
            await asyncio.gather(*asked, return_exceptions=True)

    def _fill(self) -> None:
        while self._at < self._stop and len(self._asked) < self._window:
            length = min(self._chunk, self._stop - self._at)
            self._asked.append(asyncio.ensure_future(self._whole(self._at, length)))
            self._at += length

    async def _whole(self, offset: int, length: int) -> bytes:
        """One chunk; a server may answer with less than was asked for, and only the end is the end."""
        data = await self._file.read(length, offset)
        while data and len(data) < length:
            more = await self._file.read(length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data


async def upload(file: File, source: Source, options: SftpOptions, in_thread: InThread) -> None:
    """Write all of a source."""
    chunk = chunk_size(file.link, options, writing=True)
    most = window(chunk, options, options.parallel_writes)
    writing: deque[asyncio.Task[None]] = deque()
    together = BLOCK // chunk * chunk or chunk
    offset = 0
    try:
        while offset < source.size:
            block = memoryview(await in_thread(lambda o=offset: piece_of(source, together, o, file.path)))  # type: ignore[misc]
            for at in range(0, len(block), chunk):
                while len(writing) >= most:
                    await writing[0]
                    writing.popleft()
                writing.append(asyncio.ensure_future(file.write(block[at : at + chunk], offset + at)))
            offset += len(block)
        while writing:
            await writing[0]
            writing.popleft()
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)


async def sync(file: File) -> None:
    """fsync where the server has it."""
    with suppress(asyncssh.SFTPOpUnsupported):
        await file.link.ask(file.path, _fsync(file))


async def _fsync(file: File) -> None:
    try:
        await file.handle.fsync()
    except asyncssh.SFTPOpUnsupported:
        return


async def gathered(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Do all of it at once; the first failure is raised when all have ended."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return done


_kept: set[asyncio.Future[Any]] = set()


def keep(task: asyncio.Future[Any]) -> None:
    """Let a task run to its end though nobody waits for it: asyncio itself would forget it."""
    _kept.add(task)
    task.add_done_callback(_kept.discard)


async def settled(work: Coroutine[Any, Any, T], within: float) -> T | None:
    """Do some tidying up even if the caller is being cancelled; None if it failed or took too long."""
    task = asyncio.ensure_future(asyncio.wait_for(work, within))
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue  # bounded by wait_for; the caller's own cancellation is already on its way
    return task.result() if not task.cancelled() and isinstance(task.exception(), type(None)) else None

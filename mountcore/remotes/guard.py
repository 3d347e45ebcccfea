"""Patience with storage that fails now and then: a remote around a remote. Adapters of network storage use it.

Tried again, with exponential back-off, when the error says that this can help (``retriable``): what changes
nothing, so `list` (until its first entry is out), `stat`, `usage`, `hash` and their like, and `read`, which goes
on where it broke off. Never tried again here: changes. Whether one was made before the connection broke is for the
caller to find out, and uploads have their own patience in the write-back queue.

A call gives up after `Patience.tries` tries in a row without progress, with the last error.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar, cast, final

import trio

from ..errors import NoSpace, Quota, StorageError, TimedOut
from ..splicing import Pipe
from .around import Around
from .protocol import Changes, Entry, Remote, Span, Usage, Version, spliced

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long; seconds."""

    tries: int = 4
    first_delay: float = 0.1
    longest_delay: float = 5.0

    def delay(self, failures: int) -> float:
        """The wait after so many failures in a row, up to half of it random, so that many do not retry at once."""
        full = min(self.longest_delay, self.first_delay * (1 << 2 * (failures - 1)))
        return full * (1 - random.random() / 2)  # noqa: S311


@final
class Guard(Around):
    """A remote that is asked again. See :class:`~mountcore.remotes.protocol.Remote`."""

    def __init__(self, inner: Remote, patience: Patience | None = None) -> None:
        super().__init__(inner)
        self._patience = patience or Patience()

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        failures = 0
        while True:
            started = False
            entries = cast(AsyncGenerator[Entry, None], self.inner.list(directory))
            try:
                async with aclosing(entries):
                    async for entry in entries:
                        started = True
                        yield entry
                return
            except StorageError as problem:
                if started:
                    raise
                failures += _weight(problem)
                await self._wait(failures, problem)

    async def stat(self, path: str) -> Entry:
        return await self._again(lambda: self.inner.stat(path))

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as held:
            reading = _Reading(self, path, span, version, held)
            await self._again(reading.open)
            yield reading

    async def usage(self) -> Usage:
        return await self._again(self.inner.usage)

    async def hash(self, path: str, algorithm: str) -> str:
        return await self._again(lambda: self.inner.hash(path, algorithm))

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        return await self._again(lambda: self.inner.attributes(path))

    async def changes(self, cursor: str | None) -> Changes:
        return await self._again(lambda: self.inner.changes(cursor))

    async def _onwards(self, reading: _Reading, step: Callable[[], Awaitable[T]]) -> T:
        """``step``, which takes the next piece; as often as need be, behind what has arrived."""
        failures = 0
        while True:
            try:
                return await step()
            except StorageError as problem:
                if reading.done and reading.version is None:
                    raise  # the rest might be of another version
                failures += _weight(problem)
                await self._wait(failures, problem)
            await self._again(reading.open)

    async def _again(self, ask: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await ask()
            except StorageError as problem:
                failures += _weight(problem)
                await self._wait(failures, problem)

    async def _wait(self, failures: int, problem: StorageError) -> None:
        """Wait before the next try, or raise ``problem`` where there is none."""
        if not problem.retriable or isinstance(problem, NoSpace | Quota) or failures >= self._patience.tries:
            raise problem
        log.info("%s: tried again after: %s", self.identity, problem)
        await trio.sleep(self._patience.delay(failures))


@final
class _Reading:
    """The pieces of a read that can be opened again behind what has arrived."""

    def __init__(self, guard: Guard, path: str, span: Span, version: Version | None, held: AsyncExitStack) -> None:
        self.version = version
        self.done = 0
        self._guard = guard
        self._path = path
        self._span = span
        self._held = held
        self._pieces: AsyncIterator[bytes]

    async def open(self) -> None:
        """Open what is missing; a failed transfer before is let go of first."""
        await self._held.aclose()
        rest = Span(self._span.start + self.done, self._span.stop)
        self._pieces = await self._held.enter_async_context(self._guard.inner.read(self._path, rest, self.version))

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._guard._onwards(self, lambda: anext(self._pieces))
        self.done += len(piece)
        return piece

    async def spliced(self) -> Pipe | None:
        """The next piece, left in the kernel, where that can be."""
        piece = await self._guard._onwards(self, lambda: spliced(self._pieces))
        if piece is not None:
            self.done += len(piece)
        return piece


def _weight(problem: StorageError) -> int:
    """Waiting in vain counts twice: it took its full time already, and a second time only helps against a
    connection that had died unseen."""
    return 2 if isinstance(problem, TimedOut) else 1

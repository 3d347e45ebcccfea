"""A whole tree, listed over all connections at once: FTP has no command for that.

The listing runs in a task of its own, outside its reader's: a reader may stop at any entry, and an async generator must
not hold a nursery open across a ``yield``. What is found is handed over in batches through a bounded channel; a
folder is listed whole before its batch is handed over, so that a listing that breaks off half-way can be asked again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import final

import trio

from ...errors import NotFound, StorageError, TooLarge
from ..guard import Patience
from ..paths import join
from ..protocol import Entry, Kind

AHEAD = 32
"""Batches that may wait for the reader."""
DEEPEST = 4096
"""Characters in a path; servers show links to folders as folders."""
Batch = tuple[str, list[Entry]]


@final
class Walk:
    """One walk below ``top``; `entries` may be read once."""

    def __init__(
        self, listing: Callable[[str], AsyncGenerator[list[Entry], None]], top: str, workers: int, patience: Patience
    ) -> None:
        self._listing = listing
        self._top = top
        self._workers = workers
        self._patience = patience
        self._waiting = [top]
        self._more = trio.Event()
        """Set, and replaced, when there is more to do, or nothing any more."""
        self._unfinished = 1
        self._scope = trio.CancelScope()
        self._problem: Exception | None = None
        self._sink, self._source = trio.open_memory_channel[Batch](AHEAD)

    async def entries(self) -> AsyncGenerator[tuple[str, Entry], None]:
        """Everything, as (path of its folder, entry). Close it with ``aclosing``."""
        ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, ended)
        try:
            async with self._source:
                async for directory, found in self._source:
                    for entry in found:
                        yield directory, entry
            if self._problem is not None:
                raise self._problem
        finally:
            self._scope.cancel()
            with trio.CancelScope(shield=True):
                await ended.wait()

    async def _run(self, ended: trio.Event) -> None:
        try:
            with self._scope, self._sink:
                async with trio.open_nursery() as nursery:
                    for _ in range(self._workers):
                        nursery.start_soon(self._work)
        finally:
            ended.set()

    async def _work(self) -> None:
        while True:
            while not self._waiting and self._unfinished:
                await self._more.wait()
            if not self._unfinished:
                return
            directory = self._waiting.pop()
            try:
                if len(directory) > DEEPEST:
                    raise TooLarge(directory[:80] + "…", "folders without an end; does a link lead in a circle?")
                found = await self._again(lambda d=directory: self._whole(d))  # type: ignore[misc]
            except NotFound as problem:
                if directory == self._top:
                    self._fail(problem)
                    return
                found = []  # removed since its own folder was listed
            except Exception as problem:
                self._fail(problem)
                return
            with suppress(trio.BrokenResourceError):  # the reader has left
                await self._sink.send((directory, found))
            folders = [join(directory, entry.name) for entry in found if entry.kind is Kind.DIRECTORY]
            self._waiting += folders
            self._unfinished += len(folders) - 1
            if folders or not self._unfinished:
                more, self._more = self._more, trio.Event()
                more.set()

    async def _whole(self, directory: str) -> list[Entry]:
        async with aclosing(self._listing(directory)) as batches:
            return [entry async for batch in batches for entry in batch]

    async def _again(self, ask: Callable[[], Awaitable[list[Entry]]]) -> list[Entry]:
        failures = 0
        while True:
            try:
                return await ask()
            except StorageError as problem:
                failures += 1
                if not problem.retriable or failures >= self._patience.tries:
                    raise
                await trio.sleep(self._patience.delay(failures))

    def _fail(self, problem: Exception) -> None:
        self._problem = self._problem or problem
        self._scope.cancel()

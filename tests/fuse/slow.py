"""A storage in memory that keeps callers waiting, as long as the test says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Entry, Span, Version


class Slow:
    """Reads of the paths in ``stuck``, and listings, wait for their event; everything else is Memory's."""

    def __init__(self) -> None:
        self.inner = Memory()
        self.stuck: dict[str, trio.Event] = {}
        self.reading: list[str] = []
        """Paths whose reads have come as far as here."""
        self.together = 1
        """Listings wait until so many of them are waiting."""
        self._listings = 0
        self._enough = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        self.reading.append(path)
        if path in self.stuck:
            await self.stuck[path].wait()
        async with self.inner.read(path, span, version) as body:
            yield body

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        if directory:
            self._listings += 1
            if self._listings >= self.together:
                self._enough.set()
            with trio.fail_after(20):
                await self._enough.wait()
        async with aclosing(self.inner.list(directory)) as listing:
            async for entry in listing:
                yield entry

"""A storage in memory that hangs or fails where a test wants it to, by the file's name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import trio

from mountcore.errors import Corrupt
from mountcore.remotes.around import Around
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Entry, Expect, Source, Version
from mountcore.spans import Span


class MoodyRemote(Around):
    """Reads of ``stalled…`` hang after the first 64 KiB, reads of ``broken…`` fail there, listing ``slow…`` hangs."""

    def __init__(self) -> None:
        super().__init__(Memory(""))
        self.hanging = 0

    @property
    def identity(self) -> str:
        return "moody-" + self.inner.identity

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        if directory.startswith("slow"):
            await self._hang()
        async for entry in self.inner.list(directory):
            yield entry

    async def _hang(self) -> None:
        self.hanging += 1
        try:
            await trio.sleep_forever()
        finally:
            self.hanging -= 1

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.inner.read(path, span, version) as pieces:
            yield self._pieces(path, span, pieces)

    async def _pieces(self, path: str, span: Span, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if path.startswith("broken") and span.start:
                raise Corrupt(path, "the storage is broken")
            if path.startswith(("stalled", "broken")):
                yield piece[: 64 << 10]
                if path.startswith("broken"):
                    raise Corrupt(path, "the storage is broken")
                await self._hang()
            else:
                yield piece

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        return await self.inner.put(path, source, expect=expect, mtime_ns=mtime_ns)


class Bytes:
    """Content to put."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]

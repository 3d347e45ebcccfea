"""A remote whose way to the storage can be replaced while it is in use: a new password, another port.

Used by the commands for what a configuration names, so that SIGHUP can read it again. It stays the same storage.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from typing import final

import trio

from .around import Around
from .protocol import Changes, Entry, Expect, Remote, Source, Span, Usage, Version

PATIENCE = 60.0
"""Seconds that calls which run through the old way may go on."""


@final
class Replaceable(Around):
    """Calls that run go on through the old way, new ones take the new one; the old one is closed when it is idle."""

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self._calls: dict[int, int] = {}
        self._idle = trio.Event()
        self._closed = False

    async def replace(self, inner: Remote) -> None:
        """Go on through ``inner``, which must have the same identity; returns when the old one is closed."""
        assert inner.identity == self.inner.identity
        if self._closed:
            await inner.aclose()
            return
        old, self.inner = self.inner, inner
        with trio.move_on_after(PATIENCE):
            while self._calls.get(id(old)):
                self._idle = trio.Event()
                await self._idle.wait()
        await old.aclose()

    async def aclose(self) -> None:
        self._closed = True
        await self.inner.aclose()

    @contextmanager
    def _in_use(self) -> Iterator[Remote]:
        inner = self.inner
        self._calls[id(inner)] = self._calls.get(id(inner), 0) + 1
        try:
            yield inner
        finally:
            self._calls[id(inner)] -= 1
            if not self._calls[id(inner)]:
                del self._calls[id(inner)]
                self._idle.set()

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        with self._in_use() as inner:
            async with aclosing(inner.list(directory)) as entries:  # type: ignore[type-var]
                async for entry in entries:
                    yield entry

    async def list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        with self._in_use() as inner:
            async with aclosing(inner.list_tree(directory)) as entries:  # type: ignore[type-var]
                async for pair in entries:
                    yield pair

    def read(self, path: str, span: Span, version: Version | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._read(path, span, version)

    @asynccontextmanager
    async def _read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        with self._in_use() as inner:
            async with inner.read(path, span, version) as body:
                yield body

    async def stat(self, path: str) -> Entry:
        with self._in_use() as inner:
            return await inner.stat(path)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        with self._in_use() as inner:
            return await inner.put(path, source, expect=expect, mtime_ns=mtime_ns)

    async def remove(self, path: str) -> None:
        with self._in_use() as inner:
            await inner.remove(path)

    async def mkdir(self, path: str) -> None:
        with self._in_use() as inner:
            await inner.mkdir(path)

    async def rmdir(self, path: str) -> None:
        with self._in_use() as inner:
            await inner.rmdir(path)

    async def rename(self, source: str, target: str) -> None:
        with self._in_use() as inner:
            await inner.rename(source, target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        with self._in_use() as inner:
            return await inner.set_mtime(path, mtime_ns)

    async def set_mode(self, path: str, mode: int) -> Entry:
        with self._in_use() as inner:
            return await inner.set_mode(path, mode)

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        with self._in_use() as inner:
            return await inner.set_owner(path, uid, gid)

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        with self._in_use() as inner:
            return await inner.set_atime(path, atime_ns)

    async def symlink(self, path: str, target: str) -> Entry:
        with self._in_use() as inner:
            return await inner.symlink(path, target)

    async def hard_link(self, source: str, target: str) -> Entry:
        with self._in_use() as inner:
            return await inner.hard_link(source, target)

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        with self._in_use() as inner:
            return await inner.attributes(path)

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        with self._in_use() as inner:
            await inner.set_attribute(path, name, value)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        with self._in_use() as inner:
            return await inner.copy(source, target, expect=expect)

    async def hash(self, path: str, algorithm: str) -> str:
        with self._in_use() as inner:
            return await inner.hash(path, algorithm)

    async def changes(self, cursor: str | None) -> Changes:
        with self._in_use() as inner:
            return await inner.changes(cursor)

    async def public_link(self, path: str, lifetime: float | None) -> str:
        with self._in_use() as inner:
            return await inner.public_link(path, lifetime)

    async def usage(self) -> Usage:
        with self._in_use() as inner:
            return await inner.usage()

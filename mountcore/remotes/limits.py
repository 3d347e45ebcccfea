"""Limits on what a remote may be asked: bytes per second and requests per second. A remote around a remote.

Used by the service, where ``--bwlimit`` or ``--tpslimit`` is set. Bytes are counted where they cross: pieces
of a read as they arrive, bytes of an upload as the adapter takes them from its source (in the adapter's
thread, which is held back there).
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

import trio

from .around import Around
from .protocol import Changes, Entry, Expect, Remote, Source, Span, Usage, Version, stamp_of


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes per second up and down, requests per second; None is no limit."""

    upload: int | None = None
    download: int | None = None
    requests: float | None = None

    def __bool__(self) -> bool:
        return not (self.upload is None and self.download is None and self.requests is None)


@final
class Meter:
    """Says how long to wait so that a rate is kept. Thread-safe; allows a burst of a quarter of a second."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: float) -> float:
        """Count ``count`` units; answers the seconds to wait before going on."""
        if self.rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.25) + count / self.rate
            return max(0.0, self._free_at - now)


@final
class _MeteredSource:
    def __init__(self, source: Source, meter: Meter) -> None:
        self._source = source
        self._meter = meter

    @property
    def size(self) -> int:
        return self._source.size

    @property
    def stamp(self) -> str:
        return stamp_of(self._source)

    def pread(self, length: int, offset: int) -> bytes:
        data = self._source.pread(length, offset)
        time.sleep(self._meter.take(len(data)))
        return data


def unmetered(source: Source) -> Source:
    """The source without a limit: for reading that sends nothing, like computing a hash first."""
    return source._source if isinstance(source, _MeteredSource) else source


@final
class LimitedRemote(Around):
    """A remote that keeps within its limits. See :class:`~mountcore.remotes.protocol.Remote`."""

    def __init__(self, inner: Remote, limits: Limits) -> None:
        super().__init__(inner)
        self._up, self._down = Meter(limits.upload), Meter(limits.download)
        self._requests = Meter(limits.requests)

    async def _request(self) -> None:
        await trio.sleep(self._requests.take(1))

    async def list(self, directory: str) -> AsyncIterator[Entry]:
        await self._request()
        async for entry in self.inner.list(directory):
            yield entry

    async def stat(self, path: str) -> Entry:
        await self._request()
        return await self.inner.stat(path)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._request()
        async with self.inner.read(path, span, version) as body:
            yield self._metered(body)

    async def _metered(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            await trio.sleep(self._down.take(len(piece)))
            yield piece

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        await self._request()
        return await self.inner.put(path, _MeteredSource(source, self._up), expect=expect, mtime_ns=mtime_ns)

    async def remove(self, path: str) -> None:
        await self._request()
        await self.inner.remove(path)

    async def mkdir(self, path: str) -> None:
        await self._request()
        await self.inner.mkdir(path)

    async def rmdir(self, path: str) -> None:
        await self._request()
        await self.inner.rmdir(path)

    async def rename(self, source: str, target: str) -> None:
        await self._request()
        await self.inner.rename(source, target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        await self._request()
        return await self.inner.set_mtime(path, mtime_ns)

    async def symlink(self, path: str, target: str) -> Entry:
        await self._request()
        return await self.inner.symlink(path, target)

    async def set_mode(self, path: str, mode: int) -> Entry:
        await self._request()
        return await self.inner.set_mode(path, mode)

    async def usage(self) -> Usage:
        await self._request()
        return await self.inner.usage()

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        await self._request()
        return await self.inner.set_owner(path, uid, gid)

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        await self._request()
        return await self.inner.set_atime(path, atime_ns)

    async def hard_link(self, source: str, target: str) -> Entry:
        await self._request()
        return await self.inner.hard_link(source, target)

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        await self._request()
        return await self.inner.attributes(path)

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        await self._request()
        await self.inner.set_attribute(path, name, value)

    async def append(self, path: str, data: bytes) -> None:
        await self._request()
        await self.inner.append(path, data)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        await self._request()
        return await self.inner.copy(source, target, expect=expect)

    async def hash(self, path: str, algorithm: str) -> str:
        await self._request()
        return await self.inner.hash(path, algorithm)

    async def list_tree(self, directory: str) -> AsyncIterator[tuple[str, Entry]]:
        await self._request()
        async for found in self.inner.list_tree(directory):
            yield found

    async def changes(self, cursor: str | None) -> Changes:
        await self._request()
        return await self.inner.changes(cursor)

    async def public_link(self, path: str, lifetime: float | None) -> str:
        await self._request()
        return await self.inner.public_link(path, lifetime)

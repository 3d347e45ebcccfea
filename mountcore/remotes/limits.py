"""Limits on what a remote may be asked: bytes per second and requests per second. A remote around a remote.

Used by the service, where ``--bwlimit`` or ``--tpslimit`` is set. Bytes are counted where they cross: pieces
of a read as they arrive, bytes of an upload as the adapter takes them from its source (in the adapter's
thread, which is held back there).
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

import trio

from .protocol import Capabilities, Entry, Expect, Remote, Source, Span, Usage, Version


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
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: float) -> float:
        """Count ``count`` units; answers the seconds to wait before going on."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.25) + count / self._rate
            return max(0.0, self._free_at - now)


@final
class _MeteredSource:
    def __init__(self, source: Source, meter: Meter) -> None:
        self._source = source
        self._meter = meter

    @property
    def size(self) -> int:
        return self._source.size

    def pread(self, length: int, offset: int) -> bytes:
        data = self._source.pread(length, offset)
        time.sleep(self._meter.take(len(data)))
        return data


@final
class LimitedRemote:
    """A remote that keeps within its limits. See :class:`~mountcore.remotes.protocol.Remote`."""

    def __init__(self, inner: Remote, limits: Limits) -> None:
        self._inner = inner
        self._up, self._down = Meter(limits.upload), Meter(limits.download)
        self._requests = Meter(limits.requests)

    @property
    def identity(self) -> str:
        return self._inner.identity

    @property
    def caps(self) -> Capabilities:
        return self._inner.caps

    async def _request(self) -> None:
        await trio.sleep(self._requests.take(1))

    async def list(self, directory: str) -> AsyncIterator[Entry]:
        await self._request()
        async for entry in self._inner.list(directory):
            yield entry

    async def stat(self, path: str) -> Entry:
        await self._request()
        return await self._inner.stat(path)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._request()
        async with self._inner.read(path, span, version) as body:
            yield self._metered(body)

    async def _metered(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            await trio.sleep(self._down.take(len(piece)))
            yield piece

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        await self._request()
        return await self._inner.put(path, _MeteredSource(source, self._up), expect=expect, mtime_ns=mtime_ns)

    async def remove(self, path: str) -> None:
        await self._request()
        await self._inner.remove(path)

    async def mkdir(self, path: str) -> None:
        await self._request()
        await self._inner.mkdir(path)

    async def rmdir(self, path: str) -> None:
        await self._request()
        await self._inner.rmdir(path)

    async def rename(self, source: str, target: str) -> None:
        await self._request()
        await self._inner.rename(source, target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        await self._request()
        return await self._inner.set_mtime(path, mtime_ns)

    async def symlink(self, path: str, target: str) -> Entry:
        await self._request()
        return await self._inner.symlink(path, target)

    async def set_mode(self, path: str, mode: int) -> Entry:
        await self._request()
        return await self._inner.set_mode(path, mode)

    async def usage(self) -> Usage:
        await self._request()
        return await self._inner.usage()

    async def aclose(self) -> None:
        await self._inner.aclose()

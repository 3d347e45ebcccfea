"""A remote around a remote: hands everything on. What stands around one inherits and changes what it is about.

Used by :mod:`.guard` (patience), :mod:`.limits` (rates) and whatever wraps a storage; so a method that is added
to the port is handed on by all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

from .protocol import Capabilities, Changes, Entry, Expect, Remote, Source, Span, Usage, Version


class Around(Remote):
    """Hands every call on to ``inner``. See :class:`~mountcore.remotes.protocol.Remote`."""

    def __init__(self, inner: Remote) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return repr(self.inner)

    @property
    def identity(self) -> str:
        return self.inner.identity

    @property
    def caps(self) -> Capabilities:
        return self.inner.caps

    def list(self, directory: str) -> AsyncIterator[Entry]:
        return self.inner.list(directory)

    async def stat(self, path: str) -> Entry:
        return await self.inner.stat(path)

    def read(self, path: str, span: Span, version: Version | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.inner.read(path, span, version)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        return await self.inner.put(path, source, expect=expect, mtime_ns=mtime_ns)

    async def remove(self, path: str) -> None:
        await self.inner.remove(path)

    async def mkdir(self, path: str) -> None:
        await self.inner.mkdir(path)

    async def rmdir(self, path: str) -> None:
        await self.inner.rmdir(path)

    async def rename(self, source: str, target: str) -> None:
        await self.inner.rename(source, target)

    def check_name(self, path: str) -> None:
        self.inner.check_name(path)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        return await self.inner.set_mtime(path, mtime_ns)

    async def symlink(self, path: str, target: str) -> Entry:
        return await self.inner.symlink(path, target)

    async def set_mode(self, path: str, mode: int) -> Entry:
        return await self.inner.set_mode(path, mode)

    async def usage(self) -> Usage:
        return await self.inner.usage()

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        return await self.inner.set_owner(path, uid, gid)

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        return await self.inner.set_atime(path, atime_ns)

    async def hard_link(self, source: str, target: str) -> Entry:
        return await self.inner.hard_link(source, target)

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        return await self.inner.attributes(path)

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        await self.inner.set_attribute(path, name, value)

    async def append(self, path: str, data: bytes) -> None:
        await self.inner.append(path, data)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        return await self.inner.copy(source, target, expect=expect)

    async def hash(self, path: str, algorithm: str) -> str:
        return await self.inner.hash(path, algorithm)

    def list_tree(self, directory: str) -> AsyncIterator[tuple[str, Entry]]:
        return self.inner.list_tree(directory)

    async def changes(self, cursor: str | None) -> Changes:
        return await self.inner.changes(cursor)

    async def public_link(self, path: str, lifetime: float | None) -> str:
        return await self.inner.public_link(path, lifetime)

    async def aclose(self) -> None:
        await self.inner.aclose()

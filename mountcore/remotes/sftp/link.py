"""One SSH connection with its SFTP session: requests, bounded in time, errors in our terms. On the asyncio loop.

A request without an answer in time closes the link: what the server would still say belongs to nobody. Everything
else that waits on it then fails with ``Unreachable``.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import TypeVar, final

import asyncssh

from ... import errors
from ...errors import Corrupt, Denied, StorageError, TimedOut, Unreachable, Unsupported
from .options import SftpOptions

T = TypeVar("T")
_BY_KIND: tuple[tuple[type[asyncssh.SFTPError], type[StorageError]], ...] = (
    (asyncssh.SFTPNoSuchFile, errors.NotFound),
    (asyncssh.SFTPNoSuchPath, errors.NotFound),
    (asyncssh.SFTPPermissionDenied, Denied),
    (asyncssh.SFTPCannotDelete, Denied),
    (asyncssh.SFTPWriteProtect, errors.ReadOnly),
    (asyncssh.SFTPConnectionLost, Unreachable),
    (asyncssh.SFTPNoConnection, Unreachable),
    (asyncssh.SFTPOpUnsupported, Unsupported),
    (asyncssh.SFTPFileAlreadyExists, errors.Exists),
    (asyncssh.SFTPNoSpaceOnFilesystem, errors.NoSpace),
    (asyncssh.SFTPQuotaExceeded, errors.Quota),
    (asyncssh.SFTPDirNotEmpty, errors.NotEmpty),
    (asyncssh.SFTPNotADirectory, errors.NotDirectory),
    (asyncssh.SFTPFileIsADirectory, errors.IsDirectory),
    (asyncssh.SFTPInvalidFilename, errors.InvalidName),
    (asyncssh.SFTPLinkLoop, errors.InvalidName),
)
_BY_WORDS: dict[str, type[StorageError]] = {
    os.strerror(kind.code).lower(): kind
    for kind in (
        errors.NotFound, errors.Exists, errors.NotDirectory, errors.IsDirectory, errors.NotEmpty, errors.ReadOnly,
        errors.NameTooLong, errors.CrossDevice, errors.Busy, errors.NoSpace, errors.Quota, errors.TooLarge,
    )
} | {os.strerror(errno.EPERM).lower(): Denied}  # fmt: skip
"""Some servers say in words what version 3 has no code for."""
REMOVE_WITHIN = 5.0
"""Seconds that taking back an abandoned handle may take."""


@final
class Failed(StorageError):
    """The server said only "failure", or what amounts to it; who asked finds out why."""


@final
class Link:
    """One connection. ``load`` and ``used_at`` are the pool's."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, options: SftpOptions
    ) -> None:
        self.connection = connection
        self.sftp = sftp
        self.load = 0
        self.used_at = asyncio.get_running_loop().time()
        self.heard_at = self.used_at
        self._options = options
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether new requests may be sent."""
        return not self._closed

    def lose(self) -> None:
        """The connection has ended."""
        self._closed = True

    def abort(self) -> None:
        """Close at once; what waits fails."""
        self._closed = True
        self.connection.abort()

    async def ask(self, path: str, request: Awaitable[T], within: float | None = None) -> T:
        """The answer to a request; raises StorageError about ``path``."""
        if self._closed:
            if asyncio.iscoroutine(request):
                request.close()
            raise Unreachable(path, f"the connection to {self._options.address} has ended")
        try:
            async with asyncio.timeout(within or self._options.timeout):
                answer = await request
        except TimeoutError:
            self.abort()
            raise TimedOut(path, f"{self._options.address} does not answer") from None
        except asyncssh.SFTPError as problem:
            self.heard_at = asyncio.get_running_loop().time()
            raise self._translated(path, problem) from None
        except asyncssh.Error as problem:
            self.lose()
            raise Unreachable(path, f"{self._options.address}: {problem.reason}") from None
        except OSError as problem:
            self.lose()
            raise Unreachable(path, f"{self._options.address}: {problem.strerror or problem}") from None
        self.heard_at = asyncio.get_running_loop().time()
        return answer

    def _translated(self, path: str, problem: asyncssh.SFTPError) -> StorageError:
        for kind, ours in _BY_KIND:
            if isinstance(problem, kind):
                if ours is Unreachable:
                    self.lose()
                    return Unreachable(path, f"{self._options.address}: {problem.reason}")
                return ours(path, "" if ours is errors.NotFound else problem.reason)
        if isinstance(problem, asyncssh.SFTPBadMessage) and problem.reason in ("Max packet size exceeded",):
            self.abort()
            return Corrupt(path, f"{self._options.address}: {problem.reason}")
        words = problem.reason.lower()
        for said, ours in _BY_WORDS.items():
            if said in words:
                return ours(path, problem.reason)
        return Failed(path, f"the server says: {problem.reason or 'failure'}")

    async def open(self, path: str, wire: bytes, flags: int, attrs: asyncssh.SFTPAttrs | None = None) -> File:
        """A file handle; given back if the caller is cancelled while it is on its way."""
        asked = asyncio.ensure_future(
            self.sftp.open(wire, flags, attrs or asyncssh.SFTPAttrs(), encoding=None, block_size=0)
        )
        try:
            return File(self, path, await self.ask(path, asyncio.shield(asked)))
        except asyncio.CancelledError:
            asked.add_done_callback(_give_back)
            raise

    async def scan(self, path: str, wire: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """A directory's names with their attributes; close it with ``aclosing``."""
        names = self.sftp.scandir(wire)
        try:
            while True:
                try:
                    yield await self.ask(path, anext(names))
                except StopAsyncIteration:
                    return
        finally:
            with suppress(TimeoutError, asyncssh.Error, OSError):
                async with asyncio.timeout(REMOVE_WITHIN):
                    await names.aclose()  # type: ignore[attr-defined]


_abandoned: set[asyncio.Task[None]] = set()


def _give_back(asked: asyncio.Future[asyncssh.SFTPClientFile]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        task = asyncio.ensure_future(_closed(asked.result()))
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)


async def _closed(file: asyncssh.SFTPClientFile) -> None:
    with suppress(TimeoutError, asyncssh.Error, OSError):
        async with asyncio.timeout(REMOVE_WITHIN):
            await file.close()


@final
class File:
    """An open file on a link."""

    def __init__(self, link: Link, path: str, file: asyncssh.SFTPClientFile) -> None:
        self.link = link
        self.path = path
        self.handle = file

    async def attributes(self) -> asyncssh.SFTPAttrs:
        """Kind, size, time, mode of what was opened."""
        return await self.link.ask(self.path, self.handle.stat())

    async def read(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes, b"" only at the end."""
        data: bytes = await self.link.ask(self.path, self.handle.read(length, offset))
        return data

    async def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of it."""
        await self.link.ask(self.path, self.handle.write(data, offset))  # type: ignore[type-var]

    async def close(self) -> None:
        """Close it; the server may say only now that something was not written."""
        await self.link.ask(self.path, self.handle.close())

    async def drop(self) -> None:
        """Close it, whatever the server says; bounded."""
        if self.link.usable:
            await _closed(self.handle)

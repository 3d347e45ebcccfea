"""SFTP as a remote: the port on top of a pool of links. The trio side.

Root: "" is the directory where the login ends up, ``a/b`` lies in it, ``/a/b`` is absolute, as in rclone.
"""

from __future__ import annotations

import asyncio
import posixpath
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar, final

import asyncssh
import trio

from ...errors import (
    Corrupt,
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotFound,
    Refused,
    Stale,
    StorageError,
    Unsupported,
)
from ..guard import Guard
from ..loop import LoopThread
from ..partials import is_abandoned, is_ours
from ..paths import basename, check_lengths, check_path, is_below, join, parent
from ..protocol import ANYTHING, Capabilities, Entry, Expect, Kind, Remote, RenameScope, Source, Span, Usage, Version
from . import shell, store
from .dial import Dialer
from .link import Failed, File, Link
from .names import SECOND, Names, kind_of, seconds
from .options import SftpOptions, parse
from .pool import Facts, Pool
from .transfer import Download, keep, settled
from .wire import GatheringLoop

T = TypeVar("T")
BATCH = 500
"""Entries of a listing for each hop between the threads."""
CLEANUP = 5.0


def open(options: dict[str, str], root: str) -> Guard:
    """An SFTP server as storage; no network yet. Raises :class:`Refused` for options that make no sense."""
    return Guard(SftpRemote(parse(options), root))


@final
class SftpRemote(Remote):
    """SFTP as storage; see the package."""

    def __init__(self, options: SftpOptions, root: str = "") -> None:
        absolute = "/" if root.startswith("/") else ""
        relative = posixpath.normpath(root.strip("/") or ".")
        relative = "" if relative == "." else relative
        if "\0" in root or relative.split("/")[0] == "..":
            raise Refused(f"sftp: {root!r} cannot be a root: it leaves the login directory, or has a NUL in it")
        self._root = absolute + relative
        self._options = options
        self._names = Names(self._root, options)
        self._loop = LoopThread(f"sftp-{options.host}", make=GatheringLoop)
        self._pool = Pool(options, Dialer(options))
        self._slots = trio.Semaphore(self._parallelism)
        self._abandoned: dict[str, set[str]] = {}
        self._access_times = True

    def __repr__(self) -> str:
        return f"<SftpRemote {self.identity}>"

    @property
    def _parallelism(self) -> int:
        return max(8, 2 * self._options.connections)

    @property
    def identity(self) -> str:
        return self._options.identity(self._root)

    @property
    def caps(self) -> Capabilities:
        facts = self._pool.facts or Facts()
        return Capabilities(
            rename=RenameScope.TREE,
            rename_replaces=facts.replaces,
            set_mtime=self._options.set_mtime,
            directory_times=self._options.set_mtime,
            mtime_resolution_ns=SECOND,
            atomic_put=facts.replaces,
            symlinks=not self._options.skip_links,
            hard_links=facts.hard_links,
            modes=True,
            owners=self._options.owners,
            access_times=self._options.set_mtime and self._access_times,
            hashes=frozenset(facts.hashes),
            copy=facts.copies,
            usage=facts.usage,
            parallelism=self._parallelism,
        )

    def check_name(self, path: str) -> None:
        check_lengths(path, self._names.wire(check_path(path)))

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        check_path(directory)
        listing = _Listing(self._pool, self._names, directory)
        now = time.time_ns()
        try:
            while batch := await self._on_loop(directory, listing.next):
                for entry in batch:
                    if is_ours(entry.name):
                        self._note_abandoned(directory, entry, now)
                    else:
                        yield entry
        finally:
            await self._tidy(listing.close)

    async def stat(self, path: str) -> Entry:
        return await self._call(path, lambda link: self._names.stat(link, path))

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        check_path(path)
        reading = _Reading(self._pool, self._names, self._options, path, span, version)
        try:
            first = await self._on_loop(path, reading.start)
            yield self._pieces(path, reading, first)
        finally:
            if not reading.closed:
                await self._tidy(reading.close)

    async def _pieces(self, path: str, reading: _Reading, pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
        while pieces:
            for piece in pieces:
                yield piece
            pieces = [] if reading.closed else await self._on_loop(path, reading.next)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        self._changeable(path)
        await self._sweep(parent(path))

        async def run(storing: store.Storing, link: Link) -> Entry:
            return await storing.put(link, source, mtime_ns, self._loop.in_thread)

        return await self._store(path, expect, run)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        check_path(source)
        self._changeable(target)
        await self._sweep(parent(target))

        async def run(storing: store.Storing, link: Link) -> Entry:
            if self._pool.facts is None or not self._pool.facts.copies:
                raise Unsupported(target, "the server does not copy by itself")
            if (await self._names.stat(link, source)).kind is Kind.DIRECTORY:
                raise IsDirectory(source)
            return await storing.copy(link, source)

        return await self._store(target, expect, run)

    async def _store(self, path: str, expect: Expect, run: Callable[[store.Storing, Link], Awaitable[Entry]]) -> Entry:
        def leftover(name: str) -> None:
            self._abandoned.setdefault(parent(path), set()).add(name)

        async def work(link: Link) -> Entry:
            replaces = self._pool.facts is not None and self._pool.facts.replaces
            return await run(store.Storing(self._names, self._options, path, expect, leftover, replaces), link)

        try:
            return await self._call(path, work)
        except store.AnswerLost as lost:
            problem = lost
        return await self._call(path, lambda link: store.settle(self._names, link, path, problem))

    async def remove(self, path: str) -> None:
        self._changeable(path)
        await self._call(path, lambda link: self._names.remove(link, path))

    async def mkdir(self, path: str) -> None:
        if not check_path(path):
            raise Exists(path)
        await self._call(path, lambda link: self._names.mkdir(link, path))

    async def rmdir(self, path: str) -> None:
        self._changeable(path)
        await self._sweep(path)
        await self._call(path, lambda link: self._names.rmdir(link, path))

    async def rename(self, source: str, target: str) -> None:
        self._changeable(source)
        self._changeable(target)

        async def run(link: Link) -> None:
            if is_below(target, source):
                await self._names.stat(link, source)
                if source == target:
                    return
                raise InvalidName(target, "a directory cannot be moved into itself")
            replaces = self._pool.facts is not None and self._pool.facts.replaces
            if self._names.careful(link):
                there = await self._names.find(link, target)
                if there is not None:
                    await self._names.refuse_replacing(link, source, target, there)
            await store.publish(self._names, link, source, target, ANYTHING, replaces)

        await self._call(target, run)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        if not self._options.set_mtime:
            raise Unsupported(path, "set_modtime is off")
        return await self._set(path, asyncssh.SFTPAttrs(atime=int(time.time()), mtime=seconds(mtime_ns)))

    async def set_mode(self, path: str, mode: int) -> Entry:
        return await self._set(path, asyncssh.SFTPAttrs(permissions=mode & 0o7777))

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        if not self._options.owners:
            raise Unsupported(path, "owners are not kept here (option owners)")

        async def run(link: Link) -> Entry:
            wire = self._names.wire(path)
            now = await link.ask(path, link.sftp.stat(wire))  # version 3 sets both or none
            both = asyncssh.SFTPAttrs(uid=now.uid if uid is None else uid, gid=now.gid if gid is None else gid)
            await link.ask(path, link.sftp.setstat(wire, both))
            return await self._names.stat(link, path)

        return await self._call(path, run)

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        if not self._options.set_mtime:
            raise Unsupported(path, "set_modtime is off")

        async def run(link: Link) -> Entry:
            wire = self._names.wire(path)
            now = await link.ask(path, link.sftp.stat(wire))  # version 3 sets both or none
            await link.ask(path, link.sftp.setstat(wire, asyncssh.SFTPAttrs(atime=seconds(atime_ns), mtime=now.mtime)))
            return await self._names.stat(link, path)

        stored = await self._call(path, run)
        if stored.atime_ns is not None and stored.atime_ns != seconds(atime_ns) * SECOND:
            self._access_times = False  # rclone's server says yes, and shows the other time
            raise Unsupported(path, "the server does not keep access times")
        return stored

    async def _set(self, path: str, attrs: asyncssh.SFTPAttrs) -> Entry:
        async def run(link: Link) -> Entry:
            await link.ask(path, link.sftp.setstat(self._names.wire(path), attrs))
            return await self._names.stat(link, path)

        return await self._call(path, run)

    async def symlink(self, path: str, target: str) -> Entry:
        self._changeable(path)
        return await self._call(path, lambda link: self._names.symlink(link, path, target))

    async def hard_link(self, source: str, target: str) -> Entry:
        self._changeable(target)
        check_path(source)
        return await self._call(target, lambda link: self._names.hard_link(link, source, target))

    async def usage(self) -> Usage:
        async def run(link: Link) -> Usage:
            room = await link.ask("", link.sftp.statvfs(self._names.wire("")))
            unit = room.frsize or room.bsize
            return Usage(room.blocks * unit, (room.blocks - room.bfree) * unit, room.bavail * unit)

        return await self._call("", run)

    async def hash(self, path: str, algorithm: str) -> str:
        async def run(link: Link) -> str:
            command = self._pool.facts.hashes.get(algorithm) if self._pool.facts else None
            if command is None:
                raise Unsupported(path, f"no {algorithm} here")
            if (await self._names.stat(link, path)).kind is Kind.DIRECTORY:
                raise IsDirectory(path)
            return await shell.digest(link.connection, command, path, self._names.wire(path), self._options)

        return await self._call(path, run)

    async def aclose(self) -> None:
        """Close all connections and the thread; what still runs fails."""
        if not self._loop.running:
            return
        with trio.CancelScope(shield=True):

            async def close() -> None:
                self._pool.close()

            await self._loop.call(close)
            await trio.to_thread.run_sync(self._loop.stop)

    # from trio to the loop

    async def _call(self, path: str, work: Callable[[Link], Awaitable[T]]) -> T:
        """Run something on a link."""
        check_path(path)

        async def run() -> T:
            async with self._pool.link() as link:
                return await work(link)

        async with self._slots:
            return await self._on_loop(path, run)

    async def _on_loop(self, path: str, make: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._loop.call(make)  # type: ignore[arg-type]
        except StorageError as problem:
            if isinstance(problem, Failed):
                raise StorageError(problem.path or path, problem.said) from problem
            if problem.path or not path:
                raise
            raise type(problem)(path, problem.said) from problem

    async def _tidy(self, make: Callable[[], Awaitable[None]]) -> None:
        """Let go of something, also when cancelled; bounded."""
        if self._loop.running:
            with trio.CancelScope(shield=True), suppress(StorageError, trio.ClosedResourceError):
                await self._loop.call(make)  # type: ignore[arg-type]

    def _changeable(self, path: str) -> None:
        if not check_path(path):
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")

    # what interrupted uploads left behind

    def _note_abandoned(self, directory: str, entry: Entry, now_ns: int) -> None:
        if entry.kind is Kind.FILE and is_abandoned(entry.name, entry.mtime_ns, now_ns):
            self._abandoned.setdefault(directory, set()).add(entry.name)

    async def _sweep(self, directory: str) -> None:
        """Delete old partials that a listing has shown; only calls that change the directory do so."""
        for name in self._abandoned.pop(directory, ()):
            try:
                await self.remove(join(directory, name))
            except NotFound:
                pass
            except StorageError:
                self._abandoned.setdefault(directory, set()).add(name)  # for the next time


@final
class _Listing:
    """A directory being read, batch by batch. On the loop."""

    def __init__(self, pool: Pool, names: Names, directory: str) -> None:
        self._pool = pool
        self._names = names
        self._directory = directory
        self._held = AsyncExitStack()
        self._link: Link | None = None
        self._found: AsyncGenerator[asyncssh.SFTPName, None]

    async def next(self) -> list[Entry]:
        """The next entries, with the targets of links; empty at the end only."""
        if self._link is None:
            self._link = await self._held.enter_async_context(self._pool.link())
            self._found = self._link.scan(self._directory, self._names.wire(self._directory))  # type: ignore[assignment]
            self._held.push_async_callback(self._found.aclose)
        batch: list[Entry] = []
        try:
            async for found in self._found:
                entry = await self._entry(self._link, found)
                if entry is not None:
                    batch.append(entry)
                    if len(batch) >= BATCH:
                        break
        except (NotFound, Failed):
            if (await self._names.stat(self._link, self._directory)).kind is not Kind.DIRECTORY:
                raise NotDirectory(self._directory) from None
            raise
        return batch

    async def _entry(self, link: Link, found: asyncssh.SFTPName) -> Entry | None:
        name = bytes(found.filename).decode("utf-8", "surrogateescape")  # type: ignore[arg-type]
        if name in (".", "..", "") or "/" in name or "\0" in name:
            return None
        longname = bytes(found.longname or b"").decode("utf-8", "replace")  # type: ignore[arg-type]
        target = ""
        if kind_of(found.attrs, longname) is Kind.SYMLINK:
            try:
                target = await self._names.target(link, join(self._directory, name))
            except NotFound:
                return None
        return self._names.entry(name, found.attrs, longname, target)

    async def close(self) -> None:
        await self._held.aclose()


@final
class _Reading:
    """A file being read. On the loop."""

    def __init__(
        self, pool: Pool, names: Names, options: SftpOptions, path: str, span: Span, version: Version | None
    ) -> None:
        self._pool = pool
        self._names = names
        self._options = options
        self._path = path
        self._span = span
        self._version = version
        self.closed = False
        """Nothing is held any more."""
        self._held = AsyncExitStack()
        self._download: Download | None = None
        self._expected = 0

    async def start(self) -> list[bytes]:
        """Open the file, look whether it is the right one; answers the first pieces."""
        link = await self._held.enter_async_context(self._pool.link())
        path, span, version = self._path, self._span, self._version
        try:
            file = await link.open(path, self._names.wire(path), asyncssh.FXF_READ)
        except (Failed, NotFound, Denied):
            if (await self._names.stat(link, path)).kind is Kind.DIRECTORY:
                raise IsDirectory(path) from None
            raise
        self._held.push_async_callback(file.drop)
        if version is not None:
            self._begin(file, min(span.stop, version.size))  # asked for along with the attributes
        attrs = await file.attributes()
        match kind_of(attrs, "-"):
            case Kind.DIRECTORY:
                raise IsDirectory(path)
            case None:
                raise InvalidName(path, "neither a file nor a directory")
        now = self._names.entry(basename(path), attrs, "-")
        if version is not None and now is not None and not now.version.matches(version):
            raise Stale(path, "the file has changed")
        if version is None:
            self._begin(file, span.stop if attrs.size is None else min(span.stop, attrs.size))
        else:
            self._expected = max(0, min(span.stop, version.size) - span.start)
        return await self.next()

    def _begin(self, file: File, stop: int) -> None:
        self._download = Download(file, self._span.start, stop, self._options)
        self._held.push_async_callback(self._download.cancel)
        self._download.begin()

    async def next(self) -> list[bytes]:
        """The next pieces; empty at the end."""
        assert self._download is not None
        pieces = await self._download.next()
        if not pieces and self._download.received < self._expected:
            missing = self._expected - self._download.received
            raise Corrupt(self._path, f"the file ended {missing} bytes too soon")
        if self._download.complete:
            await self.close()
        return pieces

    async def close(self) -> None:
        """Give back the file and the link; the server's answer to that is not waited for."""
        if not self.closed:
            self.closed = True
            keep(asyncio.ensure_future(settled(self._held.aclose(), CLEANUP)))

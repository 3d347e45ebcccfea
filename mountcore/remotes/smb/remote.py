"""SMB as a remote: the port on top of a link. Blocking calls run in worker threads, each wait in them bounded.

All calls share one connection. It is made when first needed, and made anew once for a call that finds the server has
forgotten it; when nobody has used it for a while it is closed.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, final

import trio
from smbprotocol.exceptions import SMBResponseException
from smbprotocol.open import CreateDisposition, Open, ShareAccess

from ...errors import (
    Busy,
    Corrupt,
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    NameTooLong,
    NotDirectory,
    NotEmpty,
    NotFound,
    Stale,
    StorageError,
)
from ..expecting import check_expected
from ..guard import Guard
from ..partials import ABANDONED_AFTER, LONGEST, is_abandonable, is_ours, partial_name
from ..paths import basename, check_path, is_below, join, parent
from ..protocol import (
    Absent,
    Capabilities,
    Entry,
    Expect,
    Kind,
    Remote,
    RenameScope,
    Source,
    Span,
    Usage,
    Version,
)
from .failures import GONE
from .keeper import Keeper
from .link import (
    DELETED,
    DIRECTORY_FILE,
    NO_DIRECTORY,
    PARALLEL,
    Access,
    Found,
    Link,
    renamed,
    times,
)
from .options import SmbOptions, parse
from .transfer import Download, send

T = TypeVar("T")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|\Z)", re.IGNORECASE)
RESOLUTION = 100
"""Nanoseconds: what a file time counts."""


def open(options: dict[str, str], root: str) -> Guard:
    """A share as storage; no network yet. Raises :class:`Refused` for options that make no sense."""
    return Guard(SmbRemote(parse(options, root)))


@final
class SmbRemote(Remote):
    """A share, or a folder of it; see the module."""

    def __init__(self, options: SmbOptions) -> None:
        self._options = options
        self._limit = trio.CapacityLimiter(PARALLEL)
        self._keeper = Keeper(options)
        self._downloads: set[Download] = set()
        self._abandoned: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<SmbRemote {self.identity}>"

    @property
    def identity(self) -> str:
        return self._options.identity

    @property
    def caps(self) -> Capabilities:
        return Capabilities(
            rename=RenameScope.TREE,
            rename_replaces=True,
            set_mtime=True,
            directory_times=True,
            mtime_resolution_ns=RESOLUTION,
            atomic_put=True,
            usage=True,
            case_insensitive=self._options.case_insensitive,
            parallelism=PARALLEL,
        )

    def check_name(self, path: str) -> None:
        self._new(path)

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        wire = self._wire(directory)

        def begin(link: Link) -> tuple[Link, Open]:
            return link, link.open(directory, wire, Access.FILE_READ_DATA, options=DIRECTORY_FILE)[0]

        link, file = await self._call(directory, begin)
        try:
            batches = link.scan(directory, file)
            while batch := await self._on(link, directory, lambda _: next(batches, None)):
                for found in batch:
                    name = self._options.encoding.decode(found.name)
                    if name is None:
                        continue
                    if not is_ours(name):
                        yield _entry(name, found)
                    elif is_abandonable(name) and time.time() - found.mtime_ns / 1e9 > ABANDONED_AFTER:
                        self._abandoned.setdefault(directory, set()).add(name)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(link.shut, directory, file)

    async def stat(self, path: str) -> Entry:
        wire = self._wire(path)
        found = await self._call(path, lambda link: link.look(path, wire), abandon=True)
        if not path and not found.directory:
            raise NotDirectory(path)
        return _entry(basename(path), found)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        wire = self._wire(path)

        def begin(link: Link) -> Download:
            file, found = link.open(path, wire, Access.FILE_READ_DATA, options=NO_DIRECTORY)
            if version is not None and not _entry("", found).version.matches(version):
                link.shut(path, file)
                raise Stale(path, "the file has changed")
            return Download(path, link, file, span, found.size)

        download = await self._call(path, begin)
        self._downloads.add(download)
        try:
            yield self._pieces(path, download)
        finally:
            self._downloads.discard(download)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(download.close)

    async def _pieces(self, path: str, download: Download) -> AsyncGenerator[bytes, None]:
        while piece := await self._on(None, path, lambda _: download.piece()):
            yield piece

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        self._not_root(path)
        wire = self._new(path)
        await self._sweep(parent(path))

        def store(link: Link) -> Found:
            self._check(link, path, expect)
            self._publish(link, path, source, expect, mtime_ns)
            return link.look(path, wire)

        found = await self._call(path, store)
        if found.directory or found.size != source.size:
            raise Corrupt(path, f"{found.size} bytes are stored of {source.size}")
        return _entry(basename(path), found)

    def _publish(self, link: Link, path: str, source: Source, expect: Expect, mtime_ns: int | None) -> None:
        """Write beside the target and rename over it, on the same handle: the server does that in one step."""
        partial = self._wire(join(parent(path), partial_name(basename(path))))
        access = Access.FILE_WRITE_DATA | Access.FILE_WRITE_ATTRIBUTES | Access.DELETE
        share = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_DELETE
        file, _ = link.open(
            path, partial, access, disposition=CreateDisposition.FILE_CREATE, options=NO_DIRECTORY, share=share
        )
        try:
            send(path, link, file, source)
            if mtime_ns is not None:
                link.change(path, file, *times(mtime_ns)[1:])
            link.flush(path, file)
            self._check(link, path, expect)
            self._let_go(path)
            try:
                link.change(path, file, *renamed(self._wire(path), expect is not Absent.ABSENT)[1:])
            except Exists:
                raise Stale(path, "the name is taken") from None
            except Denied:
                self._explain_denial(link, path)
                raise
        except BaseException:
            with suppress(StorageError):
                link.change(path, file, *DELETED[1:])
            raise
        finally:
            link.shut(path, file)

    async def remove(self, path: str) -> None:
        self._not_root(path)
        wire = self._wire(path)

        def delete(link: Link) -> None:
            self._let_go(path)
            link.once(path, wire, Access.DELETE, DELETED, options=NO_DIRECTORY)

        await self._call(path, delete)

    async def mkdir(self, path: str) -> None:
        if not path:
            raise Exists(path)
        wire, made = self._new(path), CreateDisposition.FILE_CREATE
        await self._call(
            path,
            lambda link: link.once(path, wire, Access.FILE_READ_ATTRIBUTES, disposition=made, options=DIRECTORY_FILE),
        )

    async def rmdir(self, path: str) -> None:
        self._not_root(path)
        wire = self._wire(path)

        def drop(link: Link) -> None:
            link.once(path, wire, Access.DELETE, DELETED, options=DIRECTORY_FILE)

        try:
            await self._call(path, drop)
        except NotEmpty:
            async for _ in self.list(path):
                raise
            if not self._abandoned.get(path):
                raise
            await self._sweep(path)
            await self._call(path, drop)

    async def rename(self, source: str, target: str) -> None:
        self._not_root(source)
        self._not_root(target)
        old, new = self._wire(source), self._new(target)
        if source != target and is_below(target, source):
            raise InvalidName(target, "a directory cannot be moved into itself")

        def move(link: Link) -> None:
            moving = link.look(source, old)
            if source == target:
                return
            if old.lower() != new.lower():
                self._check_replacing(link, moving, target, new)
            self._let_go(target)
            if moving.directory:
                self._let_go(source)
            # a directory never replaces: the server would refuse, each in its own words
            step = renamed(new, not moving.directory)
            try:
                link.once(target, old, Access.DELETE, step)
            except Denied:
                self._explain_denial(link, target)
                raise

        await self._call(target, move)

    def _check_replacing(self, link: Link, moving: Found, target: str, wire: str) -> None:
        try:
            there = link.look(target, wire)
        except NotFound:
            return
        if there.directory:
            raise Exists(target) if moving.directory else IsDirectory(target)
        if moving.directory:
            raise NotDirectory(target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        wire = self._wire(path)

        def change(link: Link) -> Found:
            link.once(path, wire, Access.FILE_WRITE_ATTRIBUTES, times(mtime_ns))
            return link.look(path, wire)

        return _entry(basename(path), await self._call(path, change))

    async def usage(self) -> Usage:
        total, free = await self._call("", lambda link: link.room(self._wire("")), abandon=True)
        return Usage(total, total - free, free)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._keeper.close)

    # names

    def _wire(self, path: str) -> str:
        """The path in the share, with backslashes."""
        names = [part for part in self._options.root.split("/") if part]
        try:
            names += [self._options.encoding.encode(name) for name in check_path(path).split("/") if name]
            "".join(names).encode("utf-16-le")
        except (InvalidName, UnicodeEncodeError):
            check_path(path)
            raise InvalidName(
                path, "SMB cannot store this name: it is not UTF-8, or mixes ‛ with what it stands for"
            ) from None
        return "\\".join(names)

    def _new(self, path: str) -> str:
        """The path in the share, of what is to be made."""
        wire = self._wire(path)
        name = wire.rpartition("\\")[2]
        if len(name.encode()) > LONGEST:  # Samba's bound, which is the disk's below
            raise NameTooLong(path, f"SMB servers take names of {LONGEST} bytes, as they spell them")
        if _DEVICE.match(name):
            raise InvalidName(path, "the name of a device of DOS: servers show it under another name, or not at all")
        return wire

    def _not_root(self, path: str) -> None:
        if not path:
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")

    def _let_go(self, path: str) -> None:
        """Close what we read of ``path``, or below it; see :class:`Download`."""
        for download in tuple(self._downloads):
            if is_below(download.path.lower(), path.lower()):
                download.expire()

    def _explain_denial(self, link: Link, path: str) -> None:
        """``Busy`` where a file could not be replaced though this user may delete it: somebody has it open."""
        try:
            link.once(path, self._wire(path), Access.DELETE)
        except StorageError:
            return
        raise Busy(path, "somebody else has it open")

    def _check(self, link: Link, path: str, expect: Expect) -> None:
        try:
            now: Entry | None = _entry("", link.look(path, self._wire(path)))
        except NotFound:
            now = None
        check_expected(now, path, expect)

    async def _sweep(self, directory: str) -> None:
        """Delete old partials that a listing has shown."""
        for name in self._abandoned.pop(directory, ()):
            with suppress(NotFound, Denied):
                await self.remove(join(directory, name))

    # calls

    async def _call(self, path: str, ask: Callable[[Link], T], *, abandon: bool = False) -> T:
        """Ask on a link, and on a new one if the server has forgotten this one."""

        def run() -> T:
            link = self._keeper.link()
            try:
                return ask(link)
            except StorageError as problem:
                cause = problem.__cause__
                if not isinstance(cause, SMBResponseException) or cause.status not in GONE:
                    raise
                link.close()
            return ask(self._keeper.link())

        return await self._in_thread(path, run, abandon)

    async def _on(self, link: Link | None, path: str, ask: Callable[[Link | None], T]) -> T:
        return await self._in_thread(path, lambda: ask(link))

    async def _in_thread(self, path: str, run: Callable[[], T], abandon: bool = False) -> T:
        try:
            return await trio.to_thread.run_sync(run, limiter=self._limit, abandon_on_cancel=abandon)
        except StorageError as problem:
            if not problem.path and path:
                raise type(problem)(path, problem.said) from problem
            raise


def _entry(name: str, found: Found) -> Entry:
    kind = Kind.DIRECTORY if found.directory else Kind.FILE
    return Entry(name, kind, found.size, found.mtime_ns, RESOLUTION)

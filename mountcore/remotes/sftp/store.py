"""Storing a file so that nobody ever sees a part of it. On the asyncio loop.

| step | on the server | if it stops here |
|---|---|---|
| writes to a partial beside the target | partial grows, target untouched | partial deleted, now or when a day old |
| mode, time, fsync, size check | partial complete | the same |
| `expect` is looked at | - | `Stale`, partial deleted |
| posix-rename over the target | target is the new file | if the answer is lost, looking at both names tells |

A server without posix-rename@openssh.com gets the old file set aside first (``….previous``) and put back if the new
one cannot take its place; between the two renames the name is missing, so there `atomic_put` is False.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import final

import asyncssh

from ...errors import Corrupt, Exists, NoSpace, NotFound, Stale, StorageError, TimedOut, Unreachable
from ..expecting import check_expected
from ..partials import partial_name
from ..paths import basename, join, parent
from ..protocol import Absent, Entry, Expect, Kind, Source
from .link import Failed, File, Link
from .names import SECOND, Names, seconds
from .options import SftpOptions
from .transfer import InThread, gathered, settled, sync, upload

log = logging.getLogger(__name__)
EARLY_CHECK = 4 << 20
"""From this size on, `expect` is looked at before the upload too: it may save the whole transfer."""
CLEANUP = 5.0
COPY_PIECE = 64 << 20
"""Bytes copied at the server in one request: each is bounded by the timeout."""
NEW = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL


@final
class AnswerLost(Exception):
    """The connection broke after the rename was sent. Stays inside this package; `settle` finds out."""

    def __init__(self, partial: str, entry: Entry, problem: StorageError) -> None:
        super().__init__(str(problem))
        self.partial = partial
        self.entry = entry
        self.problem = problem


@final
class Storing:
    """One put or copy."""

    def __init__(
        self,
        names: Names,
        options: SftpOptions,
        path: str,
        expect: Expect,
        leftover: Callable[[str], None],
        replaces: bool,
    ) -> None:
        """``leftover`` is told the name of a partial that could not be deleted."""
        self._names = names
        self._options = options
        self._path = path
        self._expect = expect
        self._leftover = leftover
        self._replaces = replaces
        self._partial = join(parent(path), partial_name(basename(path)))

    async def put(self, link: Link, source: Source, mtime_ns: int | None, in_thread: InThread) -> Entry:
        """Store what ``source`` holds."""
        if source.size >= EARLY_CHECK:
            await self._check(link)

        async def fill(file: File) -> int:
            await upload(file, source, self._options, in_thread)
            return source.size

        return await self._store(link, fill, mtime_ns)

    async def copy(self, link: Link, source: str) -> Entry:
        """Store what another file at the server holds, with its time."""
        await self._check(link)
        original = await link.open(source, self._names.wire(source), asyncssh.FXF_READ)
        try:
            attrs = await original.attributes()
            size = attrs.size or 0

            async def fill(file: File) -> int:
                for offset in range(0, size, COPY_PIECE):
                    length = min(COPY_PIECE, size - offset)
                    copying = link.sftp.remote_copy(original.handle, file.handle, offset, length, offset)
                    await link.ask(self._path, copying)
                return size

            return await self._store(link, fill, None if attrs.mtime is None else attrs.mtime * SECOND)
        finally:
            await settled(original.drop(), CLEANUP)

    async def _store(self, link: Link, fill: Callable[[File], Awaitable[int]], mtime_ns: int | None) -> Entry:
        wire = self._names.wire(self._partial)
        try:
            file = await link.open(self._path, wire, NEW)
        except StorageError as problem:
            raise await self._names.why(link, self._path, problem, creating=True) from None
        try:
            try:
                size, entry = await self._filled(link, file, fill, mtime_ns)
            except BaseException:
                await settled(file.drop(), CLEANUP)
                raise
            _, before = await gathered(file.close(), self._check(link))
            entry = entry or await self._found(link, size)
            if before is not None and before.kind is Kind.FILE and before.mode not in (None, entry.mode):
                await link.ask(self._path, link.sftp.chmod(wire, before.mode))
            try:
                await publish(self._names, link, self._partial, self._path, self._expect, self._replaces)
            except (Unreachable, TimedOut) as problem:
                raise AnswerLost(self._partial, entry, problem) from problem
        except AnswerLost:
            raise
        except BaseException:
            if not await settled(self._removed(link), CLEANUP):
                self._leftover(basename(self._partial))
            raise
        return Entry(basename(self._path), Kind.FILE, entry.size, entry.mtime_ns, SECOND, mode=entry.mode)

    async def _filled(
        self, link: Link, file: File, fill: Callable[[File], Awaitable[int]], mtime_ns: int | None
    ) -> tuple[int, Entry | None]:
        """Bytes written, and what is there now; None if the server cannot say yet."""
        try:
            size = await fill(file)
            # sent together: a server works through requests about one handle in order
            *_, attrs = await gathered(self._set_time(link, file, mtime_ns), self._sync(file), file.attributes())
        except Failed as problem:
            raise await self._no_room(link, problem) from None
        except NotFound:
            return size, None  # rclone's server finds an open file by its name, once that has got around
        if attrs.size is not None and attrs.size != size:
            raise Corrupt(self._path, f"{size} bytes were sent and {attrs.size} arrived")
        entry = self._names.entry(basename(self._path), attrs, "-")
        return size, entry or Entry(basename(self._path), Kind.FILE, size)

    async def _found(self, link: Link, size: int) -> Entry:
        entry = await self._names.stat(link, self._partial)
        if entry.size != size:
            raise Corrupt(self._path, f"{size} bytes were sent and {entry.size} arrived")
        return entry

    async def _set_time(self, link: Link, file: File, mtime_ns: int | None) -> None:
        if mtime_ns is not None and self._options.set_mtime:
            times = asyncssh.SFTPAttrs(atime=int(time.time()), mtime=seconds(mtime_ns))
            await link.ask(self._path, file.handle.setstat(times))

    async def _sync(self, file: File) -> None:
        if self._options.sync:
            await sync(file)

    async def _no_room(self, link: Link, problem: Failed) -> StorageError:
        """A full disk is a "failure" like any other."""
        with suppress(StorageError):
            room = await link.ask(self._path, link.sftp.statvfs(self._names.wire(parent(self._path))))
            if not room.bavail or (room.files and not room.favail):
                return NoSpace(self._path, "the server's disk is full")
        return problem

    async def _removed(self, link: Link) -> bool:
        try:
            await link.ask(self._path, link.sftp.remove(self._names.wire(self._partial)))
        except NotFound:
            return True
        return True

    async def _check(self, link: Link) -> Entry | None:
        """What is there now; raises Stale where it is not what was expected."""
        now = await self._names.find(link, self._path)
        check_expected(now, self._path, self._expect)
        return now


async def publish(names: Names, link: Link, source: str, target: str, expect: Expect, replaces: bool) -> None:
    """Rename a file over a file, or where nothing may be."""
    old, new = names.wire(source), names.wire(target)
    if isinstance(expect, Absent):
        try:
            await link.ask(target, link.sftp.rename(old, new))  # version 3: fails if the name is taken
        except StorageError as problem:
            if isinstance(problem, Failed | Exists) and await names.find(link, target) is not None:
                raise Stale(target, "the name is taken") from None
            raise await names.explain_rename(link, source, target, problem) from None
        return
    if replaces:
        try:
            await link.ask(target, link.sftp.posix_rename(old, new))
        except (Unreachable, TimedOut):
            raise
        except StorageError as problem:
            raise await names.explain_rename(link, source, target, problem) from None
        return
    try:
        await link.ask(target, link.sftp.rename(old, new))
        return
    except (Unreachable, TimedOut):
        raise
    except StorageError as problem:
        there = await names.find(link, target)
        if there is None:
            raise await names.explain_rename(link, source, target, problem) from None
        await names.refuse_replacing(link, source, target, there)
    kept = join(parent(target), partial_name(basename(target), kept=True))
    await link.ask(target, link.sftp.rename(new, names.wire(kept)))
    try:
        await link.ask(target, link.sftp.rename(old, new))
    except StorageError:
        try:
            await link.ask(target, link.sftp.rename(names.wire(kept), new))
        except StorageError as back:
            log.warning("%r: replacing failed; the old file is kept as %r (%s)", target, kept, back)
        raise
    await link.ask(target, link.sftp.remove(names.wire(kept)))


async def settle(names: Names, link: Link, path: str, lost: AnswerLost) -> Entry:
    """What became of a publication without an answer, seen from another connection."""
    if await names.find(link, lost.partial) is None:
        there = await names.find(link, path)
        if there is not None and there.version.matches(lost.entry.version):
            return there
    with suppress(NotFound):
        await link.ask(path, link.sftp.remove(names.wire(lost.partial)))
    raise lost.problem

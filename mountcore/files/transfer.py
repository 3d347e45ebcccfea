"""One file from place to place: copied by the storage itself where it can, else read and stored; or moved.

| what | how | if it stops half-way |
|---|---|---|
| same storage, `caps.copy` | `Remote.copy` | as the storage does it |
| small | read into memory, then `put` | nothing was published |
| large | read and `put` at once, through `Stream` | `put` gives up: its source raises before the last byte |
| the adapter asks out of order | spooled to disk, then `put` | nothing was published |
| move, same storage | `Remote.rename` | renamed or not |
| move, elsewhere | copy, verify, then remove | both are there |
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, final

import trio

from ..errors import Corrupt, CrossDevice, Exists, NotFound, Stale, StorageError, Unsupported
from ..remotes.paths import parent
from ..remotes.protocol import ANYTHING, Entry, Kind, RenameScope, Source, Span, Version
from .compare import common_hash
from .content import IN_MEMORY, InMemory, Intake, OutOfOrder, Stream, into_memory, onto_disk, through
from .places import Place
from .tally import Tally

log = logging.getLogger(__name__)
T = TypeVar("T")
CAREFUL = 1 << 20
"""From this size on, the version is checked before and after reading; below, length and one request must do."""


@final
@dataclass(slots=True)
class Transfer:
    """Copies and moves files between two places."""

    source: Place
    target: Place
    tally: Tally
    dry_run: bool = False
    tries: int = 3
    verify: bool = True
    """Compare hashes afterwards where both sides have one."""
    times: bool = True
    _spool: bool = field(default=False, repr=False)

    @property
    def together(self) -> bool:
        """Whether both places are on one remote."""
        return self.source.remote is self.target.remote

    async def copy(self, path: str, entry: Entry, to: str, before: Entry | None) -> Entry | None:
        """Copy a file; answers what is stored, None for a trial run. Paths are relative to the two places.

        ``before`` is what is at the target now, as far as is known. Raises StorageError.
        """
        if self.dry_run:
            self.tally.skipped(to, "copy", entry.size)
            return None
        stored = await self._again(to, lambda: self._copy_once(path, entry, to))
        self.tally.copied += 1
        self.tally.note(f"{to}: Copied ({'replaced existing' if before else 'new'})")
        return stored

    async def move(self, path: str, entry: Entry, to: str, before: Entry | None) -> Entry | None:
        """Move a file, replacing one; answers what is stored. By renaming where the storage can."""
        if self.dry_run:
            self.tally.skipped(to, "move", entry.size)
            return None
        caps = self.source.remote.caps
        if self.together and caps.rename is not RenameScope.NONE:
            try:
                await self.rename(path, to, before)
            except (CrossDevice, Unsupported) as problem:
                log.info("%s: moved by copying: %s", to, problem)
            else:
                self.tally.renamed += 1
                self.tally.note(f"{to}: Moved (server-side)")
                return entry
        stored = await self._again(to, lambda: self._copy_once(path, entry, to))
        self.tally.copied += 1
        await self.remove_source(path, entry)
        self.tally.note(f"{to}: Moved")
        return stored

    async def rename(self, path: str, to: str, before: Entry | None) -> None:
        """Rename on the storage, making the directory and replacing a file."""
        source, target = self.source.path(path), self.target.path(to)
        if source == target:
            return
        if before is not None and not self.target.remote.caps.rename_replaces:
            await self.target.remote.remove(target)
        try:
            await self.source.remote.rename(source, target)
        except NotFound:
            await self.target.ensure(parent(to))
            await self.source.remote.rename(source, target)
        except Exists:
            await self.target.remote.remove(target)
            await self.source.remote.rename(source, target)

    async def remove_source(self, path: str, entry: Entry) -> None:
        """Delete what was copied, if it still is what was copied."""
        where = self.source.path(path)
        now = await self.source.remote.stat(where)
        if entry.kind is Kind.FILE and not now.version.matches(entry.version):
            raise Stale(where, "the file changed after it was copied, and is kept")
        await self.source.remote.remove(where)

    async def _copy_once(self, path: str, entry: Entry, to: str) -> Entry:
        source, target = self.source.path(path), self.target.path(to)
        if entry.kind is Kind.SYMLINK:
            return await self._link(entry, to)
        if self.together and source == target:
            return entry
        if self.together and self.target.remote.caps.copy:
            try:
                stored = await self._placed(to, lambda: self.target.remote.copy(source, target, expect=ANYTHING))
                if stored.size != entry.size:
                    raise Stale(source, "the file changed before it was copied")
                self.tally.sent += entry.size
                return stored
            except Unsupported as problem:
                log.info("%s: copied through this machine: %s", to, problem)
        self.tally.under_way[to] = 0
        try:
            return await self._carry(source, entry, to)
        finally:
            self.tally.under_way.pop(to, None)

    async def _link(self, entry: Entry, to: str) -> Entry:
        remote, path = self.target.remote, self.target.path(to)
        try:
            return await self._placed(to, lambda: remote.symlink(path, entry.target))
        except Exists:
            await remote.remove(path)
            return await remote.symlink(path, entry.target)

    async def _carry(self, path: str, entry: Entry, to: str) -> Entry:
        caps = self.target.remote.caps
        # what was written to a folder of this machine would be read back from memory
        verify = self.verify and not self.target.remote.identity.startswith("local:")
        algorithm = common_hash(self.source.remote.caps, caps) if verify else ""
        intake = Intake(path, entry.size, self._arrived(to), algorithm)
        mtime_ns = entry.mtime_ns if self.times else None
        careful = entry.size >= CAREFUL
        version: Version | None = entry.version if careful else None
        span = Span(0, entry.size + 1)  # one more: a file that has grown is noticed
        if entry.size <= IN_MEMORY:
            if entry.size or not self.source.remote.caps.ranged_read:
                async with self.source.remote.read(path, span, version) as pieces:
                    content: Source = await into_memory(pieces, intake)
                if careful:
                    await self._confirm(path, entry)
            else:
                content = InMemory(b"")
            stored = await self._store(to, content, mtime_ns)
        elif self._spool:
            async with self.source.remote.read(path, span, version) as pieces:
                spool = await onto_disk(pieces, intake)
            try:
                await self._confirm(path, entry)
                stored = await self._store(to, spool, mtime_ns)
            finally:
                spool.close()
        else:
            stored = await self._stream(path, entry, to, intake, span, mtime_ns)
        if stored.size != entry.size:
            raise Corrupt(self.target.path(to), f"{entry.size} bytes were sent and {stored.size} are stored")
        if intake.digest is not None:
            await self._check_hash(to, algorithm, intake.digest.hexdigest())
        elif algorithm:  # a part of it was there already
            await self._check_hash(to, algorithm, await self.source.remote.hash(path, algorithm))
        return stored

    async def _stream(
        self, path: str, entry: Entry, to: str, intake: Intake, span: Span, mtime_ns: int | None
    ) -> Entry:
        """Read and store at once."""
        await self.target.ensure(parent(to))  # a second put could not read from the start
        stream = Stream(path, entry.size, _stamp(self.source.remote.identity, path, entry))
        stored: Entry | None = None
        problem: StorageError | None = None

        async def read() -> None:
            nonlocal problem
            try:
                start = await stream.begins()
                intake.skip(start)
                rest = Span(start, span.stop)
                async with self.source.remote.read(path, rest, entry.version) as pieces:
                    await through(pieces, intake, stream, lambda: self._confirm(path, entry))
            except StorageError as error:
                stream.fail(error)
                problem = error
            except BaseException:
                stream.fail(Unsupported("", "the copy was called off"))  # frees the adapter's thread
                raise

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                try:
                    stored = await self.target.remote.put(
                        self.target.path(to), stream, expect=ANYTHING, mtime_ns=mtime_ns
                    )
                except OutOfOrder:
                    self._spool = True
                except StorageError as error:
                    problem = problem or error
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        if self._spool and stored is None:
            return await self._carry(path, entry, to)
        if problem is not None:
            raise problem
        assert stored is not None
        return stored

    async def _confirm(self, path: str, entry: Entry) -> None:
        """All was read: what was read is one version, if the file still is what it was."""
        if not (await self.source.remote.stat(path)).version.matches(entry.version):
            raise Stale(path, "the file changed while it was copied")

    async def _store(self, to: str, content: Source, mtime_ns: int | None) -> Entry:
        path, remote = self.target.path(to), self.target.remote
        return await self._placed(to, lambda: remote.put(path, content, expect=ANYTHING, mtime_ns=mtime_ns))

    async def _placed(self, to: str, store: Callable[[], Awaitable[T]]) -> T:
        """``store``, with the directory made if that is what was missing."""
        directory = parent(to)
        if self.target.path(directory) in self.target.made or not self.target.path(directory):
            return await store()
        if self.target.entry is None or directory:
            await self.target.ensure(directory)
        return await store()

    async def _check_hash(self, to: str, algorithm: str, wanted: str) -> None:
        target = self.target.path(to)
        try:
            found = await self.target.remote.hash(target, algorithm)
        except Unsupported:
            return
        if found.lower() != wanted:
            raise Corrupt(target, f"{algorithm} is {found} after the copy and should be {wanted}")

    def _arrived(self, to: str) -> Callable[[int], None]:
        def count(size: int) -> None:
            self.tally.sent += size
            self.tally.under_way[to] = self.tally.under_way.get(to, 0) + size

        return count

    async def _again(self, to: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Another try where the error says that it can help."""
        for number in range(1, self.tries + 1):
            sent = self.tally.sent
            try:
                return await attempt()
            except StorageError as problem:
                self.tally.sent = sent
                if not problem.retriable or number == self.tries:
                    raise
                log.info("%s: tried again after: %s", to, problem)
                await trio.sleep(min(10.0, 0.5 * 4 ** (number - 1)))
        raise AssertionError("unreachable")


def _stamp(identity: str, path: str, entry: Entry) -> str:
    """By what the content of a file is known again; "" where its time is too coarse to tell."""
    if not entry.tag and (entry.mtime_ns is None or entry.resolution_ns != 1):
        return ""
    facts = (identity, path, entry.size, entry.tag or entry.mtime_ns, entry.ident)
    return hashlib.blake2b(repr(facts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

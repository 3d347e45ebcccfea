"""A tree made like another: `copy`, `move` and `sync` between two places.

Both trees are walked side by side, directory by directory, by ``checkers`` tasks; what has to be transferred goes to
``transfers`` tasks through a bounded queue. Deletions come last, and only if everything before went well:

- a directory of either side that could not be listed, or a transfer that failed, and nothing is deleted;
- more deletions than `SyncSettings.max_delete`, and nothing is deleted;
- what the filter leaves out on the target is not deleted (but with ``delete_excluded``).

An interrupted run leaves whole files only; the next one goes on where it stopped, because what is equal is not
copied again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import trio

from ..errors import IsDirectory, NotDirectory, NotEmpty, NotFound, StorageError, Unsupported
from ..remotes.paths import join
from ..remotes.protocol import Entry, Kind
from .compare import Comparison, Verdict
from .filters import Filter, FilterSettings
from .march import March, matched_names
from .places import Place
from .tally import Tally
from .transfer import Transfer
from .walk import CHECKERS, Walker

BACKLOG = 10_000


class Act(enum.Enum):
    """What is done with the trees."""

    COPY = "copy"
    MOVE = "move"
    SYNC = "sync"


class Immutable(Unsupported):
    """A file differs that may not be changed; exit code 6."""


class Fatal(Exception):
    """The whole command stops here; exit code 7."""


class Enough(Exception):
    """`SyncSettings.max_transfer` is reached; exit code 8."""


@final
@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How trees are copied."""

    filter: Filter = field(default_factory=Filter)
    transfers: int = 4
    checkers: int = CHECKERS
    dry_run: bool = False
    update: bool = False
    ignore_existing: bool = False
    immutable: bool = False
    backup: Place | None = None
    """Where what is replaced or deleted goes, on the target's remote."""
    suffix: str = ""
    suffix_keeps_extension: bool = False
    max_delete: int | None = None
    max_transfer: int | None = None
    delete_excluded: bool = False
    ignore_errors: bool = False
    create_empty: bool = False
    delete_empty_sources: bool = False
    normalize: bool = True
    set_times: bool = True
    links: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    entry: Entry
    to: str
    before: Entry | None


@final
class Sync:
    """One run; see the module."""

    def __init__(self, act: Act, transfer: Transfer, comparison: Comparison, settings: SyncSettings) -> None:
        self._act = act
        self._transfer = transfer
        self._compare = comparison
        self._settings = settings
        self._source, self._target = transfer.source, transfer.target
        self._tally: Tally = transfer.tally
        self._walker = Walker(self._tally, settings.filter, settings.checkers, links=settings.links)
        everything = Filter(FilterSettings(max_depth=settings.filter.settings.max_depth))
        other = everything if settings.delete_excluded else settings.filter
        self._target_walker = Walker(self._tally, other, settings.checkers, links=True)
        self._extra: list[tuple[str, Entry]] = []
        self._extra_directories: list[str] = []
        self._empty_candidates: list[str] = []
        self._enough: Enough | None = None

    async def run(self) -> None:
        """Do it. Problems with single files are in the tally; raises what makes the rest pointless."""
        self._source.require_directory()
        send, receive = trio.open_memory_channel[_Job](BACKLOG)
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._settings.transfers):
                    nursery.start_soon(self._work, receive.clone())
                receive.close()
                async with send:
                    await self._march(send)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        if self._enough is not None:
            raise self._enough
        if self._act is Act.SYNC:
            await self._delete()
        elif self._act is Act.MOVE and self._settings.delete_empty_sources:
            await self._tidy_source()

    async def one(self, path: str, entry: Entry, to: str) -> None:
        """A single file, with the same decisions."""
        try:
            before: Entry | None = await self._target.remote.stat(self._target.path(to))
        except (NotFound, NotDirectory):
            before = None
        if before is not None and before.kind is Kind.DIRECTORY:
            raise IsDirectory(self._target.path(to), "a directory is there")
        send, receive = trio.open_memory_channel[_Job](1)
        async with send:
            await self._consider(path, entry, to, before, send)
        await self._work(receive)
        if self._enough is not None:
            raise self._enough

    # walking side by side

    async def _march(self, jobs: trio.MemorySendChannel[_Job]) -> None:
        if self._settings.filter.listed is not None:
            await self._march_named(jobs)
            return
        march = March(self._source, self._target, self._walker, self._target_walker)
        await march.run(lambda directory, mine, theirs: self._compare_listings(directory, mine, theirs, jobs))

    async def _march_named(self, jobs: trio.MemorySendChannel[_Job]) -> None:
        async with self._walker.walk(self._source) as directories:
            async for listed in directories:
                for path, entry in listed.items():
                    try:
                        before: Entry | None = await self._target.remote.stat(self._target.path(path))
                    except NotFound:
                        before = None
                    await self._consider(path, entry, path, before, jobs)

    async def _compare_listings(
        self, directory: str, mine: Mapping[str, Entry], theirs: Mapping[str, Entry], jobs: trio.MemorySendChannel[_Job]
    ) -> list[tuple[str, bool, bool]]:
        below: list[tuple[str, bool, bool]] = []
        twins = matched_names(mine, theirs, normalize=self._settings.normalize)
        matched: set[str] = set()
        if directory and not mine and self._settings.create_empty:
            await self._make_empty(directory)
        for name, entry in mine.items():
            other = twins.get(name, "")
            before = theirs.get(other) if other else None
            if other:
                matched.add(other)
            path, to = join(directory, name), join(directory, other or name)
            if entry.kind is Kind.DIRECTORY:
                if before is not None and before.kind is not Kind.DIRECTORY:
                    self._tally.failed(to, Unsupported(to, "a directory cannot replace a file"))
                    continue
                if self._act is Act.MOVE:
                    self._empty_candidates.append(path)
                below.append((path, True, before is not None))
            elif before is not None and before.kind is Kind.DIRECTORY:
                self._tally.failed(to, Unsupported(to, "a file cannot replace a directory"))
            else:
                await self._consider(path, entry, to, before, jobs)
        if self._act is Act.SYNC:
            for name, entry in theirs.items():
                if name not in matched:
                    path = join(directory, name)
                    if entry.kind is Kind.DIRECTORY:
                        self._extra_directories.append(path)
                        below.append((path, False, True))
                    else:
                        self._extra.append((path, entry))
        return below

    async def _make_empty(self, directory: str) -> None:
        if self._settings.dry_run:
            self._tally.skipped(directory, "make directory")
            return
        try:
            await self._target.ensure(directory)
        except StorageError as problem:
            self._tally.failed(directory, problem)

    # one file

    async def _consider(
        self, path: str, entry: Entry, to: str, before: Entry | None, jobs: trio.MemorySendChannel[_Job]
    ) -> None:
        """Decide what is to be done with a file, and queue it."""
        self._tally.checked += 1
        s, source, target = self._settings, self._source, self._target
        try:
            if before is not None and s.ignore_existing:
                self._tally.note(f"{to}: Destination exists, skipping")
                return
            if before is not None:
                if s.update and self._is_newer(before, entry):
                    self._tally.note(f"{to}: Destination is newer than source, skipping")
                    return
                if entry.kind is Kind.SYMLINK or before.kind is Kind.SYMLINK:
                    verdict = Verdict.EQUAL if entry.target == before.target else Verdict.DIFFERENT
                else:
                    verdict = await self._compare.verdict(source.path(path), entry, target.path(to), before)
                if verdict is Verdict.TIME_DIFFERS and not s.immutable and entry.mtime_ns is not None:
                    verdict = await self._set_time(to, entry.mtime_ns)
                if verdict is Verdict.EQUAL:
                    self._tally.note(f"{to}: Unchanged skipping")
                    if self._act is Act.MOVE:
                        await self._drop_source(path, entry, to)
                    return
                if s.immutable:
                    self._tally.failed(to, Immutable(to, "immutable file modified"))
                    return
        except StorageError as problem:
            self._tally.failed(to, problem)
            return
        if self._announced(entry):
            await jobs.send(_Job(path, entry, to, before))

    def _is_newer(self, before: Entry, entry: Entry) -> bool:
        tolerance = self._compare.tolerance(entry, before)
        if tolerance is None or before.mtime_ns is None or entry.mtime_ns is None:
            return False
        return before.mtime_ns - entry.mtime_ns >= tolerance or (
            abs(before.mtime_ns - entry.mtime_ns) < tolerance and before.size == entry.size
        )

    async def _set_time(self, to: str, mtime_ns: int) -> Verdict:
        """The content is equal: only the time is set. Where that cannot be done, the file is copied."""
        if not self._settings.set_times:
            return Verdict.EQUAL
        if self._settings.dry_run:
            self._tally.skipped(to, "update modification time")
            return Verdict.EQUAL
        try:
            await self._target.remote.set_mtime(self._target.path(to), mtime_ns)
        except Unsupported:
            return Verdict.DIFFERENT
        self._tally.note(f"{to}: Updated modification time in destination")
        return Verdict.EQUAL

    async def _drop_source(self, path: str, entry: Entry, to: str) -> None:
        if self._transfer.together and self._source.path(path) == self._target.path(to):
            return
        if self._settings.dry_run:
            self._tally.skipped(path, "delete", entry.size)
            return
        await self._transfer.remove_source(path, entry)
        self._tally.deleted += 1
        self._tally.note(f"{path}: Deleted")

    def _announced(self, entry: Entry) -> bool:
        """Whether there is room for a file within ``max_transfer``; files already queued are still transferred."""
        limit = self._settings.max_transfer
        if limit is not None and self._tally.size + entry.size > limit:
            self._enough = Enough(f"max transfer limit reached as set by --max-transfer, {limit} bytes")
            return False
        self._tally.total += 1
        self._tally.size += entry.size
        return True

    async def _work(self, jobs: trio.MemoryReceiveChannel[_Job]) -> None:
        async with jobs:
            async for job in jobs:
                try:
                    before = job.before
                    if before is not None and (self._settings.backup or self._settings.suffix):
                        await self.set_aside(job.to, before)
                        before = None
                    if self._act is Act.MOVE:
                        await self._transfer.move(job.path, job.entry, job.to, before)
                    else:
                        await self._transfer.copy(job.path, job.entry, job.to, before)
                except StorageError as problem:
                    self._tally.failed(job.to, problem)

    # what is replaced or deleted

    async def set_aside(self, path: str, entry: Entry) -> None:
        """Move a file of the target to the backup place, or beside itself with the suffix."""
        if self._settings.dry_run:
            self._tally.skipped(path, "move into backup dir", entry.size)
            return
        place = self._settings.backup or self._target
        to = self._with_suffix(path)
        mover = Transfer(self._target, place, self._tally)
        try:
            there: Entry | None = await place.remote.stat(place.path(to))
        except NotFound:
            there = None
        await mover.move(path, entry, to, there)

    def _with_suffix(self, path: str) -> str:
        suffix = self._settings.suffix
        if not suffix:
            return path
        head, slash, name = path.rpartition("/")
        stem, dot, extension = name.rpartition(".")
        if self._settings.suffix_keeps_extension and dot and stem:
            if stem.endswith(".tar") and stem != ".tar":
                stem, extension = stem.removesuffix(".tar"), f"tar.{extension}"
            return f"{head}{slash}{stem}{suffix}.{extension}"
        return path + suffix

    async def _delete(self) -> None:
        """What the source does not have: files, then directories that are empty then."""
        backup = self._settings.backup
        extra = [
            (path, entry)
            for path, entry in self._extra
            if not (self._settings.suffix and not backup and path.endswith(self._settings.suffix))
        ]
        if not extra and not self._extra_directories:
            return
        if self._tally.errors and not (self._settings.ignore_errors and not self._tally.listing_failed):
            self._tally.say("not deleting files as there were IO errors")
            return
        limit = self._settings.max_delete
        if limit is not None and len(extra) > limit:
            raise Fatal(
                f"--max-delete threshold reached: {len(extra)} files would be deleted and {limit} may; none was deleted"
            )
        todo, take = trio.open_memory_channel[tuple[str, Entry]](len(extra))
        for each in extra:
            todo.send_nowait(each)
        todo.close()

        async def work() -> None:
            async for path, entry in take:
                try:
                    await self._delete_one(path, entry)
                except StorageError as problem:
                    self._tally.failed(path, problem)

        async with trio.open_nursery() as nursery:
            for _ in range(min(self._settings.checkers, len(extra))):
                nursery.start_soon(work)
        for path in sorted(self._extra_directories, key=lambda path: (-path.count("/"), path)):
            await self._remove_directory(self._target, path)

    async def _delete_one(self, path: str, entry: Entry) -> None:
        if self._settings.backup or self._settings.suffix:
            await self.set_aside(path, entry)
            return
        if self._settings.dry_run:
            self._tally.skipped(path, "delete", entry.size)
            return
        await self._target.remote.remove(self._target.path(path))
        self._tally.deleted += 1
        self._tally.note(f"{path}: Deleted")

    async def _remove_directory(self, place: Place, path: str) -> None:
        if self._settings.dry_run:
            self._tally.skipped(path, "remove directory")
            return
        try:
            await place.remote.rmdir(place.path(path))
        except (NotEmpty, NotFound):
            pass  # what the filter left out is in it, or the storage has no directories of its own
        except StorageError as problem:
            self._tally.failed(path, problem)

    async def _tidy_source(self) -> None:
        """After a move: directories of the source that are empty now."""
        for path in sorted(self._empty_candidates, key=lambda path: (-path.count("/"), path)):
            await self._remove_directory(self._source, path)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that matters: interruption before anything else."""
    problems: list[BaseException] = []
    for problem in group.exceptions:
        problems.append(_first(problem) if isinstance(problem, BaseExceptionGroup) else problem)
    for problem in problems:
        if not isinstance(problem, Exception):
            return problem
    return problems[0]

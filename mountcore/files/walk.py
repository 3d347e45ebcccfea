"""Listing a tree in parallel: what `ls`, `size`, `delete` and the like, and publishing, are built on.

A directory's entries come together, sorted by name, each directory as soon as it is listed. A directory that
cannot be listed is told and counted, and the rest goes on; whoever needs to know asks ``tally.listing_failed``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import trio

from ..errors import NotDirectory, NotFound, StorageError
from ..remotes.paths import basename, join
from ..remotes.protocol import Entry, Kind
from .filters import Filter
from .places import Place
from .tally import Tally

CHECKERS = 8
NOT_FOLLOWED = "Can't follow symlink without -L/--copy-links"


@dataclass(frozen=True, slots=True)
class Listed:
    """One directory of a walk: its path below the place, and its entries by name."""

    directory: str
    entries: tuple[Entry, ...]
    whole: bool = True
    """False if it could not be listed to its end."""

    def items(self) -> list[tuple[str, Entry]]:
        """Path below the place and entry, sorted."""
        return [(join(self.directory, entry.name), entry) for entry in self.entries]


@dataclass(frozen=True, slots=True)
class Walker:
    """How trees are walked."""

    tally: Tally
    filter: Filter = field(default_factory=Filter)
    checkers: int = CHECKERS
    recurse: bool = True
    links: bool = False
    """Symbolic links are entries of their own, for those who can keep them; else told and passed over."""

    async def listing(self, place: Place, directory: str) -> list[Entry]:
        """The entries of one directory that the filter takes; directories it enters, whatever the depth."""
        entries: list[Entry] = []
        stream = cast(AsyncGenerator[Entry, None], place.remote.list(place.path(directory)))
        async with aclosing(stream):
            async for entry in stream:
                entries.append(entry)
        self.tally.listed += len(entries)
        chosen = self.chosen(directory, entries)
        if self.filter.settings.exclude_if_present:
            chosen = [e for e in chosen if e.kind is not Kind.DIRECTORY or not await self._marked(place, directory, e)]
        return chosen

    async def _marked(self, place: Place, directory: str, entry: Entry) -> bool:
        """Whether a file in a directory says that it is to be left out; `chosen` cannot see that from above."""
        for mark in self.filter.settings.exclude_if_present:
            try:
                await place.remote.stat(place.path(join(join(directory, entry.name), mark)))
            except (NotFound, NotDirectory):
                continue
            return True
        return False

    def chosen(self, directory: str, entries: list[Entry]) -> list[Entry]:
        """Of a directory's entries those that the filter takes, sorted by name."""
        chosen, choose = [], self.filter
        marks = choose.settings.exclude_if_present
        if marks and not {e.name for e in entries if e.kind is not Kind.DIRECTORY}.isdisjoint(marks):
            return []
        for entry in entries:
            path = join(directory, entry.name)
            if entry.kind is Kind.DIRECTORY:
                if choose.enters(path):
                    chosen.append(entry)
            elif entry.kind is Kind.SYMLINK and not self.links:
                if choose.takes_path(path):
                    self.tally.say(f"{path}: {NOT_FOLLOWED}")
            elif choose.takes(path, entry):
                chosen.append(entry)
        chosen.sort(key=lambda entry: entry.name)
        return chosen

    @asynccontextmanager
    async def walk(self, place: Place, start: str = "") -> AsyncIterator[AsyncIterator[Listed]]:
        """The tree below ``start``, directory by directory. A file at the place is a tree of one entry.

        Raises what the first directory answers; problems further down are told and counted.
        """
        if place.is_file:
            assert place.entry is not None
            name = basename(place.prefix)
            yield _one(Listed("", (place.entry,) if self.filter.takes(name, place.entry) else ()))
            return
        place.require_directory()
        if self.filter.listed is not None:
            yield self._named(place, self.filter.listed)
            return
        entries = await self.listing(place, start)
        if not self.recurse or not self._deeper(start):
            yield _one(Listed(start, tuple(entries)))
            return
        problem: BaseException | None = None
        async with trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[Listed](64)
            nursery.start_soon(self._spread, place, start, entries, send)
            try:
                yield receive
            except Exception as error:  # a nursery would wrap it in a group; the caller's error is the caller's
                problem = error
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem

    def _deeper(self, directory: str) -> bool:
        """Whether what lies in the directories of this one is wanted."""
        return self.filter.deep(directory.count("/") + 2 if directory else 1)

    async def _spread(
        self, place: Place, start: str, entries: list[Entry], send: trio.MemorySendChannel[Listed]
    ) -> None:
        caps = place.remote.caps
        # where there are directories, one that cannot be listed should not take the others with it
        flat = caps.list_tree and not caps.real_directories
        if flat and self.filter.settings.max_depth is None and not self.filter.by_name:
            async with send:
                await self._whole_tree(place, start, send)
            return
        waiting, take = trio.open_memory_channel[str](math.inf)
        left = 0

        def found(directory: str, entries: list[Entry]) -> None:
            nonlocal left
            if self._deeper(directory):
                for entry in entries:
                    if entry.kind is Kind.DIRECTORY:
                        left += 1
                        waiting.send_nowait(join(directory, entry.name))
            if not left:
                waiting.close()

        async def work(out: trio.MemorySendChannel[Listed]) -> None:
            nonlocal left
            async with out:
                async for directory in take:
                    entries: list[Entry] = []
                    whole = True
                    try:
                        entries = await self.listing(place, directory)
                    except StorageError as problem:
                        whole = False
                        self.tally.listing_failed = True
                        self.tally.failed(directory, problem)
                    await out.send(Listed(directory, tuple(entries), whole))
                    left -= 1
                    found(directory, entries)

        async with send, trio.open_nursery() as nursery:
            await send.send(Listed(start, tuple(entries)))
            found(start, entries)
            for _ in range(self.checkers):
                nursery.start_soon(work, send.clone())

    async def _whole_tree(self, place: Place, start: str, send: trio.MemorySendChannel[Listed]) -> None:
        """One request for everything: what belongs together is gathered, so memory holds the whole tree."""
        base = place.path(start)
        gathered: dict[str, list[Entry]] = {start: []}
        whole = True
        stream = cast(AsyncGenerator[tuple[str, Entry], None], place.remote.list_tree(base))
        try:
            async with aclosing(stream):
                async for directory, entry in stream:
                    inside = join(start, directory[len(base) :].strip("/")) if directory != base else start
                    gathered.setdefault(inside, []).append(entry)
                    if entry.kind is Kind.DIRECTORY:
                        gathered.setdefault(join(inside, entry.name), [])
        except StorageError as problem:
            whole = False
            self.tally.listing_failed = True
            self.tally.failed(base, problem)
        self.tally.listed += sum(map(len, gathered.values()))
        for directory in sorted(gathered):
            await send.send(Listed(directory, tuple(self.chosen(directory, gathered[directory])), whole))

    async def _named(self, place: Place, names: frozenset[str]) -> AsyncGenerator[Listed, None]:
        """Files that are named one by one: asked for one by one, their directories are not listed."""
        for name in sorted(names):
            try:
                entry = await place.remote.stat(place.path(name))
            except StorageError as problem:
                self.tally.failed(name, problem)
                continue
            if entry.kind is Kind.FILE and self.filter.takes(name, entry):
                yield Listed(name.rpartition("/")[0], (entry,))


async def _one(listed: Listed) -> AsyncGenerator[Listed, None]:
    await trio.lowlevel.checkpoint()
    yield listed

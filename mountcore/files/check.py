"""Whether two trees are the same: `check`. Changes nothing."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import final

import trio

from ..errors import StorageError
from ..remotes.paths import join
from ..remotes.protocol import Entry, Kind, Span
from .compare import common_hash
from .march import Below, March, matched_names
from .places import Place
from .walk import Walker


class Finding(enum.Enum):
    """What is found about one name; the values are the marks of ``--combined``."""

    MATCH = "="
    DIFFER = "*"
    NOT_IN_TARGET = "+"
    NOT_IN_SOURCE = "-"
    ERROR = "!"


Compare = Callable[[str, Entry, str, Entry], Awaitable[str]]
"""Answers what differs, in words; "" if nothing does. Paths are relative to the places."""


@final
@dataclass(slots=True)
class Check:
    """One comparison of two trees; the counts are there afterwards."""

    source: Place
    target: Place
    walker: Walker
    tell: Callable[[Finding, str], None]
    compare: Compare
    one_way: bool = False
    found: dict[Finding, int] = field(default_factory=lambda: dict.fromkeys(Finding, 0))

    @property
    def differences(self) -> int:
        """How many names are not the same on both sides."""
        return self.found[Finding.DIFFER] + self.found[Finding.NOT_IN_TARGET] + self.found[Finding.NOT_IN_SOURCE]

    async def run(self) -> None:
        """Compare; problems are in the walker's tally."""
        await March(self.source, self.target, self.walker, self.walker).run(self._visit)

    async def one(self, path: str, entry: Entry, other: Entry | None) -> None:
        """Compare a single file."""
        await self._file(path, entry, path, other)

    async def _visit(self, directory: str, mine: Mapping[str, Entry], theirs: Mapping[str, Entry]) -> Below:
        twins = matched_names(mine, theirs, normalize=True)
        below: Below = []
        for name, entry in mine.items():
            other = twins.get(name, "")
            path, there = join(directory, name), theirs.get(other)
            if entry.kind is Kind.DIRECTORY and (there is None or there.kind is Kind.DIRECTORY):
                below.append((path, True, there is not None))
            elif entry.kind is Kind.DIRECTORY or (there is not None and there.kind is Kind.DIRECTORY):
                self._note(Finding.DIFFER, path, "a file on one side, a directory on the other")
            else:
                await self._file(path, entry, join(directory, other or name), there)
        if not self.one_way:
            matched = set(twins.values())
            for name, entry in theirs.items():
                path = join(directory, name)
                if name in matched:
                    continue
                if entry.kind is Kind.DIRECTORY:
                    below.append((path, False, True))
                else:
                    self._note(Finding.NOT_IN_SOURCE, path, f"file not in {self.source.label}")
        return below

    async def _file(self, path: str, entry: Entry, there: str, other: Entry | None) -> None:
        self.walker.tally.checked += 1
        if other is None:
            self._note(Finding.NOT_IN_TARGET, path, f"file not in {self.target.label}")
            return
        try:
            difference = await self.compare(path, entry, there, other)
        except StorageError as problem:
            self.found[Finding.ERROR] += 1
            self.tell(Finding.ERROR, path)
            self.walker.tally.failed(path, problem)
            return
        self._note(Finding.DIFFER if difference else Finding.MATCH, path, difference)

    def _note(self, finding: Finding, path: str, words: str) -> None:
        self.found[finding] += 1
        self.tell(finding, path)
        if words:
            self.walker.tally.say(f"{path}: {words}")


def by_listing(source: Place, target: Place, *, size_only: bool = False) -> Compare:
    """Sizes, and hashes where both storages tell one."""
    algorithm = "" if size_only else common_hash(source.remote.caps, target.remote.caps)

    async def compare(path: str, entry: Entry, there: str, other: Entry) -> str:
        if entry.size != other.size:
            return "sizes differ"
        if algorithm:
            one = await source.remote.hash(source.path(path), algorithm)
            if one != await target.remote.hash(target.path(there), algorithm):
                return f"{algorithm} differ"
        return ""

    return compare


def by_content(source: Place, target: Place) -> Compare:
    """Every byte, read from both sides."""

    async def compare(path: str, entry: Entry, there: str, other: Entry) -> str:
        if entry.size != other.size:
            return "sizes differ"
        span = Span(0, entry.size)
        async with (
            source.remote.read(source.path(path), span, None) as left,
            target.remote.read(target.path(there), span, None) as right,
        ):
            return "" if await _same(left, right) else "contents differ"

    return compare


async def _same(left: AsyncIterator[bytes], right: AsyncIterator[bytes]) -> bool:
    a = b = b""
    while True:
        await trio.lowlevel.checkpoint()
        a = a or await anext(left, b"")
        b = b or await anext(right, b"")
        length = min(len(a), len(b))
        if not length:
            return not a and not b
        if a[:length] != b[:length]:
            return False
        a, b = a[length:], b[length:]

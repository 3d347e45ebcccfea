"""Two trees walked side by side, directory by directory: what `sync` and `check` are built on.

Both listings of a directory are there before anything is decided about it. A directory that cannot be listed on
either side is told, counted and passed over with all that is in it: nothing is known about it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import final

import trio

from ..errors import NotFound, StorageError
from ..remotes.protocol import Entry
from .places import Place
from .walk import Walker

Below = list[tuple[str, bool, bool]]
"""Directories to look at next: the path, and whether the source and the target have it."""
Visit = Callable[[str, Mapping[str, Entry], Mapping[str, Entry]], Awaitable[Below]]


@final
@dataclass(slots=True)
class March:
    """One walk; see the module."""

    source: Place
    target: Place
    walker: Walker
    target_walker: Walker
    _left: int = field(default=0, repr=False)

    async def run(self, visit: Visit) -> None:
        """Call ``visit`` with every directory and its entries on both sides; several at once."""
        waiting, take = trio.open_memory_channel[tuple[str, bool, bool]](math.inf)
        self._left = 1
        waiting.send_nowait(("", self.source.entry is not None, self.target.entry is not None))

        async def work() -> None:
            async for directory, here, there in take:
                for below in await self._pair(directory, here, there, visit):
                    if self.walker.filter.deep(below[0].count("/") + 1):
                        self._left += 1
                        waiting.send_nowait(below)
                self._left -= 1
                if not self._left:
                    waiting.close()

        async with trio.open_nursery() as nursery:
            for _ in range(self.walker.checkers):
                nursery.start_soon(work)

    async def _pair(self, directory: str, here: bool, there: bool, visit: Visit) -> Below:
        mine: dict[str, Entry] = {}
        theirs: dict[str, Entry] = {}
        tally = self.walker.tally
        failed = False

        async def look(walker: Walker, place: Place, found: dict[str, Entry], may_lack: bool) -> None:
            nonlocal failed
            try:
                found.update({entry.name: entry for entry in await walker.listing(place, directory)})
            except StorageError as problem:
                if may_lack and isinstance(problem, NotFound):
                    return
                failed = True
                tally.listing_failed = True
                tally.failed(directory or place.label, problem)

        async with trio.open_nursery() as nursery:
            if here:
                nursery.start_soon(look, self.walker, self.source, mine, False)
            if there:
                nursery.start_soon(look, self.target_walker, self.target, theirs, True)
        if failed:
            return []
        if there:
            self.target.made.add(self.target.path(directory))
        return await visit(directory, mine, theirs)


def matched_names(mine: Mapping[str, Entry], theirs: Mapping[str, Entry], *, normalize: bool) -> dict[str, str]:
    """Names of mine, each with the name it has there: the same, or one of the same Unicode normal form."""
    found = {name: name for name in mine if name in theirs}
    if normalize:
        forms = {_form(name): name for name in theirs if name not in mine}
        for name in mine:
            if name not in found and (other := forms.get(_form(name))) is not None:
                found[name] = other
    return found


def _form(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)

"""Renames and removals of which nobody knows whether the remote did them. Used by :mod:`.namespace`.

Their answer was lost, with the connection or with the process. Where something was changed here of what they are
about, much hangs on it: under which name the rest of a file is, and whether an upload brings back what is gone. So the
journal has them before they are asked for. While the process lives, the remote is asked until it tells, nothing of what
they are about is uploaded meanwhile, and then what is here follows; after a kill the next start asks.

Concurrency: trio thread only; what is ``async`` is a checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import final

import trio

from .cache.item import Item
from .cache.rows import Move
from .contents import Contents
from .errors import NotFound, StorageError
from .remotes.protocol import Version

log = logging.getLogger(__name__)

FIRST, MOST = 0.5, 30.0
"""Seconds until the remote is asked again: after the first time, and at most."""


def local_version(item: Item) -> Version:
    """What is here of a changed file, to see whether it was changed further."""
    return Version(item.size, item.row.mtime_ns)


@final
class Doubts:
    """Those of one remote."""

    def __init__(self, contents: Contents) -> None:
        self._remote = contents.remote
        self._store = contents.store
        self._nursery = contents.nursery
        self._open = contents.doubts

    async def happened(self, move: Move) -> bool | None:
        """Ask the remote whether it did it; None where it does not tell now."""
        found = None
        try:
            if move.new:
                found = await self._remote.stat(move.new)
            await self._remote.stat(move.old)
        except NotFound as gone:
            if gone.path != move.old:
                return False
            known = move.versions
            return found is None or not known or any(found.version.matches(wanted) for wanted in known)
        except StorageError:
            return None
        return False

    def keep(self, move: Move, about: Iterable[Item], finish: Callable[[], Awaitable[None]]) -> None:
        """Find out in the background. ``finish`` is called if it did happen; the items are not uploaded before."""
        self._open.append(move)
        items = list(about)
        for item in items:
            item.doubts += 1
        self._nursery.start_soon(self._find_out, move, items, finish)

    async def _find_out(self, move: Move, items: list[Item], finish: Callable[[], Awaitable[None]]) -> None:
        delay = FIRST
        while (happened := await self.happened(move)) is None:
            await trio.sleep(delay)
            delay = min(MOST, delay * 2)
        for item in items:
            item.doubts -= 1
        log.info("%s was%s %s after all", move.old, "" if happened else " not",
                 f"renamed to {move.new}" if move.new else "removed")  # fmt: skip
        try:
            if happened:
                await finish()
            self._store.index.end_move(move.old)
        except OSError as problem:  # the journal keeps it for the next start
            log.warning("what follows from renaming or removing %s could not be done: %s", move.old, problem)
        finally:
            self._open.remove(move)

    async def recover(self, *, reachable: bool) -> None:
        """Before anything else: the last run ended while the remote renamed or removed something.

        Changed files follow the name, and those that were replaced or removed are gone, as they were to be. What was
        written since, by a run that had no remote to ask, stays as it is; that run finds what was being removed as it
        was.
        """
        for move in self._store.index.moves():
            if not move.new:
                await self._recover_removal(move, reachable=reachable)
            elif reachable:
                await self._recover_rename(move)

    async def _recover_rename(self, move: Move) -> None:
        old, new = move.old, move.new
        item, loser, dirty = self._store.peek(old), self._store.peek(new), self._store.dirty_items()
        later = loser is not None and loser.id != move.replaced
        later = later or any(found.path.startswith(new + "/") for found in dirty)
        item = item if item is not None and item.id == move.item and not later else None
        loser = None if later else loser
        below = not later and any(found.path.startswith(old + "/") for found in dirty)
        if item or loser or below:
            happened = await self.happened(move)
            if happened is None:
                return  # the next start asks again
            if happened:
                log.info("%s was being renamed to %s when the last run ended, and it was", old, new)
                if item is not None:
                    self._store.publish(item, new, moved=old)
                elif below:
                    self._store.rename_tree(old, new)
                elif loser is not None:
                    self._store.unlink(loser)
        self._store.index.end_move(old)

    async def _recover_removal(self, move: Move, *, reachable: bool) -> None:
        item = self._store.peek(move.old)
        same = item is not None and item.id == move.item and local_version(item) in move.versions
        if item is not None and same and reachable and await self.happened(move):
            log.info("%s was being removed when the last run ended, and it was", move.old)
            self._store.unlink(item, gone=move.old)
        else:
            self._store.index.end_move(move.old)

"""Renames and removals of which nobody knows whether the remote did them. Used by :mod:`.namespace` and uploads.

Their answer was lost, with the connection or with the process. Where something was changed here of what they are
about, much hangs on it: under which name the rest of a file is, and whether an upload brings back what is gone. So the
journal has them before they are asked for. While the process lives, the remote is asked until it tells, and then what
is here follows; after a kill the next start asks. So it is where whoever asked for them has gone away before the
answer. Renames are in the journal in any case: a file may be opened and changed while the remote carries them out.
Nobody changes one of the names again before it is known, and nothing is uploaded to it or below it: who wants
to has the remote asked at once.

Concurrency: trio thread only; what is ``async`` is a checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import final

import trio

from .cache.item import Item
from .cache.rows import Move
from .cache.store import Store
from .errors import NotFound, StorageError, Unreachable
from .remotes.protocol import Entry, Remote, Version

log = logging.getLogger(__name__)

FIRST, MOST = 0.5, 30.0
"""Seconds until the remote is asked again: after the first time, and at most."""


def local_version(item: Item) -> Version:
    """What is here of a changed file, to see whether it was changed further."""
    return Version(item.size, item.row.mtime_ns)


def _is_moved(item: Item, move: Move) -> bool:
    """Whether a rename is about this item, which may have been made while the remote was asked."""
    if move.item is not None:
        return item.id == move.item
    return item.row.base is not None and any(item.row.base.matches(version) for version in move.versions)


@final
class _Doubt:
    def __init__(self, move: Move) -> None:
        self.move = move
        self.wanted = trio.Event()
        """Somebody waits: ask now."""
        self.asked = trio.Event()
        """The remote was asked once more."""
        self.over = False

    def concerns(self, path: str) -> bool:
        names = [name for name in (self.move.old, self.move.new) if name]
        return any(f"{path}/".startswith(f"{name}/") or name.startswith(f"{path}/") for name in names)


@final
class Doubts:
    """Those of one remote."""

    def __init__(self, remote: Remote, store: Store, nursery: trio.Nursery) -> None:
        self._remote = remote
        self._store = store
        self._nursery = nursery
        self._all: list[_Doubt] = []

    def __len__(self) -> int:
        """How many are not known yet."""
        return len(self._all)

    async def watch(
        self, move: Move, change: Callable[[], Awaitable[Entry | None]], finish: Callable[[], Awaitable[None]],
        *, journal: bool = True,
    ) -> Entry | None:  # fmt: skip
        """Have the remote change something, and look what became of it where the answer is lost. Raises what it said,
        unless it did it all the same; answers what it has then, if that is known.

        The journal knows it (but for removals of what is not changed here) until `Index.end_move`, which is the
        caller's where this returns. Where nobody knows yet what became of it, ``finish`` is called should it be known
        later that it happened: again, if it fails.
        """
        if journal:
            self._store.index.begin_move(move)
        happened, found = None, None
        try:
            return await change()
        except BaseException as problem:
            try:
                if isinstance(problem, StorageError):
                    happened, found = await self._look(move) if problem.retriable else (False, None)
            finally:
                if journal and happened is None:
                    self._keep(move, finish)
                elif journal and not happened:
                    self._store.index.end_move(move.old)
            if not happened:
                raise
        return found

    async def happened(self, move: Move) -> bool | None:
        """Ask the remote whether it did it; None where it does not tell now."""
        return (await self._look(move))[0]

    async def _look(self, move: Move) -> tuple[bool | None, Entry | None]:
        """See `happened`, and what has the new name.

        The old name first: what the remote did before its last answer is seen, also where it does it between the
        two. While the old name is there it has not happened; assumed is that it then never will, so that no remote
        carries out a request that it has not answered after it has answered a later one about the same name (FTP
        servers do, and their adapter waits for them).
        """
        try:
            await self._remote.stat(move.old)
            return False, None
        except NotFound:
            pass
        except StorageError:
            return None, None
        try:
            found = await self._remote.stat(move.new) if move.new else None
        except NotFound:
            return False, None
        except StorageError:
            return None, None
        known = move.versions
        return found is None or not known or any(found.version.matches(wanted) for wanted in known), found

    def _keep(self, move: Move, finish: Callable[[], Awaitable[None]]) -> None:
        """Find out in the background."""
        doubt = _Doubt(move)
        self._all.append(doubt)
        self._nursery.start_soon(self._find_out, doubt, finish)

    async def _find_out(self, doubt: _Doubt, finish: Callable[[], Awaitable[None]]) -> None:
        move, delay = doubt.move, FIRST
        while not await self._settle(move, finish):  # if this run ends before, the journal still has it
            doubt.asked.set()
            doubt.wanted, doubt.asked = trio.Event(), trio.Event()
            with trio.move_on_after(delay):
                await doubt.wanted.wait()
            delay = min(MOST, delay * 2)
        self._store.index.end_move(move.old)
        self._all.remove(doubt)
        doubt.over = True
        doubt.asked.set()

    async def _settle(self, move: Move, finish: Callable[[], Awaitable[None]]) -> bool:
        """Whether it is known, and done what follows from it."""
        happened = await self.happened(move)
        if happened is None:
            return False
        log.info("%s was%s %s after all", move.old, "" if happened else " not",
                 f"renamed to {move.new}" if move.new else "removed")  # fmt: skip
        try:
            if happened:
                await finish()
        except OSError as problem:
            log.warning("what follows from renaming or removing %s cannot be done yet: %s", move.old, problem)
            return False
        return True

    async def settled(self, *paths: str) -> None:
        """Before these names are changed or uploaded to, or what is above or below them: Unreachable where one is in
        doubt and the remote does not tell now."""
        await self._ask([doubt for doubt in self._all if any(map(doubt.concerns, paths))])

    async def arrived(self, path: str) -> None:
        """Before a file of this name is made or changed: `settled`, of renames to it alone. There may be another by
        now, of which something is here under the old name."""
        await self._ask([doubt for doubt in self._all if doubt.move.new == path])

    async def _ask(self, doubts: Sequence[_Doubt]) -> None:
        for doubt in doubts:
            if not doubt.over:
                doubt.wanted.set()
                await doubt.asked.wait()
            if not doubt.over:
                raise Unreachable(doubt.move.old, "it is not known yet whether it was renamed or removed")

    async def recover(self, finish: Callable[[Move], Awaitable[None]], *, reachable: bool) -> None:
        """Before anything else: the last run ended while the remote renamed or removed something.

        Where a remote that can be reached does not tell of a rename, it is found out in the background: ``finish``.
        Files follow the name, and those that were replaced or removed are gone, as they were to be: also what is only
        cached, for two files of one size may be of one second. What was written since, by a run that had no remote to
        ask, stays as it is; that run finds what was being removed as it was.
        """
        for move in self._store.index.moves():
            for path in (move.old, move.new):
                self._store.retired.retire(path.rpartition("/")[0])
            if not move.new:
                await self._recover_removal(move, reachable=reachable)
            elif reachable:
                await self._recover_rename(move, finish)

    async def _recover_rename(self, move: Move, finish: Callable[[Move], Awaitable[None]]) -> None:
        old, new = move.old, move.new
        item, loser, dirty = self._store.get(old), self._store.get(new), self._store.dirty_items()
        later = loser is not None and loser.dirty and loser.id != move.replaced
        later = later or any(found.path.startswith(new + "/") for found in dirty)
        item = item if item is not None and _is_moved(item, move) and not later else None
        loser = None if later else loser
        below = not later and (not move.versions or any(found.path.startswith(old + "/") for found in dirty))
        if item or loser or below:
            happened = await self.happened(move)
            if happened is None:
                self._keep(move, partial(finish, move))
                return
            if happened:
                log.info("%s was being renamed to %s when the last run ended, and it was", old, new)
                if item is not None:
                    self._store.publish(item, new, moved=old)
                elif loser is not None:
                    self._store.unlink(loser)
                elif below:
                    self._store.rename_tree(old, new)
        self._store.index.end_move(old)

    async def _recover_removal(self, move: Move, *, reachable: bool) -> None:
        item = self._store.peek(move.old)
        same = item is not None and item.id == move.item and local_version(item) in move.versions
        if item is not None and same and reachable and await self.happened(move):
            log.info("%s was being removed when the last run ended, and it was", move.old)
            self._store.unlink(item, gone=move.old)
        else:
            self._store.index.end_move(move.old)

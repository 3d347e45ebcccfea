"""What close returned on reaches the disk itself a few seconds later, also where it waits for its upload for hours.

And what was synced and has been replaced or removed since is deleted, once the index that says so is on the disk.

Used by the Vfs, one task per storage. Until then a loss of power leaves such a file beside its name
(``name (interrupted TIME).ext``), as nobody can tell whether the disk has all of it. Files that are uploaded sooner,
which is the rule, are never synced here.
"""

from __future__ import annotations

import logging
from typing import final

import trio

from .item import Generation, Item
from .rows import ItemId
from .store import Store

log = logging.getLogger(__name__)

MANY = 32
"""Files that are synced by syncing the whole disk of the cache."""
TURN = 16
"""Files of which the index is told at a time."""
EVERY = 5.0
"""Seconds between looks; what has not changed between two of them is synced."""


@final
class LateSync:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[ItemId, Generation] = {}

    async def run(self) -> None:
        """For ever."""
        due = trio.current_time() + EVERY
        while True:
            with trio.move_on_at(due) as waiting:
                await self._store.graves.many.wait()
            try:
                if waiting.cancelled_caught:
                    due = trio.current_time() + EVERY
                    await self.look()
                else:
                    await self._bury()
            except OSError as problem:  # the cache's disk: who needs it is told, and the next look tries again
                log.warning("changed files cannot be synced now: %s", problem)

    async def look(self) -> None:
        """Sync what is closed and has not changed since the last look; then the index, once for all of it."""
        dirty = [item for item in self._store.dirty_items() if not item.untouched]
        for item in dirty:
            if not item.row.promise and not item.writers and not item.lent:  # the disk refused to hear of its close
                self._store.promise(item, 1)
        waiting = [item for item in dirty if item.row.promise == 1]
        ready = [item for item in waiting if self._seen.get(item.id) == item.generation and not item.lent]
        synced = False
        if len(ready) >= MANY:
            synced = await self._sync_all(ready)
        else:
            for item in ready:
                synced |= await self._sync(item)
        self._seen = {item.id: item.generation for item in waiting if item.dirty and item.row.promise == 1}
        if synced or self._store.graves.waiting:
            await self._bury()

    async def _bury(self) -> None:
        self._store.index.pay()
        doomed = self._store.graves.look()
        await trio.to_thread.run_sync(self._store.index.sync)
        self._store.graves.bury(doomed)

    async def _sync_all(self, items: list[Item]) -> bool:
        """One syncfs(2): fsync(2) of thousands of small files and their folders keeps the disk busy for a minute."""
        before = [(item, item.generation, item.row.now()) for item in items]
        try:
            await trio.to_thread.run_sync(self._store.sync_everything)
        except OSError as problem:
            log.warning("%d files could not be synced to the cache's disk: %s", len(items), problem)
            return False
        for count, (item, generation, synced) in enumerate(before):
            if item.dirty and item.generation == generation and not item.lent and item.row.path is not None:
                self._store.promise(item, 2, synced)
            if count % TURN == TURN - 1:  # each is a write of the index: programs have their turn in between
                await trio.lowlevel.checkpoint()
        return True

    async def _sync(self, item: Item) -> bool:
        generation, synced = item.generation, item.row.now()
        before = item.row.atime
        self._store.acquire(item)
        item.row.atime = before
        try:
            await trio.to_thread.run_sync(self._store.sync, item)
        except OSError as problem:
            log.warning("%s could not be synced to the cache's disk: %s", item.path, problem)
            return False
        else:
            if not item.dirty or item.generation != generation:
                return False
            self._store.promise(item, 2, synced)
            return True
        finally:
            self._store.release(item)

"""Eviction: keeps the cache within its bounds. Used by the service, woken by writes that found no room.

By age first, then by size or free space, least recently used first; never what is dirty, open or pinned.
The index is asked in order of access, so that a million items cost nothing until they must go.
"""

from __future__ import annotations

import logging
import os
import time
from typing import final

import trio

from ..quantity import format_size
from ..settings import CacheSettings
from ..spans import Span
from .rows import ItemId
from .store import Store

log = logging.getLogger(__name__)

BATCH = 256
UNBOUNDED = -(1 << 62)
ROOMY = 512 << 20
"""Bytes that must be free on the cache's disk for files to be written past the cache's bookkeeping."""
RESCUE = 16 << 20
"""Bytes of clean files that are given back when the disk is found to be full."""
SLICE = 1 << 20
"""Least that a file in use loses at a time."""


@final
class Evictor:
    """Deletes clean items nobody uses."""

    def __init__(self, store: Store, settings: CacheSettings) -> None:
        self._store = store
        self._settings = settings
        self._bounded = settings.max_size is not None or settings.min_free_space is not None

    async def run(self) -> None:
        """Tidy every ``poll_interval``; never, where that is off. Moves the index's log along, too."""
        while True:
            await trio.sleep(self._settings.poll_interval or 60.0)
            try:
                await trio.to_thread.run_sync(self._store.index.checkpoint)
                self._store.save_resting()
                if self._settings.poll_interval is not None:
                    self.tidy()
            except OSError as problem:  # the cache's disk: whoever needs it is told, and this goes on trying
                log.warning("the cache cannot be tidied now: %s", problem)

    def tidy(self) -> int:
        """Bring the cache within its bounds as far as that is possible; answers the bytes given back."""
        freed = 0
        if self._settings.max_age is not None:
            freed += self._evict(time.time() - self._settings.max_age, None)
        over = self.over()
        if over > 0:
            freed += self._evict(time.time() + 1, over)
        return freed

    def make_room(self, wanted: int) -> int:
        """Give back at least ``wanted`` bytes if clean items, at last those in use, hold that much."""
        wanted = max(wanted, self.over())
        freed = self._evict(time.time() + 1, wanted)
        if freed < wanted:
            freed += self._shrink_open(wanted - freed)
        return freed

    def rescue(self) -> int:
        """The disk is full: give back a good part of what is clean; answers how many bytes."""
        return self.make_room(RESCUE)

    def roomy(self) -> bool:
        """Whether the disk is far from full."""
        room = os.statvfs(self._store.directory)
        return room.f_bavail * room.f_frsize >= ROOMY

    def fits(self, count: int) -> bool:
        """Whether ``count`` more bytes may be held, after giving back what that takes."""
        if not self._bounded:
            return True
        over = self.over() + count
        return over <= 0 or self.make_room(over) >= over

    def _shrink_open(self, wanted: int) -> int:
        """A clean file in use can lose ranges: they are fetched again when they are wanted."""
        freed = 0
        for item in self._store.open_clean():
            if item.path in self._store.pins:
                continue
            for span in list(item.spans):
                if freed >= wanted:
                    return freed
                stop = min(span.stop, span.start + max(wanted - freed, SLICE))
                freed += self._store.discard_clean(item, Span(span.start, stop))
        return freed

    def _pinned(self, ident: ItemId) -> bool:
        if not self._store.pins:
            return False
        path = self._store.index.path_of(ident)
        return path is not None and path in self._store.pins

    def over(self) -> int:
        """Bytes held beyond the bounds; 0 or less is fine."""
        over = UNBOUNDED
        if self._settings.max_size is not None:
            over = self._store.held - self._settings.max_size
        if self._settings.min_free_space is not None:
            room = os.statvfs(self._store.directory)
            over = max(over, self._settings.min_free_space - room.f_bavail * room.f_frsize)
        return over

    def _evict(self, before: float, wanted: int | None) -> int:
        self._store.save_resting()
        freed = 0
        while wanted is None or freed < wanted:
            victims: list[tuple[ItemId, int]] = []
            planned = freed
            for ident, _, held in self._store.index.oldest(before):
                if self._store.in_use(ident) is None and not self._pinned(ident):
                    victims.append((ident, held))
                    planned += held
                if len(victims) >= BATCH or (wanted is not None and planned >= wanted):
                    break
            if not victims:
                break
            freed += self._store.evict(victims)
        if freed:
            log.debug("%s of clean cached files given back", format_size(freed))
        return freed

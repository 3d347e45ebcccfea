"""Cache files that nothing needs any more, and what has to be before they go. Used by the store and its opening.

Their ids are in the index's trash, in the same step in which the index forgets them; a crash leaves the files to the
next start. Those that were synced and not uploaded wait longer: until the index that forgets them is on the disk
itself, a loss of power would bring the entry back, and it must find its bytes.

Trio thread only, but for what says otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import final

import trio

from .index import Index
from .rows import ItemId
from .unlinking import Unlinker

log = logging.getLogger(__name__)

DOOMED_MOST = 4 << 20
"""Bytes of synced files that may wait for the next sync of the index."""
TRASH_BATCH = 64


@final
class Graves:
    """The files of one store that are to be deleted; ``file`` answers where the one of an id is."""

    def __init__(self, index: Index, file: Callable[[ItemId], str]) -> None:
        self._index = index
        self._file = file
        self._unlinker = Unlinker()
        self._doomed: dict[ItemId, int] = {}
        """Ids, and bytes, of files that wait for the index to be on the disk."""
        self._bytes = 0
        self.many = trio.Event()
        """They take so much room that they should go now."""
        self.left: list[ItemId] = []
        """Ids whose files a former process did not get to delete."""

    @property
    def waiting(self) -> tuple[ItemId, ...]:
        """Those that wait for the index to be on the disk; `bury` once it is."""
        return tuple(self._doomed)

    def doom(self, ident: ItemId, size: int) -> None:
        """It waits."""
        self._doomed[ident] = size
        self._bytes += size
        if self._bytes > DOOMED_MOST:
            self.many.set()

    def look(self) -> tuple[ItemId, ...]:
        """Like `waiting`, for whoever is about to sync the index: `many` begins anew."""
        self.many = trio.Event()
        return self.waiting

    def bury(self, idents: Sequence[ItemId]) -> None:
        """The index that forgets these is on the disk: their files go."""
        for ident in idents:
            self._bytes -= self._doomed.pop(ident, 0)
        self.unlink(idents)

    def unlink_soon(self, ident: ItemId) -> None:
        """Delete one file, in a thread."""
        self._unlinker.unlink(ident, self._file(ident))
        self._tidy()

    def unlink(self, idents: Sequence[ItemId]) -> None:
        """Delete files; their room is free when it returns."""
        self.unlink_files(idents)
        self._unlinker.gone += idents
        self._tidy()

    def unlink_files(self, idents: Sequence[ItemId]) -> None:
        """Delete files, and leave the ids in the trash. Blocking; from any thread."""
        for ident in idents:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._file(ident))

    def _tidy(self) -> None:
        if len(self._unlinker.gone) >= TRASH_BATCH:
            try:
                self.empty_trash()
            except OSError as problem:
                log.info("what was deleted from the cache is not written down yet: %s", problem)

    def empty_trash(self) -> None:
        """Forget the ids whose files are gone."""
        gone = list(self._unlinker.gone)  # the unlinker's thread may add to it meanwhile
        self._index.trash_emptied(gone)
        del self._unlinker.gone[: len(gone)]

    def finish(self) -> None:
        """Return when everything that is to be deleted soon is deleted. Blocking."""
        self._unlinker.close()

"""Deletes cache files in a thread: on a busy disk, or for a large file, unlink(2) takes milliseconds. For the store.

Whoever asks has the id in the index's trash before, and takes it out once it shows up in `gone`; a crash in between
leaves the file to the next start.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import final

from .rows import ItemId

PAUSE = 0.05
"""Seconds in which more to delete may gather: waking a thread for each takes longer than deleting a small file."""


@final
class Unlinker:
    """One thread, started at first use, and what it has done."""

    def __init__(self) -> None:
        self.gone: list[ItemId] = []
        """Ids whose files do not exist any more."""
        self._queue: queue.SimpleQueue[tuple[ItemId, str] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def unlink(self, ident: ItemId, path: str) -> None:
        """Delete a file, soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="unlink", daemon=True)
            self._thread.start()
        self._queue.put((ident, path))

    def close(self) -> None:
        """Return when everything is deleted. Blocking."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._queue.empty():
                time.sleep(PAUSE)
            ident, path = task
            try:
                os.unlink(path)
            except FileNotFoundError:
                self.gone.append(ident)
            except OSError:
                continue  # it stays in the trash, for the next start
            else:
                self.gone.append(ident)

"""One sync for all who wait for one. Used by the index, from any thread.

Syncing a file covers what was written before it begins, by whomever. So while one runs, those who come gather
for the next: a hundred commits that wait at once cost two syncs, not a hundred.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import final


@final
class _Round:
    __slots__ = ("done", "problem")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.problem: OSError | None = None


@final
class SharedSync:
    """Calls ``sync`` for its callers: each call returns after a sync that began after the call did."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._next: _Round | None = None
        """Those who gather; the first of them does it once the one that runs has ended."""

    def __call__(self) -> None:
        """Blocks. Raises OSError where the sync of this call's round failed."""
        with self._lock:
            mine, first = self._next, self._next is None
            if mine is None:
                mine = self._next = _Round()
        if first:
            with self._running:
                with self._lock:
                    self._next = None
                try:
                    self._sync()
                except OSError as problem:
                    mine.problem = problem
                except BaseException:
                    mine.problem = OSError(errno.EIO, os.strerror(errno.EIO))
                    raise
                finally:
                    mine.done.set()
        else:
            mine.done.wait()
        if mine.problem is not None:
            raise OSError(mine.problem.errno, mine.problem.strerror)

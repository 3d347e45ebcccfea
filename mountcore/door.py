"""A way into the core for foreign threads that costs no trip: plain functions run while the trio thread sleeps.

Used by the FTP front end for what can be answered at once. The trio thread holds a lock whenever it runs and lets it
go while it waits for events; whoever has the lock meanwhile may run a function of the core, as if it were a step of
a task between two checkpoints. A trip to the trio thread and back wakes two threads; on a busy machine each of them
waits for its turn, which took more time for a small file than everything else.

Such functions may set events, start tasks and ask for the time, as on the trio thread: trio keeps what it needs for
that in a thread-local, which is lent for the moment. That is not of trio's public interface. Where it is not as
expected, `try_run` answers that it cannot, and its callers make the trip; a test says so then.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, final

import trio

_internals: Any = importlib.import_module("trio._core._run")
_RUNNING: Any = getattr(_internals, "GLOBAL_RUN_CONTEXT", None)

T = TypeVar("T")
PATIENCE = 0.002
"""Seconds to wait for the trio thread to fall asleep; while it is busy, a trip is no slower."""


class Closed:
    """What `try_run` answers when nothing was run."""


CLOSED: Final = Closed()


@final
class Door(trio.abc.Instrument):
    """One for each run of trio; opened by everybody who wants it, on the trio thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        """The trio thread wants to go on: nobody else begins."""
        self._users = 0
        self._token = trio.lowlevel.current_trio_token()
        self._runner: Any = getattr(_RUNNING, "runner", None)
        self._usable = hasattr(self._runner, "runq")

    # the trio thread

    def open(self) -> None:
        """One user more. Each `open` has its `close`."""
        self._users += 1
        if self._users == 1 and self._usable:
            self._lock = threading.Lock()  # the former one, if any, stays taken for good
            self._lock.acquire()
            trio.lowlevel.add_instrument(self)

    def close(self) -> None:
        """One user less; after the last the lock stays taken, so that nobody gets in."""
        self._users -= 1
        if self._users == 0 and self._usable:
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Trio is about to sleep."""
        self._lock.release()

    def after_io_wait(self, timeout: float) -> None:
        """Trio woke up."""
        self._wanted = True
        try:
            self._lock.acquire()
        except BaseException:  # trio drops an instrument that raises: nobody may come in any more
            self._usable = False
            raise
        self._wanted = False

    # any other thread

    def try_run(self, function: Callable[..., T], *args: object) -> T | Closed:
        """Run the function, or answer `CLOSED`. Raises what it raises. It must neither block nor take long."""
        lock = self._lock
        if not self._users or not self._usable or self._wanted or not lock.acquire(timeout=PATIENCE):
            return CLOSED
        try:
            _RUNNING.runner = self._runner
            try:
                return function(*args)
            finally:
                del _RUNNING.runner
        finally:
            work = bool(self._runner.runq)
            lock.release()
            if work:  # it woke a task: trio has to look
                self._token.run_sync_soon(_nothing)


def _nothing() -> None:
    pass

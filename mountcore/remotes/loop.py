"""An asyncio loop in a thread of its own, for adapters whose library knows only asyncio; trio waits for it.

A call from trio becomes one asyncio task. Cancelling the trio side cancels that task and waits until it has
ended, so nothing of a cancelled call runs on; what a task does about its cancellation must be bounded. The thread
starts with the first call and ends with :meth:`LoopThread.stop`, at the latest when the interpreter exits: a thread
that still runs then makes the process abort now and then.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar, final

import outcome
import trio

T = TypeVar("T")
STOP_WITHIN = 10.0
"""Seconds for the thread to end."""


@final
class LoopThread:
    """One loop, one thread. Used from any trio run, one at a time or several."""

    def __init__(
        self, name: str, workers: int = 8, make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        """``workers``: threads for what blocks, see :meth:`in_thread`; ``make`` makes the loop."""
        self._make = make
        self._name = name
        self._workers = workers
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._executor: ThreadPoolExecutor | None = None

    @property
    def running(self) -> bool:
        """Whether there is a thread to stop."""
        return self._loop is not None

    async def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its end. A checkpoint."""
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(self._started(), make)
        return await call.wait()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what blocks in a worker thread; on the loop only."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def stop(self) -> None:
        """End the thread; tasks that still run are cancelled. Idempotent. Blocks for a moment."""
        with self._lock:
            loop, thread, executor = self._loop, self._thread, self._executor
            self._loop = self._thread = self._executor = None
        if loop is None or thread is None or executor is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_WITHIN)
        executor.shutdown(wait=False, cancel_futures=True)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = self._make()
                self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix=f"{self._name}-io")
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
                _running.add(self)
            return self._loop


_running: weakref.WeakSet[LoopThread] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for thread in list(_running):
        thread.stop()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=STOP_WITHIN / 2))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


@final
class _Call(Generic[T]):
    """One call in flight, between two loops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._loop = loop
        self._make = make
        self._asyncio_task: asyncio.Task[T] | None = None
        self._waiter = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()
        self._cancelled = False

    async def wait(self) -> T:
        self._loop.call_soon_threadsafe(self._start)
        raise_cancel: Callable[[], Any] | None = None

        def abort(raising: Callable[[], Any]) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raising
            self._loop.call_soon_threadsafe(self._cancel)
            return trio.lowlevel.Abort.FAILED

        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        except asyncio.CancelledError:
            if raise_cancel is not None:
                raise_cancel()
            raise trio.ClosedResourceError("the storage was closed meanwhile") from None
        return result

    def _start(self) -> None:
        self._asyncio_task = self._loop.create_task(self._make())
        self._asyncio_task.add_done_callback(self._done)
        if self._cancelled:
            self._asyncio_task.cancel()

    def _cancel(self) -> None:
        self._cancelled = True
        if self._asyncio_task is not None:
            self._asyncio_task.cancel()

    def _done(self, task: asyncio.Task[T]) -> None:
        result: outcome.Outcome[T]
        if task.cancelled():
            result = outcome.Error(asyncio.CancelledError())
        elif (problem := task.exception()) is not None:
            result = outcome.Error(problem)
        else:
            result = outcome.Value(task.result())
        with suppress(trio.RunFinishedError):  # nobody waits any more
            self._token.run_sync_soon(trio.lowlevel.reschedule, self._waiter, result)

"""A blocking façade for foreign threads: runs core operations on the trio thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, final

import outcome
import trio

T = TypeVar("T")


@final
class ThreadPortal:
    """The way into the core from threads that are not trio's."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.token = token

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run ``operation(*args)`` on the trio thread and wait for it; blocks this thread only.

        Raises what the operation raises, and ``trio.RunFinishedError`` once the core has ended.
        """
        return trio.from_thread.run(operation, *args, trio_token=self.token)

    def post(
        self, operation: Callable[..., Awaitable[T]], *args: object, done: Callable[[outcome.Outcome[T]], None]
    ) -> None:
        """Start ``operation(*args)`` and return; ``done`` gets its outcome, on the trio thread, and must not block."""

        async def run() -> None:
            result: outcome.Outcome[Any]
            try:
                result = outcome.Value(await operation(*args))
            except Exception as problem:  # whatever it was belongs to the caller's thread, not to the core
                result = outcome.Error(problem)
            done(result)

        self.token.run_sync_soon(trio.lowlevel.spawn_system_task, run)

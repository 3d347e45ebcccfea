"""The way from session threads into the core: operations that end when the server stops.

Used by every part of a session that needs the core. An operation is a coroutine function; it runs on the
trio thread, in a task of its own, under a cancel scope that `Bridge.close` cancels: a session that waits for
a storage which hangs gets Unreachable then, and its thread can end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import outcome
import trio

from mountcore.errors import Unreachable
from mountcore.portal import ThreadPortal
from mountcore.vfs import ORIGIN

T = TypeVar("T")


@final
class Bridge:
    """Runs core operations for the sessions of one server."""

    def __init__(self, portal: ThreadPortal, origin: object) -> None:
        self._portal = portal
        self._origin = origin
        self._closed = False
        self._running: set[trio.CancelScope] = set()
        self._ended = trio.Event()

    # any thread

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run the operation and wait for it; blocks this thread only. Raises what it raises."""
        result: T = self._portal.call(self._guarded, operation, *args)
        return result

    def post(
        self, operation: Callable[..., Awaitable[T]], *args: object, done: Callable[[outcome.Outcome[T]], None]
    ) -> None:
        """Start the operation; ``done`` gets the outcome on the trio thread and must neither block nor raise."""
        self._portal.post(self._guarded, operation, *args, done=done)

    # the trio thread

    async def _guarded(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        if self._closed:
            raise Unreachable("", "the server is stopping")
        ORIGIN.set(self._origin)
        with trio.CancelScope() as scope:
            self._running.add(scope)
            try:
                return await operation(*args)
            finally:
                self._running.discard(scope)
                if not self._running:
                    self._ended.set()
        raise Unreachable("", "the server is stopping")

    async def close(self) -> None:
        """Start nothing more, cancel what runs, return when it has ended."""
        self._closed = True
        for scope in self._running:
            scope.cancel()
        while self._running:
            self._ended = trio.Event()
            await self._ended.wait()

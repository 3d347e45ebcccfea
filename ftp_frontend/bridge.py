"""The way from session threads into the core: operations that end when the server stops.

Used by every part of a session that needs the core. An operation is a coroutine function; it runs on the
trio thread, in a task of its own, under a cancel scope that `Bridge.close` cancels: a session that waits for
a storage which hangs gets Unreachable then, and its thread can end.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import outcome
import trio

from mountcore.door import Closed, Door
from mountcore.errors import Unreachable
from mountcore.portal import ThreadPortal
from mountcore.vfs import ORIGIN

T = TypeVar("T")


@final
class Asked:
    """An operation that was started, and can be given up by whoever asked."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.scope = trio.CancelScope()
        self._token = token

    def give_up(self) -> None:
        """Cancel it; its outcome is then an error. From any thread."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self.scope.cancel)


@final
class Bridge:
    """Runs core operations for the sessions of one server."""

    def __init__(self, portal: ThreadPortal, origin: object, door: Door) -> None:
        self._portal = portal
        self._door = door
        self._origin = origin
        self._context = contextvars.copy_context()
        self._context.run(ORIGIN.set, origin)
        self._closed = self._stopping = False
        self._running: set[trio.CancelScope] = set()
        self._waited_for: set[trio.CancelScope] = set()
        """Those that a session's thread is blocked on."""
        self._ended = trio.Event()

    # any thread

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run the operation and wait for it; blocks this thread only. Raises what it raises."""
        result: T = self._portal.call(self._waited, trio.CancelScope(), operation, *args)
        return result

    def at_once(self, function: Callable[..., T | None], *args: object) -> T | None:
        """Run a plain function of the core and wait for it; None as well where the server stops.

        It runs in this thread if the core sleeps, else on the trio thread, without a task being made for it. For
        answers that may be known already.
        """
        if self._stopping or self._closed:
            return None
        found: T | Closed | None = self._door.try_run(self._with_origin, function, *args)
        if not isinstance(found, Closed):
            return found
        answer: queue.SimpleQueue[outcome.Outcome[T | None]] = queue.SimpleQueue()
        self._portal.token.run_sync_soon(self._run_at_once, answer, function, args)
        return answer.get().unwrap()

    def at_once_here(self, function: Callable[..., T], *args: object) -> T | None:
        """`at_once`, if the core sleeps; None: it was not run."""
        if self._stopping or self._closed:
            return None
        found = self._door.try_run(self._with_origin, function, *args)
        return None if isinstance(found, Closed) else found

    def begin(
        self, operation: Callable[..., Awaitable[T]], *args: object, done: Callable[[outcome.Outcome[T]], None]
    ) -> Asked:
        """Like `post`, for somebody who waits: given up when the server stops."""
        asked = Asked(self._portal.token)
        self._portal.post(self._waited, asked.scope, operation, *args, done=done)
        return asked

    def post(
        self, operation: Callable[..., Awaitable[T]], *args: object, done: Callable[[outcome.Outcome[T]], None]
    ) -> Asked:
        """Start the operation; ``done`` gets the outcome on the trio thread and must neither block nor raise."""
        asked = Asked(self._portal.token)
        self._portal.post(self._guarded, asked.scope, operation, *args, done=done)
        return asked

    # the trio thread

    def _run_at_once(
        self,
        answer: queue.SimpleQueue[outcome.Outcome[T | None]],
        function: Callable[..., T | None],
        args: tuple[object, ...],
    ) -> None:
        if self._stopping or self._closed:
            answer.put(outcome.Value(None))
            return
        answer.put(outcome.capture(self._with_origin, function, *args))

    def _with_origin(self, function: Callable[..., T], *args: object) -> T:
        result: T = self._context.run(function, *args)
        return result

    async def _waited(self, scope: trio.CancelScope, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        self._waited_for.add(scope)
        if self._stopping:
            scope.cancel()
        try:
            return await self._guarded(scope, operation, *args)
        finally:
            self._waited_for.discard(scope)

    async def _guarded(self, scope: trio.CancelScope, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        if self._closed:
            raise Unreachable("", "the server is stopping")
        ORIGIN.set(self._origin)
        with scope:
            self._running.add(scope)
            try:
                return await operation(*args)
            finally:
                self._running.discard(scope)
                if not self._running:
                    self._ended.set()
        raise Unreachable("", "given up")

    def release(self) -> None:
        """Let no session's thread wait any longer. What was started without waiting goes on."""
        self._stopping = True
        for scope in self._waited_for:
            scope.cancel()

    async def close(self) -> None:
        """Start nothing more, cancel what runs, return when it has ended."""
        self._closed = True
        for scope in self._running:
            scope.cancel()
        while self._running:
            self._ended = trio.Event()
            await self._ended.wait()

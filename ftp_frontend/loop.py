"""One session's event loop: pyftpdlib's epoll loop, run by the session's own thread, with a way in for others.

Used by the server (one per session) and by the session's data channel. `SessionLoop.ask` starts a core
operation and calls back *in the loop's thread*; `call_soon` is the only method that other threads may call.

Invariant: nothing is written to the wake-up descriptor once the loop is closed, because its number may
belong to another session by then.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, final

import outcome
import trio

from mountcore.handle import CachedHandle, Handle

from .bridge import Asked, Bridge
from .library import Epoll

T = TypeVar("T")
log = logging.getLogger(__name__)

IMPATIENT = 0.05
"""Seconds that a session does nothing but wait; most answers come in a hundredth of that."""


def _nothing() -> None:
    """Wakes the loop, and that is all."""


@final
class Turn:
    """Long work in the session's own thread, seen from a command that comes in between."""

    given_up = False

    def give_up(self) -> None:
        """It ends at its next step."""
        self.given_up = True


@final
class _Waker:
    """What the loop sees of the wake-up descriptor; the methods are those that pyftpdlib's loop calls."""

    def __init__(self, fd: int, run: Callable[[], None]) -> None:
        self._fileno = fd
        self._run = run

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a command that waited has looked already
            os.eventfd_read(self._fileno)
        self._run()

    def handle_error(self) -> None:
        log.exception("waking a session failed")

    def handle_close(self) -> None:
        """An eventfd never hangs up."""

    def close(self) -> None:
        """The loop closes the descriptor itself."""


class SessionLoop(Epoll):  # type: ignore[misc]
    """A private loop. `run` returns when the session has no sockets left and the core owes it no answer."""

    socket_map: dict[int, Any]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._calls: collections.deque[tuple[Callable[..., None], tuple[Any, ...]]] = collections.deque()
        self._lock = threading.Lock()
        self._wake_fd: int = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._owed = 0
        self._stopping = False
        self.waiting: list[Asked | Turn] = []
        """What commands wait for that are not done yet; more than one only where one was heard during another."""
        self.register(self._wake_fd, _Waker(self._wake_fd, self._run_calls), self.READ)

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        """Run ``function(*args)`` in the loop's thread. From any thread; nothing happens once the loop is closed."""
        with self._lock:
            if self._wake_fd >= 0:
                self._calls.append((function, args))
                os.eventfd_write(self._wake_fd, 1)

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a core operation and wait for it.

        Where it takes longer, the session's sockets are served meanwhile: its transfer goes on, and what is said on
        its control connection is heard (the session sees in ``waiting`` that a command is not done yet).
        """
        answer: queue.SimpleQueue[outcome.Outcome[T]] = queue.SimpleQueue()

        def done(result: outcome.Outcome[T]) -> None:
            answer.put(result)
            if self.waiting:
                self.call_soon(_nothing)

        asked = self._bridge.begin(operation, *args, done=done)
        try:
            return answer.get(timeout=IMPATIENT).unwrap()
        except queue.Empty:
            pass
        self.waiting.append(asked)
        try:
            timeout = self.sched.poll()
            while answer.empty() and not self._stopping:
                self.poll(timeout)
                timeout = self.sched.poll()
        finally:
            self.waiting.pop()
        if self._stopping:
            asked.give_up()
        return answer.get().unwrap()

    def let_go(self, handle: Handle) -> None:
        """Close a handle, at once or soon. Does not wait."""
        if isinstance(handle, CachedHandle) and self._bridge.at_once_here(handle.try_close):
            return
        self.ask(handle.close, then=lambda result: None)

    def call_in_turn(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """`call`, where nothing else of the session may run before the answer is there; for short ones."""
        return self._bridge.call(operation, *args)

    def at_once(self, function: Callable[..., T | None], *args: object) -> T | None:
        """Run a plain function of the core; see `Bridge.at_once`."""
        return self._bridge.at_once(function, *args)

    def at_once_here(self, function: Callable[..., T], *args: object) -> T | None:
        """Run a plain function of the core if that costs no trip; see `Bridge.at_once_here`."""
        return self._bridge.at_once_here(function, *args)

    def attempt(self, at_once: Callable[..., T | None], operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """`call`, where a plain function may have the answer at once, or says None."""
        found = self._bridge.at_once(at_once, *args)
        return self.call(operation, *args) if found is None else found

    def attend(self) -> bool:
        """Between two pieces of long work in this thread: hear what is said; answers whether it is to be given up."""
        turn = Turn()
        self.waiting.append(turn)
        try:
            self.sched.poll()
            self.poll(0)
        finally:
            self.waiting.pop()
        return turn.given_up or self._stopping

    def give_up(self) -> bool:
        """Cancel what commands wait for; answers whether there was anything. They end with an error."""
        for asked in self.waiting:
            asked.give_up()
        return bool(self.waiting)

    def ask(
        self,
        operation: Callable[..., Awaitable[T]],
        *args: object,
        then: Callable[[outcome.Outcome[T]], None],
    ) -> Asked | None:
        """Start a core operation; ``then`` is called with its outcome in this thread. Does not wait."""
        self._owed += 1

        def answered(result: outcome.Outcome[T]) -> None:
            self._owed -= 1
            then(result)

        try:
            return self._bridge.post(operation, *args, done=lambda result: self.call_soon(answered, result))
        except trio.RunFinishedError as problem:
            self.call_soon(answered, outcome.Error(problem))
            return None

    def run(self) -> None:
        """Serve until the session is over or `stop` is called."""
        timeout: float | None = None
        while (len(self.socket_map) > 1 or self._owed) and not self._stopping:
            self.poll(timeout)
            timeout = self.sched.poll()
        self.sched.poll()

    def stop(self) -> None:
        """Leave `run` as soon as what is being done now is done. From any thread."""
        self.call_soon(self._stop)

    def _stop(self) -> None:
        self._stopping = True

    def _run_calls(self) -> None:
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:  # one call that fails must not take the others with it
                log.exception("a session's callback failed")

    def close(self) -> None:
        """Close every socket of the session, and the loop."""
        super().close()
        with self._lock:
            fd, self._wake_fd = self._wake_fd, -1
        if fd >= 0:
            os.close(fd)

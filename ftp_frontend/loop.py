"""One session's event loop: pyftpdlib's epoll loop, run by the session's own thread, with a way in for others.

Used by the server (one per session) and by the session's data channel. `SessionLoop.ask` starts a core
operation and calls back *in the loop's thread*; `call_soon` is the only method that other threads may call.

Invariant: nothing is written to the wake-up descriptor once the loop is closed, because its number may
belong to another session by then.
"""

from __future__ import annotations

import collections
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, final

import outcome
import trio

from .bridge import Asked, Bridge
from .library import Epoll

T = TypeVar("T")
log = logging.getLogger(__name__)


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
        self.register(self._wake_fd, _Waker(self._wake_fd, self._run_calls), self.READ)

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        """Run ``function(*args)`` in the loop's thread. From any thread; nothing happens once the loop is closed."""
        with self._lock:
            if self._wake_fd >= 0:
                self._calls.append((function, args))
                os.eventfd_write(self._wake_fd, 1)

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a core operation and wait for it; the session does nothing else meanwhile."""
        return self._bridge.call(operation, *args)

    def attempt(self, at_once: Callable[..., T | None], operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """`call`, where a plain function may have the answer at once; see `Bridge.attempt`."""
        return self._bridge.attempt(at_once, operation, *args)

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

"""The connections to one server: how many, which to reuse, when to let go.

A connection is lent to one call. It comes back only if settled; after some idle seconds it must answer
NOOP before it is lent again, and after ``idle_timeout`` it is closed by a reaper task that runs only while
connections are idle. The bound shrinks when the server says "too many" and we hold others.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import final

import trio

from ...errors import Busy, Corrupt, TimedOut, Unreachable
from .connection import Connection, TooManyConnections
from .server import Server
from .tls import Trust

log = logging.getLogger(__name__)
CHECK_AFTER = 5.0
"""Idle seconds after which a connection must answer NOOP before it is lent."""
GROW_AFTER = 60.0
_PATIENCE = (0.1, 0.3, 0.7, 1.5)
"""Waits before a server that takes no connection at all is believed: it may not have seen one end yet."""


@final
class Pool:
    """Lends connections; see the module."""

    def __init__(self, server: Server, trust: Trust | None) -> None:
        self.server = server
        self._trust = trust
        self._limit = trio.CapacityLimiter(server.options.connections)
        self._streams = trio.CapacityLimiter(max(1, server.options.connections - 1))
        self._idle: list[Connection] = []
        self._busy = 0
        self._refused_at = 0.0
        self._reaping = False
        self._closed = False

    @property
    def size(self) -> int:
        """How many connections may be open at once, as far as is known."""
        return int(self._limit.total_tokens)

    @property
    def idle(self) -> int:
        """How many connections wait to be lent."""
        return len(self._idle)

    @asynccontextmanager
    async def connection(self, *, stream: bool = False) -> AsyncIterator[Connection]:
        """Borrow a connection. ``stream`` is for downloads, whose reader may pause as long as it likes:
        they leave one connection to everyone else, where there are several."""
        while True:
            async with AsyncExitStack() as held:
                for limiter in (self._streams, self._limit) if stream else (self._limit,):
                    await held.enter_async_context(_held(limiter, self.server))
                connection = await self._checkout()
                if connection is None:
                    continue  # the bound has become smaller: queue again
                self._busy += 1
                try:
                    yield connection
                finally:
                    self._busy -= 1
                    self._take_back(connection)
                return

    def drop_idle(self) -> None:
        """Close what is idle: when one idle connection turned out dead, the others are no better."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    async def aclose(self) -> None:
        """Close what is idle; busy connections are closed as they come back. Works under cancellation."""
        self._closed = True
        self.drop_idle()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _checkout(self) -> Connection | None:
        """A connection; None if the server takes no more and others hold some, so that one will come back."""
        self._grow()
        while self._idle:
            connection = self._idle.pop()
            if await _answers(connection):
                return connection
            connection.close()
        for delay in (*_PATIENCE, None):
            if self._closed:
                raise Unreachable("", f"{self.server.options.address}: this remote is closed")
            try:
                return await Connection.open(self.server, self._trust)
            except TooManyConnections as refusal:
                if self._busy + len(self._idle):
                    self._shrink(self._busy + len(self._idle))
                    return None
                if delay is None:
                    raise Busy("", f"{self.server.options.address}: {refusal}") from None
                await trio.sleep(delay)
        raise AssertionError("unreachable")

    def _shrink(self, count: int) -> None:
        self._refused_at = trio.current_time()
        if count < self.size:
            log.info("%s takes %d connections, not more", self.server.options.address, count)
            self._resize(count)

    def _grow(self) -> None:
        """Try one more, a minute after the last refusal: it may have been about somebody else's connections."""
        if self.size < self.server.options.connections and trio.current_time() > self._refused_at + GROW_AFTER:
            self._refused_at = trio.current_time()
            self._resize(self.size + 1)

    def _resize(self, count: int) -> None:
        self._limit.total_tokens = count
        self._streams.total_tokens = max(1, count - 1)

    def _take_back(self, connection: Connection) -> None:
        if self._closed or not connection.settled:
            connection.close()
            return
        connection.used = True
        connection.idle_since = trio.current_time()
        self._idle.append(connection)
        if not self._reaping and self.server.options.idle_timeout is not None:
            self._reaping = True
            trio.lowlevel.spawn_system_task(self._reap, self.server.options.idle_timeout)

    async def _reap(self, limit: float) -> None:
        try:
            while self._idle:
                await trio.sleep_until(self._idle[0].idle_since + limit)
                while self._idle and self._idle[0].idle_since + limit <= trio.current_time():
                    self._idle.pop(0).close()
        finally:
            self._reaping = False


@asynccontextmanager
async def _held(limiter: trio.CapacityLimiter, server: Server) -> AsyncIterator[None]:
    borrower = object()
    try:
        limiter.acquire_on_behalf_of_nowait(borrower)
        waited = True
    except trio.WouldBlock:
        with trio.move_on_after(server.options.timeout) as wait:
            await limiter.acquire_on_behalf_of(borrower)
        waited = not wait.cancelled_caught
    if not waited:
        raise Busy("", f"{server.options.address}: all {int(limiter.total_tokens)} connections are in use")
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)


async def _answers(connection: Connection) -> bool:
    if connection.is_stale():
        return False
    if trio.current_time() - connection.idle_since < CHECK_AFTER:
        return True
    try:
        await connection.command("NOOP", within=CHECK_AFTER)
    except (Unreachable, TimedOut, Corrupt):
        return False
    return connection.settled

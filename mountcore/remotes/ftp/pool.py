"""The connections to one server: how many, which to reuse, when to let go.

A connection is lent to one call. It comes back only if settled; after some idle seconds it must answer
NOOP before it is lent again, and after ``idle_timeout`` it is closed by a reaper task that runs only while
connections are idle. The bound shrinks when the server says "too many" and we hold others.
"""

from __future__ import annotations

import logging
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
class Loan:
    """A connection that is lent to one call."""

    __slots__ = ("connection", "held")
    connection: Connection

    def __init__(self) -> None:
        self.held: list[trio.CapacityLimiter] = []
        """Of which it takes a part."""

    def end(self) -> None:
        """Let others have it."""
        for limiter in self.held:
            limiter.release_on_behalf_of(self)


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

    async def borrow(self, *, stream: bool = False) -> Loan:
        """Borrow a connection, until `give_back`. ``stream`` is for downloads, whose reader may pause as long as it
        likes: they leave one connection to everyone else, where there are several."""
        while True:
            loan = Loan()
            try:
                for limiter in (self._streams, self._limit) if stream else (self._limit,):
                    await self._admit(loan, limiter)
                connection = await self._checkout()
            except BaseException:
                loan.end()
                raise
            if connection is not None:
                loan.connection = connection
                self._busy += 1
                return loan
            loan.end()  # the bound has become smaller: queue again

    async def _admit(self, loan: Loan, limiter: trio.CapacityLimiter) -> None:
        try:
            limiter.acquire_on_behalf_of_nowait(loan)
        except trio.WouldBlock:
            with trio.move_on_after(self.server.options.timeout) as wait:
                await limiter.acquire_on_behalf_of(loan)
            if wait.cancelled_caught:
                address, count = self.server.options.address, int(limiter.total_tokens)
                raise Busy("", f"{address}: all {count} connections are in use") from None
        loan.held.append(limiter)

    def give_back(self, loan: Loan) -> None:
        """The call is over."""
        self._busy -= 1
        self._take_back(loan.connection)
        loan.end()

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
            await trio.sleep(limit)  # those that are idle now are lent again and again meanwhile
            while self._idle:
                await trio.sleep_until(self._idle[0].idle_since + limit)
                while self._idle and self._idle[0].idle_since + limit <= trio.current_time():
                    self._idle.pop(0).close()
        finally:
            self._reaping = False


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

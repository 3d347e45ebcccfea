"""Waits for sockets, which end after so many seconds.

A cancel scope around each wait is a tenth of what a small file costs, and its end is hardly ever reached. A long limit
need not be kept to the millisecond: one task looks once in a while for waits that have had their time, and wakes them
as the closing of their socket would.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import final

import trio
from trio.lowlevel import RunVar

Socket = trio.socket.SocketType | socket.socket

LONG = 10.0
"""Seconds from which on a limit may be kept late, by `EVERY` at most."""
EVERY = 1.0
_OVER = -1.0


async def readable(sock: Socket, seconds: float) -> None:
    """Wait until a socket may be read from; raises :class:`trio.TooSlowError`. One task at a time."""
    await _wait(trio.lowlevel.wait_readable, sock, seconds)


async def writable(sock: Socket, seconds: float) -> None:
    """Wait until a socket may be written to; raises :class:`trio.TooSlowError`. One task at a time."""
    await _wait(trio.lowlevel.wait_writable, sock, seconds)


async def _wait(wait: Callable[[Socket], Awaitable[None]], sock: Socket, seconds: float) -> None:
    if seconds < LONG:
        with trio.fail_after(max(seconds, 0)):
            await wait(sock)
        return
    ends = _watch().ends
    ends[sock] = trio.current_time() + seconds
    try:
        await wait(sock)
    except trio.ClosedResourceError:
        if ends[sock] == _OVER:
            raise trio.TooSlowError from None
        raise
    finally:
        del ends[sock]


@final
class _Watch:
    """The task that ends waits, for as long as there are some."""

    def __init__(self) -> None:
        self.ends: dict[Socket, float] = {}
        """When waits that go on are over."""
        self.awake = False

    async def run(self) -> None:
        try:
            while self.ends:
                await trio.sleep(EVERY)
                now = trio.current_time()
                for sock in [sock for sock, end in self.ends.items() if end <= now]:
                    self.ends[sock] = _OVER
                    trio.lowlevel.notify_closing(sock)
        finally:
            self.awake = False


_THE = RunVar[_Watch]("waits for sockets")


def _watch() -> _Watch:
    try:
        watch = _THE.get()
    except LookupError:
        watch = _Watch()
        _THE.set(watch)
    if not watch.awake:
        watch.awake = True
        trio.lowlevel.spawn_system_task(watch.run)
    return watch

"""A source's bytes on their way into a socket, in a thread.

A thread that read a piece and one that sent it would hand over a MiB at a time, out of the processor's cache by then;
what is read and sent at once in small pieces stays in it: two thirds of the processor time, and less of it for a server
on the same machine. sendfile(2) would copy nothing on this side; measured, a server on the same machine is slower by it
than by this, as it then has to fetch all of it from memory, and what it sends is not what the file was when it was read
but what it is when the network gets to it.
"""

from __future__ import annotations

import select
import time
from typing import final

import trio

from ..protocol import Source
from ..sources import piece_of
from .dial import send_at_once

PIECE = 128 << 10
SHARE = 0.02
"""Seconds that a thread goes on for, so that who calls a transfer off need not wait long."""


@final
class Feed:
    """The bytes of ``source`` from ``offset`` on; ``offset`` is how far they were sent."""

    def __init__(self, source: Source, offset: int, path: str) -> None:
        self.offset = offset
        self._source = source
        self._path = path
        self._rest = memoryview(b"")
        """Read, and not sent yet."""

    @property
    def done(self) -> bool:
        """Whether all was sent."""
        return self.offset >= self._source.size

    def push(self, stream: trio.SocketStream, address: str) -> bool:
        """Send for a moment; False if the connection takes no more now.

        In a thread. Raises what the source raises, `Corrupt` where it ends too soon, and Unreachable where the
        connection is broken.
        """
        until, ready = time.monotonic() + SHARE, select.poll()
        ready.register(stream.socket.fileno(), select.POLLOUT)
        while not self.done and (left := until - time.monotonic()) > 0:
            if not self._rest:
                self._rest = memoryview(piece_of(self._source, PIECE, self.offset, self._path))
            sent = send_at_once(stream, self._rest, address)
            self._rest = self._rest[sent:]
            self.offset += sent
            if not sent and not ready.poll(left * 1000):
                return False
        return True

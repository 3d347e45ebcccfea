"""MODE Z: a data connection that carries a zlib stream (draft-preston-ftpext-deflate). Used by the data channel.

A stream that ends early is a broken transfer. What is received grows by no more than is asked for at once, however
well it was compressed.
"""

from __future__ import annotations

import zlib
from typing import final

RECEIVED_AT_ONCE = 32 << 10
"""Compressed bytes read from the connection at once: a thousand times that may come out of them."""


@final
class Deflating:
    """Out."""

    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level)
        self._ended = False

    def add(self, data: bytes) -> bytes:
        """Compress; nothing may come out yet."""
        return self._stream.compress(data)

    def end(self) -> bytes:
        """The end of the stream; nothing after the first time."""
        if self._ended:
            return b""
        self._ended = True
        return self._stream.flush()


@final
class Inflating:
    """In. `add`, then `take` until it has nothing more."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._waiting = b""
        self._more = False
        """zlib may hold more than it was allowed to give."""

    @property
    def waiting(self) -> bool:
        """Whether `take` may have something."""
        return bool(self._waiting) or self._more

    def add(self, data: bytes) -> None:
        """Compressed bytes. Not before everything was taken."""
        self._waiting = data

    def take(self, limit: int) -> bytes:
        """The next bytes. Raises OSError for what is no such stream."""
        try:
            data = self._stream.decompress(self._waiting, limit)
        except zlib.error as problem:
            raise Undecodable(str(problem)) from None
        self._waiting = self._stream.unconsumed_tail
        self._more = len(data) == limit and not self._stream.eof
        if self._stream.unused_data:
            raise Undecodable("data after the end of the stream")
        return data

    @property
    def complete(self) -> bool:
        """Whether the stream has ended as it should; one of nothing at all will do as well."""
        return self._stream.eof


class Undecodable(OSError):
    """What the client sent is no zlib stream."""

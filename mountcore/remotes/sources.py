"""Content to upload: from a file, and for libraries that take it from an iterator in a thread of trio's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import trio

from ..errors import Corrupt
from .protocol import Source, file_stamp

__all__ = ["PIECE", "FileSource", "piece_of", "pieces_of"]
PIECE = 1 << 20


class FileSource:
    """The content of an open file, which nobody writes while it is read; how much was asked for, as progress."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._fd = descriptor
        self.size = size
        self.stamp = file_stamp(descriptor)
        self.sent = 0

    def pread(self, length: int, offset: int) -> bytes:
        """Bytes at an offset; from any thread."""
        data = os.pread(self._fd, min(length, max(0, self.size - offset)), offset)
        self.sent = max(self.sent, offset + len(data))
        return data

    def peek(self, length: int, offset: int) -> bytes:
        """Bytes at an offset that are in memory; b"" where none are."""
        buffer = bytearray(min(length, max(0, self.size - offset)))
        try:
            count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # not now, or never in this way; who reads will be told what it is
            return b""
        self.sent = max(self.sent, offset + count)
        return bytes(memoryview(buffer)[:count])


def piece_of(source: Source, most: int, offset: int, path: str = "") -> bytes:
    """The next bytes of a source, on a busy disk perhaps: blocking. `Corrupt` where it ends too soon."""
    piece = source.pread(min(most, source.size - offset), offset)
    if not piece:
        raise Corrupt(path, f"the source ended at {offset} of {source.size} bytes")
    return piece


def pieces_of(source: Source) -> Iterator[bytes]:
    """All of it, in pieces; ends the upload if our caller is cancelled."""
    done = 0
    while done < source.size:
        trio.from_thread.check_cancelled()
        piece = piece_of(source, PIECE, done)
        done += len(piece)
        yield piece

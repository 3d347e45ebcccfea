"""Content to upload, for libraries that take it from an iterator in a thread of trio's."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from ..errors import Corrupt
from .protocol import Source

__all__ = ["PIECE", "pieces_of"]
PIECE = 1 << 20


def pieces_of(source: Source) -> Iterator[bytes]:
    """All of it, in pieces; ends the upload if our caller is cancelled."""
    done = 0
    while done < source.size:
        trio.from_thread.check_cancelled()
        piece = source.pread(min(PIECE, source.size - done), done)
        if not piece:
            raise Corrupt("", f"the source ended at {done} of {source.size} bytes")
        done += len(piece)
        yield piece

"""Files on their way: pieces of a download or an upload, some of them at once. Blocking."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import Any, final

import trio
from smbprotocol.open import Open

from ...errors import Corrupt, Stale, StorageError
from ..protocol import Source, Span
from ..sources import piece_of
from .link import DEPTH, Link


@final
class Download:
    """A span of an open file, piece by piece; one call at a time.

    While a file is open, servers refuse to put another in its place, and keep its name when it is deleted. So whoever
    changes the file here lets go of our own readers first: what they read is no longer there.
    """

    def __init__(self, path: str, link: Link, file: Open, span: Span, size: int) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._expired = False
        self._link = link
        self._file = file
        self._next = span.start
        self._stop = min(span.stop, size)
        self._waiting: deque[tuple[int, Any, Any]] = deque()

    def piece(self) -> bytes:
        """The next piece; b"" at the end."""
        with self._lock:
            if self._expired:
                raise Stale(self.path, "the file has been replaced, renamed or removed")
            return self._piece()

    def _piece(self) -> bytes:
        while self._next < self._stop and len(self._waiting) < DEPTH:
            length = min(self._link.read_piece, self._stop - self._next)
            message, receive = self._file.read(self._next, length, send=False)
            [request] = self._link.post(self.path, message)
            self._waiting.append((length, receive, request))
            self._next += length
        if not self._waiting:
            return b""
        length, receive, request = self._waiting.popleft()
        [piece] = self._link.answers(self.path, [(receive, request)])
        if len(piece) != length:
            raise Corrupt(self.path, f"{len(piece)} bytes came of {length}")
        return bytes(piece)

    def expire(self) -> None:
        """Close the file, and have the reader told."""
        with self._lock:
            self._expired = True
            self._close()

    def close(self) -> None:
        """Take in what is still on its way, and close the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        waits = [(receive, request) for _, receive, request in self._waiting]
        self._waiting.clear()
        with suppress(StorageError):
            self._link.answers(self.path, waits)
        self._link.shut(self.path, self._file)


def send(path: str, link: Link, file: Open, source: Source) -> None:
    """The whole content into an open file. The source's own errors pass as they are."""
    offset, waiting = 0, deque[tuple[int, Any, Any]]()
    try:
        while offset < source.size:
            trio.from_thread.check_cancelled()
            data = bytes(piece_of(source, link.write_piece, offset, path))
            message, receive = file.write(data, offset, send=False)
            [request] = link.post(path, message)
            waiting.append((len(data), receive, request))
            offset += len(data)
            if len(waiting) == DEPTH:
                _written(path, link, *waiting.popleft())
        while waiting:
            _written(path, link, *waiting.popleft())
    finally:
        with suppress(StorageError):
            link.answers(path, [(receive, request) for _, receive, request in waiting])


def _written(path: str, link: Link, length: int, receive: Any, request: Any) -> None:
    [written] = link.answers(path, [(receive, request)])
    if written != length:
        raise Corrupt(path, f"the server took {written} bytes of {length}")

"""Parts of files over HTTP: which range to ask for, and what an answer's body is of it. Pure but for the body.

A server that does not know ranges answers 200 with the whole file: what comes before the span is passed over, and
what comes after is not read. Used by the storage types that are plain HTTP.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import final

from ..errors import Corrupt, IsDirectory, Stale
from .objects.http import Response
from .paths import check_path
from .protocol import Entry, Kind, Span, Version
from .web import SECOND, tag_of, time_of

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@final
class Download:
    """One span of a file of a known version."""

    def __init__(self, path: str, span: Span, version: Version) -> None:
        self._path = path
        self._version = version
        self._start = span.start
        self._stop = min(span.stop, version.size) if version.size >= 0 else span.stop
        self.ranged = self._start > 0 or self._stop < version.size

    @classmethod
    async def of(
        cls, path: str, span: Span, version: Version | None, stat: Callable[[str], Awaitable[Entry]]
    ) -> Download:
        """Of the version that is expected; of what is there where none is, or where no answer would tell."""
        check_path(path)
        if version is None or span.length == 0:
            now = await stat(path)
            if now.kind is Kind.DIRECTORY:
                raise IsDirectory(path)
            if version is not None and not now.version.matches(version):
                raise Stale(path, "the file has changed")
            version = now.version
        return cls(path, span, version)

    @property
    def empty(self) -> bool:
        """Nothing is to be asked for."""
        return self._start >= self._stop

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Of the request."""
        return [("Range", f"bytes={self._start}-{self._stop - 1}")] if self.ranged else []

    async def nothing(self) -> AsyncGenerator[bytes, None]:
        """No bytes."""
        return
        yield b""

    def pieces(self, response: Response) -> AsyncGenerator[bytes, None]:
        """The bytes of the span; ``Stale`` at once if the answer is of another version."""
        if response.status == 416:
            raise Stale(self._path, "the file has become shorter")
        skip, size = self._start, response.headers.get("content-length", "")
        if response.status == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
            if match is None or int(match[1]) != self._start:
                raise Corrupt(self._path, "the server sent another part than was asked for")
            skip, size = 0, match[3]
        tag = tag_of(response.headers.get("etag", ""))
        there = Version(
            int(size) if size.isdecimal() else self._version.size,
            time_of(response.headers.get("last-modified", "")),
            SECOND,
            tag if self._version.tag and tag else "",
        )
        if not there.matches(self._version):
            raise Stale(self._path, "the file has changed")
        if 0 <= self._version.size < there.size:  # the same tag: one of the two is not true
            raise Corrupt(self._path, f"the server has {there.size} bytes of it, and said {self._version.size}")
        return self._cut(response, skip)

    async def _cut(self, response: Response, skip: int) -> AsyncGenerator[bytes, None]:
        missing = self._stop - self._start
        async with aclosing(response.pieces(skip + missing)) as body:
            async for piece in body:
                if skip:
                    passed = min(skip, len(piece))
                    skip -= passed
                    piece = piece[passed:]
                if piece:
                    missing -= len(piece)
                    yield piece
        if missing:
            raise Corrupt(self._path, f"the file ended {missing} bytes too soon")

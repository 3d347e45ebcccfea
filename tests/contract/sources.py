"""Content to upload, and ways to read back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from mountcore.remotes.protocol import ANYTHING, Entry, Expect, Remote, Span, Version, file_stamp

EVERYTHING = Span(0, 1 << 62)


class Content:
    """Bytes as a source; ``before`` is called with the offset before each read."""

    def __init__(self, content: bytes, before: Callable[[int], None] | None = None) -> None:
        self.content = content
        self.before = before

    @property
    def size(self) -> int:
        return len(self.content)

    def pread(self, length: int, offset: int) -> bytes:
        if self.before is not None:
            self.before(offset)
        return self.content[offset : offset + length]


class Pattern:
    """Endless-looking content of any size that is never in memory as a whole."""

    BLOCK = hashlib.sha512(b"portside").digest() * 4096

    def __init__(self, size: int) -> None:
        self.size = size

    def pread(self, length: int, offset: int) -> bytes:
        start = offset % len(self.BLOCK)
        return self.BLOCK[start : start + min(length, self.size - offset)]


class OnDisk:
    """A file on this machine, which is known again."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size
        self.stamp = file_stamp(self._fd)

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._fd, length, offset)


class Failing(Content):
    """A source whose disk breaks after ``good`` bytes."""

    def __init__(self, content: bytes, good: int) -> None:
        super().__init__(content)
        self.good = good

    def pread(self, length: int, offset: int) -> bytes:
        if offset >= self.good:
            raise OSError(5, "the disk broke")
        return super().pread(min(length, self.good - offset), offset)


async def put(
    remote: Remote, path: str, content: bytes = b"", expect: Expect = ANYTHING, mtime_ns: int | None = None
) -> Entry:
    return await remote.put(path, Content(content), expect=expect, mtime_ns=mtime_ns)


async def fetch(remote: Remote, path: str, span: Span = EVERYTHING, version: Version | None = None) -> bytes:
    async with remote.read(path, span, version) as pieces:
        return b"".join([piece async for piece in pieces])


async def entries(remote: Remote, directory: str = "") -> dict[str, Entry]:
    # every remote lists with an async generator; the port promises only an iterator
    async with aclosing(cast(AsyncGenerator[Entry, None], remote.list(directory))) as found:
        listed = [entry async for entry in found]
    by_name = {entry.name: entry for entry in listed}
    assert len(by_name) == len(listed), "a name was listed twice"
    return by_name

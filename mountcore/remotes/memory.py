"""Files in this process's memory: for trials, tests and scratch space. Nothing outlives the process.

Every `open` makes a storage of its own, with an identity that no other has. The strictest remote of all:
exact times, a tag for every content, ``expect`` checked in the step that publishes. All state is touched on
the trio thread only, between checkpoints.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import final

import trio

from ..errors import (
    Corrupt,
    Exists,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    Stale,
)
from .paths import basename, check_path, is_below, parent
from .protocol import (
    Absent,
    Anything,
    Capabilities,
    Entry,
    Expect,
    Kind,
    Remote,
    RenameScope,
    Source,
    Span,
    Usage,
    Version,
)

PIECE = 1 << 20
_CAPS = Capabilities(
    rename=RenameScope.TREE,
    rename_replaces=True,
    set_mtime=True,
    mtime_resolution_ns=1,
    atomic_put=True,
    conditional_put=True,
    tags=True,
    usage=True,
    parallelism=64,
)


@dataclass(slots=True)
class _File:
    content: bytes
    mtime_ns: int
    tag: str


@dataclass(slots=True)
class _Directory:
    mtime_ns: int
    children: dict[str, _File | _Directory] = field(default_factory=dict)


def open(options: dict[str, str], root: str) -> Memory:
    """A new, empty storage; ``root`` exists in it."""
    return Memory(root.strip("/"))


@final
class Memory(Remote):
    """A storage in memory; see the module."""

    def __init__(self, root: str = "") -> None:
        self._identity = f"memory://{secrets.token_hex(8)}/{check_path(root)}"
        self._root = _Directory(time.time_ns())
        self._tags = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Memory {self._identity}>"

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def caps(self) -> Capabilities:
        return _CAPS

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        await trio.lowlevel.checkpoint()
        node = self._directory(directory)
        for name, child in tuple(node.children.items()):
            yield _entry(name, child)

    async def stat(self, path: str) -> Entry:
        await trio.lowlevel.checkpoint()
        return _entry(basename(path), self._find(path))

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        await trio.lowlevel.checkpoint()
        file = self._file(path)
        if version is not None and not _entry("", file).version.matches(version):
            raise Stale(path, "the file has changed")
        yield _pieces(file.content, span)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        await trio.lowlevel.checkpoint()
        self._place(path)
        content = bytearray()
        while piece := source.pread(min(PIECE, source.size - len(content)), len(content)):
            content += piece
            await trio.lowlevel.checkpoint()
        if len(content) != source.size:
            raise Corrupt(path, f"the source ended at {len(content)} of {source.size} bytes")
        directory, name = self._place(path)
        now = directory.children.get(name)
        if isinstance(now, _Directory):
            raise IsDirectory(path)
        match expect:
            case Anything():
                pass
            case Absent():
                if now is not None:
                    raise Stale(path, "the name is taken")
            case Version():
                if now is None or not _entry(name, now).version.matches(expect):
                    raise Stale(path, "the file has changed")
        made = _File(bytes(content), time.time_ns() if mtime_ns is None else mtime_ns, str(next(self._tags)))
        directory.children[name] = made
        return _entry(name, made)

    async def remove(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        self._file(path)
        directory, name = self._place(path)
        del directory.children[name]

    async def mkdir(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        if not path:
            raise Exists(path)
        directory, name = self._place(path)
        if name in directory.children:
            raise Exists(path)
        directory.children[name] = _Directory(time.time_ns())

    async def rmdir(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        if self._directory(path).children:
            raise NotEmpty(path)
        directory, name = self._place(path)
        del directory.children[name]

    async def rename(self, source: str, target: str) -> None:
        await trio.lowlevel.checkpoint()
        moving = self._find(source)
        if source == target:
            return
        if is_below(target, source):
            raise InvalidName(target, "a directory cannot be moved into itself")
        origin, name = self._place(source)
        directory, wanted = self._place(target)
        match moving, directory.children.get(wanted):
            case _File(), _Directory():
                raise IsDirectory(target)
            case _Directory(), _File():
                raise NotDirectory(target)
            case _, _Directory(children=children) if children:
                raise NotEmpty(target)
        directory.children[wanted] = moving
        del origin.children[name]

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        await trio.lowlevel.checkpoint()
        node = self._find(path)
        node.mtime_ns = mtime_ns
        return _entry(basename(path), node)

    async def usage(self) -> Usage:
        await trio.lowlevel.checkpoint()
        return Usage(used=_size(self._root))

    async def aclose(self) -> None:
        """Nothing to let go of; the files live as long as the object."""

    def _find(self, path: str) -> _File | _Directory:
        check_path(path)
        node: _File | _Directory = self._root
        for part in path.split("/") if path else ():
            if isinstance(node, _File):
                raise NotDirectory(path)
            try:
                node = node.children[part]
            except KeyError:
                raise NotFound(path) from None
        return node

    def _file(self, path: str) -> _File:
        node = self._find(path)
        if isinstance(node, _Directory):
            raise IsDirectory(path)
        return node

    def _directory(self, path: str) -> _Directory:
        node = self._find(path)
        if isinstance(node, _File):
            raise NotDirectory(path)
        return node

    def _place(self, path: str) -> tuple[_Directory, str]:
        if not path:
            raise InvalidName(path, "the root itself cannot be replaced or removed")
        return self._directory(parent(check_path(path))), basename(path)


async def _pieces(content: bytes, span: Span) -> AsyncIterator[bytes]:
    for start in range(span.start, min(span.stop, len(content)), PIECE):
        await trio.lowlevel.checkpoint()
        yield content[start : min(start + PIECE, span.stop)]


def _entry(name: str, node: _File | _Directory) -> Entry:
    if isinstance(node, _Directory):
        return Entry(name, Kind.DIRECTORY, 0, node.mtime_ns)
    return Entry(name, Kind.FILE, len(node.content), node.mtime_ns, 1, node.tag)


def _size(node: _File | _Directory) -> int:
    if isinstance(node, _File):
        return len(node.content)
    return sum(map(_size, node.children.values()))

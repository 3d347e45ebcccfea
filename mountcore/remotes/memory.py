"""Files in this process's memory: for trials, tests and scratch space. Nothing outlives the process.

Every `open` makes a storage of its own, with an identity that no other has. The strictest remote of all:
exact times, a tag for every content, ``expect`` checked in the step that publishes, and every change told to
who asks. All state is touched on the trio thread only, between checkpoints.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
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
    Unsupported,
)
from .expecting import check_expected
from .paths import basename, check_path, is_below, join, parent
from .protocol import (
    Capabilities,
    Changes,
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
REMEMBERED = 10_000
"""Changes that are told to who asks; who asks later is told that everything may have changed."""
_CAPS = Capabilities(
    rename=RenameScope.TREE,
    rename_replaces=True,
    set_mtime=True,
    directory_times=True,
    mtime_resolution_ns=1,
    atomic_put=True,
    conditional_put=True,
    tags=True,
    attributes=True,
    hashes=frozenset({"md5", "sha1", "sha256"}),
    copy=True,
    list_tree=True,
    changes=True,
    usage=True,
    parallelism=64,
)


@dataclass(slots=True)
class _File:
    content: bytes
    mtime_ns: int
    tag: str
    ident: int
    attributes: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Directory:
    mtime_ns: int
    ident: int
    attributes: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, _File | _Directory] = field(default_factory=dict)


def open(options: dict[str, str], root: str) -> Memory:
    """A new, empty storage; ``root`` exists in it."""
    return Memory(root.strip("/"))


@final
class Memory(Remote):
    """A storage in memory; see the module."""

    def __init__(self, root: str = "") -> None:
        self._identity = f"memory://{secrets.token_hex(8)}/{check_path(root)}"
        self._idents = itertools.count(1)
        self._root = _Directory(time.time_ns(), next(self._idents))
        self._tags = itertools.count(1)
        self._changed = 0
        """Changes so far, of which the last ones are remembered by the directory they happened in."""
        self._changes: deque[str] = deque(maxlen=REMEMBERED)

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
        return self._store(path, bytes(content), time.time_ns() if mtime_ns is None else mtime_ns, expect)

    def _store(self, path: str, content: bytes, mtime_ns: int, expect: Expect) -> Entry:
        directory, name = self._place(path)
        now = directory.children.get(name)
        if isinstance(now, _Directory):
            raise IsDirectory(path)
        check_expected(None if now is None else _entry(name, now), path, expect)
        tag = str(next(self._tags))
        if now is None:
            now = directory.children[name] = _File(content, mtime_ns, tag, next(self._idents))
        else:
            now.content, now.mtime_ns, now.tag = content, mtime_ns, tag
        self._happened(path)
        return _entry(name, now)

    def _happened(self, *paths: str) -> None:
        """Names changed: remember in which directories."""
        for path in paths:
            self._changed += 1
            self._changes.append(parent(path))

    async def remove(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        self._file(path)
        directory, name = self._place(path)
        del directory.children[name]
        self._happened(path)

    async def mkdir(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        if not path:
            raise Exists(path)
        directory, name = self._place(path)
        if name in directory.children:
            raise Exists(path)
        directory.children[name] = _Directory(time.time_ns(), next(self._idents))
        self._happened(path)

    async def rmdir(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        if self._directory(path).children:
            raise NotEmpty(path)
        directory, name = self._place(path)
        del directory.children[name]
        self._happened(path)

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
        self._happened(source, target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        await trio.lowlevel.checkpoint()
        node = self._find(path)
        node.mtime_ns = mtime_ns
        self._happened(path)
        return _entry(basename(path), node)

    async def usage(self) -> Usage:
        await trio.lowlevel.checkpoint()
        return Usage(used=_size(self._root))

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        await trio.lowlevel.checkpoint()
        return dict(self._find(path).attributes)

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        await trio.lowlevel.checkpoint()
        kept = self._find(path).attributes
        if value is not None:
            kept[name] = value
        elif kept.pop(name, None) is None:
            raise NotFound(path, f"it has no attribute {name!r}")

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        await trio.lowlevel.checkpoint()
        file = self._file(source)
        return self._store(target, file.content, file.mtime_ns, expect)

    async def hash(self, path: str, algorithm: str) -> str:
        await trio.lowlevel.checkpoint()
        content = self._file(path).content
        if algorithm not in _CAPS.hashes:
            raise Unsupported(path, f"no {algorithm} here")
        return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()

    async def list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        await trio.lowlevel.checkpoint()
        waiting = [(directory, self._directory(directory))]
        while waiting:
            path, node = waiting.pop()
            for name, child in tuple(node.children.items()):
                if isinstance(child, _Directory):
                    waiting.append((join(path, name), child))
                yield path, _entry(name, child)

    async def changes(self, cursor: str | None) -> Changes:
        await trio.lowlevel.checkpoint()
        now = str(self._changed)
        if cursor is None:
            return Changes(now)
        missed = self._changed - int(cursor)
        if missed > len(self._changes):
            return Changes(now, everything=True)
        recent = itertools.islice(self._changes, len(self._changes) - missed, None)
        return Changes(now, tuple(dict.fromkeys(recent)))

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
        return Entry(name, Kind.DIRECTORY, 0, node.mtime_ns, ident=node.ident)
    return Entry(name, Kind.FILE, len(node.content), node.mtime_ns, 1, node.tag, ident=node.ident)


def _size(node: _File | _Directory) -> int:
    if isinstance(node, _File):
        return len(node.content)
    return sum(map(_size, node.children.values()))

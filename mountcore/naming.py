"""Names: putting paths together, refusing impossible ones, and locks on single names. Used by the Vfs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from .errors import InvalidName, NameTooLong, NotDirectory, NotFound
from .remotes.protocol import Kind
from .tree import Node

NAME_MAX = 255
"""Bytes of one name, as in the kernel."""


def join(directory: str, name: str) -> str:
    """The path of a name in a directory; "" is the root."""
    return f"{directory}/{name}" if directory else name


def encoded_length(name: str) -> int:
    """Bytes of a name on the kernel's side."""
    return len(name.encode("utf-8", "surrogateescape"))


def new_path(parent: Node, name: str) -> str:
    """The path that a new name would have; raises for a name or place that cannot be."""
    if parent.kind is not Kind.DIRECTORY:
        raise NotDirectory(parent.path())
    if not parent.linked:
        raise NotFound(name)
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidName(name)
    if encoded_length(name) > NAME_MAX:
        raise NameTooLong(name)
    return join(parent.path(), name)


def beside(path: str, why: str) -> str:
    """``dir/name (why TIME).ext``: the extension stays, so that programs know what it is; 255 bytes at most."""
    directory, _, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    note = f" ({why} {time.strftime('%Y-%m-%dT%H.%M.%S')})"
    room = NAME_MAX - encoded_length(note + dot + extension)
    while encoded_length(stem) > room and stem:
        stem = stem[:-1]
    return join(directory, f"{stem}{note}{dot}{extension}")


@final
class _Lock:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0


@final
class NameLocks:
    """A lock for every name that is being changed, and none for the others."""

    def __init__(self) -> None:
        self._locks: dict[tuple[int, str], _Lock] = {}

    @asynccontextmanager
    async def hold(self, *names: tuple[Node, str]) -> AsyncIterator[None]:
        """Be the only one who changes these names; taken in one order, so that two renames cannot block each other."""
        keys = sorted({(parent.inode, name) for parent, name in names})
        held = 0
        for key in keys:
            self._locks.setdefault(key, _Lock()).users += 1
        try:
            for key in keys:
                await self._locks[key].lock.acquire()
                held += 1
            yield
        finally:
            for place, key in enumerate(keys):
                entry = self._locks[key]
                if place < held:
                    entry.lock.release()
                entry.users -= 1
                if not entry.users:
                    del self._locks[key]

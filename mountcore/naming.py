"""Names: putting paths together, refusing impossible ones, and locks on single names. Used by the Vfs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from .errors import InvalidName, NameTooLong, NotDirectory, NotFound
from .remotes.partials import is_ours
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
    if is_ours(name):
        raise InvalidName(name, "portside calls its own unfinished uploads so, and hides them")
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


def within(node: Node | None, directory: Node) -> bool:
    """Whether a node is the directory or below it."""
    while node is not None and node is not directory:
        node = node.parent
    return node is not None


@final
class _Lock:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0


@final
class NameLocks:
    """A lock for every name that is being changed, and none for the others.

    A directory that moves or goes takes everything below along, so that excludes changes of names below it, and
    waits for those under way: who holds names waits for such a directory only before it is counted as busy, and
    a moving directory waits for the busy ones below it alone. Renames of directories are one at a time (``trees``,
    taken before any name), as in the kernel: else two could each wait for the other.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[int, str], _Lock] = {}
        self._busy: list[Node] = []
        """Directories in which names are being changed; one entry a change."""
        self._moving: list[Node] = []
        self._changed = trio.Event()
        self.trees = trio.Lock()

    def free(self, parent: Node, name: str) -> bool:
        """Whether `hold` would not wait; what is done without it then must not be a checkpoint."""
        return (parent.inode, name) not in self._locks and not any(within(parent, moving) for moving in self._moving)

    @asynccontextmanager
    async def moving(self, directory: Node) -> AsyncIterator[None]:
        """Nothing below the directory is changed by anybody else while the block runs."""
        self._moving.append(directory)
        try:
            while any(within(busy, directory) for busy in self._busy):
                await self._changed.wait()
            yield
        finally:
            self._moving.remove(directory)
            self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @asynccontextmanager
    async def hold(self, *names: tuple[Node, str]) -> AsyncIterator[None]:
        """Be the only one who changes these names; taken in one order, so that two renames cannot block each other.

        Paths are to be asked for inside: they may have changed while this waited.
        """
        parents = [parent for parent, _ in names]
        keys = sorted({(parent.inode, name) for parent, name in names})
        held = 0
        for key in keys:
            self._locks.setdefault(key, _Lock()).users += 1
        try:
            for key in keys:
                try:
                    self._locks[key].lock.acquire_nowait()
                except trio.WouldBlock:  # else no trip through the scheduler: nearly every name is free
                    await self._locks[key].lock.acquire()
                held += 1
            while any(within(parent, moving) for parent in parents for moving in self._moving):
                await self._changed.wait()
            self._busy += parents
            try:
                yield
            finally:
                for parent in parents:
                    self._busy.remove(parent)
                self._announce()
        finally:
            for place, key in enumerate(keys):
                entry = self._locks[key]
                if place < held:
                    entry.lock.release()
                entry.users -= 1
                if not entry.users:
                    del self._locks[key]

"""Two names exchange what they stand for: RENAME_EXCHANGE of rename(2). Used by the Vfs.

Storage knows no such thing, so it is three renames, by way of a third name beside the first, ``NAME (exchanging
TIME).ext``. Each is a rename like any other, with its journal, so what was changed here and is not uploaded follows.
Nobody sees what is between: who asks for a name in one of the directories meanwhile waits. If the second or third
fails, those before are undone. A process that is killed in between, or a storage that goes away then, leaves both files
or directories, one of them under the third name.

Concurrency: holds the locks of all three names, and those of directories as a rename does; no cancellation reaches it.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from typing import final

import trio

from .contents import Contents
from .errors import Busy, Exists, InvalidName, NameTooLong, NotFound, StorageError
from .namespace import Namespace
from .naming import beside, join, new_path, within
from .remotes.protocol import Kind
from .tree import Node

log = logging.getLogger(__name__)


@final
class Exchange:
    """Exchanges names of one remote."""

    def __init__(self, contents: Contents, names: Namespace) -> None:
        self._contents = contents
        self._names = names
        self._hidden: dict[int, trio.Event] = {}
        """Directories in which names are being exchanged, by inode."""

    def hides(self, directory: Node) -> bool:
        """Whether what is in the directory is not to be looked at now; `settled` waits. Not a checkpoint."""
        return directory.inode in self._hidden

    async def settled(self, directory: Node) -> None:
        """Wait until the directory can be looked at; not a checkpoint if it can."""
        while (event := self._hidden.get(directory.inode)) is not None:
            await event.wait()

    async def exchange(self, parent: Node, name: str, other: Node, other_name: str) -> None:
        """What is called ``name`` and what is called ``other_name`` exchange their names; both must exist."""
        for path in (join(parent.path(), name), join(other.path(), other_name)):
            self._contents.writable(path)
        await self._names.settled(join(parent.path(), name), join(other.path(), other_name))
        first, second = await self._find(parent, name), await self._find(other, other_name)
        if first is second:
            return
        third = self._free(parent, name)
        async with contextlib.AsyncExitStack() as held:
            names = self._contents.names
            folders = [node for node in (first, second) if node.kind is Kind.DIRECTORY]
            if folders:
                await held.enter_async_context(names.trees)
            await held.enter_async_context(names.hold((parent, name), (other, other_name), (parent, third)))
            if (await self._find(parent, name), await self._find(other, other_name)) != (first, second):
                raise Busy(join(parent.path(), name), "it was replaced just now")
            if within(other, first) or within(parent, second):
                raise InvalidName(first.path(), "a directory cannot be moved into itself")
            for folder in folders:
                await held.enter_async_context(names.moving(folder))
            while self.hides(parent) or self.hides(other):
                await self.settled(parent)
                await self.settled(other)
            with trio.CancelScope(shield=True), self._hiding(parent, other):
                await self._swap(first, parent, second, other, third)
        self._contents.changes.entry(parent, second.name, second)
        self._contents.changes.entry(other, first.name, first)

    async def _swap(self, first: Node, above: Node, second: Node, other: Node, third: str) -> None:
        """Three renames; those that were done are undone if the next one fails."""
        done: list[tuple[Node, Node, str]] = []
        steps = ((first, above, third), (second, above, first.name), (first, other, second.name))
        try:
            for node, parent, new in steps:
                was, old = node.parent or parent, node.name
                await self._names.move(node, parent, new)
                done.append((node, was, old))
        except BaseException:
            for node, parent, old in reversed(done):
                path = node.path()
                try:
                    await self._taken(join(parent.path(), old))
                    await self._names.move(node, parent, old)
                except StorageError as problem:
                    log.warning("%s could not be called %r again after a failed exchange: %s", path, old, problem)
                    break
            raise

    async def _taken(self, path: str) -> None:
        """Raises Exists if the storage has something of that name: what failed, as far as we heard, did happen."""
        with contextlib.suppress(NotFound):
            await self._contents.remote.stat(path)
            raise Exists(path, "nobody knows what the storage has done")

    @contextlib.contextmanager
    def _hiding(self, *directories: Node) -> Iterator[None]:
        event = trio.Event()
        hidden = {directory.inode for directory in directories}
        self._hidden |= dict.fromkeys(hidden, event)
        try:
            yield
        finally:
            for inode in hidden:
                del self._hidden[inode]
            event.set()

    async def _find(self, parent: Node, name: str) -> Node:
        node = await self._contents.tree.find(parent, name)
        if node is None:
            raise NotFound(join(parent.path(), name))
        return node

    def _free(self, parent: Node, name: str) -> str:
        """A name in the directory that nobody has, and that the storage takes."""
        path = beside(join(parent.path(), name), "exchanging")
        third = path.rpartition("/")[2]
        try:
            self._contents.remote.check_name(path)
        except (InvalidName, NameTooLong):
            third = f"exchanging-{secrets.token_hex(4)}"
        while self._contents.tree.known(parent, third) is not None:
            third = f"exchanging-{secrets.token_hex(4)}"
        new_path(parent, third)
        return third

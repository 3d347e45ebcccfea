"""Modification times of directories, where the storage keeps those. Used by :mod:`.metadata`.

Whatever is made in a directory changes its time: also a file that is uploaded into it seconds after a program, which
copies a tree, has set the directory's time and gone on. So a time that was set while files wait for their upload is set
once more when they are stored, unless names were changed there since.

Concurrency: trio thread only.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import final

import trio

from .contents import Contents
from .errors import NotFound, StorageError
from .remotes.protocol import Kind
from .tree import Node

log = logging.getLogger(__name__)

SECOND = 1_000_000_000
PAUSE = 0.2
"""Seconds between looks at whether everything in a directory is stored."""


@final
class DirectoryTimes:
    """Directories of one remote whose time somebody has set."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._again: dict[int, tuple[Node, int]] = {}
        """Directories whose time is to be set once more, by inode, with the time that is shown."""
        self._settled = trio.Event()

    async def set(self, node: Node, mtime_ns: int) -> None:
        """Set a directory's time at the remote."""
        node.mtime_ns = mtime_ns
        with suppress(NotFound):  # it comes with the first file that is uploaded into it
            stored = await self._contents.remote.set_mtime(node.path(), mtime_ns)
            # else the server says yes and does not: then it is shown until the next listing
            if stored.mtime_ns is not None and abs(stored.mtime_ns - mtime_ns) < max(stored.resolution_ns, SECOND):
                node.mtime_ns = stored.mtime_ns
        self._contents.tree.edited(node)
        if _waits(node):
            if not self._again:
                self._contents.nursery.start_soon(self._follow)
            self._again[node.inode] = node, node.mtime_ns

    async def settled(self) -> None:
        """Wait until no time has to be set any more, but for directories with files that cannot be stored."""
        while any(not _waits(node) for node, _ in self._again.values()):
            await self._settled.wait()

    async def _follow(self) -> None:
        while self._again:
            await trio.sleep(PAUSE)
            for inode, (node, wanted) in list(self._again.items()):
                if node.linked and node.mtime_ns == wanted:
                    if _waits(node):
                        continue
                    await self._restore(node, wanted)
                if self._again.get(inode) == (node, wanted):
                    del self._again[inode]
            settled, self._settled = self._settled, trio.Event()
            settled.set()

    async def _restore(self, node: Node, wanted: int) -> None:
        try:
            await self._contents.remote.set_mtime(node.path(), wanted)
        except StorageError as problem:
            log.info("the time of /%s could not be set again: %s", node.path(), problem)


def _waits(node: Node) -> bool:
    """Whether a file in the directory is to be uploaded."""
    return any(
        child.item is not None and child.item.dirty
        for child in (node.children or {}).values()
        if child.kind is Kind.FILE
    )

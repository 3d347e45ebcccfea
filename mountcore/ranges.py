"""Zeros, room and holes in open files: what fallocate(2) and lseek(2) are about. Used by handles.

Files that are not in the cache have neither: storage takes them as one piece.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from .cache.item import Item
from .errors import Unsupported

if TYPE_CHECKING:
    from .tree import Node
    from .vfs import Vfs


class WithoutRanges:
    """Of a handle past the cache. See :class:`~mountcore.handle.Handle`."""

    node: Node

    async def zero(self, offset: int, length: int) -> None:
        raise Unsupported(self.node.path(), "the file is not in the cache")

    async def allocate(self, offset: int, length: int) -> None:
        raise Unsupported(self.node.path(), "the file is not in the cache")

    def seek(self, offset: int, whence: int) -> int:
        return _without_holes(offset, whence, self.size)

    @property
    def size(self) -> int:
        raise NotImplementedError


async def zero(vfs: Vfs, item: Item, offset: int, length: int) -> None:
    """Zeros from ``offset`` on, with a hole below where the disk can; beyond the end they make the file longer."""
    if length <= 0:
        return
    await vfs.make_room(length)
    await vfs.make_dirty(item)
    vfs.store.zero(item, offset, length)


async def allocate(vfs: Vfs, item: Item, offset: int, length: int) -> None:
    """Make sure that bytes up to ``offset + length`` can be written; the file is at least so long afterwards."""
    new = max(0, offset + length - item.size)
    await vfs.make_room(new)
    await vfs.make_dirty(item)
    if new:
        vfs.store.truncate(item, offset + length)
    vfs.store.reserve(item, offset, length)


def seek(item: Item, offset: int, whence: int) -> int:
    """The next data or hole at or after ``offset``: of the cache file, where that is whole."""
    if not item.complete or item.fd < 0:
        return _without_holes(offset, whence, item.size)
    if offset >= item.size:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return min(os.lseek(item.fd, offset, whence), item.size)


def _without_holes(offset: int, whence: int, size: int) -> int:
    if offset >= size:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return offset if whence == os.SEEK_DATA else size

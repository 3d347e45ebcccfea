"""What the mounted file system does, neutral of the session that speaks with the kernel.

Inodes and handles are numbers, names are text (undecodable bytes as surrogates), results are nodes and plain
values; errors are OSErrors. A session owns the translation and nothing else. All calls come on the trio
thread; those that can wait are ``async``.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from mountcore.errors import InvalidName, Unsupported
from mountcore.remotes.protocol import Kind
from mountcore.vfs import Attributes, Handle, Node, OpenFlags, StatFs, Vfs

from .inodes import Inodes

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, as the kernel is told of it."""

    handle: int
    keep_cache: bool
    """What the kernel still holds of the content is right."""


@final
class Operations:
    """A Vfs in the terms of FUSE."""

    def __init__(self, vfs: Vfs) -> None:
        self.vfs = vfs
        self.inodes = Inodes(vfs.root)
        self.handles: dict[int, Handle] = {}
        """Open files; sessions look here for the paths on which a microsecond counts."""
        self._directories: dict[int, Sequence[Node]] = {}
        self._numbers = itertools.count(1)

    # names

    async def lookup(self, parent: int, name: str) -> Node:
        """The node of a name; the session counts it with `told`."""
        directory = self.inodes[parent]
        if name == ".":
            return directory
        if name == "..":
            return directory.parent or directory
        return await self.vfs.lookup(directory, name)

    def told(self, node: Node) -> None:
        """The kernel was told of the node by a reply that counts."""
        self.inodes.remember(node)

    def attributes(self, node: Node) -> Attributes:
        """What stat(2) shows."""
        return self.vfs.attributes(node)

    async def readlink(self, inode: int) -> str:
        """Where a symlink points."""
        return await self.vfs.readlink(self.inodes[inode])

    async def mkdir(self, parent: int, name: str) -> Node:
        """Make a directory. Its mode bits are the mount's, not the caller's."""
        return await self.vfs.mkdir(self.inodes[parent], name)

    async def unlink(self, parent: int, name: str) -> None:
        """Remove a file."""
        await self.vfs.unlink(self.inodes[parent], name)

    async def rmdir(self, parent: int, name: str) -> None:
        """Remove an empty directory."""
        await self.vfs.rmdir(self.inodes[parent], name)

    async def rename(self, parent: int, name: str, new_parent: int, new_name: str, flags: int) -> None:
        """Rename; ``flags`` as in rename(2): NOREPLACE is kept, EXCHANGE is EINVAL like on most file systems."""
        if flags & ~RENAME_NOREPLACE:
            raise InvalidName(new_name, "names cannot be exchanged")
        await self.vfs.rename(
            self.inodes[parent], name, self.inodes[new_parent], new_name, replace=not flags & RENAME_NOREPLACE
        )

    # attributes

    async def setattr(
        self, inode: int, handle: int | None, *, size: int | None = None, mtime_ns: int | None = None
    ) -> Node:
        """Set length and modification time. Owner and mode are the mount's; setting them is accepted and not kept."""
        node = self.inodes[inode]
        if size is not None:
            opened = self.handles.get(handle) if handle is not None else None
            if opened is not None:
                await opened.truncate(size)
            elif node.kind is Kind.DIRECTORY:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            else:
                await self.vfs.truncate(node, size)
        if mtime_ns is not None:
            await self.vfs.set_mtime(node, mtime_ns)
        return node

    async def statfs(self) -> StatFs:
        """Room at the remote."""
        return await self.vfs.statfs()

    # directories

    async def opendir(self, inode: int) -> int:
        """A handle on a directory; what it lists is settled by the first `entries`."""
        node = self.inodes[inode]
        await self.vfs.children(node)
        number = next(self._numbers)
        self._directories[number] = ()
        return number

    async def entries(self, handle: int, inode: int, start: int) -> Sequence[Node]:
        """All entries of a directory as of the last rewind (``start`` 0): offsets stay true while it changes."""
        if start == 0:
            self._directories[handle] = await self.vfs.children(self.inodes[inode])
        return self._directories[handle]

    def releasedir(self, handle: int) -> None:
        """The directory handle is closed."""
        self._directories.pop(handle, None)

    # files

    async def open(self, inode: int, flags: int) -> Opened:
        """Open a file. The kernel has handled O_CREAT and O_EXCL; O_TRUNC and O_APPEND are ours."""
        handle = await self.vfs.open(self.inodes[inode], OpenFlags.from_os(flags))
        return Opened(self._keep(handle), keep_cache=not flags & os.O_TRUNC)

    async def create(self, parent: int, name: str, flags: int) -> tuple[Opened, Node]:
        """Make and open a file."""
        handle = await self.vfs.create(
            self.inodes[parent], name, OpenFlags.from_os(flags), exclusive=bool(flags & os.O_EXCL)
        )
        return Opened(self._keep(handle), keep_cache=False), handle.node

    async def mknod(self, parent: int, name: str, mode: int) -> Node:
        """Make an empty regular file; nothing else has a meaning on a remote."""
        if mode and not stat.S_ISREG(mode):
            raise Unsupported(name, "only regular files can be made here")
        handle = await self.vfs.create(self.inodes[parent], name, OpenFlags.WRITE, exclusive=True)
        try:
            await handle.flush()
        finally:
            await handle.close()
        return handle.node

    def _keep(self, handle: Handle) -> int:
        number = next(self._numbers)
        self.handles[number] = handle
        return number

    async def release(self, number: int) -> None:
        """The last descriptor of an open file is gone."""
        handle = self.handles.pop(number, None)
        if handle is not None:
            await handle.close()

    async def close(self) -> None:
        """The session ended: nobody will release what is still open."""
        for number in list(self.handles):
            await self.release(number)

"""What the mounted file system does, neutral of the session that speaks with the kernel.

Inodes and handles are numbers, names are text (undecodable bytes as surrogates), results are nodes and plain
values; errors are OSErrors. A session owns the translation and nothing else. All calls come on the trio
thread; those that can wait are ``async``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from mountcore.errors import Denied, InvalidName, IsDirectory, NotDirectory, Stale, Unsupported
from mountcore.remotes.protocol import Kind
from mountcore.vfs import Attributes, Handle, Node, OpenFlags, StatFs, Vfs

from .inodes import Inodes
from .slots import Slots
from .xattrs import Xattrs

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
"""Of fallocate(2)."""
COPY_PIECE, COPY_MOST = 1 << 20, 256 << 20
PAGE = 4096
Caller = tuple[int, int] | None
"""Who asks: user and group; None: whoever we are."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, as the kernel is told of it."""

    handle: int
    keep_cache: bool
    """What the kernel still holds of the content is right."""


@final
class Operations:
    """A Vfs in the terms of FUSE.

    ``writeback`` says that the kernel gathers writes: it then reads through handles that a program opened for
    writing only, and places appends itself.
    """

    def __init__(self, vfs: Vfs, *, writeback: bool = False, fsync_stores: bool = False) -> None:
        self.vfs = vfs
        self.inodes = Inodes(vfs.root)
        self.xattrs = Xattrs(vfs)
        self.attributes: Callable[[Node], Attributes] = vfs.attributes
        """What stat(2) shows. Asked of every name in a listing, and so not wrapped."""
        self.told: Callable[[Node], None] = self.inodes.remember
        """The kernel was told of the node by a reply that counts."""
        self.handles: dict[int, Handle] = {}
        """Open files; sessions look here for the paths on which a microsecond counts."""
        self.stale_entry: Callable[[int, str], None] = lambda parent, name: None
        """Told of a name that the kernel may hold and that went by another spelling."""
        self.stale_content: Callable[[int], None] = lambda inode: None
        """Told of a file of which the kernel's pages are wrong, though it was the kernel that changed it."""
        self._writeback = writeback
        self._fsync_stores = fsync_stores
        self._self = (os.geteuid(), os.getegid())
        self._folds = vfs.settings.tree.normalize or vfs.settings.tree.case_insensitive
        self._folds_ascii = vfs.settings.tree.case_insensitive
        self._directories: dict[int, Node] = {}
        """Of open handles."""
        self._slots: dict[int, Slots] = {}
        """Of directories that were listed, by inode, for as long as the kernel may know offsets in them."""
        self._appending: set[int] = set()
        self._beside: dict[int, Handle] = {}
        """For handles that append: a second one, for pages that the kernel writes where they belong."""
        self._wrote: set[int] = set()
        self._made: set[int] = set()
        """Handles of files that were made by opening them."""
        self._distrusted: set[int] = set()
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

    def try_lookup(self, parent: int, name: str) -> Node | None:
        """Like `lookup`, answered at once; None when something has to be waited for."""
        return self.vfs.try_lookup(self.inodes[parent], name) if name not in (".", "..") else None

    def lasting(self, name: str, node: Node | None) -> bool:
        """Whether the kernel may remember what a name stands for: it cannot know that two spellings are one name."""
        if not self._folds or (not self._folds_ascii and name.isascii()):
            return True
        return node is not None and node.name == name

    async def readlink(self, inode: int) -> str:
        """Where a symlink points."""
        return await self.vfs.readlink(self.inodes[inode])

    async def symlink(self, parent: int, name: str, target: str) -> Node:
        """Make a symbolic link; EPERM, as symlink(2) has it, where the remote has none."""
        try:
            return await self.vfs.symlink(self.inodes[parent], name, target)
        except Unsupported as problem:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from problem

    async def link(self, inode: int, parent: int, name: str) -> Node:
        """EPERM, as link(2) has it where there are no hard links.

        Storage that has them would part the two names at the next upload, which replaces a file as a whole, and
        programs believe that equal inode numbers are equal content: git compares them, tar and rsync store one.
        """
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    async def mkdir(self, parent: int, name: str, mode: int, caller: Caller = None) -> Node:
        """Make a directory."""
        return await self._as_made(await self.vfs.mkdir(self.inodes[parent], name), mode, caller)

    async def _as_made(self, node: Node, mode: int, caller: Caller) -> Node:
        """A new node has the caller's mode and is his where the remote keeps that, else the mount's."""
        caps, mode = self.vfs.remote.caps, stat.S_IMODE(mode)
        if caps.owners and caller is not None and caller != self._self:
            above = self.vfs.attributes(node.parent) if node.parent is not None else None
            inherits = above is not None and bool(above.mode & stat.S_ISGID)  # inode(7), set-group-ID bit
            with contextlib.suppress(Denied):  # only root gives files away
                await self.vfs.set_owner(node, caller[0], None if inherits else caller[1])
        if caps.modes and stat.S_IMODE(self.vfs.attributes(node).mode) != mode:
            await self.vfs.set_mode(node, mode)
        return node

    async def unlink(self, parent: int, name: str) -> None:
        """Remove a file."""
        await self.vfs.unlink(self.inodes[parent], await self._spelling(parent, name))

    async def rmdir(self, parent: int, name: str) -> None:
        """Remove an empty directory."""
        await self.vfs.rmdir(self.inodes[parent], await self._spelling(parent, name))

    async def rename(self, parent: int, name: str, new_parent: int, new_name: str, flags: int) -> None:
        """Rename; ``flags`` as in rename(2): NOREPLACE and EXCHANGE are kept, others are EINVAL."""
        if flags == RENAME_EXCHANGE:
            name, new_name = await self._spelling(parent, name), await self._spelling(new_parent, new_name)
            await self.vfs.exchange(self.inodes[parent], name, self.inodes[new_parent], new_name)
            return
        if flags & ~RENAME_NOREPLACE:
            raise InvalidName(new_name, "rename(2) of this kernel's with a flag that is not known here")
        name = await self._spelling(parent, name)
        await self.vfs.rename(
            self.inodes[parent], name, self.inodes[new_parent], new_name, replace=not flags & RENAME_NOREPLACE
        )

    async def _spelling(self, parent: int, name: str) -> str:
        """How a name that is about to go is really spelt; the kernel knows only of the one that it said."""
        if self.lasting(name, None):
            return name
        node = await self.vfs.lookup(self.inodes[parent], name)
        if node.name != name:
            self.stale_entry(parent, node.name)
        return node.name

    # attributes

    async def setattr(
        self,
        inode: int,
        handle: int | None,
        *,
        size: int | None = None,
        mtime_ns: int | None = None,
        atime_ns: int | None = None,
        read_now: bool = False,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> Node:
        """Set length, modification time, and access time, mode and owner where the remote keeps them; else these are
        the mount's, and setting them is accepted and not kept.

        ``read_now``: the access time is that of the call, which beside a modification time is worth no request.
        """
        node = self.inodes[inode]
        if size is not None:
            opened = self.handles.get(handle) if handle is not None else None
            if node.kind is Kind.DIRECTORY:
                raise IsDirectory(node.path())
            if opened is not None:
                await opened.truncate(size)
                self.vfs.content_changed(node)
            else:
                self._check_named(node)
                await self.vfs.truncate(node, size)
        if mtime_ns is not None:
            await self.vfs.set_mtime(node, mtime_ns)
        if atime_ns is not None:
            await self.vfs.set_atime(node, atime_ns, keep=not read_now or mtime_ns is None)
        if uid is not None or gid is not None:
            await self.vfs.set_owner(node, uid, gid)
        if mode is not None:
            await self.vfs.set_mode(node, stat.S_IMODE(mode))
        return node

    async def statfs(self) -> StatFs:
        """Room at the remote."""
        return await self.vfs.statfs()

    # directories

    def opendir(self, inode: int) -> Opened:
        """A handle on a directory; what it lists is settled by the first `entries`."""
        node = self.inodes[inode]
        if node.kind is not Kind.DIRECTORY:
            raise NotDirectory(node.path())
        number = next(self._numbers)
        self._directories[number] = node
        slots = self._slots.get(inode)
        if slots is None or (slots.sparse and not slots.handles):
            slots = self._slots[inode] = Slots(node)
            self._distrusted.add(inode)  # offsets that the kernel remembers are of another order
        slots.handles += 1
        trusted = inode not in self._distrusted and self.vfs.tree.fresh(node)
        self._distrusted.discard(inode)
        return Opened(number, keep_cache=trusted)

    async def entries(self, handle: int, start: int) -> tuple[Node, Slots]:
        """A directory and its entries by their places. One whose parent is not the directory is left out."""
        node = self._directories[handle]
        slots = self._slots[node.inode]
        if start == 0 or node.children is None or self.vfs.unsettled(node):
            slots.take_in(await self.vfs.children(node))
        return node, slots

    def try_entries(self, handle: int, start: int) -> tuple[Node, Slots] | None:
        """Like `entries`, answered at once; None when the remote has to be asked."""
        node = self._directories[handle]
        slots = self._slots[node.inode]
        if start == 0 or node.children is None or self.vfs.unsettled(node):
            found = self.vfs.try_children(node)
            if found is None:
                return None
            slots.take_in(found)
        return node, slots

    def releasedir(self, handle: int) -> None:
        """The directory handle is closed."""
        node = self._directories.pop(handle, None)
        if node is not None:
            self._slots[node.inode].handles -= 1
            self._forget_slots(node.inode)

    def _forget_slots(self, inode: int) -> None:
        """Nobody can know an offset any more."""
        if inode in self._slots and not self._slots[inode].handles and inode not in self.inodes:
            del self._slots[inode]

    # files

    async def open(self, inode: int, flags: int) -> Opened:
        """Open a file. The kernel has handled O_CREAT and O_EXCL; O_TRUNC and O_APPEND are ours."""
        if not flags & os.O_TRUNC:
            return self.open_now(inode, flags)
        node = self.inodes[inode]
        if node.kind is Kind.FILE:
            self._check_named(node)
        self._distrusted.discard(inode)
        handle = await self.vfs.open(node, self._flags(flags))
        self.vfs.content_changed(node)
        return Opened(self._keep(handle, flags), keep_cache=False)

    def open_now(self, inode: int, flags: int) -> Opened:
        """Like `open` without O_TRUNC, for which there is never anything to wait."""
        node = self.inodes[inode]
        if node.kind is Kind.FILE:
            self._check_named(node)
        trusted = inode not in self._distrusted
        self._distrusted.discard(inode)
        return Opened(self._keep(self.vfs.open_now(node, self._flags(flags)), flags), keep_cache=trusted)

    async def create(self, parent: int, name: str, flags: int, mode: int, caller: Caller = None) -> tuple[Opened, Node]:
        """Make and open a file."""
        handle = await self.vfs.create(self.inodes[parent], name, self._flags(flags), exclusive=bool(flags & os.O_EXCL))
        if handle.node.version is None:  # it was made just now, or by somebody who is as new
            try:
                await self._as_made(handle.node, mode, caller)
            except BaseException:
                await handle.close()
                raise
        number = self._keep(handle, flags)
        self._made.add(number)
        return Opened(number, keep_cache=False), handle.node

    async def mknod(self, parent: int, name: str, mode: int, caller: Caller = None) -> Node:
        """Make an empty regular file; nothing else has a meaning on a remote."""
        if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
            raise Unsupported(name, "only regular files can be made here")
        handle = await self.vfs.create(self.inodes[parent], name, OpenFlags.WRITE, exclusive=True)
        try:
            await handle.flush()
        finally:
            await handle.close()
        return await self._as_made(handle.node, mode, caller)

    def try_write(self, number: int, offset: int, data: bytes | memoryview) -> int | None:
        """Write at once; None when something has to be waited for, or decided: use `write`."""
        handle = self.handles[number]
        if number in self._appending and offset != handle.size:
            return None
        self._wrote.add(number)
        return handle.try_write(offset, data)

    async def write(self, number: int, offset: int, data: bytes, *, page: bool | None = None) -> int:
        """Write. ``page``: the kernel writes a page of a mapping, not what a program appends; None: not known."""
        handle = self.handles[number]
        self._wrote.add(number)
        if number in self._appending and offset != handle.size:
            if page is None:
                # an append goes to where the kernel thinks that the end is, and that is rarely a page's start
                page = offset % PAGE == 0 and offset + len(data) <= handle.size
            if page:
                return await (await self._positional(number, handle)).write(offset, data)
            written = await handle.write(offset, data)
            self.stale_content(handle.node.inode)
            return written
        return await handle.write(offset, data)

    async def _positional(self, number: int, handle: Handle) -> Handle:
        if number not in self._beside:
            self._beside[number] = await self.vfs.open(handle.node, OpenFlags.WRITE)
        return self._beside[number]

    async def fallocate(self, number: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2), as far as a file has a meaning for it: room at its end, holes and zeros within it.

        Room beyond the end without a new size is nothing that storage of whole files keeps: EOPNOTSUPP.
        """
        handle = self.handles[number]
        self._wrote.add(number)
        match mode:
            case 0:
                await handle.allocate(offset, length)
            case _ if mode in (PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE):
                stop = offset + length
                if mode & KEEP_SIZE:
                    stop = min(stop, handle.size)
                await handle.zero(offset, stop - offset)
            case _:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def lseek(self, number: int, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE: what is not in the cache counts as data."""
        return self.handles[number].seek(offset, whence)

    async def copy_range(self, origin: int, start: int, target: int, offset: int, length: int) -> int:
        """copy_file_range(2): through the cache, without the kernel in between; answers how much was copied."""
        source, sink = self.handles[origin], self.handles[target]
        self._wrote.add(target)
        copied, length = 0, min(length, COPY_MOST, max(0, source.size - start))
        while copied < length:
            data = await source.read(start + copied, min(COPY_PIECE, length - copied))
            if not data:
                break
            copied += await sink.write(offset + copied, data)
        return copied

    async def flush(self, number: int) -> None:
        """One descriptor of an open file is closed."""
        await self.handles[number].flush()
        self._announce(number)

    async def fsync(self, number: int) -> None:
        """What was written survives power loss; with ``--fsync remote`` it is at the storage."""
        handle = self.handles[number]
        await handle.fsync()
        if self._fsync_stores:
            await self.vfs.settle(handle.node)
        self._announce(number)

    async def fsyncdir(self) -> None:
        """Names survive power loss: all of them, as they share a journal."""
        await self.vfs.sync_names()

    async def release(self, number: int) -> None:
        """The last descriptor of an open file is gone."""
        handle = self.handles.pop(number, None)
        if handle is None:
            return
        self._announce(number, handle)
        self._made.discard(number)
        self._appending.discard(number)
        beside = self._beside.pop(number, None)
        if beside is not None:
            await beside.close()
        await handle.close()

    def distrust(self, inode: int) -> None:
        """A file, or a directory's names, changed by another door: the next open keeps nothing that the kernel has."""
        if inode in self.inodes:
            self._distrusted.add(inode)

    def forget(self, inode: int, times: int) -> None:
        """The kernel gives back names that it was told."""
        if self.inodes.forget(inode, times):
            self._distrusted.discard(inode)
            self._forget_slots(inode)

    def _announce(self, number: int, handle: Handle | None = None) -> None:
        """Tell other mounts of the same storage what was written through this handle."""
        handle = handle or self.handles[number]
        if handle.wrote():  # by a page that is mapped, perhaps, of which the kernel does not tell itself
            self._wrote.add(number)
            if number not in self._made:
                self.stale_content(handle.node.inode)
        if number in self._wrote:
            self._wrote.discard(number)
            self.vfs.content_changed(handle.node)

    def _flags(self, flags: int) -> OpenFlags:
        if self._writeback and flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        if self._writeback:
            flags &= ~os.O_APPEND
        return OpenFlags.from_os(flags)

    def _check_named(self, node: Node) -> None:
        """A file whose name went and that nobody has open has no content any more."""
        if not node.linked and node.item is None:
            raise Stale(node.name, "the file was removed")

    def _keep(self, handle: Handle, flags: int) -> int:
        number = next(self._numbers)
        self.handles[number] = handle
        if flags & os.O_APPEND and not self._writeback:
            self._appending.add(number)
        return number

    async def close(self) -> None:
        """The session ended: nobody will release what is still open."""
        for number, handle in list(self.handles.items()):
            try:
                await handle.sever()
            except OSError as problem:  # the next start tries again
                log.warning("%s may still be written by a program that has it open: %s", handle.node.name, problem)
            try:
                await self.release(number)
            except OSError as problem:  # the cache is closed already, and the journal has it
                log.info("%s could not be closed in order: %s", handle.node.name, problem)

"""Requests of the kernel as calls of the operations, and their results as replies: the direct session's translation.

A handler takes what it needs out of ``body`` before it first waits: the memory behind it is the next request's
afterwards.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable
from typing import final

from mountcore.remotes.protocol import Kind
from mountcore.vfs import Node

from . import kernel as k
from .operations import Opened, Operations
from .passthrough import Passthrough, asks
from .session import TOGETHER, SessionSettings
from .slots import Slots
from .trace import said, said_at_once

Reply = tuple[bytes, ...]
NOTHING: Reply = ()
MOMENT = 1_000_000
"""Nanoseconds that the kernel may believe what it is told of a file that it just made and that is lent: it checks who
may open it at once, and asks if it has nothing to go by. What it writes itself makes it ask all the same."""
_DOTS = (b".", b"..")
_DIRECTORY = k.DIRENT_KINDS[Kind.DIRECTORY]
_PAGE = k.PAGE
_PACK_PLUS = k.DIRENT_PLUS.pack
_NO_ENTRY = bytes(k.ENTRY.size + k.ATTRIBUTES.size)


@final
class Requests:
    """What to do for each request code: `quick` answers at once or says None, `handlers` may wait."""

    def __init__(self, operations: Operations, settings: SessionSettings) -> None:
        self._ops = operations
        self._settings = settings
        self.passthrough = Passthrough(operations.distrust)
        self._device = -1
        whole = int(settings.timeout)
        self._seconds, self._nanos = whole, int((settings.timeout - whole) * 1e9)
        self.quick: dict[int, Callable[[int, memoryview], Reply | None]] = {
            k.Op.LOOKUP: self._try_lookup,
            k.Op.GETATTR: self._getattr,
            k.Op.OPEN: self._try_open,
            k.Op.OPENDIR: self._opendir,
            k.Op.READDIR: lambda inode, body: self._try_list(body, plus=False),
            k.Op.READDIRPLUS: lambda inode, body: self._try_list(body, plus=True),
            k.Op.READ: self._try_read,
            k.Op.WRITE: self._try_write,
            k.Op.RELEASEDIR: self._releasedir,
            k.Op.ACCESS: lambda inode, body: NOTHING,
            k.Op.INIT: self._init,
            k.Op.DESTROY: lambda inode, body: NOTHING,
            k.Op.LSEEK: self._lseek,
        }
        self.handlers: dict[int, Callable[[int, memoryview], Awaitable[Reply]]] = {
            k.Op.LOOKUP: self._lookup,
            k.Op.SETATTR: self._setattr,
            k.Op.READLINK: self._readlink,
            k.Op.SYMLINK: self._symlink,
            k.Op.MKNOD: self._mknod,
            k.Op.MKDIR: self._mkdir,
            k.Op.UNLINK: self._unlink,
            k.Op.RMDIR: self._rmdir,
            k.Op.RENAME: self._rename,
            k.Op.RENAME2: self._rename2,
            k.Op.OPEN: self._open,
            k.Op.READ: self._read,
            k.Op.WRITE: self._write,
            k.Op.STATFS: self._statfs,
            k.Op.RELEASE: self._release,
            k.Op.FSYNC: self._fsync,
            k.Op.FSYNCDIR: self._fsyncdir,
            k.Op.FLUSH: self._flush,
            k.Op.READDIR: self._readdir,
            k.Op.READDIRPLUS: self._readdirplus,
            k.Op.CREATE: self._create,
            k.Op.LINK: self._link,
            k.Op.SETXATTR: self._setxattr,
            k.Op.REMOVEXATTR: self._removexattr,
            k.Op.FALLOCATE: self._fallocate,
            k.Op.COPY_FILE_RANGE: self._copy_file_range,
        }
        self.caller: tuple[int, int] = (0, 0)
        """Who sent the request that is begun now: user and group."""
        if settings.xattrs:
            self.quick |= {k.Op.GETXATTR: self._try_getxattr, k.Op.LISTXATTR: self._try_listxattr}
            self.handlers |= {k.Op.GETXATTR: self._getxattr, k.Op.LISTXATTR: self._listxattr}
        if settings.debug:
            self.quick = {code: said_at_once(k.Op(code).name, handler) for code, handler in self.quick.items()}
            self.handlers = {code: said(k.Op(code).name, handler) for code, handler in self.handlers.items()}

    @property
    def others_work(self) -> bool:
        """Whether a thread of ours wants the interpreter: who looks for requests meanwhile holds it up."""
        return self._ops.vfs.listing_ahead

    def device(self, descriptor: int) -> None:
        """The mount's /dev/fuse."""
        self._device = descriptor

    def forget(self, code: int, inode: int, body: memoryview) -> None:
        """FORGET and BATCH_FORGET, which are not answered."""
        if code == k.Op.FORGET:
            self._ops.forget(inode, k.FORGET_IN.unpack_from(body)[0])
            return
        count = k.BATCH_FORGET_IN.unpack_from(body)[0]
        start = k.BATCH_FORGET_IN.size
        for number, times in k.FORGET_ONE.iter_unpack(body[start : start + count * k.FORGET_ONE.size]):
            self._ops.forget(number, times)

    async def take_back(self, code: int, reply: Reply) -> None:
        """The caller is gone: nobody will close what it was going to get, or forget what it was told."""
        if code in (k.Op.LOOKUP, k.Op.MKNOD, k.Op.MKDIR, k.Op.SYMLINK, k.Op.CREATE, k.Op.LINK):
            self._ops.forget(k.ENTRY.unpack_from(reply[0])[0], 1)
        if code in (k.Op.OPEN, k.Op.CREATE):
            await self._closed(k.OPEN_OUT.unpack(reply[-1])[0])
        elif code == k.Op.OPENDIR:
            self._releasedir(0, memoryview(reply[0]))

    # values

    def _attributes(self, node: Node) -> bytes:
        a = self._ops.attributes(node)
        mtime, mtime_ns = divmod(a.mtime_ns, 1_000_000_000)
        if a.atime_ns == a.mtime_ns == a.ctime_ns:
            atime, atime_ns, ctime, ctime_ns = mtime, mtime_ns, mtime, mtime_ns
        else:
            atime, atime_ns = divmod(a.atime_ns, 1_000_000_000)
            ctime, ctime_ns = divmod(a.ctime_ns, 1_000_000_000)
        return k.ATTRIBUTES.pack(
            a.inode, a.size, (a.size + 511) // 512, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns,
            a.mode, a.nlink, a.uid, a.gid, 0, k.PAGE, 0,
        )  # fmt: skip

    def _told(self, node: Node, name: str, moment: int = 0) -> bytes:
        """``moment``: nanoseconds that attributes are believed at least."""
        lasting, steady = self._ops.lasting(name, node), self._steady(node)
        entry = k.ENTRY.pack(
            node.inode, 0, self._seconds * lasting, self._seconds * steady, self._nanos * lasting,
            self._nanos if steady else moment,
        ) + self._attributes(node)  # fmt: skip
        self._ops.told(node)
        return entry

    def _told_in_listing(self, node: Node, place: int, length: int) -> bytes:
        """`_told` and the entry of the listing, packed in one go: this is done for every name. A name that is listed
        is spelt as it is, and so lasts."""
        ops = self._ops
        inode, _, mode, size, mtime, atime, ctime, uid, gid, nlink = ops.attributes(node)
        ops.told(node)
        steady = node.item is None or self._steady(node)
        seconds, nanos = read, read_nanos = changed, changed_nanos = divmod(mtime, 1_000_000_000)
        if atime != mtime:
            read, read_nanos = divmod(atime, 1_000_000_000)
        if ctime != mtime:
            changed, changed_nanos = divmod(ctime, 1_000_000_000)
        lifetime, rest = self._seconds, self._nanos
        return _PACK_PLUS(
            inode, 0, lifetime, lifetime * steady, rest, rest * steady, inode, size, (size + 511) >> 9, read, seconds,
            changed, read_nanos, nanos, changed_nanos, mode, nlink, uid, gid, 0, _PAGE, 0, inode, place, length,
            mode >> 12,
        )  # fmt: skip

    def _attr_out(self, node: Node) -> Reply:
        steady = self._steady(node)
        return (k.ATTR_OUT.pack(self._seconds * steady, self._nanos * steady, 0), self._attributes(node))

    def _steady(self, node: Node) -> bool:
        """Whether the kernel may keep attributes: not while a file is written past us, by mapped pages perhaps."""
        return node.item is None or not node.item.lent

    def _opened(self, opened: Opened, inode: int, *, lent: bool = False, flags: int = 0) -> bytes:
        more, backing = self.passthrough.opened(opened.handle, inode, self._ops.handles[opened.handle], lent=lent)
        flags |= more
        if self._settings.direct_io:
            flags |= k.FOPEN_DIRECT_IO
        elif opened.keep_cache and not more:
            flags |= k.FOPEN_KEEP_CACHE
        return k.OPEN_OUT.pack(opened.handle, flags, backing)

    async def _lend(self, opened: Opened, inode: int, flags: int) -> bool:
        """Lend what was opened, if that can be. ESTALE: the kernel looks the name up anew, and finds another number."""
        handle = self._ops.handles[opened.handle]
        try:
            lent = not self.passthrough.hopeless(inode, flags) and await handle.lend()
            if self.passthrough.through(inode):
                lent = await handle.lend(anyway=True)
            if not self.passthrough.fits(inode, handle):
                self._ops.vfs.tree.renumber(handle.node)
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        except BaseException:
            await self._ops.release(opened.handle)
            raise
        return lent and not asks(flags)

    async def _closed(self, number: int) -> None:
        self.passthrough.released(number)
        await self._ops.release(number)

    # answered at once

    def _init(self, inode: int, body: memoryview) -> Reply:
        major, minor, _, offered, more = k.INIT_IN.unpack_from(body)
        if major != 7 or minor < k.MINOR:
            raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}, 7.{k.MINOR} is needed")
        # EXPLICIT_INVAL_DATA: the kernel drops pages when it is told to, not whenever a file's time changes,
        # which every write of its own does
        wanted = (
            k.Init.ATOMIC_O_TRUNC | k.Init.BIG_WRITES | k.Init.EXPLICIT_INVAL_DATA | k.Init.DO_READDIRPLUS
            | k.Init.READDIRPLUS_AUTO | k.Init.PARALLEL_DIROPS | k.Init.MAX_PAGES | k.Init.HANDLE_KILLPRIV_V2
        )  # fmt: skip
        if self._settings.async_read:
            wanted |= k.Init.ASYNC_READ
        if self._settings.writeback:
            wanted |= k.Init.WRITEBACK_CACHE
        if offered & k.Init.INIT_EXT:
            offered |= more << 32
        depth = 0
        if offered & k.Init.PASSTHROUGH and self._may_pass():
            wanted |= k.Init.INIT_EXT | k.Init.PASSTHROUGH
            depth = 1  # backing files lie on a disk, and not on a file system that itself lies on others
            self.passthrough.start(self._device)
        ahead = max(self._settings.max_read_ahead, k.PAGE)
        agreed = offered & wanted
        return (
            k.INIT_OUT.pack(
                7,
                k.MINOR,
                ahead,
                agreed & 0xFFFFFFFF,
                TOGETHER,
                TOGETHER,
                k.MAX_WRITE,
                1,
                k.MAX_PAGES,
                0,
                agreed >> 32,
                depth,
            ),
        )

    def _may_pass(self) -> bool:
        s = self._settings
        return s.passthrough and self._device >= 0 and not s.writeback and not s.direct_io

    def _getattr(self, inode: int, body: memoryview) -> Reply:
        return self._attr_out(self._ops.inodes[inode])

    def _absent(self, name: str) -> Reply:
        if not self._settings.timeout or not self._ops.lasting(name, None):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return (k.ENTRY.pack(0, 0, self._seconds, 0, self._nanos, 0), k.NEGATIVE_ENTRY_PADDING)

    def _try_lookup(self, inode: int, body: memoryview) -> Reply | None:
        name = k.names(body)[0]
        try:
            node = self._ops.try_lookup(inode, name)
        except FileNotFoundError:
            return self._absent(name)
        return None if node is None else (self._told(node, name),)

    def _try_open(self, inode: int, body: memoryview) -> Reply | None:
        flags = k.OPEN_IN.unpack_from(body)[0]
        only_reads = flags & os.O_ACCMODE == os.O_RDONLY
        if flags & os.O_TRUNC or (self.passthrough.on and not only_reads):
            return None
        if self.passthrough.through(inode):
            return None
        opened = self._ops.open_now(inode, flags)
        lent = not self.passthrough.hopeless(inode, flags) and self._ops.handles[opened.handle].try_lend()
        return (self._opened(opened, inode, lent=lent, flags=k.FOPEN_NOFLUSH * only_reads),)

    def _try_read(self, inode: int, body: memoryview) -> Reply | None:
        number, offset, size = k.READ_IN.unpack_from(body)
        data = self._ops.handles[number].try_read(offset, size)
        return None if data is None else (data,)

    def _try_write(self, inode: int, body: memoryview) -> Reply | None:
        number, offset, size, *_ = k.WRITE_IN.unpack_from(body)
        written = self._ops.try_write(number, offset, body[k.WRITE_IN.size :][:size])
        return None if written is None else (k.WRITE_OUT.pack(written, 0),)

    def _releasedir(self, inode: int, body: memoryview) -> Reply:
        self._ops.releasedir(k.HANDLE_IN.unpack_from(body)[0])
        return NOTHING

    def _try_getxattr(self, inode: int, body: memoryview) -> Reply | None:
        name = k.names(body[k.XATTR_IN.size :])[0]
        value = self._ops.xattrs.try_get(self._ops.inodes[inode], name)
        return None if value is None else self._sized(k.XATTR_IN.unpack_from(body)[0], value)

    def _try_listxattr(self, inode: int, body: memoryview) -> Reply | None:
        names = self._ops.xattrs.try_names(self._ops.inodes[inode])
        return None if names is None else self._sized(k.XATTR_IN.unpack_from(body)[0], _joined(names))

    def _sized(self, room: int, value: bytes) -> Reply:
        """getxattr(2): with room 0 the caller asks how much it needs."""
        if room == 0:
            return (k.XATTR_OUT.pack(len(value), 0),)
        if room < len(value):
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        return (value,)

    # those that may wait

    async def _getxattr(self, inode: int, body: memoryview) -> Reply:
        room, name = k.XATTR_IN.unpack_from(body)[0], k.names(body[k.XATTR_IN.size :])[0]
        return self._sized(room, await self._ops.xattrs.get(self._ops.inodes[inode], name))

    async def _listxattr(self, inode: int, body: memoryview) -> Reply:
        room = k.XATTR_IN.unpack_from(body)[0]
        return self._sized(room, _joined(await self._ops.xattrs.names(self._ops.inodes[inode])))

    async def _setxattr(self, inode: int, body: memoryview) -> Reply:
        size, flags = k.XATTR_IN.unpack_from(body)
        name, _, rest = bytes(body[k.XATTR_IN.size :]).partition(b"\0")
        text = name.decode("utf-8", "surrogateescape")
        await self._ops.xattrs.set(self._ops.inodes[inode], text, rest[:size], flags)
        return NOTHING

    async def _removexattr(self, inode: int, body: memoryview) -> Reply:
        await self._ops.xattrs.remove(self._ops.inodes[inode], k.names(body)[0])
        return NOTHING

    async def _lookup(self, inode: int, body: memoryview) -> Reply:
        name = k.names(body)[0]
        try:
            return (self._told(await self._ops.lookup(inode, name), name),)
        except FileNotFoundError:
            return self._absent(name)

    async def _setattr(self, inode: int, body: memoryview) -> Reply:
        valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = (
            k.SETATTR_IN.unpack_from(body)
        )
        times = read = None
        if valid & k.SetattrValid.ATIME:
            read = time.time_ns() if valid & k.SetattrValid.ATIME_NOW else atime * 10**9 + atime_ns
        if valid & k.SetattrValid.MTIME_NOW:
            times = time.time_ns()
        elif valid & k.SetattrValid.MTIME:
            times = mtime * 10**9 + mtime_ns
        node = await self._ops.setattr(
            inode,
            handle if valid & k.SetattrValid.HANDLE else None,
            size=size if valid & k.SetattrValid.SIZE else None,
            mtime_ns=times,
            atime_ns=read,
            read_now=bool(valid & k.SetattrValid.ATIME_NOW),
            mode=mode if valid & k.SetattrValid.MODE else None,
            uid=uid if valid & k.SetattrValid.UID else None,
            gid=gid if valid & k.SetattrValid.GID else None,
        )
        return self._attr_out(node)

    async def _readlink(self, inode: int, body: memoryview) -> Reply:
        return (os.fsencode(await self._ops.readlink(inode)),)

    async def _mknod(self, inode: int, body: memoryview) -> Reply:
        mode = k.MKNOD_IN.unpack_from(body)[0]
        name = k.names(body[k.MKNOD_IN.size :])[0]
        return (self._told(await self._ops.mknod(inode, name, mode, self.caller), name),)

    async def _mkdir(self, inode: int, body: memoryview) -> Reply:
        mode = k.MKDIR_IN.unpack_from(body)[0]
        name = k.names(body[k.MKDIR_IN.size :])[0]
        return (self._told(await self._ops.mkdir(inode, name, mode, self.caller), name),)

    async def _symlink(self, inode: int, body: memoryview) -> Reply:
        name, target = k.names(body)
        return (self._told(await self._ops.symlink(inode, name, target), name),)

    async def _link(self, inode: int, body: memoryview) -> Reply:
        origin = k.LINK_IN.unpack_from(body)[0]
        name = k.names(body[k.LINK_IN.size :])[0]
        return (self._told(await self._ops.link(origin, inode, name), name),)

    async def _fallocate(self, inode: int, body: memoryview) -> Reply:
        number, offset, length, mode, _ = k.FALLOCATE_IN.unpack_from(body)
        await self._ops.fallocate(number, mode, offset, length)
        return NOTHING

    async def _copy_file_range(self, inode: int, body: memoryview) -> Reply:
        origin, start, _, target, offset, length, _ = k.COPY_IN.unpack_from(body)
        return (k.WRITE_OUT.pack(await self._ops.copy_range(origin, start, target, offset, length), 0),)

    def _lseek(self, inode: int, body: memoryview) -> Reply:
        number, offset, whence, _ = k.LSEEK_IN.unpack_from(body)
        return (k.LSEEK_OUT.pack(self._ops.lseek(number, offset, whence)),)

    async def _unlink(self, inode: int, body: memoryview) -> Reply:
        await self._ops.unlink(inode, k.names(body)[0])
        return NOTHING

    async def _rmdir(self, inode: int, body: memoryview) -> Reply:
        await self._ops.rmdir(inode, k.names(body)[0])
        return NOTHING

    async def _rename(self, inode: int, body: memoryview) -> Reply:
        new_parent = k.RENAME_IN.unpack_from(body)[0]
        old, new = k.names(body[k.RENAME_IN.size :])
        await self._ops.rename(inode, old, new_parent, new, 0)
        return NOTHING

    async def _rename2(self, inode: int, body: memoryview) -> Reply:
        new_parent, flags, _ = k.RENAME2_IN.unpack_from(body)
        old, new = k.names(body[k.RENAME2_IN.size :])
        await self._ops.rename(inode, old, new_parent, new, flags)
        return NOTHING

    async def _open(self, inode: int, body: memoryview) -> Reply:
        flags = k.OPEN_IN.unpack_from(body)[0]
        opened = await self._ops.open(inode, flags)
        return (self._opened(opened, inode, lent=await self._lend(opened, inode, flags)),)

    async def _create(self, inode: int, body: memoryview) -> Reply:
        flags, mode, *_ = k.CREATE_IN.unpack_from(body)
        name = k.names(body[k.CREATE_IN.size :])[0]
        opened, node = await self._ops.create(inode, name, flags, mode, self.caller)
        lent = await self._lend(opened, node.inode, flags)
        moment = MOMENT if self._settings.timeout else 0
        return (self._told(node, name, moment), self._opened(opened, node.inode, lent=lent))

    async def _read(self, inode: int, body: memoryview) -> Reply:
        number, offset, size = k.READ_IN.unpack_from(body)
        return (await self._ops.handles[number].read(offset, size),)

    async def _write(self, inode: int, body: memoryview) -> Reply:
        number, offset, size, flags, *_ = k.WRITE_IN.unpack_from(body)
        data = bytes(body[k.WRITE_IN.size :][:size])
        return (k.WRITE_OUT.pack(await self._ops.write(number, offset, data, page=bool(flags & k.WRITE_CACHE)), 0),)

    async def _statfs(self, inode: int, body: memoryview) -> Reply:
        room = await self._ops.statfs()
        free = room.free // k.PAGE
        return (
            k.STATFS_OUT.pack(room.total // k.PAGE, free, free, room.files, room.files, k.PAGE, 255, k.PAGE, 0),
        )  # fmt: skip

    async def _flush(self, inode: int, body: memoryview) -> Reply:
        await self._ops.flush(k.HANDLE_IN.unpack_from(body)[0])
        return NOTHING

    async def _fsync(self, inode: int, body: memoryview) -> Reply:
        await self._ops.fsync(k.HANDLE_IN.unpack_from(body)[0])
        return NOTHING

    async def _fsyncdir(self, inode: int, body: memoryview) -> Reply:
        await self._ops.fsyncdir()
        return NOTHING

    async def _release(self, inode: int, body: memoryview) -> Reply:
        await self._closed(k.HANDLE_IN.unpack_from(body)[0])
        return NOTHING

    def _opendir(self, inode: int, body: memoryview) -> Reply:
        opened = self._ops.opendir(inode)
        # the kernel keeps a copy of the listing; changes of its own make it drop that by itself
        flags = k.FOPEN_CACHE_DIR | k.FOPEN_KEEP_CACHE if opened.keep_cache else k.FOPEN_CACHE_DIR
        return (k.OPEN_OUT.pack(opened.handle, flags if self._settings.timeout else 0, 0),)

    async def _readdir(self, inode: int, body: memoryview) -> Reply:
        return await self._list(body, plus=False)

    async def _readdirplus(self, inode: int, body: memoryview) -> Reply:
        return await self._list(body, plus=True)

    def _try_list(self, body: memoryview, *, plus: bool) -> Reply | None:
        number, start, room = k.READ_IN.unpack_from(body)
        found = self._ops.try_entries(number, start)
        return None if found is None else self._listing(*found, start, room, plus=plus)

    async def _list(self, body: memoryview, *, plus: bool) -> Reply:
        number, start, room = k.READ_IN.unpack_from(body)
        return self._listing(*await self._ops.entries(number, start), start, room, plus=plus)

    def _listing(self, directory: Node, entries: Slots, start: int, room: int, *, plus: bool) -> Reply:
        """From offset 0 on "." and "..", then the entries: a listing is never empty, for the kernel holds the copy of
        it in pages, and drops by those; a copy without any would stay."""
        parts: list[bytes] = []
        fixed = k.DIRENT_PLUS.size if plus else k.DIRENT.size
        for place in range(start, len(_DOTS)):
            name = _DOTS[place]
            room -= fixed + 8
            parts.append(_NO_ENTRY * plus + k.DIRENT.pack(directory.inode, place + 1, len(name), _DIRECTORY))
            parts.append(name + k.PADDING[len(name)])
        told = self._told_in_listing
        for place, node in entries.since(max(start - len(_DOTS), 0)):
            name = node.name.encode("utf-8", "surrogateescape")
            length = len(name)
            padding = k.PADDING[length & 255]
            room -= fixed + length + len(padding)
            if room < 0:
                break
            after = place + len(_DOTS) + 1
            parts += (
                told(node, after, length)
                if plus
                else k.DIRENT.pack(node.inode, after, length, k.DIRENT_KINDS[node.kind]),
                name,
                padding,
            )
        return (b"".join(parts),)


def _joined(names: list[str]) -> bytes:
    return b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names)

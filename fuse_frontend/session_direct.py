"""A session that speaks the kernel's protocol itself: no libfuse, any number of mounts in a process.

Besides that it reaches what pyfuse3 does not: parallel lookups in one directory (PARALLEL_DIROPS), requests
of 1 MiB, and a device read that never blocks the thread.

One task reads requests. Those that can be answered at once (reads and writes of what is cached, attributes,
known names) are, in that task; each other one gets a task of its own, at most ``settings.tasks`` of them,
so that a slow remote delays nobody else. A request is answered exactly once. When the kernel does not want
an answer any more (ENOENT: the caller was killed), what the answer promised is taken back.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import final

import trio

from mountcore.vfs import Node

from . import kernel as k
from .attach import attach
from .mountpoint import mounted_at, unmount_lazily
from .operations import Opened, Operations
from .session import SessionSettings

log = logging.getLogger(__name__)

BATCH = 64
"""Requests that are read before other tasks get a turn."""
Reply = tuple[bytes, ...]
_NOTHING: Reply = ()
_CALM = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})


@final
class DirectSession:
    """A mount of our own. See :class:`~fuse_frontend.session.Session`."""

    def __init__(self, operations: Operations, settings: SessionSettings) -> None:
        self._ops = operations
        self._settings = settings
        self._fd = attach(settings)
        self._closed = False
        there = mounted_at(settings.mountpoint)
        self._device = there.device if there else ""
        self._buffer = bytearray(k.BUFFER)
        whole = int(settings.timeout)
        self._seconds, self._nanos = whole, int((settings.timeout - whole) * 1e9)
        self._directories: dict[int, int] = {}
        self._limiter = trio.CapacityLimiter(settings.tasks)
        self._quick: dict[int, Callable[[int, memoryview], Reply | None]] = {
            k.Op.GETATTR: self._getattr,
            k.Op.READ: self._try_read,
            k.Op.WRITE: self._try_write,
            k.Op.LOOKUP: self._try_lookup,
            k.Op.RELEASEDIR: self._releasedir,
            k.Op.ACCESS: lambda inode, body: _NOTHING,
            k.Op.FSYNCDIR: lambda inode, body: _NOTHING,
            k.Op.INIT: self._init,
            k.Op.DESTROY: lambda inode, body: _NOTHING,
        }
        self._slow: dict[int, Callable[[int, memoryview], Awaitable[Reply]]] = {
            k.Op.LOOKUP: self._lookup,
            k.Op.SETATTR: self._setattr,
            k.Op.READLINK: self._readlink,
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
            k.Op.FLUSH: self._flush,
            k.Op.OPENDIR: self._opendir,
            k.Op.READDIR: self._readdir,
            k.Op.READDIRPLUS: self._readdirplus,
            k.Op.CREATE: self._create,
        }

    # the seam

    async def run(self) -> None:
        view = memoryview(self._buffer)
        async with trio.open_nursery() as nursery:
            while True:
                for _ in range(BATCH):
                    try:
                        length = os.readv(self._fd, (self._buffer,))
                    except BlockingIOError:
                        await trio.lowlevel.wait_readable(self._fd)
                        continue
                    except OSError as problem:
                        if problem.errno in _CALM:
                            continue
                        if problem.errno in (errno.ENODEV, errno.EBADF):
                            nursery.cancel_scope.cancel()
                            return
                        raise
                    await self._take(view[:length], nursery)
                await trio.lowlevel.checkpoint()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        there = mounted_at(self._settings.mountpoint)
        if there is not None and there.device == self._device:
            unmount_lazily(self._settings.mountpoint)
        os.close(self._fd)

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        self._notify(k.NOTIFY_INVAL_INODE, k.INVAL_INODE.pack(inode, -1 if attributes_only else 0, 0))

    def invalidate_entry(self, parent: int, name: str) -> None:
        raw = name.encode("utf-8", "surrogateescape")
        self._notify(k.NOTIFY_INVAL_ENTRY, k.INVAL_ENTRY.pack(parent, len(raw), 0) + raw + b"\0")

    def _notify(self, code: int, body: bytes) -> None:
        os.writev(self._fd, (k.OUT_HEADER.pack(k.OUT_HEADER.size + len(body), code, 0), body))

    # requests and replies

    async def _take(self, request: memoryview, nursery: trio.Nursery) -> None:
        """Answer at once, or hand over to a task; waits only while too many tasks are at work."""
        _, code, unique, inode, *_ = k.IN_HEADER.unpack_from(request)
        body = request[k.BODY :]
        if code in (k.Op.FORGET, k.Op.BATCH_FORGET):
            self._forget(code, inode, body)
            return
        if code == k.Op.INTERRUPT:
            return  # every wait here is bounded, and the answer comes
        quick = self._quick.get(code)
        if quick is not None:
            try:
                reply = quick(inode, body)
            except OSError as problem:
                self._refuse(unique, problem.errno or errno.EIO)
                return
            if reply is not None:
                self._answer(unique, reply)
                return
        slow = self._slow.get(code)
        if slow is None:
            self._refuse(unique, errno.EPERM if code in (k.Op.SYMLINK, k.Op.LINK) else errno.ENOSYS)
            return
        await self._limiter.acquire_on_behalf_of(unique)
        nursery.start_soon(self._work, slow, code, unique, inode, memoryview(bytes(body)))

    async def _work(
        self,
        operation: Callable[[int, memoryview], Awaitable[Reply]],
        code: int,
        unique: int,
        inode: int,
        body: memoryview,
    ) -> None:
        try:
            try:
                reply = await operation(inode, body)
            except OSError as problem:
                self._refuse(unique, problem.errno or errno.EIO)
            except Exception:
                log.exception("a request of the kernel failed in a way that nobody foresaw")
                self._refuse(unique, errno.EIO)
            else:
                if not self._answer(unique, reply):
                    await self._take_back(code, reply)
        finally:
            self._limiter.release_on_behalf_of(unique)

    def _answer(self, unique: int, reply: Reply) -> bool:
        """Whether the kernel took it."""
        length = k.OUT_HEADER.size + sum(map(len, reply))
        return self._send((k.OUT_HEADER.pack(length, 0, unique), *reply))

    def _refuse(self, unique: int, number: int) -> None:
        self._send((k.OUT_HEADER.pack(k.OUT_HEADER.size, -number, unique),))

    def _send(self, parts: Reply) -> bool:
        try:
            os.writev(self._fd, parts)
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.ENODEV, errno.EBADF):
                return False
            raise
        return True

    async def _take_back(self, code: int, reply: Reply) -> None:
        """The caller is gone: nobody will close what it was going to get, or forget what it was told."""
        if code in (k.Op.LOOKUP, k.Op.MKNOD, k.Op.MKDIR, k.Op.CREATE):
            self._ops.inodes.forget(k.ENTRY.unpack_from(reply[0])[0], 1)
        if code in (k.Op.OPEN, k.Op.CREATE):
            await self._ops.release(k.OPEN_OUT.unpack(reply[-1])[0])
        elif code == k.Op.OPENDIR:
            self._releasedir(0, memoryview(reply[0]))

    # translation

    def _attributes(self, node: Node) -> bytes:
        a = self._ops.attributes(node)
        atime, atime_ns = divmod(a.atime_ns, 10**9)
        mtime, mtime_ns = divmod(a.mtime_ns, 10**9)
        ctime, ctime_ns = divmod(a.ctime_ns, 10**9)
        return k.ATTRIBUTES.pack(
            a.inode, a.size, (a.size + 511) // 512, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns,
            a.mode, a.nlink, a.uid, a.gid, 0, k.PAGE, 0,
        )  # fmt: skip

    def _entry(self, node: Node) -> bytes:
        valid = (self._seconds, self._seconds, self._nanos, self._nanos)
        return k.ENTRY.pack(node.inode, 0, *valid) + self._attributes(node)

    def _told(self, node: Node) -> bytes:
        entry = self._entry(node)
        self._ops.told(node)
        return entry

    def _attr_out(self, node: Node) -> Reply:
        return (k.ATTR_OUT.pack(self._seconds, self._nanos, 0), self._attributes(node))

    def _opened(self, opened: Opened) -> bytes:
        flags = k.FOPEN_KEEP_CACHE if opened.keep_cache else 0
        if self._settings.direct_io:
            flags = k.FOPEN_DIRECT_IO
        return k.OPEN_OUT.pack(opened.handle, flags, 0)

    # answered at once

    def _init(self, inode: int, body: memoryview) -> Reply:
        major, minor, _, offered = k.INIT_IN.unpack_from(body)
        if major != 7 or minor < 31:
            raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}, 7.31 is needed")
        wanted = (
            k.Init.ASYNC_READ | k.Init.ATOMIC_O_TRUNC | k.Init.BIG_WRITES | k.Init.AUTO_INVAL_DATA
            | k.Init.DO_READDIRPLUS | k.Init.READDIRPLUS_AUTO | k.Init.PARALLEL_DIROPS | k.Init.MAX_PAGES
        )  # fmt: skip
        if self._settings.writeback:
            wanted |= k.Init.WRITEBACK_CACHE
        ahead = max(self._settings.max_read_ahead, k.PAGE)
        return (
            k.INIT_OUT.pack(7, 31, ahead, offered & wanted, 64, 48, k.MAX_WRITE, 1, k.MAX_PAGES, 0, 0, 0),
        )  # fmt: skip

    def _forget(self, code: int, inode: int, body: memoryview) -> None:
        if code == k.Op.FORGET:
            self._ops.inodes.forget(inode, k.FORGET_IN.unpack_from(body)[0])
            return
        count = k.BATCH_FORGET_IN.unpack_from(body)[0]
        start = k.BATCH_FORGET_IN.size
        for number, times in k.FORGET_ONE.iter_unpack(body[start : start + count * k.FORGET_ONE.size]):
            self._ops.inodes.forget(number, times)

    def _getattr(self, inode: int, body: memoryview) -> Reply:
        return self._attr_out(self._ops.inodes[inode])

    def _try_lookup(self, inode: int, body: memoryview) -> Reply | None:
        try:
            node = self._ops.try_lookup(inode, k.names(body)[0])
        except FileNotFoundError:
            return self._absent()
        return None if node is None else (self._told(node),)

    def _absent(self) -> Reply:
        if not self._settings.timeout:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return (k.ENTRY.pack(0, 0, self._seconds, 0, self._nanos, 0), k.NEGATIVE_ENTRY_PADDING)

    def _try_read(self, inode: int, body: memoryview) -> Reply | None:
        number, offset, size = k.READ_IN.unpack_from(body)
        data = self._ops.handles[number].try_read(offset, size)
        return None if data is None else (data,)

    def _try_write(self, inode: int, body: memoryview) -> Reply | None:
        number, offset, size, *_ = k.WRITE_IN.unpack_from(body)
        written = self._ops.handles[number].try_write(offset, body[k.WRITE_IN.size :][:size])
        return None if written is None else (k.WRITE_OUT.pack(written, 0),)

    def _releasedir(self, inode: int, body: memoryview) -> Reply:
        number = k.HANDLE_IN.unpack_from(body)[0]
        self._directories.pop(number, None)
        self._ops.releasedir(number)
        return _NOTHING

    # answered by a task

    async def _lookup(self, inode: int, body: memoryview) -> Reply:
        try:
            return (self._told(await self._ops.lookup(inode, k.names(body)[0])),)
        except FileNotFoundError:
            return self._absent()

    async def _setattr(self, inode: int, body: memoryview) -> Reply:
        valid, _, handle, size, _, _, mtime, _, _, mtime_ns, *_ = k.SETATTR_IN.unpack_from(body)
        times = None
        if valid & k.SetattrValid.MTIME_NOW:
            times = time.time_ns()
        elif valid & k.SetattrValid.MTIME:
            times = mtime * 10**9 + mtime_ns
        node = await self._ops.setattr(
            inode,
            handle if valid & k.SetattrValid.HANDLE else None,
            size=size if valid & k.SetattrValid.SIZE else None,
            mtime_ns=times,
        )
        return self._attr_out(node)

    async def _readlink(self, inode: int, body: memoryview) -> Reply:
        return (os.fsencode(await self._ops.readlink(inode)),)

    async def _mknod(self, inode: int, body: memoryview) -> Reply:
        mode = k.MKNOD_IN.unpack_from(body)[0]
        return (self._told(await self._ops.mknod(inode, k.names(body[k.MKNOD_IN.size :])[0], mode)),)

    async def _mkdir(self, inode: int, body: memoryview) -> Reply:
        return (self._told(await self._ops.mkdir(inode, k.names(body[k.MKDIR_IN.size :])[0])),)

    async def _unlink(self, inode: int, body: memoryview) -> Reply:
        await self._ops.unlink(inode, k.names(body)[0])
        return _NOTHING

    async def _rmdir(self, inode: int, body: memoryview) -> Reply:
        await self._ops.rmdir(inode, k.names(body)[0])
        return _NOTHING

    async def _rename(self, inode: int, body: memoryview) -> Reply:
        new_parent = k.RENAME_IN.unpack_from(body)[0]
        old, new = k.names(body[k.RENAME_IN.size :])
        await self._ops.rename(inode, old, new_parent, new, 0)
        return _NOTHING

    async def _rename2(self, inode: int, body: memoryview) -> Reply:
        new_parent, flags, _ = k.RENAME2_IN.unpack_from(body)
        old, new = k.names(body[k.RENAME2_IN.size :])
        await self._ops.rename(inode, old, new_parent, new, flags)
        return _NOTHING

    async def _open(self, inode: int, body: memoryview) -> Reply:
        return (self._opened(await self._ops.open(inode, k.OPEN_IN.unpack_from(body)[0])),)

    async def _create(self, inode: int, body: memoryview) -> Reply:
        flags = k.CREATE_IN.unpack_from(body)[0]
        opened, node = await self._ops.create(inode, k.names(body[k.CREATE_IN.size :])[0], flags)
        return (self._told(node), self._opened(opened))

    async def _read(self, inode: int, body: memoryview) -> Reply:
        number, offset, size = k.READ_IN.unpack_from(body)
        return (await self._ops.handles[number].read(offset, size),)

    async def _write(self, inode: int, body: memoryview) -> Reply:
        number, offset, size, *_ = k.WRITE_IN.unpack_from(body)
        written = await self._ops.handles[number].write(offset, body[k.WRITE_IN.size :][:size])
        return (k.WRITE_OUT.pack(written, 0),)

    async def _statfs(self, inode: int, body: memoryview) -> Reply:
        room = await self._ops.statfs()
        free = room.free // k.PAGE
        return (
            k.STATFS_OUT.pack(room.total // k.PAGE, free, free, room.files, room.files, k.PAGE, 255, k.PAGE, 0),
        )  # fmt: skip

    async def _flush(self, inode: int, body: memoryview) -> Reply:
        await self._ops.handles[k.HANDLE_IN.unpack_from(body)[0]].flush()
        return _NOTHING

    async def _fsync(self, inode: int, body: memoryview) -> Reply:
        await self._ops.handles[k.HANDLE_IN.unpack_from(body)[0]].fsync()
        return _NOTHING

    async def _release(self, inode: int, body: memoryview) -> Reply:
        await self._ops.release(k.HANDLE_IN.unpack_from(body)[0])
        return _NOTHING

    async def _opendir(self, inode: int, body: memoryview) -> Reply:
        number = await self._ops.opendir(inode)
        self._directories[number] = inode
        return (k.OPEN_OUT.pack(number, 0, 0),)

    async def _readdir(self, inode: int, body: memoryview) -> Reply:
        return await self._list(inode, body, plus=False)

    async def _readdirplus(self, inode: int, body: memoryview) -> Reply:
        return await self._list(inode, body, plus=True)

    async def _list(self, inode: int, body: memoryview, *, plus: bool) -> Reply:
        number, start, room = k.READ_IN.unpack_from(body)
        entries = await self._ops.entries(number, self._directories[number], start)
        parts: list[bytes] = []
        for place in range(start, len(entries)):
            node = entries[place]
            if not node.linked:
                continue
            name = node.name.encode("utf-8", "surrogateescape")
            size = (k.ENTRY.size + k.ATTRIBUTES.size) * plus + k.DIRENT.size + len(name)
            padding = -size % 8
            room -= size + padding
            if room < 0:
                break
            kind = self._ops.attributes(node).mode >> 12
            if plus:
                parts.append(self._told(node))
            parts += (k.DIRENT.pack(node.inode, place + 1, len(name), kind), name, bytes(padding))
        return (b"".join(parts),)

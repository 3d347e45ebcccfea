"""A session through pyfuse3 and libfuse: the measure of correctness for the other one.

pyfuse3 keeps its state in the module: one mount in a process. Its types stay in this file.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import select
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, final

import pyfuse3
import trio

from mountcore.errors import Refused
from mountcore.vfs import Node

from .mountpoint import mounted_at
from .operations import Operations
from .session import TOGETHER, SessionSettings
from .trace import said

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
FAST_WAIT_VERSIONS = ("3.4.", "3.5.")
"""Releases whose request loop was read, and measured with, :func:`_fast_wait`."""

SPIN = 30_000 if len(os.sched_getaffinity(0)) > 1 else 0
"""Nanoseconds for which the next request is looked for before sleeping; see the direct session."""

TASKS = 256
"""Requests that wait at once, unless the settings say; each has a buffer of 1 MiB, of which what was used is memory."""

_REQUESTS = (
    "lookup", "forget", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink", "rmdir", "rename", "symlink",
    "link", "statfs", "getxattr", "listxattr", "setxattr", "removexattr", "opendir", "readdir", "releasedir", "open",
    "create", "read", "write", "flush", "fsync", "release",
)  # fmt: skip

DOTS = (b".", b"..")

_taken = False


def available() -> bool:
    """Whether this process may still mount through pyfuse3."""
    return not _taken


def _answering(operation: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Every OSError becomes the kernel's errno; anything else is a defect, logged, and EIO."""

    @functools.wraps(operation)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            patience = args[0]._patience  # type: ignore[attr-defined]
            if patience is None:
                return await operation(*args, **kwargs)
            with trio.move_on_after(patience):
                return await operation(*args, **kwargs)
            raise pyfuse3.FUSEError(errno.ETIMEDOUT)
        except OSError as problem:
            raise pyfuse3.FUSEError(problem.errno or errno.EIO) from None
        except pyfuse3.FUSEError:
            raise
        except Exception:
            log.exception("a request of the kernel failed in a way that nobody foresaw")
            raise pyfuse3.FUSEError(errno.EIO) from None

    return answer


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


class _Bridge(pyfuse3.Operations):
    """pyfuse3's requests as calls of :class:`Operations`."""

    supports_dot_lookup = True

    def __init__(self, operations: Operations, settings: SessionSettings) -> None:
        super().__init__()
        self.enable_writeback_cache = settings.writeback
        self._ops = operations
        self._handles = operations.handles
        self._timeout = settings.timeout
        self._direct = settings.direct_io
        self._xattrs = settings.xattrs
        self._patience = settings.patience
        self._negative = pyfuse3.EntryAttributes()
        self._negative.st_ino = 0
        self._negative.entry_timeout = settings.timeout
        if settings.debug:
            for name in _REQUESTS:
                setattr(self, name, said(name, getattr(self, name)))

    def _blank(self) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_blksize = 4096
        entry.entry_timeout = entry.attr_timeout = self._timeout
        return entry

    def _entry(self, node: Node) -> Any:
        return self._fill(self._blank(), node)

    def _fill(self, entry: Any, node: Node) -> Any:
        inode, _, mode, size, mtime, atime, ctime, uid, gid, nlink = self._ops.attributes(node)
        entry.st_ino, entry.st_mode, entry.st_nlink, entry.st_uid, entry.st_gid = inode, mode, nlink, uid, gid
        entry.st_size, entry.st_blocks = size, (size + 511) >> 9
        entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = atime, mtime, ctime
        return entry

    def _told(self, node: Node, name: str) -> Any:
        entry = self._entry(node)
        if not self._ops.lasting(name, node):
            entry.entry_timeout = 0
        self._ops.told(node)
        return entry

    @_answering
    async def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        text = _text(name)
        try:
            return self._told(await self._ops.lookup(parent, text), text)
        except FileNotFoundError:
            if self._timeout and self._ops.lasting(text, None):
                return self._negative
            raise

    async def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        for inode, times in inodes:
            self._ops.forget(inode, times)

    @_answering
    async def getattr(self, inode: int, ctx: Any) -> Any:
        return self._entry(self._ops.inodes[inode])

    @_answering
    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        node = await self._ops.setattr(
            inode,
            fh,
            size=attr.st_size if fields.update_size else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
        )
        return self._entry(node)

    @_answering
    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return os.fsencode(await self._ops.readlink(inode))

    @_answering
    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        return self._told(await self._ops.mknod(parent, _text(name), mode, (ctx.uid, ctx.gid)), _text(name))

    @_answering
    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
        return self._told(await self._ops.mkdir(parent, _text(name), mode, (ctx.uid, ctx.gid)), _text(name))

    @_answering
    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        await self._ops.unlink(parent, _text(name))

    @_answering
    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        await self._ops.rmdir(parent, _text(name))

    @_answering
    async def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, ctx: Any) -> None:
        await self._ops.rename(parent, _text(name), new_parent, _text(new_name), flags)

    @_answering
    async def symlink(self, parent: int, name: bytes, target: bytes, ctx: Any) -> Any:
        return self._told(await self._ops.symlink(parent, _text(name), _text(target)), _text(name))

    @_answering
    async def link(self, inode: int, new_parent: int, new_name: bytes, ctx: Any) -> Any:
        return self._told(await self._ops.link(inode, new_parent, _text(new_name)), _text(new_name))

    @_answering
    async def statfs(self, ctx: Any) -> Any:
        room = await self._ops.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = room.total // 4096
        data.f_bfree = data.f_bavail = room.free // 4096
        data.f_files = data.f_ffree = data.f_favail = room.files
        data.f_namemax = 255
        return data

    async def access(self, inode: int, mode: int, ctx: Any) -> bool:
        return True  # asked only without default_permissions: everybody who may use the mount may do everything

    @_answering
    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        self._check_xattrs()
        return await self._ops.xattrs.get(self._ops.inodes[inode], _text(name))

    @_answering
    async def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        self._check_xattrs()
        names = await self._ops.xattrs.names(self._ops.inodes[inode])
        return [name.encode("utf-8", "surrogateescape") for name in names]

    @_answering
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        await self._ops.xattrs.set(self._ops.inodes[inode], _text(name), value)

    @_answering
    async def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        await self._ops.xattrs.remove(self._ops.inodes[inode], _text(name))

    def _check_xattrs(self) -> None:
        """ENOSYS is remembered by the kernel, which else asks for security.capability before every write."""
        if not self._xattrs:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    # directories

    @_answering
    async def opendir(self, inode: int, ctx: Any) -> int:
        return self._ops.opendir(inode).handle

    @_answering
    async def readdir(self, fh: int, start: int, token: Any) -> None:
        directory, entries = await self._ops.entries(fh, start)
        told, fill, reply = self._ops.told, self._fill, pyfuse3.readdir_reply
        entry = self._blank()  # one for all: `readdir_reply` takes a copy
        for place in range(start, len(DOTS)):  # these are not counted by the kernel
            if not reply(token, DOTS[place], fill(entry, directory), place + 1):
                return
        for place, node in entries.since(max(start - len(DOTS), 0)):
            name = node.name.encode("utf-8", "surrogateescape")
            if not reply(token, name, fill(entry, node), place + len(DOTS) + 1):
                break
            told(node)

    async def releasedir(self, fh: int) -> None:
        self._ops.releasedir(fh)

    @_answering
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Names are at the remote, or in the journal, when the call that changed them returns; this syncs it."""
        await self._ops.fsyncdir()

    # files

    def _info(self, handle: int, keep_cache: bool) -> Any:
        return pyfuse3.FileInfo(fh=handle, keep_cache=keep_cache, direct_io=self._direct)

    @_answering
    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        opened = await self._ops.open(inode, flags)
        return self._info(opened.handle, opened.keep_cache)

    @_answering
    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        opened, node = await self._ops.create(parent, _text(name), flags, mode, (ctx.uid, ctx.gid))
        return self._info(opened.handle, opened.keep_cache), self._told(node, _text(name))

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        try:
            data = self._handles[fh].try_read(offset, size)
        except OSError as problem:
            raise pyfuse3.FUSEError(problem.errno or errno.EIO) from None
        return data if data is not None else await self._read(fh, offset, size)

    @_answering
    async def _read(self, fh: int, offset: int, size: int) -> bytes:
        return await self._handles[fh].read(offset, size)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        try:
            written = self._ops.try_write(fh, offset, data)
        except OSError as problem:
            raise pyfuse3.FUSEError(problem.errno or errno.EIO) from None
        return written if written is not None else await self._write(fh, offset, data)

    @_answering
    async def _write(self, fh: int, offset: int, data: bytes) -> int:
        return await self._ops.write(fh, offset, data)

    @_answering
    async def flush(self, fh: int) -> None:
        await self._ops.flush(fh)

    @_answering
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._ops.fsync(fh)

    async def release(self, fh: int) -> None:
        try:
            await self._ops.release(fh)
        except OSError as problem:  # the kernel asks and does not listen
            log.warning("a file was closed with an error: %s", problem)


@final
class Pyfuse3Session:
    """The one pyfuse3 mount of this process. See :class:`~fuse_frontend.session.Session`."""

    def __init__(self, operations: Operations, settings: SessionSettings) -> None:
        global _taken
        source = settings.source.replace(",", "_").encode("ascii", "replace").decode()  # pyfuse3 takes no more
        options = {f"fsname={source}", "subtype=portside", *settings.flags}
        if settings.allow_other or settings.allow_root:
            options.add("allow_root" if settings.allow_root else "allow_other")
        if settings.default_permissions:
            options.add("default_permissions")
        if settings.read_only:
            options.add("ro")
        before = set(_fuse_descriptors())
        with _overheard() as said:
            try:
                pyfuse3.init(_Bridge(operations, settings), settings.mountpoint, options)
            except RuntimeError as problem:
                why = said() or str(problem)
                raise Refused(
                    f"{settings.mountpoint}: mounting is not possible: {why}; a container needs SYS_ADMIN"
                ) from problem
        _taken = True
        self._settings = settings
        self._closed = False
        self._mounted = mounted_at(settings.mountpoint)
        self._let_wait()
        descriptors = [fd for fd in _fuse_descriptors() if fd not in before]
        if pyfuse3.__version__.startswith(FAST_WAIT_VERSIONS) and len(descriptors) == 1:
            setattr(pyfuse3, "_wait_fuse_readable", _fast_wait(descriptors[0]))  # noqa: B010 - not in its stubs

    def _let_wait(self) -> None:
        """libfuse leaves the kernel's 12 as they are; root can tell it otherwise, where fusectl is mounted."""
        number = self._mounted.device.partition(":")[2] if self._mounted is not None else ""
        for knob in ("max_background", "congestion_threshold"):
            try:
                Path(f"/sys/fs/fuse/connections/{number}/{knob}").write_text(str(TOGETHER))
            except OSError as problem:
                log.debug("%s stays as it is: %s", knob, problem)

    async def run(self) -> None:
        try:
            await pyfuse3.main(max_tasks=self._settings.tasks or TASKS)
        except* ConnectionAbortedError:  # unmounted from outside just while a request was read: an end like any other
            log.debug("the mount went while a request was read")

    def close(self) -> None:
        global _taken
        if not self._closed:
            self._closed = True
            there = mounted_at(self._settings.mountpoint)
            pyfuse3.close(unmount=there is not None and there == self._mounted)
            _taken = False

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        pyfuse3.invalidate_inode(inode, attributes_only)

    def invalidate_entry(self, parent: int, name: str) -> None:
        pyfuse3.invalidate_entry(parent, name.encode("utf-8", "surrogateescape"))


@contextmanager
def _overheard() -> Iterator[Callable[[], str]]:
    """libfuse and fusermount3 say why on descriptor 2; what they say belongs into the one line of the error."""
    with tempfile.TemporaryFile() as heard:
        before = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            yield lambda: " ".join(os.pread(heard.fileno(), 2000, 0).decode(errors="replace").split())
        finally:
            os.dup2(before, 2)
            os.close(before)


def _fuse_descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                found.append(int(name))
        except OSError:
            continue
    return found


def _fast_wait(descriptor: int) -> Callable[[], Awaitable[bool]]:
    """pyfuse3's wait for the next request, without two trips through the scheduler for each.

    Stock pyfuse3 takes a lock and waits in epoll for every request: 6 system calls, and 2–3 times the time of
    a small operation. This one polls first and sleeps only when there is nothing. After a sleep it polls
    again: another task may have taken the request that the sleep was for, and a receive would then block the
    thread, for the descriptor is a blocking one. Every 64th time it sleeps anyway, so that other tasks run.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    lock = trio.Lock()
    count = 0

    async def wait() -> bool:
        nonlocal count
        count += 1
        if count & 63:
            if poll.poll(0):
                return True
            until = time.perf_counter_ns() + SPIN
            while not lock.locked() and time.perf_counter_ns() < until:
                if poll.poll(0):
                    return True
        try:
            async with lock:
                while True:
                    await trio.lowlevel.wait_readable(descriptor)
                    if poll.poll(0):
                        return True
        except trio.ClosedResourceError:
            return False

    return wait

"""A folder of this machine as storage.

Blocking calls run in threads, bounded by a limiter per remote. Symbolic links are reported as links and
never followed by `stat`, `list`, `remove` or `rename`; sockets, pipes and devices are not shown. Paths
cannot leave the root lexically; a link inside it that points outside is the owner's own choice.

`put` writes a partial beside the target, syncs it, renames it over the target and syncs the directory:
invariant 8 of the cache ("never published incomplete") holds through a power cut.
"""

from __future__ import annotations

import errno
import os
import stat as st
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, final

import trio

from .. import errors
from ..errors import Corrupt, InvalidName, IsDirectory, NotDirectory, NotFound, Refused, Stale, StorageError
from .partials import ABANDONED_AFTER, is_abandonable, is_ours, partial_name
from .paths import basename, check_path, parent
from .protocol import (
    Absent,
    Anything,
    Capabilities,
    Entry,
    Expect,
    Kind,
    Remote,
    RenameScope,
    Source,
    Span,
    Usage,
    Version,
)

if TYPE_CHECKING:
    _Scan = os._ScandirIterator[str]

T = TypeVar("T")
Args = TypeVarTuple("Args")
PIECE = 1 << 20
BATCH = 1000
"""Entries per thread hop of a listing."""
_CAPS = Capabilities(
    rename=RenameScope.TREE,
    rename_replaces=True,
    set_mtime=True,
    mtime_resolution_ns=1,
    atomic_put=True,
    symlinks=True,
    modes=True,
    usage=True,
    parallelism=8,
)
_BY_ERRNO: dict[int, type[StorageError]] = {
    kind.code: kind for kind in errors.REPLIES if kind not in (StorageError, errors.Corrupt)
} | {
    errno.EPERM: errors.Denied,
    errno.ETXTBSY: errors.Busy,
    errno.EIO: errors.Corrupt,
    errno.ELOOP: errors.InvalidName,
}


def open(options: dict[str, str], root: str) -> Local:
    """A folder; ``root`` relative to the current directory, ``~`` for the home directory."""
    return Local(root)


@final
class Local(Remote):
    """A folder as a remote; see the module."""

    def __init__(self, root: str) -> None:
        if "\0" in root:
            raise Refused("a folder's name has no NUL in it")
        self._root = os.path.abspath(os.path.expanduser(root or "."))
        self._limiter = trio.CapacityLimiter(_CAPS.parallelism)
        self._swept: set[str] = set()

    def __repr__(self) -> str:
        return f"<Local {self._root}>"

    @property
    def identity(self) -> str:
        return f"local://{self._root}"

    @property
    def caps(self) -> Capabilities:
        return _CAPS

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        scan, batch = await self._run(directory, _scan, self._real(directory))
        with closing(scan):
            while True:
                for entry in batch:
                    if entry is not None:
                        yield entry
                if len(batch) < BATCH:
                    break
                batch = await self._run(directory, _batch, scan)

    async def stat(self, path: str) -> Entry:
        return await self._run(path, _stat, self._real(path), path)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        fd = await self._run(path, os.open, self._real(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if st.S_ISDIR(status.st_mode):
                raise IsDirectory(path)
            if not st.S_ISREG(status.st_mode):
                raise InvalidName(path, "neither a file nor a directory")
            if version is not None and not Version(status.st_size, status.st_mtime_ns).matches(version):
                raise Stale(path, "the file has changed")
            yield self._pieces(path, fd, span)
        finally:
            os.close(fd)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        real, directory = self._real(path, root=False), parent(path)
        if directory not in self._swept:  # once: sweeping at every put would read the directory every time
            await self._run(path, _sweep, self._real(directory))
            self._swept.add(directory)
        return await self._run(path, _put, real, path, source, expect, mtime_ns)

    async def remove(self, path: str) -> None:
        await self._run(path, _remove, self._real(path, root=False), path)

    async def mkdir(self, path: str) -> None:
        await self._run(path, os.mkdir, self._real(path))

    async def rmdir(self, path: str) -> None:
        await self._run(path, _rmdir, self._real(path, root=False))

    async def rename(self, source: str, target: str) -> None:
        await self._run(target, _rename, self._real(source, root=False), self._real(target, root=False), source)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        def change(real: str) -> Entry:
            before = os.lstat(real)
            os.utime(real, ns=(before.st_atime_ns, mtime_ns), follow_symlinks=False)
            return _stat(real, path)

        return await self._run(path, change, self._real(path))

    async def symlink(self, path: str, target: str) -> Entry:
        def make(real: str) -> Entry:
            os.symlink(target, real)
            _sync_directory(os.path.dirname(real))
            return _stat(real, path)

        return await self._run(path, make, self._real(path))

    async def set_mode(self, path: str, mode: int) -> Entry:
        def change(real: str) -> Entry:
            os.chmod(real, mode)
            return _stat(real, path)

        return await self._run(path, change, self._real(path))

    async def usage(self) -> Usage:
        room = await self._run("", os.statvfs, self._root)
        unit = room.f_frsize
        return Usage(room.f_blocks * unit, (room.f_blocks - room.f_bfree) * unit, room.f_bavail * unit)

    async def aclose(self) -> None:
        """Nothing is held between calls."""

    def _real(self, path: str, *, root: bool = True) -> str:
        if not root and not path:
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")
        return os.path.join(self._root, check_path(path)) if path else self._root

    async def _pieces(self, path: str, fd: int, span: Span) -> AsyncIterator[bytes]:
        offset = span.start
        while offset < span.stop:
            piece = await self._run(path, os.pread, fd, min(PIECE, span.stop - offset), offset)
            if not piece:
                return
            offset += len(piece)
            yield piece

    async def _run(self, path: str, call: Callable[[*Args], T], *args: *Args) -> T:
        try:
            return await trio.to_thread.run_sync(call, *args, limiter=self._limiter)
        except StorageError:
            raise
        except OSError as problem:
            raise _translated(path, problem) from problem


def _translated(path: str, problem: OSError) -> StorageError:
    kind = _BY_ERRNO.get(problem.errno or 0)
    if kind is None:
        return StorageError(path, problem.strerror or str(problem))
    return kind(path)


def _entry(name: str, real: str, status: os.stat_result) -> Entry | None:
    mode, times = st.S_IMODE(status.st_mode), status.st_mtime_ns
    match st.S_IFMT(status.st_mode):
        case st.S_IFREG:
            return Entry(name, Kind.FILE, status.st_size, times, mode=mode)
        case st.S_IFDIR:
            return Entry(name, Kind.DIRECTORY, 0, times, mode=mode)
        case st.S_IFLNK:
            return Entry(name, Kind.SYMLINK, status.st_size, times, mode=mode, target=os.readlink(real))
        case _:
            return None


def _scan(real: str) -> tuple[_Scan, list[Entry | None]]:
    """Begin a listing: most directories are listed in one hop to a thread."""
    scan = os.scandir(real)
    try:
        return scan, _batch(scan)
    except BaseException:
        scan.close()
        raise


def _batch(scan: _Scan) -> list[Entry | None]:
    """The next entries, None for what is not shown; fewer than ``BATCH`` at the end only."""
    found: list[Entry | None] = []
    for item in islice(scan, BATCH):
        entry = None
        if not is_ours(item.name):
            try:
                entry = _entry(item.name, item.path, item.stat(follow_symlinks=False))
            except FileNotFoundError:  # deleted since the directory was read
                entry = None
        found.append(entry)
    return found


def _stat(real: str, path: str) -> Entry:
    entry = _entry(basename(path), real, os.lstat(real))
    if entry is None:
        raise NotFound(path, "neither a file nor a directory")
    if not path and entry.kind is not Kind.DIRECTORY:
        entry = _entry("", real, os.stat(real))
        if entry is None or entry.kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
    return entry


def _check(real: str, path: str, expect: Expect) -> Entry | None:
    """What is there now; raises Stale where it is not what was expected."""
    try:
        now: Entry | None = _stat(real, path)
    except FileNotFoundError:
        now = None
    if now is not None and now.kind is Kind.DIRECTORY:
        raise IsDirectory(path)
    match expect:
        case Anything():
            pass
        case Absent():
            if now is not None:
                raise Stale(path, "the name is taken")
        case Version():
            if now is None or not now.version.matches(expect):
                raise Stale(path, "the file has changed")
    return now


def _put(real: str, path: str, source: Source, expect: Expect, mtime_ns: int | None) -> Entry:
    _check(real, path, expect)
    partial = os.path.join(os.path.dirname(real), partial_name(basename(real)))
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            _copy(source, fd, path)
            if mtime_ns is not None:
                os.utime(fd, ns=(time.time_ns(), mtime_ns))
            before = _check(real, path, expect)
            if before is not None and before.mode is not None and before.kind is Kind.FILE:
                os.fchmod(fd, before.mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        if expect is Absent.ABSENT:
            _publish_new(partial, real, path)
        else:
            os.rename(partial, real)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    _sync_directory(os.path.dirname(real))
    return _stat(real, path)


def _copy(source: Source, fd: int, path: str) -> None:
    offset = 0
    while offset < source.size:
        trio.from_thread.check_cancelled()
        piece = memoryview(source.pread(min(PIECE, source.size - offset), offset))
        if not piece:
            raise Corrupt(path, f"the source ended at {offset} of {source.size} bytes")
        while piece:
            written = os.write(fd, piece)
            offset += written
            piece = piece[written:]


def _publish_new(partial: str, real: str, path: str) -> None:
    """Publish where nothing may be: a link fails if the name is taken, a rename would replace it."""
    try:
        os.link(partial, real)
    except FileExistsError:
        raise Stale(path, "the name is taken") from None
    except OSError as problem:
        if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        os.rename(partial, real)  # a file system without hard links (vfat, some FUSE)
    else:
        os.unlink(partial)


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def _sweep(directory: str) -> int:
    """Delete partials that nobody writes any more; answers how many."""
    gone = 0
    with os.scandir(directory) as scan:
        for item in scan:
            if is_abandonable(item.name):
                with suppress(FileNotFoundError):
                    if time.time() - item.stat(follow_symlinks=False).st_mtime > ABANDONED_AFTER:
                        os.unlink(item.path)
                        gone += 1
    return gone


def _remove(real: str, path: str) -> None:
    if st.S_ISDIR(os.lstat(real).st_mode):
        raise IsDirectory(path)
    os.unlink(real)


def _rmdir(real: str) -> None:
    try:
        os.rmdir(real)
    except OSError as problem:
        if problem.errno != errno.ENOTEMPTY or not _sweep(real):
            raise
        os.rmdir(real)


def _rename(real: str, target: str, source: str) -> None:
    try:
        os.lstat(real)
    except OSError as problem:
        raise _translated(source, problem) from problem
    try:
        os.rename(real, target)
    except OSError as problem:
        if problem.errno == errno.EEXIST:  # what some file systems say of a directory that is not empty
            problem.errno = errno.ENOTEMPTY
        raise

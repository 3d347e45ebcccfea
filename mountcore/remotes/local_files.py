"""What a local folder does in worker threads: the blocking side of :mod:`.local`.

``real`` is a path of this machine, ``path`` one of the remote's, for errors. `put` and `copy` write a partial
beside the target, sync it, rename it over the target and sync the directory.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat as st
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio

from .. import errors
from ..errors import InvalidName, IsDirectory, NotDirectory, NotFound, Stale, StorageError
from .expecting import check_expected
from .local_scan import entry_of
from .partials import ABANDONED_AFTER, is_abandonable, partial_name
from .paths import basename
from .protocol import Absent, Entry, Expect, Kind, Source, Span
from .sources import piece_of

PIECE = 1 << 20
COPY_PIECE = 64 << 20
FIRST = 128 << 10
"""Bytes read together with opening."""
USER = "user."
_BY_ERRNO: dict[int, type[StorageError]] = {
    kind.code: kind for kind in errors.REPLIES if kind not in (StorageError, errors.Corrupt)
} | {
    errno.EPERM: errors.Denied,
    errno.ETXTBSY: errors.Busy,
    errno.EIO: errors.Corrupt,
    errno.ELOOP: errors.InvalidName,
}


def translated(path: str, problem: OSError) -> StorageError:
    """The system's error as one of ours."""
    kind = _BY_ERRNO.get(problem.errno or 0)
    if kind is None:
        return StorageError(path, problem.strerror or str(problem))
    return kind(path)


def stat(real: str, path: str) -> Entry:
    """What is there, links not followed; for "" the root, a directory."""
    entry = entry_of(basename(path), os.lstat(real), real)
    if entry is None:
        raise NotFound(path, "neither a file nor a directory")
    if not path and entry.kind is not Kind.DIRECTORY:
        entry = entry_of("", os.stat(real), real)
        if entry is None or entry.kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
    return entry


def check(real: str, path: str, expect: Expect) -> Entry | None:
    """What is there now; raises Stale where it is not what was expected."""
    try:
        now: Entry | None = stat(real, path)
    except FileNotFoundError:
        now = None
    check_expected(now, path, expect)
    return now


def put(real: str, path: str, source: Source, expect: Expect, mtime_ns: int | None) -> Entry:
    """Store a whole file, published in one step."""
    return _publish(real, path, lambda fd: _write(source, fd, path), expect, mtime_ns)


def begin(real: str, span: Span) -> tuple[int, os.stat_result, bytes]:
    """Open a file to read: its descriptor, its status and, of a file, the first bytes; small ones in one step."""
    fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        wanted = min(FIRST, span.length) if st.S_ISREG(status.st_mode) else 0
        return fd, status, os.pread(fd, wanted, span.start) if wanted else b""
    except BaseException:
        os.close(fd)
        raise


def copy(real: str, path: str, origin: str, source: str, expect: Expect) -> Entry:
    """Copy a file, sharing its blocks where the file system can (copy_file_range(2))."""
    with _naming(source):
        fd = os.open(origin, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        if st.S_ISDIR(status.st_mode):
            raise IsDirectory(source)
        if not st.S_ISREG(status.st_mode):
            raise InvalidName(source, "neither a file nor a directory")

        def fill(target: int) -> None:
            _copy(fd, target)
            now = os.fstat(fd)
            if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise Stale(source, "the file changed while it was copied")

        return _publish(real, path, fill, expect, status.st_mtime_ns)
    finally:
        os.close(fd)


def _publish(real: str, path: str, fill: Callable[[int], None], expect: Expect, mtime_ns: int | None) -> Entry:
    check(real, path, expect)
    partial = os.path.join(os.path.dirname(real), partial_name(basename(real)))
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    held = _hold(fd)
    try:
        try:
            fill(fd)
            if mtime_ns is not None:
                os.utime(fd, ns=(time.time_ns(), mtime_ns))
            before = check(real, path, expect)
            if before is not None and before.kind is Kind.FILE:
                _inherit(real, fd, before)
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
    finally:
        os.close(held)
    sync_directory(os.path.dirname(real))
    return stat(real, path)


def _hold(fd: int) -> int:
    """Show other sweepers, also of other processes, that this partial is being written, whatever time it has: a lock,
    for as long as the descriptor that this answers is open."""
    held = os.dup(fd)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def _is_held(partial: str) -> bool:
    fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _inherit(real: str, fd: int, before: Entry) -> None:
    """A file that is replaced keeps its owner, where we may say so, its mode and its attributes."""
    status = os.fstat(fd)
    if before.owner is not None and before.owner != (status.st_uid, status.st_gid):
        with suppress(PermissionError):
            os.fchown(fd, *before.owner)
    if before.mode is not None:
        os.fchmod(fd, before.mode)
    with suppress(OSError):  # no attributes on this file system, or gone meanwhile
        for name in os.listxattr(real, follow_symlinks=False):
            if name.startswith(USER):
                os.setxattr(fd, name, os.getxattr(real, name, follow_symlinks=False))


def _copy(source: int, target: int) -> None:
    while True:
        trio.from_thread.check_cancelled()
        try:
            if not os.copy_file_range(source, target, COPY_PIECE):
                return
        except OSError as problem:
            if problem.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            break
    while piece := memoryview(os.read(source, PIECE)):
        trio.from_thread.check_cancelled()
        while piece:
            piece = piece[os.write(target, piece) :]


def _write(source: Source, fd: int, path: str) -> None:
    offset = 0
    while offset < source.size:
        trio.from_thread.check_cancelled()
        piece = memoryview(piece_of(source, PIECE, offset, path))
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


def sync_directory(directory: str) -> None:
    """Names made in the directory survive power loss."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def sweep(directory: str) -> int:
    """Delete partials that nobody writes any more; answers how many."""
    gone = 0
    with os.scandir(directory) as scan:
        for item in scan:
            if is_abandonable(item.name):
                with suppress(FileNotFoundError):
                    old = time.time() - item.stat(follow_symlinks=False).st_mtime > ABANDONED_AFTER
                    if old and not _is_held(item.path):  # it gets its file's time before it gets its name
                        os.unlink(item.path)
                        gone += 1
    return gone


def remove(real: str, path: str) -> None:
    """Delete what is no directory."""
    if st.S_ISDIR(os.lstat(real).st_mode):
        raise IsDirectory(path)
    os.unlink(real)


def rmdir(real: str) -> None:
    """Remove a directory with nothing in it but old partials."""
    try:
        os.rmdir(real)
    except OSError as problem:
        if problem.errno != errno.ENOTEMPTY or not sweep(real):
            raise
        os.rmdir(real)


def rename(real: str, target: str, source: str) -> None:
    """Rename; an error about the origin names that."""
    with _naming(source):
        os.lstat(real)
    try:
        os.rename(real, target)
    except OSError as problem:
        if problem.errno == errno.EEXIST:  # what some file systems say of a directory that is not empty
            problem.errno = errno.ENOTEMPTY
        raise


def hard_link(real: str, target: str, source: str, path: str) -> Entry:
    """Another name for a file."""
    with _naming(source):
        if st.S_ISDIR(os.lstat(real).st_mode):
            raise IsDirectory(source)
    os.link(real, target, follow_symlinks=False)
    sync_directory(os.path.dirname(target))
    return stat(target, path)


def digest(real: str, path: str, algorithm: str) -> str:
    """The hex digest of a file's content."""
    fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if st.S_ISDIR(os.fstat(fd).st_mode):
            raise IsDirectory(path)
        found, offset = hashlib.new(algorithm, usedforsecurity=False), 0
        while piece := os.pread(fd, PIECE, offset):
            trio.from_thread.check_cancelled()
            found.update(piece)
            offset += len(piece)
        return found.hexdigest()
    finally:
        os.close(fd)


def attributes(real: str) -> dict[str, bytes]:
    """The user's extended attributes."""
    found = {}
    for name in os.listxattr(real, follow_symlinks=False):
        if name.startswith(USER):
            with suppress(OSError):  # removed since
                found[name.removeprefix(USER)] = os.getxattr(real, name, follow_symlinks=False)
    return found


def set_attribute(real: str, path: str, name: str, value: bytes | None) -> None:
    """Set or remove one of them."""
    try:
        if value is None:
            os.removexattr(real, USER + name, follow_symlinks=False)
        else:
            os.setxattr(real, USER + name, value, follow_symlinks=False)
    except OSError as problem:
        if problem.errno == errno.ENODATA:
            raise NotFound(path, f"it has no attribute {name!r}") from None
        raise


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors inside are about this path."""
    try:
        yield
    except OSError as problem:
        if isinstance(problem, StorageError):
            raise
        raise translated(path, problem) from problem

"""Files of the cache that somebody else has open: what the disk must be able to do for that, and how it ends.

Used by the store. See :mod:`.item` for what lending is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time

from .item import UNTOUCHED

STEP = 64 << 20


def tells_of_writes(probe: str) -> bool:
    """Whether a file's modification time can be set to one of 1970 and shows every write after that, also by a page
    that is mapped; tried out with a file of this name."""
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.pwrite(descriptor, bytes(mmap.PAGESIZE), 0)
        for write in (_by_call, _by_page):
            os.utime(descriptor, ns=(time.time_ns(), UNTOUCHED))
            if os.fstat(descriptor).st_mtime_ns != UNTOUCHED:
                return False
            write(descriptor)
            if os.fstat(descriptor).st_mtime_ns == UNTOUCHED:
                return False
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
        os.unlink(probe)


def _by_call(descriptor: int) -> None:
    os.pwrite(descriptor, b"x", 0)


def _by_page(descriptor: int) -> None:
    with mmap.mmap(descriptor, mmap.PAGESIZE) as page:
        page[0:1] = b"y"


def sever(descriptor: int, path: str) -> bool:
    """If anybody else has the file open: put a copy in its place, behind the same descriptor. Answers whether.

    A copy that nobody wrote into meanwhile has the modification time of the original. Blocking.
    """
    if not _shared(descriptor):
        return False
    before = os.fstat(descriptor)
    copy = os.open(f"{path}.copy", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _copy(descriptor, copy, before.st_size)
        after = os.fstat(descriptor)
        if (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size):
            os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.fsync(copy)
        os.rename(f"{path}.copy", path)
        os.dup2(copy, descriptor, inheritable=False)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.copy")
        raise
    finally:
        os.close(copy)
    return True


def _shared(descriptor: int) -> bool:
    """Whether there is another open of the file: a write lease is granted to the only one (fcntl(2), F_SETLEASE)."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as problem:
        return problem.errno in (errno.EAGAIN, errno.EINVAL, errno.EACCES)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _copy(source: int, target: int, size: int) -> None:
    """Data only: holes stay holes."""
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:
                return
            raise
        stop = offset = os.lseek(source, start, os.SEEK_HOLE)
        while start < stop:
            done = os.copy_file_range(source, target, min(STEP, stop - start), start, start)
            if not done:
                return
            start += done

"""The FUSE kernel protocol, version 7: numbers and layouts of fuse(4) and linux/fuse.h. Pure."""

from __future__ import annotations

import enum
import struct

from mountcore.remotes.protocol import Kind

MINOR = 31
"""The version that we speak is 7.31 (Linux 5.4); later fields are only used where INIT agreed on them."""


class Op(enum.IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47


class Init(enum.IntFlag):
    """What INIT can agree on, as far as it is used here."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    INIT_EXT = 1 << 30
    """There is a second word of flags, here above the first."""
    PASSTHROUGH = 1 << 37


class SetattrValid(enum.IntFlag):
    """Which fields of SETATTR mean something."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    HANDLE = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8


FOPEN_DIRECT_IO = 1
FOPEN_KEEP_CACHE = 2
FOPEN_CACHE_DIR = 8
FOPEN_PASSTHROUGH = 128
FOPEN_NOFLUSH = 32
"""Nothing is to be done when a descriptor is closed: close(2) costs no request that is waited for."""
WRITE_CACHE = 1
"""In WRITE: a page of the kernel's goes where it belongs, whatever the flags of the handle say."""
NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3

PAGE = 4096
MAX_PAGES = 256
MAX_WRITE = MAX_PAGES * PAGE
BUFFER = MAX_WRITE + PAGE
"""What one read of the device may deliver: a header and the largest write."""

IN_HEADER = struct.Struct("<IIQQIIIHH")
"""length, opcode, unique, node, uid, gid, pid, extensions, padding"""
BODY = IN_HEADER.size
OUT_HEADER = struct.Struct("<IiQ")
"""length, error (negative errno, or a notification's number), unique"""
INIT_IN = struct.Struct("<IIIII")
"""major, minor, read-ahead, flags, and with INIT_EXT their second word"""
INIT_OUT = struct.Struct("<IIIIHHIIHHII24x")
ATTRIBUTES = struct.Struct("<QQQqqqIIIIIIIIII")
ENTRY = struct.Struct("<QQQQII")
ATTR_OUT = struct.Struct("<QII")
OPEN_IN = struct.Struct("<II")
OPEN_OUT = struct.Struct("<QIi")
CREATE_IN = struct.Struct("<IIII")
READ_IN = struct.Struct("<QQI")
WRITE_IN = struct.Struct("<QQIIQII")
WRITE_OUT = struct.Struct("<II")
HANDLE_IN = struct.Struct("<Q")
"""What FLUSH, FSYNC, RELEASE and RELEASEDIR begin with."""
SETATTR_IN = struct.Struct("<IIQQQqqqIIIIIIII")
MKNOD_IN = struct.Struct("<IIII")
MKDIR_IN = struct.Struct("<II")
RENAME_IN = struct.Struct("<Q")
LINK_IN = struct.Struct("<Q")
FALLOCATE_IN = struct.Struct("<QQQII")
LSEEK_IN = struct.Struct("<QQII")
LSEEK_OUT = struct.Struct("<Q")
COPY_IN = struct.Struct("<QQQQQQQ")
"""handle and offset to read from; node, handle and offset to write to; length, flags"""
RENAME2_IN = struct.Struct("<QII")
FORGET_IN = struct.Struct("<Q")
BATCH_FORGET_IN = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
STATFS_OUT = struct.Struct("<QQQQQIIII24x")
DIRENT = struct.Struct("<QQII")
XATTR_IN = struct.Struct("<II")
"""GETXATTR, LISTXATTR: size, 0; SETXATTR: size, flags."""
XATTR_OUT = struct.Struct("<II")
INTERRUPT_IN = struct.Struct("<Q")
INVAL_INODE = struct.Struct("<Qqq")
INVAL_ENTRY = struct.Struct("<QII")
BACKING_MAP = struct.Struct("<iIQ")
"""descriptor, 0, 0"""
BACKING_OPEN = 1 << 30 | BACKING_MAP.size << 16 | 229 << 8 | 1
BACKING_CLOSE = 1 << 30 | 4 << 16 | 229 << 8 | 2
"""ioctl(2) on /dev/fuse: FUSE_DEV_IOC_BACKING_OPEN, FUSE_DEV_IOC_BACKING_CLOSE."""
NEGATIVE_ENTRY_PADDING = bytes(ATTRIBUTES.size)
DIRENT_PLUS = struct.Struct(ENTRY.format + ATTRIBUTES.format[1:] + DIRENT.format[1:])
"""All three at once, as READDIRPLUS has them before each name."""
PADDING = tuple(bytes(-length % 8) for length in range(256))
"""What follows a name of that length, modulo 256, in a listing: the structures before it are whole words."""
DIRENT_KINDS = {Kind.FILE: 8, Kind.DIRECTORY: 4, Kind.SYMLINK: 10}
"""``d_type`` of readdir(3)."""
AFTER_OPEN = frozenset(
    {Op.INIT, Op.READ, Op.WRITE, Op.FLUSH, Op.RELEASE, Op.FSYNC, Op.READDIR, Op.READDIRPLUS, Op.RELEASEDIR,
     Op.FSYNCDIR, Op.DESTROY, Op.FALLOCATE, Op.LSEEK, Op.COPY_FILE_RANGE}
)  # fmt: skip
"""Requests that carry no new claim of who asks: whoever opened was let in (as libfuse's allow_root has it)."""


def names(body: memoryview) -> list[str]:
    """The NUL-terminated names at the end of a request."""
    return [part.decode("utf-8", "surrogateescape") for part in bytes(body).split(b"\0")[:-1]]

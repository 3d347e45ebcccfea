"""The errors that storage can answer with, and the one table that maps them outward.

Every error is an ``OSError`` with the right ``errno``, names the path it is about and carries what the
storage said. Front ends never invent codes: they read :data:`REPLIES`.

    StorageError
    ├── NotFound  Exists  NotDirectory  IsDirectory  NotEmpty  ReadOnly   the name space says no
    ├── Denied  InvalidName  NameTooLong  CrossDevice  Unsupported  BadHandle  NotSeekable   can never work
    ├── Busy  Stale                                                       try again later
    ├── Unreachable  TimedOut  Corrupt                                    the storage failed us
    └── NoSpace  Quota  TooLarge                                          there is no room

:class:`Refused` is the other kind: what the *user* asked for makes no sense (an option, a configuration,
an unknown remote). It is not an ``OSError``; commands print it as one line and exit.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import ClassVar


class StorageError(OSError):
    """An operation on storage failed.

    ``path`` is relative to the remote's root, ``said`` is the storage's own words (already free of
    secrets), ``retriable`` tells whether the same request may succeed later without anyone's help.
    """

    code: ClassVar[int] = _errno.EIO
    retriable: ClassVar[bool] = False

    def __init__(self, path: str = "", said: str = "") -> None:
        text = os.strerror(self.code)
        super().__init__(self.code, f"{text} ({said})" if said else text, path or None)
        self.path = path
        self.said = said


class NotFound(StorageError, FileNotFoundError):
    """There is no such file or directory, and the storage is sure of it."""

    code = _errno.ENOENT


class Exists(StorageError, FileExistsError):
    """The name is taken already."""

    code = _errno.EEXIST


class NotDirectory(StorageError, NotADirectoryError):
    """A directory was needed and something else is there."""

    code = _errno.ENOTDIR


class IsDirectory(StorageError, IsADirectoryError):
    """A file was needed and a directory is there."""

    code = _errno.EISDIR


class NotEmpty(StorageError):
    """The directory still has entries."""

    code = _errno.ENOTEMPTY


class ReadOnly(StorageError):
    """Nothing can be changed here."""

    code = _errno.EROFS


class Denied(StorageError, PermissionError):
    """The storage, or a rule of ours, does not allow this user to do that; also a login that failed."""

    code = _errno.EACCES


class InvalidName(StorageError):
    """The storage cannot hold this name."""

    code = _errno.EINVAL


class NameTooLong(StorageError):
    """The name or path is longer than the storage, or the kernel, can hold."""

    code = _errno.ENAMETOOLONG


class CrossDevice(StorageError):
    """The storage cannot rename this; copy and delete instead."""

    code = _errno.EXDEV


class Unsupported(StorageError):
    """The storage has no such operation. Never ENOSYS: the kernel would remember it for every file."""

    code = _errno.ENOTSUP


class BadHandle(StorageError):
    """The handle is closed, or was not opened for this."""

    code = _errno.EBADF


class NotSeekable(StorageError):
    """The file is read or written straight through, in this cache mode, and only in order."""

    code = _errno.ESPIPE


class Busy(StorageError):
    """Somebody else uses it right now."""

    code = _errno.EBUSY
    retriable = True


class Stale(StorageError):
    """The file at the storage is no longer the version that the request was about."""

    code = _errno.ESTALE


class Unreachable(StorageError, ConnectionError):
    """The storage cannot be reached or broke the connection. It says nothing about what exists there."""

    code = _errno.EHOSTUNREACH
    retriable = True


class TimedOut(StorageError, TimeoutError):
    """The storage did not answer within the bounded time."""

    code = _errno.ETIMEDOUT
    retriable = True


class Corrupt(StorageError):
    """The storage answered something that cannot be right: a wrong size, a short body, a broken reply."""

    code = _errno.EIO
    retriable = True


class NoSpace(StorageError):
    """No room: on the cache's disk, or at the storage."""

    code = _errno.ENOSPC
    retriable = True


class Quota(StorageError):
    """The user's share at the storage is used up."""

    code = _errno.EDQUOT
    retriable = True


class TooLarge(StorageError):
    """The file is larger than the storage, or the protocol, can hold."""

    code = _errno.EFBIG


class Refused(Exception):
    """What the user asked for cannot be done as asked; the text names the thing and the remedy."""


#: error → (errno for the kernel, FTP reply code). RFC 959 §4.2: 4yz may be tried again, 5yz not.
REPLIES: dict[type[StorageError], tuple[int, int]] = {
    NotFound: (_errno.ENOENT, 550),
    Exists: (_errno.EEXIST, 550),
    NotDirectory: (_errno.ENOTDIR, 550),
    IsDirectory: (_errno.EISDIR, 550),
    NotEmpty: (_errno.ENOTEMPTY, 550),
    ReadOnly: (_errno.EROFS, 550),
    Denied: (_errno.EACCES, 550),
    InvalidName: (_errno.EINVAL, 553),
    NameTooLong: (_errno.ENAMETOOLONG, 553),
    CrossDevice: (_errno.EXDEV, 550),
    Unsupported: (_errno.ENOTSUP, 504),
    BadHandle: (_errno.EBADF, 451),
    NotSeekable: (_errno.ESPIPE, 550),
    Busy: (_errno.EBUSY, 450),
    Stale: (_errno.ESTALE, 450),
    Unreachable: (_errno.EHOSTUNREACH, 451),
    TimedOut: (_errno.ETIMEDOUT, 451),
    Corrupt: (_errno.EIO, 451),
    NoSpace: (_errno.ENOSPC, 452),
    Quota: (_errno.EDQUOT, 552),
    TooLarge: (_errno.EFBIG, 552),
    StorageError: (_errno.EIO, 451),
}


def ftp_code(error: OSError) -> int:
    """The FTP reply code for any ``OSError``: the table for ours, by ``errno`` for the system's own."""
    for kind in type(error).__mro__:
        if kind in REPLIES:
            return REPLIES[kind][1]
    by_errno = dict(REPLIES.values())
    return by_errno.get(error.errno or 0, 451)

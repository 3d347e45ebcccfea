"""The port to storage: whole objects, ranges of them, no handles. Every storage type implements `Remote`.

Paths are ``str``, relative to the remote's root, ``/``-separated, ``""`` for the root, never with a
leading or trailing slash, never with ``.``, ``..``, an empty part or NUL in them.

Rules that every remote keeps (the contract suite proves them against a real server):

- Errors are those of :mod:`mountcore.errors`, with the path. A library's exception never leaves its adapter.
- :class:`~mountcore.errors.NotFound` means that the storage *said* so. Not reaching it, or not
  understanding its answer, is ``Unreachable``, ``TimedOut`` or ``Corrupt``; nothing may look deleted
  because the storage is down.
- Every wait is bounded. Cancelling any call is safe: connections in an unknown state are dropped.
- `put` never leaves a part of a file under its final name where :attr:`Capabilities.atomic_put` holds.
- Calls may run concurrently; the remote bounds itself to :attr:`Capabilities.parallelism`.
"""

from __future__ import annotations

import enum
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

from ..errors import Unsupported
from ..spans import Span
from ..splicing import Piece, Pipe

__all__ = [
    "ABSENT", "ANYTHING", "Absent", "Anything", "Capabilities", "Changes", "Entry", "Expect", "Kind", "Remote",
    "RenameScope", "Source", "Span", "Usage", "Version", "file_stamp",
    "for_a_file", "peek", "spliced", "stamp_of",
]  # fmt: skip


class Kind(enum.Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


class Version(NamedTuple):
    """Which content of a file this is, as far as the storage can tell. A tuple, as `Entry` is.

    ``mtime_ns`` is exact to ``resolution_ns`` (a LIST line says minutes, MLSD seconds); ``tag`` is an
    etag, generation or hash where the storage has one cheaply, else ``""``.
    """

    size: int
    mtime_ns: int | None = None
    resolution_ns: int = 1
    tag: str = ""

    def matches(self, other: Version) -> bool:
        """Whether both describe the same content: tags decide where both have one, else size and time."""
        if self.tag and other.tag:
            return self.tag == other.tag
        if self.size != other.size:
            return False
        if self.mtime_ns is None or other.mtime_ns is None:
            return True
        return abs(self.mtime_ns - other.mtime_ns) < max(self.resolution_ns, other.resolution_ns)


class Entry(NamedTuple):
    """One name in a directory. ``name`` is a single path component ("" only for the root itself).

    A tuple: a listing makes one for every name, in 0.3 µs; a frozen dataclass takes five times as long.
    """

    name: str
    kind: Kind
    size: int = 0
    mtime_ns: int | None = None
    resolution_ns: int = 1
    tag: str = ""
    mode: int | None = None
    """Permission bits, only where the storage really keeps them."""
    target: str = ""
    """Where a symlink points."""
    owner: tuple[int, int] | None = None
    """User and group by number, only where they mean something on this machine."""
    ident: int | None = None
    """A number that this file keeps for life, whatever it is called, where the storage has one (an inode)."""
    atime_ns: int | None = None
    """When it was last read, where the storage says that of every file."""

    @property
    def version(self) -> Version:
        """The content's version; meaningful for files."""
        return Version(self.size, self.mtime_ns, self.resolution_ns, self.tag)


class Absent(enum.Enum):
    """`put` must create the file: nothing of that name may exist."""

    ABSENT = "absent"


class Anything(enum.Enum):
    """`put` replaces whatever is there."""

    ANYTHING = "anything"


ABSENT = Absent.ABSENT
ANYTHING = Anything.ANYTHING
Expect = Version | Absent | Anything


class RenameScope(enum.Enum):
    """What the storage can rename by itself."""

    NONE = "none"
    FILE = "file"
    TREE = "tree"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about a remote. Nobody asks ``isinstance``; a missing capability gets one documented fallback."""

    writable: bool = True
    """Where not, nothing can ever be changed, and a mount is read-only."""
    rename: RenameScope = RenameScope.NONE
    rename_replaces: bool = False
    """A file renamed onto an existing file replaces it, and no moment has neither."""
    set_mtime: bool = False
    """`put` keeps ``mtime_ns`` and `set_mtime` works, to ``mtime_resolution_ns``."""
    mtime_resolution_ns: int = 1_000_000_000
    directory_times: bool = False
    """`set_mtime` works for directories, too."""
    atomic_put: bool = False
    """A reader sees the old file or the new one, whatever happens to the upload."""
    conditional_put: bool = False
    """``expect`` is checked by the storage in the same step; elsewhere just before publishing."""
    ranged_read: bool = True
    real_directories: bool = True
    """Empty directories exist. Where not, `mkdir` may only be remembered by the caller."""
    assumes_root: bool = False
    """`stat` of the root says directory also where nothing is stored, so that one can begin there."""
    symlinks: bool = False
    hard_links: bool = False
    modes: bool = False
    owners: bool = False
    access_times: bool = False
    """`set_atime` works, to ``mtime_resolution_ns``."""
    attributes: bool = False
    """Small named values are kept with a file: a user's extended attributes, an object's metadata."""
    tags: bool = False
    hashes: frozenset[str] = frozenset()
    """What `hash` can tell without the content crossing the network: names as in :mod:`hashlib`."""
    append: bool = False
    """`append` adds to the end of a file at the storage."""
    copy: bool = False
    """`copy` copies a file at the storage, and its content does not cross the network."""
    list_tree: bool = False
    """`list_tree` costs about as much as `list`."""
    changes: bool = False
    """`changes` tells what others changed, without listing everything."""
    public_link: bool = False
    usage: bool = False
    case_insensitive: bool = False
    parallelism: int = 4
    """How many requests are useful at once; the remote itself queues what is over."""
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Room at the storage in bytes; None where it does not say."""

    total: int | None = None
    used: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed at the storage since a cursor; see `Remote.changes`."""

    cursor: str
    """Ask with this the next time."""
    directories: tuple[str, ...] = ()
    """Whose listings are out of date."""
    everything: bool = False
    """The storage has lost track: all listings are."""


class Source(Protocol):
    """Content to upload: a snapshot that does not change while `put` runs."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes at ``offset`` (b"" only at the end). Thread-safe; may raise OSError."""


def stamp_of(source: Source) -> str:
    """By what a source's content is known again, in another process, too: equal stamps, equal bytes. "" where it has no
    ``stamp``, as content that is computed or passing by."""
    return str(getattr(source, "stamp", ""))


def peek(source: Source, length: int, offset: int) -> bytes:
    """What can be read of a source without waiting for a disk; b"" where that is nothing, or it has no ``peek``."""
    look: Callable[[int, int], bytes] | None = getattr(source, "peek", None)
    return b"" if look is None else look(length, offset)


def file_stamp(descriptor: int) -> str:
    """The stamp of a file on this machine: any write, and any setting of its time, gives it another."""
    facts = os.fstat(descriptor)
    return f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"


async def spliced(body: AsyncIterator[bytes]) -> Pipe | None:
    """The next piece of what `Remote.read` yields, left in the kernel; it has to be taken before the one after it.

    None where it is to be had as bytes. Some remotes can do that, for large pieces: what they yield has a method of
    this name.
    """
    ask: Callable[[], Awaitable[Pipe | None]] | None = getattr(body, "spliced", None)
    return None if ask is None else await ask()


@final
class for_a_file:
    """What `Remote.read` yields, for somebody who writes each piece to a file before the next."""

    __slots__ = ("_body",)

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    def __aiter__(self) -> for_a_file:
        return self

    async def __anext__(self) -> Piece:
        piece = await spliced(self._body)
        return await anext(self._body) if piece is None else piece


class Remote(Protocol):
    """A storage, rooted at a directory of it. All methods are checkpoints and may raise StorageError.

    Adapters inherit from it: what stands below "optional" is part of a
    capability, and ``Unsupported`` unless the adapter has it. What stands *around* a remote inherits from
    :class:`~mountcore.remotes.around.Around`, and changes what it is about.
    """

    @property
    def identity(self) -> str:
        """Canonical name of this storage *and root*, without secrets: same identity, same files."""

    @property
    def caps(self) -> Capabilities:
        """What it can do. May become better known after the first contact, never during a call."""

    def list(self, directory: str) -> AsyncIterator[Entry]:
        """The entries of a directory, in any order, streamed; close it with ``aclosing``.

        ``NotFound`` and ``NotDirectory`` come at the first step. An error half-way raises: a listing
        that ends normally is complete.
        """

    async def stat(self, path: str) -> Entry:
        """One entry; for ``""`` the root, which must be a directory."""

    def read(self, path: str, span: Span, version: Version | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of ``span``, in order, in pieces of 1 MiB or less; fewer bytes only at the end of the file.

        Leaving the context early ends the transfer. ``version`` is what the caller believes it reads:
        where the storage can tell cheaply that it is another, ``Stale``.
        """

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        """Store a whole file, replacing one; answers what is stored now. The parent directory exists.

        ``Stale`` when ``expect`` does not hold: a version that is no longer there, or something where
        nothing may be. Verified as far as the storage allows: at least the size.
        """

    async def remove(self, path: str) -> None:
        """Delete a file (or symlink)."""

    async def mkdir(self, path: str) -> None:
        """Make a directory; ``Exists`` if the name is taken."""

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory; ``NotEmpty`` otherwise."""

    async def rename(self, source: str, target: str) -> None:
        """Rename within :attr:`Capabilities.rename`; ``CrossDevice`` where it cannot.

        Onto an existing file: replaces it if :attr:`Capabilities.rename_replaces`, else ``Exists``.
        """

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        """Set a file's modification time; ``Unsupported`` where it cannot. Answers what is stored now."""

    async def usage(self) -> Usage:
        """Room at the storage; ``Unsupported`` where it does not say."""

    # optional

    def check_name(self, path: str) -> None:
        """Raises ``InvalidName`` or ``NameTooLong`` where a file of that path surely cannot be kept here.

        Neither a checkpoint nor a request: who makes a name that is stored later asks before. Silence promises
        nothing, for a server may have rules of its own.
        """
        return

    async def set_mode(self, path: str, mode: int) -> Entry:
        """Set permission bits; ``Unsupported`` without :attr:`Capabilities.modes`. Answers what is stored now."""
        raise Unsupported(path, "no permission bits here")

    async def symlink(self, path: str, target: str) -> Entry:
        """Make a symbolic link; ``Exists`` if the name is taken, ``Unsupported`` without links here."""
        raise Unsupported(path, "no symbolic links here")

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        """Set user and group by number, None to leave one (:attr:`Capabilities.owners`). Answers what is stored now."""
        raise Unsupported(path, "owners are not kept here")

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        """Set when a file was last read (:attr:`Capabilities.access_times`). Answers what is stored now."""
        raise Unsupported(path, "access times are not kept here")

    async def hard_link(self, source: str, target: str) -> Entry:
        """Another name for a file (:attr:`Capabilities.hard_links`); ``Exists`` if the name is taken."""
        raise Unsupported(target, "no hard links here")

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        """The values kept with a file or directory, by name without ``user.`` (:attr:`Capabilities.attributes`)."""
        raise Unsupported(path, "no extended attributes here")

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        """Keep one value with a file; None removes it, ``NotFound`` if there is none (`Capabilities.attributes`)."""
        raise Unsupported(path, "no extended attributes here")

    async def append(self, path: str, data: bytes) -> None:
        """Add a few bytes to the end of a file, making it if there is none (:attr:`Capabilities.append`).

        Not atomic: readers may see a part of it. For logs and the like.
        """
        raise Unsupported(path, "the storage does not append")

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        """Copy a file at the storage, content and time, as `put` would (:attr:`Capabilities.copy`)."""
        raise Unsupported(target, "the storage does not copy by itself")

    async def hash(self, path: str, algorithm: str) -> str:
        """The hex digest of a file, computed or kept at the storage (:attr:`Capabilities.hashes`).

        ``Unsupported`` for an algorithm it does not have, or has not for this file.
        """
        raise Unsupported(path, f"no {algorithm} here")

    def list_tree(self, directory: str) -> AsyncIterator[tuple[str, Entry]]:
        """Everything below a directory as (path of its directory, entry), in any order (`Capabilities.list_tree`)."""
        raise Unsupported(directory, "the storage lists one directory at a time")

    async def changes(self, cursor: str | None) -> Changes:
        """What changed since ``cursor``; None: nothing, only where to begin (:attr:`Capabilities.changes`)."""
        raise Unsupported("", "the storage does not tell what changes")

    async def public_link(self, path: str, lifetime: float | None) -> str:
        """A URL that needs no login, for ``lifetime`` seconds or as long as may be (`Capabilities.public_link`)."""
        raise Unsupported(path, "the storage makes no public links")

    async def aclose(self) -> None:
        """Let go of connections and threads. Idempotent; usable under cancellation."""

"""Names, kinds and changes of names on an SFTP server. On the asyncio loop.

SFTP version 3 has a dozen error codes, and says "failure" to most of what can go wrong; so a request that fails is
followed by a look at why. What does not fail costs one request.
"""

from __future__ import annotations

import stat as st
from typing import final

import asyncssh

from ...errors import (
    Exists,
    InvalidName,
    IsDirectory,
    NameTooLong,
    NotDirectory,
    NotEmpty,
    NotFound,
    StorageError,
)
from ..partials import LONGEST, is_ours
from ..paths import basename, parent
from ..protocol import Entry, Kind
from .link import Failed, Link
from .options import SftpOptions

SECOND = 1_000_000_000
LATEST = (1 << 32) - 1
"""The last second that version 3 can say."""
_KINDS = {st.S_IFREG: Kind.FILE, st.S_IFDIR: Kind.DIRECTORY, st.S_IFLNK: Kind.SYMLINK}


def kind_of(attrs: asyncssh.SFTPAttrs, longname: str = "") -> Kind | None:
    """What it is; None for sockets, pipes and devices."""
    if attrs.permissions is not None and st.S_IFMT(attrs.permissions):
        return _KINDS.get(st.S_IFMT(attrs.permissions))
    return {"d": Kind.DIRECTORY, "l": Kind.SYMLINK, "-": Kind.FILE, "": Kind.FILE}.get(longname[:1])


def seconds(mtime_ns: int) -> int:
    """As version 3 can say it."""
    return min(max(mtime_ns // SECOND, 0), LATEST)


@final
class Names:
    """Paths of one root on links."""

    def __init__(self, root: str, options: SftpOptions) -> None:
        """``root`` relative to the login directory unless it begins with a slash."""
        self._root = root
        self._options = options

    def wire(self, path: str) -> bytes:
        """The path for the server; never empty, never beginning with a dash or the like."""
        base = f"{self._root.rstrip('/')}/" if self._root else ""
        whole = base + path if path else self._root or "."
        return whole.encode("utf-8", "surrogateescape")

    def entry(self, name: str, attrs: asyncssh.SFTPAttrs, longname: str = "", target: str = "") -> Entry | None:
        """An entry of what the server says; None for what is not shown."""
        kind = kind_of(attrs, longname)
        if kind is None or (kind is Kind.SYMLINK and self._options.skip_links):
            return None
        owner = None
        if self._options.owners and attrs.uid is not None and attrs.gid is not None:
            owner = (attrs.uid, attrs.gid)
        return Entry(
            name,
            kind,
            0 if kind is Kind.DIRECTORY else attrs.size or 0,
            None if attrs.mtime is None else attrs.mtime * SECOND,
            SECOND,
            mode=None if attrs.permissions is None else st.S_IMODE(attrs.permissions),
            target=target,
            owner=owner,
            atime_ns=None if attrs.atime is None else attrs.atime * SECOND,
        )

    async def stat(self, link: Link, path: str) -> Entry:
        """One entry, links as links; the root followed, and a directory."""
        wire = self.wire(path)
        self.check_length(path)
        if not path:
            entry = self.entry("", await link.ask(path, link.sftp.stat(wire)))
            if entry is None or entry.kind is not Kind.DIRECTORY:
                raise NotDirectory(path)
            return entry
        attrs = await link.ask(path, link.sftp.lstat(wire))
        target = await self.target(link, path) if kind_of(attrs) is Kind.SYMLINK else ""
        entry = self.entry(basename(path), attrs, target=target)
        if entry is None:
            raise NotFound(path, "neither a file nor a directory")
        return entry

    async def find(self, link: Link, path: str) -> Entry | None:
        """The same; None if there is nothing."""
        try:
            return await self.stat(link, path)
        except NotFound:
            return None

    async def target(self, link: Link, path: str) -> str:
        """Where a symbolic link points."""
        wire = await link.ask(path, link.sftp.readlink(self.wire(path)))
        return wire.decode("utf-8", "surrogateescape")

    def check_length(self, path: str) -> None:
        """OpenSSH calls a name that is too long a bad message."""
        if len(basename(path).encode("utf-8", "surrogateescape")) > LONGEST:
            raise NameTooLong(path, f"a name has {LONGEST} bytes at most")

    async def is_empty(self, link: Link, path: str) -> bool:
        """Whether a directory has no entry but uploads in progress."""
        names = link.scan(path, self.wire(path))
        try:
            async for found in names:
                name = bytes(found.filename).decode("utf-8", "surrogateescape")  # type: ignore[arg-type]
                if name not in (".", "..") and not is_ours(name):
                    return False
        finally:
            await names.aclose()  # type: ignore[attr-defined]
        return True

    async def why(self, link: Link, path: str, problem: StorageError, *, creating: bool = False) -> StorageError:
        """What "failure" or "no such file" about ``path`` means; with ``creating``, about making it."""
        self.check_length(path)
        if not isinstance(problem, Failed | NotFound | Exists):
            return problem
        if creating:
            if await self.find(link, path) is not None:
                return Exists(path, problem.said)
            place = await self.find(link, parent(path)) if parent(path) else None
            if parent(path) and place is None:
                return NotFound(path, "its directory does not exist")
            if place is not None and place.kind is Kind.FILE:
                return NotDirectory(path, "its directory is a file")
        return problem

    # changes

    def careful(self, link: Link) -> bool:
        """Whether to look before a change: rclone's server says yes to a second mkdir, and removes directories
        where a file was to go. OpenSSH's leaves that to the kernel, and needs no second request."""
        return "OpenSSH" not in str(link.connection.get_extra_info("server_version", ""))

    async def remove(self, link: Link, path: str) -> None:
        """Delete a file or link."""
        if self.careful(link) and (await self.stat(link, path)).kind is Kind.DIRECTORY:
            raise IsDirectory(path)
        try:
            await link.ask(path, link.sftp.remove(self.wire(path)))
        except StorageError:
            now = await self._look(link, path)
            if now is not None and now.kind is Kind.DIRECTORY:
                raise IsDirectory(path) from None
            raise

    async def mkdir(self, link: Link, path: str) -> None:
        """Make a directory."""
        if self.careful(link) and await self.find(link, path) is not None:
            raise Exists(path)
        try:
            await link.ask(path, link.sftp.mkdir(self.wire(path)))
        except StorageError as problem:
            raise await self.why(link, path, problem, creating=True) from None

    async def rmdir(self, link: Link, path: str) -> None:
        """Remove an empty directory."""
        if self.careful(link):
            if (await self.stat(link, path)).kind is not Kind.DIRECTORY:
                raise NotDirectory(path)
            if not await self.is_empty(link, path):
                raise NotEmpty(path)
        try:
            await link.ask(path, link.sftp.rmdir(self.wire(path)))
        except StorageError:
            now = await self._look(link, path)
            if now is not None and now.kind is not Kind.DIRECTORY:
                raise NotDirectory(path) from None
            if now is not None and not await self.is_empty(link, path):
                raise NotEmpty(path) from None
            raise

    async def symlink(self, link: Link, path: str, target: str) -> Entry:
        """Make a symbolic link."""
        try:
            await link.ask(path, link.sftp.symlink(target.encode("utf-8", "surrogateescape"), self.wire(path)))
        except StorageError as problem:
            raise await self.why(link, path, problem, creating=True) from None
        return await self.stat(link, path)

    async def hard_link(self, link: Link, source: str, target: str) -> Entry:
        """Another name for a file."""
        try:
            await link.ask(target, link.sftp.link(self.wire(source), self.wire(target)))
        except StorageError as problem:
            if (await self.stat(link, source)).kind is Kind.DIRECTORY:
                raise IsDirectory(source, "a directory has one name") from None
            raise await self.why(link, target, problem, creating=True) from None
        return await self.stat(link, target)

    async def refuse_replacing(self, link: Link, source: str, target: str, there: Entry) -> None:
        """Raise why what is there cannot be replaced by ``source``, if POSIX would not."""
        moving = await self.stat(link, source)
        match moving.kind, there.kind:
            case Kind.DIRECTORY, Kind.DIRECTORY:
                if not await self.is_empty(link, target):
                    raise NotEmpty(target)
            case _, Kind.DIRECTORY:
                raise IsDirectory(target)
            case Kind.DIRECTORY, _:
                raise NotDirectory(target)
            case _:
                pass

    async def explain_rename(self, link: Link, source: str, target: str, problem: StorageError) -> StorageError:
        """Why a rename failed."""
        self.check_length(target)
        await self.stat(link, source)
        there = await self.find(link, target)
        if there is not None:
            await self.refuse_replacing(link, source, target, there)
            return Exists(target, problem.said) if isinstance(problem, Failed) else problem
        place = await self.find(link, parent(target)) if parent(target) else None
        if parent(target) and (place is None or place.kind is Kind.FILE):
            return NotFound(target, "its directory does not exist")
        if isinstance(problem, Failed) and "message" in problem.said.lower():
            return InvalidName(target, problem.said)
        return problem

    async def _look(self, link: Link, path: str) -> Entry | None:
        """What is there now, if that can still be asked."""
        self.check_length(path)
        if link.usable:
            return await self.find(link, path)
        return None

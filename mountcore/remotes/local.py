"""A folder of this machine as storage.

Blocking calls run in threads, bounded by a limiter per remote. Symbolic links are reported as links and
never followed by `stat`, `list`, `remove` or `rename`; sockets, pipes and devices are not shown. Paths
cannot leave the root lexically; a link inside it that points outside is the owner's own choice.

`put` writes a partial beside the target, syncs it, renames it over the target and syncs the directory:
invariant 8 of the cache ("never published incomplete") holds through a power cut.
"""

from __future__ import annotations

import functools
import os
import stat as st
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import TypeVar, TypeVarTuple, final

import trio

from ..errors import InvalidName, IsDirectory, NotFound, Refused, Stale, StorageError, Unsupported
from . import local_files
from .local_files import PIECE
from .local_scan import BATCH, Scan, walk
from .partials import LONGEST
from .paths import check_lengths, check_path, join, parent
from .protocol import (
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
from .words import Words

T = TypeVar("T")
Args = TypeVarTuple("Args")
_CAPS = Capabilities(
    rename=RenameScope.TREE,
    rename_replaces=True,
    set_mtime=True,
    directory_times=True,
    mtime_resolution_ns=1,
    atomic_put=True,
    symlinks=True,
    hard_links=True,
    modes=True,
    owners=True,
    access_times=True,
    attributes=True,
    hashes=frozenset({"md5", "sha1", "sha256", "sha512"}),
    append=True,
    copy=True,
    list_tree=True,
    usage=True,
    parallelism=8,
)


def open(options: dict[str, str], root: str) -> Local:
    """A folder; ``root`` relative to the current directory, ``~`` for the home directory."""
    words = Words("local", options)
    links = [name for name in ("copy_links", "skip_links") if words.flag(name)]
    if len(links) > 1:
        raise Refused("local: copy_links and skip_links exclude each other")
    return Local(root, copy_links="copy_links" in links, skip_links="skip_links" in links)


@final
class Local(Remote):
    """A folder as a remote; see the module."""

    def __init__(self, root: str, *, copy_links: bool = False, skip_links: bool = False) -> None:
        """``copy_links`` shows what links point at, ``skip_links`` no links at all."""
        if "\0" in root:
            raise Refused("a folder's name has no NUL in it")
        self._root = os.path.abspath(os.path.expanduser(root or "."))
        self._identity = f"local://{os.path.realpath(self._root)}"  # the same folder, whatever way leads there
        self._limiter = trio.CapacityLimiter(_CAPS.parallelism)
        self._swept: set[str] = set()
        self._follow, self._hide = copy_links, skip_links
        changed = copy_links or skip_links
        self._caps = replace(_CAPS, symlinks=False, list_tree=False) if changed else _CAPS

    def __repr__(self) -> str:
        return f"<Local {self._root}>"

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def caps(self) -> Capabilities:
        return self._caps

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        scan = await self._run(directory, Scan, self._real(directory))
        with closing(scan):
            batch = scan.first
            while True:
                for entry in batch:
                    if entry is not None and entry.kind is Kind.SYMLINK and not self._caps.symlinks:
                        entry = await self._instead(join(directory, entry.name))
                    if entry is not None:
                        yield entry
                if len(batch) < BATCH:
                    break
                batch = await self._run(directory, scan.batch)

    async def stat(self, path: str) -> Entry:
        entry = await self._run(path, local_files.stat, self._content(path), path)
        if entry.kind is Kind.SYMLINK and not self._caps.symlinks:
            raise NotFound(path, "a link that is not shown, or leads nowhere")
        return entry

    async def _instead(self, path: str) -> Entry | None:
        """What is shown for a symbolic link where links are not."""
        if self._follow:
            with suppress(NotFound):
                return await self.stat(path)
        return None

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        fd, status, first = await self._run(path, local_files.begin, self._real(path), span)
        try:
            if st.S_ISDIR(status.st_mode):
                raise IsDirectory(path)
            if not st.S_ISREG(status.st_mode):
                raise InvalidName(path, "neither a file nor a directory")
            if version is not None and not Version(status.st_size, status.st_mtime_ns).matches(version):
                raise Stale(path, "the file has changed")
            yield self._pieces(path, fd, span, first)
        finally:
            os.close(fd)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        real, directory = self._content(path, root=False), parent(path)
        if directory not in self._swept:  # once: sweeping at every put would read the directory every time
            await self._run(path, local_files.sweep, self._real(directory))
            self._swept.add(directory)
        return await self._run(path, local_files.put, real, path, source, expect, mtime_ns)

    def check_name(self, path: str) -> None:
        check_lengths(path, os.fsencode(self._real(path, root=False)), self._longest)

    @functools.cached_property
    def _longest(self) -> int:
        """Bytes of one name; some file systems (eCryptfs) take fewer than 255."""
        try:
            return os.pathconf(self._root, "PC_NAME_MAX")
        except OSError:
            return LONGEST

    async def remove(self, path: str) -> None:
        await self._run(path, local_files.remove, self._real(path, root=False), path)

    async def mkdir(self, path: str) -> None:
        await self._run(path, os.mkdir, self._real(path))

    async def rmdir(self, path: str) -> None:
        await self._run(path, local_files.rmdir, self._real(path, root=False))

    async def rename(self, source: str, target: str) -> None:
        await self._run(
            target, local_files.rename, self._real(source, root=False), self._real(target, root=False), source
        )

    async def append(self, path: str, data: bytes) -> None:
        def add(real: str) -> None:
            descriptor = os.open(real, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

        await self._run(path, add, self._real(path, root=False))

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        def change(real: str) -> Entry:
            before = os.lstat(real)
            os.utime(real, ns=(before.st_atime_ns, mtime_ns), follow_symlinks=False)
            return local_files.stat(real, path)

        return await self._run(path, change, self._content(path))

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        def change(real: str) -> Entry:
            os.utime(real, ns=(atime_ns, os.lstat(real).st_mtime_ns), follow_symlinks=False)
            return local_files.stat(real, path)

        return await self._run(path, change, self._content(path))

    async def symlink(self, path: str, target: str) -> Entry:
        if not self._caps.symlinks:
            raise Unsupported(path, "links are not shown here (copy_links, skip_links)")

        def make(real: str) -> Entry:
            os.symlink(target, real)
            local_files.sync_directory(os.path.dirname(real))
            return local_files.stat(real, path)

        return await self._run(path, make, self._real(path))

    async def set_mode(self, path: str, mode: int) -> Entry:
        def change(real: str) -> Entry:
            os.chmod(real, mode)
            return local_files.stat(real, path)

        return await self._run(path, change, self._content(path))

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        def change(real: str) -> Entry:
            os.chown(real, -1 if uid is None else uid, -1 if gid is None else gid, follow_symlinks=False)
            return local_files.stat(real, path)

        return await self._run(path, change, self._content(path))

    async def hard_link(self, source: str, target: str) -> Entry:
        real, new = self._real(source, root=False), self._real(target, root=False)
        return await self._run(target, local_files.hard_link, real, new, source, target)

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        return await self._run(path, local_files.attributes, self._content(path))

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        await self._run(path, local_files.set_attribute, self._content(path), path, name, value)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        real, new = self._content(source, root=False), self._content(target, root=False)
        return await self._run(target, local_files.copy, new, target, real, source, expect)

    async def hash(self, path: str, algorithm: str) -> str:
        if algorithm not in _CAPS.hashes:
            raise Unsupported(path, f"no {algorithm} here")
        return await self._run(path, local_files.digest, self._content(path), path, algorithm)

    async def list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        if not self._caps.list_tree:
            raise Unsupported(directory, "one directory at a time, where links are not shown as links")
        with closing(walk(self._real(directory))) as batches:
            while (found := await self._run(directory, next, batches, None)) is not None:
                for below, entry in found:
                    yield join(directory, below) if below else directory, entry

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

    def _content(self, path: str, *, root: bool = True) -> str:
        """Where the content of ``path`` is: with ``copy_links``, behind the link."""
        real = self._real(path, root=root)
        return os.path.realpath(real) if self._follow else real

    async def _pieces(self, path: str, fd: int, span: Span, first: bytes) -> AsyncIterator[bytes]:
        if first:
            yield first
        if len(first) < min(local_files.FIRST, span.length):
            return
        offset = span.start + len(first)
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
            raise local_files.translated(path, problem) from problem

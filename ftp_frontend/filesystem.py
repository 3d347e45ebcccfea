"""The file system of one login: paths as the client writes them, and what the commands ask of the core.

Two classes, one for each side of the bridge. `Storage` belongs to the trio thread: every method is one trip
into the core for one FTP command. `FileSystem` belongs to the session's thread: it keeps the working
directory and turns what the client wrote into a path, lexically and without asking anybody.

A path is ``/``-rooted here and relative for the core. Nothing can name what is outside the root: ``..`` is
resolved in the text before the core sees it, and a symbolic link leads only to what the root holds as well.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import trio

from mountcore.errors import Exists, InvalidName, IsDirectory, NotDirectory, NotFound, Unsupported
from mountcore.remotes.protocol import Kind
from mountcore.stage import Publish, Stage, Syncing
from mountcore.vfs import Attributes, Handle, Node, OpenFlags, Vfs

from .library import AbstractedFS
from .quota import Allowance
from .settings import Acknowledge

LINKS = 20
"""Symbolic links that are followed for one path; more are taken for a loop."""
LINK_PATIENCE = 2.0
"""Seconds that a listing waits for what a link leads to; then it is shown as a link."""
STEP = 8 << 20
"""Bytes of an upload between two reports to the core."""
LEAST_STEP = 64 << 10
BATCH = 256
"""Directory entries that are looked at in one trip."""


@dataclass(frozen=True, slots=True)
class Found:
    """A directory entry. ``attributes`` are those of what a symbolic link leads to, if it leads anywhere."""

    name: str
    attributes: Attributes
    target: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is open for reading."""

    handle: Handle
    size: int
    offset: int
    present: int
    """Up to here its bytes are in the cache file already."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An upload that may begin."""

    stage: Stage
    parent: Node
    name: str
    exists: bool
    size: int
    """Of the file that has the name now; 0 if there is none."""
    room: int
    """Bytes that may be written before asking again."""
    allowed: int | None = None
    """Bytes that may be added to what the storage holds; None: no limit."""


@final
class Storage:
    """The core, as one login sees it. On the trio thread only; raises the errors of the core."""

    def __init__(
        self, vfs: Vfs, acknowledge: Acknowledge = Acknowledge.JOURNAL, allowance: Allowance | None = None
    ) -> None:
        self.vfs = vfs
        self.acknowledge = acknowledge
        self._allowance = allowance
        bound = vfs.settings.cache.max_size
        self._step = STEP if bound is None else max(LEAST_STEP, min(STEP, bound // 4))
        """What an upload asks for at once; a small cache has not as much."""

    # finding

    async def resolve(self, path: str) -> Node:
        """The node of a path; symbolic links are followed."""
        return await self._follow(path, follow_last=True)

    async def _follow(self, path: str, *, follow_last: bool) -> Node:
        names = [name for name in path.split("/") if name]
        node, links = self.vfs.root, 0
        while names:
            name = names.pop(0)
            child = await self.vfs.lookup(node, name)
            if child.kind is Kind.SYMLINK and (names or follow_last):
                links += 1
                if links > LINKS:
                    raise NotFound(path, "too many symbolic links")
                names = [*self._led_to(child, path), *names]
                node = self.vfs.root
            else:
                node = child
        return node

    def _led_to(self, link: Node, path: str) -> list[str]:
        """Where a link leads, in names from the root; what is outside the root is not there."""
        if link.target.startswith("/"):
            raise NotFound(path, "a symbolic link to an absolute path")
        here = link.parent.path() if link.parent is not None else ""
        place = posixpath.normpath(posixpath.join(here, link.target))
        if place == ".." or place.startswith("../"):
            raise NotFound(path, "a symbolic link to a place outside")
        return [name for name in place.split("/") if name not in ("", ".")]

    async def _place(self, path: str) -> tuple[Node, str]:
        """The directory of a path and the name in it, for commands that change names."""
        directory, _, name = path.strip("/").rpartition("/")
        if not name:
            raise Exists("", "the root directory")
        parent = await self.resolve(directory)
        if parent.kind is not Kind.DIRECTORY:
            raise NotDirectory(directory)
        return parent, name

    def try_resolve(self, path: str) -> Node | None:
        """`resolve`, from listings that are believed; None where that needs waiting, or there are links."""
        node = self.vfs.root
        for name in path.split("/"):
            if name:
                child = self.vfs.try_lookup(node, name) if node.kind is Kind.DIRECTORY else None
                if child is None or child.kind is Kind.SYMLINK:
                    return None
                node = child
        return node

    async def stat(self, path: str) -> Attributes:
        """Attributes of a path; links followed."""
        return self.vfs.attributes(await self.resolve(path))

    async def entry(self, path: str) -> Found:
        """A path as an entry of its directory; the root has the name "/"."""
        return await self._found(posixpath.basename(path) or "/", await self._follow(path, follow_last=False))

    def try_entry(self, path: str) -> Found | None:
        """`entry`, at once or not."""
        node = self.try_resolve(path)
        return node and Found(posixpath.basename(path) or "/", self.vfs.attributes(node))

    def try_directory(self, path: str) -> Node | None:
        """`directory`, at once or not."""
        node = self.try_resolve(path)
        if node is not None and node.kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
        return node

    async def directory(self, path: str) -> Node:
        """The node of a directory; NotDirectory for anything else."""
        node = await self.resolve(path)
        if node.kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
        return node

    async def listing(self, path: str) -> list[tuple[str, Node]]:
        """Names and nodes of a directory, unsorted; NotDirectory for anything else."""
        node = await self.directory(path)
        return [(child.name, child) for child in await self.vfs.children(node)]

    async def details(self, entries: Sequence[tuple[str, Node]]) -> list[Found]:
        """Attributes of entries of a listing; those that have gone meanwhile are left out."""
        return [await self._found(name, node) for name, node in entries if node.linked]

    async def _found(self, name: str, node: Node) -> Found:
        if node.kind is not Kind.SYMLINK:
            return Found(name, self.vfs.attributes(node))
        leads_to = node
        with contextlib.suppress(OSError), trio.move_on_after(LINK_PATIENCE):
            leads_to = await self.resolve(node.path())
        return Found(name, self.vfs.attributes(leads_to), node.target)

    # reading

    async def open(self, path: str, offset: int) -> Opened:
        """Open a file for reading from ``offset``. Does not wait for its bytes."""
        node = await self.resolve(path)
        if node.kind is Kind.DIRECTORY:
            raise IsDirectory(path)
        handle = await self.vfs.open(node, OpenFlags.READ)
        present = offset
        if handle.fileno() >= 0 and handle.try_read(offset, 1):
            present = await handle.lease(offset, STEP)
        return Opened(handle, handle.size, offset, present)

    def try_open(self, path: str, offset: int) -> Opened | None:
        """`open`, at once or not."""
        node = self.try_resolve(path)
        handle = self.vfs.try_open(node) if node is not None else None
        if handle is None:
            return None
        return Opened(handle, handle.size, offset, handle.try_lease(offset, STEP) or offset)

    async def told_digest(self, path: str, algorithm: str) -> str:
        """The digest that the storage has of a file which is not here, or not whole; "" where it has none.

        What is here is read here: it may be newer, and costs no request.
        """
        node = await self.resolve(path)
        remote = self.vfs.remote
        if node.kind is not Kind.FILE or algorithm not in remote.caps.hashes or node.version is None:
            return ""
        item = self.vfs.store.get(node.path())
        if item is not None and (item.dirty or item.complete):
            return ""
        try:
            return (await remote.hash(node.path(), algorithm)).lower()
        except Unsupported:
            return ""

    # writing

    def try_stage(self, path: str) -> Staged | None:
        """`stage`, at once or not."""
        directory, _, name = path.strip("/").rpartition("/")
        parent = self.try_resolve(directory)
        if self._allowance is not None or self.vfs.crowded(self._step):
            return None
        if not name or parent is None or parent.kind is not Kind.DIRECTORY:
            return None
        try:
            found = self.vfs.try_lookup(parent, name)
        except FileNotFoundError:
            self.vfs.check_new(parent, name)
            return Staged(self.vfs.new_stage(), parent, name, False, 0, self._step)
        if found is None or found.kind is not Kind.FILE:
            return None
        return Staged(self.vfs.new_stage(), parent, name, True, self.vfs.attributes(found).size, self._step)

    async def stage(self, path: str) -> Staged:
        """Begin an upload to a path, after making sure that it can have a file."""
        parent, name = await self._place(path)
        try:
            found = await self.vfs.lookup(parent, name)
            if found.kind is Kind.SYMLINK:
                found = await self.resolve(path)
                if found.parent is not None:
                    parent, name = found.parent, found.name
        except FileNotFoundError:
            self.vfs.check_new(parent, name)
            found = None
        if found is not None and found.kind is Kind.DIRECTORY:
            raise IsDirectory(path)
        most = None
        if self._allowance is not None:
            most = await self._allowance.left()
        stage = self.vfs.new_stage()
        try:
            await stage.reserve(self._step)
        except BaseException:
            await stage.discard()
            raise
        size = self.vfs.attributes(found).size if found is not None else 0
        return Staged(stage, parent, name, found is not None, size, self._step, most)

    async def more(self, stage: Stage, start: int, stop: int) -> int:
        """Bytes ``start`` to ``stop`` were written; answers up to where more may be, once there is room for it."""
        stage.wrote(start, stop)
        await stage.reserve(self._step)
        return self._step

    def try_commit(self, staged: Staged, size: int, how: Publish, syncing: Syncing) -> bool | None:
        """`commit`, at once or not."""
        if how is not Publish.REPLACE or self._allowance is not None or self.acknowledge is Acknowledge.REMOTE:
            return None
        return staged.stage.try_commit(staged.parent, staged.name, size=size, syncing=syncing) is not None or None

    async def commit(self, staged: Staged, size: int, how: Publish, offset: int, syncing: Syncing) -> None:
        """Publish an upload; afterwards it is journalled (and, where so set, at the remote)."""
        before = 0
        try:
            if self._allowance is not None:
                before = await self._size(staged)
                after = max(before, offset + size) if how is Publish.OVERLAY else size
                more = size if how is Publish.APPEND else after - before
                await self._allowance.check(more, staged.name)
            node = await staged.stage.commit(
                staged.parent, staged.name, size=size, how=how, offset=offset, syncing=syncing
            )
        except BaseException:
            await staged.stage.discard()
            raise
        if self._allowance is not None:
            self._allowance.changed(self.vfs.attributes(node).size - before)
        if self.acknowledge is Acknowledge.REMOTE:
            await self.vfs.settle(node)

    async def _size(self, staged: Staged) -> int:
        """Of the file that has the name of an upload now; 0 if there is none."""
        try:
            return self.vfs.attributes(await self.vfs.lookup(staged.parent, staged.name)).size
        except FileNotFoundError:
            return 0

    async def unused_name(self, directory: str, prefix: str) -> str:
        """A path in ``directory`` that no file has, for STOU."""
        while True:
            path = posixpath.join(directory, f"{prefix}{secrets.token_hex(4)}")
            try:
                await self.resolve(path)
            except FileNotFoundError:
                return path

    # changing names

    async def mkdir(self, path: str) -> None:
        """Make a directory."""
        await self.vfs.mkdir(*await self._place(path))

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self.vfs.rmdir(*await self._place(path))

    async def remove(self, path: str) -> None:
        """Remove a file, or a link itself."""
        parent, name = await self._place(path)
        size = 0
        if self._allowance is not None:
            size = self.vfs.attributes(await self.vfs.lookup(parent, name)).size
        await self.vfs.unlink(parent, name)
        if self._allowance is not None:
            self._allowance.changed(-size)

    async def rename(self, source: str, target: str) -> None:
        """Rename, replacing a file of the new name. Many clients upload to another name first: it is synced like an
        upload."""
        await self.vfs.rename(*await self._place(source), *await self._place(target))
        await self.vfs.sync_names()

    async def exists(self, path: str) -> None:
        """Raise NotFound if there is nothing of the name."""
        await self._follow(path, follow_last=False)

    def try_set_mtime(self, path: str, mtime_ns: int) -> int | None:
        """`set_mtime`, at once or not."""
        node = self.try_resolve(path)
        if node is None or not self.vfs.try_set_mtime(node, mtime_ns):
            return None
        return self.vfs.attributes(node).mtime_ns

    async def set_mtime(self, path: str, mtime_ns: int) -> int:
        """Set the modification time; answers what it is now."""
        node = await self.resolve(path)
        await self.vfs.set_mtime(node, mtime_ns)
        return self.vfs.attributes(node).mtime_ns

    def try_chmod(self, path: str, mode: int) -> bool | None:
        """`chmod`, at once or not."""
        node = self.try_resolve(path)
        if node is None or not self.vfs.try_set_mode(node, mode):
            return None
        return self._has_mode(node, path, mode)

    async def chmod(self, path: str, mode: int) -> bool:
        """Set permission bits; Unsupported where the storage keeps none, unless they are these already."""
        node = await self.resolve(path)
        await self.vfs.set_mode(node, mode)
        return self._has_mode(node, path, mode)

    def _has_mode(self, node: Node, path: str, mode: int) -> bool:
        if self.vfs.attributes(node).mode & 0o7777 != mode:
            raise Unsupported(path, "this storage keeps no permission bits")
        return True

    async def symlink(self, path: str, target: str) -> None:
        """Make a link, to a place in here; InvalidName for any other."""
        parent, name = await self._place(path)
        place = posixpath.normpath(posixpath.join(parent.path(), target))
        if not target or target.startswith("/") or place == ".." or place.startswith("../"):
            raise InvalidName(target, "a link has to lead to a place in here, by a relative path")
        await self.vfs.symlink(parent, name, target)

    async def free(self) -> int:
        """Bytes that may still be stored."""
        free = (await self.vfs.statfs()).free
        return free if self._allowance is None else min(free, await self._allowance.left())


class FileSystem(AbstractedFS):  # type: ignore[misc]
    """Paths of one session. ``root`` and fs paths are ``/``-rooted, the same as the client's own."""

    cwd: str

    def __init__(self, root: str, cmd_channel: object) -> None:
        super().__init__("/", cmd_channel)
        self.cwd = posixpath.normpath("/" + root.lstrip("/"))

    def ftpnorm(self, ftppath: str) -> str:
        """What the client wrote, absolute and without ``.``, ``..`` and doubled slashes."""
        path = posixpath.normpath(posixpath.join("/", self.cwd, ftppath))
        return "/" + path.lstrip("/")

    def ftp2fs(self, ftppath: str) -> str:
        return self.ftpnorm(ftppath)

    def fs2ftp(self, fspath: str) -> str:
        return fspath

    def validpath(self, path: str) -> bool:
        """Whether a name can be written in a reply or a listing; that it is inside is so by construction."""
        return not any(c in path for c in "\r\n\0")

    def realpath(self, path: str) -> str:
        return path

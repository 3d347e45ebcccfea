"""The file system that the front ends see: names, attributes, opening, changing. One per storage.

Used by the FUSE and the FTP front end and by the commands, all on the trio thread (foreign threads through
:mod:`.portal`). Every method that is ``async`` is a checkpoint unless it says otherwise, and raises the
errors of :mod:`.errors`.

Concurrency: changes of a name hold a lock on that name alone, taken in a fixed order; there is no lock on
the tree, a directory or a file. Data operations need no lock: see :mod:`.cache.item`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import final

import trio

from .accounting import Counters, Upload, VfsSnapshot
from .cache.evict import Evictor
from .cache.fetch import Fetcher
from .cache.item import Item
from .cache.store import Store
from .cache.writeback import Snapshot, WriteBack
from .changes import ORIGIN, Announcer, Change, ChangeKind
from .direct import DirectReader, DirectWriter
from .errors import (
    Busy,
    Corrupt,
    CrossDevice,
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    NoSpace,
    NotDirectory,
    NotEmpty,
    NotFound,
    ReadOnly,
    StorageError,
    Unsupported,
)
from .handle import CachedHandle, Handle, OpenFlags
from .listings import Listings
from .naming import NameLocks, beside, join, new_path
from .remotes.protocol import ABSENT, Entry, Kind, Remote, RenameScope, Version
from .settings import CacheMode, OnConflict, VfsSettings
from .space import Space, StatFs
from .stage import Stage
from .tree import Node, Tree

__all__ = ["ORIGIN", "Attributes", "Change", "ChangeKind", "Handle", "Node", "OpenFlags", "StatFs", "Vfs"]

log = logging.getLogger(__name__)

ROOM_PATIENCE = 30.0
"""Seconds that a write over the cache's bound waits for uploads that make room."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) shows. ``mode`` has the type bits."""

    inode: int
    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    uid: int
    gid: int
    nlink: int


_TYPE_BITS = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}


@final
class Vfs:
    """A remote as a file system. Made by :meth:`mountcore.service.Core.attach`."""

    def __init__(
        self, remote: Remote, store: Store, listings: Listings, settings: VfsSettings, nursery: trio.Nursery
    ) -> None:
        self.remote = remote
        self.store = store
        self.settings = settings
        self.counters = Counters()
        self.tree = Tree(remote, store, listings, settings.tree, self._listing_changed, self._attach)
        self.evictor = Evictor(store, settings.cache)
        self.fetcher = Fetcher(
            remote, store, settings.read, self.counters, nursery, self._stale, self.evictor.fits, self.evictor.rescue
        )
        self.writeback = WriteBack(
            remote, store, self.fetcher, settings.cache, self.counters, nursery, self._stored, self._conflict
        )
        self.bounded = settings.cache.max_size is not None or settings.cache.min_free_space is not None
        self._nursery = nursery
        self.changes = Announcer()
        self._names = NameLocks()
        self._space = Space(remote, settings, nursery)
        self._nodes: dict[int, Node] = {}
        self._modes: dict[int, int] = {}
        """Permission bits to set once a file is at the remote, by inode."""

    @property
    def root(self) -> Node:
        """The directory that the remote is rooted at."""
        return self.tree.root

    def start(self, root: Entry | None) -> None:
        """Begin: ``root`` is what the remote said of its root, None while it cannot be reached.

        Takes up what a former process left.
        """
        if root is not None and root.mtime_ns:
            self.root.mtime_ns = root.mtime_ns
        left = self.store.dirty_items()
        for item in left:
            if item.row.promise == 0:
                self._rescue_interrupted(item)
            if item.dirty:
                self.writeback.schedule(item, 0.0)
        if left:
            log.info("%d files from an earlier run are still to be uploaded", len(left))
        self._nursery.start_soon(self.writeback.run)
        self._nursery.start_soon(self.evictor.run)
        if self.settings.tree.refresh:
            self._nursery.start_soon(self._read_tree)

    async def _read_tree(self) -> None:
        """List everything once; a directory that cannot be listed is left for when it is asked for."""
        waiting = [self.root]
        while waiting:
            directory = waiting.pop()
            try:
                children = await self.tree.load(directory)
            except StorageError as problem:
                log.info("--vfs-refresh passes over /%s: %s", directory.path(), problem)
                continue
            waiting += [node for node in children.values() if node.kind is Kind.DIRECTORY]

    def _rescue_interrupted(self, item: Item) -> None:
        """Nobody was ever told that this content is complete: it must not replace what is at the remote."""
        if not item.complete:  # pieces of an edit in place: without the rest, which is at the remote, they are no file
            self.store.abandon(item, f"{item.path} was being changed in place when the last run ended")
            return
        path = self._beside(item.path, "interrupted")
        log.warning("%s was being written when the last run ended; what there is of it is kept as %s", item.path, path)
        item.row.base = item.row.attempt = None
        self.store.publish(item, path)

    def _beside(self, path: str, why: str) -> str:
        """A name beside a file that nothing else in the cache has."""
        found, number = beside(path, why), 1
        while self.store.get(found) is not None:
            number += 1
            found = beside(path, f"{why} {number}")
        return found

    # attributes

    def attributes(self, node: Node) -> Attributes:
        """What stat(2) shows now. Not a checkpoint, no network."""
        owner, item = self.settings.owner, node.item
        size, mtime = node.size, node.mtime_ns
        if item is not None:
            size = item.size
            mtime = item.row.mtime_ns or mtime
        if self.settings.no_modtime and node.kind is Kind.FILE and node.parent is not None:
            mtime = node.parent.mtime_ns
        if node.mode is not None:
            perms = node.mode
        elif node.kind is Kind.DIRECTORY:
            perms = owner.dir_perms & ~owner.umask
        else:
            perms = owner.file_perms & ~owner.umask
        return Attributes(
            node.inode, node.kind, _TYPE_BITS[node.kind] | perms, size, mtime, mtime, mtime, owner.uid, owner.gid,
            2 if node.kind is Kind.DIRECTORY else 1 if node.linked else 0,
        )  # fmt: skip

    # names

    async def lookup(self, parent: Node, name: str) -> Node:
        """The node of a name; NotFound when the directory does not have it."""
        node = await self.tree.find(parent, name)
        if node is None:
            raise NotFound(join(parent.path(), name))
        return node

    def try_lookup(self, parent: Node, name: str) -> Node | None:
        """Like `lookup`, answered at once from a listing that is believed; None: use `lookup`."""
        if not self.tree.fresh(parent):
            return None
        node = self.tree.known(parent, name)
        if node is None:
            raise NotFound(join(parent.path(), name))
        return node

    async def resolve(self, path: str) -> Node:
        """The node of a path from the root."""
        node = self.root
        for name in path.split("/") if path else ():
            node = await self.lookup(node, name)
        return node

    async def children(self, directory: Node) -> Sequence[Node]:
        """All entries of a directory, as they are now."""
        return list((await self.tree.load(directory)).values())

    async def readlink(self, node: Node) -> str:
        """Where a symlink points. Not a checkpoint."""
        if node.kind is not Kind.SYMLINK:
            raise InvalidName(node.path(), "not a symbolic link")
        return node.target

    async def refresh(self, directory: Node | None = None) -> None:
        """Believe no listing at or below a directory (the root unless given). Not a checkpoint."""
        self.tree.forget(directory or self.root)

    # files

    async def open(self, node: Node, flags: OpenFlags) -> Handle:
        """Open a file. With TRUNCATE it is empty afterwards."""
        if node.kind is Kind.DIRECTORY:
            raise IsDirectory(node.path())
        if node.kind is not Kind.FILE:
            raise Unsupported(node.path(), "not a regular file")
        if not node.linked and node.item is None:
            raise NotFound(node.name)
        if flags.changes:
            self._writable(node.path())
        if not self._through_cache(node, flags):
            return self._open_direct(node, flags)
        handle = CachedHandle(self, node, self._item_of(node), flags)
        if flags & OpenFlags.TRUNCATE and handle.size:
            try:
                await handle.truncate(0)
            except BaseException:
                await handle.close()
                raise
        return handle

    def _cache_wanted(self, flags: OpenFlags) -> bool:
        """The cache mode's matrix: what goes through the cache; see docs/SEMANTICS.md."""
        match self.settings.cache.mode:
            case CacheMode.FULL:
                return True
            case CacheMode.WRITES:
                return flags.changes
            case CacheMode.MINIMAL:
                return flags.changes and OpenFlags.READ in flags
            case CacheMode.OFF:
                return False

    def _through_cache(self, node: Node, flags: OpenFlags) -> bool:
        if self._cache_wanted(flags) or (
            flags & OpenFlags.TRUNCATE and not flags & (OpenFlags.WRITE | OpenFlags.APPEND)
        ):
            return True
        item = self._cached(node) if self.settings.cache.mode is not CacheMode.OFF else node.item
        return item is not None and item.row.path is not None and (item.dirty or item.handles > 0 or item.complete)

    def _open_direct(self, node: Node, flags: OpenFlags) -> Handle:
        if not flags.changes:
            return DirectReader(self, node)
        mode = f"--vfs-cache-mode {self.settings.cache.mode.value}"
        if node.item is not None:
            raise Busy(node.path(), f"being written, and {mode} has one writer at a time")
        if OpenFlags.APPEND in flags or (OpenFlags.TRUNCATE not in flags and node.size):
            raise Denied(node.path(), f"with {mode} an existing file is written anew (O_TRUNC) or not at all")
        item = self.store.new(None, base=None, dirty=True)
        self._attach(node, item)
        self.changes.node(ChangeKind.CONTENT, node)
        return DirectWriter(self, node, item)

    async def create(self, parent: Node, name: str, flags: OpenFlags, *, exclusive: bool) -> Handle:
        """Open a file, making it if there is none; Exists if there is one and ``exclusive``."""
        path = new_path(parent, name)
        self._writable(path)
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            found = await self.tree.find(parent, name)
            if found is None:
                direct = not self._cache_wanted(flags | OpenFlags.WRITE)
                item = self.store.new(None if direct else path, base=None, dirty=True)
                node = self.tree.add(parent, name, Kind.FILE)
                self._attach(node, item)
                self.changes.entry(parent, name, node)
                if direct:
                    return DirectWriter(self, node, item)
                self.writeback.opened(item)
                return CachedHandle(self, node, item, flags | OpenFlags.WRITE)
        if exclusive:
            raise Exists(path)
        return await self.open(found, flags)

    async def truncate(self, node: Node, size: int) -> None:
        """Set the length of a file that need not be open."""
        handle = await self.open(node, OpenFlags.WRITE)
        try:
            await handle.truncate(size)
            await handle.flush()
        finally:
            await handle.close()
        self.changes.node(ChangeKind.CONTENT, node)

    async def set_mtime(self, node: Node, mtime_ns: int) -> None:
        """Set the modification time; where the remote cannot keep it, it is shown until the node is forgotten."""
        self._writable(node.path())
        if self.settings.no_modtime:
            return
        item = node.item
        if item is not None and item.dirty:
            await self.writeback.withdraw(item)
            if item.dirty:
                item.row.mtime_ns = mtime_ns
                self.store.save(item)
                self._upload_later(item)
                self.changes.node(ChangeKind.ATTRIBUTES, node)
                return
        if node.kind is Kind.FILE and node.version is not None and self.remote.caps.set_mtime and node.linked:
            cached = node.item or self.store.get(node.path())
            before = await self.remote.stat(node.path()) if cached is not None and cached.spans else None
            entry = await self.remote.set_mtime(node.path(), mtime_ns)
            if cached is not None and not cached.dirty and cached.row.base is not None:
                self.fetcher.stop(cached)
                ours = before is None or before.version.matches(cached.row.base)
                if ours and entry.size == cached.row.base.size:
                    cached.row.base, cached.row.mtime_ns = entry.version, entry.mtime_ns
                    self.store.save(cached)
                elif self._renew(cached, entry.version) is None:  # somebody else changed it before we set the time
                    self._detach(node)
            self.tree.touch(node, entry)
            mtime_ns = entry.mtime_ns or mtime_ns
        elif node.item is not None:
            node.item.row.mtime_ns = mtime_ns
        node.mtime_ns = mtime_ns
        self.changes.node(ChangeKind.ATTRIBUTES, node)

    async def set_mode(self, node: Node, mode: int) -> None:
        """Set permission bits where the remote keeps them; elsewhere they are the mount's, and this does nothing."""
        self._writable(node.path())
        if not self.remote.caps.modes or not node.linked:
            return
        if node.kind is Kind.FILE and not self._stored_at_remote(node, node.item):
            self._modes[node.inode] = mode  # set when the file is there
        else:
            entry = await self.remote.set_mode(node.path(), mode)
            mode = entry.mode if entry.mode is not None else mode
        node.mode = mode
        self.changes.node(ChangeKind.ATTRIBUTES, node)

    async def symlink(self, parent: Node, name: str, target: str) -> Node:
        """Make a symbolic link at the remote; Unsupported where it has none."""
        path = new_path(parent, name)
        self._writable(path)
        if not self.remote.caps.symlinks:
            raise Unsupported(path, "the remote has no symbolic links")
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            if await self.tree.find(parent, name) is not None:
                raise Exists(path)
            async with self._uncertain(parent):
                entry = await self.remote.symlink(path, target)
            node = self.tree.add(parent, name, Kind.SYMLINK)
            self.tree.touch(node, entry)
        self.changes.entry(parent, name, node)
        return node

    async def stage(self) -> Stage:
        """A file without a name, to be published whole. Not a checkpoint."""
        if self.settings.read_only:
            raise ReadOnly("")
        return Stage(self, self.store.new(None, base=None, dirty=True))

    # changing names

    async def mkdir(self, parent: Node, name: str) -> Node:
        """Make a directory, at the remote too."""
        path = new_path(parent, name)
        self._writable(path)
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            if await self.tree.find(parent, name) is not None:
                raise Exists(path)
            async with self._uncertain(parent):
                await self.remote.mkdir(path)
            node = self.tree.add(parent, name, Kind.DIRECTORY)
        self.changes.entry(parent, name, node)
        return node

    async def unlink(self, parent: Node, name: str) -> None:
        """Delete a file or symlink. Handles that are open keep working until they are closed."""
        self._writable(join(parent.path(), name))
        async with self._names.hold((parent, name)):
            node = await self.lookup(parent, name)
            if node.kind is Kind.DIRECTORY:
                raise IsDirectory(node.path())
            path = node.path()
            item = self._cached(node)
            async with self.writeback.paused(item):
                self._unmoved(node, path)
                if item is not None:
                    await self._preserve(item)
                if self._stored_at_remote(node, item):
                    async with self._uncertain(parent):
                        with contextlib.suppress(NotFound):
                            await self.remote.remove(path)
                self.tree.remove(node)
                item = item or node.item
                if item is not None:
                    self._lose(item)
                    self.store.unlink(item)
        self.changes.entry(parent, name, None, gone=node)

    async def rmdir(self, parent: Node, name: str) -> None:
        """Remove an empty directory."""
        self._writable(join(parent.path(), name))
        async with self._names.hold((parent, name)):
            node = await self.lookup(parent, name)
            async with self._names.moving(node):
                await self._remove_directory(node)
        self.changes.entry(parent, name, None, gone=node)

    async def rename(self, parent: Node, name: str, new_parent: Node, new_name: str, *, replace: bool = True) -> None:
        """Rename a file or directory, replacing a file or an empty directory of the new name if ``replace``.

        CrossDevice where the remote cannot rename what it holds; programs then copy and delete.
        """
        path = new_path(new_parent, new_name)
        self._writable(path)
        if parent is new_parent and name == new_name:
            await self.lookup(parent, name)
            return
        async with contextlib.AsyncExitStack() as stack:
            directory = (await self.lookup(parent, name)).kind is Kind.DIRECTORY
            if directory:
                await stack.enter_async_context(self._names.trees)
            await stack.enter_async_context(self._names.hold((parent, name), (new_parent, new_name)))
            path = new_path(new_parent, new_name)
            node = await self.lookup(parent, name)
            if (node.kind is Kind.DIRECTORY) is not directory:
                raise Busy(join(parent.path(), name), "it was replaced just now")
            target = await self.tree.find(new_parent, new_name)
            if target is node:  # the same name, spelled differently
                target = None
            elif target is not None:
                new_name = target.name
            if target is not None and not replace:
                raise Exists(path)
            ancestor: Node | None = new_parent
            while ancestor is not None:
                if ancestor is node:
                    raise InvalidName(path, "a directory cannot be moved into itself")
                ancestor = ancestor.parent
            if node.kind is Kind.DIRECTORY:
                if target is not None and target.kind is not Kind.DIRECTORY:
                    raise NotDirectory(path)
                await stack.enter_async_context(self._names.moving(node))
                if target is not None:
                    await stack.enter_async_context(self._names.moving(target))
                await self._rename_directory(node, target, new_parent, new_name)
            else:
                if target is not None and target.kind is Kind.DIRECTORY:
                    raise IsDirectory(path)
                await self._rename_file(node, target, new_parent, new_name)
        self.changes.entry(parent, name, None)
        self.changes.entry(new_parent, new_name, node, gone=target)

    async def _rename_file(self, node: Node, target: Node | None, parent: Node, name: str) -> None:
        old, new = node.path(), join(parent.path(), name)
        item = self._cached(node)
        loser = self._cached(target) if target is not None else None
        async with self.writeback.paused(item, loser):
            self._unmoved(node, old)
            if target is not None:
                self._unmoved(target, new)
            if loser is not None:
                await self._preserve(loser)
            moved = False
            if self._stored_at_remote(node, item):
                async with self._uncertain(parent, *[p for p in [node.parent] if p]):
                    moved = await self._rename_at_remote(old, new, item, target)
            if moved and self.remote.caps.tags:
                self._apply_moved(node, item, await self.remote.stat(new))
            item = item or node.item  # perhaps opened meanwhile
            loser = loser or (target.item if target is not None else None)
            if item is not None:
                self.fetcher.stop(item)
                if not moved:  # the upload that comes replaces what has the name now
                    item.row.base = target.version if target is not None else None
                    item.row.attempt = loser.row.attempt if loser is not None else None
            if not moved:
                node.version = target.version if target is not None else None
            if loser is not None:
                self._lose(loser)
            if item is not None and item.row.path is not None:
                self.store.publish(item, new)
                if item.dirty:
                    self.store.index.end_move(old)
            elif loser is not None:
                self.store.unlink(loser)
            self.tree.move(node, parent, name)

    def _unmoved(self, node: Node, path: str) -> None:
        """After uploads of it were withdrawn: one of them may have ended in a conflict, and with another name."""
        if node.path() != path:
            raise Busy(path, "it was in conflict with the remote's version just now")

    async def _rename_at_remote(self, old: str, new: str, item: Item | None, target: Node | None) -> bool:
        """Answers False when the remote turned out not to have it."""
        caps = self.remote.caps
        if caps.rename is RenameScope.NONE:
            raise CrossDevice(old)
        if target is not None and target.version is not None and not caps.rename_replaces:
            with contextlib.suppress(NotFound):
                await self.remote.remove(new)
        try:
            await self._ask_to_rename(old, new, changed=item is not None and item.dirty)
        except NotFound:
            return False
        return True

    async def _ask_to_rename(self, old: str, new: str, *, changed: bool) -> None:
        """Rename at the remote. Where its answer is lost, look what became of it: changed files follow the name.

        With ``changed``, the journal knows until `Index.end_move`, which is the caller's where this returns.
        """
        if changed:
            self.store.index.begin_move(old, new)
        try:
            await self.remote.rename(old, new)
        except StorageError as problem:
            if not problem.retriable or not await self._renamed(old, new):
                if changed:
                    self.store.index.end_move(old)
                raise

    async def recover(self) -> None:
        """Before `start`: the last run ended while the remote renamed something; changed files follow the name."""
        for old, new in self.store.index.moves():
            item = self.store.peek(old)
            below = any(found.path.startswith(old + "/") for found in self.store.dirty_items())
            if (item is not None or below) and await self._renamed(old, new):
                log.info("%s was being renamed to %s when the last run ended, and it was", old, new)
                if item is not None:
                    self.store.publish(item, new)
                else:
                    self.store.rename_tree(old, new)
            self.store.index.end_move(old)

    async def _renamed(self, old: str, new: str) -> bool:
        try:
            await self.remote.stat(new)
            await self.remote.stat(old)
        except NotFound as gone:
            return gone.path == old
        except StorageError:
            return False
        return False

    def _apply_moved(self, node: Node, item: Item | None, entry: Entry) -> None:
        node.version = entry.version
        if item is not None and item.row.base is not None:
            item.row.base = entry.version

    async def _rename_directory(self, node: Node, target: Node | None, parent: Node, name: str) -> None:
        old, new = node.path(), join(parent.path(), name)
        if self.remote.caps.rename is not RenameScope.TREE:
            raise CrossDevice(old)
        if target is not None:
            await self._remove_directory(target)
        async with self.writeback.paused(below=old):
            for item in self.store.loaded_below(old):
                self.fetcher.stop(item)
            async with self._uncertain(parent, *[p for p in [node.parent] if p]):
                changed = any(item.path.startswith(old + "/") for item in self.store.dirty_items())
                await self._ask_to_rename(old, new, changed=changed)
            self.store.rename_tree(old, new)
            if changed:
                self.store.index.end_move(old)
            self.tree.move(node, parent, name)

    async def _remove_directory(self, node: Node) -> None:
        if node.kind is not Kind.DIRECTORY:
            raise NotDirectory(node.path())
        if await self.tree.load(node):
            raise NotEmpty(node.path())
        try:
            await self.remote.rmdir(node.path())
        except NotEmpty:
            self.tree.forget(node)
            raise
        except NotFound:
            pass
        self.tree.remove(node)

    # the remote's room

    async def statfs(self) -> StatFs:
        """Room, as the remote last said; asks again in the background, waits a second at most."""
        return await self._space.statfs()

    # following

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Be told of every change, on the trio thread; must not block. Answers how to stop that."""
        return self.changes.subscribe(listener)

    async def drain(self, attempts: int = 3) -> tuple[Upload, ...]:
        """Upload everything now; answers what could not be stored after that many more tries each."""
        return await self.writeback.drain(attempts)

    def snapshot(self) -> VfsSnapshot:
        """What is going on, as a value. Not a checkpoint."""
        c = self.counters
        return VfsSnapshot(
            identity=self.remote.identity, uploads=self.writeback.uploads(), cached_bytes=self.store.held,
            open_files=self.store.open_files(), hits=c.hits, misses=c.misses, fetched_bytes=c.fetched_bytes,
            uploaded_bytes=c.uploaded_bytes, uploaded_files=c.uploaded_files, streams=self.fetcher.active,
            errors=c.errors,
        )  # fmt: skip

    async def settle(self, node: Node) -> None:
        """Upload this one file now, and return when the remote has it; raises what the remote answered."""
        item = node.item
        if item is not None and item.dirty and item.row.path is not None:
            await self.writeback.upload_now(item)

    async def hold_upload(self, node: Node, held: bool) -> None:
        """Keep a changed file from being uploaded, or let it go on."""
        if node.item is not None and held:
            await self.writeback.hold(node.item)
        elif node.item is not None:
            self.writeback.unhold(node.item)

    async def discard_changes(self, node: Node) -> None:
        """Give up what was written here and not uploaded: the remote's version shows again, or nothing."""
        item = node.item
        if item is None or not item.dirty:
            return
        self._writable(node.path())
        await self.writeback.withdraw(item)
        if node.version is None and node.parent is not None:
            await self.unlink(node.parent, node.name)
            return
        self.fetcher.stop(item)
        self.writeback.discard(item)
        item.row.dirty = False
        self.store.rebase(item, node.version)
        self.released(node)
        self.changes.node(ChangeKind.CONTENT, node)

    # for handles and stages

    async def make_dirty(self, item: Item) -> None:
        """Before local bytes: no upload runs, nothing is scheduled, and the index knows."""
        await self.writeback.withdraw(item)
        if not item.dirty:
            self.store.mark_dirty(item)
        if item.row.path is not None:
            self.writeback.opened(item)

    async def make_room(self, count: int) -> None:
        """Wait until the cache may hold ``count`` bytes more; NoSpace when uploads do not make room in time."""
        if not self.bounded or self.evictor.over() + count <= 0:
            return
        with trio.move_on_after(ROOM_PATIENCE):
            while self.evictor.over() + count > 0:
                if self.evictor.make_room(self.evictor.over() + count):
                    continue
                if not self.writeback.uploads():
                    break
                self.writeback.hurry()
                await self.writeback.changed()
            else:
                return
        raise NoSpace("", "the cache is full of files that are not uploaded yet")

    def released(self, node: Node) -> None:
        """A handle on the node was closed."""
        item = node.item
        if item is not None and not item.handles and not item.dirty:
            self._detach(node)

    def naming(self, parent: Node, name: str) -> AbstractAsyncContextManager[None]:
        """Be the only one who changes what this name stands for; for :class:`Stage`."""
        return self._names.hold((parent, name))

    async def publish(self, stage_item: Item, parent: Node, name: str, *, replace: bool = True) -> Node:
        """A staged item becomes the file of this name; for :class:`Stage`."""
        path = new_path(parent, name)
        self._writable(path)
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            target = await self.tree.find(parent, name)
            if target is not None and target.kind is not Kind.FILE:
                raise IsDirectory(path)
            if target is not None and not replace:
                raise Exists(path)
            if target is not None:  # perhaps in another normal form, which then is its name
                name, path = target.name, target.path()
            loser = self._cached(target) if target is not None else None
            async with self.writeback.paused(loser):
                if target is not None:
                    self._unmoved(target, path)
                if loser is not None:
                    await self._preserve(loser)
                stage_item.row.base = target.version if target is not None else None
                stage_item.row.attempt = loser.row.attempt if loser is not None else None
                stage_item.row.promise = 2
                if self.settings.cache.mode is CacheMode.OFF:
                    return await self._store_staged(stage_item, parent, name, target)
                self.store.publish(stage_item, path)
                if loser is not None:
                    self._lose(loser)
                node = self.tree.add(parent, name, Kind.FILE)
                node.version = stage_item.row.base
                self._attach(node, stage_item)
                self.writeback.schedule(stage_item)
        self.changes.entry(parent, name, node, gone=target)
        return node

    async def _store_staged(self, item: Item, parent: Node, name: str, target: Node | None) -> Node:
        """Without a cache, what was received goes to the remote before it is acknowledged."""
        expect = item.row.base if item.row.base is not None else ABSENT
        stored = await self.remote.put(
            join(parent.path(), name), Snapshot(item), expect=expect, mtime_ns=item.row.mtime_ns
        )
        node = self.tree.add(parent, name, Kind.FILE)
        node.version, node.size = stored.version, item.size
        node.mtime_ns = stored.mtime_ns or node.mtime_ns
        self.changes.entry(parent, name, node, gone=target)
        return node

    def start_task(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task for as long as the Vfs is open."""
        self._nursery.start_soon(function, *args)

    def stored_directly(self, node: Node, item: Item, stored: Entry) -> None:
        """A file that is not in the cache was stored while it is still open."""
        self.counters.uploaded_files += 1
        self.counters.uploaded_bytes += item.size
        self.tree.edited(node)
        node.version = stored.version
        item.row.mtime_ns = stored.mtime_ns or item.row.mtime_ns

    def direct_writer_closed(self, node: Node, item: Item, *, stored: bool) -> None:
        """The writer is gone: the node shows what the remote holds, or goes if that is nothing."""
        if stored:
            self._detach(node)
        else:
            node.item = None
            self._nodes.pop(item.id, None)
            if node.version is None and node.parent is not None:
                parent, name = node.parent, node.name
                self.tree.remove(node)
                self.changes.entry(parent, name, None, gone=node)
                return
        self.changes.node(ChangeKind.CONTENT, node)

    def content_changed(self, node: Node) -> None:
        """Bytes of the node changed by a way that readers of it cannot see themselves."""
        self.changes.node(ChangeKind.CONTENT, node)

    # inside

    def _item_of(self, node: Node) -> Item:
        item = node.item
        if item is None:
            path = node.path()
            item = self.store.get(path)
            if item is None:
                item = self.store.new(path, base=node.version, dirty=False)
            elif not item.dirty and (
                item.row.base is None or node.version is None or not item.row.base.matches(node.version)
            ):
                item = self._renew(item, node.version) or self.store.new(path, base=node.version, dirty=False)
            self._attach(node, item)
        return item

    def _cached(self, node: Node) -> Item | None:
        return node.item or (self.store.get(node.path()) if node.kind is Kind.FILE else None)

    def _attach(self, node: Node, item: Item) -> None:
        node.item = item
        self._nodes[item.id] = node

    def _detach(self, node: Node) -> None:
        item = node.item
        if item is not None:
            node.size = item.size
            if item.row.mtime_ns is not None:
                node.mtime_ns = item.row.mtime_ns
            node.item = None
            if self._nodes.get(item.id) is node:
                del self._nodes[item.id]

    def _stored_at_remote(self, node: Node, item: Item | None) -> bool:
        """Whether the remote has, or may have, something under the node's name."""
        if node.kind is Kind.SYMLINK:
            return True
        return node.version is not None or (item is not None and item.row.attempt is not None)

    async def _preserve(self, item: Item) -> None:
        """Its name is about to go while it is open: fetch what is not here, so that it stays readable."""
        if item.handles and not item.complete:
            await self.fetcher.ensure(item, 0, item.size)

    def _lose(self, item: Item) -> None:
        """The item is about to lose its name."""
        self.fetcher.stop(item)
        self.writeback.discard(item)

    def _upload_later(self, item: Item) -> None:
        if item.dirty and item.row.path is not None and not item.writers:
            self.writeback.schedule(item)

    @asynccontextmanager
    async def _uncertain(self, *directories: Node) -> AsyncIterator[None]:
        """A change at the remote that fails may have happened all the same: look again before believing a name."""
        try:
            yield
        except BaseException:
            for directory in directories:
                self.tree.expire(directory)
            raise

    def _writable(self, path: str) -> None:
        if self.settings.read_only:
            raise ReadOnly(path)

    def _listing_changed(self, directory: Node, name: str, node: Node | None, content: bool) -> None:
        """The tree found that the remote is different from what was known: nobody here did that."""
        if node is not None and content:
            item = node.item
            if item is not None and not item.dirty and self._renew(item, node.version) is None:
                self._detach(node)
                self.tree.believe(node)
            self.changes.found_node(ChangeKind.CONTENT, node)
            return
        self.changes.found_entry(directory, name, node)

    async def _stale(self, item: Item) -> bool:
        """A read found another version at the remote; answers whether the item is about that one now."""
        node, path = self._nodes.get(item.id), item.path
        if item.row.path is None or item.dirty:
            return False
        try:
            entry = await self.remote.stat(path)
        except NotFound:
            if node is not None and node.parent is not None:
                self.tree.forget(node.parent)
            raise
        if entry.kind is not Kind.FILE or item.dirty or item.path != path:
            return entry.kind is Kind.FILE
        log.info("%s changed at the remote while it was read; reading starts anew", path)
        renewed = self._renew(item, entry.version) is not None
        if node is not None:
            if not renewed:
                self._detach(node)
            self.tree.touch(node, entry)
            self.changes.found_node(ChangeKind.CONTENT, node)
        return renewed

    def _renew(self, item: Item, version: Version | None) -> Item | None:
        """A clean item is about another version now. None where foreign threads send bytes of the old one:
        that item loses its name and ends with them, and what it does not hold is Stale."""
        self.fetcher.stop(item)
        if item.leases:
            self.store.unlink(item)
            return None
        self.store.rebase(item, version)
        return item

    def _stored(self, item: Item, entry: Entry) -> None:
        """An upload ended well."""
        self.fetcher.stop(item)
        node = self._nodes.get(item.id)
        if node is None:
            if item.row.path is not None:
                self.tree.stored(item.path, entry)
            return
        self.tree.edited(node)
        node.version = entry.version
        if (mode := self._modes.pop(node.inode, None)) is not None:
            self._nursery.start_soon(self._set_mode_late, node, mode)
        if item.dirty:
            return
        before = node.mtime_ns
        if not item.handles:
            self._detach(node)
        elif item.row.mtime_ns is not None:
            node.mtime_ns = item.row.mtime_ns
        if node.mtime_ns != before:
            self.changes.found_node(ChangeKind.ATTRIBUTES, node)

    async def _set_mode_late(self, node: Node, mode: int) -> None:
        try:
            await self.set_mode(node, mode)
        except StorageError as problem:
            log.warning("%s is stored, but not with the mode %04o: %s", node.path(), mode, problem)

    async def _conflict(self, item: Item) -> None:
        """The file changed both here and at the remote; ``--on-conflict`` says what becomes of that."""
        path, node = item.path, self._nodes.get(item.id)
        theirs = await self.remote.stat(path)
        match self.settings.cache.on_conflict:
            case OnConflict.LOCAL:
                if not item.complete:  # what is missing would come from another version than what is here
                    raise Corrupt(path, "changed here in part, and at the remote: the rest of it is gone")
                item.row.base = theirs.version
                self.store.save(item)
                log.warning("%s: what was written here replaces the other version", path)
            case OnConflict.REMOTE:
                item.row.dirty = False
                self.store.rebase(item, theirs.version)
                log.warning("%s: what was written here is dropped for the remote's version", path)
                if node is not None:
                    node.version = theirs.version
                    self.released(node)
                    self.changes.node(ChangeKind.CONTENT, node)
            case OnConflict.KEEP_BOTH:
                self._keep_both(item, node, theirs)

    def _keep_both(self, item: Item, node: Node | None, theirs: Entry) -> None:
        path = item.path
        other_path = self._beside(path, f"conflict {socket.gethostname()}")
        log.warning("%s: both versions are kept; what was written here is %s", path, other_path)
        item.row.base = item.row.attempt = None
        self.store.publish(item, other_path)
        if node is None or node.parent is None:
            return
        parent, name = node.parent, node.name
        self.tree.move(node, parent, other_path.rpartition("/")[2])
        node.version = None
        other = self.tree.add(parent, name, Kind.FILE)
        other.version, other.size, other.mtime_ns = theirs.version, theirs.size, theirs.mtime_ns or time.time_ns()
        self.changes.entry(parent, name, other)
        self.changes.entry(parent, node.name, node)

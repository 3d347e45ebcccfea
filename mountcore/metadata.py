"""What stat(2) shows, and the setting of times. Used by the Vfs. Modes and owners are set in :mod:`.extras`."""

from __future__ import annotations

import stat
from typing import NamedTuple, final

from .cache.item import TOUCHED, Item
from .changes import ChangeKind
from .contents import Contents
from .directory_times import DirectoryTimes
from .remotes.protocol import Kind
from .tree import Node


class Attributes(NamedTuple):
    """What stat(2) shows. ``mode`` has the type bits. A tuple: a listing makes one for every name, in 0.5 µs, not 2."""

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


@final
class Metadata:
    """Attributes of nodes, shown and set."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._remote = contents.remote
        self._settings = contents.settings
        self._store = contents.store
        self._tree = contents.tree
        self._changes = contents.changes
        self.directories = DirectoryTimes(contents)
        owner = contents.settings.owner
        self._file_perms = owner.file_perms & ~owner.umask
        self._dir_perms = owner.dir_perms & ~owner.umask
        self._link_perms = owner.link_perms & ~owner.umask
        self._owner, self._explicit = (owner.uid, owner.gid), owner.explicit
        self._no_modtime = contents.settings.no_modtime

    def attributes(self, node: Node) -> Attributes:
        """What stat(2) shows now. Not a checkpoint, no network."""
        item, kind = node.item, node.kind
        size, mtime = node.size, node.mtime_ns
        if item is not None:
            size = item.size
            mtime = item.row.mtime_ns or mtime
        if kind is Kind.FILE:
            bits, perms, nlink = stat.S_IFREG, self._file_perms, 1
            if self._no_modtime and node.parent is not None:
                mtime = node.parent.mtime_ns
        elif kind is Kind.DIRECTORY:
            bits, perms, nlink = stat.S_IFDIR, self._dir_perms, 2
        else:
            bits, perms, nlink = stat.S_IFLNK, self._link_perms, 1
        if node.mode is not None:
            perms = node.mode
        if node.parent is None and nlink == 1:
            nlink = 0
        uid, gid = self._owner if self._explicit or node.owner is None else node.owner
        atime = node.atime_ns if node.atime_ns is not None else mtime
        return tuple.__new__(
            Attributes, (node.inode, kind, bits | perms, size, mtime, atime, mtime, uid, gid, nlink)
        )  # without the detour of its constructor

    def try_set_mtime(self, node: Node, mtime_ns: int) -> bool:
        """Like `set_mtime`, for a file that waits for its upload; answers whether it is done. Not a checkpoint."""
        item = node.item
        if item is None or not item.dirty or item.untouched or self._settings.no_modtime or self._settings.read_only:
            return False
        if not self._contents.writeback.hold_back(item):
            return False
        self._set_dirty(node, item, mtime_ns)
        return True

    def _set_dirty(self, node: Node, item: Item, mtime_ns: int) -> None:
        if item.lent:
            self._store.look(item)
            item.mark(TOUCHED)  # what was written until now sets the time no more
        try:
            self._store.set_mtime(item, mtime_ns)
        finally:
            self._contents.upload_later(item)
        self._changes.node(ChangeKind.ATTRIBUTES, node)

    async def set_mtime(self, node: Node, mtime_ns: int) -> None:
        """Set the modification time; where the remote cannot keep it, it is shown until the node is forgotten."""
        self._contents.writable(node.path())
        if self._settings.no_modtime:
            return
        item = node.item
        if item is not None and item.dirty and not item.untouched:
            await self._contents.writeback.withdraw(item)
            if item.dirty:
                self._set_dirty(node, item, mtime_ns)
                return
        if node.kind is Kind.FILE and node.version is not None and self._remote.caps.set_mtime and node.linked:
            cached = node.item or self._store.get(node.path())
            with self._store.kept(cached):
                before = await self._remote.stat(node.path()) if cached is not None and cached.spans else None
                entry = await self._remote.set_mtime(node.path(), mtime_ns)
            if cached is not None and (not cached.dirty or cached.untouched) and cached.row.base is not None:
                self._contents.fetcher.stop(cached)
                ours = before is None or before.version.matches(cached.row.base)
                if ours and entry.size == cached.row.base.size:
                    cached.row.base, cached.row.mtime_ns = entry.version, entry.mtime_ns
                    self._store.save(cached)
                elif not cached.dirty and self._contents.renew(cached, entry.version) is None:
                    self._contents.detach(node)  # somebody else changed it just before
            self._tree.touch(node, entry)
            mtime_ns = entry.mtime_ns or mtime_ns
        elif node.kind is Kind.DIRECTORY and self._remote.caps.directory_times and node.linked:
            await self.directories.set(node, mtime_ns)
            mtime_ns = node.mtime_ns
        elif node.item is not None:
            node.item.row.mtime_ns = mtime_ns
        node.mtime_ns = mtime_ns
        self._changes.node(ChangeKind.ATTRIBUTES, node)

"""What stands behind names: which cache item belongs to which node, and the machinery that keeps both true.

Made by the Vfs, used by it and by the modules that change things for it (:mod:`.namespace`, :mod:`.metadata`,
:mod:`.conflicts`). Here meet what a listing, a read or an upload finds out about the remote and what is known
here: a clean item follows the remote's version, a dirty one stays.

Concurrency: trio thread only; what is ``async`` is a checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import final

import trio

from .accounting import Counters
from .cache.evict import Evictor
from .cache.fetch import Fetcher
from .cache.item import Item
from .cache.store import Store
from .cache.writeback import WriteBack
from .changes import Announcer, ChangeKind
from .doubts import Doubts
from .errors import NoSpace, NotFound, ReadOnly
from .listings import Listings
from .naming import NameLocks
from .remotes.protocol import Entry, Kind, Remote, Version
from .settings import VfsSettings
from .tree import Node, Tree

log = logging.getLogger(__name__)

ROOM_PATIENCE = 30.0
"""Seconds that a write over the cache's bound waits for uploads that make room."""


@final
class Contents:
    """Nodes and items together, and who moves their bytes.

    ``on_conflict`` resolves an upload that met another version; ``on_stored`` hears of every node whose file
    the remote has now.
    """

    def __init__(
        self,
        remote: Remote,
        store: Store,
        listings: Listings,
        settings: VfsSettings,
        nursery: trio.Nursery,
        on_conflict: Callable[[Item], Awaitable[None]],
        on_stored: Callable[[Node], None],
    ) -> None:
        self.remote = remote
        self.store = store
        self.settings = settings
        self.nursery = nursery
        self.counters = Counters()
        self.changes = Announcer()
        self.names = NameLocks()
        self.doubts = Doubts(remote, store, nursery)
        self.tree = Tree(remote, store, listings, settings.tree, self._listing_changed, self.attach)
        self.evictor = Evictor(store, settings.cache)
        self.fetcher = Fetcher(
            remote, store, settings.read, self.counters, nursery, self._stale, self.evictor.fits, self.evictor.rescue
        )
        self.writeback = WriteBack(
            remote, store, self.fetcher, settings.cache, self.counters, nursery, self._stored, on_conflict,
            self.doubts.settled,
        )  # fmt: skip
        self._on_stored = on_stored
        self.bounded = settings.cache.max_size is not None or settings.cache.min_free_space is not None
        self._nodes: dict[int, Node] = {}
        store.on_dropped = self._dropped
        self._lent = 0
        """Borrowers who write, of all items."""
        self._keeping = False
        """Whether somebody looks after the disk's room for them; for a second more than they are there."""

    # the item of a node

    def item_of(self, node: Node) -> Item:
        """The item of a file, made if need be; a clean one of another version starts anew."""
        item = node.item
        if item is None:
            path = node.path()
            item = self._find(path)
            if item is None:
                item = self.store.new(path, base=node.version, dirty=False)
            elif not item.dirty and (
                item.row.base is None or node.version is None or not item.row.base.matches(node.version)
            ):
                item = self.renew(item, node.version) or self.store.new(path, base=node.version, dirty=False)
            self.attach(node, item)
        return item

    def cached(self, node: Node) -> Item | None:
        """The item of a node, if something of it is cached."""
        return node.item or (self._find(node.path()) if node.kind is Kind.FILE else None)

    def _find(self, path: str) -> Item | None:
        item = self.store.get(path)
        if item is not None and item.dirty and not self.writeback.knows(item):
            log.warning("%s was changed in an earlier run, and the index did not say so; it is uploaded now", path)
            self.writeback.schedule(item, 0.0)
        return item

    def attach(self, node: Node, item: Item) -> None:
        """The item is what the node shows."""
        node.item = item
        self._nodes[item.id] = node

    def detach(self, node: Node) -> None:
        """The node shows what it last showed, and holds its item no more."""
        item = node.item
        if item is not None:
            node.size = item.size
            if item.row.mtime_ns is not None:
                node.mtime_ns = item.row.mtime_ns
            node.item = None
            if self._nodes.get(item.id) is node:
                del self._nodes[item.id]

    def _dropped(self, item: Item) -> None:
        node = self._nodes.get(item.id)
        if node is not None and node.item is item:
            self.detach(node)

    def drop(self, node: Node) -> None:
        """The node's item is about to go, and nothing of it is to be shown."""
        if node.item is not None:
            self._nodes.pop(node.item.id, None)
            node.item = None

    def node_of(self, item: Item) -> Node | None:
        """The node whose content the item is, if there is one in memory."""
        return self._nodes.get(item.id)

    def stored_at_remote(self, node: Node, item: Item | None) -> bool:
        """Whether the remote has, or may have, something under the node's name."""
        if node.kind is Kind.SYMLINK:
            return True
        if item is not None and (item.row.attempt is not None or (item.dirty and item.row.base is not None)):
            return True
        return node.version is not None

    def released(self, node: Node) -> None:
        """A handle on the node was closed."""
        item = node.item
        if item is not None and not item.handles and not item.dirty:
            self.detach(node)

    # before something changes

    def writable(self, path: str) -> None:
        """Raises ReadOnly with ``--read-only``."""
        if self.settings.read_only:
            raise ReadOnly(path)

    @asynccontextmanager
    async def uncertain(self, *directories: Node) -> AsyncIterator[None]:
        """A change at the remote that fails may have happened all the same: look again before believing a name."""
        try:
            yield
        except BaseException:
            for directory in directories:
                self.tree.expire(directory)
            raise

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
        failed = True  # what failed before is tried once more, and then again at its own pace
        with trio.move_on_after(ROOM_PATIENCE):
            while self.evictor.over() + count > 0:
                if self.evictor.make_room(self.evictor.over() + count):
                    continue
                if self.writeback.idle:
                    break
                self.writeback.hurry(failed=failed)
                failed = False
                await self.writeback.changed()
            else:
                return
        raise NoSpace("", "the cache is full of files that are not uploaded yet")

    def lends_freely(self) -> bool:
        """Whether a borrower may make files longer: nobody keeps to bounds then."""
        return not self.bounded and self.store.can_lend and self.evictor.roomy()

    async def lend(self, item: Item) -> bool:
        """Let somebody write into the file of an acquired item without telling; answers whether that can be."""
        await self.writeback.withdraw(item)
        if not item.complete:
            return False
        self.store.lend(item)
        if item.row.path is not None:
            self.writeback.opened(item)
        self._lent += 1
        if not self._keeping:
            self._keeping = True
            self.nursery.start_soon(self._keep_room)
        return True

    def take_back(self, item: Item) -> None:
        """One borrower has returned the file."""
        self.store.take_back(item)
        self._lent -= 1

    def unmark(self, node: Node, item: Item) -> None:
        """The last one who might have written into a lent file did not: it is clean, and again follows the remote."""
        self.store.unmark(item)
        self.writeback.discard(item)
        if item.row.base is None or node.version is None or not item.row.base.matches(node.version):
            if node.parent is not None:
                self.tree.expire(node.parent)
            if node.version is not None:
                if self.renew(item, node.version) is None:
                    self.detach(node)
                self.tree.believe(node)

    async def _keep_room(self) -> None:
        """A borrower who finds the disk full is told so by the disk itself: clean files go before that."""
        try:
            while self._lent:
                if not self.evictor.roomy():
                    try:
                        self.evictor.rescue()
                    except OSError as problem:
                        log.warning("the cache cannot make room now: %s", problem)
                await trio.sleep(1)
        finally:
            self._keeping = False

    async def preserve(self, item: Item) -> None:
        """Its name is about to go while it is open: fetch what is not here, so that it stays readable."""
        if item.handles and not item.complete:
            await self.fetcher.ensure(item, 0, item.size)

    def lose(self, item: Item) -> None:
        """The item is about to lose its name."""
        self.fetcher.stop(item)
        self.writeback.discard(item)

    def upload_later(self, item: Item) -> None:
        """Start the write-back delay anew, if nobody writes."""
        if item.dirty and item.row.path is not None and not item.writers:
            self.writeback.schedule(item)

    # what was found out

    def _listing_changed(self, directory: Node, name: str, node: Node | None, content: bool) -> None:
        """The tree found that the remote is different from what was known: nobody here did that."""
        if node is not None and content:
            item = node.item
            if item is not None and not item.dirty and self.renew(item, node.version) is None:
                self.detach(node)
                self.tree.believe(node)
            self.changes.found_node(ChangeKind.CONTENT, node)
            return
        self.changes.found_entry(directory, name, node)

    async def _stale(self, item: Item) -> bool:
        """A read found another version at the remote; answers whether the item is about that one now."""
        node, path = self.node_of(item), item.path
        if item.row.path is None or item.dirty:
            return False
        base = item.row.base
        try:
            entry = await self.remote.stat(path)
        except NotFound:
            if node is not None and node.parent is not None:
                self.tree.forget(node.parent)
            raise
        if entry.kind is not Kind.FILE or item.dirty or item.path != path:
            return entry.kind is Kind.FILE
        if item.row.base is not base:  # it was stored here meanwhile, say: what came is perhaps older than that
            return True
        log.info("%s changed at the remote while it was read; reading starts anew", path)
        renewed = self.renew(item, entry.version) is not None
        if node is not None:
            if not renewed:
                self.detach(node)
            self.tree.touch(node, entry)
            self.changes.found_node(ChangeKind.CONTENT, node)
        return renewed

    def renew(self, item: Item, version: Version | None) -> Item | None:
        """An item is about another version now, and clean. None where foreign threads send bytes of the old one, or
        its file is spoilt: that item loses its name and ends with them, and what it does not hold is Stale."""
        self.fetcher.stop(item)
        if not (item.leases or item.lent) and self.store.rebase(item, version):
            return item
        self.store.unlink(item)
        item.row.dirty = False
        return None

    def _stored(self, item: Item, entry: Entry) -> None:
        """An upload ended well."""
        self.fetcher.stop(item)
        node = self.node_of(item)
        if node is None:
            if item.row.path is not None:
                self.tree.stored(item.path, entry)
            return
        self.tree.edited(node)
        node.version = entry.version
        self._on_stored(node)
        if item.dirty:
            return
        before = node.mtime_ns
        if not item.handles:
            self.detach(node)
        elif item.row.mtime_ns is not None:
            node.mtime_ns = item.row.mtime_ns
        if node.mtime_ns != before:
            self.changes.found_node(ChangeKind.ATTRIBUTES, node)

"""The file system that the front ends see: names, attributes, opening, changing. One per storage.

Used by the FUSE and the FTP front end and by the commands, all on the trio thread (foreign threads through
:mod:`.portal`). Every method that is ``async`` may wait unless it says otherwise, and is a checkpoint only when it
does; who calls them without end lets others run himself. All raise the errors of :mod:`.errors`.

Concurrency: changes of a name hold a lock on that name alone, taken in a fixed order; there is no lock on
the tree, a directory or a file. Data operations need no lock: see :mod:`.cache.item`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import final

import trio

from .accounting import Upload, VfsSnapshot
from .ahead import Ahead
from .cache.item import Item
from .cache.latesync import LateSync
from .cache.opening import tidy_up
from .cache.store import Store
from .changes import ORIGIN, Change, ChangeKind
from .conflicts import Conflicts
from .contents import Contents
from .direct import DirectReader, DirectWriter
from .errors import Busy, Denied, Exists, InvalidName, IsDirectory, NotFound, ReadOnly, StorageError, Unsupported
from .exchange import Exchange
from .extras import Extras
from .handle import CachedHandle, Handle, OpenFlags
from .listings import Listings
from .metadata import Attributes, Metadata
from .namespace import Namespace
from .naming import join, new_path
from .pinning import Pinning
from .polling import Poller
from .remotes.protocol import Entry, Kind, Remote
from .settings import CacheMode, VfsSettings
from .space import Space, StatFs
from .stage import Stage
from .tree import Node
from .views import Views

__all__ = ["ORIGIN", "Attributes", "Change", "ChangeKind", "Handle", "Node", "OpenFlags", "StatFs", "Vfs"]

log = logging.getLogger(__name__)


@final
class Vfs:
    """A remote as a file system. Made by :meth:`mountcore.service.Core.attach`."""

    def __init__(
        self, remote: Remote, store: Store, listings: Listings, settings: VfsSettings, nursery: trio.Nursery
    ) -> None:
        self.remote = remote
        self.store = store
        self.settings = settings
        self._contents = contents = Contents(
            remote, store, listings, settings, nursery, self._conflict, self._stored_at_last
        )
        self.counters = contents.counters
        self.changes = contents.changes
        self.tree = contents.tree
        self.evictor = contents.evictor
        self.fetcher = contents.fetcher
        self.writeback = contents.writeback
        self.bounded = contents.bounded
        self.reading_past: set[DirectReader] = set()
        """Who reads from the remote and past the cache now."""
        self.users = 0
        """Who has it attached; counted by the core."""
        self._nursery = nursery
        self._conflicts = Conflicts(contents)
        self._metadata = Metadata(contents)
        self.attributes: Callable[[Node], Attributes] = self._metadata.attributes
        """What stat(2) shows now. Not a checkpoint, no network."""
        self._extras = Extras(contents)
        self._names = Namespace(contents)
        self._exchange = Exchange(contents, self._names)
        self._views = Views(contents, self._metadata)
        self._pinning = Pinning(contents)
        self._poller = Poller(contents)
        self._ahead = Ahead(contents.tree, nursery, max(1, min(8, remote.caps.parallelism // 2)))
        self._space = Space(remote, settings, nursery)

    async def _conflict(self, item: Item) -> None:
        await self._conflicts.resolve(item)

    def _stored_at_last(self, node: Node) -> None:
        self._extras.stored(node)

    @property
    def root(self) -> Node:
        """The directory that the remote is rooted at."""
        return self.tree.root

    async def recover(self, *, reachable: bool) -> None:
        """Before `start`: the last run ended while the remote renamed or removed something that was changed here."""
        await self._names.recover(reachable=reachable)

    def start(self, root: Entry | None) -> None:
        """Begin: ``root`` is what the remote said of its root, None while it cannot be reached.

        Takes up what a former process left.
        """
        if root is not None and root.mtime_ns:
            self.root.mtime_ns = root.mtime_ns
        left = self.store.dirty_items()
        for item in left:
            if item.row.promise == 0:
                self._conflicts.rescue_interrupted(item)
            if item.dirty:
                self.writeback.schedule(item, 0.0)
        if left:
            log.info("%d files from an earlier run are still to be uploaded", len(left))
        self._nursery.start_soon(self.writeback.run)
        self._nursery.start_soon(self.evictor.run)
        self._nursery.start_soon(LateSync(self.store).run)
        self._nursery.start_soon(tidy_up, self.store)
        self._nursery.start_soon(self._poller.run)
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

    # attributes

    def try_set_mtime(self, node: Node, mtime_ns: int) -> bool:
        """`set_mtime`, if nothing has to be waited for; answers whether it is done. Not a checkpoint."""
        return self._metadata.try_set_mtime(node, mtime_ns)

    async def set_mtime(self, node: Node, mtime_ns: int) -> None:
        """Set the modification time; where the remote cannot keep it, it is shown until the node is forgotten."""
        await self._metadata.set_mtime(node, mtime_ns)

    def try_set_mode(self, node: Node, mode: int) -> bool:
        """`set_mode`, if the remote need not be asked; answers whether it is done. Not a checkpoint."""
        return self._extras.try_set_mode(node, mode)

    async def set_mode(self, node: Node, mode: int) -> None:
        """Set permission bits where the remote keeps them; elsewhere they are the mount's, and this does nothing."""
        await self._extras.set_mode(node, mode)

    async def set_atime(self, node: Node, atime_ns: int, *, keep: bool = True) -> None:
        """Set the access time: at the remote, where it keeps one, if ``keep``; shown in any case."""
        await self._extras.set_atime(node, atime_ns, keep=keep)

    async def set_owner(self, node: Node, uid: int | None, gid: int | None) -> None:
        """Set user and group where the remote keeps them; elsewhere they are the mount's, and this does nothing."""
        await self._extras.set_owner(node, uid, gid)

    async def extended(self, node: Node) -> Mapping[str, bytes]:
        """The extended attributes kept with a file or directory, by name without ``user.``."""
        return await self._extras.attributes(node)

    async def set_extended(self, node: Node, name: str, value: bytes | None) -> None:
        """Keep one; None removes it, NotFound if there is none. Unsupported where the remote keeps none."""
        await self._extras.set_attribute(node, name, value)

    def pinned(self, node: Node) -> bool:
        """Whether the cache keeps the node whatever its bounds. Not a checkpoint."""
        return node.path() in self.store.pins

    def pin(self, node: Node, pinned: bool) -> None:
        """Keep a file, or a directory and all below it, in the cache, and fetch what is missing. Not a checkpoint."""
        if not node.linked:
            raise NotFound(node.name)
        if pinned:
            self.store.pins.add(node.path())
            self._nursery.start_soon(self._pinning.fetch, node)
        else:
            self.store.pins.remove(node.path())

    # names

    async def lookup(self, parent: Node, name: str) -> Node:
        """The node of a name; NotFound when the directory does not have it."""
        await self._exchange.settled(parent)
        node = await self.tree.find(parent, name) or await self._views.find(parent, name)
        if node is None:
            raise NotFound(join(parent.path(), name))
        return node

    def try_lookup(self, parent: Node, name: str) -> Node | None:
        """Like `lookup`, answered at once from a listing that is believed; None: use `lookup`."""
        if not self.tree.fresh(parent) or self._exchange.hides(parent):
            return None
        node = self.tree.known(parent, name)
        if node is None and not self._views.named(name):
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
        await self._exchange.settled(directory)
        found = list((await self.tree.load(directory)).values())
        self._ahead.listed(directory)
        return found

    def try_children(self, directory: Node) -> Sequence[Node] | None:
        """Like `children`, from a listing that is believed; None: use `children`."""
        if directory.children is None or not self.tree.fresh(directory) or self._exchange.hides(directory):
            return None
        self._ahead.listed(directory)
        return list(directory.children.values())

    @property
    def listing_ahead(self) -> bool:
        """Whether directories are being listed that somebody is about to ask for."""
        return self._ahead.busy

    async def readlink(self, node: Node) -> str:
        """Where a symlink points. Not a checkpoint."""
        if node.kind is not Kind.SYMLINK:
            raise InvalidName(node.path(), "not a symbolic link")
        return node.target

    async def refresh(self, directory: Node | None = None) -> None:
        """Believe no listing at or below a directory (the root unless given). Not a checkpoint.

        Where somebody follows changes, what he may know is compared with the remote in the background.
        """
        self.tree.forget(directory or self.root)
        self._nursery.start_soon(self._poller.look_again, directory or self.root)

    # changing names

    async def mkdir(self, parent: Node, name: str) -> Node:
        """Make a directory, at the remote too."""
        return await self._names.mkdir(parent, name)

    async def symlink(self, parent: Node, name: str, target: str) -> Node:
        """Make a symbolic link at the remote; Unsupported where it has none."""
        return await self._names.symlink(parent, name, target)

    async def unlink(self, parent: Node, name: str) -> None:
        """Delete a file or symlink. Handles that are open keep working until they are closed."""
        await self._names.unlink(parent, name)

    async def rmdir(self, parent: Node, name: str) -> None:
        """Remove an empty directory."""
        await self._names.rmdir(parent, name)

    async def rename(self, parent: Node, name: str, new_parent: Node, new_name: str, *, replace: bool = True) -> None:
        """Rename a file or directory, replacing a file or an empty directory of the new name if ``replace``.

        CrossDevice where the remote cannot rename what it holds; programs then copy and delete.
        """
        await self._names.rename(parent, name, new_parent, new_name, replace=replace)

    async def exchange(self, parent: Node, name: str, other: Node, other_name: str) -> None:
        """Two files or directories exchange their names: for everybody at once, and in three renames at the remote."""
        await self._exchange.exchange(parent, name, other, other_name)

    def unsettled(self, directory: Node) -> bool:
        """Whether names in a directory are being exchanged, so that only `lookup` and `children` tell what is there."""
        return self._exchange.hides(directory)

    # files

    def try_open(self, node: Node) -> CachedHandle | None:
        """Open a file for reading through the cache, if that needs nothing else; None: use `open`."""
        if self.settings.cache.mode is not CacheMode.FULL or node.kind is not Kind.FILE or not node.linked:
            return None
        return CachedHandle(self, node, self._contents.item_of(node), OpenFlags.READ)

    async def open(self, node: Node, flags: OpenFlags) -> Handle:
        """Open a file. With TRUNCATE it is empty afterwards."""
        if flags.changes and self._contents.doubts:
            await self._contents.doubts.arrived(node.path())
        handle = self.open_now(node, flags)
        if flags & OpenFlags.TRUNCATE and handle.size:
            try:
                await handle.truncate(0)
            except BaseException:
                await handle.close()
                raise
        return handle

    def open_now(self, node: Node, flags: OpenFlags) -> Handle:
        """Like `open`, but TRUNCATE is left to the caller. Not a checkpoint."""
        if node.kind is Kind.DIRECTORY:
            raise IsDirectory(node.path())
        if node.kind is not Kind.FILE:
            raise Unsupported(node.path(), "not a regular file")
        if not node.linked and node.item is None:
            raise NotFound(node.name)
        if flags.changes:
            self._contents.writable(node.path())
        if (view := self._views.open(node, flags)) is not None:
            return view
        if not self._through_cache(node, flags):
            return self._open_direct(node, flags)
        return CachedHandle(self, node, self._contents.item_of(node), flags)

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
        item = self._contents.cached(node) if self.settings.cache.mode is not CacheMode.OFF else node.item
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
        self._contents.attach(node, item)
        self.changes.node(ChangeKind.CONTENT, node)
        return DirectWriter(self, node, item)

    async def create(self, parent: Node, name: str, flags: OpenFlags, *, exclusive: bool) -> Handle:
        """Open a file, making it if there is none; Exists if there is one and ``exclusive``."""
        path = new_path(parent, name)
        self._contents.writable(path)
        if self._contents.doubts:
            await self._contents.doubts.arrived(path)
        if self._contents.names.free(parent, name) and self.tree.fresh(parent):
            found = self.tree.known(parent, name)
            if found is None:
                return self._make(parent, name, path, flags)
        else:
            async with self._contents.names.hold((parent, name)):
                path = new_path(parent, name)
                found = await self.tree.find(parent, name)
                if found is None:
                    return self._make(parent, name, path, flags)
        if exclusive:
            raise Exists(path)
        return await self.open(found, flags)

    def _make(self, parent: Node, name: str, path: str, flags: OpenFlags) -> Handle:
        """A new file, open. Not a checkpoint: nobody else can take the name meanwhile."""
        self.remote.check_name(path)
        direct = not self._cache_wanted(flags | OpenFlags.WRITE)
        item = self.store.new(None if direct else path, base=None, dirty=True)
        node = self.tree.add(parent, name, Kind.FILE)
        self._contents.attach(node, item)
        handle: Handle
        try:
            if direct:
                handle = DirectWriter(self, node, item)
            else:
                handle = CachedHandle(self, node, item, flags | OpenFlags.WRITE)
                self.writeback.opened(item)
        except OSError:  # the cache's disk, or no descriptor left: nothing was made
            self._contents.drop(node)
            self.tree.remove(node)
            self.store.unlink(item, owed=True)
            raise
        self.changes.entry(parent, name, node)
        return handle

    async def truncate(self, node: Node, size: int) -> None:
        """Set the length of a file that need not be open."""
        handle = await self.open(node, OpenFlags.WRITE if size else OpenFlags.WRITE | OpenFlags.TRUNCATE)
        try:
            await handle.truncate(size)
            await handle.flush()
        finally:
            await handle.close()
        self.changes.node(ChangeKind.CONTENT, node)

    def check_new(self, parent: Node, name: str) -> None:
        """Raises InvalidName, NameTooLong or the like where there can be no file of that name. Not a checkpoint."""
        self.remote.check_name(new_path(parent, name))

    async def stage(self) -> Stage:
        """A file without a name, to be published whole. Not a checkpoint."""
        return self.new_stage()

    def new_stage(self) -> Stage:
        """`stage`, for who cannot wait."""
        if self.settings.read_only:
            raise ReadOnly("")
        return Stage(self, self.store.stage())

    # the remote's room

    async def statfs(self) -> StatFs:
        """Room, as the remote last said; asks again in the background, waits a second at most."""
        return await self._space.statfs()

    # following

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Be told of every change, on the trio thread; must not block. Answers how to stop that."""
        return self.changes.subscribe(listener)

    async def sync_names(self) -> None:
        """Names that were made, changed or taken here, of files that wait for upload, survive power loss."""
        self.store.index.pay()
        await trio.to_thread.run_sync(self.store.index.sync)

    async def drain(self, attempts: int = 3, *, as_now: bool = False) -> tuple[Upload, ...]:
        """Upload everything now; answers what could not be stored after that many more tries each.

        With ``as_now`` without waiting for what is written meanwhile.
        """
        left = await self.writeback.drain(attempts, as_now=as_now)
        await self._extras.settled()
        await self._metadata.directories.settled()
        return left

    def snapshot(self) -> VfsSnapshot:
        """What is going on, as a value. Not a checkpoint."""
        c = self.counters
        return VfsSnapshot(
            identity=self.remote.identity, uploads=self.writeback.uploads(), cached_bytes=self.store.held,
            open_files=self.store.open_files(), hits=c.hits, misses=c.misses, fetched_bytes=c.fetched_bytes,
            uploaded_bytes=c.uploaded_bytes, uploaded_files=c.uploaded_files,
            downloads=(*self.fetcher.downloads(), *(reader.download() for reader in self.reading_past)),
            errors=c.errors, dirty_bytes=sum(item.spans.total for item in self.store.dirty_items()),
            cache_bound=self.settings.cache.max_size, streams_per_file=self.settings.read.streams,
            streams_at_once=self.fetcher.most, users=self.users, doubts=len(self._contents.doubts),
        )  # fmt: skip

    async def settle(self, node: Node) -> None:
        """Upload this one file now, and return when the remote has it; raises what the remote answered."""
        item = node.item
        if item is not None and item.dirty and item.row.path is not None and not item.untouched:
            await self.writeback.upload_now(item)
            await self._extras.settled()

    def upload_of(self, node: Node) -> Upload | None:
        """How far the upload of this file is; None if nothing of it is to be uploaded. Not a checkpoint."""
        return self.writeback.upload(node.item) if node.item is not None else None

    def hurry_upload(self, path: str) -> None:
        """Upload one file without waiting for its delay, also if it was held. Not a checkpoint."""
        item = self._changed(path)
        self.writeback.unhold(item)
        self.writeback.hurry(item)

    async def hold_path(self, path: str, held: bool) -> None:
        """Keep a changed file from being uploaded for as long as this process runs, or let it go on."""
        if held:
            await self.writeback.hold(self._changed(path))
        else:
            self.writeback.unhold(self._changed(path))

    def _changed(self, path: str) -> Item:
        item = self.store.peek(path)
        if item is None or not item.dirty:
            raise NotFound(path, "nothing of it is to be uploaded")
        return item

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
        self._contents.writable(node.path())
        await self.writeback.withdraw(item)
        if node.version is None and node.parent is not None:
            await self.unlink(node.parent, node.name)
            return
        renewed = self._contents.renew(item, node.version)
        self.writeback.discard(item)
        if renewed is None:
            self._contents.detach(node)
            self.tree.believe(node)
        self.released(node)
        self.changes.node(ChangeKind.CONTENT, node)

    # for handles and stages

    async def make_dirty(self, item: Item) -> None:
        """Before local bytes: no upload runs, nothing is scheduled, and the index knows."""
        await self._contents.make_dirty(item)

    async def make_room(self, count: int) -> None:
        """Wait until the cache may hold ``count`` bytes more; NoSpace when uploads do not make room in time."""
        await self._contents.make_room(count)

    def crowded(self, count: int) -> bool:
        """Whether `make_room` would have to do anything."""
        return self.bounded and self.evictor.over() + count > 0

    def released(self, node: Node) -> None:
        """A handle on the node was closed."""
        self._contents.released(node)

    async def lend(self, item: Item) -> bool:
        """Let somebody write into the file of an acquired item without telling; answers whether that can be."""
        return await self._contents.lend(item)

    def lends_freely(self) -> bool:
        """Whether a borrower may make files longer: nobody keeps to bounds then."""
        return self._contents.lends_freely()

    def take_back(self, item: Item) -> None:
        """One borrower has returned the file."""
        self._contents.take_back(item)

    def unmark(self, node: Node, item: Item) -> None:
        """The last one who might have written into a lent file did not."""
        self._contents.unmark(node, item)

    def naming(self, parent: Node, name: str) -> AbstractAsyncContextManager[None]:
        """Be the only one who changes what this name stands for; for :class:`Stage`."""
        return self._contents.names.hold((parent, name))

    async def publish(self, stage_item: Item, parent: Node, name: str, *, replace: bool = True) -> Node:
        """A staged item becomes the file of this name; for :class:`Stage`."""
        return await self._names.publish(stage_item, parent, name, replace=replace)

    def try_publish(self, stage_item: Item, parent: Node, name: str) -> Node | None:
        """`publish`, if it need not wait, and replaces nothing; for :class:`Stage`."""
        return self._names.try_publish(stage_item, parent, name)

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
            self._contents.detach(node)
        else:
            self._contents.drop(node)
            if node.version is None and node.parent is not None:
                parent, name = node.parent, node.name
                self.tree.remove(node)
                self.changes.entry(parent, name, None, gone=node)
                return
        self.changes.node(ChangeKind.CONTENT, node)

    def content_changed(self, node: Node) -> None:
        """Bytes of the node changed by a way that readers of it cannot see themselves."""
        self.changes.node(ChangeKind.CONTENT, node)

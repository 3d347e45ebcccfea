"""Changes of names: making, renaming and removing files, directories and links, here and at the remote.

Used by the Vfs. Every change holds the lock of its names alone, withdraws uploads of what it moves, asks the
remote, and then moves nodes and items in one step without a checkpoint. A change at the remote that fails half-way
expires the listing, so that the next look asks what really happened.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import final

from .cache import verify
from .cache.item import Generation, Item
from .cache.rows import Move
from .cache.writeback import Snapshot
from .contents import Contents
from .doubts import local_version
from .errors import (
    Busy,
    CrossDevice,
    Exists,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    StorageError,
    Unsupported,
)
from .naming import join, new_path, within
from .remotes.protocol import ABSENT, Entry, Kind, RenameScope, Version
from .settings import CacheMode
from .tree import Node

log = logging.getLogger(__name__)


@final
class Namespace:
    """The names of one remote. Docstrings that say more are the Vfs's, which hands these on."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._remote = contents.remote
        self._store = contents.store
        self._tree = contents.tree
        self._writeback = contents.writeback
        self._changes = contents.changes
        self._names = contents.names
        self._doubts = contents.doubts

    async def symlink(self, parent: Node, name: str, target: str) -> Node:
        """Make a symbolic link at the remote; Unsupported where it has none."""
        path = new_path(parent, name)
        self._contents.writable(path)
        if not self._remote.caps.symlinks:
            raise Unsupported(path, "the remote has no symbolic links")
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            if await self._tree.find(parent, name) is not None:
                raise Exists(path)
            async with self._contents.uncertain(parent):
                entry = await self._remote.symlink(path, target)
            node = self._tree.add(parent, name, Kind.SYMLINK)
            self._tree.touch(node, entry)
        self._changes.entry(parent, name, node)
        return node

    async def mkdir(self, parent: Node, name: str) -> Node:
        """Make a directory, at the remote too."""
        path = new_path(parent, name)
        self._contents.writable(path)
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            if await self._tree.find(parent, name) is not None:
                raise Exists(path)
            async with self._contents.uncertain(parent):
                await self._remote.mkdir(path)
            node = self._tree.add(parent, name, Kind.DIRECTORY)
        self._changes.entry(parent, name, node)
        return node

    async def unlink(self, parent: Node, name: str) -> None:
        """Delete a file or symlink. Handles that are open keep working until they are closed."""
        self._contents.writable(join(parent.path(), name))
        await self._doubts.settled(join(parent.path(), name))
        async with self._names.hold((parent, name)):
            node = await self._lookup(parent, name)
            if node.kind is Kind.DIRECTORY:
                raise IsDirectory(node.path())
            path = node.path()
            item = self._contents.cached(node)
            async with self._writeback.paused(item):
                self._unmoved(node, path)
                if item is not None:
                    await self._contents.preserve(item)
                stored = self._contents.stored_at_remote(node, item)
                if stored:
                    async with self._contents.uncertain(parent):
                        with self._tree.changing((parent, node.name)):
                            await self._remove_at_remote(node, path, item)
                item = item or node.item  # perhaps opened meanwhile
                if item is not None:
                    self._store.unlink(item, gone=path if stored else None, owed=stored)
                    self._contents.lose(item)
                self._tree.remove(node)
                self._store.pins.gone(path)
        self._changes.entry(parent, name, None, gone=node)

    async def _remove_at_remote(self, node: Node, path: str, item: Item | None) -> None:
        """Where its answer is lost, look what became of it. Of a changed file the journal knows, until its end is
        written together with the item's."""
        move, generation, changed = Move(path, ""), Generation(0), item is not None and item.dirty
        if item is not None and changed:
            self._store.look(item)
            move, generation = Move(path, "", (local_version(item),), item.id), item.generation

        async def finish() -> None:
            if item is not None:
                await self._finish_removal(node, path, item, generation)

        async def remove() -> None:
            with contextlib.suppress(NotFound):
                await self._remote.remove(path)

        await self._doubts.watch(move, remove, finish, journal=changed)

    async def _finish_removal(self, node: Node, path: str, item: Item, generation: Generation) -> None:
        """It turned out that the remote did remove it."""
        parent = node.parent
        if parent is None:
            return
        async with self._names.hold((parent, node.name)), self._writeback.paused(item):
            self._store.look(item)
            if node.path() != path or node.item is not item or item.generation != generation:
                return  # people went on with it
            self._store.unlink(item, gone=path, owed=True)
            self._contents.lose(item)
            self._tree.remove(node)
            self._store.pins.gone(path)
        self._changes.entry(parent, node.name, None, gone=node)

    async def rmdir(self, parent: Node, name: str) -> None:
        """Remove an empty directory."""
        self._contents.writable(join(parent.path(), name))
        async with self._names.hold((parent, name)):
            node = await self._lookup(parent, name)
            async with self._names.moving(node):
                await self._remove_directory(node)
        self._changes.entry(parent, name, None, gone=node)

    async def rename(self, parent: Node, name: str, new_parent: Node, new_name: str, *, replace: bool = True) -> None:
        """Rename a file or directory, replacing a file or an empty directory of the new name if ``replace``.

        CrossDevice where the remote cannot rename what it holds; programs then copy and delete.
        """
        path = new_path(new_parent, new_name)
        self._contents.writable(path)
        if parent is new_parent and name == new_name:
            await self._lookup(parent, name)
            return
        await self.settled(join(parent.path(), name), path)
        async with contextlib.AsyncExitStack() as stack:
            directory = (await self._lookup(parent, name)).kind is Kind.DIRECTORY
            if directory:
                await stack.enter_async_context(self._names.trees)
            await stack.enter_async_context(self._names.hold((parent, name), (new_parent, new_name)))
            path = new_path(new_parent, new_name)
            node = await self._lookup(parent, name)
            if (node.kind is Kind.DIRECTORY) is not directory:
                raise Busy(join(parent.path(), name), "it was replaced just now")
            target = await self._tree.find(new_parent, new_name)
            if target is node:  # the same name, spelled differently
                target = None
            elif target is not None:
                new_name = target.name
            if target is not None and not replace:
                raise Exists(path)
            if within(new_parent, node):
                raise InvalidName(path, "a directory cannot be moved into itself")
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
        self._changes.entry(parent, name, None)
        self._changes.entry(new_parent, new_name, node, gone=target)

    async def settled(self, *paths: str) -> None:
        """Before these names are changed: what was asked of the remote about them before is known."""
        await self._doubts.settled(*paths)

    async def move(self, node: Node, parent: Node, name: str) -> None:
        """Give a node a name that is free, and tell nobody; the caller holds the locks that `rename` takes."""
        if node.kind is Kind.DIRECTORY:
            await self._rename_directory(node, None, parent, name)
        else:
            await self._rename_file(node, None, parent, name)

    async def _rename_file(self, node: Node, target: Node | None, parent: Node, name: str) -> None:
        old, new = node.path(), join(parent.path(), name)
        if node.kind is Kind.FILE:
            self._remote.check_name(new)
        item = self._contents.cached(node)
        loser = self._contents.cached(target) if target is not None else None
        async with self._writeback.paused(item, loser):
            self._unmoved(node, old)
            if target is not None:
                self._unmoved(target, new)
            if loser is not None:
                await self._contents.preserve(loser)
            moved, entry = False, None
            move = Move(
                old, new, _may_be(node, item), item.id if item is not None else None,
                loser.id if loser is not None else None,
            )  # fmt: skip
            with self._tree.changing((node.parent, node.name), (parent, name)):
                if self._contents.stored_at_remote(node, item):
                    async with self._contents.uncertain(parent, *[p for p in [node.parent] if p]):
                        finish = partial(self._finish_renaming, move, node, parent, name)
                        moved, entry = await self._rename_at_remote(move, target, finish)
                self._file_renamed(move, node, target, parent, item, loser, entry, moved=moved)

    def _file_renamed(
        self, move: Move, node: Node, target: Node | None, parent: Node, item: Item | None, loser: Item | None,
        entry: Entry | None, *, moved: bool,
    ) -> None:  # fmt: skip
        """The remote has renamed the file, or (``moved`` is false) had nothing of it: here as well."""
        old, new, name = move.old, move.new, move.new.rpartition("/")[2]
        if entry is not None:
            self._apply_moved(node, item, entry)
        item = item or node.item  # perhaps opened meanwhile
        loser = loser or (target.item if target is not None else None)
        for each in (item, loser):
            if each is not None:
                self._contents.fetcher.stop(each)
        origin = (item.row.base, item.row.attempt) if item is not None else None
        if item is not None and not moved:  # the upload that comes replaces what has the name now
            item.row.base, item.row.attempt = _replaced(target, loser)
        ended = old if moved else None
        try:
            if item is not None and item.row.path is not None:
                self._store.publish(item, new, moved=ended, owed=moved)
            elif loser is not None:
                self._store.unlink(loser, gone=ended, owed=moved)
            elif ended is not None:
                self._store.index.end_move(old)
        except OSError:  # the cache's disk
            if item is not None and origin is not None:
                item.row.base, item.row.attempt = origin
            raise
        if not moved:
            node.version = target.version if target is not None else None
        if loser is not None:
            self._writeback.discard(loser)
        self._tree.move(node, parent, name)
        self._store.pins.moved(old, new)

    async def _finish_renaming(self, move: Move, node: Node, parent: Node, name: str) -> None:
        """It turned out that the remote did rename the file; unless people went on with it, it is renamed here."""
        before = node.parent
        if before is None:
            return
        async with self._names.hold((before, node.name), (parent, name)):
            if node.path() != move.old or not parent.linked or join(parent.path(), name) != move.new:
                return
            target = self._tree.known(parent, name)
            item = self._contents.cached(node)
            loser = self._contents.cached(target) if target is not None else self._store.peek(move.new)
            if move.item is not None and (item is None or item.id != move.item):
                return
            if loser is not None and loser.dirty and loser.id != move.replaced:
                return
            with self._tree.changing((before, node.name), (parent, name)):
                async with self._writeback.paused(item, loser):
                    self._unmoved(node, move.old)
                    if loser is not None:
                        with contextlib.suppress(StorageError):  # what was replaced; or found already, and opened
                            await self._contents.preserve(loser)
                    entry = await self._remote.stat(move.new) if self._remote.caps.tags else None
                    self._file_renamed(move, node, target, parent, item, loser, entry, moved=True)
        self._changes.entry(before, move.old.rpartition("/")[2], None)
        self._changes.entry(parent, name, node, gone=target)

    def _unmoved(self, node: Node, path: str) -> None:
        """After uploads of it were withdrawn: one of them may have ended in a conflict, and with another name."""
        if node.path() != path:
            raise Busy(path, "it was in conflict with the remote's version just now")

    async def _rename_at_remote(
        self, move: Move, target: Node | None, finish: Callable[[], Awaitable[None]]
    ) -> tuple[bool, Entry | None]:
        """Answers False when the remote turned out not to have it, and what it has now if names change that. See
        `Doubts.watch`."""
        caps, new = self._remote.caps, move.new
        if caps.rename is RenameScope.NONE:
            raise CrossDevice(move.old)
        link = target is not None and target.kind is Kind.SYMLINK
        if target is not None and (link or target.version is not None) and not caps.rename_replaces:
            with contextlib.suppress(NotFound):
                await self._remote.remove(new)
        elif link:  # a link that is a file has another name there: whoever renames has to know that
            with contextlib.suppress(NotFound):
                await self._remote.stat(new)

        async def rename() -> Entry | None:
            await self._remote.rename(move.old, move.new)
            return await self._remote.stat(new) if caps.tags else None

        try:
            entry = await self._doubts.watch(move, rename, finish)
        except NotFound:
            return False, None
        return True, entry if caps.tags else None

    async def recover(self, *, reachable: bool) -> None:
        """Before anything else: the last run ended while the remote renamed or removed something."""
        await self._doubts.recover(self._finish_recovery, reachable=reachable)

    async def _finish_recovery(self, move: Move) -> None:
        """It turned out that a rename of an earlier run did happen; unless people went on, it is renamed here."""
        (above, _, name), (below, _, new_name) = move.old.rpartition("/"), move.new.rpartition("/")
        try:
            before, parent = await self._directory(above), await self._directory(below)
            node = await self._tree.find(before, name)
        except NotFound:
            return
        if node is not None and node.kind is Kind.FILE:
            await self._finish_renaming(move, node, parent, new_name)
        elif self._tree.loaded(move.old) is not None:
            await self._finish_renaming_directory(move)
        else:
            async with self._names.trees, self._names.hold((before, name), (parent, new_name)):
                loser = self._store.get(move.new)
                async with self._writeback.paused(loser, below=move.old):
                    if loser is not None and loser.id == move.replaced:
                        self._store.unlink(loser)
                        self._contents.lose(loser)
                    elif not any(item.path.startswith(move.new + "/") for item in self._store.dirty_items()):
                        self._store.rename_tree(move.old, move.new)
                        self._store.pins.moved(move.old, move.new)
                    self._tree.forget(before)
                    self._tree.forget(parent)

    async def _directory(self, path: str) -> Node:
        node = self._tree.root
        for name in path.split("/") if path else ():
            node = await self._lookup(node, name)
        return node

    def _apply_moved(self, node: Node, item: Item | None, entry: Entry) -> None:
        node.version = entry.version
        if item is not None and item.row.base is not None:
            item.row.base = entry.version

    async def _rename_directory(self, node: Node, target: Node | None, parent: Node, name: str) -> None:
        old, new = node.path(), join(parent.path(), name)
        if self._remote.caps.rename is not RenameScope.TREE:
            raise CrossDevice(old)
        for item in self._store.dirty_items():
            if item.path.startswith(old + "/"):
                self._remote.check_name(new + item.path[len(old) :])
        if target is not None:
            await self._remove_directory(target)
        async with self._writeback.paused(below=old):
            for item in self._store.loaded_below(old):
                self._contents.fetcher.stop(item)
            async with self._contents.uncertain(parent, *[p for p in [node.parent] if p]):
                move = Move(old, new)

                async def rename() -> None:
                    await self._remote.rename(old, new)

                with self._tree.changing((node.parent, node.name), (parent, name)):
                    await self._doubts.watch(move, rename, partial(self._finish_renaming_directory, move))
                    self._directory_renamed(move, node, parent)

    def _directory_renamed(self, move: Move, node: Node, parent: Node) -> None:
        self._store.rename_tree(move.old, move.new)
        self._tree.move(node, parent, move.new.rpartition("/")[2])
        self._store.pins.moved(move.old, move.new)

    async def _finish_renaming_directory(self, move: Move) -> None:
        """It turned out that the remote did rename the directory; unless people went on, it is renamed here.

        By its name: a listing that was made since has another node for it, of the changed files alone.
        """
        above, _, name = move.old.rpartition("/")
        below, _, new_name = move.new.rpartition("/")
        async with self._names.trees:
            before, parent = self._tree.loaded(above), self._tree.loaded(below)
            node = self._tree.loaded(move.old)
            if before is None or parent is None or node is None:
                return
            async with self._names.hold((before, name), (parent, new_name)), self._names.moving(node):
                if node.path() != move.old or join(parent.path(), new_name) != move.new:
                    return
                if any(item.path.startswith(move.new + "/") for item in self._store.dirty_items()):
                    return
                target = self._tree.known(parent, new_name)
                with self._tree.changing((before, name), (parent, new_name)):
                    async with self._writeback.paused(below=move.old):
                        for item in self._store.loaded_below(move.old):
                            self._contents.fetcher.stop(item)
                        self._directory_renamed(move, node, parent)
                        self._tree.forget(node)
        self._changes.entry(before, name, None)
        self._changes.entry(parent, new_name, node, gone=target)

    async def _remove_directory(self, node: Node) -> None:
        if node.kind is not Kind.DIRECTORY:
            raise NotDirectory(node.path())
        if await self._tree.load(node):
            raise NotEmpty(node.path())
        try:
            await self._remote.rmdir(node.path())
        except NotEmpty:
            self._tree.forget(node)
            raise
        except NotFound:
            pass
        self._store.pins.gone(node.path())
        self._tree.remove(node)

    # staged files

    async def publish(self, stage_item: Item, parent: Node, name: str, *, replace: bool = True) -> Node:
        """A staged item becomes the file of this name; for :class:`Stage`."""
        path = new_path(parent, name)
        self._contents.writable(path)
        await self._doubts.settled(path)
        async with self._names.hold((parent, name)):
            path = new_path(parent, name)
            target = await self._tree.find(parent, name)
            if target is not None and target.kind is not Kind.FILE:
                raise IsDirectory(path)
            if target is not None and not replace:
                raise Exists(path)
            if target is not None:  # perhaps in another normal form, which then is its name
                name, path = target.name, target.path()
            else:
                self._remote.check_name(path)
            loser = self._contents.cached(target) if target is not None else None
            async with self._writeback.paused(loser):
                if target is not None:
                    self._unmoved(target, path)
                if loser is not None:
                    await self._contents.preserve(loser)
                stage_item.row.base, stage_item.row.attempt = _replaced(target, loser)
                if self._contents.settings.cache.mode is CacheMode.OFF:
                    return await self._store_staged(stage_item, parent, name, target)
                node = self._make_visible(stage_item, parent, name, path, loser)
        self._changes.entry(parent, name, node, gone=target)
        return node

    def try_publish(self, stage_item: Item, parent: Node, name: str) -> Node | None:
        """`publish`, of a name that is new and that nobody is about to change; None: use that. Not a checkpoint."""
        path = new_path(parent, name)
        self._contents.writable(path)
        if self._contents.settings.cache.mode is CacheMode.OFF or self._doubts or not self._names.free(parent, name):
            return None
        if not self._tree.fresh(parent) or self._tree.known(parent, name) is not None:
            return None
        self._remote.check_name(path)
        stage_item.row.base, stage_item.row.attempt = _replaced(None, None)
        node = self._make_visible(stage_item, parent, name, path, None)
        self._changes.entry(parent, name, node)
        return node

    def _make_visible(self, stage_item: Item, parent: Node, name: str, path: str, loser: Item | None) -> Node:
        self._store.publish(stage_item, path)
        if loser is not None:
            self._contents.lose(loser)
        node = self._tree.add(parent, name, Kind.FILE)
        node.version = stage_item.row.base
        self._contents.attach(node, stage_item)
        self._writeback.schedule(stage_item)
        return node

    async def _store_staged(self, item: Item, parent: Node, name: str, target: Node | None) -> Node:
        """Without a cache, what was received goes to the remote before it is acknowledged."""
        expect = item.row.base if item.row.base is not None else ABSENT
        async with self._contents.uncertain(parent):
            stored = await verify.put(
                self._remote, join(parent.path(), name), Snapshot(item), expect=expect, mtime_ns=item.row.mtime_ns,
                checksum=self._contents.settings.cache.checksum,
            )  # fmt: skip
        node = self._tree.add(parent, name, Kind.FILE)
        node.version, node.size = stored.version, item.size
        node.mtime_ns = stored.mtime_ns or node.mtime_ns
        self._changes.entry(parent, name, node, gone=target)
        return node

    async def _lookup(self, parent: Node, name: str) -> Node:
        node = await self._tree.find(parent, name)
        if node is None or not node.linked:
            raise NotFound(join(parent.path(), name))
        return node


def _replaced(target: Node | None, loser: Item | None) -> tuple[Version | None, Version | None]:
    """What the remote has under a name that is taken over: the version to replace, and what an upload that was not
    heard to end may have left. Of a changed file its item knows better than a listing: also what uploads found."""
    if loser is not None and loser.dirty:
        return loser.row.base, loser.row.attempt
    return target.version if target is not None else None, loser.row.attempt if loser is not None else None


def _may_be(node: Node, item: Item | None) -> tuple[Version, ...]:
    """What the remote may have under the node's name: what is known of it, and what an upload may have left."""
    found = [node.version]
    if item is not None:
        found += [item.row.base, item.row.attempt]
    return tuple(version for version in found if version is not None)

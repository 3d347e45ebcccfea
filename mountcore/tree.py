"""The tree of names: nodes, and the directory cache. Used by the Vfs alone; front ends hold its nodes.

A directory's listing is fetched whole, believed for ``cache_time`` and then fetched again at the next use.
A complete listing answers names that do not exist without asking the remote. What was changed here is
visible at once: a node with local bytes, or one made or removed while a listing was on its way, wins over
what the listing says. A remote that cannot be reached never empties a directory: an old listing is kept and
used, marked stale; without one, the error goes to the caller.

Concurrency: trio thread only. Only `Tree.load` is a checkpoint; concurrent loads of one directory share one
request.
"""

from __future__ import annotations

import itertools
import logging
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import final

import trio

from .cache.item import Item
from .cache.store import Store
from .errors import NotDirectory, NotFound, TimedOut, Unreachable
from .listings import Listings
from .remotes.paths import is_name
from .remotes.protocol import Entry, Kind, Remote, Version
from .settings import TreeSettings

log = logging.getLogger(__name__)

ROOT_INODE = 1
FROM_REMOTE = 1 << 62
"""Set in inode numbers that the remote gave: they are the same in the next run. Ours are counted from 1."""
NEVER = float("-inf")
RETRY_STALE = 10.0
"""Seconds that a listing which could not be renewed is used before the remote is asked again."""


@final
class Node:
    """A name: a file, directory or symlink. Its inode number stays as long as the node lives."""

    __slots__ = (
        "__weakref__",
        "atime_ns",
        "children",
        "edits",
        "folded",
        "inode",
        "item",
        "kind",
        "late",
        "listed_at",
        "loading",
        "mode",
        "mtime_ns",
        "name",
        "owner",
        "parent",
        "size",
        "stale",
        "target",
        "version",
    )  # fmt: skip

    def __init__(self, inode: int, parent: Node | None, name: str, kind: Kind) -> None:
        self.inode = inode
        self.parent = parent
        """None for the root, and for what was unlinked."""
        self.name = name
        self.kind = kind
        self.size = 0
        self.mtime_ns = 0
        self.atime_ns: int | None = None
        """When it was last read, where the remote says that or somebody has set it; else it counts as `mtime_ns`."""
        self.mode: int | None = None
        self.owner: tuple[int, int] | None = None
        """User and group, where the remote keeps them."""
        self.target = ""
        self.version: Version | None = None
        """What the remote holds under this name; None while it holds nothing."""
        self.item: Item | None = None
        """Set while the content is open, or not yet at the remote."""
        self.children: dict[str, Node] | None = None
        """Names below; None until listed, and in files."""
        self.folded: dict[str, str] | None = None
        """Names below by their folded form, for names that are not there to the letter; built when needed."""
        self.listed_at = NEVER
        self.stale = False
        self.loading: trio.Event | None = None
        self.edits: set[str] | None = None
        """Names changed here while a listing is on its way."""
        self.late: dict[str, Entry] | None = None
        """What the remote got meanwhile, of which there was no node yet."""

    def __repr__(self) -> str:
        return f"<Node {self.inode} {self.kind.value} {self.path()!r}>"

    def path(self) -> str:
        """Relative to the root; "" for the root, and for what has no name any more, or is in such a directory."""
        parts: list[str] = []
        node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return "/".join(reversed(parts)) if node.inode == ROOT_INODE else ""

    @property
    def linked(self) -> bool:
        """Whether it still has a name, and so have all directories above it."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node.inode == ROOT_INODE


Listener = Callable[[Node, str, Node | None, bool], None]
"""What a listing changed: directory, name, the node now or None, whether its content changed."""


@final
class Tree:
    """All nodes that are known."""

    def __init__(
        self,
        remote: Remote,
        store: Store,
        listings: Listings,
        settings: TreeSettings,
        listener: Listener,
        adopt: Callable[[Node, Item], None],
    ) -> None:
        self._adopt = adopt
        self._remote = remote
        self._listings = listings
        self._store = store
        self._settings = settings
        self._listener = listener
        self._folds = settings.normalize or settings.case_insensitive
        self._unsaved: dict[int, Node] = {}
        """Directories changed here since their listing was saved."""
        self._changing: list[tuple[int, str]] = []
        """Names, by their directory's number, of which no listing tells now."""
        self._inodes = itertools.count(ROOT_INODE)
        self._given: set[int] = set()
        """Numbers of the remote's that some node has, or had: two names of one file are two nodes."""
        self.root = self.make(None, "", Kind.DIRECTORY)
        self.root.mtime_ns = time.time_ns()

    def make(self, parent: Node | None, name: str, kind: Kind, ident: int | None = None) -> Node:
        """A node that no listing has; ``ident`` is the remote's number for it."""
        if ident is not None:
            inode = ident & (FROM_REMOTE - 1) | FROM_REMOTE
            if inode not in self._given:
                self._given.add(inode)
                return Node(inode, parent, name, kind)
        return Node(next(self._inodes), parent, name, kind)

    def _found(self, parent: Node, entry: Entry) -> Node:
        """A node for what a listing has and nobody knew; `_apply`, when there is nothing to compare with.

        Done for every name of a tree, and so in one step: taking a tuple apart costs a quarter of asking for its parts.
        """
        name, kind, size, mtime_ns, resolution_ns, tag, mode, target, owner, ident, atime_ns = entry
        node = self.make(parent, name, kind, ident)
        if kind is Kind.FILE:
            node.version = tuple.__new__(Version, (size, mtime_ns, resolution_ns, tag))  # as its constructor does
        node.size, node.mtime_ns = size, mtime_ns if mtime_ns is not None else time.time_ns()
        node.mode, node.target, node.owner, node.atime_ns = mode, target, owner, atime_ns
        return node

    def renumber(self, node: Node) -> None:
        """Give a node a number that nobody has been told: what is known by the old one is not what it is now."""
        node.inode = next(self._inodes)

    # changes made here

    def add(self, parent: Node, name: str, kind: Kind) -> Node:
        """A new node under a listed directory, replacing whatever had the name."""
        node = self.make(parent, name, kind)
        node.mtime_ns = parent.mtime_ns = time.time_ns()
        if kind is Kind.DIRECTORY:  # just made, so it is empty and we know it
            node.children = {}
            node.listed_at = trio.current_time()
        self._put(parent, name, node)
        return node

    def remove(self, node: Node) -> None:
        """The node loses its name."""
        parent = node.parent
        if parent is None:
            return
        if parent.children is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
        self._edited(parent, node.name)
        parent.mtime_ns = time.time_ns()
        if node.kind is Kind.DIRECTORY:
            self._store.retired.retire(node.path())
            for below in self._walk(node):
                self._unsaved.pop(below.inode, None)
        node.parent = None

    def move(self, node: Node, parent: Node, name: str) -> None:
        """The node gets another name; whoever had it loses it."""
        if (loser := (parent.children or {}).get(name)) is not None and loser is not node:
            self.remove(loser)
        directories = list(self._walk(node)) if node.kind is Kind.DIRECTORY else []
        for below in directories:
            self._listings.forget(below.path())
        self.remove(node)
        self._unsaved.update((below.inode, below) for below in directories)
        node.parent, node.name = parent, name
        self._put(parent, name, node)
        if node.kind is Kind.DIRECTORY:
            self._store.retired.retire(node.path())
        parent.mtime_ns = time.time_ns()

    def _put(self, parent: Node, name: str, node: Node) -> None:
        assert parent.children is not None, "only a listed directory is changed"
        if (loser := parent.children.get(name)) is not None and loser is not node:
            loser.parent = None
        parent.children[name] = node
        self._edited(parent, name)

    @contextmanager
    def changing(self, *names: tuple[Node | None, str]) -> Iterator[None]:
        """The remote is being asked to change these names: no listing does that here before."""
        keys = [(parent.inode, name) for parent, name in names if parent is not None]
        self._changing += keys
        try:
            yield
        finally:
            for key in keys:
                self._changing.remove(key)

    def edited(self, node: Node) -> None:
        """What is known of the node is newer than any listing that is on its way."""
        if node.parent is not None:
            self._edited(node.parent, node.name)

    def believe(self, node: Node) -> None:
        """Show what the remote's version says, and nothing that was cached of an older one."""
        if node.version is not None:
            node.size = node.version.size
            node.mtime_ns = node.version.mtime_ns or node.mtime_ns

    def touch(self, node: Node, entry: Entry) -> None:
        """The remote was asked about this one name: believe that over any listing that is on its way."""
        self._apply(node, entry)
        self.edited(node)

    def stored(self, path: str, entry: Entry) -> None:
        """The remote has a file now that a former process left: show it, whatever listing is on its way."""
        directory, parts = self.root, path.split("/")
        for depth, name in enumerate(parts, 1):
            found = entry if depth == len(parts) else Entry(name, Kind.DIRECTORY)
            if directory.children is None:
                if directory.late is not None:
                    directory.late[name] = found
                self._store.retired.retire("/".join(parts[: depth - 1]))
                return
            node = directory.children.get(name)
            if node is None:
                node = self.make(directory, name, found.kind)
                self._put(directory, name, node)
                self._apply(node, found)
                self._listener(directory, name, node, False)
                if node.kind is Kind.DIRECTORY:
                    self._store.retired.retire("/".join(parts[:depth]))
                return
            directory = node
        self.touch(directory, entry)

    def _edited(self, parent: Node, name: str) -> None:
        self._unsaved[parent.inode] = parent
        parent.folded = None
        if parent.edits is not None:
            parent.edits.add(name)

    # the directory cache

    def fresh(self, directory: Node) -> bool:
        """Whether the listing need not be fetched again."""
        if directory.children is None or directory.listed_at == NEVER or not directory.linked:
            return False
        lifetime = RETRY_STALE if directory.stale else self._settings.cache_time
        return lifetime is None or trio.current_time() - directory.listed_at < lifetime

    async def find(self, directory: Node, name: str) -> Node | None:
        """The child of that name, or, where nothing is called exactly so, of a name that counts as the same."""
        await self.load(directory)
        return self.known(directory, name)

    def known(self, directory: Node, name: str) -> Node | None:
        """Like `find`, in the listing that is there."""
        children = directory.children or {}
        node = children.get(name)
        if node is not None or not self._folds or (name.isascii() and not self._settings.case_insensitive):
            return node
        if directory.folded is None:
            directory.folded = {self._fold(other): other for other in sorted(children, reverse=True)}
        other = directory.folded.get(self._fold(name))
        return None if other is None else children.get(other)

    def _fold(self, name: str) -> str:
        if self._settings.normalize:
            name = unicodedata.normalize("NFC", name)
        return name.casefold() if self._settings.case_insensitive else name

    def expire(self, directory: Node) -> None:
        """Believe the listing of one directory no more: what became of a change in it is not known."""
        directory.listed_at = NEVER

    def forget(self, directory: Node) -> None:
        """Believe no listing at or below a directory any more; nodes stay, and so do their numbers."""
        for node in self._walk(directory):
            node.listed_at = NEVER

    def listed(self, directory: Node) -> list[Node]:
        """Every directory at or below one that was listed, believed or not."""
        return [node for node in self._walk(directory) if node.children is not None]

    def loaded(self, path: str) -> Node | None:
        """The directory of a path, if it was listed. Not a checkpoint."""
        node: Node | None = self.root
        for name in path.split("/") if path else ():
            node = (node.children or {}).get(name) if node is not None else None
        return node if node is not None and node.children is not None else None

    def _walk(self, directory: Node) -> Iterator[Node]:
        yield directory
        for child in (directory.children or {}).values():
            if child.kind is Kind.DIRECTORY:
                yield from self._walk(child)

    async def load(self, directory: Node) -> dict[str, Node]:
        """The children, from the cache while it is fresh, else from the remote."""
        if directory.kind is not Kind.DIRECTORY:
            raise NotDirectory(directory.path())
        while not self.fresh(directory):
            if directory.loading is not None:
                seen = directory.listed_at
                await directory.loading.wait()
                if directory.listed_at != seen:
                    break
                continue  # the other one failed: ask, and perhaps fail, for oneself
            if not directory.linked:
                raise NotFound(directory.name)
            directory.loading, directory.edits, directory.late = trio.Event(), set(), {}
            try:
                await self._fetch(directory)
            finally:
                directory.loading.set()
                directory.loading = directory.edits = directory.late = None
            if directory.children is not None:  # else it was renamed while it was listed
                break
        assert directory.children is not None
        return directory.children

    async def _fetch(self, directory: Node) -> None:
        path = directory.path()
        if directory.children is None:
            lifetime = self._settings.cache_time
            lifetime = float("inf") if lifetime is None else lifetime
            if await self._warm(directory, path, max(time.time() - lifetime, self._store.retired.since(path))):
                return
        entries: dict[str, Entry] = {}
        asked = trio.current_time()
        try:
            async with aclosing(self._remote.list(path)) as listing:  # type: ignore[type-var]
                async for entry in listing:
                    if not is_name(entry.name) or (entry.size < 0 and entry.kind is Kind.FILE):
                        log.warning("%.100r in /%s is passed over: no file can be so", entry, path)
                        continue
                    entries[entry.name] = entry
        except (Unreachable, TimedOut) as problem:
            if directory.children is None and not await self._warm(directory, path, float("-inf")):
                raise
            log.warning("the listing of /%s is stale: %s", path, problem)
            directory.stale = True
            directory.listed_at = trio.current_time()
            return
        except NotFound:
            if directory.linked and directory.path() != path:
                return
            if not any(item.path.startswith(path + "/") for item in self._store.dirty_items()):
                if directory.parent is not None and not directory.children:
                    self.remove(directory)
                raise
            entries.clear()  # there are only files that are not uploaded yet; the directory comes with the first
        if directory.path() == path:
            self._merge(directory, entries)
            if not directory.edits:  # else it is behind what was changed here while it was on its way
                self._unsaved.pop(directory.inode, None)
            # as old as the question: what was retired since then is retired
            self._listings.save(path, list(entries.values()), trio.current_time() - asked)

    def persist(self) -> None:
        """Save the listings of directories that were changed here. Blocking; at the end of a clean run.

        After any other end the saved listings may be behind what was changed, so the next run takes them
        for what the remote last held only while it cannot be reached.
        """
        now = trio.current_time()
        for directory in self._unsaved.values():
            if not directory.linked or directory.children is None:
                continue
            if directory.stale:  # not what the remote has, and no longer what was saved either
                self._store.retired.retire(directory.path())
                continue
            entries = [
                _entry(node) for node in directory.children.values() if node.version or node.kind is not Kind.FILE
            ]
            age = min(now - directory.listed_at, 1e9)
            self._listings.save(directory.path(), entries, age)
        self._unsaved.clear()

    async def _warm(self, directory: Node, path: str, since: float) -> bool:
        """Take the listing that a former process left, if it was made after that time."""
        if not self._listings.may_have(path):
            return False
        found = await trio.to_thread.run_sync(self._listings.load, path)
        if found is None or found[0] <= since:
            return False
        self._merge(directory, found[1])
        directory.listed_at -= max(0.0, time.time() - found[0])
        return True

    def _merge(self, directory: Node, entries: dict[str, Entry]) -> None:
        edits = {*(directory.edits or ()), *(name for inode, name in self._changing if inode == directory.inode)}
        entries = {**entries, **(directory.late or {})}
        if self._settings.block_dupes:
            entries = self._without_dupes(directory, entries)
        directory.folded = None
        before = directory.children if directory.children is not None else {}
        first = directory.children is None
        directory.children = before
        for name, entry in entries.items():
            if name in edits:
                continue
            node = before.get(name)
            if node is None or node.kind is not entry.kind:
                if node is not None and node.item is not None and node.item.dirty:
                    continue
                if node is not None:
                    node.parent = None
                node = before[name] = self._found(directory, entry)
                if not first:
                    self._listener(directory, name, node, False)
            elif self._apply(node, entry):
                self._listener(directory, name, node, True)
        for name in () if first else [n for n in before if n not in entries and n not in edits]:
            node = before[name]
            if node.item is not None and node.item.dirty:
                node.version = None
                continue
            del before[name]
            node.parent = None
            self._listener(directory, name, None, False)
        self._adopt_dirty(directory)
        directory.stale = False
        directory.listed_at = trio.current_time()

    def _without_dupes(self, directory: Node, entries: dict[str, Entry]) -> dict[str, Entry]:
        shown: dict[str, Entry] = {}
        for name in sorted(entries):
            if shown.setdefault(self._fold(name), entries[name]) is not entries[name]:
                log.warning("%r in /%s is hidden: another name counts as the same", name, directory.path())
        return {entry.name: entry for entry in shown.values()}

    def _apply(self, node: Node, entry: Entry) -> bool:
        """Take over what the remote says of a node; answers whether the content is another one."""
        old, new = node.version, entry.version
        changed = node.kind is Kind.FILE and old is not None and not old.matches(new)
        if old is not None and not changed and old.resolution_ns < new.resolution_ns:
            new = old  # a coarser view of the same version: keep the exact one
        if node.kind is Kind.FILE:
            node.version = new
        node.size = entry.size
        if entry.mtime_ns is not None:
            node.mtime_ns = new.mtime_ns if node.kind is Kind.FILE and new.mtime_ns is not None else entry.mtime_ns
        elif not node.mtime_ns:
            node.mtime_ns = time.time_ns()
        node.mode, node.target, node.owner, node.atime_ns = entry.mode, entry.target, entry.owner, entry.atime_ns
        return changed

    def _adopt_dirty(self, directory: Node) -> None:
        """Files that are only here, because a former process did not get to upload them."""
        prefix = directory.path()
        prefix = prefix + "/" if prefix else ""
        assert directory.children is not None
        for item in self._store.dirty_items():
            if not item.path.startswith(prefix):
                continue
            name, _, below = item.path[len(prefix) :].partition("/")
            node = directory.children.get(name)
            if below:
                if node is None:  # its directory is gone at the remote; the upload makes it again
                    node = directory.children[name] = self.make(directory, name, Kind.DIRECTORY)
                    node.children, node.mtime_ns = {}, time.time_ns()
                    node.listed_at = trio.current_time()
                    self._adopt_dirty(node)
            elif node is None or (node.kind is Kind.FILE and node.item is None):
                if node is None:
                    node = directory.children[name] = self.make(directory, name, Kind.FILE)
                self._adopt(node, item)


def _entry(node: Node) -> Entry:
    version = node.version or Version(node.size, node.mtime_ns)
    ident = node.inode & ~FROM_REMOTE if node.inode & FROM_REMOTE else None
    return Entry(
        node.name, node.kind, version.size, version.mtime_ns, version.resolution_ns, version.tag, node.mode,
        node.target, node.owner, ident, node.atime_ns,
    )  # fmt: skip

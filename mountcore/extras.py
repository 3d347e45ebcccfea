"""What storage keeps with a file besides content and time: mode, owner, access time, attributes. Used by the Vfs.

A file that the remote does not have yet, or whose change is still to be uploaded, gets them once it is stored:
until then they are in memory alone, and shown. The rest is asked of the remote when it is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import final
from weakref import WeakKeyDictionary

import trio

from .changes import ChangeKind
from .contents import Contents
from .errors import NotFound, StorageError, Unsupported
from .remotes.protocol import Entry, Kind, Version
from .tree import Node

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Late:
    """What a file gets once it is stored. None in ``attributes`` is one to be removed."""

    mode: int | None = None
    owner: tuple[int | None, int | None] | None = None
    atime_ns: int | None = None
    attributes: dict[str, bytes | None] = field(default_factory=dict)


@final
class Extras:
    """Modes, owners and attributes of the files of one remote."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._remote = contents.remote
        self._changes = contents.changes
        self._late: WeakKeyDictionary[Node, _Late] = WeakKeyDictionary()
        self._known: WeakKeyDictionary[Node, tuple[Version | None, float, Mapping[str, bytes]]] = WeakKeyDictionary()
        """Attributes by node, with the version and the time of the listing that they belong to."""
        self._setting = 0
        self._settled = trio.Event()

    def try_set_mode(self, node: Node, mode: int) -> bool:
        """`set_mode`, where the remote need not be asked; answers whether it is done. Not a checkpoint."""
        self._contents.writable(node.path())
        if not self._remote.caps.modes or not node.linked:
            return True
        if not self._waits(node):
            return False
        self._later(node).mode = node.mode = mode
        self._changes.node(ChangeKind.ATTRIBUTES, node)
        return True

    async def set_mode(self, node: Node, mode: int) -> None:
        """Set permission bits where the remote keeps them; elsewhere they are the mount's, and this does nothing."""
        if self.try_set_mode(node, mode):
            return
        self._took(node, entry := await self._remote.set_mode(node.path(), mode))
        node.mode = entry.mode if entry.mode is not None else mode
        self._changes.node(ChangeKind.ATTRIBUTES, node)

    async def set_owner(self, node: Node, uid: int | None, gid: int | None) -> None:
        """Set user and group where the remote keeps them; elsewhere they are the mount's, and this does nothing."""
        self._contents.writable(node.path())
        if not self._remote.caps.owners or not node.linked:
            return
        shown = self._contents.settings.owner
        before = node.owner or (shown.uid, shown.gid)
        owner = (before[0] if uid is None else uid, before[1] if gid is None else gid)
        if self._waits(node):
            late, earlier = self._later(node), self._later(node).owner or (None, None)
            late.owner = (earlier[0] if uid is None else uid, earlier[1] if gid is None else gid)
        else:
            self._took(node, entry := await self._remote.set_owner(node.path(), uid, gid))
            owner = entry.owner or owner
            node.mode = entry.mode if entry.mode is not None else node.mode  # chown(2) takes set-user-ID bits away
        node.owner = owner
        self._changes.node(ChangeKind.ATTRIBUTES, node)

    async def set_atime(self, node: Node, atime_ns: int, *, keep: bool) -> None:
        """Set when the node was last read; where the remote does not keep that, and of all but files, it is shown
        until the next listing."""
        self._contents.writable(node.path())
        if keep and self._remote.caps.access_times and node.linked and node.kind is Kind.FILE:
            if self._waits(node):
                self._later(node).atime_ns = atime_ns
            else:
                with suppress(Unsupported):  # this server does not after all
                    self._took(node, entry := await self._remote.set_atime(node.path(), atime_ns))
                    atime_ns = entry.atime_ns if entry.atime_ns is not None else atime_ns
        node.atime_ns = atime_ns
        self._changes.node(ChangeKind.ATTRIBUTES, node)

    async def attributes(self, node: Node) -> Mapping[str, bytes]:
        """The values kept with a file or directory, by name without ``user.``; Unsupported where there are none."""
        if not self._remote.caps.attributes:
            raise Unsupported(node.path(), "the remote keeps no extended attributes")
        stored: Mapping[str, bytes] = {}
        if node.kind is not Kind.FILE or self._contents.stored_at_remote(node, node.item):
            listed = node.parent.listed_at if node.parent is not None else 0.0
            known = self._known.get(node)
            if known is None or known[:2] != (node.version, listed):
                known = node.version, listed, await self._remote.attributes(node.path())
                self._known[node] = known
            stored = known[2]
        late = self._late[node].attributes if node in self._late else {}
        return {name: value for name, value in {**stored, **late}.items() if value is not None}

    async def set_attribute(self, node: Node, name: str, value: bytes | None) -> None:
        """Keep a value with a file or directory; None removes it, NotFound if there is none."""
        self._contents.writable(node.path())
        if not self._remote.caps.attributes:
            raise Unsupported(node.path(), "the remote keeps no extended attributes")
        if not node.linked:
            raise NotFound(node.name)
        if self._waits(node):
            if value is None and name not in await self.attributes(node):
                raise NotFound(node.path(), f"it has no attribute {name!r}")
            self._later(node).attributes[name] = value
            return
        self._known.pop(node, None)
        await self._remote.set_attribute(node.path(), name, value)
        if self._remote.caps.tags:
            self._took(node, await self._remote.stat(node.path()))

    # files that are not stored yet

    def _waits(self, node: Node) -> bool:
        """Whether an upload is to come, which would put a new file in the place of what is changed now."""
        item = node.item
        if node.kind is not Kind.FILE:
            return False
        return not self._contents.stored_at_remote(node, item) or (
            item is not None and item.dirty and not item.untouched
        )

    def _later(self, node: Node) -> _Late:
        return self._late.setdefault(node, _Late())

    def stored(self, node: Node) -> None:
        """The remote has the node's file now: set what had to wait for that."""
        if node in self._late:
            self._setting += 1
            self._contents.nursery.start_soon(self._set_late, node, self._late.pop(node))

    async def settled(self) -> None:
        """Wait until everything that had to wait is set."""
        while self._setting:
            await self._settled.wait()

    async def _set_late(self, node: Node, late: _Late) -> None:
        try:
            if late.owner is not None:
                await self.set_owner(node, *late.owner)
            if late.mode is not None:
                await self.set_mode(node, late.mode)
            for name, value in late.attributes.items():
                await self.set_attribute(node, name, value)
            if late.atime_ns is not None:
                await self.set_atime(node, late.atime_ns, keep=True)
        except NotFound:
            log.debug("%s is gone, and so is what was to be set on it", node.path())
        except StorageError as problem:
            log.warning("%s is stored, but not with all its attributes: %s", node.path(), problem)
        finally:
            self._setting -= 1
            settled, self._settled = self._settled, trio.Event()
            settled.set()

    def _took(self, node: Node, entry: Entry) -> None:
        """The remote changed something about a file at our wish: its content is what it was.

        Storage with tags may have another one now.
        """
        if node.kind is not Kind.FILE or node.version is None or entry.version == node.version:
            return
        if entry.size != node.version.size:
            return  # changed by somebody else: the next listing says
        cached = self._contents.cached(node)
        if cached is not None and not cached.dirty and cached.row.base == node.version:
            self._contents.fetcher.stop(cached)
            cached.row.base = entry.version
            self._contents.store.save(cached)
        node.version = entry.version
        self._contents.tree.edited(node)

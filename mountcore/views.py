"""``--vfs-metadata-extension``: what is known of ``name``, as JSON in a file ``name`` + extension that no listing has.

Used by the Vfs. The content is made when the name is looked up: times, mode and owner as text, and whatever the
storage keeps as attributes, in one flat object. A real file of that name wins.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import final
from weakref import WeakKeyDictionary, WeakValueDictionary

from .cache.item import Data
from .changes import Change, ChangeKind
from .contents import Contents
from .errors import BadHandle, Denied, Unsupported
from .handle import Handle, OpenFlags
from .metadata import Metadata
from .ranges import WithoutRanges
from .remotes.protocol import Kind
from .tree import Node


@final
class Views:
    """The views of one remote that somebody has looked up."""

    def __init__(self, contents: Contents, metadata: Metadata) -> None:
        self._extension = contents.settings.metadata_extension
        self._remote = contents.remote
        self._tree = contents.tree
        self._changes = contents.changes
        self._metadata = metadata
        self._views: WeakValueDictionary[int, Node] = WeakValueDictionary()
        """By the number of the node that they are about."""
        self._content: WeakKeyDictionary[Node, bytes] = WeakKeyDictionary()
        if self._extension:
            contents.changes.subscribe(self._follow)

    def named(self, name: str) -> bool:
        """Whether a name may be that of a view. Not a checkpoint."""
        return bool(self._extension) and name.endswith(self._extension) and name != self._extension

    async def find(self, parent: Node, name: str) -> Node | None:
        """The view of that name, with what is known now."""
        about = await self._tree.find(parent, name.removesuffix(self._extension)) if self.named(name) else None
        if about is None:
            return None
        view = self._views.get(about.inode)
        if view is None or view.parent is not parent:
            view = self._views[about.inode] = self._tree.make(parent, name, Kind.FILE)
        content = json.dumps(await self._describe(about), indent=1, sort_keys=True).encode() + b"\n"
        if self._content.get(view) != content:
            self._content[view] = content
            view.size, view.mtime_ns, view.mode = len(content), about.mtime_ns, 0o444
        return view

    async def _describe(self, node: Node) -> dict[str, str]:
        facts = self._metadata.attributes(node)
        told: dict[str, str] = {}
        if self._remote.caps.attributes and (node.version is not None or node.kind is Kind.DIRECTORY):
            try:
                kept = await self._remote.attributes(node.path())
            except (Unsupported, FileNotFoundError):
                kept = {}
            told |= {name: value.decode("utf-8", "replace") for name, value in kept.items()}
        seconds, rest = divmod(facts.mtime_ns, 1_000_000_000)
        moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        told |= {"mtime": f"{moment}.{rest:09}Z", "mode": f"{facts.mode:o}"}
        told |= {"uid": str(facts.uid), "gid": str(facts.gid)}
        return told

    def open(self, node: Node, flags: OpenFlags) -> Handle | None:
        """A handle on a view; None for every other file."""
        content = self._content.get(node)
        if content is None:
            return None
        if flags.changes:
            raise Denied(node.path(), "it is only a view of what is known of another file")
        return ViewHandle(node, content)

    def _follow(self, change: Change) -> None:
        """Whoever holds a view of what changed is told that it is another one."""
        view = self._views.get(change.inode)
        if view is not None and view.parent is not None:
            self._changes.found_entry(view.parent, view.name, None)
            self._changes.found_node(ChangeKind.CONTENT, view)


@final
class ViewHandle(WithoutRanges):
    """An open view. See :class:`~mountcore.handle.Handle` for what the methods promise."""

    def __init__(self, node: Node, content: bytes) -> None:
        self.node = node
        self._content = content

    def fileno(self) -> int:
        return -1

    @property
    def size(self) -> int:
        return len(self._content)

    def try_read(self, offset: int, length: int) -> bytes | None:
        return self._content[offset : offset + length]

    async def read(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    async def lease(self, offset: int, length: int) -> int:
        raise Unsupported(self.node.path(), "this file is not in the cache")

    def try_lend(self) -> bool:
        return False

    async def lend(self, *, anyway: bool = False) -> bool:
        return False

    def wrote(self) -> bool:
        return False

    async def sever(self) -> None:
        """Nothing is lent."""

    def try_write(self, offset: int, data: Data) -> int | None:
        return None

    async def write(self, offset: int, data: Data) -> int:
        raise BadHandle(self.node.path())

    async def truncate(self, size: int) -> None:
        raise BadHandle(self.node.path())

    async def flush(self) -> None:
        """Nothing can have been written."""

    async def fsync(self) -> None:
        """Nothing can have been written."""

    async def close(self) -> None:
        """Nothing is held."""

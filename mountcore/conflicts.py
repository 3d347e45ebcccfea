"""Two versions of one file: what was written here, and what is at the remote or was never finished.

Used by the Vfs: an upload that meets another version than it started from (``--on-conflict``), and what a former
process was still writing when it ended. Nothing is overwritten unseen, and nothing is thrown away that was not
asked to be.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import final

from .cache.item import Item
from .changes import ChangeKind
from .contents import Contents
from .errors import Corrupt
from .naming import beside
from .remotes.protocol import Entry, Kind
from .settings import OnConflict
from .tree import Node

log = logging.getLogger(__name__)


@final
class Conflicts:
    """Resolves them, one file at a time."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._settings = contents.settings
        self._store = contents.store
        self._tree = contents.tree
        self._changes = contents.changes

    def rescue_interrupted(self, item: Item) -> None:
        """Nobody was ever told that this content is complete: it must not replace what is at the remote."""
        if self._store.left_untouched(item):
            self._store.unmark(item)
            return
        if not item.complete:  # pieces of an edit in place: without the rest, which is at the remote, they are no file
            self._store.abandon(item, f"{item.path} was changed in place, and not finished when the last run ended")
            return
        self._store.claim_file(item)
        path = self._beside(item.path, "interrupted")
        log.warning("%s was not finished when the last run ended; what there is of it is kept as %s", item.path, path)
        item.row.promise = 1  # of that name it is all there is
        self._publish_anew(item, path)

    async def resolve(self, item: Item) -> None:
        """The file changed both here and at the remote; ``--on-conflict`` says what becomes of that."""
        path, node = item.path, self._contents.node_of(item)
        theirs = await self._contents.remote.stat(path)
        match self._settings.cache.on_conflict:
            case OnConflict.LOCAL:
                if not item.complete:  # what is missing would come from another version than what is here
                    raise Corrupt(path, "changed here in part, and at the remote: the rest of it is gone")
                item.row.base = theirs.version
                self._store.save(item)
                log.warning("%s: what was written here replaces the other version", path)
            case OnConflict.REMOTE:
                renewed = self._contents.renew(item, theirs.version)
                log.warning("%s: what was written here is dropped for the remote's version", path)
                if node is not None:
                    node.version = theirs.version
                    self._contents.released(node)
                    if renewed is None:
                        self._contents.detach(node)
                        self._tree.believe(node)
                    self._changes.node(ChangeKind.CONTENT, node)
            case OnConflict.KEEP_BOTH:
                self._keep_both(item, node, theirs)

    def _keep_both(self, item: Item, node: Node | None, theirs: Entry) -> None:
        path = item.path
        other_path = self._beside(path, f"conflict {socket.gethostname()}")
        log.warning("%s: both versions are kept; what was written here is %s", path, other_path)
        self._publish_anew(item, other_path)
        if node is None or node.parent is None:
            return
        parent, name = node.parent, node.name
        self._tree.move(node, parent, other_path.rpartition("/")[2])
        node.version = None
        other = self._tree.add(parent, name, Kind.FILE)
        other.version, other.size, other.mtime_ns = theirs.version, theirs.size, theirs.mtime_ns or time.time_ns()
        self._changes.entry(parent, name, other)
        self._changes.entry(parent, node.name, node)

    def _publish_anew(self, item: Item, path: str) -> None:
        """Give it a name that the remote does not have."""
        before = item.row.base, item.row.attempt
        item.row.base = item.row.attempt = None
        try:
            self._store.publish(item, path)
        except OSError:
            item.row.base, item.row.attempt = before
            raise

    def _beside(self, path: str, why: str) -> str:
        """A name beside a file that nothing else in the cache has."""
        found, number = beside(path, why), 1
        while self._store.get(found) is not None:
            number += 1
            found = beside(path, f"{why} {number}")
        return found

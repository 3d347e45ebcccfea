"""Files and directories that are kept in the cache whatever its bounds: pins. Used by eviction and the Vfs.

A pin is on a name, and holds for all below it. It outlives the process, follows a rename, stays on a name that is
replaced, and goes with a name that is deleted. Few names are pinned, so all are in memory. Trio thread only.
"""

from __future__ import annotations

from typing import final

from .index import Index


@final
class Pins:
    """The pinned names of one remote."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._paths = set(index.pins())

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __contains__(self, path: str) -> bool:
        """Whether the name, or a directory above it, is pinned."""
        if not self._paths:
            return False
        while path:
            if path in self._paths:
                return True
            path = path.rpartition("/")[0]
        return "" in self._paths

    def add(self, path: str) -> None:
        """Pin a name; "" is the root, and so everything."""
        self._index.pin(path)
        self._paths.add(path)

    def remove(self, path: str) -> None:
        """The name is not pinned any more; one above it may still be."""
        if path in self._paths:
            self._index.unpin(path)
            self._paths.discard(path)

    def moved(self, old: str, new: str) -> None:
        """A file or directory has another name: its pin, and those below it, go along."""
        if not self._paths:
            return
        for path in [p for p in self._paths if p == old or p.startswith(old + "/")]:
            self._index.pin(new + path[len(old) :], owed=True)
            self._index.unpin(path, owed=True)
            self._paths.add(new + path[len(old) :])
            self._paths.discard(path)

    def gone(self, path: str) -> None:
        """A name was deleted."""
        if path in self._paths:
            self._index.unpin(path, owed=True)
            self._paths.discard(path)

"""Where names stand in the listing of a directory: offsets that mean the same to everybody, whatever changes meanwhile.

The kernel keeps a copy of a listing for all who read the directory, and drops it when something changes. A reader that
is half-way through goes on at the same offset, in a newer copy or by asking. So an offset has to stand for the same
name in every listing: a name has its place from when it is first listed, one that goes leaves its place empty, and
one that comes is put at the end. Used by `operations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

from mountcore.vfs import Node

EMPTY = 1000
"""Places without a name that are never worth a new order."""


@final
class Slots:
    """The places of one directory."""

    __slots__ = ("_directory", "_names", "_places", "handles")

    def __init__(self, directory: Node) -> None:
        self._directory = directory
        self._names: list[str] = []
        self._places: set[str] = set()
        self.handles = 0
        """Open ones of the directory."""

    def since(self, place: int) -> Iterator[tuple[int, Node]]:
        """The places that have a name now, from ``place`` on. The directory does not change meanwhile."""
        children = self._directory.children or {}
        for number, name in enumerate(self._names[place:] if place else self._names, place):
            if (node := children.get(name)) is not None:
                yield number, node

    def take_in(self, nodes: Iterable[Node]) -> None:
        """Names that have no place yet get one."""
        new = [node.name for node in nodes if node.name not in self._places]
        self._names += new
        self._places.update(new)

    @property
    def sparse(self) -> bool:
        """Whether it is mostly empty, so that a new order is worth it as soon as nobody reads."""
        return len(self._names) > 2 * len(self._directory.children or ()) + EMPTY

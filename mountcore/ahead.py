"""Listing ahead of whoever walks through a tree. Used by the Vfs, which says what is listed.

Who lists three neighbours in a row, in the order of their names or in that of the listing, is about to list the
next ones: they are asked for while he looks at what he has, several at once, so that ``ls -lR``, ``find`` and
``rsync`` wait for a remote once and not at every directory. What could not be listed ahead is asked for again when
it is wanted, and the error, if there is one, is then told.

Storage that answers quickly, as a folder whose directories the kernel has in memory, is asked for one listing at a
time: several would only be in each other's way in Python (of `ls -lR` over 50,000 entries in a folder, a sixth).

Concurrency: trio thread only; `listed` is not a checkpoint.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import final

import trio

from .errors import StorageError
from .remotes.protocol import Kind
from .tree import Node, Tree

log = logging.getLogger(__name__)

STEPS = 2
"""Steps from one neighbour to the next that make a walk."""
STRIDE = 3
"""Neighbours that one step may pass over."""
LIVELY = 10.0
"""Seconds after which the next step is no part of the walk any more."""
WALKS = 32
"""Directories whose walkers are remembered."""
QUICK, QUICK_NAME = 0.005, 50e-6
"""Seconds for a listing, and for each name in it, within which storage is quick."""
MOST_NAMES = 20_000
"""In larger directories nobody looks for an order."""


@final
class _Walk:
    """Somebody lists the directories of one directory."""

    def __init__(self) -> None:
        self.last = ""
        self.when = float("-inf")
        self.steps = 0
        self.orders: list[tuple[Sequence[str], dict[str, int]]] = []
        """Names of directories in an order that the walker may have, and their places."""


@final
class Ahead:
    """All walks through one tree; at most ``most`` listings are under way for them at once."""

    def __init__(self, tree: Tree, nursery: trio.Nursery, most: int) -> None:
        self._tree = tree
        self._nursery = nursery
        self._most = most
        self._walks: OrderedDict[int, _Walk] = OrderedDict()
        self._waiting: deque[Node] = deque()
        self._queued: set[int] = set()
        self._running = 0
        self._quick = False
        """Whether the storage was quick the last time."""

    @property
    def busy(self) -> bool:
        """Whether something is being listed."""
        return self._running > 0

    def listed(self, directory: Node) -> None:
        """Somebody was shown what is in a directory."""
        parent = directory.parent
        if parent is None or not parent.children or len(parent.children) > MOST_NAMES:
            return
        now = trio.current_time()
        walk = self._walks.setdefault(parent.inode, _Walk())
        self._walks.move_to_end(parent.inode)
        if len(self._walks) > WALKS:
            self._walks.popitem(last=False)
        last, walk.last = walk.last, directory.name
        lively, walk.when = now - walk.when < LIVELY, now
        if not lively or last == directory.name:
            walk.steps, walk.orders = 0, []
            return
        if not walk.orders:
            names = [node.name for node in parent.children.values() if node.kind is Kind.DIRECTORY]
            walk.orders = [(order, {n: i for i, n in enumerate(order)}) for order in (sorted(names), names)]
        for order, places in walk.orders:
            place = places.get(directory.name, -1)
            if 0 < place - places.get(last, place) <= STRIDE:
                walk.steps += 1
                if walk.steps >= STEPS:
                    self._ask(parent, order[place + 1 : place + 1 + 2 * self._most])
                return
        walk.steps = 0

    def _ask(self, parent: Node, names: Sequence[str]) -> None:
        for name in names:
            node = (parent.children or {}).get(name)
            if node is None or node.kind is not Kind.DIRECTORY or node.inode in self._queued or self._tree.fresh(node):
                continue
            self._queued.add(node.inode)
            self._waiting.append(node)
        self._start()

    def _start(self) -> None:
        """Have as many at work as is worth it."""
        for _ in range(min((1 if self._quick else self._most) - self._running, len(self._waiting))):
            self._running += 1
            self._nursery.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while self._waiting and not (self._quick and self._running > 1):
                node = self._waiting.popleft()
                try:
                    await self._list(node)
                except StorageError as problem:
                    log.debug("/%s was not listed ahead: %s", node.path(), problem)
                finally:
                    self._queued.discard(node.inode)
        finally:
            self._running -= 1

    async def _list(self, node: Node) -> None:
        alone = node.loading is None and not self._tree.fresh(node)
        began = trio.current_time()
        names = len(await self._tree.load(node))
        if alone:  # else it did not take all of its time
            self._quick = trio.current_time() - began < QUICK + QUICK_NAME * names
            self._start()

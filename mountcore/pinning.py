"""Fetching what is pinned, in the background. Used by the Vfs; what a pin is stands in :mod:`.cache.pins`."""

from __future__ import annotations

import logging
from typing import final

from .contents import Contents
from .errors import StorageError
from .remotes.protocol import Kind
from .tree import Node

log = logging.getLogger(__name__)

PIECE = 4 << 20
"""Bytes that are waited for at a time."""


@final
class Pinning:
    """Brings pinned files whole into the cache, one after the other, as far as its bounds allow."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    async def fetch(self, node: Node) -> None:
        """A node and all below it; what cannot be fetched now is fetched when it is read."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if not node.linked or node.path() not in self._contents.store.pins:
                continue
            try:
                if node.kind is Kind.DIRECTORY:
                    waiting += (await self._contents.tree.load(node)).values()
                elif node.kind is Kind.FILE:
                    await self._fetch_file(node)
            except StorageError as problem:
                log.info("%s is pinned, and cannot be fetched now: %s", node.path(), problem)

    async def _fetch_file(self, node: Node) -> None:
        item = self._contents.item_of(node)
        self._contents.store.acquire(item)
        item.handles += 1
        try:
            for start in range(0, item.size, PIECE):
                await self._contents.fetcher.ensure(item, start, start + PIECE)
        finally:
            item.handles -= 1
            self._contents.store.release(item)
            self._contents.released(node)

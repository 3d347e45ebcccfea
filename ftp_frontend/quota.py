"""How much a login may keep in its storage. Used by `Storage`, on the trio thread.

Used bytes are the sizes of all files that the storage shows, whoever put them there: counted when first asked and
every minute afterwards, and in between by what goes through this server.
"""

from __future__ import annotations

from typing import final

import trio

from mountcore.errors import Quota
from mountcore.remotes.protocol import Kind
from mountcore.vfs import Vfs

COUNTED_FOR = 60.0


@final
class Allowance:
    """One limit on one storage; logins of a user share it."""

    def __init__(self, vfs: Vfs, limit: int) -> None:
        self.limit = limit
        self._vfs = vfs
        self._used = 0
        self._counted_at = float("-inf")
        self._counting = trio.Lock()

    def of(self, vfs: Vfs) -> bool:
        """Whether it is about this one."""
        return self._vfs is vfs

    async def left(self) -> int:
        """Bytes that may be added; raises what the storage answers when it cannot be counted."""
        async with self._counting:
            if trio.current_time() - self._counted_at > COUNTED_FOR:
                self._used = await self._count()
                self._counted_at = trio.current_time()
        return max(0, self.limit - self._used)

    async def _count(self) -> int:
        total, waiting = 0, [self._vfs.root]
        while waiting:
            directory = waiting.pop()
            try:
                children = await self._vfs.children(directory)
            except FileNotFoundError:
                continue
            for node in children:
                if node.kind is Kind.DIRECTORY:
                    waiting.append(node)
                elif node.kind is Kind.FILE:
                    total += max(0, self._vfs.attributes(node).size)
        return total

    def changed(self, difference: int) -> None:
        """So many bytes more, or fewer."""
        self._used = max(0, self._used + difference)

    async def check(self, more: int, path: str) -> None:
        """Raise Quota where ``more`` bytes are too many."""
        if more > 0 and more > await self.left():
            raise Quota(path, f"no more than {self.limit} bytes in all")

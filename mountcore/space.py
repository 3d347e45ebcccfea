"""How much room there is: statfs(2) for the mount, AVBL for FTP. Used by the Vfs.

The remote is asked in the background and its answer believed for the directory cache time; nobody waits for
it longer than a second. What it does not say is filled in the way rclone does, never negative.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import final

import trio

from .errors import StorageError, Unsupported
from .naming import join
from .remotes.protocol import Kind, Remote, Usage
from .settings import VfsSettings

log = logging.getLogger(__name__)

UNKNOWN_SPACE = 1 << 50
"""Shown as total where the remote does not say: 1 PiB."""
PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class StatFs:
    """Room in bytes; never negative, and ``free`` never more than ``total``."""

    total: int
    used: int
    free: int
    files: int = 1_000_000_000


def fill_in(usage: Usage, total_size: int | None) -> StatFs:
    """What to show for what the remote said; ``total_size`` overrules its total."""
    total, used, free = usage.total, usage.used, usage.free
    if total is None:
        total = (free if free is not None else UNKNOWN_SPACE) + (used or 0)
    if total_size is not None:
        total = total_size
    if used is None:
        used = max(0, total - free) if free is not None else 0
    if free is None or total_size is not None:
        free = total - used
    return StatFs(max(total, 0), max(used, 0), max(min(free, total), 0))


@final
class Space:
    """The room of one remote."""

    def __init__(self, remote: Remote, settings: VfsSettings, nursery: trio.Nursery) -> None:
        self._remote = remote
        self._settings = settings
        self._nursery = nursery
        self._usage: Usage | None = None
        self._asked_at = float("-inf")
        self._asking = False
        self._known = trio.Event()

    async def statfs(self) -> StatFs:
        """Room as last heard."""
        lifetime = self._settings.tree.cache_time
        due = self._usage is None or (lifetime is not None and trio.current_time() - self._asked_at > lifetime)
        if due and not self._asking:
            self._asking = True
            self._nursery.start_soon(self._ask)
        if self._usage is None:
            with trio.move_on_after(PATIENCE):
                await self._known.wait()
        return fill_in(self._usage or Usage(), self._settings.total_size)

    async def _ask(self) -> None:
        usage = Usage()
        try:
            usage = await self._ask_or_count()
        except StorageError as problem:
            log.info("the remote does not say how much room there is: %s", problem)
            usage = self._usage or usage
        finally:
            self._asking = False
        self._usage = usage
        self._asked_at = trio.current_time()
        self._known.set()

    async def _ask_or_count(self) -> Usage:
        try:
            said = await self._remote.usage()
        except Unsupported:
            said = Usage()
        if not self._settings.used_is_size:
            return said
        used = await self._count("")
        return Usage(said.total, used, None if said.total is None else max(0, said.total - used))

    async def _count(self, directory: str) -> int:
        """The sum of all files' sizes at and below a directory, asked of the remote itself."""
        total, below = 0, []
        if self._remote.caps.list_tree:
            async with aclosing(self._remote.list_tree(directory)) as tree:  # type: ignore[type-var]
                async for _, entry in tree:
                    total += max(0, entry.size) if entry.kind is not Kind.DIRECTORY else 0
            return total
        async with aclosing(self._remote.list(directory)) as listing:  # type: ignore[type-var]
            async for entry in listing:
                if entry.kind is Kind.DIRECTORY:
                    below.append(join(directory, entry.name))
                else:
                    total += max(0, entry.size)
        for path in below:
            total += await self._count(path)
        return total

"""Looking again at what others may have changed at the remote. Used by the Vfs.

Where the remote tells what changed (``caps.changes``), it is asked every ``--poll-interval``, and the listings that
it names are fetched again and compared, so that clean bytes of changed files go and front ends are told. A listing
that nobody has looked at is only not believed any more, nor is one that a former process saved.

`look_again` is the same for listings that somebody wants dropped (SIGHUP): the kernel behind a mount believes what
it was told until it is told otherwise, and so somebody has to find out.
"""

from __future__ import annotations

import logging
from typing import final

import trio

from .contents import Contents
from .errors import StorageError, TimedOut, Unreachable
from .remotes.protocol import Changes
from .tree import Node

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Directories that are listed side by side."""


@final
class Poller:
    """Follows one remote."""

    def __init__(self, contents: Contents) -> None:
        self._remote = contents.remote
        self._store = contents.store
        self._tree = contents.tree
        self._changes = contents.changes
        self._interval = contents.settings.tree.poll_interval

    async def run(self) -> None:
        """Ask every interval, for ever; returns where that is off."""
        cursor: str | None = None
        while self._interval:
            if self._remote.caps.changes:
                try:
                    told = await self._remote.changes(cursor)
                    if cursor is not None:
                        await self._compare(told)
                    elif self._tree.listed(self._tree.root):  # before we followed: nobody tells what came in between
                        self._tree.forget(self._tree.root)
                        await self.look_again(self._tree.root)
                    cursor = told.cursor
                except OSError as problem:
                    log.info("the remote does not tell what changed now: %s", problem)
            await trio.sleep(self._interval)

    async def _compare(self, told: Changes) -> None:
        if told.everything:
            self._tree.forget(self._tree.root)
            self._store.retired.retire("")
            await self.look_again(self._tree.root)
            return
        known = []
        for path in told.directories:
            directory = self._tree.loaded(path)
            if directory is not None:
                self._tree.expire(directory)
                known.append(directory)
            else:
                self._store.retired.retire(path)
        await self._list(known)

    async def look_again(self, directory: Node) -> None:
        """Compare every listing at or below a directory that is known, and not believed, with the remote's."""
        if self._changes.heard:
            await self._list([node for node in self._tree.listed(directory) if not self._tree.fresh(node)])

    async def _list(self, directories: list[Node]) -> None:
        waiting = directories[::-1]

        async def work() -> None:
            while waiting:
                directory = waiting.pop()
                if not directory.linked or self._tree.fresh(directory):
                    continue
                try:
                    await self._tree.load(directory)
                except (Unreachable, TimedOut) as problem:
                    log.info("looking for changes ends early: %s", problem)
                    waiting.clear()
                except StorageError as problem:
                    log.info("looking for changes passes over /%s: %s", directory.path(), problem)

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(waiting))):
                nursery.start_soon(work)

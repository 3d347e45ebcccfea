"""Deleting below a place: files that the filter takes, and directories that are empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import trio

from ..errors import NotEmpty, NotFound, StorageError
from ..remotes.paths import join, parent
from ..remotes.protocol import Entry, Kind
from .places import Place
from .tally import Tally
from .walk import Walker


@final
@dataclass(frozen=True, slots=True)
class Remover:
    """Deletes; problems with single files are told and counted."""

    place: Place
    walker: Walker
    tally: Tally
    dry_run: bool = False

    async def files(self) -> None:
        """Delete every file that the walk shows, several at once."""
        async with self.walker.walk(self.place) as directories, trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[tuple[str, Entry]](64)
            for _ in range(self.walker.checkers):
                nursery.start_soon(self._work, receive.clone())
            receive.close()
            async with send:
                async for listed in directories:
                    for path, entry in listed.items():
                        if entry.kind is not Kind.DIRECTORY:
                            await send.send((path, entry))

    async def _work(self, receive: trio.MemoryReceiveChannel[tuple[str, Entry]]) -> None:
        async with receive:
            async for path, entry in receive:
                if self.dry_run:
                    self.tally.skipped(path, "delete", entry.size)
                    continue
                try:
                    await self.place.remote.remove(self.place.path("" if self.place.is_file else path))
                except StorageError as problem:
                    self.tally.failed(path, problem)
                else:
                    self.tally.deleted += 1
                    self.tally.note(f"{path}: Deleted")

    async def empty_directories(self, *, root: bool) -> None:
        """Remove directories that have nothing in them but such; deepest first."""
        found: set[str] = set()
        full: set[str] = set()
        async with self.walker.walk(self.place) as directories:
            async for listed in directories:
                found.add(listed.directory)
                if not listed.whole:
                    full.add(listed.directory)
                for path, entry in listed.items():
                    if entry.kind is Kind.DIRECTORY:
                        found.add(path)
                    else:
                        full.add(listed.directory)
        for directory in tuple(full):
            while directory:
                directory = parent(directory)
                full.add(directory)
        if not root:
            found.discard("")
        for directory in sorted(found - full, key=lambda path: (-path.count("/") if path else 1, path)):
            await self._remove(directory)

    async def _remove(self, directory: str) -> None:
        label = directory or self.place.label
        if self.dry_run:
            self.tally.skipped(label, "remove directory")
            return
        try:
            await self.place.remote.rmdir(join(self.place.prefix, directory) if directory else self.place.prefix)
        except (NotEmpty, NotFound):
            pass  # what the filter leaves out is in it, or the storage has no directories of its own
        except StorageError as problem:
            self.tally.failed(label, problem)

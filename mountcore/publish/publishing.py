"""Bringing a place up to date with a folder.

| step | if it stops here |
|---|---|
| what the listing does not have is stored, stage by stage, a line of it after each | the next run goes on |
| what is no longer built is deleted, with folders that become empty | the old files stay a while longer |
| the listing is written anew, sorted | lines appended so far say the same |

Files are stored as `Remote.put` stores them: beside their place, verified, then renamed, so that none is ever seen in
part. Stages are those of :mod:`.site`; nothing is deleted before everything is stored.

A file that could not be stored is not in the listing, ends the run after its stage (what comes later may refer to
it), and is tried again by the next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import final

import trio

from ..errors import NotDirectory, NotEmpty, NotFound, Refused, StorageError, Unsupported
from ..files.content import InMemory
from ..files.places import Place
from ..files.tally import Tally
from ..files.walk import Walker
from ..remotes.paths import basename, join, parent
from ..remotes.protocol import ANYTHING, Entry, Span
from . import listing
from .site import STAGES, Content, SiteFile

LISTING_MOST = 64 << 20
"""Bytes of a listing that are read; nobody has a million pages."""
REWRITE_EVERY = 5.0
"""Seconds between two rewritings of the listing where the storage cannot append to it."""
TRIES = 3
TEMPORARY = ".{name}.tmp"
"""What a file is called while it is uploaded, where the storage lets us say that. Lektor's form."""
GROWING = 3.0
"""Seconds in which an upload that is under way has grown, or got a newer time."""


@final
@dataclass(frozen=True, slots=True)
class PublishSettings:
    """How it is done."""

    listing_file: str = listing.DEFAULT
    transfers: int = 4
    dry_run: bool = False
    verify: bool = False
    """Look whether the place has what its listing says."""
    delete: bool = True


@final
class Record:
    """The listing at the place, kept up to date as files are stored."""

    def __init__(self, place: Place, path: str) -> None:
        self._place = place
        self._path = path
        self._lock = trio.Lock()
        self._written = b""
        self._saved_at = 0.0
        self.files: dict[str, str] = {}
        self.appended = False

    async def load(self) -> None:
        """Read it; a place without one has nothing that we know of."""
        try:
            async with self._place.remote.read(self._where, Span(0, LISTING_MOST + 1), None) as pieces:
                self._written = b"".join([piece async for piece in pieces])
        except (NotFound, NotDirectory):
            self._written = b""
        if len(self._written) > LISTING_MOST:
            raise Refused(f"{self._path}: that is no listing of checksums: it is larger than 64 MiB")
        self.files = listing.parse(self._written)

    @property
    def _where(self) -> str:
        return self._place.path(self._path)

    async def add(self, name: str, digest: str) -> None:
        """A file is stored: from now on the listing says so."""
        self.files[name] = digest
        async with self._lock:
            if self._place.remote.caps.append:
                if not self.appended:
                    await self._place.ensure(parent(self._path))
                try:
                    await self._place.remote.append(self._where, listing.line(name, digest))
                    self.appended = True
                except Unsupported:
                    await self._write()
            elif time.monotonic() - self._saved_at > REWRITE_EVERY:
                await self._write()

    async def save(self) -> None:
        """Write it anew, if it is not what it should be."""
        async with self._lock:
            if self.appended or self._written != listing.whole(self.files):
                await self._write()

    async def _write(self) -> None:
        data = listing.whole(self.files)
        await self._place.ensure(parent(self._path))
        await self._place.remote.put(self._where, InMemory(data), expect=ANYTHING, mtime_ns=None)
        self._written, self._saved_at, self.appended = data, time.monotonic(), False


@final
class Publishing:
    """One run."""

    def __init__(self, place: Place, files: Sequence[SiteFile], settings: PublishSettings, tally: Tally) -> None:
        self._place = place
        self._files = {file.path: file for file in files}
        self._settings = settings
        self._tally = tally
        self._record = Record(place, settings.listing_file)

    async def run(self) -> bool:
        """Do it; answers whether the place is now what the folder is. Problems are told and counted."""
        if not self._files:
            raise Refused("there is nothing to publish: the folder is empty; name the folder that was built")
        await self._record.load()
        if self._settings.verify:
            await self._heal()
        known = self._record.files
        changed = [file for file in self._files.values() if known.get(file.path) != file.digest]
        stages: list[list[SiteFile]] = [[] for _ in STAGES]
        for file in changed:
            stages[file.stage(new=file.path not in known)].append(file)
        self._tally.total, self._tally.size = len(changed), sum(file.size for file in changed)
        self._tally.checked = len(self._files)
        stale = sorted(name for name in known if name not in self._files)
        try:
            for stage, mine in zip(STAGES, stages, strict=True):
                await self._store(mine)
                if self._tally.problems:
                    self._tally.say(f"stopped after {stage}: what follows may refer to what could not be stored")
                    return False
            if not self._settings.dry_run:
                await self._sweep({parent(file.path) for file in changed} | {parent(name) for name in stale})
            if self._settings.delete:
                await self._delete(stale)
        finally:
            if not self._settings.dry_run:
                with trio.move_on_after(30) as bound:
                    bound.shield = True
                    await self._record.save()
        return not self._tally.problems

    async def _store(self, files: Sequence[SiteFile]) -> None:
        waiting = iter(sorted(files, key=lambda file: file.path))

        async def work() -> None:
            for file in waiting:
                if self._settings.dry_run:
                    self._tally.skipped(file.path, "upload", file.size)
                    continue
                try:
                    await self._again(file)
                    await self._record.add(file.path, file.digest)
                except (StorageError, OSError) as problem:
                    self._tally.failed(file.path, problem)
                else:
                    self._tally.copied += 1
                    self._tally.sent += file.size
                    self._tally.note(f"{file.path}: uploaded")

        async with trio.open_nursery() as nursery:
            for _ in range(min(self._settings.transfers, len(files))):
                nursery.start_soon(work)

    async def _again(self, file: SiteFile) -> None:
        for left in reversed(range(TRIES)):
            try:
                await self._put(file)
            except StorageError as problem:
                if not problem.retriable or not left:
                    raise
                await trio.sleep(1)
            else:
                return

    async def _put(self, file: SiteFile) -> None:
        content = Content(file)
        self._tally.under_way[file.path] = 0
        try:
            await self._place.ensure(parent(file.path))
            where = self._place.path(file.path)
            await self._place.remote.put(where, content, expect=ANYTHING, mtime_ns=file.mtime_ns)
        finally:
            self._tally.under_way.pop(file.path, None)
            content.close()

    async def _sweep(self, folders: set[str]) -> None:
        """Remove what uploads of ours or Lektor's left when they were killed, if it does not grow: the file that such
        a name belongs to is stored, and should somebody be sending it, he is told, and sends it again."""
        found: dict[str, Entry] = {}
        known = {*self._files, *self._record.files}
        for folder in folders:
            with suppress(StorageError):
                async for entry in self._place.remote.list(self._place.path(folder)):
                    path = join(folder, entry.name)
                    final = join(folder, entry.name.removeprefix(".").removesuffix(".tmp"))
                    if path not in known and final in known and entry.name == TEMPORARY.format(name=basename(final)):
                        found[path] = entry
        if found:
            await trio.sleep(GROWING)
        for path, entry in found.items():
            with suppress(StorageError):
                where = self._place.path(path)
                if (await self._place.remote.stat(where)).version.matches(entry.version):
                    await self._place.remote.remove(where)
                    self._tally.note(f"{path}: deleted, an upload that broke off")

    async def _delete(self, names: Sequence[str]) -> None:
        """What is no longer built, and folders that have nothing left."""
        emptied: set[str] = set()
        for name in names:
            if self._settings.dry_run:
                self._tally.skipped(name, "delete")
                continue
            try:
                await self._place.remote.remove(self._place.path(name))
            except (NotFound, NotDirectory):
                pass
            except StorageError as problem:
                self._tally.failed(name, problem)
                continue
            del self._record.files[name]
            self._tally.deleted += 1
            self._tally.note(f"{name}: deleted")
            folder = parent(name)
            while folder:
                emptied.add(folder)
                folder = parent(folder)
        used = {folder for name in self._files for folder in _folders(name)}
        for folder in sorted(emptied - used, key=lambda path: -path.count("/")):
            try:
                await self._place.remote.rmdir(self._place.path(folder))
            except (NotFound, NotEmpty, NotDirectory):
                continue
            except StorageError as problem:
                self._tally.failed(folder, problem)

    async def _heal(self) -> None:
        """Believe the listing only where the place has a file of that name and length."""
        there: dict[str, int] = {}
        async with Walker(self._tally).walk(self._place) as directories:
            async for listed in directories:
                there.update({path: entry.size for path, entry in listed.items()})
        if self._tally.listing_failed:
            raise self._tally.problems[-1]
        for name in list(self._record.files):
            file = self._files.get(name)
            if name not in there or (file is not None and there[name] != file.size):
                self._tally.note(f"{name}: the listing is wrong about it")
                del self._record.files[name]


def _folders(name: str) -> list[str]:
    found = []
    while name := parent(name):
        found.append(name)
    return found

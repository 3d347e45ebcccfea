"""How objects are shown as entries: names from keys, times from metadata. Used by `remote`.

Concurrency: state is touched on the trio thread only, between checkpoints.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, final

import trio

from ...errors import NotFound, StorageError
from ..partials import is_ours
from ..paths import basename, parent
from ..protocol import Entry, Kind, Version
from . import raw_names
from .store import NOTHING, Found, Key, Page, Store
from .times import SECOND, read

T = TypeVar("T")
log = logging.getLogger(__name__)
AT_ONCE = 32
"""Requests at once for the metadata of what was listed, and for the files of a directory that is renamed."""
REMEMBERED = 100_000
"""Directories known to exist, and times by version."""


@final
class Shown:
    """Entries of a store's objects; remembers the times of versions that it has asked for."""

    def __init__(self, store: Store, *, server_times: bool) -> None:
        self._store = store
        self._server_times = server_times
        self._times = Recent[tuple[Key, str, int | None], int | None](REMEMBERED)

    def _name(self, key: str, prefix: Key) -> str:
        """What is behind the prefix, as a path."""
        below = key[len(prefix.key) :]
        return raw_names.read(below) if self._store.facts.raw_names else below

    def version(self, at: Key, found: Found) -> Version:
        return self.entry("", at, found).version

    def entry(self, name: str, at: Key, found: Found) -> Entry:
        kept = None
        if not self._server_times:
            if found.metadata is not None:
                kept = read(found.metadata)
                self._times[at, found.tag, found.modified_ns] = kept
            else:
                kept = self._times.get((at, found.tag, found.modified_ns))
        if kept is not None:
            return Entry(name, Kind.FILE, found.size, kept, 1, found.tag)
        stored = found.modified_ns
        return Entry(
            name, Kind.FILE, found.size, None if stored is None else stored // SECOND * SECOND, SECOND, found.tag
        )

    async def dated(self, bucket: str, found: Sequence[Found]) -> Sequence[tuple[Key, Found]]:
        """Listed objects with their metadata, where it is wanted and not known; without those that are gone by now."""
        keyed = [(Key(bucket, one.key), one) for one in found]
        if self._server_times:
            return keyed
        done: dict[Key, Found | None] = {}

        async def one(pair: tuple[Key, Found]) -> None:
            at, listed = pair
            try:
                head = await self._store.head(at)
            except NotFound:
                done[at] = None
            else:
                self._times[at, listed.tag, listed.modified_ns] = read(head.metadata or NOTHING)
                done[at] = head

        await each(one, [(at, f) for at, f in keyed if (at, f.tag, f.modified_ns) not in self._times])
        return [(at, done.get(at, f) or f) for at, f in keyed if done.get(at, f) is not None]

    async def entries(self, prefix: Key, page: Page, names: set[str]) -> Sequence[Entry]:
        """What a page says of one directory."""
        wanted: list[Found] = []
        found: list[Entry] = []
        for listed in page.objects:
            name = self._name(listed.key, prefix)
            if listed.key != prefix.key and not is_ours(name) and _is_name(name, prefix):
                wanted.append(listed)
        for at, one in await self.dated(prefix.bucket, wanted):
            name = self._name(one.key, prefix)
            names.add(name)
            found.append(self.entry(name, at, one))
        for below in page.prefixes:
            name = self._name(below, prefix).removesuffix("/")
            if not _is_name(name, prefix):
                continue
            if name in names:
                log.warning("%s is a file and has files below it, which cannot be shown", below[:-1])
                continue
            names.add(name)
            found.append(Entry(name, Kind.DIRECTORY))
        return found

    def tree(self, prefix: Key, seen: set[str], dated: Sequence[tuple[Key, Found]]) -> Sequence[tuple[str, Entry]]:
        """(Path of its directory below ``prefix``, entry), with the directories above what was not ``seen`` yet."""
        out: list[tuple[str, Entry]] = []
        for at, one in dated:
            inner = self._name(one.key, prefix)
            path = inner.removesuffix("/")
            if not all(_is_name(part, prefix) for part in path.split("/")) or is_ours(basename(path)):
                continue
            for above in levels(path if inner.endswith("/") else parent(path)):
                if above not in seen:
                    seen.add(above)
                    out.append((parent(above), Entry(basename(above), Kind.DIRECTORY)))
            if not inner.endswith("/"):
                out.append((parent(path), self.entry(basename(path), at, one)))
        return out


K = TypeVar("K")
V = TypeVar("V")


@final
class Recent(OrderedDict[K, V]):
    """The last so many."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._bound:
            self.popitem(last=False)


async def each(do: Callable[[T], Awaitable[None]], what: Sequence[T]) -> None:
    """Many at once; the first error ends the rest and is raised."""
    if not what:
        return
    queue = iter(what)
    failed: list[StorageError] = []

    async def work(scope: trio.CancelScope) -> None:
        for one in queue:
            try:
                await do(one)
            except StorageError as problem:
                failed.append(problem)
                scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(AT_ONCE, len(what))):
            nursery.start_soon(work, nursery.cancel_scope)
    if failed:
        raise failed[0]


def levels(path: str) -> list[str]:
    """A path's directories from the top, and itself."""
    parts = path.split("/") if path else []
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _is_name(name: str, prefix: Key) -> bool:
    if name not in ("", ".", "..") and "\0" not in name and "/" not in name:
        return True
    log.warning("below %s/%s is a key that is no path (%r in it); it is not shown", prefix.bucket, prefix.key, name)
    return False

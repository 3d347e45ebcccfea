"""From a user's words to a place: an open remote, and what is there: a directory, a file, or nothing yet.

Used by every file command. A remote is rooted at the deepest directory of the words that exists, so that making
what is missing is the same everywhere; two places on one storage share one remote, so that the storage itself can
copy and rename between them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast, final

import trio

from ..errors import Denied, Exists, NotDirectory, NotFound, Refused, StorageError, Unsupported
from ..remotes.conf import Config, Located, open_located
from ..remotes.limits import LimitedRemote, Limits
from ..remotes.paths import basename, join, parent
from ..remotes.protocol import Entry, Kind, Remote


@final
@dataclass(slots=True)
class Place:
    """A directory, file or free name on an open remote."""

    remote: Remote
    label: str
    """As the user named it, without secrets."""
    prefix: str = ""
    """Where on the remote."""
    entry: Entry | None = None
    """What is there; None if nothing is."""
    made: set[str] = field(default_factory=set, repr=False)
    """Directories of the remote that are known to exist."""
    foundation: Place | None = field(default=None, repr=False)
    """What the remote itself stands on, where that is not there yet."""
    making: trio.Lock = field(default_factory=trio.Lock, repr=False)
    """Held while directories are made: two tasks that make the same one would be in each other's way."""

    @property
    def is_file(self) -> bool:
        return self.entry is not None and self.entry.kind is not Kind.DIRECTORY

    @property
    def is_directory(self) -> bool:
        return self.entry is not None and self.entry.kind is Kind.DIRECTORY

    def path(self, relative: str) -> str:
        """A path below this place as the remote knows it."""
        if not relative:
            return self.prefix
        return join(self.prefix, relative)

    def beside(self) -> Place:
        """The directory that a file lies in."""
        return replace(self, prefix=parent(self.prefix), entry=Entry("", Kind.DIRECTORY))

    def require_directory(self) -> Place:
        """This place, if it is a directory; raises what it is instead."""
        if self.entry is None:
            raise NotFound(self.prefix, "directory not found")
        if self.is_file:
            raise NotDirectory(self.prefix)
        return self

    async def ensure(self, directory: str) -> None:
        """Make a directory below this place, and those it lies in, where they are missing."""
        path = self.path(directory)
        if path and path not in self.made:
            async with self.making:
                if self.foundation is not None:
                    await self.foundation.ensure("")
                await self._make(path)

    async def _make(self, path: str) -> None:
        if not path or path in self.made:
            return
        try:
            await self.remote.mkdir(path)
        except Exists:
            if (await self.remote.stat(path)).kind is not Kind.DIRECTORY:
                raise NotDirectory(path) from None
        except NotFound:
            if not parent(path):
                raise
            await self._make(parent(path))
            await self.remote.mkdir(path)
        self.made.add(path)


@final
class Places:
    """Opens places, and closes their remotes in the end."""

    def __init__(self, config: Config, limits: Limits | None = None, options: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._limits = limits or Limits()
        self._held = AsyncExitStack()

    async def one(self, words: str, *, prefer_file: bool = False) -> Place:
        """The place that ``words`` mean. No error if nothing is there yet.

        ``prefer_file`` says that a file is likely: it saves a request.
        """
        located = self._locate(words)
        return await self._find(located, self._config.label(words), prefer_file=prefer_file)

    async def two(self, source: str, target: str) -> tuple[Place, Place]:
        """Two places; on one remote where they are on the same storage."""
        a, b = self._locate(source), self._locate(target)
        first, second = self._config.label(source), self._config.label(target)
        if replace(a, root="") == replace(b, root="") and (common := common_root(a.root, b.root)) is not None:
            together = await self._common(replace(a, root=common), a, b, first, second)
            if together is not None:
                return together
        return await self._find(a, first), await self._find(b, second)

    async def beside(self, place: Place, words_of_place: str, words: str) -> Place | None:
        """Another place on the same remote as ``place``, so that renaming reaches it; None if it is elsewhere."""
        a, b = self._locate(words_of_place), self._locate(words)
        if replace(a, root="") != replace(b, root=""):
            return None
        root = a.root.rstrip("/")
        base = root[: len(root) - len(place.prefix)].rstrip("/") if place.prefix else root
        inside = _below(b.root, base)
        if inside is None:
            return None
        return Place(place.remote, self._config.label(words), inside, await _entry(place.remote, inside))

    async def aclose(self) -> None:
        await self._held.aclose()

    def _locate(self, words: str) -> Located:
        """Where it is; folders of this machine by their absolute path, so that they can be compared."""
        located = self._config.locate(words)
        if located.kind == "local":
            slash = "/" if located.root.endswith("/") else ""
            root = os.path.abspath(os.path.expanduser(located.root or ".")).rstrip("/")
            located = replace(located, root=root + slash or "/")
        return located

    async def _open(self, located: Located) -> Remote:
        remote = open_located(located)
        self._held.push_async_callback(remote.aclose)
        return LimitedRemote(remote, self._limits) if self._limits else remote

    async def _common(self, located: Located, a: Located, b: Located, *labels: str) -> tuple[Place, Place] | None:
        try:
            remote = await self._open(located)
        except Refused:
            return None  # storage that wants a bucket named; what is wrong with the words is told for each place
        try:
            there = (await remote.stat("")).kind is Kind.DIRECTORY
        except (NotFound, NotDirectory, Denied, Unsupported) as refusal:
            if _is_about_login(refusal):
                raise
            there = False
        # the second: buckets, and no way to look at several at once
        if not there or (not remote.caps.real_directories and not located.root.strip("/")):
            await remote.aclose()
            return None
        places = []
        for one, label in zip((a, b), labels, strict=True):
            inside = _below(one.root, located.root)
            if inside is None:
                return None
            places.append(Place(remote, label, inside, await _entry(remote, inside)))
        return places[0], places[1]

    async def _find(self, located: Located, label: str, *, prefer_file: bool = False) -> Place:
        root = located.root
        if prefer_file and not root.endswith("/") and _cut(root) is not None:
            place = await self._from_above(located, label)
            if place is not None:
                return place
        remote = await self._open(located)
        problem: StorageError = NotFound("", "no part of the path exists")
        try:
            entry = await remote.stat("")
        except (NotFound, NotDirectory, Denied) as refusal:
            if (_cut(root) is None and located.inner is None) or _is_about_login(refusal):
                raise
            problem = refusal
        else:
            sure = not remote.caps.assumes_root or "/" not in root.strip("/")  # a bucket is known to be there
            if entry.kind is Kind.DIRECTORY and (sure or await _holds_something(remote)):
                return Place(remote, label, "", entry)
        await remote.aclose()
        place = await self._from_above(located, label)
        if place is None:
            raise problem
        return place

    async def _from_above(self, located: Located, label: str) -> Place | None:
        """The place as seen from the nearest directory above it that exists."""
        for root, inside in _above(located.root):
            try:
                remote = await self._open(replace(located, root=root))
            except Refused:
                continue  # above a bucket there is nothing
            try:
                if (await remote.stat("")).kind is Kind.DIRECTORY:
                    return Place(remote, label, inside, await _entry(remote, inside))
            except NotFound:
                pass
            except Denied as refusal:  # vsftpd says that of what is not there, too
                if _is_about_login(refusal):
                    raise
            await remote.aclose()  # its connections may be all that the server allows
        if located.inner is not None:
            below = await self._find(located.inner, label)
            if below.entry is None:
                return Place(await self._open(replace(located, root="")), label, root_of(located), foundation=below)
        return None


@asynccontextmanager
async def open_places(config: Config, limits: Limits | None = None) -> AsyncIterator[Places]:
    """Places for as long as the block runs."""
    places = Places(config, limits)
    try:
        yield places
    finally:
        await places.aclose()


def common_root(a: str, b: str) -> str | None:
    """The deepest directory that holds both paths; None if one is absolute and the other is not."""
    if a.startswith("/") != b.startswith("/") or a.startswith("~") or b.startswith("~"):
        return None if a != b else a
    left, right = [p for p in a.split("/") if p], [p for p in b.split("/") if p]
    if ".." in left or ".." in right:
        return None
    shared: list[str] = []
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        shared.append(one)
    root = "/".join(p for p in shared if p != ".")
    return "/" + root if a.startswith("/") else root


def _below(path: str, root: str) -> str | None:
    """``path`` relative to ``root``, or None if it is not below it."""
    parts = [p for p in path.split("/") if p and p != "."]
    base = [p for p in root.split("/") if p and p != "."]
    if path.startswith("/") != root.startswith("/") or parts[: len(base)] != base:
        return None
    return "/".join(parts[len(base) :])


def _above(root: str) -> Iterator[tuple[str, str]]:
    """Directories above a root, each with the rest of the path: the nearest, the highest, then those between."""
    found: list[tuple[str, str]] = []
    inside = ""
    while (cut := _cut(root)) is not None:
        root, name = cut
        inside = join(name, inside) if inside else name
        found.append((root, inside))
    yield from (*found[:1], *found[-1:][: len(found) - 1], *found[1:-1])


def root_of(located: Located) -> str:
    """The path that words name on a remote which has no other roots."""
    return "/".join(part for part in located.root.split("/") if part and part != ".")


def _is_about_login(problem: StorageError) -> bool:
    """Asking for another directory would be another failed login."""
    return isinstance(problem, Denied) and not problem.said.startswith("550")


def _cut(root: str) -> tuple[str, str] | None:
    """A root without its last part, and that part; None where nothing is above it that words can name."""
    stripped = root.rstrip("/")
    name = basename(stripped)
    if not stripped or name in (".", "..", "~"):
        return None
    above = stripped[: len(stripped) - len(name)]
    return (above if above == "/" else above.rstrip("/")), name


async def _holds_something(remote: Remote) -> bool:
    async with aclosing(cast(AsyncGenerator[Entry, None], remote.list(""))) as listing:
        async for _ in listing:
            return True
    return False


async def _entry(remote: Remote, path: str) -> Entry | None:
    try:
        return await remote.stat(path)
    except (NotFound, NotDirectory):
        return None

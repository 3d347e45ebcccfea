"""An object store as a remote: directories inferred from keys, a file's time in its metadata.

A directory exists if a key lies below it, if it is marked (an object ``directory/``, with ``directory_markers``), or
if it was made, or emptied, through this remote: such ones are remembered until the process ends, so that
programs find what they have just made. What is known to exist is not asked for again before an upload.

A listing does not carry metadata, so each listed object is asked for its time (many at once, and once for each
version); with ``use_server_modtime`` the time is when it was stored, and listing is one request a page. Which
*version* a file is decides its etag alone. A key that is no path ("a//b", "../x") is passed over, with a warning.
"""

from __future__ import annotations

import logging
import mimetypes
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeVar, final

import trio

from ...errors import (
    Corrupt,
    Exists,
    InvalidName,
    IsDirectory,
    NameTooLong,
    NotDirectory,
    NotEmpty,
    NotFound,
    Stale,
    StorageError,
    TooLarge,
    Unsupported,
)
from ..paths import basename, check_path, is_below, join, parent
from ..protocol import (
    ABSENT,
    Absent,
    Capabilities,
    Entry,
    Expect,
    Kind,
    Remote,
    RenameScope,
    Source,
    Span,
    Usage,
    Version,
)
from . import raw_names
from .moving import move_all
from .shown import REMEMBERED, Recent, Shown, levels
from .store import MTIME, NOTHING, Condition, Found, Key, Page, Store
from .times import SECOND, written

T = TypeVar("T")
log = logging.getLogger(__name__)
JUST_NOW = 5.0
UNENDING = 1 << 53
MARKER_TYPE = "application/x-directory"


@final
class Objects(Remote):
    """An object store as a remote; see the module."""

    def __init__(self, store: Store, root: str, *, markers: bool = False, server_times: bool = False) -> None:
        self._store = store
        self._root = root.strip("/")
        check_path(self._root)
        self._markers = markers and store.facts.markers
        self._server_times = server_times
        self._shown = Shown(store, server_times=server_times)
        self._answered = Recent[Key, tuple[str, float]](1000)
        """What the store answered as hash of what was stored just now: asked for once, to compare."""
        self._made: set[str] = set()
        self._known = Recent[str, None](REMEMBERED)

    def __repr__(self) -> str:
        return f"<Objects {self.identity}>"

    @property
    def identity(self) -> str:
        return f"{self._store.identity}/{self._root}"

    @property
    def caps(self) -> Capabilities:
        facts = self._store.facts
        return Capabilities(
            rename=RenameScope.TREE,
            rename_replaces=True,
            set_mtime=facts.replaces_metadata and not self._server_times,
            mtime_resolution_ns=SECOND if self._server_times else 1,
            atomic_put=True,
            conditional_put=facts.conditional_put,
            real_directories=self._markers,
            assumes_root=True,
            tags=True,
            hashes=facts.hashes,
            copy=True,
            list_tree=True,
            public_link=facts.links,
            parallelism=16,
            max_size=facts.max_size,
        )

    # looking

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        at = self._at(directory)
        if not at.bucket:
            for name, made in await self._ask(directory, self._store.buckets):
                yield Entry(name, Kind.DIRECTORY, 0, made, SECOND)
            return
        prefix = _prefix(at)
        names: set[str] = set()
        exists, more = False, ""
        while True:
            page = await self._page(directory, prefix, delimited=True, more=more)
            exists = exists or bool(page.objects or page.prefixes)
            for entry in await self._shown.entries(prefix, page, names):
                yield entry
            if not (more := page.more):
                break
        for path in sorted(self._made):
            if parent(path) == directory and path and (name := basename(path)) not in names:
                yield Entry(name, Kind.DIRECTORY)
                exists = True
        if exists:
            self._known[directory] = None
        elif directory not in self._made and at.key:
            if directory:
                await self._not_there(directory, NotDirectory)
            elif await self._is_file(at):
                raise NotDirectory(directory, "the root is a file; use the directory that it is in")

    async def stat(self, path: str) -> Entry:
        at = self._at(path)
        name = basename(path)
        if not at.key:
            if at.bucket:
                await self._page(path, at, delimited=False, limit=1)
            else:
                await self._ask(path, self._store.buckets)
            return Entry(name, Kind.DIRECTORY)
        if not path:
            if not (await self._below(path)) and await self._is_file(at):
                raise NotDirectory(path, "the root is a file; use the directory that it is in")
            return Entry(name, Kind.DIRECTORY)
        try:
            return self._shown.entry(name, at, await self._head(path))
        except NotFound:
            if not await self._is_directory(path):
                raise
            return Entry(name, Kind.DIRECTORY)

    async def list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        if not self._at(directory).bucket:
            for name, made in await self._ask(directory, self._store.buckets):
                yield directory, Entry(name, Kind.DIRECTORY, 0, made, SECOND)
                async with aclosing(self.list_tree(name)) as below:
                    async for found in below:
                        yield found
            return
        prefix = _prefix(self._at(directory))
        seen: set[str] = {""}
        more = ""
        while True:
            page = await self._page(directory, prefix, delimited=False, more=more)
            objects = [f for f in page.objects if f.key != prefix.key]
            if page.objects:
                self._known[directory] = None
            elif not seen - {""} and not page.more:
                await self._need_directory(directory)
            for inner, entry in self._shown.tree(prefix, seen, await self._shown.dated(prefix.bucket, objects)):
                yield join(directory, inner) if inner else directory, entry
            if not (more := page.more):
                break
        for path in sorted(self._made):
            inner = path[len(directory) + 1 :] if directory else path
            if path != directory and is_below(path, directory) and inner not in seen:
                for above in levels(inner):
                    if above not in seen:
                        seen.add(above)
                        up = parent(above)
                        yield join(directory, up) if up else directory, Entry(basename(above), Kind.DIRECTORY)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        at = self._file(path)
        if span.start >= span.stop:
            entry = await self.stat(path)
            if entry.kind is Kind.DIRECTORY:
                raise IsDirectory(path)
            yield _nothing()
            return
        tag = version.tag if version else ""
        stop = None if span.stop >= UNENDING else span.stop
        got = self._store.get(at, span.start, stop, tag)
        try:
            with _about(path):
                found, pieces = await got.__aenter__()
        except NotFound:
            await self._not_there(path, IsDirectory)
            raise
        try:
            shown = self._shown.version(at, found)
            if version is not None and not tag and not shown.matches(version):
                raise Stale(path, "the file has changed")
            if version is not None and shown.size > version.size:  # the same tag: one of the two is not true
                raise Corrupt(path, f"the storage has {shown.size} bytes of it, and said that it has {version.size}")
            yield self._told(path, pieces)
        finally:
            await pieces.aclose()
            await got.__aexit__(None, None, None)

    async def usage(self) -> Usage:
        raise Unsupported("", "the storage does not say how much room there is")

    async def hash(self, path: str, algorithm: str) -> str:
        md5, until = self._answered.pop(self._at(path), ("", 0.0))
        if algorithm == "md5" and md5 and trio.current_time() < until:
            return md5
        found = await self._file_head(path)
        if algorithm == "md5" and found.md5:
            return found.md5
        raise Unsupported(path, f"no {algorithm} of this file is kept here")

    async def public_link(self, path: str, lifetime: float | None) -> str:
        if not self._store.facts.links:
            raise Unsupported(path, "the storage makes no public links")
        at = self._file(path)
        await self._file_head(path)
        return await self._ask(path, lambda: self._store.link(at, 7 * 86_400.0 if lifetime is None else lifetime))

    # changing

    def check_name(self, path: str) -> None:
        self._new(path)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        at = self._new(path)
        limit = self._store.facts.max_size
        if limit is not None and source.size > limit:
            raise TooLarge(path, f"the storage takes files of up to {limit} bytes")
        await self._need_directory(parent(path))
        condition: Condition = None
        match expect:
            case Version():
                condition = expect.tag or await self._expected(path, expect)
            case Absent():
                condition = ABSENT
        if not isinstance(condition, str) and await self._is_directory(path):
            raise IsDirectory(path)
        moment = time.time_ns() if mtime_ns is None else mtime_ns
        metadata = {MTIME: written(moment, self._store.facts.time_form)}
        kind = mimetypes.guess_type(basename(path))[0] or "application/octet-stream"
        found = await self._ask(path, lambda: self._store.put(at, source, metadata, kind, condition))
        if found.size != source.size:
            raise Corrupt(path, f"{found.size} bytes are stored of {source.size}")
        self._is_there(parent(path))
        self._answered[at] = (found.md5, trio.current_time() + JUST_NOW)
        if self._server_times or not found.tag:
            return self._shown.entry(basename(path), at, await self._head(path))
        return self._shown.entry(basename(path), at, replace(found, metadata=metadata))

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        found = await self._file_head(source)
        at = self._file(target)
        await self._need_directory(parent(target))
        match expect:
            case Version():
                await self._expected(target, expect)
            case Absent() if await self._is_file(at):
                raise Stale(target, "the name is taken")
        if await self._is_directory(target):
            raise IsDirectory(target)
        tag = await self._ask(source, lambda: self._store.copy(self._at(source), at, found, None))
        self._is_there(parent(target))
        return self._shown.entry(basename(target), at, replace(found, tag=tag) if tag else await self._head(target))

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        if not self.caps.set_mtime:
            raise Unsupported(path, "the storage cannot change an object's time")
        found, at = await self._file_head(path), self._at(path)
        metadata = dict(found.metadata or NOTHING) | {MTIME: written(mtime_ns, self._store.facts.time_form)}
        tag = await self._ask(path, lambda: self._store.copy(at, at, found, metadata))
        changed = replace(found, tag=tag, metadata=metadata) if tag else await self._head(path)
        return self._shown.entry(basename(path), at, changed)

    async def remove(self, path: str) -> None:
        at = self._file(path)
        await self._file_head(path)
        await self._ask(path, lambda: self._store.delete(at))
        self._remember(parent(path))

    async def mkdir(self, path: str) -> None:
        at = self._at(path)
        if not path:
            raise Exists(path)
        if not at.key:
            if any(name == at.bucket for name, _ in await self._ask(path, self._store.buckets)):
                raise Exists(path)
            await self._ask(path, lambda: self._store.make_bucket(at.bucket))
            return
        await self._need_directory(parent(path))
        if await self._is_directory(path) or await self._is_file(at):
            raise Exists(path)
        if self._markers:
            await self._mark(path)
            self._is_there(path)
        else:
            self._remember(path)

    async def rmdir(self, path: str) -> None:
        at = self._at(path)
        if not path:
            raise InvalidName(path, "the root itself cannot be removed")
        if not at.key:
            await self._ask(path, lambda: self._store.remove_bucket(at.bucket))
            return
        prefix = _prefix(at)
        if any(parent(other) == path for other in self._made):
            raise NotEmpty(path)
        page = await self._page(path, prefix, delimited=True, limit=2)
        if page.prefixes or any(found.key != prefix.key for found in page.objects):
            raise NotEmpty(path)
        if page.objects:
            await self._ask(path, lambda: self._store.delete(prefix))
        elif path not in self._made:
            await self._not_there(path, NotDirectory)
        self._forget(path)
        self._remember(parent(path))

    async def rename(self, source: str, target: str) -> None:
        moving = await self.stat(source)
        if not source or not target:
            raise InvalidName(source, "the root itself cannot be moved or replaced")
        if source == target:
            return
        self._file(source), self._file(target)
        if is_below(target, source):
            raise InvalidName(target, "a directory cannot be moved into itself")
        await self._need_directory(parent(target))
        if moving.kind is Kind.DIRECTORY:
            await self._rename_tree(source, target)
            return
        if await self._is_directory(target):
            raise IsDirectory(target)
        found = await self._head(source)
        await self._ask(source, lambda: self._store.copy(self._at(source), self._at(target), found, None))
        await self._ask(source, lambda: self._store.delete(self._at(source)))
        self._is_there(parent(target))
        self._remember(parent(source))

    async def aclose(self) -> None:
        await self._store.aclose()

    # renaming a directory

    async def _rename_tree(self, source: str, target: str) -> None:
        """Copy all of it, then delete the originals: if something fails before, they are untouched."""
        if await self._is_file(self._at(target)):
            raise NotDirectory(target)
        if await self._is_directory(target):
            await self.rmdir(target)
        with _about(source):
            found = await move_all(self._store, _prefix(self._at(source)), _prefix(self._at(target)))
        for path in [path for path in self._made if is_below(path, source)]:
            self._forget(path)
            self._made.add(target + path[len(source) :])
        for path in [path for path in self._known if is_below(path, source)]:
            self._known.pop(path, None)
        self._is_there(target) if found else self._made.add(target)
        self._remember(parent(source))

    # what is there

    def _at(self, path: str) -> Key:
        check_path(path)
        whole = join(self._root, path) if path else self._root
        if self._store.facts.raw_names:
            whole = raw_names.written(whole)
        try:
            whole.encode()
        except UnicodeEncodeError:
            raise InvalidName(path, "the storage takes names in UTF-8 only") from None
        bucket, _, key = whole.partition("/")
        return Key(bucket, key)

    def _file(self, path: str) -> Key:
        """Where a file is, or may be put."""
        at = self._at(path)
        if not path:
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")
        if not at.key:
            raise IsDirectory(path, "a bucket; files are in buckets")
        return at

    def _new(self, path: str) -> Key:
        """Where a file is to be put."""
        at = self._file(path)
        try:
            key = self._store.spelled(at)
        except InvalidName as problem:
            raise InvalidName(path, problem.said) from None
        if len(key.encode()) > self._store.facts.longest_key:
            raise NameTooLong(path, f"the storage takes {self._store.facts.longest_key} bytes of path")
        return at

    async def _head(self, path: str) -> Found:
        return await self._ask(path, lambda: self._store.head(self._at(path)))

    async def _file_head(self, path: str) -> Found:
        self._file(path)
        try:
            return await self._head(path)
        except NotFound:
            await self._not_there(path, IsDirectory)
            raise

    async def _is_file(self, at: Key) -> bool:
        try:
            await self._store.head(at)
        except NotFound:
            return False
        return True

    async def _below(self, path: str) -> bool:
        """Whether any key is below a directory; also that its bucket exists."""
        page = await self._page(path, _prefix(self._at(path)), delimited=False, limit=1)
        if page.objects or page.prefixes:
            self._known[path] = None
            return True
        return False

    async def _is_directory(self, path: str) -> bool:
        return path in self._made or await self._below(path)

    async def _need_directory(self, path: str) -> None:
        """The directory must exist, as far as we know."""
        at = self._at(path)
        if not path or path in self._made or path in self._known or (not at.key and at.bucket):
            return
        if not await self._below(path):
            await self._not_there(path, NotDirectory)

    async def _not_there(self, path: str, otherwise: type[StorageError]) -> None:
        """Raises: ``otherwise`` if the name is there as the other kind (a file, a directory), else NotFound."""
        is_other = self._is_file(self._at(path)) if otherwise is NotDirectory else self._is_directory(path)
        raise (otherwise if await is_other else NotFound)(path)

    async def _expected(self, path: str, expect: Version) -> str:
        """The tag of what is there, if it is what was expected."""
        try:
            found = await self._head(path)
        except NotFound:
            raise Stale(path, "the file is gone") from None
        if not self._shown.version(self._at(path), found).matches(expect):
            raise Stale(path, "the file has changed")
        return found.tag

    async def _mark(self, path: str) -> None:
        marker = _prefix(self._at(path))
        metadata = {MTIME: written(time.time_ns(), self._store.facts.time_form)}
        await self._ask(path, lambda: self._store.put(marker, _Empty(), metadata, MARKER_TYPE, None))

    def _is_there(self, path: str) -> None:
        """Something was stored in it."""
        self._made.discard(path)
        self._known[path] = None

    def _remember(self, path: str) -> None:
        """It may have nothing in it, and exists all the same."""
        if path and self._at(path).key:
            self._made.add(path)

    def _forget(self, path: str) -> None:
        self._made.discard(path)
        self._known.pop(path, None)

    # asking

    async def _page(self, path: str, at: Key, *, delimited: bool, more: str = "", limit: int | None = None) -> Page:
        return await self._ask(path, lambda: self._store.page(at, delimited=delimited, more=more, limit=limit))

    async def _ask(self, path: str, ask: Callable[[], Awaitable[T]]) -> T:
        with _about(path):
            return await ask()

    async def _told(self, path: str, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        with _about(path):
            async for piece in pieces:
                yield piece


class _about:
    """Errors of the store get the path that they are about."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, StorageError) and not problem.path:
            raise type(problem)(self._path, problem.said) from problem


@final
class _Empty:
    """The content of a marker."""

    size = 0

    def pread(self, length: int, offset: int) -> bytes:
        return b""


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _prefix(at: Key) -> Key:
    """What the keys below a directory begin with."""
    return Key(at.bucket, at.key + "/" if at.key else "")

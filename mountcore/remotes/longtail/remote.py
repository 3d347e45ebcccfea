"""A service of OpenDAL's as a remote. What it can do is what OpenDAL reports of it.

Blocking calls run in threads (OpenDAL releases the GIL), each bounded by OpenDAL's time-out layer, and are not
abandoned when cancelled: an upload that nobody waits for could still be published. A file is published by `close`; an
upload that fails lets go of it without, which gives it up. Where a service takes a file in one piece only, the file is
in memory while it is stored, so its size is bounded.

``NotFound`` comes only from OpenDAL's own kind of that name: a service's 404, or its word for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar, final

import opendal
import trio
from opendal import exceptions as failures
from opendal.layers import TimeoutLayer

from ...errors import (
    Corrupt,
    CrossDevice,
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    NoSpace,
    NotDirectory,
    NotEmpty,
    NotFound,
    Quota,
    Refused,
    Stale,
    StorageError,
    TimedOut,
    TooLarge,
    Unreachable,
    Unsupported,
)
from ..expecting import check_expected
from ..guard import Guard
from ..partials import is_ours
from ..paths import basename, check_path, parent
from ..protocol import (
    Absent,
    Anything,
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
from ..sources import PIECE, pieces_of
from ..words import Words
from .options import Service, service_of

T = TypeVar("T")
THREADS = 16
SECOND = 1_000_000_000
_NOT_ATOMIC = frozenset({"fs", "webdav", "webhdfs", "hdfs-native", "ftp", "azfile", "alluxio"})
"""A reader may see a file that is being stored. OpenDAL does not report it: these write in place."""

_ROUNDED_UP = frozenset({"swift"})
"""Listings say parts of a second, and what is asked about one file is the second after."""


def _opener(kind: str) -> Callable[[dict[str, str], str], Remote]:
    def open(options: dict[str, str], root: str) -> Remote:
        words = Words(kind, options)
        timeout = words.duration("timeout", 60.0)
        largest = words.size("largest_upload", 0, 1 << 40, 256 << 20)
        return Guard(LongTail(kind, service_of(kind, words, root), timeout, largest))

    return open


open_b2, open_dropbox, open_drive, open_onedrive = map(_opener, ("b2", "dropbox", "drive", "onedrive"))
open_swift, open_yandex, open_koofr, open_azurefiles = map(_opener, ("swift", "yandex", "koofr", "azurefiles"))
open_seafile, open_webhdfs, open_oss, open_cos = map(_opener, ("seafile", "webhdfs", "oss", "cos"))
open_obs, open_opendal = map(_opener, ("obs", "opendal"))


@final
class LongTail(Remote):
    """A service; see the module."""

    def __init__(self, kind: str, service: Service, timeout: float, largest: int) -> None:
        check_path(service.root.strip("/"))
        self._kind = kind
        self._service = service
        root = "/" + service.root.strip("/")
        try:
            if service.address:
                operator = opendal.Operator.from_uri(service.address, **service.config)
            else:
                operator = opendal.Operator(service.scheme, **{**service.config, "root": root})
            self._patience = TimeoutLayer(timeout=timeout, io_timeout=timeout)
            self._operator = operator.layer(self._patience)
        except (*_KINDS, TypeError, ValueError) as problem:
            raise Refused(f"{kind}: {service.scheme}: {_first_line(problem)}") from None
        self._can = self._operator.capability()
        self._largest = largest
        self._limit = trio.CapacityLimiter(THREADS)

    def __repr__(self) -> str:
        return f"<LongTail {self.identity}>"

    @property
    def identity(self) -> str:
        scheme = self._kind if self._kind != "opendal" else f"opendal+{self._service.scheme}"
        return f"{scheme}://{self._service.place}/{self._service.root.strip('/')}"

    @property
    def caps(self) -> Capabilities:
        can = self._can
        moves = can.rename or (can.copy and can.delete)
        limits = [size for size in (can.write_total_max_size, None if can.write_can_multi else self._largest) if size]
        return Capabilities(
            rename=RenameScope.FILE if moves else RenameScope.NONE,
            rename_replaces=not can.rename and moves,
            atomic_put=self._service.scheme not in _NOT_ATOMIC,
            conditional_put=can.write_with_if_not_exists and can.write_with_if_match,
            real_directories=can.create_dir,
            tags=can.read_with_if_match or can.write_with_if_match or not can.rename,  # a copy has a time of its own
            assumes_root=True,
            copy=can.copy,
            public_link=False,
            parallelism=THREADS // 2,
            max_size=min(limits, default=None),
        )

    def _checked(self, path: str) -> str:
        """OpenDAL drops blanks around a path, and some services what breaks lines: that would be another file."""
        check_path(path)
        if not path.isprintable() and any("\udc80" <= char <= "\udcff" for char in path):
            raise InvalidName(path, "OpenDAL takes names in UTF-8 only")
        if path != path.strip() or "\r" in path or "\n" in path:
            raise InvalidName(path, "OpenDAL cannot store names with line breaks, or with blanks around the path")
        return path

    def check_name(self, path: str) -> None:
        self._checked(path)

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        path = self._directory(directory)
        # in one go: OpenDAL's listings end the process if another thread goes on with them
        entries = await self._run(directory, _listed, self._operator, path)
        for name, metadata in entries:
            plain = basename(name.rstrip("/"))
            if name not in (path, "", "/") and not is_ours(plain):
                yield self._entry(plain, metadata, name.endswith("/"))
        if not entries and directory:
            await self._need_directory(directory)

    async def stat(self, path: str) -> Entry:
        self._checked(path)
        if not path:
            if not await self._run(path, _listed, self._operator, "/", 1):
                await self._run(path, self._check_root)
            return Entry("", Kind.DIRECTORY)
        try:
            metadata = await self._run(path, self._operator.stat, path)
            if not metadata.is_dir:
                return self._entry(basename(path), metadata, False)
        except IsDirectory:
            pass
        except NotFound:
            if not await self._is_directory(path):
                raise
        return Entry(basename(path), Kind.DIRECTORY)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        found = await self.stat(path)
        if found.kind is Kind.DIRECTORY:
            raise IsDirectory(path)
        if version is not None and not found.version.matches(version):
            raise Stale(path, "the file has changed")
        stop = min(span.stop, found.size)
        if span.start >= stop:
            yield _nothing()
            return
        options: dict[str, Any] = {}
        if found.tag and self._can.read_with_if_match:
            options["if_match"] = f'"{found.tag}"'
        file = await self._run(path, partial(self._operator.open, path, "rb", **options))
        try:
            if span.start:
                await self._run(path, file.seek, span.start)
            yield self._pieces(path, file, stop - span.start)
        finally:
            with trio.CancelScope(shield=True):
                await self._run(path, file.close)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        self._file(path)
        limit = self.caps.max_size
        if limit is not None and source.size > limit:
            hint = "" if self._can.write_can_multi else "; largest_upload bounds what is held in memory"
            raise TooLarge(path, f"the service takes a file in one piece, of up to {limit} bytes{hint}")
        if not source.size and not self._can.write_can_empty and self._service.scheme not in _NOT_ATOMIC:
            raise Unsupported(path, "the service cannot store an empty file through OpenDAL")
        await self._need_directory(parent(path))
        options = await self._expected(path, expect)
        if self._can.write_can_multi:
            options["chunk"] = max(PIECE * 8, self._can.write_multi_min_size or 0, -(-source.size // 10_000))
        await self._run(path, _store, self._operator, path, source, options, self._can.write_can_multi)
        stored = await self.stat(path)
        if stored.size != source.size:
            raise Corrupt(path, f"{stored.size} bytes are stored of {source.size}")
        return stored

    async def remove(self, path: str) -> None:
        self._file(path)
        if (await self.stat(path)).kind is Kind.DIRECTORY:
            raise IsDirectory(path)
        await self._run(path, self._operator.delete, path)

    async def mkdir(self, path: str) -> None:
        self._checked(path)
        if not path:
            raise Exists(path)
        await self._need_directory(parent(path))
        try:
            await self.stat(path)
        except NotFound:
            await self._run(path, self._operator.create_dir, path + "/")
        else:
            raise Exists(path)

    async def rmdir(self, path: str) -> None:
        self._file(path)
        if (await self.stat(path)).kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
        async for _ in self.list(path):
            raise NotEmpty(path)
        await self._run(path, self._operator.delete, path + "/")

    async def rename(self, source: str, target: str) -> None:
        moving = await self.stat(source)
        self._file(source)
        self._file(target)
        if source == target:
            return
        if target.startswith(source + "/"):
            raise InvalidName(target, "a directory cannot be moved into itself")
        if moving.kind is Kind.DIRECTORY or self.caps.rename is RenameScope.NONE:
            raise CrossDevice(source, "OpenDAL cannot rename this")
        await self._need_directory(parent(target))
        there = await self._there(target)
        if there is not None and there.kind is Kind.DIRECTORY:
            raise IsDirectory(target)
        if self._can.rename:
            if there is not None:
                raise Exists(target)
            await self._run(source, self._operator.rename, source, target)
        else:
            await self._run(source, self._operator.copy, source, target)
            await self._run(source, self._operator.delete, source)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        if not self._can.copy:
            raise Unsupported(target, "OpenDAL cannot copy at this service")
        if (await self.stat(source)).kind is Kind.DIRECTORY:
            raise IsDirectory(source)
        self._file(target)
        await self._need_directory(parent(target))
        await self._expected(target, expect)
        await self._run(source, self._operator.copy, source, target)
        return await self.stat(target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        raise Unsupported(path, "OpenDAL cannot set times")

    async def usage(self) -> Usage:
        raise Unsupported("", "OpenDAL does not say how much room there is")

    async def aclose(self) -> None:
        """OpenDAL lets go of its connections when the operator is forgotten."""

    def _entry(self, name: str, metadata: Any, directory: bool) -> Entry:
        modified = metadata.last_modified if metadata is not None else None
        mtime_ns = None
        if modified is not None:
            whole = math.ceil if self._service.scheme in _ROUNDED_UP else int
            mtime_ns = whole(modified.timestamp()) * SECOND
        if directory:
            return Entry(name, Kind.DIRECTORY, 0, mtime_ns, SECOND)
        tag = str(metadata.etag or "").strip('"')
        return Entry(name, Kind.FILE, int(metadata.content_length), mtime_ns, SECOND, tag)

    def _file(self, path: str) -> None:
        self._checked(path)
        if not path:
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")

    def _directory(self, path: str) -> str:
        return self._checked(path) + "/" if path else "/"

    async def _there(self, path: str) -> Entry | None:
        try:
            return await self.stat(path)
        except NotFound:
            return None

    async def _is_directory(self, path: str) -> bool:
        """Services with marked directories know it by its name, those with inferred ones by what is in it."""
        try:
            metadata = await self._run(path, self._operator.stat, path + "/")
        except (NotFound, NotDirectory):
            return bool(await self._run(path, self._any_below, path))
        return bool(metadata.is_dir)

    def _check_root(self) -> None:
        """Services with inferred directories list nothing below a file, as below any name."""
        above, _, name = self._service.root.strip("/").rpartition("/")
        if not name or self._service.address:
            return
        operator = opendal.Operator(self._service.scheme, **{**self._service.config, "root": f"/{above}"})
        with suppress(failures.NotFound, failures.IsADirectory, failures.NotADirectory):
            if not operator.layer(self._patience).stat(name).is_dir:
                raise NotDirectory("", "the root is a file; use the directory that it is in")

    def _any_below(self, path: str) -> bool:
        try:
            return any(found != path + "/" for found, _ in _listed(self._operator, path + "/", 2))
        except failures.NotADirectory:
            return False

    async def _need_directory(self, path: str) -> None:
        if path and (await self.stat(path)).kind is not Kind.DIRECTORY:
            raise NotDirectory(path)

    async def _expected(self, path: str, expect: Expect) -> dict[str, Any]:
        """Options that make the service check ``expect``; else it is checked here."""
        now = await self._there(path)
        check_expected(now, path, expect)
        match expect:
            case Anything():
                return {}
            case Absent():
                return {"if_not_exists": True} if self._can.write_with_if_not_exists else {}
            case Version():
                return {"if_match": f'"{now.tag}"'} if now and now.tag and self._can.write_with_if_match else {}

    async def _pieces(self, path: str, file: Any, left: int) -> AsyncGenerator[bytes, None]:
        while left:
            piece = bytes(await self._run(path, file.read, min(PIECE, left)))
            if not piece:
                raise Corrupt(path, f"the file ended {left} bytes too soon")
            left -= len(piece)
            yield piece

    async def _run(self, path: str, call: Callable[..., T], *args: Any) -> T:
        problem: Exception
        try:
            return await trio.to_thread.run_sync(partial(call, *args), limiter=self._limit)
        except (StorageError, trio.Cancelled):
            raise
        except OSError as broken:
            if isinstance(call, partial) or call is not _store:
                raise _translated(path, self.identity, broken) from broken
            raise  # the source's
        except _KINDS as found:
            problem = found
        raise _translated(path, self.identity, problem) from problem


_KINDS = tuple(
    getattr(failures, name)
    for name in dir(failures)
    if isinstance(getattr(failures, name), type) and issubclass(getattr(failures, name), Exception)
)
_BY_KIND: dict[str, type[StorageError]] = {
    "NotFound": NotFound,
    "AlreadyExists": Exists,
    "IsADirectory": IsDirectory,
    "NotADirectory": NotDirectory,
    "PermissionDenied": Denied,
    "ConditionNotMatch": Stale,
    "Conflict": Stale,
    "Unsupported": Unsupported,
    "RateLimited": Unreachable,
    "IsSameFile": InvalidName,
    "ConfigInvalid": Denied,
}
_BY_STATUS: dict[int, tuple[type[StorageError], str]] = {
    401: (Denied, "the service wants another login; check the token or password"),
    403: (Denied, "the service does not allow it"),
    409: (Stale, ""),
    412: (Stale, ""),
    413: (TooLarge, ""),
    429: (Unreachable, "too many requests"),
    507: (NoSpace, "the storage is full"),
}


def _translated(path: str, identity: str, problem: Exception) -> StorageError:
    """OpenDAL's error as ours: by its kind, then by the status that the service answered."""
    text = str(problem).partition("\n\nBacktrace:")[0]
    said = f"{identity}: {_first_line(problem)}"
    status = int(found[1]) if (found := re.search(r"\bstatus: (\d{3})\b", text)) else 0
    kind = _BY_KIND.get(type(problem).__name__)
    if kind is Exists:
        return Stale(path, said)
    if kind is Denied:
        return Denied(path, f"{said}; check the login and what it may do")
    if kind is not None:
        return kind(path, said)
    if "not a directory" in text.lower():
        return NotDirectory(path, said)
    if "quota" in text.lower():
        return Quota(path, said)
    if status in _BY_STATUS:
        kind, remedy = _BY_STATUS[status]
        return kind(path, f"{said}{'; ' if remedy else ''}{remedy}")
    if "timeout" in text.lower() or "timed out" in text.lower():
        return TimedOut(path, said)
    if "certificate" in text.lower():
        return Denied(path, f"{said}: its certificate is not trusted; add the authority to the system's certificates")
    if 400 <= status < 500:
        return StorageError(path, said)
    return Unreachable(path, said)


def _first_line(problem: Exception) -> str:
    """What failed, with the reason; without the context, which has addresses, and without the stack below it."""
    said, _, reason = str(problem).strip().partition("\n\nBacktrace:")[0].partition("\nSource:\n")
    lines = said.splitlines()
    first = lines[0] if lines else type(problem).__name__
    last = re.sub(r"\S*://\S*", "the service", " ".join(reason.split()))
    if "client error (Connect): " in last:
        return last.partition("client error (Connect): ")[2][:300]
    return f"{first} ({last})"[:300] if last else first[:300]


def _listed(operator: Any, path: str, most: int | None = None) -> list[tuple[str, Any]]:
    listing, found = operator.list(path), []
    try:
        for entry in listing:
            found.append((str(entry.path), entry.metadata))
            if most is not None and len(found) == most:
                break
    finally:
        del listing  # it may end in no other thread, where a traceback that holds it would take it
    return found


def _store(operator: Any, path: str, source: Source, options: dict[str, Any], in_pieces: bool) -> None:
    """Write a file; nothing is published unless all of it was read."""
    if not in_pieces:
        operator.write(path, b"".join(pieces_of(source)), **options)
        return
    file = operator.open(path, "wb", **options)
    try:
        for piece in pieces_of(source):
            file.write(piece)
        file.close()
    finally:
        file = None  # without close: given up. Held by a traceback it would live on


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""

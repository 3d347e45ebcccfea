"""WebDAV as a remote.

A DELETE of a collection takes everything in it, and few servers replace a file in one step; so what is there is
looked at before anything is removed or replaced, and an upload goes to a name of its own first.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import final
from urllib.parse import unquote, urlsplit

import trio

from ...errors import (
    Busy,
    Corrupt,
    Exists,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    Refused,
    Stale,
    StorageError,
    TimedOut,
    Unreachable,
    Unsupported,
)
from ..expecting import check_expected
from ..guard import Guard
from ..objects.http import Response
from ..partials import is_abandoned, is_ours, partial_name
from ..paths import basename, check_lengths, check_path, is_below, join, parent
from ..protocol import (
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
from ..ranges import Download
from ..web import SECOND, Held, SourceBody, Web, tag_of, time_of
from .multistatus import OC, Item, Reader
from .options import WITH_CHECKSUMS, DavOptions, parse

EARLY_CHECK = 4 << 20
"""From this size on, `expect` is looked at before the upload too: it may save the whole transfer."""
CLEANUP = 5.0
CUT_BY_WSGIDAV = frozenset(";?\t\r\n")
"""It decodes a Destination before it takes it apart, so a name with one of these would go where another file is."""
BUSY = 0.1
"""Seconds between two tries to delete what the server still works on."""
_ASKED = (
    '<?xml version="1.0" encoding="utf-8"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop>'
    "<d:resourcetype/><d:getcontentlength/><d:getlastmodified/><d:getetag/>{more}</d:prop></d:propfind>"
)
_QUOTA = "<d:quota-available-bytes/><d:quota-used-bytes/><oc:id/><oc:fileid/>"
_SET_TIME = (
    '<?xml version="1.0" encoding="utf-8"?><d:propertyupdate xmlns:d="DAV:"><d:set><d:prop>'
    "<d:lastmodified>{seconds}</d:lastmodified></d:prop></d:set></d:propertyupdate>"
)


def open(options: dict[str, str], root: str) -> Guard:
    """A WebDAV server as storage; no network yet. Raises :class:`Refused` for options that make no sense."""
    return Guard(WebDav(parse(options), root))


@final
class WebDav(Remote):
    """WebDAV as storage; see the package."""

    def __init__(self, options: DavOptions, root: str = "") -> None:
        relative = posixpath.normpath(root.strip("/") or ".")
        self._root = "" if relative == "." else relative
        if "\0" in root or relative.split("/")[0] == "..":
            raise Refused(f"webdav: {root!r} cannot be a root: it leaves the url, or has a NUL in it")
        self._options = options
        self._web = Web(options.site)
        self._vendor = options.vendor
        self._contacted = trio.Lock()
        self._known = False
        self._cut: frozenset[str] = frozenset()
        """Characters that the server cannot move a file to a name with."""
        self._usage = False
        self._ranges = True
        self._sets_times: bool | None = None
        self._etags: bool | None = None
        """Whether an etag stays with the content when the file is renamed; learnt from uploads."""
        self._abandoned: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<WebDav {self.identity}>"

    @property
    def identity(self) -> str:
        return self._options.identity(self._root)

    @property
    def caps(self) -> Capabilities:
        hashes = frozenset({"md5", "sha1"}) if self._vendor in WITH_CHECKSUMS else frozenset[str]()
        return Capabilities(
            rename=RenameScope.TREE,
            set_mtime=bool(self._sets_times),
            mtime_resolution_ns=SECOND,
            ranged_read=self._ranges,
            tags=bool(self._etags),
            hashes=hashes,
            copy=bool(self._sets_times),
            usage=self._usage,
            parallelism=self._options.site.settings.connections,
        )

    # looking

    def check_name(self, path: str) -> None:
        wire = "/".join(map(self._encoded, check_path(path).split("/")))
        check_lengths(path, wire.encode("utf-8", "surrogateescape"))
        self._movable(path)

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        check_path(directory)
        await self._learn()
        own, now = self._place(self._target(directory)), time.time_ns()
        async with aclosing(self._members(directory)) as items:
            async for item in items:
                place = self._place(item.href)
                if place == own:
                    if not item.collection:
                        raise NotDirectory(directory)
                    continue
                spelled, names = place.rpartition("/")[2], self._options.names
                name = spelled if names is None else names.decode(spelled)
                if place.rpartition("/")[0] != own or not name:
                    continue  # of another directory, or a name that could not be asked for again
                entry = self._entry(name, item)
                if is_ours(name):
                    self._note_abandoned(directory, entry, now)
                else:
                    yield self._untagged(entry)

    async def _members(self, directory: str) -> AsyncGenerator[Item, None]:
        """What the server says about a directory, itself among it."""
        try:
            async with aclosing(self._propfind(directory, "1", directory=True)) as items:
                async for item in items:
                    yield item
        except (NotFound, Unreachable, TimedOut, Corrupt):
            raise
        except StorageError:  # Apache says 400 to a file with a slash behind it
            if (await self._stat(directory)).kind is not Kind.DIRECTORY:
                raise NotDirectory(directory) from None
            raise

    async def stat(self, path: str) -> Entry:
        check_path(path)
        await self._learn()
        return self._untagged(await self._stat(path))

    async def _stat(self, path: str) -> Entry:
        try:
            return await self._look(path)
        except (NotFound, Unreachable, TimedOut, Corrupt, NotDirectory):
            raise
        except StorageError:  # Apache says 400 to what would lie below a file
            if parent(path) and (await self._stat(parent(path))).kind is not Kind.DIRECTORY:
                raise NotDirectory(path, "its directory is a file") from None
            raise

    async def _look(self, path: str) -> Entry:
        async with aclosing(self._propfind(path, "0")) as items:
            async for item in items:
                if item.status == 404:
                    raise NotFound(path)
                entry = self._entry(basename(path), item)
                if not path and entry.kind is not Kind.DIRECTORY:
                    raise NotDirectory(path)
                return entry
        raise NotFound(path)

    async def _find(self, path: str) -> Entry | None:
        try:
            return await self._stat(path)
        except (NotFound, NotDirectory):
            return None

    async def _propfind(
        self, path: str, depth: str, *, directory: bool = False, more: str = ""
    ) -> AsyncGenerator[Item, None]:
        body = Held(_ASKED.format(more=more).encode())
        headers = [("Depth", depth), ("Content-Type", "application/xml; charset=utf-8")]
        async with self._ask("PROPFIND", path, headers, body, directory=directory or not path) as response:
            if response.status != 207:
                raise Unsupported(path, f"{self._options.site.origin} is no WebDAV server: it says {response.status}")
            reader = Reader()
            try:
                async with aclosing(response.pieces()) as pieces:
                    async for piece in pieces:
                        for item in reader.feed(piece):
                            yield item
                for item in reader.feed(b"", last=True):
                    yield item
            except Corrupt as problem:
                raise Corrupt(path, problem.said) from None

    async def _learn(self) -> None:
        """The first contact: what the server is."""
        if self._known:
            return
        async with self._contacted:
            if self._known:
                return
            body = Held(_ASKED.format(more=_QUOTA).encode())
            headers = [("Depth", "0"), ("Content-Type", "application/xml; charset=utf-8")]
            accept = frozenset({400}) if self._root else frozenset[int]()
            async with self._ask("PROPFIND", "", headers, body, accept=accept, directory=True) as response:
                server = response.headers.get("server", "")
                if response.status == 400:  # Apache, to a file with a slash behind it
                    raise NotDirectory("", "the root is a file; use the directory that it is in")
                if response.status != 207:
                    raise Unsupported("", f"{self._options.site.origin} is no WebDAV server: it says {response.status}")
                items = _all(await response.content())
            found = items[0].properties if items else {}
            self._cut = CUT_BY_WSGIDAV if server.startswith("WsgiDAV/") else frozenset()
            self._usage = "quota-available-bytes" in found or "quota-used-bytes" in found
            if not self._vendor:
                if server.startswith("rclone/"):
                    self._vendor = "rclone"
                elif f"{OC} fileid" in found or f"{OC} id" in found:
                    self._vendor = "nextcloud"
                else:
                    self._vendor = "other"
            if self._vendor != "other":
                self._sets_times = True
            self._known = True

    # reading

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        download = await Download.of(path, span, version, self.stat)
        if download.empty:
            yield download.nothing()
            return
        async with self._ask("GET", path, download.headers, accept=frozenset({416})) as response:
            pieces = download.pieces(response)
            if response.status == 200 and download.ranged:
                self._ranges = False
            async with aclosing(pieces):
                yield pieces

    async def hash(self, path: str, algorithm: str) -> str:
        if algorithm not in self.caps.hashes:
            raise Unsupported(path, f"no {algorithm} here")
        check_path(path)
        async with aclosing(self._propfind(path, "0", more="<oc:checksums/>")) as items:
            async for item in items:
                if item.collection:
                    raise IsDirectory(path)
                for word in item.properties.get(f"{OC} checksum", "").split():
                    kind, _, digest = word.partition(":")
                    if kind.lower() == algorithm:
                        return digest.lower()
        raise Unsupported(path, f"the server has no {algorithm} for this file")

    async def usage(self) -> Usage:
        await self._learn()
        if not self._usage:
            raise Unsupported("", "the server does not tell its free space")
        async with aclosing(self._propfind("", "0", more=_QUOTA)) as items:
            async for item in items:
                free, used = (_number(item.properties.get(name)) for name in
                              ("quota-available-bytes", "quota-used-bytes"))  # fmt: skip
                return Usage(None if free is None or used is None else free + used, used, free)
        raise Corrupt("", "the server says nothing about its root")

    # storing

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        self._changeable(path)
        await self._learn()
        self._movable(path)
        await self._sweep(parent(path))
        if source.size >= EARLY_CHECK:
            await self._check(path, expect)
        partial = join(parent(path), partial_name(basename(path)))
        headers = [("Content-Type", "application/octet-stream")]
        if mtime_ns is not None:
            headers.append(("X-OC-Mtime", str(mtime_ns // SECOND)))
        try:
            async with self._ask("PUT", partial, headers, SourceBody(path, source)):
                pass
            stored = await self._stat(partial)
            if stored.size != source.size:
                raise Corrupt(path, f"{source.size} bytes were sent and {stored.size} arrived")
            if mtime_ns is not None:
                stored = await self._timed(partial, stored, mtime_ns)
            return await self._publish(partial, path, expect, stored)
        except BaseException as problem:
            await self._discard(partial)
            if isinstance(problem, StorageError) and problem.path == partial:
                raise await self._place_problem(path) or type(problem)(path, problem.said) from problem
            raise

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        check_path(source)
        self._changeable(target)
        await self._learn()
        self._movable(target)
        if not self._sets_times:
            raise Unsupported(target, "the server does not keep the time of a copy")
        original = await self._stat(source)
        if original.kind is Kind.DIRECTORY:
            raise IsDirectory(source)
        await self._check(target, expect)
        partial = join(parent(target), partial_name(basename(target)))
        try:
            try:
                await self._move("COPY", source, partial, overwrite=False)
            except NotFound:
                raise NotFound(target, "its directory does not exist") from None
            stored = await self._stat(partial)
            if original.mtime_ns is not None:
                stored = await self._timed(partial, stored, original.mtime_ns)
            return await self._publish(partial, target, expect, stored)
        except BaseException:
            await self._discard(partial)
            raise

    async def _timed(self, path: str, stored: Entry, mtime_ns: int) -> Entry:
        """Make sure of the time: some servers take X-OC-Mtime, some a property, most neither."""
        wanted = mtime_ns // SECOND * SECOND
        if stored.mtime_ns == wanted:
            return stored
        if self._sets_times is False or self._vendor == "other":
            return stored  # Apache would keep a property of that name beside the file, and the time as it is
        if await self._set_time(path, wanted):
            again = await self._stat(path)
            self._sets_times = again.mtime_ns == wanted
            return again
        self._sets_times = False
        return stored

    async def _set_time(self, path: str, mtime_ns: int) -> bool:
        """PROPPATCH; whether the server says that it did it."""
        body = Held(_SET_TIME.format(seconds=mtime_ns // SECOND).encode())
        headers = [("Content-Type", "application/xml; charset=utf-8")]
        accept = frozenset({400, 403, 405, 409, 424, 501})
        async with self._ask("PROPPATCH", path, headers, body, accept=accept) as response:
            if response.status != 207:
                return response.status in (200, 204)
            text = await response.content()
            return b" 200 " in text  # one property, one status

    async def _publish(self, partial: str, path: str, expect: Expect, stored: Entry) -> Entry:
        now = await self._check(path, expect)
        try:
            await self._move("MOVE", partial, path, overwrite=now is not None)
        except Exists as problem:
            if isinstance(expect, Absent):
                raise Stale(path, "the name is taken") from None
            raise problem
        except (Unreachable, TimedOut) as lost:
            # done, or not? both names tell
            there = await self._find(path)
            if await self._find(partial) is None and there is not None and there.size == stored.size:
                return self._untagged(there)
            raise lost
        there = await self._stat(path)
        if there.size != stored.size:
            raise Corrupt(path, f"{stored.size} bytes were stored and {there.size} are there")
        if self._etags is None:
            self._etags = bool(stored.tag) and stored.tag == there.tag
        return self._untagged(there)

    async def _check(self, path: str, expect: Expect) -> Entry | None:
        now = await self._find(path)
        check_expected(None if now is None else self._untagged(now), path, expect)
        return now

    async def _discard(self, partial: str) -> None:
        """Delete what a failed upload left, also when cancelled."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEANUP):
            while True:
                try:
                    async with self._ask("DELETE", partial, accept=frozenset({404})):
                        return
                except Busy:  # the server may still be busy with the upload that was cut
                    await trio.sleep(BUSY)
                except StorageError:
                    break
        self._abandoned.setdefault(parent(partial), set()).add(basename(partial))

    # names

    async def remove(self, path: str) -> None:
        self._changeable(path)
        if (await self.stat(path)).kind is Kind.DIRECTORY:
            raise IsDirectory(path)
        async with self._ask("DELETE", path):
            pass

    async def mkdir(self, path: str) -> None:
        if not check_path(path):
            raise Exists(path)
        if await self._find(path) is not None:  # rclone's server says yes to a second MKCOL
            raise Exists(path)
        try:
            async with self._ask("MKCOL", path, directory=True):
                return
        except StorageError as problem:
            if isinstance(problem, Unreachable | TimedOut):
                raise
            if await self._find(path) is not None:
                raise Exists(path, problem.said) from None
            raise await self._place_problem(path) or problem from None

    async def rmdir(self, path: str) -> None:
        self._changeable(path)
        await self._sweep(path)
        if (await self.stat(path)).kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
        own = self._place(self._target(path))
        async with aclosing(self._members(path)) as items:
            async for item in items:
                if self._place(item.href) != own:
                    raise NotEmpty(path)
        async with self._ask("DELETE", path, directory=True):
            pass

    async def rename(self, source: str, target: str) -> None:
        self._changeable(source)
        self._changeable(target)
        moving = await self.stat(source)
        self._movable(target)
        if is_below(target, source):
            if source == target:
                return
            raise InvalidName(target, "a directory cannot be moved into itself")
        there = await self._find(target)
        if there is not None:
            match moving.kind, there.kind:
                case Kind.DIRECTORY, Kind.DIRECTORY:
                    await self.rmdir(target)  # NotEmpty if it is not
                    there = None
                case _, Kind.DIRECTORY:
                    raise IsDirectory(target)
                case Kind.DIRECTORY, _:
                    raise NotDirectory(target)
        directory = moving.kind is Kind.DIRECTORY
        await self._move("MOVE", source, target, overwrite=there is not None, directory=directory)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        now = await self.stat(path)
        if now.kind is Kind.DIRECTORY:
            raise IsDirectory(path, "only files keep a time")
        if not self._sets_times:
            raise Unsupported(path, "the server cannot set times")
        if not await self._set_time(path, mtime_ns):
            raise Unsupported(path, "the server cannot set the time of what is stored")
        return self._untagged(await self._stat(path))

    async def aclose(self) -> None:
        """Close all connections."""
        self._web.close()

    async def _move(self, method: str, source: str, target: str, *, overwrite: bool, directory: bool = False) -> None:
        origin = self._options.site.origin
        headers = [
            ("Destination", f"{origin}{self._target(target, directory=directory)}"),
            ("Overwrite", "T" if overwrite else "F"),
        ]
        try:
            async with self._ask(method, source, headers, directory=directory, about=target):
                pass
        except (Unreachable, TimedOut, Exists):
            raise
        except StorageError as problem:  # servers say 403, 404, 409 and 500 to a place that does not exist
            if await self._find(source) is None:
                raise NotFound(source) from None
            raise await self._place_problem(target) or problem from None

    async def _place_problem(self, path: str) -> StorageError | None:
        """What is wrong with the directory of something that could not be made."""
        if not parent(path):
            return None
        place = await self._find(parent(path))
        if place is None:
            return NotFound(path, "its directory does not exist")
        return None if place.kind is Kind.DIRECTORY else NotDirectory(path, "its directory is a file")

    # the wire

    def _target(self, path: str, *, directory: bool = False) -> str:
        whole = join(self._root, path) if path else self._root
        return self._web.target("/".join(map(self._encoded, whole.split("/"))) if whole else "", directory=directory)

    def _encoded(self, name: str) -> str:
        return name if self._options.names is None else self._options.names.encode(name)

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: Held | SourceBody | None = None,
        *,
        directory: bool = False,
        accept: frozenset[int] = frozenset(),
        about: str | None = None,
    ) -> AsyncIterator[Response]:
        target = self._target(path, directory=directory)
        shown = path if about is None else about
        async with self._web.ask(method, target, headers, body, accept=accept, path=shown) as response:
            yield response

    def _place(self, href: str) -> str:
        """A URL's path without encoding, and without slashes at its end or twice."""
        path = urlsplit(href).path if "://" in href else href.partition("?")[0]
        return "".join(f"/{part}" for part in unquote(path, errors="surrogateescape").split("/") if part)

    def _entry(self, name: str, item: Item) -> Entry:
        mtime = time_of(item.properties.get("getlastmodified", ""))
        if item.collection:
            return Entry(name, Kind.DIRECTORY, 0, mtime, SECOND)
        size = _number(item.properties.get("getcontentlength")) or 0
        return Entry(name, Kind.FILE, size, mtime, SECOND, tag=tag_of(item.properties.get("getetag", "")))

    def _untagged(self, entry: Entry) -> Entry:
        """Without the etag, unless these are known to stay with the content."""
        return entry if self._etags or not entry.tag else entry._replace(tag="")

    def _changeable(self, path: str) -> None:
        if not check_path(path):
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")

    def _movable(self, target: str) -> None:
        if not self._cut.isdisjoint(target):
            raise InvalidName(
                target, "WsgiDAV would move it to another name; the encoding option can replace characters"
            )

    def _note_abandoned(self, directory: str, entry: Entry, now_ns: int) -> None:
        if entry.kind is Kind.FILE and is_abandoned(entry.name, entry.mtime_ns, now_ns):
            self._abandoned.setdefault(directory, set()).add(entry.name)

    async def _sweep(self, directory: str) -> None:
        """Delete old partials; what cannot be deleted now is for the next time."""
        for name in self._abandoned.pop(directory, ()):
            try:
                async with self._ask("DELETE", join(directory, name), accept=frozenset({404})):
                    pass
            except StorageError:
                self._abandoned.setdefault(directory, set()).add(name)


def _number(text: str | None) -> int | None:
    """A property that is a number; negative ones say that it is not known (Nextcloud's -3)."""
    return int(text) if text and text.isdecimal() else None


def _all(content: bytes) -> list[Item]:
    reader = Reader()
    return [*reader.feed(content), *reader.feed(b"", last=True)]

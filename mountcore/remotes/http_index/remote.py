"""A web site with index pages as a remote."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NoReturn, final

import trio

from ...errors import NotDirectory, NotFound, ReadOnly, Refused, StorageError, TooLarge, Unsupported
from ..guard import Guard
from ..partials import is_ours
from ..paths import basename, check_path, join
from ..protocol import Capabilities, Entry, Expect, Kind, Remote, Source, Span, Usage, Version
from ..ranges import Download
from ..web import SECOND, Site, Web, tag_of, time_of
from ..words import Words
from .index import IndexPage

log = logging.getLogger(__name__)
LONGEST_PAGE = 64 << 20
"""Bytes of an index page: a million names."""
AT_ONCE = 16
BATCH = 256


def open(options: dict[str, str], root: str) -> Guard:
    """A web site as storage; no network yet. Raises :class:`Refused` for options that make no sense."""
    words = Words("http", options)
    return Guard(HttpIndex(Site.parse(words, "http", options), root, no_slash=words.flag("no_slash")))


@final
class HttpIndex(Remote):
    """Index pages as directories; see the package."""

    def __init__(self, site: Site, root: str = "", *, no_slash: bool = False) -> None:
        relative = posixpath.normpath(root.strip("/") or ".")
        self._root = "" if relative == "." else relative
        if "\0" in root or relative.split("/")[0] == "..":
            raise Refused(f"http: {root!r} cannot be a root: it leaves the url, or has a NUL in it")
        self._site = site
        self._web = Web(site)
        self._no_slash = no_slash
        self._ranges = True

    def __repr__(self) -> str:
        return f"<HttpIndex {self.identity}>"

    @property
    def identity(self) -> str:
        return f"http:{self._site}/{self._root}"

    @property
    def caps(self) -> Capabilities:
        return Capabilities(writable=False, ranged_read=self._ranges, parallelism=self._site.settings.connections)

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        check_path(directory)
        names = await self._page(directory)
        for start in range(0, len(names), BATCH):
            found: dict[str, Entry] = {}
            waiting = iter(names[start : start + BATCH])

            async def work(waiting: object = waiting, found: dict[str, Entry] = found) -> None:
                for name, is_directory in waiting:  # type: ignore[attr-defined]
                    if is_directory:
                        found[name] = Entry(name, Kind.DIRECTORY)
                    elif (entry := await self._head(join(directory, name))) is not None:
                        found[name] = entry

            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(min(AT_ONCE, self._site.settings.connections)):
                        nursery.start_soon(work)
            except BaseExceptionGroup as group:
                raise _first(group) from None
            for entry in found.values():
                yield entry

    async def stat(self, path: str) -> Entry:
        check_path(path)
        if not path:
            await self._page("")
            return Entry("", Kind.DIRECTORY)
        entry = await self._head(path)
        if entry is None:
            raise NotFound(path)
        return entry

    async def _page(self, directory: str) -> Sequence[tuple[str, bool]]:
        """The names in an index page."""
        target = self._target(directory, directory=True)
        try:
            async with self._web.ask("GET", target, path=directory) as response:
                kind = response.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
                if kind not in ("text/html", "application/xhtml+xml"):
                    raise NotDirectory(directory, f"not an index page: {kind}")
                page, size = IndexPage(response.url), 0
                async with aclosing(response.pieces()) as pieces:
                    async for piece in pieces:
                        size += len(piece)
                        if size > LONGEST_PAGE:
                            raise TooLarge(directory, "the index page has no end")
                        # names are percent-encoded: what is not ASCII is only text around them
                        page.feed(piece.decode("latin-1"))
                page.close()
        except NotFound:
            if directory and await self._head(directory) is not None:
                raise NotDirectory(directory) from None
            raise
        return [(name, is_directory) for name, is_directory in page.names() if not is_ours(name)]

    async def _head(self, path: str) -> Entry | None:
        """What HEAD says; None if there is nothing, or nothing of a size."""
        name = basename(path)
        try:
            async with self._web.ask("HEAD", self._target(path), path=path) as response:
                if response.url.endswith("/"):
                    return Entry(name, Kind.DIRECTORY)  # redirected there, as servers do
                size = response.headers.get("content-length", "")
                mtime = time_of(response.headers.get("last-modified", ""))
                tag = tag_of(response.headers.get("etag", ""))
                if size.isdecimal():
                    return Entry(name, Kind.FILE, int(size), mtime, SECOND, tag=tag)
            # Apache does not say so of an empty file, others of none at all
            first, accept = [("Range", "bytes=0-0")], frozenset({416})
            async with self._web.ask("GET", self._target(path), first, accept=accept, path=path) as response:
                size = response.headers.get("content-range", "").rpartition("/")[2]
                size = response.headers.get("content-length", "") if response.status == 200 else size
                if size.isdecimal():
                    return Entry(name, Kind.FILE, int(size), mtime, SECOND, tag=tag)
            log.info("%s: %r is not shown: the server does not say how large it is", self.identity, path)
        except NotFound:
            try:
                async with self._web.ask("HEAD", self._target(path, directory=True), path=path):
                    return Entry(name, Kind.DIRECTORY)
            except NotFound:
                pass
        return None

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        download = await Download.of(path, span, version, self.stat)
        if download.empty:
            yield download.nothing()
            return
        accept = frozenset({416})
        async with self._web.ask("GET", self._target(path), download.headers, accept=accept, path=path) as response:
            pieces = download.pieces(response)
            if response.status == 200 and download.ranged:
                self._ranges = False
            async with aclosing(pieces):
                yield pieces

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        _read_only(path)

    async def remove(self, path: str) -> None:
        _read_only(path)

    async def mkdir(self, path: str) -> None:
        _read_only(path)

    async def rmdir(self, path: str) -> None:
        _read_only(path)

    async def rename(self, source: str, target: str) -> None:
        _read_only(source)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        _read_only(path)

    async def usage(self) -> Usage:
        raise Unsupported("", "a web site does not tell its free space")

    async def aclose(self) -> None:
        """Close all connections."""
        self._web.close()

    def _target(self, path: str, *, directory: bool = False) -> str:
        whole = join(self._root, path) if path else self._root
        return self._web.target(whole, directory=(directory and not self._no_slash) or not whole)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One failure to tell: ours before a cancellation."""
    for problem in group.exceptions:
        inner = _first(problem) if isinstance(problem, BaseExceptionGroup) else problem
        if isinstance(inner, StorageError):
            return inner
    return group


def _read_only(path: str) -> NoReturn:
    raise ReadOnly(check_path(path), "a web site is only read from")

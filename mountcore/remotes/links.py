"""Symbolic links as files, in rclone's way (``--links``): a remote around a remote.

The link ``name`` is kept as a file ``name.rclonelink`` whose content is where it points. Such files, whoever wrote
them, are shown as links; new links are the storage's own where it has them. A file ``name`` beside
``name.rclonelink`` keeps its name, and the other one stays a file.

Where a link points is read with the listing and kept by version, so that listing again costs nothing. All state is
touched on the trio thread only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import cast, final

import trio

from ..errors import Exists, NotFound, Stale, Unsupported
from .around import Around
from .paths import basename, is_below, join
from .protocol import ABSENT, Capabilities, Entry, Kind, Remote, Span, Version

SUFFIX = ".rclonelink"
LONGEST = 4096
"""Bytes of a target, PATH_MAX in the kernel; a longer file is no link."""
AT_ONCE = 4
"""Links of one directory that are read side by side."""


Entries = list[Entry]


class _Text:
    """Where a link points, as content to upload."""

    def __init__(self, target: str) -> None:
        self._content = target.encode("utf-8", "surrogateescape")
        self.size = len(self._content)

    def pread(self, length: int, offset: int) -> bytes:
        return self._content[offset : offset + length]


@final
class Links(Around):
    """A remote with links. See :class:`~mountcore.remotes.protocol.Remote`."""

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self._links: dict[str, tuple[Version, str]] = {}
        """Links that are files, by their path without the suffix: which content, and where that points."""

    @property
    def caps(self) -> Capabilities:
        return replace(self.inner.caps, symlinks=True)

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        names, found = set(), []
        async with aclosing(cast(AsyncGenerator[Entry, None], self.inner.list(directory))) as entries:
            async for entry in entries:
                if _may_be_link(entry):
                    found.append(entry)
                else:
                    names.add(entry.name)
                    yield entry
        async with aclosing(self._read_all(directory, [e for e in found if _shown(e.name) not in names])) as links:
            async for entry in links:
                yield entry
        for entry in found:
            if _shown(entry.name) in names:
                self._links.pop(join(directory, _shown(entry.name)), None)
                yield entry

    async def _read_all(self, directory: str, entries: Entries) -> AsyncGenerator[Entry, None]:
        for start in range(0, len(entries), AT_ONCE):
            some = entries[start : start + AT_ONCE]
            read = list(some)

            async def work(place: int, entry: Entry, read: Entries = read) -> None:
                read[place] = await self._link(join(directory, _shown(entry.name)), entry)

            async with trio.open_nursery() as nursery:
                for place, entry in enumerate(some):
                    nursery.start_soon(work, place, entry)
            for entry in read:
                yield entry

    async def _link(self, path: str, entry: Entry) -> Entry:
        """A file that may be a link, as one; as the file that it is, if it turns out to be none."""
        known = self._links.get(path)
        if known is None or not known[0].matches(entry.version):
            target = await self._read(path, entry)
            if target is None:
                self._links.pop(path, None)
                return entry
            known = self._links[path] = entry.version, target
        return entry._replace(name=basename(path), kind=Kind.SYMLINK, target=known[1], mode=None)

    async def _read(self, path: str, entry: Entry) -> str | None:
        content = b""
        try:
            async with self.inner.read(path + SUFFIX, Span(0, entry.size), entry.version) as pieces:
                async for piece in pieces:
                    content += piece
        except (NotFound, Stale):
            return None
        if len(content) != entry.size or b"\0" in content:
            return None
        return content.decode("utf-8", "surrogateescape")

    async def stat(self, path: str) -> Entry:
        if path not in self._links:
            try:
                return await self.inner.stat(path)
            except NotFound:
                if not path:
                    raise
        try:
            entry = await self.inner.stat(path + SUFFIX)
        except NotFound:
            self._links.pop(path, None)
            return await self.inner.stat(path)  # so that the error is about this name
        found = await self._link(path, entry) if _may_be_link(entry) else None
        if found is None or found.kind is not Kind.SYMLINK:
            raise NotFound(path)
        return found

    async def symlink(self, path: str, target: str) -> Entry:
        if self.inner.caps.symlinks:
            with suppress(Unsupported):  # this server does not after all
                return await self.inner.symlink(path, target)
        with suppress(NotFound):
            await self.stat(path)
            raise Exists(path)
        try:
            stored = await self.inner.put(path + SUFFIX, _Text(target), expect=ABSENT, mtime_ns=None)
        except Stale:
            raise Exists(path) from None
        self._links[path] = stored.version, target
        return stored._replace(name=basename(path), kind=Kind.SYMLINK, target=target, mode=None)

    async def remove(self, path: str) -> None:
        if path not in self._links:
            try:
                return await self.inner.remove(path)
            except NotFound:
                await self.stat(path)  # a link that nobody has listed yet
        await self.inner.remove(path + SUFFIX)
        self._links.pop(path, None)
        return None

    async def rename(self, source: str, target: str) -> None:
        if source == target:
            await self.stat(source)
            return
        if source not in self._links:
            try:
                await self.inner.rename(source, target)
            except NotFound as problem:
                if problem.path != source:
                    raise
                await self.stat(source)  # a link that nobody has listed yet
            else:
                self._moved(source, target)
                if target in self._links:
                    await self._forget(target)
                return
        if target in self._links and not self.inner.caps.rename_replaces:
            await self._forget(target)
        await self.inner.rename(source + SUFFIX, target + SUFFIX)
        self._links[target] = self._links.pop(source)
        with suppress(NotFound):
            await self.inner.remove(target)

    async def _forget(self, path: str) -> None:
        with suppress(NotFound):
            await self.inner.remove(path + SUFFIX)
        self._links.pop(path, None)

    def _moved(self, source: str, target: str) -> None:
        """A directory took its links along."""
        for path in [path for path in self._links if is_below(path, source)]:
            self._links[target + path[len(source) :]] = self._links.pop(path)

    def list_tree(self, directory: str) -> AsyncIterator[tuple[str, Entry]]:
        return self._list_tree(directory)

    async def _list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        names, found = set(), []
        async with aclosing(cast(AsyncGenerator[tuple[str, Entry], None], self.inner.list_tree(directory))) as entries:
            async for place, entry in entries:
                names.add(join(place, entry.name))
                if _may_be_link(entry):
                    found.append((place, entry))
                else:
                    yield place, entry
        for place, entry in found:
            path = join(place, _shown(entry.name))
            yield place, entry if path in names else await self._link(path, entry)


def _may_be_link(entry: Entry) -> bool:
    return (
        entry.kind is Kind.FILE
        and len(entry.name) > len(SUFFIX)
        and entry.name.endswith(SUFFIX)
        and (0 < entry.size <= LONGEST)
    )


def _shown(name: str) -> str:
    return name.removesuffix(SUFFIX)

"""What can be asked on one connection: stat and list, by the best command that the server has.

Answers are the port's: an `Entry`, or `NotFound` only where absence is sure. A bare 550 is looked into: by
its text, else by the listing of the parent.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import final

from ...errors import (
    Busy,
    Corrupt,
    Denied,
    Exists,
    InvalidName,
    NotDirectory,
    NotFound,
    StorageError,
    TooLarge,
    Unreachable,
    Unsupported,
)
from ..paths import basename, check_path, join, parent
from ..protocol import Entry, Kind
from .connection import LINE_LIMIT, Connection
from .data import Data
from .listing import DAY, MINUTE, SECOND, Lines, Listed, is_heading, parse_mlsx, parse_stamp
from .names import NameEncoding
from .replies import Reply, ReplyError, error_for, meaning
from .server import Server

log = logging.getLogger(__name__)
HELD_BACK = 20_000
"""Entries of the first LIST that may wait for the server's time zone; also links that are followed."""
_QUARTER = 15 * MINUTE
_UNKNOWN_COMMAND = (500, 502, 504)


@final
class Session:
    """A borrowed connection, seen from the remote's root."""

    def __init__(self, connection: Connection, root: str) -> None:
        self.connection = connection
        self.server: Server = connection.server
        self._root = root
        connection.forget()
        connection.directory = None  # it may have been moved since, and another be there now

    @property
    def _names(self) -> NameEncoding:
        return self.server.options.names

    def wire(self, path: str) -> str:
        """The absolute path on the server; raises `InvalidName`."""
        try:
            parts = [self._names.encode(part) for part in check_path(path).split("/")] if path else []
            start = [self._names.encode(part) for part in self._root.split("/") if part]
        except InvalidName as problem:
            raise InvalidName(path, problem.said) from None
        home = "/" if self._root.startswith("/") else self.server.home
        return "/".join([home.rstrip("/"), *start, *parts]) or "/"

    async def at(self, path: str) -> str:
        """How to name ``path`` in the next command: its absolute path, or, with ``cwd_names``, a plain name after a
        change to its directory."""
        wire = self.wire(path)
        if not self.server.options.cwd_names or wire == "/":
            return wire
        place = wire.rpartition("/")[0] or "/"
        if place != self.connection.directory:
            await self.enter(place)
        return self.near(path)

    def near(self, path: str) -> str:
        """Like `at`, without changing the directory: between RNFR and RNTO nothing may come."""
        wire = self.wire(path)
        place, _, name = wire.rpartition("/")
        return name if (place or "/") == self.connection.directory and self.server.options.cwd_names else wire

    async def enter(self, wire: str) -> Reply:
        """CWD to an absolute path."""
        reply = await self.connection.command("CWD", wire)
        if reply.ok:
            self.connection.directory = wire
        return reply

    # one file or directory

    async def stat(self, path: str) -> Entry:
        """The entry at ``path``, links followed."""
        entry = await self.probe(path)
        if entry is None:
            entry = await self._from_parent(path)
        if entry.kind is Kind.SYMLINK:
            entry = await self.followed(path, entry)
        if not path and entry.kind is not Kind.DIRECTORY:
            raise NotDirectory(path)
        return entry

    async def find(self, path: str) -> Entry | None:
        """`stat`, with None for absence."""
        try:
            return await self.stat(path)
        except NotFound:
            return None

    async def is_empty(self, directory: str) -> bool:
        """Whether nothing at all is in a directory, partials counted."""
        async with aclosing(self.listing(directory)) as entries:
            return not [entry async for entry in entries]

    async def probing(self, path: str) -> list[tuple[str, str]]:
        """The commands that `probe` is going to send if all goes well, to be sent ahead."""
        if self.server.mlst:
            return [("MLST", await self.at(path))]
        wire = await self.at(path)
        commands = [("SIZE", wire)] if self.server.size else []
        return [*commands, ("MDTM", wire)] if self.server.mdtm else commands

    async def about_to_read(self, path: str) -> None:
        """Send what comes before RETR ahead, in one packet."""
        epsv = [("EPSV", "")] if self.connection.foresees_epsv() else []
        await self.connection.ahead(*await self.probing(path), *epsv)

    async def probe(self, path: str) -> Entry | None:
        """Like `stat`, by commands about this one path only; None where the server's no may mean anything."""
        if self.server.mlst:
            reply = await self.connection.command("MLST", await self.at(path))
            if reply.ok:
                return self._from_mlst(path, reply)
            if reply.code not in _UNKNOWN_COMMAND:
                self._raise_if_clear(path, reply)
                await self._by_rename(path)
                return None
        return await self._by_size(path)

    def _from_mlst(self, path: str, reply: Reply) -> Entry:
        for line in reply.lines[1:-1]:
            listed = parse_mlsx(line.removeprefix(" "), single=True)
            if listed is not None and "=" in line:
                if listed.kind is None:
                    raise NotFound(path, "neither a file nor a directory")
                return self._entry(basename(path), listed)
        raise Corrupt(path, f"MLST told nothing: {reply}")

    async def _by_size(self, path: str) -> Entry | None:
        """SIZE answers for files, CWD for directories."""
        if self.server.size:
            reply = await self.connection.command("SIZE", await self.at(path))
            if reply.code == 213 and reply.text.split()[-1:] and reply.text.split()[-1].isdecimal():
                stamp = await self.mtime(path)
                size = int(reply.text.split()[-1])
                mtime_ns, resolution_ns = stamp or (None, SECOND)
                return Entry(basename(path), Kind.FILE, size, mtime_ns, resolution_ns)
            if reply.code in _UNKNOWN_COMMAND:
                self.server.size = False
        reply = await self.enter(self.wire(path))
        if reply.ok:
            return Entry(basename(path), Kind.DIRECTORY)
        self._raise_if_clear(path, reply)
        await self._by_rename(path)
        return None

    async def _by_rename(self, path: str) -> None:
        """Ask RNFR, without going on to RNTO: proftpd and pure-ftpd, whose MLST does not say why it fails, say
        it here. CWD would too, but pure-ftpd makes one wait for a second after a CWD that fails."""
        reply = await self.connection.command("RNFR", await self.at(path))
        if reply.code == 350:
            return
        self._raise_if_clear(path, reply)
        # vsftpd's RNFR is one stat(2): with the right to search the parent, this is absence
        if reply.text == "RNFR command failed." and (await self.enter(self.wire(parent(path)))).ok:
            raise NotFound(path, "SIZE, CWD and RNFR find nothing")

    def _raise_if_clear(self, path: str, reply: Reply) -> None:
        """Raise what a refusal surely means; return where only the parent's listing can tell."""
        if reply.code not in (450, 501, 550, 553):
            raise error_for(reply, path)
        kind = meaning(reply)
        if kind is NotFound or not path:
            raise error_for(reply, path)

    async def mtime(self, path: str) -> tuple[int, int] | None:
        """The time by MDTM, with its resolution; None where the server does not tell."""
        if not self.server.mdtm:
            return None
        reply = await self.connection.command("MDTM", await self.at(path))
        if reply.code in _UNKNOWN_COMMAND:
            self.server.mdtm = False
        return parse_stamp(reply.text) if reply.code == 213 else None

    async def _from_parent(self, path: str) -> Entry:
        name = basename(path)
        try:
            async with aclosing(self.listing(parent(path))) as entries:
                found = [entry async for entry in entries if entry.name == name]
        except (NotFound, NotDirectory):
            raise NotFound(path, "its directory does not exist") from None
        if not found:
            raise NotFound(path, "not in the listing of its directory")
        return found[0]

    async def refused(self, reply: Reply, path: str) -> StorageError:
        """The error for a refused change of ``path``: by the reply if it is clear, else after a look."""
        kind = meaning(reply)
        vague = kind in (None, InvalidName, Denied, Exists)
        if not vague or reply.code not in (450, 501, 550, 551, 553):
            return error_for(reply, path)
        try:
            await self.stat(path)
        except NotFound:
            place = await self.find(parent(path))
            if place is None:
                return NotFound(path, str(reply))
            if place.kind is not Kind.DIRECTORY:
                return NotDirectory(path, str(reply))
        return (kind or Denied)(path, str(reply))

    async def followed(self, path: str, link: Entry) -> Entry:
        """What a link leads to, under its own name; the link itself where that is nowhere."""
        try:
            entry = await self._by_size(path)
        except StorageError:
            entry = None
        return link if entry is None else entry

    # directories

    async def listing(self, directory: str) -> AsyncGenerator[Entry, None]:
        """All entries of a directory as the server shows them: links are links, partials are there."""
        lines = self._mlsd(directory) if self.server.mlst else self._list(directory)
        unsized: list[str] = []
        async with aclosing(lines):
            async for listed in lines:
                if listed.kind is None or listed.name in (".", "..", ""):
                    continue
                name = self._names.decode(listed.name)
                if name is None or any(c in name for c in "/\0") or name in (".", ".."):
                    log.warning("%r: skipped a name that cannot be used: %.100r", directory, listed.name)
                elif listed.kind is Kind.FILE and listed.size is None:
                    if len(unsized) == HELD_BACK:
                        raise TooLarge(directory, "too many files whose sizes are not in the listing")
                    unsized.append(name)
                else:
                    yield self._entry(name, listed)
        for name in unsized:
            try:
                entry = await self._by_size(join(directory, name))
            except NotFound:
                continue  # gone in the meantime
            if entry is None:
                log.warning("%r: skipped %.100r: the server does not tell what it is, or how large", directory, name)
            else:
                yield entry

    async def _mlsd(self, directory: str) -> AsyncGenerator[Listed, None]:
        try:
            data = await self.connection.transfer("MLSD", await self.at(directory))
        except ReplyError as refusal:
            raise await self._unlistable(directory, refusal.reply) from None
        name = self.wire(directory).rpartition("/")[2]
        alone: Listed | None = None
        seen = 0
        async with data:
            async for line in self._lines(directory, data):
                seen += 1
                listed = parse_mlsx(line)
                if listed is not None and seen == 1 and listed.name.rpartition("/")[2] == name:
                    alone = listed  # rclone lists a file as a directory with itself in it
                elif listed is not None:
                    yield listed
        if (not seen or alone is not None) and (await self.stat(directory)).kind is not Kind.DIRECTORY:
            raise NotDirectory(directory)
        if alone is not None:
            yield alone

    async def _unlistable(self, directory: str, reply: Reply) -> StorageError:
        if reply.code in (450, 501, 550):
            if (await self.stat(directory)).kind is not Kind.DIRECTORY:
                return NotDirectory(directory, str(reply))
            return Denied(directory, str(reply)) if reply.code != 450 else Busy(directory, str(reply))
        return error_for(reply, directory)

    async def _list(self, directory: str) -> AsyncGenerator[Listed, None]:
        """CWD proves that the directory exists, as an empty LIST does not; and no name is in LIST's argument,
        where servers see options and patterns."""
        if self.connection.foresees_epsv():
            await self.connection.ahead(("CWD", self.wire(directory)), ("EPSV", ""))
        reply = await self.enter(self.wire(directory))
        if not reply.ok:
            raise await self._unlistable(directory, reply)
        found = self._list_here(directory)
        held: list[Listed] | None = [] if not self.server.list_offset_tried else None
        async with aclosing(found):
            async for listed in found:
                if held is None:
                    yield self._in_utc(listed)
                    continue
                held.append(listed)
                if len(held) >= HELD_BACK:
                    for one in held:
                        yield self._in_utc(one)
                    held = None
        if held:
            await self._learn_offset(directory, held)
            for one in held:
                yield self._in_utc(one)

    async def _list_here(self, directory: str) -> AsyncGenerator[Listed, None]:
        """LIST of the current directory, with ``-a`` where that is wanted, or understood: it shows "."."""
        if self.server.options.list_hidden:
            self.server.list_all = True
        if self.server.list_all is None:
            probe: list[Listed] = []
            try:
                async with aclosing(self._list_by(directory, "-a")) as found:
                    async for listed in found:
                        probe.append(listed)
                        if len(probe) == HELD_BACK:
                            break
            except (Denied, InvalidName, Busy, NotFound, Unsupported, Corrupt) as problem:
                log.debug("%r: no LIST -a here: %s", directory, problem)
            self.server.list_all = any(listed.name == "." for listed in probe)
            if self.server.list_all and len(probe) < HELD_BACK:
                for listed in probe:
                    yield listed
                return
            if not self.connection.settled:  # left a long listing half-way
                raise Unreachable(directory, "asked for a listing that is too long to try out")
        async with aclosing(self._list_by(directory, "-a" if self.server.list_all else "")) as found:
            async for listed in found:
                yield listed

    async def _list_by(self, directory: str, argument: str) -> AsyncGenerator[Listed, None]:
        lines = Lines(datetime.now(UTC))
        if self.server.list_works:
            try:
                data = await self.connection.transfer("LIST", argument)
            except ReplyError as refusal:
                if _says_empty(refusal.reply):
                    return
                if refusal.reply.code not in _UNKNOWN_COMMAND or argument:
                    raise error_for(refusal.reply, directory) from None
                self.server.list_works = False
            else:
                async with data:
                    async for line in self._lines(directory, data):
                        known = lines.understood
                        listed = lines.feed(line)
                        if listed is not None:
                            yield listed
                        elif lines.understood == known and not is_heading(line):
                            log.debug("%r: not understood: %.100r", directory, line)
        if not self.server.list_works or (lines.unknown and not lines.understood):
            async with aclosing(self._names_alone(directory)) as found:
                async for listed in found:
                    yield listed

    async def _names_alone(self, directory: str) -> AsyncGenerator[Listed, None]:
        """NLST: names and nothing more; what each is has to be asked (`listing` does)."""
        try:
            data = await self.connection.transfer("NLST")
        except ReplyError as refusal:
            if _says_empty(refusal.reply):
                return
            if refusal.reply.code in _UNKNOWN_COMMAND:
                raise Corrupt(directory, "a listing in a form that is not understood") from None
            raise error_for(refusal.reply, directory) from None
        place = self.wire(directory).rstrip("/")
        async with data:
            async for line in self._lines(directory, data):
                name = line.removeprefix("./").removeprefix(place + "/").removesuffix("/")
                if name:
                    yield Listed(name, Kind.FILE)

    async def _lines(self, directory: str, data: Data) -> AsyncGenerator[str, None]:
        rest = b""
        while block := await data.receive():
            lines = (rest + bytes(block)).split(b"\n")
            rest = lines.pop()
            if len(rest) > LINE_LIMIT:
                raise Corrupt(directory, "a listing line without an end")
            for line in lines:
                yield line.removesuffix(b"\r").decode(self.server.options.charset, "surrogateescape")
        if rest:
            yield rest.removesuffix(b"\r").decode(self.server.options.charset, "surrogateescape")
        try:
            reply = await data.finish()
        except ReplyError as refusal:
            if _says_empty(refusal.reply):
                return
            raise error_for(refusal.reply, directory) from None
        if any("truncated" in line.lower() for line in reply.lines):
            raise TooLarge(directory, f"the server does not list all of it: {reply}")

    async def _learn_offset(self, directory: str, held: list[Listed]) -> None:
        """Find the server's time zone: one file's LIST time beside its MDTM time."""
        for listed in held:
            name = self._names.decode(listed.name)
            if listed.kind is Kind.FILE and listed.local and listed.resolution_ns == MINUTE and name:
                self.server.list_offset_tried = True
                stamp = await self.mtime(join(directory, name))
                if stamp is not None and listed.mtime_ns is not None:
                    ahead = listed.mtime_ns - stamp[0] // MINUTE * MINUTE
                    offset = round(ahead / _QUARTER) * _QUARTER
                    if abs(ahead - offset) <= MINUTE and abs(offset) <= DAY:
                        self.server.list_offset_ns = offset
                return

    def _in_utc(self, listed: Listed) -> Listed:
        if not listed.local or listed.mtime_ns is None:
            return listed
        offset, resolution = self.server.list_offset_ns, listed.resolution_ns
        if offset == 0:
            return listed
        if offset is None:
            return _retimed(listed, listed.mtime_ns, max(resolution, DAY) + DAY)
        # the zone is known, whether it had summer time that day is not
        return _retimed(listed, listed.mtime_ns - offset, resolution + 60 * MINUTE)

    def _entry(self, name: str, listed: Listed) -> Entry:
        kind = listed.kind or Kind.FILE
        size = listed.size or 0
        return Entry(
            name,
            kind,
            0 if kind is Kind.DIRECTORY else size,
            listed.mtime_ns,
            listed.resolution_ns,
            target=listed.target if kind is Kind.SYMLINK else "",
        )


def _retimed(listed: Listed, mtime_ns: int, resolution_ns: int) -> Listed:
    return Listed(listed.name, listed.kind, listed.size, mtime_ns, resolution_ns, True, listed.target)


def _says_empty(reply: Reply) -> bool:
    """Some servers refuse to list an empty directory."""
    return reply.code in (450, 550) and "no files" in reply.text.lower()

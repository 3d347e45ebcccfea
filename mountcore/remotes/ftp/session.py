"""What can be asked on one connection: stat and list, by the best command that the server has.

Answers are the port's: an `Entry`, or `NotFound` only where absence is sure. A bare 550 is looked into: by
its text, else by the listing of the parent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import final

from ...errors import Busy, Corrupt, Denied, Exists, InvalidName, NotDirectory, NotFound, StorageError
from ..encoding import NameEncoding
from ..paths import basename, check_path, parent
from ..protocol import Entry, Kind
from .connection import Connection
from .directories import entries_of
from .listing import SECOND, Listed, parse_mlsx, parse_stamp
from .replies import UNKNOWN_COMMAND, Reply, error_for, meaning
from .server import Server


def contradiction(reply: Reply, path: str) -> Busy:
    """What to make of a server that says "no such file" and, asked again, finds it: rclone's does so now and then, for
    a folder made a moment ago, while it reads the folder above anew. Asking once more helps."""
    return Busy(path, f"{reply}; and yet it is there")


@final
class Session:
    """A borrowed connection, seen from the remote's root."""

    def __init__(self, connection: Connection, root: str) -> None:
        self.connection = connection
        self.server: Server = connection.server
        self._root = root
        connection.forget()
        connection.directory = None  # it may have been moved since, and another be there now

        self._names: NameEncoding = self.server.options.names
        self._wires: dict[str, str] = {}

    def wire(self, path: str) -> str:
        """The absolute path on the server; raises `InvalidName`."""
        found = self._wires.get(path)
        if found is None:  # an upload asks ten times
            found = self._wires[path] = self._encoded(path)
        return found

    def _encoded(self, path: str) -> str:
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
            return not [batch async for batch in entries if batch]

    async def probing(self, path: str) -> list[tuple[str, str]]:
        """The commands that `probe` is going to send if all goes well, to be sent ahead."""
        if self.server.mlst:
            return [("MLST", await self.at(path))]
        wire = await self.at(path)
        commands = [("SIZE", wire)] if self.server.size else []
        return [*commands, ("MDTM", wire)] if self.server.mdtm else commands

    async def about_to_read(self, path: str) -> None:
        """Send what comes before RETR ahead, in one packet."""
        preparing = self.connection.preparing("RETR", await self.at(path))
        await self.connection.ahead(*await self.probing(path), *preparing)

    async def probe(self, path: str) -> Entry | None:
        """Like `stat`, by commands about this one path only; None where the server's no may mean anything."""
        if self.server.mlst:
            reply = await self.connection.command("MLST", await self.at(path))
            if reply.ok:
                return self._from_mlst(path, reply)
            if reply.code not in UNKNOWN_COMMAND:
                self._raise_if_clear(path, reply)
                await self._by_rename(path)
                return None
        return await self.by_size(path)

    def _from_mlst(self, path: str, reply: Reply) -> Entry:
        for line in reply.lines[1:-1]:
            listed = parse_mlsx(line.removeprefix(" "), single=True)
            if listed is not None and "=" in line:
                if listed.kind is None:
                    raise NotFound(path, "neither a file nor a directory")
                return self.entry(basename(path), listed)
        raise Corrupt(path, f"MLST told nothing: {reply}")

    async def by_size(self, path: str) -> Entry | None:
        """SIZE answers for files, CWD for directories."""
        if self.server.size:
            reply = await self.connection.command("SIZE", await self.at(path))
            if reply.code == 213 and reply.text.split()[-1:] and reply.text.split()[-1].isdecimal():
                stamp = await self.mtime(path)
                size = int(reply.text.split()[-1])
                mtime_ns, resolution_ns = stamp or (None, SECOND)
                return Entry(basename(path), Kind.FILE, size, mtime_ns, resolution_ns)
            if reply.code in UNKNOWN_COMMAND:
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
            self.connection.renaming = True
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
        if reply.code in UNKNOWN_COMMAND:
            self.server.mdtm = False
        return parse_stamp(reply.text) if reply.code == 213 else None

    async def _from_parent(self, path: str) -> Entry:
        name = basename(path)
        try:
            async with aclosing(self.listing(parent(path))) as entries:
                found = [entry async for batch in entries for entry in batch if entry.name == name]
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
            entry = await self.by_size(path)
        except StorageError:
            entry = None
        return link if entry is None else entry

    # directories

    def listing(self, directory: str) -> AsyncGenerator[list[Entry], None]:
        """All entries of a directory as the server shows them, as they come: links are links, partials are there."""
        return entries_of(self, directory)

    async def refuse_listing(self, directory: str, reply: Reply) -> StorageError:
        """The error for a directory that could not be listed."""
        if reply.code in (450, 501, 550):
            if (await self.stat(directory)).kind is not Kind.DIRECTORY:
                return NotDirectory(directory, str(reply))
            if meaning(reply) is NotFound:
                return contradiction(reply, directory)
            return Denied(directory, str(reply)) if reply.code != 450 else Busy(directory, str(reply))
        return error_for(reply, directory)

    def entry(self, name: str, listed: Listed) -> Entry:
        """The port's entry for what a line says."""
        kind = listed.kind or Kind.FILE
        return Entry(
            name,
            kind,
            0 if kind is Kind.DIRECTORY else listed.size or 0,
            listed.mtime_ns,
            listed.resolution_ns,
            target=listed.target if kind is Kind.SYMLINK else "",
        )

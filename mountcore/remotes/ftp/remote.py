"""FTP as a remote: the port on top of a pool of connections.

Root: "" is the directory where the login ends up, ``a/b`` lies in it, ``/a/b`` is absolute, as in rclone.
A call that finds its borrowed connection dead before anything was done takes another one, once.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar, final

from ...errors import (
    Corrupt,
    Exists,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    Refused,
    Stale,
    Unreachable,
    Unsupported,
)
from ...splicing import Pipe
from ..guard import Guard, Patience
from ..partials import MARK, is_abandonable, is_ours, partial_name
from ..paths import basename, check_lengths, check_path, is_below, join, parent
from ..protocol import Capabilities, Entry, Expect, Kind, Remote, RenameScope, Source, Span, Usage, Version
from . import hashes, upload
from .bulk import Done
from .contact import Contacts
from .data import RECEIVE, Data
from .deeds import MOVE, REMOVE, Deed, Diary
from .directories import HELD_BACK
from .leftovers import Leftovers, put_back
from .options import FtpOptions, parse
from .pool import Pool
from .rawnames import NOT_RAW, check_raw, is_raw
from .replies import ReplyError, error_for, meaning
from .server import Server
from .session import Session, contradiction
from .tls import Trust
from .walk import Walk

T = TypeVar("T")
TAIL = 128 << 10
"""Bytes of a download that are not left in the kernel; nor are those of one that has no more."""
Batch = list[Entry]


def open(options: dict[str, str], root: str) -> Guard:
    """An FTP server as storage; no network yet. Raises :class:`Refused` for options that make no sense."""
    return Guard(FtpRemote(parse(options), root))


@final
class FtpRemote(Remote):
    """FTP as storage; see the package."""

    def __init__(self, options: FtpOptions, root: str = "") -> None:
        absolute = "/" if root.startswith("/") or options.absolute else ""
        relative = posixpath.normpath(root.strip("/") or ".")
        relative = "" if relative == "." else relative
        if any(c in root for c in "\r\n\0") or relative.split("/")[0] == "..":
            raise Refused(f"ftp: {root!r} cannot be a root: it leaves the login directory, or has a line break in it")
        self._root = absolute + relative
        self._options = options
        self._server = Server(options)
        self._pool = Pool(self._server, Trust(options) if options.tls else None)
        self._diary = Diary(self.identity)
        self._leftovers = Leftovers(self._diary)
        self._contacts = Contacts(self._root, self._pool, self._diary, self._leftovers)

    def __repr__(self) -> str:
        return f"<FtpRemote {self.identity}>"

    @property
    def identity(self) -> str:
        return self._options.identity(self._root)

    @property
    def caps(self) -> Capabilities:
        server = self._server
        return Capabilities(
            rename=RenameScope.TREE,
            rename_replaces=server.rename_replaces,
            set_mtime=server.contacted and server.sets_times,
            atomic_put=server.rename_replaces,
            ranged_read=server.rest,
            list_tree=True,
            usage=server.has("AVBL"),
            hashes=hashes.offered(server),
            append=server.appends is not False,
            parallelism=self._pool.size,
        )

    def check_name(self, path: str) -> None:
        options = self._options
        try:
            if self._server.raw_names is False and is_raw(path):
                raise InvalidName(path, NOT_RAW)
            wire = "/".join(map(options.names.encode, check_path(path).split("/")))
            check_lengths(path, wire.encode(options.charset, "surrogateescape"))
        except InvalidName as problem:
            raise InvalidName(path, problem.said) from None
        except UnicodeEncodeError:
            raise InvalidName(path, f"it cannot be written in charset {options.charset}") from None

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        async with aclosing(self._batches(directory)) as batches:
            async for batch in batches:
                for entry in batch:
                    yield entry

    async def _batches(self, directory: str) -> AsyncGenerator[Batch, None]:
        wanted = check_path(directory)
        async with self._contacts.to(wanted) as session:
            now = time.time_ns()
            links: Batch = []
            aside: Batch = []
            async with aclosing(session.listing(wanted)) as batches:
                async for batch in batches:
                    if isinstance(batch, Done) and not batch.odd:
                        yield batch
                        continue
                    odd = {n for n, e in enumerate(batch) if e.kind is Kind.SYMLINK or MARK in e.name}
                    plain = batch if not odd else [entry for n, entry in enumerate(batch) if n not in odd]
                    for entry in (batch[n] for n in sorted(odd)):
                        if is_ours(entry.name):
                            self._leftovers.noticed(wanted, entry, now)
                            if not is_abandonable(entry.name):
                                aside.append(entry)
                        elif entry.kind is Kind.SYMLINK and len(links) < HELD_BACK:
                            links.append(entry)
                        else:
                            plain.append(entry)
                    yield plain
            returned = [await put_back(session, wanted, kept) for kept in aside]
            yield [entry for entry in returned if entry is not None]
            yield [await session.followed(join(wanted, link.name), link) for link in links]

    def list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        """Folders are listed side by side, over as many connections as there may be."""
        return Walk(self._batches, check_path(directory), self._pool.size, Patience()).entries()

    async def stat(self, path: str) -> Entry:
        return await self._call(path, lambda session: session.stat(path))

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        check_path(path)
        async with self._contacts.to(path, stream=True) as session:
            if version is not None:
                await session.about_to_read(path)
                now = await session.stat(path)
                if now.kind is Kind.DIRECTORY:
                    raise IsDirectory(path)
                if not now.version.matches(version):
                    raise Stale(path, "the file has changed")
            if span.length == 0 or (version is not None and span.start >= version.size):
                yield _nothing()
                return
            data, skip = await self._retrieve(session, path, span.start)
            if data is None:
                yield _nothing()
                return
            async with data:
                size = None if version is None else version.size
                transfer = _Download(data, path, span, skip, size)
                yield transfer
                await transfer.end()

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        self._changeable(path)
        try:
            async with self._contacts.to(path) as session:
                await self._leftovers.tidy(session, parent(path))
                await check_raw(session, path)
                return await upload.store(session, path, source, expect, mtime_ns, self._leftovers, self._diary)
        except upload.AnswerLost as lost:
            async with self._contacts.to(path) as session:
                return await upload.outcome(session, path, lost, self._diary)

    async def remove(self, path: str) -> None:
        self._changeable(path)
        self._leftovers.give_up(path)
        async with self._contacts.to(path) as session, self._diary.told(session.connection, Deed(REMOVE, path)):
            reply = await session.connection.command("DELE", await session.at(path))
            if reply.ok:
                return
            if reply.code in (450, 501, 550, 553) and (await session.stat(path)).kind is Kind.DIRECTORY:
                raise IsDirectory(path, str(reply))
            raise error_for(reply, path)

    async def mkdir(self, path: str) -> None:
        check_path(path)
        async with self._contacts.to(path) as session:
            if not path:
                raise Exists(path)
            await check_raw(session, path)
            if session.server.mkdir_lies and await session.find(path) is not None:
                raise Exists(path)
            reply = await session.connection.command("MKD", await session.at(path))
            if reply.code == 521 or (reply.ok and reply.code == 250 and "exist" in reply.text.lower()):
                raise Exists(path, str(reply))
            if reply.ok:
                if session.server.mkdir_lies is None:  # rclone's server: asked twice, says yes twice
                    again = await session.connection.command("MKD", await session.at(path))
                    session.server.mkdir_lies = again.ok
                return
            if reply.code in (450, 501, 550, 553):
                if await session.find(path) is not None:
                    raise Exists(path, str(reply))
                if "*" in basename(path) and await self._made_elsewhere(session, path):
                    return
                raise await session.refused(reply, path)
            raise error_for(reply, path)

    async def _made_elsewhere(self, session: Session, path: str) -> bool:
        """Make a directory under a name of ours, and rename it: proftpd refuses names with ``*`` to MKD alone."""
        fresh = join(parent(path), partial_name("made", hidden=session.server.dot_names))
        if not (await session.connection.command("MKD", await session.at(fresh))).ok:
            return False
        if await upload.rename(session, fresh, path) is None:
            return True
        await session.connection.command("RMD", await session.at(fresh))
        return False

    async def rmdir(self, path: str) -> None:
        self._changeable(path)
        self._leftovers.give_up(path)
        async with self._contacts.to(path) as session:
            await self._leftovers.tidy(session, path)
            async with self._diary.told(session.connection, Deed(REMOVE, path)):
                reply = await session.connection.command("RMD", await session.at(path))
            if reply.ok:
                return
            if reply.code in (450, 501, 550, 553):
                if (await session.stat(path)).kind is not Kind.DIRECTORY:
                    raise NotDirectory(path, str(reply))
                if not await session.is_empty(path):
                    raise NotEmpty(path, str(reply))
            raise error_for(reply, path)

    async def rename(self, source: str, target: str) -> None:
        self._changeable(source)
        self._changeable(target)
        self._leftovers.give_up(source)
        self._leftovers.give_up(target)
        async with self._contacts.to(target, source) as session:
            if is_below(target, source):
                await session.stat(source)
                if source == target:
                    return
                raise InvalidName(target, "a directory cannot be moved into itself")
            await check_raw(session, target)
            there = await session.find(target)
            if there is not None:
                # not left to the server: rclone's says yes to a directory over a full one
                moving = await session.stat(source)
                match moving.kind, there.kind:
                    case Kind.DIRECTORY, Kind.DIRECTORY:
                        if not await session.is_empty(target):
                            raise NotEmpty(target)
                    case _, Kind.DIRECTORY:
                        raise IsDirectory(target)
                    case Kind.DIRECTORY, _:
                        raise NotDirectory(target)
                    case _:
                        async with self._diary.told(session.connection, Deed(MOVE, source, target)):
                            await upload.publish(session, source, target, self._diary)
                        return
            async with self._diary.told(session.connection, Deed(MOVE, source, target)):
                reply = await upload.rename(session, source, target)
            if reply is not None:
                raise Exists(target, str(reply)) if there else await session.refused(reply, target)

    async def append(self, path: str, data: bytes) -> None:
        self._changeable(path)
        async with self._contacts.to(path) as session:
            server = session.server
            before = await session.find(path) if server.appends is None else None
            transfer = await self._asked(path, session.connection.transfer("APPE", await session.at(path)))
            async with transfer:
                await transfer.send(data)
                await self._asked(path, transfer.finish())
            if server.appends is None:  # there are servers that replace the file and say 226
                size = len(data) + (before.size if before is not None else 0)
                server.appends = (await session.stat(path)).size == size
                if not server.appends:
                    raise Unsupported(path, "the server's APPE replaces files")

    async def _asked(self, path: str, asking: Awaitable[T]) -> T:
        try:
            return await asking
        except ReplyError as refusal:
            raise error_for(refusal.reply, path) from None

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        async def change(session: Session) -> Entry:
            before = await session.stat(path)
            if before.kind is Kind.DIRECTORY:
                raise IsDirectory(path, "only files keep a time")
            if await upload.set_time(session, path, mtime_ns) is None:
                raise Unsupported(path, "the server cannot set times")
            return await session.stat(path)

        return await self._call(path, change)

    async def hash(self, path: str, algorithm: str) -> str:
        async def ask(session: Session) -> str:
            if algorithm not in hashes.offered(session.server):
                raise Unsupported(path, f"the server does not compute {algorithm}")
            lines = hashes.commands(session.server, algorithm, await session.at(path))
            await session.connection.ahead(*lines)
            for verb, argument in lines:
                reply = await session.connection.command(verb, argument)
                if reply.code >= 400:
                    break
            if reply.ok:
                found = hashes.digest_in(" ".join(reply.lines), algorithm)
                if found is None:
                    raise Corrupt(path, f"no {algorithm} in the reply: {reply}")
                return found
            if (await session.stat(path)).kind is Kind.DIRECTORY:
                raise IsDirectory(path, str(reply))
            raise Unsupported(path, f"the server did not compute {algorithm}: {reply}")

        return await self._call(path, ask)

    async def usage(self) -> Usage:
        async def ask(session: Session) -> Usage:
            if not session.server.has("AVBL"):
                raise Unsupported("", "the server does not tell its free space")
            reply = await session.connection.demand("AVBL", session.wire(""))
            words = [word for word in reply.text.split() if word.isdecimal()]
            if not words:
                raise Corrupt("", f"the server's free space makes no sense: {reply}")
            return Usage(free=int(words[0]))

        return await self._call("", ask)

    async def aclose(self) -> None:
        """Close all connections; what still runs fails."""
        self._diary.close()
        await self._pool.aclose()

    # asking

    async def _call(self, path: str, ask: Callable[[Session], Awaitable[T]]) -> T:
        """Something that may safely be asked twice: again, if an old connection turns out dead."""
        check_path(path)
        for last in (False, True):
            used = False
            try:
                async with self._contacts.to(path) as session:
                    used = session.connection.used
                    return await ask(session)
            except Unreachable:
                if last or not used:
                    raise
                self._pool.drop_idle()
        raise AssertionError("unreachable")

    def _changeable(self, path: str) -> None:
        if not check_path(path):
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")

    # reading

    async def _retrieve(self, session: Session, path: str, start: int) -> tuple[Data | None, int]:
        """Start RETR at ``start``; answers the transfer, None beyond the end, and how much to skip."""
        wire = await session.at(path)
        try:
            return await session.connection.transfer("RETR", wire, rest=start if session.server.rest else 0), (
                0 if session.server.rest else start
            )
        except ReplyError as refusal:
            reply = refusal.reply
        if start and reply.code in (500, 501, 502, 504) and session.server.rest:
            session.server.rest = False
            return await self._retrieve(session, path, start)
        if reply.code in (450, 501, 550, 551, 553, 554):
            now = await session.stat(path)
            if now.kind is Kind.DIRECTORY:
                raise IsDirectory(path, str(reply))
            if start and start >= now.size:
                await session.connection.command("REST", "0")
                return None, 0
            if meaning(reply) is NotFound:
                raise contradiction(reply, path)
        raise error_for(reply, path)


@final
class _Download:
    """The bytes of one RETR, cut to a span."""

    def __init__(self, data: Data, path: str, span: Span, skip: int, size: int | None) -> None:
        self._data = data
        self._path = path
        self._missing = span.length
        self._beyond = 0 if size is None else max(0, span.stop - size)
        self._whole = size is not None
        self._left = None if size is None else size - span.start
        """Bytes from the start of the span to the end that the file is said to have."""
        self._skip = skip
        self._ended = False

    def __aiter__(self) -> _Download:
        return self

    async def __anext__(self) -> bytes:
        piece = b""
        while not piece:
            if self._ended or not self._missing:
                raise StopAsyncIteration
            self._ended = True  # unless this works: nothing polite is left to do on a broken connection
            block = await self._data.receive(RECEIVE)
            self._ended = False
            if not block:
                await self._finish()
                raise StopAsyncIteration
            if self._skip:
                skipped = min(self._skip, len(block))
                self._skip -= skipped
                block = block[skipped:]
            piece = bytes(block[: self._missing])
            self._missing -= len(piece)
            await self._count(len(block))
        return piece

    async def spliced(self) -> Pipe | None:
        """The next piece, left in the kernel; not the last one, behind which it has to be looked."""
        most = min(self._missing, self._left or 0) - TAIL
        if self._skip or most <= 0:
            return None
        self._ended = True
        piece = await self._data.spliced(most)
        self._ended = False
        if piece is not None:
            self._missing -= len(piece)
            await self._count(len(piece))
        return piece

    async def _count(self, received: int) -> None:
        """Before the last byte is handed on: the file must not go on behind it."""
        if self._left is not None:
            self._left -= received
            if self._left < 0 or (not self._left and not self._missing and await self._data.receive(RECEIVE)):
                self._ended = True
                raise Stale(self._path, "the server has more of it than it said")

    async def end(self) -> None:
        """After the reader is done: the whole file has been read, or the transfer is cut short."""
        if self._ended:
            return
        if not self._missing and not await self._data.receive(RECEIVE):
            await self._finish()
        else:
            await self._data.abandon()

    async def _finish(self) -> None:
        self._ended = True
        try:
            await self._data.finish()
        except ReplyError as refusal:
            raise error_for(refusal.reply, self._path) from None
        if self._whole and self._missing > self._beyond:
            raise Corrupt(self._path, f"the file ended {self._missing - self._beyond} bytes too soon")


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""

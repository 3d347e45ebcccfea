"""The entries of one directory: MLSD where there is one, else LIST, else NLST.

Entries pass in lists, one for each piece that arrives: with many thousand names, a step of an async generator for each
would cost more than to read its line.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ...errors import Busy, Corrupt, Denied, InvalidName, NotDirectory, NotFound, TooLarge, Unreachable, Unsupported
from ..paths import join
from ..protocol import Entry, Kind
from .bulk import Done, UsualLines
from .connection import LINE_LIMIT
from .data import Data
from .listing import DAY, MINUTE, Lines, Listed, is_heading, parse_mlsx
from .replies import UNKNOWN_COMMAND, Reply, ReplyError, error_for

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)
HELD_BACK = 20_000
"""Entries of the first LIST that may wait for the server's time zone; also links that are followed."""
LISTING_LIMIT = 512 << 20
"""Bytes in a listing: some five million names. A server that goes on and on is hostile, or broken."""
_QUARTER = 15 * MINUTE
_SELF = ("", ".", "..")


async def entries_of(session: Session, directory: str) -> AsyncGenerator[list[Entry], None]:
    """All entries of a directory, in pieces; see `Session.listing`."""
    names = session.server.options.names
    remarkable = names.remarkable.search
    unsized: list[str] = []
    found = _mlsd(session, directory) if session.server.mlst else _list(session, directory)
    async with aclosing(found):
        async for some in found:
            if isinstance(some, Done):
                yield some
                continue
            entries: list[Entry] = []
            for listed in some:
                if listed.kind is Kind.FILE and listed.size is not None and not remarkable(listed.name):
                    entries.append(Entry(listed.name, Kind.FILE, listed.size, listed.mtime_ns, listed.resolution_ns))
                    continue
                if listed.kind is None or listed.name in _SELF:
                    continue
                name = names.decode(listed.name)
                if name is None or "/" in name or "\0" in name or name in _SELF:
                    log.warning("%r: skipped a name that cannot be used: %.100r", directory, listed.name)
                elif listed.kind is Kind.FILE and listed.size is None:
                    if len(unsized) == HELD_BACK:
                        raise TooLarge(directory, "too many files whose sizes are not in the listing")
                    unsized.append(name)
                else:
                    entries.append(session.entry(name, listed))
            yield entries
    for name in unsized:
        try:
            entry = await session.by_size(join(directory, name))
        except NotFound:
            continue  # gone in the meantime
        if entry is None:
            log.warning("%r: skipped %.100r: the server does not tell what it is, or how large", directory, name)
        else:
            yield [entry]


async def _mlsd(session: Session, directory: str) -> AsyncGenerator[list[Listed] | Done, None]:
    try:
        data = await session.connection.transfer("MLSD", await session.at(directory))
    except ReplyError as refusal:
        raise await session.refuse_listing(directory, refusal.reply) from None
    name = session.wire(directory).rpartition("/")[2]
    alone: Listed | None = None
    seen = False
    fact_lines = session.server.fact_lines
    async with data:
        async for text in _blocks(session, directory, data):
            if (done := fact_lines.read(text)) is not None and (seen or not done or done[0].name != name):
                seen = True
                yield done
                continue
            lines = text.split("\n")
            some = [listed for listed in map(parse_mlsx, lines) if listed is not None]
            first = parse_mlsx(lines[0]) if lines and not seen else None
            seen = seen or bool(lines)
            if first is not None and first.name.rpartition("/")[2] == name:
                alone = some.pop(0)  # rclone lists a file as a directory with itself in it
            yield some
    if (not seen or alone is not None) and (await session.stat(directory)).kind is not Kind.DIRECTORY:
        raise NotDirectory(directory)
    if alone is not None:
        yield [alone]


async def _list(session: Session, directory: str) -> AsyncGenerator[list[Listed] | Done, None]:
    """CWD proves that the directory exists, as an empty LIST does not; and no name is in LIST's argument,
    where servers see options and patterns."""
    connection = session.connection
    listing = ("LIST", "-a" if session.server.list_all else "")
    if preparing := connection.preparing(*listing):
        known = session.server.list_works and session.server.list_all is not None and connection.may_begin()
        await connection.ahead(("CWD", session.wire(directory)), *preparing, begin=listing if known else None)
    reply = await session.enter(session.wire(directory))
    if not reply.ok:
        raise await session.refuse_listing(directory, reply)
    found = _list_here(session, directory)
    held: list[Listed] | None = [] if not session.server.list_offset_tried else None
    async with aclosing(found):
        async for some in found:
            if isinstance(some, Done):
                yield some
                continue
            if held is None:
                yield _in_utc(session, some)
                continue
            held += some
            if len(held) >= HELD_BACK:
                yield _in_utc(session, held)
                held = None
    if held:
        await _learn_offset(session, directory, held)
        yield _in_utc(session, held)


async def _list_here(session: Session, directory: str) -> AsyncGenerator[list[Listed] | Done, None]:
    """LIST of the current directory, with ``-a`` where that is wanted, or understood: it shows "."."""
    server = session.server
    if server.options.list_hidden:
        server.list_all = True
    if server.list_all is None:
        probe: list[Listed] = []
        try:
            async with aclosing(_list_by(session, directory, "-a")) as found:
                async for some in found:
                    assert not isinstance(some, Done), "the server is not known well enough"
                    probe += some
                    if len(probe) >= HELD_BACK:
                        break
        except (Denied, InvalidName, Busy, NotFound, Unsupported, Corrupt) as problem:
            log.debug("%r: no LIST -a here: %s", directory, problem)
        server.list_all = any(listed.name == "." for listed in probe)
        if server.list_all and len(probe) < HELD_BACK:
            yield probe
            return
        if not session.connection.settled:  # left a long listing half-way
            raise Unreachable(directory, "asked for a listing that is too long to try out")
    async with aclosing(_list_by(session, directory, "-a" if server.list_all else "")) as found:
        async for some in found:
            yield some


async def _list_by(session: Session, directory: str, argument: str) -> AsyncGenerator[list[Listed] | Done, None]:
    server, parser = session.server, Lines(datetime.now(UTC))
    usual = None
    if server.list_all is not None and server.list_offset_tried and server.list_offset_ns is not None:
        usual = UsualLines(server.options.names, datetime.now(UTC), server.list_offset_ns)
    if server.list_works:
        try:
            data = await session.connection.transfer("LIST", argument)
        except ReplyError as refusal:
            if _says_empty(refusal.reply):
                return
            if refusal.reply.code not in UNKNOWN_COMMAND or argument:
                raise error_for(refusal.reply, directory) from None
            server.list_works = False
        else:
            async with data:
                async for text in _blocks(session, directory, data):
                    if usual is not None and parser.at_start and (done := usual.read(text)) is not None:
                        parser.understood += len(done)
                        yield done
                        continue
                    lines = text.split("\n")
                    yield parser.feed_all(lines)
                    if parser.unknown and log.isEnabledFor(logging.DEBUG):
                        odd = [line for line in lines if not is_heading(line)]
                        log.debug("%r: %d lines not understood, of %.200r", directory, parser.unknown, odd)
    if not server.list_works or (parser.unknown and not parser.understood):
        async with aclosing(_names_alone(session, directory)) as found:
            async for some in found:
                yield some


async def _names_alone(session: Session, directory: str) -> AsyncGenerator[list[Listed], None]:
    """NLST: names and nothing more; what each is has to be asked (`entries_of` does)."""
    try:
        data = await session.connection.transfer("NLST")
    except ReplyError as refusal:
        if _says_empty(refusal.reply):
            return
        if refusal.reply.code in UNKNOWN_COMMAND:
            raise Corrupt(directory, "a listing in a form that is not understood") from None
        raise error_for(refusal.reply, directory) from None
    place = session.wire(directory).rstrip("/") + "/"
    async with data:
        async for text in _blocks(session, directory, data):
            names = [line.removeprefix("./").removeprefix(place).removesuffix("/") for line in text.split("\n")]
            yield [Listed(name, Kind.FILE) for name in names]


async def _blocks(session: Session, directory: str, data: Data) -> AsyncGenerator[str, None]:
    """A listing as it arrives, cut behind lines; between them is LF, whatever the server has there."""
    charset = session.server.options.charset
    rest, length = b"", 0
    while block := await data.receive():
        length += len(block)
        if length > LISTING_LIMIT:
            raise TooLarge(directory, f"the listing has no end: more than {LISTING_LIMIT >> 20} MiB")
        whole, _, rest = (rest + block).rpartition(b"\n")
        if len(rest) > LINE_LIMIT:
            raise Corrupt(directory, "a listing line without an end")
        if whole:
            text = whole.decode(charset, "surrogateescape")
            text = text.replace("\r\n", "\n").removesuffix("\r")
            if not _lines_are_short(text):
                raise Corrupt(directory, "a listing line that is too long")
            yield text
    if rest:
        yield rest.removesuffix(b"\r").decode(charset, "surrogateescape")
    try:
        reply = await data.finish()
    except ReplyError as refusal:
        if _says_empty(refusal.reply):
            return
        raise error_for(refusal.reply, directory) from None
    if any("truncated" in line.lower() for line in reply.lines):
        raise TooLarge(directory, f"the server does not list all of it: {reply}")


def _lines_are_short(text: str) -> bool:
    start = 0
    while len(text) - start > LINE_LIMIT:
        start = text.rfind("\n", start, start + LINE_LIMIT + 1) + 1
        if not start:
            return False
    return True


async def _learn_offset(session: Session, directory: str, held: list[Listed]) -> None:
    """Find the server's time zone: one file's LIST time beside its MDTM time."""
    for listed in held:
        name = session.server.options.names.decode(listed.name)
        if listed.kind is Kind.FILE and listed.local and listed.resolution_ns == MINUTE and name:
            session.server.list_offset_tried = True
            stamp = await session.mtime(join(directory, name))
            if stamp is not None and listed.mtime_ns is not None:
                ahead = listed.mtime_ns - stamp[0] // MINUTE * MINUTE
                offset = round(ahead / _QUARTER) * _QUARTER
                if abs(ahead - offset) <= MINUTE and abs(offset) <= DAY:
                    session.server.list_offset_ns = offset
            return


def _in_utc(session: Session, some: list[Listed]) -> list[Listed]:
    """Correct the times of entries, in place."""
    offset = session.server.list_offset_ns
    if offset == 0:
        return some
    for listed in some:
        if not listed.local or listed.mtime_ns is None:
            continue
        if offset is None:
            listed.resolution_ns = max(listed.resolution_ns, DAY) + DAY
        else:  # the zone is known, whether it had summer time that day is not
            listed.mtime_ns -= offset
            listed.resolution_ns += 60 * MINUTE
    return some


def _says_empty(reply: Reply) -> bool:
    """Some servers refuse to list an empty directory."""
    return reply.code in (450, 550) and "no files" in reply.text.lower()

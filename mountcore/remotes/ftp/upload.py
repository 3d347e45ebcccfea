"""Storing a file so that nobody ever sees a part of it.

| step | on the server | if it stops here |
|---|---|---|
| STOR to a partial beside the target | partial grows, target untouched | see :mod:`.leftovers` |
| MFMT, size check | partial complete, right time | the same |
| `expect` is looked at | - | `Stale`, partial deleted |
| RNFR, RNTO over the target | target is the new file | the partial is taken away, or gone: then it is stored |

A server that will not rename over a file gets the old one set aside first (``….previous``) and put back
if the new one cannot take its place; between the two renames the name is missing, so
:attr:`Capabilities.atomic_put` is False from then on.
"""

from __future__ import annotations

import logging
from typing import final

import trio

from ...errors import (
    Busy,
    Corrupt,
    Exists,
    IsDirectory,
    NotFound,
    StorageError,
    TimedOut,
    Unreachable,
)
from ..expecting import check_expected
from ..limits import unmetered
from ..partials import LONGEST, partial_name
from ..paths import basename, join, parent
from ..protocol import Anything, Entry, Expect, Kind, Source, stamp_of
from .data import Data
from .deeds import MOVE, UPLOAD, Deed, Diary
from .leftovers import WORTH_RESUMING, Interrupted, Leftovers, digest
from .listing import SECOND, format_stamp, parse_stamp
from .replies import Reply, ReplyError, error_for
from .sending import FirstPiece, Progress, send_all
from .server import Server
from .session import Session

log = logging.getLogger(__name__)
EARLY_CHECK = 4 << 20
"""From this size on, `expect` is looked at before the upload too: it may save the whole transfer."""
TAIL = 1 << 20
"""Bytes of a partial of another process that are compared."""
CLEANUP = 5.0
"""Seconds that cleaning up after a failed or cancelled upload may take."""


@final
class AnswerLost(Exception):
    """The connection broke after RNTO was sent. Stays inside this package; `outcome` finds out."""

    def __init__(self, partial: str, entry: Entry, problem: StorageError) -> None:
        super().__init__(str(problem))
        self.partial = partial
        self.entry = entry
        self.problem = problem


async def store(
    session: Session,
    path: str,
    source: Source,
    expect: Expect,
    mtime_ns: int | None,
    leftovers: Leftovers,
    diary: Diary,
) -> Entry:
    """Upload, verify, publish; answers what is stored now. What a failure leaves is told to ``leftovers``, or, where
    its end is not known, stays in the ``diary``. Raises `AnswerLost`."""
    if source.size >= EARLY_CHECK:
        await check(session, path, expect)
    partial, start = await _beginning(session, path, source, leftovers)
    progress = Progress(partial, start)
    diary.forget_partial(partial)
    with leftovers.in_use(path, partial):
        return await _store(session, path, source, expect, mtime_ns, leftovers, diary, progress)


async def _store(
    session: Session,
    path: str,
    source: Source,
    expect: Expect,
    mtime_ns: int | None,
    leftovers: Leftovers,
    diary: Diary,
    progress: Progress,
) -> Entry:
    partial = progress.partial
    deed = diary.note(Deed(UPLOAD, path, partial, source.size, stamp_of(source)))
    try:
        partial = await _send(session, partial, path, source, progress)
        if partial != deed.other:
            deed = diary.change(deed, deed._replace(other=partial))
        await _about_to_conclude(session, partial, path, expect, mtime_ns)
        stamp = await set_time(session, partial, mtime_ns) if mtime_ns is not None else None
        entry = await _verified(session, partial, path, source.size, stamp)
        await check(session, path, expect)
        await trio.lowlevel.checkpoint_if_cancelled()  # there may have been nothing to wait for
        deed = diary.will_name(deed)
        try:
            await publish(session, partial, path, diary)
        except (Unreachable, TimedOut) as problem:
            raise AnswerLost(partial, entry, problem) from problem
    except AnswerLost:
        diary.not_heard(deed)
        raise
    except (Unreachable, TimedOut, Busy):
        await _keep(session, path, source, progress, leftovers)
        raise
    except BaseException:
        if not await _clean(session, progress.partial, diary):
            if deed.naming:
                diary.not_heard(deed)
            else:
                leftovers.failed(progress.partial)
        raise
    diary.forget(deed)
    return entry


async def _keep(session: Session, path: str, source: Source, progress: Progress, leftovers: Leftovers) -> None:
    """Remember an upload that broke off, if it is worth going on with; else clean up after it."""
    known: bytes | None = None
    stamp = stamp_of(source)
    try:
        if progress.sent >= WORTH_RESUMING and not stamp:
            known = await trio.to_thread.run_sync(digest, unmetered(source), progress.sent)
    finally:
        if known is None and not (stamp and progress.sent >= WORTH_RESUMING):
            if not await _clean(session, progress.partial, leftovers.diary):
                leftovers.failed(progress.partial)
        else:
            log.info("%r: the upload broke off after %d of %d bytes and may go on", path, progress.sent, source.size)
            begun = Interrupted(progress.partial, source.size, progress.sent, known, stamp)
            leftovers.interrupted(path, begun)


async def _beginning(session: Session, path: str, source: Source, leftovers: Leftovers) -> tuple[str, int]:
    """The partial to send to, and from which byte on: behind what is there of an earlier try, if that was of the same
    content."""
    begun = leftovers.take(path)
    if begun is not None:
        leftovers.failed(begun.partial)  # unless it is gone on with
        if await begun.is_of(source):
            there = await session.find(begun.partial)
            if there is not None and 0 < there.size <= begun.sent and await _agrees(session, begun, there.size, source):
                leftovers.not_failed(begun.partial)
                return begun.partial, there.size
        await leftovers.tidy(session)
    return await _temporary(session, path, leftovers), 0


async def _temporary(session: Session, path: str, leftovers: Leftovers) -> str:
    """What the upload is called until it is whole: as the user wants it, but where something of that name is there."""
    place, name = parent(path), basename(path)
    wanted = session.server.options.temporary_name.replace("{name}", name)
    usable = 0 < len(wanted.encode("utf-8", "surrogateescape")) <= LONGEST
    usable = usable and (wanted[0] != "." or session.server.dot_names)
    if usable and await leftovers.may_take(session, place, wanted):
        return join(place, wanted)
    return join(place, partial_name(name, hidden=session.server.dot_names))


async def _agrees(session: Session, begun: Interrupted, there: int, source: Source) -> bool:
    """Whether a partial that is not known by digest ends as the source does there."""
    if begun.digest is not None:
        return True
    start = max(0, there - TAIL)
    expected = await trio.to_thread.run_sync(_exactly, unmetered(source), start, there)
    try:
        data = await session.connection.transfer("RETR", await session.at(begun.partial), rest=start)
    except ReplyError:
        return False
    found = b""
    async with data:
        while len(found) <= TAIL and (block := await data.receive()):
            found += block
        try:
            await data.finish()
        except ReplyError:
            return False
    return found == expected


def _exactly(source: Source, start: int, stop: int) -> bytes:
    found = b""
    while start + len(found) < stop and (piece := source.pread(stop - start - len(found), start + len(found))):
        found += piece
    return found


async def _about_to_conclude(session: Session, partial: str, path: str, expect: Expect, mtime_ns: int | None) -> None:
    """Send what comes between the upload and its publication ahead, in one packet."""
    commands = []
    if mtime_ns is not None and (way := _time_command(session.server, mtime_ns)) is not None:
        commands.append((way[0], f"{way[1]} {await session.at(partial)}"))
    if session.server.options.check_upload:
        commands += await session.probing(partial)
    if not isinstance(expect, Anything):
        commands += await session.probing(path)
    await session.connection.ahead(*commands)


def _time_command(server: Server, mtime_ns: int) -> tuple[str, str] | None:
    """The command that sets a time, and the time as it wants it; None where there is none."""
    if server.mfmt and not server.options.writing_mdtm:
        return "MFMT", format_stamp(mtime_ns)
    if server.mdtm and server.mdtm_write is not False:
        return "MDTM", format_stamp(mtime_ns)
    return None


async def outcome(session: Session, path: str, lost: AnswerLost, diary: Diary) -> Entry:
    """What became of a publication without an answer, after it was settled."""
    if lost.partial not in diary.stopped:
        there = await session.find(path)
        if there is not None and there.version.matches(lost.entry.version):
            return lost.entry
    raise lost.problem


async def _send(session: Session, partial: str, path: str, source: Source, progress: Progress) -> str:
    """STOR, or what takes the rest of a partial; answers the name used, which has no dot in front where the server
    refuses one."""
    connection, server = session.connection, session.server
    first = FirstPiece(source, progress.start, path)
    try:
        data = await first.meanwhile(_open(session, partial, progress.start, first.whole))
    except ReplyError as refusal:
        if progress.start or not server.dot_names or refusal.reply.code not in (550, 553):
            raise await _no_room_or_place(session, refusal.reply, path) from None
        plain = join(parent(path), partial_name(basename(path), hidden=False))
        try:
            data = await connection.transfer("STOR", await session.at(plain))
        except ReplyError:
            raise await _no_room_or_place(session, refusal.reply, path) from None
        server.dot_names, partial = False, plain
    progress.partial, progress.sent = partial, progress.start
    async with data:
        try:
            await send_all(data, source, path, progress, first)
            await data.finish()
            if server.options.upload_delay:
                await trio.sleep(server.options.upload_delay)
        except TimedOut:
            connection.close()  # it had its time to say why
            raise
        except Unreachable as broken:
            # a full disk or a quota closes the data connection first and says why on the other one
            raise await _reason(session, broken, path) from broken
        except ReplyError as refusal:
            raise await _no_room_or_place(session, refusal.reply, path) from None
    return partial


async def _open(session: Session, partial: str, start: int, content: bytes) -> Data:
    """Begin to send a file, or what is missing of it: by REST and STOR, else by APPE, which begin at the same byte."""
    connection = session.connection
    wire = await session.at(partial)
    if not start:
        return await connection.transfer("STOR", wire, content=content)
    try:
        return await connection.transfer("STOR", wire, rest=start)
    except ReplyError as refusal:
        log.info("%r: no REST before STOR here (%s), APPE is tried", partial, refusal)
        if connection.settled:
            await connection.command("REST", "0")
        return await connection.transfer("APPE", wire)


async def _reason(session: Session, broken: StorageError, path: str) -> StorageError:
    if session.connection.settled:
        return broken
    try:
        reply = await session.connection.reply(CLEANUP)
    except (Unreachable, TimedOut, Corrupt):
        return broken
    return error_for(reply, path) if reply.code >= 400 else broken


async def _no_room_or_place(session: Session, reply: Reply, path: str) -> StorageError:
    """Why a file cannot be created: no directory, or what the reply says."""
    if reply.code in (450, 550, 553):
        try:
            place = await session.stat(parent(path))
        except NotFound:
            return NotFound(path, "its directory does not exist")
        except StorageError:
            return error_for(reply, path)
        if place.kind is not Kind.DIRECTORY:
            return NotFound(path, "its directory is a file")
    return error_for(reply, path)


async def set_time(session: Session, path: str, mtime_ns: int) -> int | None:
    """MFMT, or MDTM with a time (vsftpd); answers the time that is set now, None where there is no way."""
    server, stamp = session.server, format_stamp(mtime_ns)
    whole = mtime_ns // SECOND * SECOND
    if server.mfmt and not server.options.writing_mdtm:
        reply = await session.connection.command("MFMT", f"{stamp} {await session.at(path)}")
        if reply.ok:
            return whole
        if reply.code not in (500, 501, 502, 504):
            raise await session.refused(reply, path)
        server.mfmt = False
    if server.mdtm and server.mdtm_write is not False:
        reply = await session.connection.command("MDTM", f"{stamp} {await session.at(path)}")
        if reply.ok and (reply.code != 213 or (parse_stamp(reply.text) or (whole,))[0] == whole):
            server.mdtm_write = True
            return whole
        # most servers take the time for a part of the name
        server.mdtm_write = server.options.writing_mdtm
    return None


async def _verified(session: Session, partial: str, path: str, size: int, stamp: int | None) -> Entry:
    """What is stored, if it is whole; an upload that lost its end to a broken connection is not."""
    if not session.server.options.check_upload:
        return Entry(basename(path), Kind.FILE, size, stamp, SECOND)
    found = await session.stat(partial)
    if found.size != size:
        raise Corrupt(path, f"{size} bytes were sent and {found.size} arrived")
    if stamp is not None and found.mtime_ns is not None and found.mtime_ns // SECOND * SECOND != stamp:
        session.server.mfmt = session.server.mdtm_write = False  # it said yes and did nothing
    return Entry(basename(path), Kind.FILE, size, found.mtime_ns, found.resolution_ns)


async def check(session: Session, path: str, expect: Expect) -> None:
    """Raise `Stale` if what is at ``path`` now is not what was expected."""
    if isinstance(expect, Anything):
        return
    now = await session.find(path)
    check_expected(now, path, expect)


async def publish(session: Session, source: str, target: str, diary: Diary) -> None:
    """Rename a file over a file. The caller has that in the ``diary``."""
    if session.server.rename_replaces:
        reply = await rename(session, source, target)
        if reply is None:
            return
        if reply.code not in (450, 550, 553):
            raise error_for(reply, target)
        replaced = await session.find(target)
        if replaced is None:
            raise await session.refused(reply, target)
        if replaced.kind is Kind.DIRECTORY:
            raise IsDirectory(target, str(reply))
    kept = join(parent(target), partial_name(basename(target), hidden=session.server.dot_names, kept=True))
    async with diary.told(session.connection, Deed(MOVE, target, kept)):
        aside = await rename(session, target, kept)
    refusal = await rename(session, source, target)
    if refusal is not None:
        if aside is None and (back := await rename(session, kept, target)) is not None:
            log.warning("%r: replacing failed; the old file is kept as %r (%s)", target, kept, back)
        raise Exists(target, str(refusal)) if aside is not None else error_for(refusal, target)
    if aside is None:
        session.server.rename_replaces = False
        await session.connection.command("DELE", await session.at(kept))


async def rename(session: Session, source: str, target: str) -> Reply | None:
    """RNFR and RNTO; None if done, else the refusal. Raises `NotFound` if there is no source."""
    connection = session.connection
    if not connection.renaming:  # else a server might take RNTO for the end of another rename, if RNFR fails
        await connection.ahead(("RNFR", await session.at(source)), ("RNTO", session.near(target)))
    reply = await connection.command("RNFR", await session.at(source))
    if reply.code == 350:
        reply = await connection.command("RNTO", session.near(target))
        connection.renaming = False
        return None if reply.ok else reply
    if reply.code in (450, 550):
        await session.stat(source)  # raises if that is why
    return reply


async def _clean(session: Session, partial: str, diary: Diary) -> bool:
    """Delete what a failed upload left; False if the connection does not allow that any more."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEANUP):
        try:
            connection = session.connection
            while not connection.settled:  # called off early, it owes 150, and 226 for the nothing it got
                await connection.reply(CLEANUP)
            await connection.command("DELE", await session.at(partial))
        except StorageError as problem:
            log.debug("%r stays for later: %s", partial, problem)
        else:
            diary.forget_partial(partial)
            return True
    return False

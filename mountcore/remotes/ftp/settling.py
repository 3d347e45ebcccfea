"""What becomes of changes whose answer was not heard, before anything else happens at their names.

| change | what is done | after that |
|---|---|---|
| upload, partial getting its name | the partial is renamed or deleted | a late rename finds nothing to rename |
| rename, remove | its effect is waited for, `PATIENCE` seconds at most | it is taken for lost on the way |

The first is certain with every server: RNTO renames a path, and the path is gone. Nothing like it can be done for the
second without doing the very thing. A server is late by the time that its process waits for a processor or a disk, by
far less than `PATIENCE`; from this machine nothing is sent after the end of the process (`Connection` sees to it).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from ...errors import NotFound
from ..partials import ABANDONED_AFTER, partial_name
from ..paths import basename, join, parent
from .deeds import MOVE, UPLOAD, Deed, Diary
from .leftovers import WORTH_RESUMING, Interrupted, Leftovers
from .upload import rename

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)
PATIENCE = 5.0
LOOK = 0.1
LONG_AGO = 300.0
"""Seconds after which a change is not waited for: what was to come of it has come."""


def take_over(diary: Diary, leftovers: Leftovers) -> None:
    """See to what dead processes left: uploads that may go on, partials to delete, changes to settle."""
    for deed in diary.inherit():
        if deed.kind != UPLOAD or deed.naming:
            diary.not_heard(deed)
        elif deed.stamp and deed.size >= WORTH_RESUMING and time.time() - deed.began < ABANDONED_AFTER:
            leftovers.interrupted(deed.path, Interrupted(deed.other, deed.size, deed.size, None, deed.stamp))
        else:
            leftovers.failed(deed.other)


async def settle(session: Session, deed: Deed, diary: Diary, leftovers: Leftovers) -> None:
    """See the table above."""
    if deed.kind == UPLOAD:
        await _stop(session, deed, diary, leftovers)
    else:
        await _wait_for(session, deed)
    diary.forget(deed)


async def _stop(session: Session, deed: Deed, diary: Diary, leftovers: Leftovers) -> None:
    """Keep a partial from getting its final name; a large one is kept, to go on with."""
    if deed.stamp and deed.size >= WORTH_RESUMING:
        hidden = basename(deed.other).startswith(".")
        fresh = join(parent(deed.path), partial_name(basename(deed.path), hidden=hidden))
        later = diary.note(deed._replace(other=fresh, naming=False))
        try:
            refusal = await rename(session, deed.other, fresh)
        except NotFound:
            diary.forget(later)
            return
        if refusal is None:
            diary.stopped.add(deed.other)
            leftovers.interrupted(deed.path, Interrupted(fresh, deed.size, deed.size, None, deed.stamp))
            return
        diary.forget(later)
    if await session.find(deed.other) is None:  # asked first: there are servers that delete whatever they are told to
        return
    reply = await session.connection.command("DELE", await session.at(deed.other))
    if not reply.ok and await session.find(deed.other) is None:
        return
    diary.stopped.add(deed.other)
    if not reply.ok:
        log.warning("%r: an upload that broke off cannot be deleted: %s", deed.other, reply)
        leftovers.failed(deed.other)


async def _wait_for(session: Session, deed: Deed) -> None:
    deadline = trio.current_time() + (PATIENCE if time.time() - deed.began < LONG_AGO else 0)
    while await session.find(deed.path) is not None:
        if trio.current_time() >= deadline:
            log.info("%r: a %s whose answer was not heard was not carried out", deed.path, deed.kind)
            return
        await trio.sleep(LOOK)
    if deed.kind == MOVE:
        log.info("%r was renamed to %r, as was found out later", deed.path, deed.other)

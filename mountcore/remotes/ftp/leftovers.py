"""What uploads leave on the server when they break off, and what becomes of it.

- A partial whose upload failed for good: this process knows it, and deletes it at the next contact with the server.
- A partial of a large upload whose connection broke: this process keeps it, and the source's stamp, or a digest of what
  was sent. The next upload of the same content goes on behind it; any other deletes it. When the process ends, or dies,
  the next has it from the diary (:mod:`.deeds`).
- A partial of some other process is known by its name: deleted when a day old, or when it has not grown for
  `STALLED_AFTER` under our eyes, by calls that change its folder.
- A file set aside (``….previous``) whose successor never came is put back if, seen in a listing, its name is still
  missing after `PATIENCE`.

"The same content" is proved, not guessed, so that no mix of two versions is ever published: the source is read again
up to where it was sent and its digest compared; or it is the same file, unchanged to the nanosecond, and the end of the
partial, fetched, agrees with it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

from ...errors import NotFound, StorageError
from ..limits import unmetered
from ..partials import ABANDONED_AFTER, belongs_to, is_abandonable
from ..paths import join
from ..protocol import Entry, Kind, Source, stamp_of
from .deeds import Diary

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)
WORTH_RESUMING = 1 << 20
"""Bytes sent, below which an upload begins anew."""
PATIENCE = 3.0
"""Seconds for another program to finish exchanging a file, before it is taken to have died meanwhile."""
STALLED_AFTER = 900.0
"""Seconds without a new byte after which nobody is uploading any more: every wait of an upload is far shorter."""
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An upload that broke off: its partial, and what had been sent of which content."""

    partial: str
    size: int
    sent: int
    digest: bytes | None
    """None where there is a ``stamp``, which tells it, too, and costs no reading."""
    stamp: str = ""

    async def is_of(self, source: Source) -> bool:
        """Whether the source begins with what was sent."""
        if source.size != self.size:
            return False
        if self.digest is None:
            return self.stamp != "" and stamp_of(source) == self.stamp
        return await trio.to_thread.run_sync(digest, unmetered(source), self.sent) == self.digest


def digest(source: Source, length: int) -> bytes | None:
    """Of the first bytes of a source; None if they cannot be read. Takes as long as reading them does."""
    state, offset = hashlib.blake2b(), 0
    try:
        while offset < length:
            piece = source.pread(min(_PIECE, length - offset), offset)
            if not piece:
                return None
            state.update(piece)
            offset += len(piece)
    except (OSError, StorageError):
        return None
    return state.digest()


@final
class Leftovers:
    """What is known to lie about on one server."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self._failed: set[str] = set()
        self._interrupted: dict[str, Interrupted] = {}
        self._old: dict[str, set[str]] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        """Partials of others: size, and since when we know it."""
        self._used: dict[str, int] = {}
        """Names that uploads of this process go to, and how many do."""
        self._there: dict[str, set[str]] = {}
        """By folder: names like those that the user wants for uploads, of when it was first asked."""

    @contextmanager
    def in_use(self, *paths: str) -> Iterator[None]:
        """These are being written."""
        used = self._used
        for path in paths:
            used[path] = used.get(path, 0) + 1
        try:
            yield
        finally:
            for path in paths:
                used[path] -= 1
                if not used[path]:
                    del used[path]

    async def may_take(self, session: Session, directory: str, name: str) -> bool:
        """Whether an upload may go to a name that is not its own for sure: not if another one does, nor if a file of
        that name was there when this process came to the folder. No checkpoint comes between the answer and its return.
        """
        if directory not in self._there:
            before, _, after = session.server.options.temporary_name.partition("{name}")
            there = set()
            try:
                async with aclosing(session.listing(directory)) as batches:
                    async for batch in batches:
                        there |= {e.name for e in batch if e.name.startswith(before) and e.name.endswith(after)}
            except NotFound:
                return True  # the upload will say that
            self._there[directory] = there
        return name not in self._there[directory] and join(directory, name) not in self._used

    def failed(self, partial: str) -> None:
        """A partial of ours that could not be deleted yet."""
        self._failed.add(partial)

    def not_failed(self, partial: str) -> None:
        """It is used after all."""
        self._failed.discard(partial)

    def interrupted(self, path: str, upload: Interrupted) -> None:
        """An upload that may go on."""
        self._interrupted[path] = upload

    def take(self, path: str) -> Interrupted | None:
        """The upload of ``path`` that broke off, if any; the caller sees to its partial from here on."""
        return self._interrupted.pop(path, None)

    def give_up(self, path: str) -> None:
        """Nobody is going to go on with the upload of ``path``, or of anything below it."""
        for place in [place for place in self._interrupted if place == path or place.startswith(path + "/")]:
            self._failed.add(self._interrupted.pop(place).partial)

    def noticed(self, directory: str, entry: Entry, now_ns: int) -> None:
        """A name of ours in a listing."""
        path = join(directory, entry.name)
        if entry.kind is not Kind.FILE or not is_abandonable(entry.name):
            return
        if any(upload.partial == path for upload in self._interrupted.values()):
            return
        now = trio.current_time()
        size, since = self._seen.get(path, (-1, 0.0))
        if size != entry.size:
            since = now
            self._seen[path] = (entry.size, since)
        old = entry.mtime_ns is not None and now_ns - entry.mtime_ns > ABANDONED_AFTER * 1e9 + entry.resolution_ns
        if old or now - since >= STALLED_AFTER:
            self._old.setdefault(directory, set()).add(entry.name)

    async def tidy(self, session: Session, changed: str | None = None) -> None:
        """Delete what failed uploads left, and, if a folder is about to be changed, what is old in it."""
        doomed = [*self._failed]
        if changed is not None:
            doomed += [join(changed, name) for name in self._old.pop(changed, ())]
        for path in doomed:
            self._failed.discard(path)
            self._seen.pop(path, None)
            try:
                await session.connection.command("DELE", await session.at(path))
            except StorageError as problem:
                log.debug("%r stays for later: %s", path, problem)
                self._failed.add(path)
                raise
            self.diary.forget_partial(path)

    @property
    def untidy(self) -> bool:
        """Whether there is something that the next contact should delete."""
        return bool(self._failed)


async def put_back(session: Session, directory: str, kept: Entry) -> Entry | None:
    """Give a file that was set aside its name again; the entry, or None if that was not to be done."""
    name = belongs_to(kept.name)
    if name is None:
        log.warning("%r: %r is an older version of a file whose name is cut off; rename it", directory, kept.name)
        return None
    path, aside = join(directory, name), join(directory, kept.name)
    if await session.find(path) is not None:
        return None
    await trio.sleep(PATIENCE)
    if await session.find(path) is not None or await session.find(aside) is None:
        return None  # somebody was busy with it
    reply = await session.connection.command("RNFR", await session.at(aside))
    if reply.code == 350:
        reply = await session.connection.command("RNTO", session.near(path))
    if not reply.ok:
        log.warning("%r was lost in an exchange that broke off; its content is in %r (%s)", path, aside, reply)
        return None
    log.warning("%r was missing after an exchange that broke off; it has been put back", path)
    return await session.find(path)

"""What a server was told to do and has not been heard to have done; kept on disk, for the next process to know.

A server goes on with what is in its socket when the client is dead, or has given its connection up: a rename may be
carried out seconds later, when others have been at the name. So a change is noted here before it is sent and
forgotten when it is answered. What is left, of this process or of dead ones on this machine, is *unheard*, and is
settled before anything else is asked about its names (:mod:`.settling`).

The diary of a process is a file of slots in ``CACHE/ftp/REMOTE/``, locked for as long as the process lives: whoever
gets the lock of another's file inherits it. A slot is written by one pwrite(2), so that kill -9 leaves it whole; its
first byte tells whether there is something in it, and how far that has come.
Nothing is synced: no command outlives a loss of power by much. Where no file can be made, this process alone knows.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import heapq
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import trio

from ...errors import StorageError
from ...settings import default_cache_dir

if TYPE_CHECKING:
    from .connection import Connection

log = logging.getLogger(__name__)
SLOT = 16 << 10
"""Bytes: two paths of 4 KiB, escaped."""
HEARING = 5.0
"""Seconds in which the answer to a change is waited for after the change was called off."""
_NOTED, _NAMING = b"-", b"!"
_FREE = b"\0\0"
"""Of what was there nothing is left that a mark could bring back."""
UPLOAD, MOVE, REMOVE = "upload", "move", "remove"


class Deed(NamedTuple):
    """One change. ``other`` is the partial of an upload, the new name of a move."""

    kind: str
    path: str
    other: str = ""
    size: int = 0
    stamp: str = ""
    naming: bool = False
    """Of an upload: its partial may be getting its final name; before, nobody but this upload uses it."""
    began: float = 0.0
    """Seconds since 1970."""

    def concerns(self, path: str) -> bool:
        """Whether it may change what is found at ``path``, above or below it. Pure."""
        return any(_related(path, mine) for mine in (self.path, self.other) if mine)


def _related(one: str, other: str) -> bool:
    return not one or one == other or one.startswith(other + "/") or other.startswith(one + "/")


@final
class Diary:
    """The changes under way by one remote. ``identity`` is its own; those of other roots are others' business."""

    def __init__(self, identity: str) -> None:
        name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self._directory = default_cache_dir() / "ftp" / name
        self._file: int | None = None
        self._path: Path | None = None
        self._on_disk = True
        self._slots: dict[Deed, int] = {}
        self._free: list[int] = []
        self._next = 0
        self.unheard: list[Deed] = []
        self.stopped: set[str] = set()
        """Partials of which it is known that they never got their final name."""

    def note(self, deed: Deed) -> Deed:
        """Write it down; answers it with its time."""
        deed = deed._replace(began=time.time())
        slot = heapq.heappop(self._free) if self._free else self._next
        self._next = max(self._next, slot + 1)
        self._slots[deed] = slot
        self._write(slot, deed)
        return deed

    def change(self, deed: Deed, now: Deed) -> Deed:
        """The same change has come further."""
        slot = self._slots.pop(deed)
        self._slots[now] = slot
        self._write(slot, now)
        return now

    def will_name(self, deed: Deed) -> Deed:
        """The partial of an upload is about to get its final name."""
        slot = self._slots.pop(deed)
        deed = deed._replace(naming=True)
        self._slots[deed] = slot
        self._put(slot, _NAMING)
        return deed

    def forget(self, deed: Deed) -> None:
        """It has been answered, or can do no harm any more. Does nothing if it is not known."""
        slot = self._slots.pop(deed, None)
        if deed in self.unheard:
            self.unheard.remove(deed)
        if slot is not None:
            self._put(slot, _FREE)
            heapq.heappush(self._free, slot)

    def forget_partial(self, partial: str) -> None:
        """The partial of an upload is gone."""
        for deed in [deed for deed in self._slots if deed.kind == UPLOAD and deed.other == partial]:
            self.forget(deed)

    def not_heard(self, deed: Deed) -> None:
        """Its answer will not be heard."""
        if deed in self._slots and deed not in self.unheard:
            self.unheard.append(deed)

    @asynccontextmanager
    async def told(self, connection: Connection, deed: Deed) -> AsyncIterator[None]:
        """The body sends this change; if it is called off, the answer is waited for, `HEARING` seconds at most."""
        deed = self.note(deed)
        try:
            yield
        except BaseException:
            await hear(connection)
            if connection.settled:
                self.forget(deed)
            else:
                self.not_heard(deed)
            raise
        self.forget(deed)

    def inherit(self) -> list[Deed]:
        """The changes that dead processes had under way, now ours. Blocking, for a moment."""
        found: list[Deed] = []
        with suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                if path != self._path:
                    found += self._inherit_from(path)
        return found

    def _inherit_from(self, path: Path) -> Iterator[Deed]:
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            facts = os.fstat(file)
            if not facts.st_nlink or facts.st_uid != os.geteuid():
                return
            for offset in range(0, facts.st_size, SLOT):
                deed = _parse(os.pread(file, SLOT, offset))
                if deed is not None:
                    slot = heapq.heappop(self._free) if self._free else self._next
                    self._next = max(self._next, slot + 1)
                    self._slots[deed] = slot
                    self._write(slot, deed)
                    yield deed
            path.unlink()
        except OSError as problem:
            if problem.errno not in (errno.EWOULDBLOCK, errno.ENOENT):
                log.info("%s: %s", path, problem)
        finally:
            os.close(file)

    def close(self) -> None:
        """Let go of the file; what is unheard stays in it, for whoever comes next."""
        if self._file is not None:
            if not self._slots and self._path is not None:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
        self._on_disk = False

    def _write(self, slot: int, deed: Deed) -> None:
        facts = deed._asdict()
        mark = _NAMING if facts.pop("naming") else _NOTED
        text = json.dumps(facts).encode()
        if len(text) < SLOT - 1:
            self._put(slot, mark + text + b"\0")

    def _put(self, slot: int, data: bytes) -> None:
        if not self._on_disk:
            return
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            os.pwrite(self._file, data, slot * SLOT)
        except OSError as problem:
            log.info("%s: what is under way is not on disk: %s", self._directory, problem)
            self._on_disk = False

    def _open(self) -> None:
        os.makedirs(self._directory.parent.parent, 0o700, exist_ok=True)
        for folder in (self._directory.parent, self._directory):
            folder.mkdir(0o700, exist_ok=True)
        self._path = self._directory / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _parse(slot: bytes) -> Deed | None:
    mark, text = slot[:1], slot[1:].partition(b"\0")[0]
    if mark not in (_NOTED, _NAMING):
        return None
    try:
        fields = json.loads(text)
        deed = Deed(**fields, naming=mark == _NAMING)
    except (ValueError, TypeError):
        return None
    return deed if isinstance(fields, dict) and all(type(fields[name]) is kind for name, kind in _TYPES) else None


_TYPES = (
    ("kind", str), ("path", str), ("other", str), ("size", int), ("stamp", str), ("began", float),
)  # fmt: skip


async def hear(connection: Connection) -> None:
    """Read what the server still owes, for `HEARING` seconds at most; even when cancelled."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + HEARING), suppress(StorageError):
        while not connection.settled and not connection.closed:
            await connection.reply(HEARING)

"""A file on its way out, and one on its way in: what a session's thread does with the cache file itself.

Used by the data connection. A `Download` knows up to where the core has leased bytes to it and asks for the
next window early; an `Upload` writes straight into a staged file, reports what it wrote and asks for more
room in steps. Neither ever waits: what has to be waited for is asked with a callback, in the same thread.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import final

import outcome
import trio

from mountcore.errors import Quota, StorageError
from mountcore.handle import CachedHandle
from mountcore.splicing import Pipe
from mountcore.stage import Publish, Syncing

from .bridge import Asked
from .filesystem import STEP, Opened, Staged, Storage
from .loop import SessionLoop
from .settings import Acknowledge

log = logging.getLogger(__name__)

DIRECT_PIECE = 1 << 20
"""Bytes asked for at once of a file that is not in the cache."""
SYNCED_HERE = 1 << 20
"""Bytes of an upload that the session's own thread syncs; with more the control connection would have to wait."""
_BARE_LF = re.compile(rb"(?<!\r)\n")


@final
class Download:
    """A file on its way out."""

    def __init__(self, path: str, opened: Opened, loop: SessionLoop) -> None:
        self.name = path
        self.closed = False
        self.fd = opened.handle.fileno()
        self.position = opened.offset
        self.size = opened.size
        self._handle = opened.handle
        self._loop = loop
        self._stop = opened.present
        self._pieces: list[bytes] = []
        self._asking: Asked | None = None
        self._last = b""
        self.problem: OSError | None = None
        """Why the core could provide no more; what it provided before is still sent."""

    @property
    def finished(self) -> bool:
        """Whether every byte was taken."""
        return self.position >= self.size

    def available(self) -> int:
        """Bytes that can be sent now without asking."""
        if self.fd < 0:
            return sum(map(len, self._pieces))
        return min(self._stop, self.size) - self.position

    def take(self, limit: int) -> bytes:
        """The next bytes, at most ``limit``; at least one is available."""
        if self.fd >= 0:
            data = os.pread(self.fd, min(limit, self.available()), self.position)
        else:
            data, self._pieces[0] = self._pieces[0][:limit], self._pieces[0][limit:]
            if not self._pieces[0]:
                del self._pieces[0]
        if not data:
            raise StorageError(self.name, "the cache file is shorter than it was")
        self.position += len(data)
        return data

    def take_into(self, buffer: memoryview) -> memoryview:
        """`take`, of a file in the cache, without making an object: those of this size cost more than the reading."""
        count = os.preadv(self.fd, [buffer[: self.available()]], self.position)
        if not count:
            raise StorageError(self.name, "the cache file is shorter than it was")
        self.position += count
        return buffer[:count]

    def converted(self, data: bytes) -> bytes:
        """The bytes as TYPE A sends them: every line ends in CRLF (RFC 959 §3.1.1.1)."""
        after_cr, self._last = self._last == b"\r", data[-1:]
        if after_cr and data.startswith(b"\n"):
            return b"\n" + _BARE_LF.sub(b"\r\n", data[1:])
        return _BARE_LF.sub(b"\r\n", data)

    def ask(self, then: Callable[[OSError | None], None]) -> None:
        """Have the core provide more, if it is time; ``then`` is called when it has, or could not."""
        if self._asking is not None or self.closed or self.problem is not None or self.available() > STEP // 2:
            return
        start = self._stop if self.fd >= 0 else self.position + self.available()
        if start >= self.size or self._leased_at_once(start):
            return

        def provided(result: outcome.Outcome[int] | outcome.Outcome[bytes]) -> None:
            self._asking = None
            if isinstance(result, outcome.Error):
                self.problem = as_os_error(result.error)
            else:
                self._take_in(result.unwrap(), start)
            then(self.problem)

        if self.fd >= 0:
            self._asking = self._loop.ask(self._handle.lease, start, STEP, then=provided)
        else:
            self._asking = self._loop.ask(self._handle.read, start, min(DIRECT_PIECE, self.size - start), then=provided)

    def _leased_at_once(self, start: int) -> bool:
        """Take what is in the cache behind ``start``; answers whether there was anything, and the core had time."""
        if self.fd < 0 or not isinstance(self._handle, CachedHandle):
            return False
        stop = self._loop.at_once_here(self._handle.try_lease, start, STEP)
        if stop is None or stop <= start:
            return False
        self._stop = stop
        return True

    def _take_in(self, answer: int | bytes, start: int) -> None:
        if isinstance(answer, bytes):
            self._pieces.append(answer)
            grown = bool(answer)
        else:
            self._stop, grown = answer, answer > start
        if not grown:
            self.problem = StorageError(self.name, "the file became shorter while it was read")

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            self.closed = True
            if self._asking is not None:
                self._asking.give_up()
            self._loop.let_go(self._handle)


@final
class Upload:
    """A file on its way in."""

    def __init__(self, path: str, staged: Staged, storage: Storage, how: Publish, offset: int, loop: SessionLoop):
        self.name = path
        self.closed = False
        self.size = 0
        self.complete = False
        self._staged = staged
        self._storage = storage
        self._how = how
        self._offset = offset
        self._loop = loop
        self._fd = staged.stage.fileno()
        self._room = self._step = staged.room
        self._most: int | None = None
        if staged.allowed is not None:  # what it replaces makes room for it
            self._most = staged.allowed + (0 if how is Publish.APPEND else max(0, staged.size - offset))
        self._reported = 0
        self._asking: Asked | None = None
        self._had_cr = False

    @property
    def room(self) -> int:
        """Bytes that may be written now without asking."""
        return self._room - self.size

    def take_from(self, sock: int, pipe: Pipe, limit: int) -> int:
        """Take what is there on a socket; answers how much, 0 at its end. See `Pipe.receive`."""
        count = pipe.receive(sock, self._fd, self.size, min(limit, self.room))
        self._check(count)
        self.size += count
        return count

    def _check(self, more: int) -> None:
        if self._most is not None and self.size + more > self._most:
            raise Quota(self.name, "there is no room left for it")

    def write(self, data: bytes | memoryview) -> None:
        """Take bytes; raises what pwrite(2) raises."""
        view = memoryview(data)
        self._check(len(view))
        while view:
            count = os.pwrite(self._fd, view, self.size)
            self.size += count
            view = view[count:]

    def write_text(self, data: bytes) -> None:
        """Take bytes of TYPE A: CRLF becomes LF, also where it comes in two pieces."""
        if self._had_cr:
            data = b"\r" + data
        self._had_cr = data.endswith(b"\r")
        if self._had_cr:
            data = data[:-1]
        self.write(data.replace(b"\r\n", b"\n"))

    def end(self) -> None:
        """The client has sent everything."""
        if self._had_cr:
            self._had_cr = False
            self.write(b"\r")
        self.complete = True

    def ask(self, then: Callable[[OSError | None], None]) -> None:
        """Report what was written and ask for more room, if it is time; ``then`` is called when there is some."""
        if self._asking is not None or self.closed or self.room > self._step // 2:
            return
        start, self._reported = self._reported, self.size
        if self._storage.acknowledge is not Acknowledge.MEMORY:
            self._staged.stage.write_out(start, self.size)

        def granted(result: outcome.Outcome[int]) -> None:
            self._asking = None
            if isinstance(result, outcome.Error):
                then(as_os_error(result.error))
            else:
                self._room += result.unwrap()
                then(None)

        self._asking = self._loop.ask(self._storage.more, self._staged.stage, start, self.size, then=granted)

    def commit(self, then: Callable[[OSError | None], None]) -> None:
        """Publish what was received; ``then`` is called with None when it is safe."""
        self.closed = True
        stage, syncing = self._staged.stage, self._syncing()

        def settled(result: outcome.Outcome[None]) -> None:
            problem = as_os_error(result.error) if isinstance(result, outcome.Error) else None
            if problem is None and syncing is Syncing.CALLER:
                try:
                    stage.sync_index()
                except OSError as failed:
                    problem = failed
            then(problem)

        try:
            if syncing is Syncing.CALLER:
                stage.sync()
            done = self._loop.at_once(self._storage.try_commit, self._staged, self.size, self._how, syncing)
        except (OSError, trio.RunFinishedError) as problem:
            self._loop.ask(stage.discard, then=lambda result: None)
            then(as_os_error(problem))
            return
        if done:
            settled(outcome.Value(None))
        else:
            self._loop.ask(
                self._storage.commit, self._staged, self.size, self._how, self._offset, syncing, then=settled
            )

    def _syncing(self) -> Syncing:
        """A small upload is synced by this thread: that takes no longer than asking another one to."""
        match self._storage.acknowledge:
            case Acknowledge.MEMORY:
                return Syncing.NEVER
            case Acknowledge.JOURNAL if self.size <= SYNCED_HERE and self._how is Publish.REPLACE:
                return Syncing.CALLER
            case _:
                return Syncing.COMMIT

    def close(self) -> None:
        """Forget the upload, unless it was committed."""
        if not self.closed:
            self.closed = True
            if self._asking is not None:
                self._asking.give_up()
            self._loop.ask(self._staged.stage.discard, then=lambda result: None)


def as_os_error(problem: BaseException) -> OSError:
    """What to tell the client; anything but an error of storage is a fault of ours, and in the log."""
    if isinstance(problem, OSError):
        return problem
    if isinstance(problem, trio.RunFinishedError):
        return StorageError("", "the server is stopping")
    log.error("a fault in the server, in a transfer", exc_info=problem)
    return StorageError("", "a fault in the server")

"""Bytes that are copied once: from a socket through a pipe into a file, by the kernel (splice(2)).

For large plain uploads to the FTP server, and large plain downloads from one. recv(2) and pwrite(2) copy every byte
twice; measured over loopback that takes 500 to 630 µs of processor time per MiB, this 350.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import final

LEAST = 64 << 10
"""A pipe that holds less (the user has many: pipe(7), pipe-user-pages-soft) is not worth it."""


@final
class Pipe:
    """The way of one transfer, and the piece of it that is on the way: its ``len`` is what came by the last `fill`.

    Raises OSError where there can be no pipe of use. Close it.
    """

    def __init__(self, room: int) -> None:
        self._out, self._into = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                self.room: int = fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, room)
            except PermissionError:
                self.room = fcntl.fcntl(self._into, fcntl.F_GETPIPE_SZ)
            if self.room < LEAST:
                raise OSError(errno.EMFILE, "the pipe is too small")
        except BaseException:
            self.close()
            raise
        self.usable = True
        """The file can be written in this way."""
        self.taken = 0
        """Bytes of the piece that went where they belong."""
        self._length = 0
        self._read = memoryview(b"")
        """Of the rest, what had to be read to be written."""

    def __len__(self) -> int:
        return self._length

    def fill(self, sock: int, limit: int) -> int:
        """Take what is there on a socket as the next piece; answers how much, 0 at the end.

        Raises BlockingIOError where nothing is there yet, and what recv(2) raises. The piece before has been taken.
        """
        assert self.taken == self._length, "a piece was left in the pipe"
        count = os.splice(sock, self._into, min(limit, self.room), flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        self._length, self.taken = count, 0
        return count

    def put(self, file: int, offset: int, count: int) -> int:
        """Move some of the piece's next ``count`` bytes into a file; answers how many. Raises what pwrite(2) does."""
        if self.usable:
            try:
                done = os.splice(self._out, file, count, offset_dst=offset, flags=os.SPLICE_F_MOVE)
            except OSError as problem:
                if problem.errno != errno.EINVAL:
                    raise
                self.usable = False
        if not self.usable:
            if not self._read:
                self._read = memoryview(os.read(self._out, count))
            done = os.pwrite(file, self._read[:count], offset)
            self._read = self._read[done:]
        self.taken += done
        return done

    def put_all(self, file: int, offset: int) -> None:
        """Move what is left of the piece into a file, in which all of it begins at ``offset``."""
        while self.taken < self._length:
            self.put(file, offset + self.taken, self._length - self.taken)

    def skip(self, count: int) -> None:
        """Throw the piece's next ``count`` bytes away."""
        self.taken += count
        read = min(count, len(self._read))
        self._read = self._read[read:]
        count -= read
        while count:
            count -= len(os.read(self._out, count))

    def receive(self, sock: int, file: int, offset: int, limit: int) -> int:
        """Move what is there from a socket into a file; answers how much, 0 at the end.

        Raises BlockingIOError where nothing is there yet, and what recv(2) and pwrite(2) raise; after the latter the
        pipe is of no use.
        """
        count = self.fill(sock, limit)
        self.put_all(file, offset)
        return count

    def close(self) -> None:
        """Let go of it. Closing again does nothing."""
        for end in (self._out, self._into):
            if end >= 0:
                os.close(end)
        self._out = self._into = -1


Piece = bytes | Pipe
"""Bytes of a file, here or on the way."""

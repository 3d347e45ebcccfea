"""Uploads that are copied once: from the socket through a pipe into the cache file, by the kernel (splice(2)).

Used by a data connection for large plain uploads. recv(2) and pwrite(2) copy every byte twice; measured over loopback
that takes 630 µs of processor time per MiB, this 350. The pipe is empty between two calls, so that nothing waits in it
when the transfer ends or goes over to recv(2).
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
    """The way of one upload. Raises OSError where there can be no pipe of use. Close it."""

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

    def receive(self, sock: int, file: int, offset: int, limit: int) -> int:
        """Move what is there from a socket into a file; answers how much, 0 at the end.

        Raises BlockingIOError where nothing is there yet, and what recv(2) and pwrite(2) raise; after the latter the
        pipe is of no use.
        """
        count = os.splice(sock, self._into, min(limit, self.room), flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        done = 0
        while done < count:
            done += self._put(file, offset + done, count - done)
        return count

    def _put(self, file: int, offset: int, count: int) -> int:
        if self.usable:
            try:
                return os.splice(self._out, file, count, offset_dst=offset, flags=os.SPLICE_F_MOVE)
            except OSError as problem:
                if problem.errno != errno.EINVAL:
                    raise
                self.usable = False
        view = memoryview(os.read(self._out, count))
        done = 0
        while done < len(view):
            done += os.pwrite(file, view[done:], offset + done)
        return done

    def close(self) -> None:
        """Let go of it. Closing again does nothing."""
        for end in (self._out, self._into):
            if end >= 0:
                os.close(end)
        self._out = self._into = -1

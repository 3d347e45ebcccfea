"""A data connection as such: bytes out and in, as fast as is allowed, plain or under TLS, and its end.

Used by :mod:`.transfer`, which says what the bytes are. While the connection is parked (the core has to provide
something) or rests (it was too fast), nothing of the session waits.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

from mountcore.splicing import Pipe

from .compression import Deflating, Inflating
from .library import DTPHandler
from .loop import SessionLoop
from .rates import Throttle
from .tls import Secured, farewell, is_plain_end

RECORD = 16 << 10
"""Bytes of a TLS record."""
PIECE = 256 << 10
"""Bytes sent or received for one readiness of the socket, so that the control connection gets its turn."""
SENT = 1 << 20
"""Bytes that the kernel is asked to send of a file at once; it takes what the socket has room for."""
SPLICED = 1 << 20
"""Bytes of an upload after which, and in which, it is spliced: small files need no pipe."""


class Channel(Secured, DTPHandler):  # type: ignore[misc]
    """See the module."""

    file_obj: Any
    cmd_channel: Any
    ioloop: SessionLoop
    _fileno: int | None
    _initialized: bool
    tot_bytes_sent: int
    ac_out_buffer_size = PIECE

    def __init__(self, sock: socket.socket, cmd_channel: Any) -> None:
        self.settling = False
        """An upload is complete and being stored."""
        self._parked = False
        self._broken = self._peer_ended = False
        self._piece = memoryview(b"")
        self._ascii = self._no_sendfile = self._no_splice = False
        self._pipe: Pipe | None = None
        self._progress = 0
        self._throttle = Throttle()
        self._deflating: Deflating | None = None
        self._inflating: Inflating | None = None
        self._ended = False
        """In MODE Z: the client has sent everything, but not everything is decompressed."""
        self._resting: Any = None
        self.timeout = cmd_channel.data_timeout
        super().__init__(sock, cmd_channel)
        if self._closed:
            return
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # until a command says what to do with it, it may wait: data or an end that comes early stays unread
        self._want(0)
        if cmd_channel.data_protected:
            self.start_tls(cmd_channel.server.certificates, cmd_channel.tls_context, tickets=0)

    @property
    def active(self) -> bool:
        """Whether a transfer command was accepted for it."""
        return bool(self._initialized)

    # the loop

    def _want(self, events: int) -> None:
        if not self._closed and self._fileno is not None:
            self.modify_ioloop_events(events)
            self._wanted_io_events = events

    def _go_on(self) -> None:
        """Leave the parking place, if there is anything to do."""
        self._parked = False
        if self.handshaking or not self.active or self._resting is not None:
            return
        self._want(self.ioloop.READ if self.receive else self.ioloop.WRITE)

    def _park(self) -> None:
        self._parked = True
        self._want(0)

    def _moved(self, count: int) -> None:
        """So many bytes went over the connection: rest, if that was faster than is allowed."""
        seconds = self._throttle.take(count) if self._throttle.meters else 0.0
        if seconds > 0 and not self._closed and self._fileno is not None:
            self._want(0)
            self._resting = self.call_later(seconds, self._rested, _errback=self.handle_error)

    def _rested(self) -> None:
        self._resting = None
        if not self._closed and not self.settling and not self._parked:
            self._go_on()

    def readable(self) -> bool:
        return self.handshaking or (self.receive and not self._parked)

    def writable(self) -> bool:
        return self.handshaking or (self.active and not self.receive and not self._parked)

    # bytes

    def _send_piece(self) -> None:
        piece, begun = self._piece, self.tot_bytes_sent
        total, sent = len(piece), 0
        corked = self.secured and total > RECORD
        if corked:  # OpenSSL writes a record at a time, and each would wake the receiver
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            while sent < total:
                sent += self.socket.send(piece[sent:])
        finally:
            self._piece = piece[sent:]
            self.tot_bytes_sent = begun + sent
            if corked:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        self._moved(sent)

    def _received(self, count: int) -> None:
        self.tot_bytes_received += count
        self._moved(count)

    def _receive(self, buffer: memoryview) -> tuple[int, bool]:
        """Fill the buffer as far as possible without waiting; answers how far, and whether that was the end."""
        if not self.secured:
            return self._receive_plain(buffer)
        filled = 0
        while filled < len(buffer):  # a TLS record is 16 KiB at most
            try:
                count = self.socket.recv_into(buffer[filled:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except ssl.SSLEOFError as problem:
                if self.cmd_channel.server.settings.tls.strict_end or not is_plain_end(problem):
                    raise
                count = 0
            if not count:
                return filled, True
            filled += count
        return filled, False

    def _splice(self, take: Callable[[int, Pipe, int], int]) -> tuple[int, bool] | None:
        """`_receive`, straight into the file, by ``take``; None where that cannot be."""
        if self._pipe is None:
            try:
                self._pipe = Pipe(SPLICED)
            except OSError:
                self._no_splice = True
                return None
        assert self._fileno is not None
        try:
            count = take(self._fileno, self._pipe, min(SPLICED, self._throttle.piece))
        except BlockingIOError:
            return 0, False
        self._no_splice = not self._pipe.usable
        self._peer_ended = count == 0
        return count, count == 0

    def _receive_plain(self, buffer: memoryview) -> tuple[int, bool]:
        filled = 0
        try:
            while filled < len(buffer):
                count = self.socket.recv_into(buffer[filled:])
                if not count:
                    self._peer_ended = True
                    return filled, True
                filled += count
                if filled > RECORD:  # of a small file the end is there as well, most often
                    break
        except BlockingIOError:
            pass
        return filled, False

    def _drop_socket(self) -> None:
        """Close the connection and forget its number."""
        if self._fileno is None:
            return
        self.del_channel()
        self._fileno = None
        if self._resting is not None:
            self._resting.cancel()
        if self._pipe is not None:
            self._pipe.close()
        if self.secured:
            farewell(self.socket)
        with contextlib.suppress(OSError):
            if self._broken or self._peer_ended:
                self.socket.close()
            else:
                close_gently(self.socket)


def close_gently(sock: socket.socket) -> None:
    """Close a socket so that what was sent arrives: unread bytes would make the kernel send a reset."""
    try:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(4):
            if not sock.recv(PIECE):
                break
    except OSError as problem:
        if problem.errno not in (errno.EAGAIN, errno.ENOTCONN) and not isinstance(problem, ssl.SSLError):
            raise
    finally:
        sock.close()

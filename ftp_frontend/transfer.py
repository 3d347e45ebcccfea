"""Data connections: bytes between a client and the cache file, without the core in between.

Used by the session, in its thread. A download is sent from the cache file (by ``sendfile`` where neither TLS
nor ASCII stands in between) as far as the core has leased it, an upload written to a staged file as far as
there is room; at the end of that the connection is parked until the core has provided more. While it is
parked, nothing of the session waits: the control connection answers.

What becomes of an upload is decided once:

    end of file from the client         → commit asynchronously, then 226, or the reason why not
    reset, ABOR, time-out, lost control → discard (with ``keep_partial``: publish what arrived), 426

A reset is never an end of file, nor is the end of the data of a client whose control connection is gone. The socket
is closed and its number forgotten *before* the core is asked to commit, since the number may be another connection's
at once.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from typing import Any

from mountcore.errors import StorageError

from .channel import PIECE, SENT, SPLICED, Channel
from .compression import RECEIVED_AT_ONCE, Deflating, Inflating, Undecodable
from .files import Download, Upload
from .replies import download_failure, upload_refusal
from .tls import Secured, is_reset


class DataChannel(Channel):
    """A data connection. ``file_obj`` is the `Download` or `Upload`, None for a listing."""

    # how the session starts a transfer

    def transfer_in_progress(self) -> bool:
        """What ABOR asks: a command is waiting for its last reply."""
        return self.active

    def push(self, data: bytes) -> None:
        """Send a short listing."""
        self._begin_sending()
        self.producer_fifo.append(data)

    def push_with_producer(self, producer: Any) -> None:
        """Send a listing, or the file of a `Download`."""
        self._begin_sending()
        if not isinstance(producer, Download):
            self.producer_fifo.append(producer)

    def close_when_done(self) -> None:
        """End when everything is sent; the session calls this right after `push`."""
        if not self._closed:
            self._go_on()
            if self._wanted_io_events == self.ioloop.WRITE:  # not under TLS before the handshake; else there is room
                self.handle_write_event()

    def enable_receiving(self, type: str, cmd: str) -> None:
        """Receive the file of an `Upload`."""
        self._initialized = self.receive = True
        self.cmd = cmd
        self._throttle = self.cmd_channel.server.rates.throttle(self.cmd_channel.shared_rate, up=True)
        self._ascii = type == "a"
        if self.cmd_channel.compression is not None:
            self._inflating = Inflating()
        self._go_on()

    def _begin_sending(self) -> None:
        self._initialized = True
        self._throttle = self.cmd_channel.server.rates.throttle(self.cmd_channel.shared_rate, up=False)
        self._ascii = self.cmd_channel._current_type == "a"
        if self.cmd_channel.compression is not None:
            self._deflating = Deflating(self.cmd_channel.compression)

    # the loop

    def on_secured(self) -> None:
        if self.cmd_channel.tls_reuse_required and not self.socket.session_reused:
            self._fail("522 The TLS session of the control connection must be resumed here.")
            return
        self._want(0)
        self._go_on()

    def on_insecure(self, problem: Exception) -> None:
        self.cmd_channel.log(f"TLS handshake of a data connection failed: {problem}")
        self._fail("522 TLS handshake failed.")

    def _provided(self, problem: OSError | None) -> None:
        """The core answered a request for more bytes, or more room."""
        if self._closed or self.settling:
            return
        if problem is not None and self.receive:
            self._fail(upload_refusal(problem))
        elif self._parked:
            self._go_on()

    # sending

    def handle_write_event(self) -> None:
        if self.handshaking:
            self._handshake()
            return
        try:
            if isinstance(self.file_obj, Download):
                self._send_file(self.file_obj)
            else:
                self._send_listing()
        except (ssl.SSLWantWriteError, BlockingIOError):
            return
        except ssl.SSLWantReadError:
            return
        except OSError as problem:
            if is_reset(problem):
                self._break_off()
            else:
                self._fail(download_failure(problem))

    def _send_file(self, download: Download) -> None:
        download.ask(self._provided)
        if self._closed:
            return
        if not self._piece:
            if download.finished:
                self._end_sending()
                return
            available = download.available()
            if available <= 0:
                if download.problem is not None:
                    raise download.problem
                self._park()
                return
            if download.fd >= 0 and not (self._ascii or self.secured or self._no_sendfile or self._deflating):
                self._sendfile(download, min(available, SENT, self._throttle.piece))
                return
            limit = min(PIECE, self._throttle.piece)
            if download.fd >= 0 and not (self._ascii or self._deflating):
                self._piece = download.take_into(self.cmd_channel.buffer[:limit])
                self._send_piece()
                return
            data = download.take(limit)
            self._piece = self._to_send(download.converted(data) if self._ascii else data)
        self._send_piece()

    def _to_send(self, data: bytes) -> memoryview:
        return memoryview(data if self._deflating is None else self._deflating.add(data))

    def _end_sending(self) -> None:
        last = self._deflating.end() if self._deflating is not None else b""
        if last:
            self._piece = memoryview(last)
            self._send_piece()
        else:
            self._finish()

    def _sendfile(self, download: Download, count: int) -> None:
        assert self._fileno is not None
        try:
            sent = os.sendfile(self._fileno, download.fd, download.position, count)
        except OSError as problem:
            if isinstance(problem, BlockingIOError) or is_reset(problem):
                raise
            self._no_sendfile = True  # some file systems have none; if it was something else, reading will tell
            return
        if not sent:
            raise StorageError(download.name, "the cache file is shorter than it was")
        download.position += sent
        self.tot_bytes_sent += sent
        self._moved(sent)
        if download.finished:
            self._finish()

    def _send_listing(self) -> None:
        if not self._piece:
            data = b""
            while not data and self.producer_fifo:
                head = self.producer_fifo[0]
                if isinstance(head, bytes):
                    data = self.producer_fifo.popleft()
                elif not (data := head.more()):
                    self.producer_fifo.popleft()
            if not data:
                self._end_sending()
                return
            self._piece = self._to_send(data)
        self._send_piece()

    def _finish(self) -> None:
        self.transfer_finished = True
        self._resp = ("226 Transfer complete.", self.cmd_channel.quiet)
        self.close()

    # receiving

    def handle_read_event(self) -> None:
        if self.handshaking:
            self._handshake()
            return
        upload = self.file_obj
        try:
            if upload.room <= 0:
                upload.ask(self._provided)
                self._park()
                return
            if self._inflating is not None:
                ended = self._receive_compressed(upload, self._inflating)
            else:
                ended = self._receive_file(upload)
            if ended:
                if self._broken or client_is_gone(self.cmd_channel.socket):
                    self._break_off()
                    return
                upload.end()
        except Undecodable as problem:
            self._fail(f"426 The data cannot be decompressed ({problem}); nothing was stored.")
            return
        except OSError as problem:
            if isinstance(problem, ssl.SSLError) or is_reset(problem):
                self._break_off()
            else:
                self._fail(upload_refusal(problem))
            return
        if ended:
            self.close()
        else:
            upload.ask(self._provided)

    def _receive_file(self, upload: Upload) -> bool:
        """Answers whether everything is here."""
        received = None
        if upload.size >= SPLICED and not (self.secured or self._ascii or self._no_splice):
            received = self._splice(upload.take_from)
        if received is None:
            received = self._receive(self.cmd_channel.buffer[: min(PIECE, upload.room, self._throttle.piece)])
            self._take_in(upload, self.cmd_channel.buffer[: received[0]])
        self._received(received[0])
        return received[1]

    def _take_in(self, upload: Upload, data: memoryview | bytes) -> None:
        if self._ascii:
            upload.write_text(bytes(data))
        else:
            upload.write(data)

    def _receive_compressed(self, upload: Upload, inflating: Inflating) -> bool:
        """Like `_receive`, in MODE Z; answers whether everything is here."""
        if not inflating.waiting and not self._ended:
            limit = min(RECEIVED_AT_ONCE, self._throttle.piece)
            count, self._ended = self._receive(self.cmd_channel.buffer[:limit])
            inflating.add(bytes(self.cmd_channel.buffer[:count]))
            self._received(count)
        while inflating.waiting and upload.room > 0:
            self._take_in(upload, inflating.take(min(PIECE, upload.room)))
            upload.ask(self._provided)
        if not self._ended or inflating.waiting:
            return False
        if not inflating.complete and self.tot_bytes_received:
            raise Undecodable("it ends early")
        return True

    # the end

    def _break_off(self) -> None:
        """The client's side of the connection broke."""
        self._broken = True
        total = self.get_transmitted_bytes()
        self._fail(f"426 The connection broke; transfer aborted after {total} bytes.")

    def lost_control(self) -> None:
        """The control connection went away during the transfer."""
        self._broken = True

    def _fail(self, reply: str) -> None:
        """End the transfer with this reply. Without a transfer there is no reply: the client waits for none."""
        if self.active:
            self._resp = (reply, self.cmd_channel.loud)
        self.close()

    def handle_close(self) -> None:
        """The loop found the connection broken."""
        if not self._closed and not self.settling:
            if self.active:
                self._break_off()
            else:
                self.close()

    def handle_error(self) -> None:
        self.cmd_channel.log_exception(self)
        self._fail("451 Internal error; transfer aborted.")

    def handle_timeout(self) -> None:
        """Called now and then: a client that makes no progress is sent away. Waiting for storage is not its fault."""
        if self.settling or self._closed:
            return
        if not self.active:
            self.close()
            return
        total = self.get_transmitted_bytes()
        if total > self._progress or self._parked:
            self._progress = total
            return
        self._broken = True
        self._resp = ("421 Data connection timed out; transfer aborted.", self.cmd_channel.quiet)
        self.close()
        self.cmd_channel.close_when_done()

    def close(self) -> None:
        """End the transfer: at once, or for a complete upload when it is stored."""
        if self._closed or self.settling:
            return
        self._drop_socket()
        upload = self.file_obj
        if isinstance(upload, Upload) and not upload.closed:
            keep = self._broken and self.cmd_channel.keep_partial and upload.size > 0
            if upload.complete or keep:
                self.settling = True
                upload.commit(self._settled)
                return
        self._conclude()

    def _settled(self, problem: OSError | None) -> None:
        self.settling = False
        if problem is not None:
            self._resp = (upload_refusal(problem), self.cmd_channel.loud)
        elif self.file_obj.complete:
            self.transfer_finished = True
            self._resp = ("226 Transfer complete.", self.cmd_channel.quiet)
        self._conclude()

    def _conclude(self) -> None:
        session = self.cmd_channel
        super(Secured, self).close()
        session.resume()


def client_is_gone(control: socket.socket) -> bool:
    """Whether the client has closed its control connection, or died: then the end of its data is not the file's end.

    A process that is killed closes its connections in the order in which it opened them.
    """
    poll = select.poll()
    poll.register(control, select.POLLRDHUP)
    return any(events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

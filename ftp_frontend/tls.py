"""TLS for control and data connections, with the standard library's ``ssl``. Used by the session and its data channel.

pyftpdlib's own TLS (pyOpenSSL) is not used, for one reason: with TLS 1.3 a server sends session tickets after
the handshake. A client that only uploads never reads them, so its kernel answers its own ``close`` with a
reset instead of an end of file and throws away what it had not sent yet: the upload arrives truncated, and
neither side saw an error (pyftpdlib #602; 12 of 12 uploads of 30 MB from rclone). Nothing the server does
later can bring those bytes back. So data connections get no tickets (``num_tickets`` is 0 when their TLS
object is made); control connections do, and data connections may resume them. pyOpenSSL cannot do that.

Two more rules: a reset is never an end of file, and `Certificates` hands out a context that is made anew when
the certificate's file has changed, so that a renewed certificate needs no restart.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, final

from mountcore.errors import Refused

from .library import DISCONNECTED, RetryError
from .settings import VERSIONS, TlsSettings

log = logging.getLogger(__name__)

CONTROL_TICKETS = 2


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """A server context; raises :class:`Refused` that names the file that does not do."""
    assert settings.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.minimum]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if VERSIONS[settings.minimum] < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("DEFAULT@SECLEVEL=0")
    key = settings.key or settings.certificate
    for file in (settings.certificate, key):
        try:
            file.open("rb").close()
        except OSError as problem:
            raise Refused(f"{file}: {problem.strerror}; --cert and --key take files in PEM") from None
    try:
        # a password would be asked for on the terminal
        context.load_cert_chain(settings.certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or problem
        raise Refused(f"{settings.certificate} and {key} are no certificate with its key in PEM ({reason})") from None
    if settings.client_authority is not None:
        try:
            context.load_verify_locations(settings.client_authority)
        except (OSError, ssl.SSLError) as problem:
            raise Refused(f"--client-ca {settings.client_authority}: {problem.strerror or problem}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> bytes:
    raise ValueError("the key is protected by a password; remove it with: openssl pkey")


@final
class Certificates:
    """Contexts for sessions. From any thread."""

    def __init__(self, settings: TlsSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._context = make_context(settings)
        self._seen = self._stamp()

    def context(self) -> ssl.SSLContext:
        """The context of a new session. With ``require_reuse`` it is that session's own, so that only the
        session's own TLS sessions can be resumed."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen or self.settings.require_reuse:
                self._seen = stamp
                try:
                    self._context = make_context(self.settings)
                except Refused as problem:
                    log.warning("the new certificate is not used: %s", problem)
            return self._context

    def wrap(self, context: ssl.SSLContext, sock: socket.socket, *, tickets: int) -> ssl.SSLSocket:
        """TLS on an accepted socket; the handshake is still to be done."""
        with self._lock:  # the number of tickets is copied from the context when the TLS object is made
            context.num_tickets = tickets
            return context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        stamps = []
        for file in (self.settings.certificate, self.settings.key, self.settings.client_authority):
            if file is not None:
                with contextlib.suppress(OSError):
                    status = os.stat(file)
                    stamps.append((status.st_mtime_ns, status.st_ino))
        return tuple(stamps)


class Secured:
    """TLS on a pyftpdlib channel; mixed in before the library's class.

    Plain until `start_tls`; then handshaking; then `on_secured` is called once and everything goes through
    TLS. The library's loop asks `readable` and `writable` and calls the two event methods.
    """

    socket: Any
    handshaking = False
    secured = False
    _closed: bool

    def start_tls(self, certificates: Certificates, context: ssl.SSLContext, *, tickets: int) -> None:
        """Begin the handshake; what the peer sends from here on is TLS."""
        try:
            self.socket = certificates.wrap(context, self.socket, tickets=tickets)
        except (OSError, ValueError):  # the peer has gone already
            self.close()
            return
        self.handshaking = True
        self._listen(write=False)

    def on_secured(self) -> None:
        """The handshake is done."""

    def on_insecure(self, problem: Exception) -> None:
        """The handshake failed; what follows cannot be understood by either side."""
        raise NotImplementedError

    def readable(self) -> bool:
        return self.handshaking or bool(super().readable())  # type: ignore[misc]

    def writable(self) -> bool:
        return self.handshaking or bool(super().writable())  # type: ignore[misc]

    def handle_read_event(self) -> None:
        if self.handshaking:
            self._handshake()
        else:
            super().handle_read_event()  # type: ignore[misc]

    def handle_write_event(self) -> None:
        if self.handshaking:
            self._handshake()
        else:
            super().handle_write_event()  # type: ignore[misc]

    def _handshake(self) -> None:
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._listen(write=False)
        except ssl.SSLWantWriteError:
            self._listen(write=True)
        except (OSError, ValueError) as problem:
            self.handshaking = False
            self.on_insecure(problem)
        else:
            self.handshaking = False
            self.secured = True
            self._listen(write=False)
            self.on_secured()

    def _listen(self, *, write: bool) -> None:
        channel: Any = self
        events = channel.ioloop.WRITE if write else channel.ioloop.READ
        channel.modify_ioloop_events(events)
        channel._wanted_io_events = events

    # for the control connection; data channels read and write their socket themselves

    def send(self, data: bytes) -> int:
        if self.handshaking:
            return 0
        try:
            return int(super().send(data))  # type: ignore[misc]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except ssl.SSLError:
            self.handle_close()
            return 0

    def recv(self, size: int) -> bytes:
        try:
            return bytes(super().recv(size))  # type: ignore[misc]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as problem:
            raise RetryError from problem
        except ssl.SSLError:  # an end without close_notify is an end as well, on a control connection
            self.handle_close()
            return b""

    handle_close: Callable[[], None]

    def close(self) -> None:
        if not self._closed and self.secured:
            farewell(self.socket)
        super().close()  # type: ignore[misc]


def farewell(sock: ssl.SSLSocket) -> None:
    """Say close_notify without waiting for the peer's."""
    with contextlib.suppress(OSError, ValueError):
        sock.unwrap()


def is_reset(problem: OSError) -> bool:
    """Whether the connection broke, rather than ended."""
    return isinstance(problem, ssl.SSLError) or problem.errno in DISCONNECTED


def is_plain_end(problem: ssl.SSLEOFError) -> bool:
    """Whether the peer ended TCP in order, only without close_notify, as some clients do.

    Python has the same exception for a reset; OpenSSL 3 tells them apart by the reason, which a reset has not.
    (OpenSSL 1.1 gives none at all: there every end without close_notify counts as a reset.)
    """
    return problem.reason == "UNEXPECTED_EOF_WHILE_READING"

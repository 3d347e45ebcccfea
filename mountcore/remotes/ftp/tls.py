"""Whom to trust, and TLS over a stream.

A certificate accepted by its hash (``certificate_hash``) takes two handshakes at the first contact. The first accepts
anything and only looks: if the server's chain holds a certificate of that hash, a context is made that trusts this
certificate and nothing else, and everything from then on, beginning with a new connection, is verified by it. So
OpenSSL proves that the server has its key, that a certificate further up really signed, and that none has expired.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from typing import Any, final

import trio

from ...errors import Refused
from ..reasons import words
from .dial import Draining, Stream, close_now, network
from .options import FtpOptions

log = logging.getLogger(__name__)
_VERSIONS = {
    "tls10": ssl.TLSVersion.TLSv1, "tls11": ssl.TLSVersion.TLSv1_1, "tls12": ssl.TLSVersion.TLSv1_2,
    "tls13": ssl.TLSVersion.TLSv1_3,
}  # fmt: skip
_WITHOUT = {"tls11": ssl.OP_NO_TLSv1_1, "tls12": ssl.OP_NO_TLSv1_2}


@final
class Trust:
    """The TLS contexts of one remote; sessions can be resumed only within one."""

    def __init__(self, options: FtpOptions) -> None:
        """Raises :class:`Refused` for certificate files that are none."""
        self._options = options
        self._context = _context(options)
        self.settled = not options.pins or not options.check_certificate
        """Whether `context` verifies; before, it only serves to look at the chain."""
        if not self.settled:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self._context

    def settle(self, stream: Stream) -> None:
        """Decide, by the chain of a handshake that was only to look, whom to trust from now on."""
        assert isinstance(stream, trio.SSLStream)
        self._context = _context(self._options)
        self.settled = True
        chain = _chain(stream)
        for der in chain:
            if self._options.pins & {hashlib.sha256(der).hexdigest(), hashlib.sha1(der).hexdigest()}:  # noqa: S324
                trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                _tune(trusted, self._options)
                trusted.check_hostname = False
                trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
                trusted.load_verify_locations(cadata=der)
                self._context = trusted
                return
        seen = hashlib.sha256(chain[0]).hexdigest() if chain else "none at all"
        log.info("%s: certificate %s is not among those of certificate_hash", self._options.address, seen)


def _chain(stream: trio.SSLStream[Draining]) -> list[bytes]:
    """The certificates that the server showed, its own first: the whole chain where this Python can tell."""
    inner: Any = getattr(stream, "_ssl_object", None)
    for holder in (inner, getattr(inner, "_sslobj", None)):  # public since Python 3.13
        told = getattr(holder, "get_unverified_chain", None)
        if told is not None:
            return [c if isinstance(c, bytes) else ssl.PEM_cert_to_DER_cert(c.public_bytes()) for c in told() or ()]
    own = stream.getpeercert(binary_form=True)
    return [own] if own else []


def _context(options: FtpOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_cert or None)
    except (OSError, ssl.SSLError) as problem:
        raise Refused(f"ftp: cannot use the file of ca_cert, {options.ca_cert!r} ({words(problem)})") from problem
    _tune(context, options)
    if not options.check_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tune(context: ssl.SSLContext, options: FtpOptions) -> None:
    """What does not depend on whom to trust."""
    try:
        if options.client_cert:
            context.load_cert_chain(options.client_cert, options.client_key or None)
    except (OSError, ssl.SSLError) as problem:
        raise Refused(f"ftp: cannot use the certificate files ({words(problem)})") from problem
    ciphers = "DEFAULT:AES128-GCM-SHA256" if options.insecure_ciphers else "DEFAULT"
    if chosen := sorted(options.tls_versions):
        if chosen[0] in ("tls10", "tls11"):  # OpenSSL 3 forbids their hashes otherwise
            ciphers += ":@SECLEVEL=0"
        context.minimum_version, context.maximum_version = _VERSIONS[chosen[0]], _VERSIONS[chosen[-1]]
        for version, forbidden in _WITHOUT.items():
            if chosen[0] < version < chosen[-1] and version not in chosen:
                context.options |= forbidden
    if not options.tls13 and (not chosen or "tls13" in chosen):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if ciphers != "DEFAULT":
        context.set_ciphers(ciphers)
    # servers close the data connection without a closing alert; 226 and the size say whether it was whole
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF


async def start_tls(
    options: FtpOptions, context: ssl.SSLContext, stream: trio.SocketStream, session: ssl.SSLSession | None
) -> trio.SSLStream[Draining]:
    """TLS over ``stream``, resuming ``session``: vsftpd and proftpd refuse data connections that do not."""
    secure = trio.SSLStream(Draining(stream), context, server_hostname=options.host)
    if session is not None:
        secure.session = session
    try:
        with network(options.address, "the TLS handshake", options.connect_timeout):
            await secure.do_handshake()
    except BaseException:
        close_now(secure)
        raise
    return secure

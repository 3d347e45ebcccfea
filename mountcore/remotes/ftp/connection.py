"""One control connection: login, commands, data connections. Used by one task at a time.

`Connection.settled` is True exactly when every reply that the server owes has been read; only then may the
connection be lent again. Every wait is bounded by the options' timeouts. A cancelled call leaves the
connection unsettled, and its borrower closes it.
"""

from __future__ import annotations

import logging
import re
import select
import socket
import ssl
from contextlib import suppress
from types import TracebackType
from typing import final

import trio

from ...errors import Corrupt, Denied, InvalidName, TimedOut, Unreachable, Unsupported
from .dial import Stream, close_now, network_errors, open_tcp, socket_of, start_tls
from .replies import Reply, ReplyError, means_too_many
from .server import Server

log = logging.getLogger(__name__)
LINE_LIMIT = 8192
"""Bytes in one line of a reply or listing: a path of 4 KiB, encoded, and its facts."""
REPLY_LIMIT = 1000
RECEIVE = 256 << 10


@final
class TooManyConnections(Exception):
    """The server takes no more connections from us at the moment. Stays inside this package."""


@final
class Connection:
    """A logged-in control connection. `open` makes one."""

    def __init__(self, server: Server, context: ssl.SSLContext | None, stream: Stream) -> None:
        self.server = server
        self.settled = False
        self.idle_since = 0.0
        self.used = False
        """Whether it has answered a call before: then a broken connection may just mean that it was old."""
        self._options = server.options
        self._context = context
        self._stream = stream
        self._buffer = bytearray()
        self._protected = False

    @classmethod
    async def open(cls, server: Server, context: ssl.SSLContext | None) -> Connection:
        """Connect and log in. Raises our errors, `TooManyConnections`, never `ReplyError`."""
        options = server.options
        raw = await open_tcp(options, options.host, options.port)
        connection = cls(server, context, raw)
        try:
            if options.implicit_tls and context is not None:
                connection._stream = await start_tls(options, context, raw, None)
            await connection._log_in()
        except ReplyError as refusal:
            connection.close()
            reply = refusal.reply
            if means_too_many(reply):
                raise TooManyConnections(str(reply)) from None
            kind = Denied if reply.code in (430, 530, 532) else Unreachable
            raise kind("", f"{options.address}: the login of {options.user!r} was refused: {reply}") from None
        except BaseException:
            connection.close()
            raise
        return connection

    def __repr__(self) -> str:
        return f"<Connection {self._options.address} {'settled' if self.settled else 'busy'}>"

    # commands

    async def command(self, verb: str, argument: str = "", *, within: float | None = None) -> Reply:
        """Send one command and read its reply; a 1yz reply leaves the connection unsettled."""
        await self._send(verb, argument)
        return await self.reply(within)

    async def demand(self, verb: str, argument: str = "") -> Reply:
        """`command` that must end in 2yz or 3yz; raises `ReplyError` otherwise."""
        reply = await self.command(verb, argument)
        if reply.code >= 400:
            raise ReplyError(reply)
        return reply

    async def reply(self, within: float | None = None) -> Reply:
        """Read the next reply, for at most ``within`` seconds."""
        with (
            network_errors(self._options.address, "waiting for a reply"),
            trio.fail_after(self._options.timeout if within is None else within),
        ):
            first = await self._line()
            if not re.match(r"[1-6][0-9]{2}([ -]|$)", first):
                raise Corrupt("", f"{self._options.address}: not an FTP reply: {first[:80]!r}")
            lines = [first]
            if first[3:4] == "-":
                end = first[:3] + " "
                while not lines[-1].startswith(end):
                    lines.append(await self._line())
                    if len(lines) > REPLY_LIMIT:
                        raise Corrupt("", f"{self._options.address}: a reply without an end")
        reply = Reply(int(first[:3]), lines[-1][4:].strip(), tuple(lines))
        log.debug("%x < %s", id(self), reply)
        self.settled = reply.code >= 200 and not self._buffer
        if reply.code == 421:
            self.close()
            if self.used:
                raise Unreachable("", f"{self._options.address}: {reply}")
        return reply

    async def transfer(self, verb: str, argument: str = "", *, rest: int = 0) -> Data:
        """Start a transfer: the data connection is up and the server has said 1yz. Raises `ReplyError`."""
        if self.server.has("PRET"):
            await self.demand("PRET", f"{verb} {argument}".rstrip())
        listener = await self._listen() if self._options.active else None
        raw: trio.SocketStream | None = None
        try:
            if listener is None:
                raw = await self._connect_passive()
            if rest:
                await self.demand("REST", str(rest))
            reply = await self.command(verb, argument)
            if reply.code >= 200:
                raise ReplyError(reply)
            if listener is not None:
                raw = await self._accept(listener)
            assert raw is not None
            stream: Stream = raw
            if self._protected and self._context is not None:
                session = self._stream.session if isinstance(self._stream, trio.SSLStream) else None
                stream = await start_tls(
                    self._options, self._context, raw, session if self._options.reuse_tls_session else None
                )
            return Data(self, stream)
        except BaseException:
            if raw is not None:
                raw.socket.close()
            raise
        finally:
            if listener is not None:
                listener.close()

    def is_stale(self) -> bool:
        """Whether something has arrived on the idle connection: a 421 or the end. No checkpoint."""
        descriptor = socket_of(self._stream).fileno()
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close at once, without QUIT; servers are used to it."""
        self.settled = False
        close_now(self._stream)

    # login

    async def _log_in(self) -> None:
        options, server = self._options, self.server
        greeting = await self.reply(options.connect_timeout)
        if greeting.code == 120:
            greeting = await self.reply(options.connect_timeout)
        if not greeting.ok:
            raise ReplyError(greeting)
        if "vsftpd" in greeting.text.lower() and server.mdtm_write is None:
            server.mdtm_write = True
        if options.explicit_tls and self._context is not None and isinstance(self._stream, trio.SocketStream):
            reply = await self.command("AUTH", "TLS")
            if reply.code not in (234, 334):
                raise Unsupported("", f"{options.address}: no explicit TLS here: {reply}")
            if self._buffer:  # what came before the handshake would be read as if protected (CVE-2011-0411)
                raise Corrupt("", f"{options.address}: data before the TLS handshake")
            self._stream = await start_tls(options, self._context, self._stream, None)
        reply = await self.command("USER", options.user)
        if reply.code == 331:
            reply = await self.command("PASS", options.password)
        if reply.code == 332:
            reply = await self.command("ACCT", options.user)
        if not reply.ok:
            raise ReplyError(reply)
        if options.tls:
            await self.command("PBSZ", "0")
            reply = await self.command("PROT", "P")
            if not reply.ok:  # rclone's server, with implicit TLS: it would go on in the clear
                raise Unsupported("", f"{options.address}: no protected data connections here: {reply}")
            self._protected = True
        if not server.contacted:
            reply = await self.command("FEAT")
            server.learn_features(reply.lines if reply.ok else ())
        if options.utf8 and server.has("UTF8"):
            await self.command("OPTS", "UTF8 ON")  # 200; "always on" is a 501, 504 or 202 with some
        facts = server.features.get("MLST", "").lower()
        if facts and not all(f"{wanted}*" in facts for wanted in ("type", "size", "modify")):
            await self.command("OPTS", "MLST type;size;modify;")
        await self.command("TYPE", "I")
        if not server.contacted:
            reply = await self.command("PWD")
            match = re.search(r'"((?:[^"]|"")*)"', reply.lines[-1]) if reply.ok else None
            server.home = match[1].replace('""', '"') if match and match[1] else "/"
            server.contacted = True

    # data connections

    async def _connect_passive(self) -> trio.SocketStream:
        """EPSV, else PASV. Only the port is taken from the reply, never the address: a server behind NAT
        names one that leads nowhere, a hostile one names somebody else (RFC 2577 §3)."""
        host, family = self._peer()
        if self.server.epsv or family == socket.AF_INET6:
            reply = await self.command("EPSV")
            match = re.search(r"\((.)\1\1(\d{1,5})\1\)", reply.text)
            if reply.code == 229 and match and 0 < int(match[2]) < 65536:
                return await open_tcp(self._options, host, int(match[2]))
            if reply.code == 421 or family == socket.AF_INET6:
                raise ReplyError(reply)
            self.server.epsv = False
        reply = await self.command("PASV")
        match = re.search(r"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})", reply.text)
        if reply.code != 227 or not match:
            raise ReplyError(reply)
        port = (int(match[5]) << 8 | int(match[6])) & 0xFFFF
        return await open_tcp(self._options, host, port)

    def _peer(self) -> tuple[str, int]:
        if self._options.proxy is not None:  # the peer is the proxy; it resolves the name again
            return self._options.host, socket.AF_INET
        with network_errors(self._options.address, "connecting"):
            return socket_of(self._stream).getpeername()[0], socket_of(self._stream).family

    async def _listen(self) -> trio.socket.SocketType:
        """Open a port for the server to connect to, and tell it: EPRT, else PORT."""
        with network_errors(self._options.address, "listening"):
            here, family = socket_of(self._stream).getsockname()[0], socket_of(self._stream).family
            listener = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            with network_errors(self._options.address, "listening"):
                await listener.bind((here, 0))
                listener.listen(1)
            port = listener.getsockname()[1]
            if family == socket.AF_INET6:
                await self.demand("EPRT", f"|2|{here}|{port}|")
            else:
                await self.demand("PORT", f"{here.replace('.', ',')},{port >> 8},{port & 255}")
        except BaseException:
            listener.close()
            raise
        return listener

    async def _accept(self, listener: trio.socket.SocketType) -> trio.SocketStream:
        host, _ = self._peer()
        with network_errors(self._options.address, "waiting for the server to connect"):
            with trio.fail_after(self._options.connect_timeout):
                while True:
                    accepted, address = await listener.accept()
                    if address[0] == host:
                        return trio.SocketStream(accepted)
                    accepted.close()

    # lines

    async def _send(self, verb: str, argument: str) -> None:
        line = f"{verb} {argument}" if argument else verb
        if any(c in line for c in "\r\n\0"):
            raise InvalidName(argument, "a line break or NUL cannot be sent over FTP")
        self.settled = False
        log.debug("%x > %s", id(self), "PASS ..." if verb == "PASS" else line)
        with network_errors(self._options.address, "sending"), trio.fail_after(self._options.timeout):
            await self._stream.send_all(line.encode("utf-8", "surrogateescape") + b"\r\n")

    async def _line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_LIMIT:
                raise Corrupt("", f"{self._options.address}: a reply line without an end")
            data = await self._stream.receive_some(LINE_LIMIT)
            if not data:
                raise Unreachable("", f"{self._options.address}: the server closed the connection")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")


@final
class Data:
    """One transfer. End it with `finish` or `abandon`; leaving the ``async with`` otherwise closes it."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._options = connection.server.options

    async def __aenter__(self) -> Data:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_now(self._stream)

    async def receive(self, most: int = RECEIVE) -> bytes | bytearray:
        """The next bytes; b"" at the end, which only `finish` proves to be the real one."""
        with (
            network_errors(self._options.address, "receiving"),
            trio.fail_after(self._options.timeout),
        ):
            return await self._stream.receive_some(most)

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        with (
            network_errors(self._options.address, "sending"),
            trio.fail_after(self._options.timeout),
        ):
            await self._stream.send_all(data)

    async def finish(self) -> Reply:
        """Close and read the final reply; raises `ReplyError` unless the server says it was whole."""
        with trio.move_on_after(self._options.shut_timeout):
            with suppress(trio.BrokenResourceError):  # the reply tells whether that matters
                await self._stream.aclose()
        reply = await self._connection.reply(self._options.shut_timeout)
        if not reply.ok:
            raise ReplyError(reply)
        return reply

    async def abandon(self) -> None:
        """End a download early. The server says 426, 451, 550, even 226, or 150 and no more (pure-ftpd); a silent
        one loses the connection."""
        close_now(self._stream)
        connection = self._connection
        try:
            reply = await connection.reply(self._options.close_timeout)
            connection.settled = connection.settled or reply.code == 150
        except (Unreachable, TimedOut, Corrupt):
            connection.close()

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
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import final

import trio

from ...errors import Corrupt, Denied, InvalidName, TimedOut, Unreachable, Unsupported
from .console import LOGIN, Console
from .data import BEGUN, Data, never_mind, open_data
from .dial import (
    Draining,
    Stream,
    close_now,
    network,
    open_tcp,
    receive_at_once,
    receive_within,
    send_within,
    socket_of,
)
from .options import DataConnection
from .replies import Reply, ReplyError, means_too_many
from .server import Server
from .tls import Trust, start_tls

log = logging.getLogger(__name__)
LINE_LIMIT = 8192
"""Bytes in one line of a reply or listing: a path of 4 KiB, encoded, and its facts."""
REPLY_LIMIT = 1000
_UNSENDABLE = re.compile(r"[\r\n\0]")
_REPLY = re.compile(r"[1-6][0-9]{2}([ -]|$)")
PIPELINE_PROOF = 5.0
"""Seconds for the second of two commands sent at once; a server that loses it is not sent two again."""


@final
class TooManyConnections(Exception):
    """The server takes no more connections from us at the moment. Stays inside this package."""


@final
class Connection:
    """A logged-in control connection. `open` makes one."""

    def __init__(self, server: Server, trust: Trust | None, stream: Stream) -> None:
        self.server = server
        self.settled = False
        self.renaming = False
        """RNFR has been answered, and no RNTO followed: the server may remember it."""
        self.idle_since = 0.0
        self.used = False
        """Whether it has answered a call before: then a broken connection may just mean that it was old."""
        self._options = server.options
        self._trust = trust
        self._console = Console(server.options)
        self._stream = stream
        self._peer: tuple[str, int] | None = None
        self._lines: deque[str] = deque()
        """What has arrived and was not read."""
        self._rest = b""
        """The beginning of another line."""
        self._protected = False
        self._session: ssl.SSLSession | None = None
        self._in = False
        self._owed = 0
        """Commands whose last reply has not been read."""
        self._known: deque[tuple[tuple[str, str], Reply]] = deque()
        """Commands sent ahead, and their replies."""
        self.begun: tuple[str, str] | None = None
        """A transfer that was asked for ahead: the server waits for the data connection."""
        self.directory: str | None = None
        """Where CWD has led, as it was asked for; None: elsewhere."""

    @classmethod
    async def open(cls, server: Server, trust: Trust | None) -> Connection:
        """Connect and log in. Raises our errors, `TooManyConnections`, never `ReplyError`."""
        options = server.options
        while True:
            raw = await open_tcp(options, options.host, options.port)
            _silent_after_death(socket_of(raw), True)
            connection = cls(server, trust, raw)
            try:
                if await connection._begin() and await connection._log_in():
                    return connection
                connection.close()  # now it is known whom to trust, and how to talk
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

    def __repr__(self) -> str:
        return f"<Connection {self._options.address} {'settled' if self.settled else 'busy'}>"

    # commands

    async def command(self, verb: str, argument: str = "", *, within: float | None = None) -> Reply:
        """Send one command and read its reply; a 1yz reply leaves the connection unsettled."""
        if self._known and self._known[0][0] == (verb, argument):
            return self._known.popleft()[1]
        if self.begun is not None:
            await never_mind(self)
        self._known.clear()
        await self.send(verb, argument)
        return await self.reply(within)

    async def ahead(self, *commands: tuple[str, str], begin: tuple[str, str] | None = None) -> None:
        """Send commands that are about to be asked for, in one packet: `command` then has their replies, as long as it
        is asked for them in this order. Saves a round trip for each; does nothing where the server does not take it.
        None of them may start a transfer, or do harm if it turns out that it is not wanted. ``begin`` is a transfer
        over the connection that the last of them, EPSV, prepares: a listing, or what is wanted for sure."""
        if not self.server.pipelines or len(commands) + (begin is not None) < 2:
            return
        await self._send_lines(commands if begin is None else (*commands, begin))
        self._known.clear()
        self.begun = begin
        for command in commands:
            self._known.append((command, await self.reply()))

    def _foresees_epsv(self) -> bool:
        """Whether the next transfer will be prepared by EPSV."""
        kind = self._options.data
        proved = self.server.epsv and self.server.epsv_proved
        return kind is DataConnection.EPSV or (kind is DataConnection.AUTO_PASSIVE and proved)

    def preparing(self, verb: str, argument: str = "") -> list[tuple[str, str]]:
        """What will be asked before this transfer begins, where that is EPSV, so that it can be sent ahead."""
        return [*self._announcing(verb, argument), ("EPSV", "")] if self._foresees_epsv() else []

    def _announcing(self, verb: str, argument: str) -> list[tuple[str, str]]:
        """Servers that are many machines want to know what a data connection will be for."""
        return [("PRET", f"{verb} {argument}" if argument else verb)] if self.server.has("PRET") else []

    def may_begin(self) -> bool:
        """Whether a transfer may be asked for before there is a data connection for it: not all servers may bear it."""
        return bool(self.server.pipelines) and self.server.begins is not False and self._foresees_epsv()

    def skip_to(self, verb: str) -> None:
        """Of what was sent ahead, what comes before this is not asked for."""
        while self._known and self._known[0][0][0] != verb:
            self._known.popleft()
        if not self._known:
            self.close()
            raise Unreachable("", f"{self._options.address}: what was asked for ahead cannot be called off")

    def forget(self) -> None:
        """What was sent ahead is not asked for any more."""
        self._known.clear()

    async def demand(self, verb: str, argument: str = "") -> Reply:
        """`command` that must end in 2yz or 3yz; raises `ReplyError` otherwise."""
        reply = await self.command(verb, argument)
        if reply.code >= 400:
            raise ReplyError(reply)
        return reply

    async def reply(self, within: float | None = None) -> Reply:
        """Read the next reply, for at most ``within`` seconds. No checkpoint if it has arrived with another."""
        lines: list[str] = []
        line = last = ""
        deadline = 0.0
        while not last or not line.startswith(last):
            while not self._lines:
                deadline = deadline or trio.current_time() + (self._options.timeout if within is None else within)
                await self._receive(deadline)
            line = self._lines.popleft()
            lines.append(line)
            if not last:
                if not _REPLY.match(line):
                    raise Corrupt("", f"{self._options.address}: not an FTP reply: {line[:80]!r}")
                last = line[:3] + " " if line[3:4] == "-" else line
            elif len(lines) > REPLY_LIMIT:
                raise Corrupt("", f"{self._options.address}: a reply without an end")
        reply = Reply(int(line[:3]), line[4:].strip(), tuple(lines))
        if not self._console.quiet:
            self._console.received(line)
        if reply.code >= 200 and self._owed:
            self._owed -= 1
        self.settled = reply.code >= 200 and not self._owed and not self._unread
        if reply.code == 421:
            self.close()
            if self.used:
                raise Unreachable("", f"{self._options.address}: {reply}")
        return reply

    async def transfer(self, verb: str, argument: str = "", *, rest: int = 0, content: bytes = b"") -> Data:
        """Start a transfer: the data connection is up and the server has said 1yz. Raises `ReplyError`.

        ``content`` is all of what an upload has to send; what of it is on its way, `Data.sent` tells.
        """
        trying = self.server.begins is not False
        try:
            return await self._transfer(verb, argument, rest, content)
        except ReplyError:
            if not (trying and self.server.begins is False and self.settled):
                raise
        return await self._transfer(verb, argument, rest, content)  # in the order that this server wants

    async def _transfer(self, verb: str, argument: str, rest: int, content: bytes) -> Data:
        begin = (verb, argument) if verb in BEGUN and not rest and self.may_begin() else None
        if self.begun is None and (begin or not self._known):
            await self.ahead(*self.preparing(verb, argument), begin=begin)
        try:
            for announcement in self._announcing(verb, argument):
                await self.demand(*announcement)
        except ReplyError:
            if self.begun is not None:
                await never_mind(self)
            raise
        return await open_data(self, verb, argument, rest, content)

    @property
    def protects(self) -> bool:
        """Whether data connections are encrypted."""
        return self._protected and self._trust is not None

    async def protected(self, raw: trio.SocketStream) -> Stream:
        """A data connection as it has to be here: encrypted if commands are, and told so."""
        if not self.protects:
            return raw
        assert self._trust is not None
        if isinstance(self._stream, trio.SSLStream):
            self._session = self._stream.session
        session = self._session if self._options.reuse_tls_session else None
        return await start_tls(self._options, self._trust.context, raw, session)

    def peer(self) -> tuple[str, int]:
        """Host and address family to connect to for data."""
        if self._options.proxy is not None:  # the peer is the proxy; it resolves the name again
            return self._options.host, socket.AF_INET
        if self._peer is None:
            with network(self._options.address, "connecting"):
                self._peer = socket_of(self._stream).getpeername()[0], socket_of(self._stream).family
        return self._peer

    def here(self) -> tuple[str, int]:
        """Our own address, as the server sees it if nothing translates it, and its family."""
        with network(self._options.address, "listening"):
            return socket_of(self._stream).getsockname()[0], socket_of(self._stream).family

    @property
    def closed(self) -> bool:
        """Whether nothing can be read any more."""
        return socket_of(self._stream).fileno() < 0

    def is_stale(self) -> bool:
        """Whether something has arrived on the idle connection: a 421 or the end. No checkpoint."""
        descriptor = socket_of(self._stream).fileno()
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close at once, without QUIT; servers are used to it. What is not sent yet is not sent any more."""
        if self.settled:
            _silent_after_death(socket_of(self._stream), False)
        self.settled = False
        close_now(self._stream)

    # login

    async def _begin(self) -> bool:
        """Greeting and encryption; False if the handshake was only to look at the certificate."""
        options, server, trust = self._options, self.server, self._trust
        if options.implicit_tls and trust is not None and not await self._encrypt(trust):
            return False
        greeting = await self.reply(options.connect_timeout)
        if greeting.code == 120:
            greeting = await self.reply(options.connect_timeout)
        if not greeting.ok:
            raise ReplyError(greeting)
        if "vsftpd" in greeting.text.lower() and server.mdtm_write is None:
            server.mdtm_write = True
        if not options.explicit_tls or trust is None:
            return True
        reply = await self.command("AUTH", "TLS")
        if reply.code not in (234, 334):
            if not options.may_be_clear or reply.code == 421:
                raise Unsupported("", f"{options.address}: no explicit TLS here: {reply}")
            if server.encrypts:
                raise Unsupported("", f"{options.address}: it has encrypted before and refuses now: {reply}")
            if not server.warned_clear:
                server.warned_clear = True
                log.warning(
                    "%s: the server refuses TLS (%s): everything, the password too, goes in the clear; "
                    "encryption = explicit would insist", options.address, reply,
                )  # fmt: skip
            return True
        if self._unread:  # what came before the handshake would be read as if protected (CVE-2011-0411)
            raise Corrupt("", f"{options.address}: data before the TLS handshake")
        return await self._encrypt(trust)

    async def _encrypt(self, trust: Trust) -> bool:
        assert isinstance(self._stream, trio.SocketStream)
        looking = not trust.settled
        self._stream = await start_tls(self._options, trust.context, self._stream, None)
        if looking:
            trust.settle(self._stream)
            return False
        self.server.encrypts = True
        return True

    async def _log_in(self) -> bool:
        """Log in and set up; False if it has to be done again on a new connection."""
        options, server = self._options, self.server
        reply = await self.command("USER", options.user)
        if reply.code == 331:
            reply = await self.command("PASS", options.password)
        if reply.code == 332:
            reply = await self.command("ACCT", options.user)
        if not reply.ok:
            raise ReplyError(reply)
        self._in = True
        if isinstance(self._stream, trio.SSLStream):
            await self._protect()
        if not server.contacted and not await self._get_to_know():
            return False
        setup = [("TYPE", "I")]
        if options.utf8 and server.has("UTF8"):
            setup.append(("OPTS", "UTF8 ON"))  # 200; "always on" is a 501, 504 or 202 with some
        facts = server.features.get("MLST", "").lower()
        if facts and {fact for fact in facts.split(";") if fact.endswith("*")} != {"type*", "size*", "modify*"}:
            setup.append(("OPTS", "MLST type;size;modify;"))
        await self.ahead(*setup)
        for verb, argument in setup:
            await self.command(verb, argument)
        if options.clear_commands and isinstance(self._stream, trio.SSLStream):
            await self._end_encryption(self._stream)
        return True

    async def _get_to_know(self) -> bool:
        """What the server can do, where we are, and whether it takes two commands at once; False if it does not:
        then this connection is in disorder."""
        server = self.server
        if server.pipelines is None:
            await self._send_lines([("FEAT", ""), ("PWD", "")])
            features = await self.reply()
            try:
                place = await self.reply(min(PIPELINE_PROOF, self._options.timeout))
            except TimedOut:
                log.info("%s: takes one command at a time", self._options.address)
                server.pipelines = False
                return False
            server.pipelines = place.ok
        else:
            features, place = await self.command("FEAT"), await self.command("PWD")
        server.learn_features(features.lines if features.ok else ())
        match = re.search(r'"((?:[^"]|"")*)"', place.lines[-1]) if place.ok else None
        server.home = match[1].replace('""', '"') if match and match[1] else "/"
        server.contacted = True
        return True

    async def _protect(self) -> None:
        """Have data connections encrypted, or, if told so, not (RFC 4217 §9)."""
        options = self._options
        await self.command("PBSZ", "0")
        reply = await self.command("PROT", "C" if options.clear_data else "P")
        if not reply.ok and not options.clear_data:  # rclone's server, with implicit TLS: it would go on in the clear
            raise Unsupported(
                "", f"{options.address}: no protected data connections here: {reply}; clear_data = true does without"
            )
        self._protected = not options.clear_data

    async def _end_encryption(self, stream: trio.SSLStream[Draining]) -> None:
        """CCC (RFC 4217 §6): the login was encrypted, what follows is not."""
        reply = await self.command("CCC")
        if not reply.ok:
            log.warning("%s: commands stay encrypted: %s", self._options.address, reply)
            return
        self._session = stream.session
        with network(self._options.address, "ending TLS", self._options.timeout):
            transport, early = await stream.unwrap()
        assert isinstance(transport, Draining)
        self._stream = transport.raw
        self._arrived(early)

    # lines

    async def send(self, verb: str, argument: str = "") -> None:
        """Send one command; its reply is read elsewhere."""
        await self._send_lines([(verb, argument)])

    def forgive(self) -> None:
        """Expect no more replies: what was asked has been answered, in this server's own way."""
        self._owed = 0
        self.settled = not self._unread

    async def _send_lines(self, commands: Iterable[tuple[str, str]]) -> None:
        packet = b""
        count = 0
        for verb, argument in commands:
            line = f"{verb} {argument}" if argument else verb
            if _UNSENDABLE.search(line):
                raise InvalidName(argument, "a line break or NUL cannot be sent over FTP")
            try:
                charset = "utf-8" if verb in LOGIN else self._options.charset
                packet += line.encode(charset, "surrogateescape") + b"\r\n"
            except UnicodeEncodeError:
                raise InvalidName(argument, f"it cannot be written in charset {self._options.charset}") from None
            if not self._console.quiet:
                self._console.sent(verb, argument)
            count += 1
        self._owed += count
        self.settled = False
        await send_within(self._stream, packet, self._options.address, self._options.timeout)

    async def _receive(self, deadline: float) -> None:
        stream, address, doing = self._stream, self._options.address, "waiting for a reply"
        if len(self._rest) > LINE_LIMIT:
            raise Corrupt("", f"{address}: a reply line without an end")
        data: bytes | bytearray | None = receive_at_once(stream, LINE_LIMIT, address, doing)
        if data is None:
            data = await receive_within(stream, LINE_LIMIT, address, doing, deadline - trio.current_time())
        if not data:
            raise Unreachable("", f"{address}: the server closed the connection")
        self._arrived(data)

    def _arrived(self, data: bytes | bytearray) -> None:
        whole, end, self._rest = (self._rest + data).rpartition(b"\n")
        if end:
            text = whole.decode(self._options.charset, "surrogateescape")
            if not self._in:
                text = self._console.without_password(text)
            self._lines += [line.rstrip("\r") for line in text.split("\n")]

    @property
    def _unread(self) -> bool:
        return bool(self._lines or self._rest)


def _silent_after_death(control: trio.socket.SocketType, wanted: bool) -> None:
    """Whether closing the connection, as the end of the process does, throws away what has not reached the server. A
    kernel would go on for minutes to deliver commands, which nobody expects to be carried out any more."""
    with suppress(OSError):
        control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(wanted), 0))

"""Data connections: how one comes about, and what passes over it.

Passive: EPSV, else PASV (RFC 2428, RFC 959). Of what the server answers only the port is used, unless an option says
otherwise: a server behind NAT names an address that leads nowhere, a hostile one names somebody else (RFC 2577 §3).
Active: EPRT, else PORT; of those who connect only the server's own address is let in.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import random
import re
import socket
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, final

import trio

from ...errors import Busy, Corrupt, StorageError, TimedOut, Unreachable
from ...splicing import Pipe
from .dial import (
    Stream,
    bulky,
    close_now,
    network,
    open_to_peer,
    receive_at_once,
    receive_within,
    send_at_once,
    send_within,
    socket_of,
    until_readable,
)
from .feed import Feed
from .options import DataConnection
from .replies import Reply, ReplyError

if TYPE_CHECKING:
    from .connection import Connection

log = logging.getLogger(__name__)
RECEIVE = 1 << 20
ALONE = 1 << 20
"""Bytes that may be received at a stretch, if they are there, before other tasks have their turn."""
BEGUN = ("LIST", "MLSD", "NLST", "STOR")
"""Transfers that are asked for before there is a data connection."""
_OUT_OF_ORDER = (425, 503)
"""Refusals of a server that wants the data connection first: listings it may take, and uploads not."""
_SIX = r"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})"


async def open_data(connection: Connection, verb: str, argument: str, rest: int = 0, content: bytes = b"") -> Data:
    """Start a transfer; see `Connection.transfer`."""
    server, options = connection.server, connection.server.options
    listener = await _listen(connection) if options.data.active else None
    raw: trio.SocketStream | None = None
    begun = connection.begun == (verb, argument)
    try:
        if listener is None:
            raw = await _connect(connection)
        sent = 0
        if rest:
            await connection.demand("REST", str(rest))
        if connection.begun is not None:
            connection.begun = None
            if raw is not None and content and not connection.protects:
                sent = _send_early(raw, content, options.address)
            reply = await connection.reply()
            server.begins = server.begins or reply.code in (125, 150)
        else:
            reply = await connection.command(verb, argument)
        if reply.code >= 200:
            raise ReplyError(reply)
        if listener is not None:
            raw = await _accept(connection, listener)
        assert raw is not None
        return Data(connection, await connection.protected(raw), sent)
    except BaseException as problem:
        refusal = problem.reply.code if isinstance(problem, ReplyError) else None
        if begun and (refusal in _OUT_OF_ORDER or (server.begins is None and refusal != 550)):
            server.begins = False
        if raw is not None:
            raw.socket.close()
        raise
    finally:
        if listener is not None:
            listener.close()


def _send_early(raw: trio.SocketStream, content: bytes, address: str) -> int:
    """Send what the server has been asked to take before it says that it does; answers how much is on its way."""
    sent = 0
    with suppress(OSError, Unreachable):  # that it takes nothing, its reply tells
        sent = send_at_once(raw, content, address)
        if sent == len(content):
            raw.socket.shutdown(socket.SHUT_WR)
    return sent


async def never_mind(connection: Connection) -> None:
    """A transfer that was asked for ahead is not wanted: let it begin, and end it."""
    assert connection.begun is not None
    verb, argument = connection.begun
    connection.skip_to("EPSV")
    with suppress(ReplyError):
        await (await open_data(connection, verb, argument)).abandon()


async def _connect(connection: Connection) -> trio.SocketStream:
    server, options = connection.server, connection.server.options
    host, family = connection.peer()
    kind = options.data
    v6 = family == socket.AF_INET6
    asked = connection.begun is not None  # EPSV was sent with it, whatever has been learned since
    if kind is DataConnection.EPSV or (kind is DataConnection.AUTO_PASSIVE and (server.epsv or v6 or asked)):
        only = kind is DataConnection.EPSV or v6
        reply = await connection.command("EPSV")
        match = re.search(r"\((.)\1\1(\d{1,5})\1\)", reply.text)
        if reply.code == 229 and match and 0 < int(match[2]) < 65536:
            try:
                stream = await open_to_peer(options, host, family, int(match[2]))
            except (Unreachable, TimedOut) as problem:
                if asked and not isinstance(problem, TimedOut):
                    await _refused_meanwhile(connection)
                # firewalls that open ports as they read PASV replies may not know EPSV
                if only or server.epsv_proved:
                    raise
                log.info("%s: no way to the port of EPSV, PASV is tried: %s", options.address, problem)
            else:
                server.epsv_proved = True
                return stream
        else:
            if connection.begun is not None:
                connection.begun = None
                await connection.reply()  # the listing cannot be transferred
            if reply.code == 421 or only:
                raise ReplyError(reply)
        if reply.code != 503 or not server.epsv_proved:  # else out of order, as what came before was refused
            server.epsv = False
    reply = await connection.command("PASV")
    match = re.search(_SIX, reply.text)
    if reply.code != 227 or not match or any(int(part) > 255 for part in match.groups()):
        raise ReplyError(reply)
    told = ".".join(match.groups()[:4])
    return await open_to_peer(options, passive_host(kind, told, host), family, int(match[5]) << 8 | int(match[6]))


async def _refused_meanwhile(connection: Connection) -> None:
    """A server that refuses a transfer which was asked for ahead may close its port at once, and says why: raises
    `ReplyError` if that is it."""
    try:
        reply = await connection.reply(connection.server.options.close_timeout)
    except (Unreachable, TimedOut, Corrupt):
        return
    if reply.code >= 400:
        connection.begun = None
        raise ReplyError(reply)


def passive_host(kind: DataConnection, told: str, host: str) -> str:
    """Where to connect after PASV: by what was ``told``, or to the ``host`` that commands go to. Pure."""
    if kind is DataConnection.PASVUSE:
        return told
    if kind is DataConnection.PASV and ipaddress.ip_address(told).is_global:
        return told
    return host


async def _listen(connection: Connection) -> trio.socket.SocketType:
    """Open a port for the server to connect to, and tell it."""
    server, options = connection.server, connection.server.options
    here, family = connection.here()
    listener = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        with network(options.address, "listening"):
            await _bind(listener, here, options.active_ports)
            listener.listen(1)
        port = listener.getsockname()[1]
        v6 = family == socket.AF_INET6
        if v6 or options.data is DataConnection.EPRT or (options.data is DataConnection.AUTO_ACTIVE and server.eprt):
            reply = await connection.command("EPRT", f"|{2 if v6 else 1}|{here}|{port}|")
            if reply.ok:
                return listener
            if reply.code == 421 or v6 or options.data is DataConnection.EPRT:
                raise ReplyError(reply)
            server.eprt = False
        await connection.demand("PORT", f"{here.replace('.', ',')},{port >> 8},{port & 255}")
    except BaseException:
        listener.close()
        raise
    return listener


async def _bind(listener: trio.socket.SocketType, here: str, ports: range) -> None:
    """One of ``ports`` that is free, any of them: two in a row would meet what is left of the last connection."""
    if len(ports) > 1 or ports[0]:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for port in random.sample(ports, len(ports)):
        try:
            await listener.bind((here, port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise Busy("", f"all ports of active_ports ({ports[0]}-{ports[-1]}) are in use; widen it or lower concurrency")


async def _accept(connection: Connection, listener: trio.socket.SocketType) -> trio.SocketStream:
    host, _ = connection.peer()
    options = connection.server.options
    with network(options.address, "waiting for the server to connect", options.connect_timeout):
        while True:
            accepted, address = await listener.accept()
            if address[0] == host:
                return bulky(trio.SocketStream(accepted))
            accepted.close()


@final
class Data:
    """One transfer. End it with `finish` or `abandon`; leaving the ``async with`` otherwise closes it.

    During a long one NOOP goes out every ``keep_alive`` seconds, so that no router forgets the control connection.
    Servers answer it at once or after the transfer; which of the replies is the transfer's, the codes tell.
    """

    def __init__(self, connection: Connection, stream: Stream, sent: int = 0) -> None:
        self.sent = sent
        """Bytes of the content that had been sent when the server said that it takes it."""
        self._connection = connection
        self._stream = stream
        self._options = connection.server.options
        self._asked = 0
        """NOOPs whose replies may be on the way."""
        self._spoke = trio.current_time()
        self._alone = 0
        """Bytes that came without letting other tasks run."""
        self._pipe: Pipe | None = None
        self._no_pipe = False
        """There can be none."""

    async def __aenter__(self) -> Data:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_now(self._stream)
        if self._pipe is not None:
            self._pipe.close()

    async def receive(self, most: int = RECEIVE) -> bytes | bytearray:
        """The next bytes; b"" at the end, which only `finish` proves to be the real one."""
        address = self._options.address
        block: bytes | bytearray | None = receive_at_once(self._stream, most, address, "receiving")
        if block is None:
            block = await receive_within(self._stream, most, address, "receiving", self._options.timeout)
            self._alone = 0
        else:
            await self._took(len(block))
        await self._keep_alive()
        return block

    async def spliced(self, most: int) -> Pipe | None:
        """The next bytes, left in the kernel; None at the end, and where that cannot be."""
        pipe = self._opened_pipe()
        if pipe is None:
            return None
        await self._keep_alive()
        sock = socket_of(self._stream)
        with network(self._options.address, "receiving"):
            while True:
                try:
                    count = pipe.fill(sock.fileno(), most)
                except BlockingIOError:
                    await until_readable(sock, self._options.address, "receiving", self._options.timeout)
                    self._alone = 0
                else:
                    await self._took(count)
                    return pipe if count else None

    def _opened_pipe(self) -> Pipe | None:
        if self._no_pipe or isinstance(self._stream, trio.SSLStream):
            return None
        if self._pipe is None:
            try:
                self._pipe = Pipe(RECEIVE)
            except OSError:
                self._no_pipe = True
                return None
        return self._pipe if self._pipe.usable else None

    async def _took(self, count: int) -> None:
        """So much came without a wait."""
        self._alone += count
        if self._alone >= ALONE:
            self._alone = 0
            await trio.lowlevel.checkpoint()

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        await send_within(self._stream, data, self._options.address, self._options.timeout)
        await self._keep_alive()

    async def send_from(self, feed: Feed) -> bool:
        """Have a source's next bytes sent by a thread, for a moment; False if TLS has to see them."""
        if not isinstance(self._stream, trio.SocketStream):
            return False
        address = self._options.address
        if not await trio.to_thread.run_sync(feed.push, self._stream, address):
            with network(address, "sending", self._options.timeout):
                await trio.lowlevel.wait_writable(self._stream.socket)
        await self._keep_alive()
        return True

    async def finish(self) -> Reply:
        """Close and read the final reply; raises `ReplyError` unless the server says it was whole."""
        if isinstance(self._stream, trio.SSLStream):
            with trio.move_on_after(self._options.shut_timeout):
                with suppress(trio.BrokenResourceError):  # the reply tells whether that matters
                    await self._stream.aclose()
        else:
            close_now(self._stream)
        reply = await self._final()
        if not reply.ok:
            raise ReplyError(reply)
        return reply

    async def abandon(self) -> None:
        """End a download early. The server says 426, 451, 550, even 226, or 150 and no more (pure-ftpd); a silent
        one loses the connection."""
        close_now(self._stream)
        connection = self._connection
        if self._asked:
            connection.close()
            return
        try:
            reply = await connection.reply(self._options.close_timeout)
            if reply.code == 150:
                connection.forgive()
        except (Unreachable, TimedOut, Corrupt):
            connection.close()

    async def _keep_alive(self) -> None:
        if self._options.keep_alive is None:
            return
        now = trio.current_time()
        if now - self._spoke >= self._options.keep_alive:
            self._spoke = now
            self._asked += 1
            await self._connection.send("NOOP")

    async def _final(self) -> Reply:
        """The transfer's reply. One that does not come is taken as yes if the server answers what is asked after it:
        some never send 226, and the size, or the end of a listing, has to do."""
        connection = self._connection
        if not self._asked:
            half = self._options.shut_timeout / 2
            try:
                return await connection.reply(half)
            except TimedOut:
                log.info("%s: no reply to the end of a transfer for %g seconds", self._options.address, half)
            self._asked += 1
            await connection.send("NOOP")
            replies = await self._replies(half)
            if not replies:
                raise TimedOut("", f"{self._options.address}: no reply to the end of a transfer")
        else:
            replies = await self._replies(self._options.shut_timeout)
        ours = [reply for reply in replies if reply.code != 200]
        ours.sort(key=lambda reply: reply.code in (500, 502, 503))  # those may be about NOOP
        if not ours and not replies:
            raise TimedOut("", f"{self._options.address}: no reply to the end of a transfer")
        if len(replies) <= self._asked:
            connection.settled = False  # something may still come, and would be taken for another reply
        return ours[0] if ours else Reply(226, "(no reply to the end of the transfer)")

    async def _replies(self, within: float) -> list[Reply]:
        """What comes within that time, at most one for the transfer and one for every NOOP; once the transfer's is
        there, the others have a second."""
        replies: list[Reply] = []
        deadline = trio.current_time() + within
        while len(replies) <= self._asked:
            try:
                reply = await self._connection.reply(max(0.01, deadline - trio.current_time()))
            except TimedOut:
                break
            except (StorageError, ReplyError):
                if not replies:
                    raise
                break
            replies.append(reply)
            if reply.code != 200:
                deadline = min(deadline, trio.current_time() + self._options.close_timeout)
        return replies

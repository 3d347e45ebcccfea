"""HTTP/1.1 for object stores: requests over pooled connections, bodies streamed both ways, every wait bounded.

h11 reads and writes the heads (RFC 9112). A body of known length does not pass through it: it goes from the
socket to the reader in pieces of up to :data:`PIECE`, and from the source to the socket, without another copy.
On the trio thread, without threads: a call that is cancelled closes its socket and nothing of it runs on.

Errors are :class:`~mountcore.errors.Unreachable`, ``TimedOut``, ``Corrupt`` and ``Denied`` (a certificate), with the
host and the remedy; what a *status* means is for the caller to say.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, final

import h11
import trio

from ...errors import Corrupt, Denied, Refused, StorageError, TimedOut, Unreachable
from ..reasons import words
from .proxy import Proxy, proxy_for, tunnel

PIECE = 1 << 20
_RECEIVE = 1 << 20
IDLE = 20.0
"""Seconds after which an unused connection is not used again: servers drop them, some after 5, most after 60."""
IDLE_CHANGE = 3.0
"""The same for what is not simply asked again if the server closes it at that moment."""
SMALL = 1 << 22
"""Bytes of an answer that is read whole: an error, a page of a listing."""
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Body(Protocol):
    """What a request sends. It can be sent again from its beginning."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        """The content, in order."""


@final
@dataclass(frozen=True, slots=True)
class Held:
    """A body in memory."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        yield self.content


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of ``Host``: without the port that goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Waits in seconds; whom to trust; how many connections at once."""

    connect_timeout: float = 60.0
    timeout: float = 60.0
    connections: int = 64
    check_certificate: bool = True
    ca_cert: str = ""

    def context(self) -> ssl.SSLContext:
        """For TLS; raises :class:`Refused` if ``ca_cert`` cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_cert or None)
        except (OSError, ssl.SSLError) as problem:
            raise Refused(f"ca_cert: cannot use {self.ca_cert!r} ({problem.strerror or problem})") from problem
        if not self.check_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@final
class _Connection:
    """One stream to one origin, with what was received beyond the last answer."""

    def __init__(self, stream: Stream, origin: Origin, proxy: Proxy | None = None) -> None:
        self.stream = stream
        self.origin = origin
        self.proxy = proxy
        """Who is asked for whole addresses."""
        self.idle_since = trio.current_time()

    def usable(self, longest: float) -> bool:
        """Whether the server has neither closed it nor said anything unasked, and it was not idle for longer."""
        if trio.current_time() - self.idle_since > longest:
            return False
        transport = self.stream if isinstance(self.stream, trio.SocketStream) else self.stream.transport_stream
        raw = transport.socket
        if raw.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN)
        return not poll.poll(0)  # readable: closed, or something that nobody asked for

    def close(self) -> None:
        """At once, without a word or a checkpoint."""
        transport = self.stream if isinstance(self.stream, trio.SocketStream) else self.stream.transport_stream
        transport.socket.close()


@final
@dataclass(slots=True)
class Response:
    """An answer: its head, and its body still to be read."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    url: str
    """For messages; without its query."""
    _wire: _Wire = field(repr=False)

    def pieces(self, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """The body in pieces of up to :data:`PIECE`; ``Corrupt`` if it ends before its time."""
        return self._wire.body(limit)

    async def content(self) -> bytes:
        """A small body, whole."""
        found = bytearray()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                found += piece
                if len(found) > SMALL:
                    raise Corrupt("", f"{self.url}: the answer has no end")
        return bytes(found)


@final
class Http:
    """A client: lends connections to requests, keeps what can be used again."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._tls = settings.context()
        self._limit = trio.CapacityLimiter(settings.connections)
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._closed = False

    @asynccontextmanager
    async def request(
        self, method: str, origin: Origin, target: str, headers: Sequence[tuple[str, str]], body: Body | None = None
    ) -> AsyncIterator[Response]:
        """Send a request; leaving the context ends it, whatever of the answer is read by then."""
        repeatable = method in ("GET", "HEAD", "DELETE")
        async with _slot(self._limit, self._settings.timeout, origin):
            connection = self._reused(origin, IDLE if repeatable else IDLE_CHANGE)
            used = connection is not None
            connection = connection or await self._connect(origin)
            wire = _Wire(connection, self._settings.timeout)
            try:
                try:
                    status, found = await wire.ask(method, target, headers, body)
                except Unreachable:
                    if not (used and repeatable):
                        raise
                    connection.close()  # the server had closed it by the time that we asked
                    connection = await self._connect(origin)
                    wire = _Wire(connection, self._settings.timeout)
                    status, found = await wire.ask(method, target, headers, body)
                yield Response(status, found, f"{origin}{target.partition('?')[0]}", wire)
                await wire.finish()
            finally:
                if wire.clean and not self._closed:
                    connection.idle_since = trio.current_time()
                    self._idle.setdefault(origin, deque()).append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        """Drop what is idle; what is in use is dropped when its request ends."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _reused(self, origin: Origin, longest: float) -> _Connection | None:
        idle = self._idle.get(origin, ())
        while idle:
            connection = idle.pop()
            if connection.usable(longest):
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        with _network(origin, "connecting"), trio.fail_after(self._settings.connect_timeout):
            proxy = proxy_for(origin.scheme, origin.host, origin.port)
            near = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
            plain = await trio.open_tcp_stream(*near)
            if origin.scheme == "http":
                return _Connection(plain, origin, proxy)
            try:
                if proxy is not None:
                    await tunnel(plain, proxy, f"{origin.authority.removesuffix(f':{origin.port}')}:{origin.port}")
            except BaseException:
                plain.socket.close()
                raise
            secure = trio.SSLStream(plain, self._tls, server_hostname=origin.host, https_compatible=True)
            try:
                await secure.do_handshake()
            except BaseException:
                plain.socket.close()
                raise
            return _Connection(secure, origin)


@asynccontextmanager
async def _slot(limit: trio.CapacityLimiter, timeout: float, origin: Origin) -> AsyncIterator[None]:  # noqa: ASYNC109
    token = object()  # a task may hold more than one: a reader that lists
    with trio.move_on_after(timeout) as waiting:
        await limit.acquire_on_behalf_of(token)
    if waiting.cancelled_caught:
        raise TimedOut("", f"{origin}: all connections are in use")
    try:
        yield
    finally:
        limit.release_on_behalf_of(token)


@final
class _Wire:
    """One exchange on a connection."""

    def __init__(self, connection: _Connection, timeout: float) -> None:
        self._stream = connection.stream
        self._origin = connection.origin
        self._proxy = connection.proxy
        self._timeout = timeout
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 16)
        self._left: int | None = 0
        """Bytes of a body of known length still to come; None where h11 has to find its end."""
        self._rest = b""
        self._keep = False
        self.clean = False
        """The exchange has ended and the connection can be used again."""

    async def ask(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: Body | None
    ) -> tuple[int, dict[str, str]]:
        """Send a request and read the head of its answer."""
        lines = [("Host", self._origin.authority), *headers]
        if self._proxy is not None:
            target = f"{self._origin}{target}"
            lines += self._proxy.headers
        if body is not None or method in ("PUT", "POST"):
            lines.append(("Content-Length", str(0 if body is None else body.size)))
        request = h11.Request(method=method, target=target.encode(), headers=lines)
        broken: Unreachable | None = None
        try:
            await self._send(self._parser.send(request))
            if body is None or not body.size:
                self._parser.send(h11.EndOfMessage())
            else:
                await self._send_body(body)
        except Unreachable as problem:
            broken = problem  # a server that refuses an upload may say why, and close
        sent = broken is None
        try:
            response = await self._head(self._timeout if sent else min(5.0, self._timeout))
        except StorageError:
            if broken is not None:
                raise broken from None
            raise
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        again = sent and response.http_version >= b"1.1" and found.get("connection", "").lower() != "close"
        self._keep = again
        bodiless = method == "HEAD" or response.status_code in (204, 304)
        length = found.get("content-length", "")
        if bodiless:
            self._left = 0
        elif "transfer-encoding" in found or not length.isdecimal():
            self._left = None
        else:
            self._left = int(length)
            self._rest = bytes(self._parser.trailing_data[0])
        if self._left == 0:
            self.clean = again and not self._rest
        return response.status_code, found

    async def body(self, limit: int | None) -> AsyncGenerator[bytes, None]:
        """What is left of the body, or ``limit`` bytes of it."""
        if self._left is None:
            async with aclosing(self._framed()) as pieces:
                async for piece in pieces:
                    if limit is None:
                        yield piece
                        continue
                    yield piece[:limit]
                    limit -= min(limit, len(piece))
                    if not limit:
                        return
            return
        while self._left and limit != 0:
            piece = self._rest or await self._receive(min(self._left, _RECEIVE))
            if not piece:
                raise Unreachable("", f"{self._origin}: the answer broke off, {self._left} bytes were missing")
            if len(piece) > self._left:
                raise Corrupt("", f"{self._origin}: the answer is longer than it says")
            self._rest = b""
            self._left -= len(piece)
            if not self._left:
                self.clean = self._keep
            if limit is not None:
                piece = piece[:limit]
                limit -= len(piece)
            yield piece

    async def finish(self) -> None:
        """Read the little that may be left, so that the connection can be used again."""
        if self._left and self._left <= len(self._rest) + (1 << 16) and self._keep:
            async for _ in self.body(None):
                pass

    async def _framed(self) -> AsyncGenerator[bytes, None]:
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                data = bytes(event.data)
                for start in range(0, len(data), PIECE):
                    yield data[start : start + PIECE]
            elif isinstance(event, h11.EndOfMessage):
                self._left = 0
                self.clean = self._keep and self._parser.their_state is h11.DONE and not self._parser.trailing_data[0]
                return
            else:
                raise Unreachable("", f"{self._origin}: the answer broke off")

    async def _head(self, timeout: float) -> h11.Response:  # noqa: ASYNC109 - of each step, not of all
        while True:
            event = await self._event(timeout)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise Unreachable("", f"{self._origin}: the server closed the connection without an answer")

    async def _event(self, timeout: float | None = None) -> object:  # noqa: ASYNC109 - of each step
        data = b"?"
        while True:
            try:
                event = self._parser.next_event()
                if event is not h11.NEED_DATA:
                    return event
                data = await self._receive(_RECEIVE, timeout)
                self._parser.receive_data(data)
            except h11.RemoteProtocolError as problem:
                if not data:
                    raise Unreachable("", f"{self._origin}: the server closed the connection too soon") from problem
                raise Corrupt("", f"{self._origin}: not an HTTP answer ({problem})") from problem

    async def _receive(self, count: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - of each step
        with _network(self._origin, "waiting for an answer"), trio.fail_after(timeout or self._timeout):
            return bytes(await self._stream.receive_some(count))

    async def _send(self, data: bytes | memoryview | None) -> None:
        if data:
            with _network(self._origin, "sending"), trio.fail_after(self._timeout):
                await self._stream.send_all(data)

    async def _send_body(self, body: Body) -> None:
        async with aclosing(body.pieces()) as pieces:
            async for piece in pieces:
                await self._send(piece)


@contextmanager
def _network(origin: Origin, doing: str) -> Iterator[None]:
    """Turns what sockets and TLS raise into our errors, with the remedy where there is one."""
    try:
        yield
    except StorageError:
        raise
    except trio.TooSlowError:
        raise TimedOut("", f"{origin}: {doing} took too long") from None
    except socket.gaierror as problem:
        raise Unreachable(
            "", f"{origin.host}: no such host ({problem.strerror}); check the endpoint and this machine's DNS"
        ) from problem
    except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as problem:
        cause = problem.__cause__ if isinstance(problem.__cause__, ssl.SSLError | OSError) else problem
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Denied(
                "", f"{origin.host}: its certificate is not trusted ({cause.verify_message}); "
                "ca_cert names a file of certificates to trust"
            ) from problem  # fmt: skip
        raise Unreachable("", f"{origin}: {doing} failed: {words(cause)}") from problem
    except OSError as problem:
        raise Unreachable("", f"{origin}: {doing} failed: {words(problem)}") from problem

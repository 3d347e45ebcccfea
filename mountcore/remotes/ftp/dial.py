"""Streams to a server: TCP, through a proxy if told so. TLS over them is made in :mod:`.tls`.

Network errors leave this module as `Unreachable` or `TimedOut`, naming the address.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
from types import TracebackType
from typing import final

import trio

from ...errors import Denied, StorageError, TimedOut, Unreachable
from ..reasons import words
from . import waits
from .options import FtpOptions, Proxy

TCP_NOTSENT_LOWAT = 25


@final
class Draining(trio.abc.Stream):
    """The transport under TLS. It closes by ending its side and reading on until the other side ends:
    closing a socket with unread bytes in it (a TLS 1.3 ticket) sends a reset, and an upload may be lost."""

    def __init__(self, raw: trio.SocketStream) -> None:
        self.raw = raw

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.raw.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.raw.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.raw.receive_some(max_bytes)

    async def aclose(self) -> None:
        try:
            await self.raw.send_eof()
            while await self.raw.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass  # already reset; nothing left to be polite about
        finally:
            self.raw.socket.close()


Stream = trio.SocketStream | trio.SSLStream[Draining]


def socket_of(stream: Stream) -> trio.socket.SocketType:
    """The socket at the bottom."""
    return (stream if isinstance(stream, trio.SocketStream) else stream.transport_stream.raw).socket


def receive_at_once(stream: Stream, most: int, address: str, doing: str) -> bytes | None:
    """What has arrived, b"" at the end; None where nothing has, or only TLS can tell. No checkpoint.

    trio's own way to it, and a deadline that is not needed then, cost as much as 100 KiB of data.
    """
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        return os.read(stream.socket.fileno(), most)
    except BlockingIOError:
        return None
    except OSError as problem:
        raise _broken(address, doing, problem) from problem


async def receive_within(stream: Stream, most: int, address: str, doing: str, seconds: float) -> bytes | bytearray:
    """What comes next, b"" at the end; TimedOut if nothing does for ``seconds``. To be asked when nothing is there."""
    if not isinstance(stream, trio.SocketStream):
        with network(address, doing, seconds):
            return await stream.receive_some(most)
    while True:
        await until_readable(stream.socket, address, doing, seconds)
        block = receive_at_once(stream, most, address, doing)
        if block is not None:
            return block


async def until_readable(sock: trio.socket.SocketType, address: str, doing: str, seconds: float) -> None:
    """Wait for bytes, or the end; TimedOut if there are none for ``seconds``."""
    try:
        await waits.readable(sock, seconds)
    except trio.TooSlowError:
        raise _too_slow(address, doing) from None
    except trio.ClosedResourceError as problem:
        raise _broken(address, doing, problem) from problem


async def send_within(stream: Stream, data: bytes | memoryview, address: str, seconds: float) -> None:
    """Send all of it; TimedOut after ``seconds``. No checkpoint where the kernel takes it without waiting."""
    sent = send_at_once(stream, data, address)
    if sent < len(data):
        with network(address, "sending", seconds):
            await stream.send_all(memoryview(data)[sent:])


def send_at_once(stream: Stream, data: bytes | memoryview, address: str) -> int:
    """How many of these bytes the kernel takes without waiting; none where TLS has to see them. No checkpoint."""
    if not isinstance(stream, trio.SocketStream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)
    except BlockingIOError:
        return 0
    except OSError as problem:
        raise _broken(address, "sending", problem) from problem


@final
class network:
    """What sockets and TLS raise inside becomes ours; and, if told so, it may take only so many seconds."""

    __slots__ = ("_address", "_doing", "_scope")

    def __init__(self, address: str, doing: str, seconds: float | None = None) -> None:
        self._address = address
        self._doing = doing
        self._scope = None if seconds is None else trio.move_on_after(max(seconds, 0))

    def __enter__(self) -> None:
        if self._scope is not None:
            self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope = self._scope
        if scope is not None:
            scope.__exit__(kind, problem, trace)
            if scope.cancelled_caught:
                raise _too_slow(self._address, self._doing) from None
        if problem is None or isinstance(problem, StorageError):
            return
        if isinstance(problem, OSError | trio.BrokenResourceError | trio.ClosedResourceError):  # SSLError is an OSError
            raise _broken(self._address, self._doing, problem) from problem


def _broken(address: str, doing: str, problem: BaseException) -> StorageError:
    cause = problem.__cause__ if isinstance(problem.__cause__, ssl.SSLError | OSError) else problem
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Denied(
            "",
            f"{address}: its certificate is not trusted: {cause.verify_message}; "
            "ca_cert names who signed it, certificate_hash the certificate itself",
        )
    return Unreachable("", f"{address}: {doing} failed: {words(cause)}")


def _too_slow(address: str, doing: str) -> TimedOut:
    return TimedOut("", f"{address}: {doing} took too long")


async def open_tcp(options: FtpOptions, host: str, port: int) -> trio.SocketStream:
    """A TCP connection to ``host`` within ``connect_timeout``, through the proxy if there is one."""
    address = f"{host}:{port}"
    with network(address, "connecting", options.connect_timeout):
        proxy = options.proxy
        if proxy is None:
            stream = await trio.open_tcp_stream(host, port)
        else:
            stream = await trio.open_tcp_stream(proxy.host, proxy.port)
            try:
                await (_socks if proxy.kind == "socks" else _http_connect)(stream, proxy, host, port)
            except BaseException:
                stream.socket.close()
                raise
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30)
        return stream


async def open_to_peer(options: FtpOptions, host: str, family: int, port: int) -> trio.SocketStream:
    """Another connection to an address that we are connected to already: no names, no second try."""
    if options.proxy is not None:
        return await open_tcp(options, host, port)
    address = f"{host}:{port}"
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        if not _connected(raw, host, port) and not _connected(raw, host, port):  # a near one is, at the second look
            await waits.writable(raw, options.connect_timeout)
            if refused := raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(refused, os.strerror(refused))
    except BaseException as problem:
        raw.close()
        if isinstance(problem, trio.TooSlowError):
            raise _too_slow(address, "connecting") from None
        if isinstance(problem, OSError):
            raise _broken(address, "connecting", problem) from problem
        raise
    return bulky(trio.SocketStream(trio.socket.from_stdlib_socket(raw)))


def _connected(raw: socket.socket, host: str, port: int) -> bool:
    """Whether a socket that does not block is connected; begins to connect it. Raises OSError."""
    try:
        raw.connect((host, port))
    except BlockingIOError:
        return False
    return True


def bulky(stream: trio.SocketStream) -> trio.SocketStream:
    """For data: trio keeps little unsent data in the kernel, which is good for answers and slow for files."""
    stream.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4 << 20)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return stream


def close_now(stream: Stream) -> None:
    """Close without a word or a checkpoint; whoever waits on the stream gets an error."""
    socket_of(stream).close()


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            raise OSError(None, "the proxy closed the connection")
        data += bytes(more)
    return data


_SOCKS_ANSWERS = {
    2: "the proxy does not allow it", 3: "network unreachable", 4: "host unreachable", 5: "connection refused",
}  # fmt: skip


async def _socks(stream: trio.SocketStream, proxy: Proxy, host: str, port: int) -> None:
    """RFC 1928, with RFC 1929 when there is a user; names are resolved by the proxy."""
    await stream.send_all(b"\x05\x02\x00\x02" if proxy.user else b"\x05\x01\x00")
    version, method = await _exactly(stream, 2)
    if version != 5 or method not in (0, 2) or (method == 2 and not proxy.user):
        raise OSError(None, "the SOCKS proxy wants another way to log in")
    if method == 2:
        user, password = proxy.user.encode()[:255], proxy.password.encode()[:255]
        await stream.send_all(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        if (await _exactly(stream, 2))[1]:
            raise OSError(None, "the SOCKS proxy refused the login")
    name = host.encode("idna")
    await stream.send_all(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    _, answer, _, kind = await _exactly(stream, 4)
    if answer:
        raise OSError(None, f"SOCKS proxy: {_SOCKS_ANSWERS.get(answer, f'error {answer}')}")
    length = {1: 4, 4: 16}.get(kind) or (await _exactly(stream, 1))[0]
    await _exactly(stream, length + 2)


async def _http_connect(stream: trio.SocketStream, proxy: Proxy, host: str, port: int) -> None:
    """RFC 9110 §9.3.6; the answer's body is empty, so nothing of FTP is read with it."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.user:
        token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await _exactly(stream, 1)
        if len(head) > 16384:
            raise OSError(None, "the HTTP proxy's answer has no end")
    status = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status) < 2 or not status[1].startswith(b"2"):
        raise OSError(None, f"the HTTP proxy answered {b' '.join(status[1:]).decode('latin-1')[:80]}")

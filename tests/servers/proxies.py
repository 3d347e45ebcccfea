"""A SOCKS 5 and an HTTP CONNECT proxy, one async function each, to be run on a listener by a test."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import final

import trio

USER, PASSWORD = "proxy user", "p@ss:w"


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            raise trio.BrokenResourceError
        data += bytes(more)
    return data


async def _join(one: trio.SocketStream, other: trio.SocketStream) -> None:
    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


async def socks(stream: trio.SocketStream) -> None:
    """RFC 1928 and 1929, CONNECT by name only."""
    _, methods = await _exactly(stream, 2)
    assert 2 in await _exactly(stream, methods)
    await stream.send_all(b"\x05\x02")
    _, length = await _exactly(stream, 2)
    user = await _exactly(stream, length)
    password = await _exactly(stream, (await _exactly(stream, 1))[0])
    good = (user.decode(), password.decode()) == (USER, PASSWORD)
    await stream.send_all(b"\x01\x00" if good else b"\x01\x01")
    _, _, _, kind = await _exactly(stream, 4)
    assert kind == 3
    host = await _exactly(stream, (await _exactly(stream, 1))[0])
    port = int.from_bytes(await _exactly(stream, 2), "big")
    try:
        target = await trio.open_tcp_stream(host.decode(), port)
    except OSError:
        await stream.send_all(b"\x05\x05\x00\x01" + bytes(6))
        return
    async with target:
        await stream.send_all(b"\x05\x00\x00\x01" + bytes(6))
        await _join(stream, target)


async def http(stream: trio.SocketStream) -> None:
    """CONNECT with basic authentication."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await _exactly(stream, 1)
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    if b"Proxy-Authorization: Basic " + token not in head:
        await stream.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        return
    host, _, port = head.split()[1].decode().rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as target:
        await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        await _join(stream, target)


@final
class Relay:
    """A SOCKS 5 proxy without a login that counts what it is sent, and can cut all that passes through it."""

    def __init__(self) -> None:
        self.sent = 0
        self.cuts = 0
        """How often something was cut."""
        self._streams: set[trio.SocketStream] = set()

    async def start(self, nursery: trio.Nursery) -> int:
        """Serve in a nursery; answers the port."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, tolerant(self.relay, []), listeners)
        return int(listeners[0].socket.getsockname()[1])

    def cut(self) -> None:
        """Break every connection, on both sides."""
        self.cuts += bool(self._streams)
        for stream in self._streams:
            stream.socket.close()
        self._streams.clear()

    async def relay(self, stream: trio.SocketStream) -> None:
        """One connection."""
        _, methods = await _exactly(stream, 2)
        await _exactly(stream, methods)
        await stream.send_all(b"\x05\x00")
        await _exactly(stream, 4)
        host = await _exactly(stream, (await _exactly(stream, 1))[0])
        port = int.from_bytes(await _exactly(stream, 2), "big")
        try:
            target = await trio.open_tcp_stream(host.decode(), port)
        except OSError:
            await stream.send_all(b"\x05\x05\x00\x01" + bytes(6))
            return
        await stream.send_all(b"\x05\x00\x00\x01" + bytes(6))
        self._streams |= {stream, target}

        async def out() -> None:
            async for data in stream:
                self.sent += len(data)
                await target.send_all(data)
            await target.send_eof()

        async def back() -> None:
            async for data in target:
                await stream.send_all(data)
            await stream.send_eof()

        try:
            async with stream, target, trio.open_nursery() as nursery:
                nursery.start_soon(out)
                nursery.start_soon(back)
        finally:
            self._streams -= {stream, target}


Handler = Callable[[trio.SocketStream], Awaitable[None]]


def tolerant(handler: Handler, served: list[str]) -> Handler:
    """The handler, noting each connection, not minding those that break."""

    async def handle(stream: trio.SocketStream) -> None:
        served.append(handler.__name__)  # type: ignore[attr-defined]
        try:
            await handler(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    return handle

"""A proxy before a real server that does to connections what networks and failing servers do to them.

It knows enough of FTP to stand before data connections, too, to answer a command in the server's place, and to
change what the server says; before other servers (``ftp=False``) it sees bytes alone. It runs in a thread of its
own; `FaultProxy.fault` is what happens to connections from now on, None is nothing.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import final

import trio

PIECE = 64 << 10
READY_WITHIN = 10.0


@dataclass
class Fault:
    """What goes wrong, ``times`` times. Of the ways below one is given."""

    way: str
    """``reset``: RST, ``close``: both sides end, ``stall``: nothing passes any more, ``truncate``: the rest is thrown
    away, and the receiver told that this was all; ``slow``: ``rate`` bytes a second; ``late``: each piece waits
    ``delay`` seconds; ``refuse``: connections are reset at once; ``answer``: ``reply`` in the server's place to
    commands that match ``command``; ``hold``: such commands, and what follows, reach the server only when `release`
    has been called, whether the client is still there or not; ``rewrite``: ``pattern`` in the server's replies becomes
    ``reply``."""
    where: str = "data"
    """``data``, ``control`` or ``any``; before other servers than FTP every connection is ``data``."""
    up: bool = True
    """In what the client sends, or in what it receives."""
    after: int = 0
    """Bytes of a connection that pass first."""
    times: float = float("inf")
    command: str = ""
    reply: str = ""
    pattern: str = ""
    rate: float = 50_000.0
    delay: float = 0.2
    injected: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let go what was held back."""
        self.released.set()

    def hits(self, where: str, up: bool, passed: int) -> bool:
        """Whether it happens to the next piece of this stream; counts it."""
        if self.times <= 0 or self.way in ("answer", "hold", "rewrite", "refuse"):
            return False
        if self.where not in ("any", where) or self.up is not up or passed < self.after:
            return False
        self.count()
        return True

    def count(self) -> None:
        self.times -= 1
        self.injected += 1


class _Cut(Exception):
    """This connection ends, in the way of the fault."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self.way = way


@final
class FaultProxy:
    """See the module. ``port`` is where clients connect."""

    def __init__(self, target: int, *, ftp: bool) -> None:
        self.port = 0
        self.fault: Fault | None = None
        self.connections = 0
        self._target = target
        self._ftp = ftp
        self._ready = threading.Event()
        self._scope: trio.CancelScope | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="fault proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(READY_WITHIN):
            raise RuntimeError("the fault proxy does not start")

    def stop(self) -> None:
        if self._token is not None and self._scope is not None and self._thread.is_alive():
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join(READY_WITHIN)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as self._nursery:
                listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self.port = listeners[0].socket.getsockname()[1]
                self._ready.set()
                where = "control" if self._ftp else "data"
                await trio.serve_listeners(lambda stream: self._serve(stream, self._target, where), listeners)

    async def _serve(self, client: trio.SocketStream, target: int, where: str) -> None:
        self.connections += 1
        fault = self.fault
        if fault is not None and fault.way == "refuse" and fault.where in ("any", where) and fault.times > 0:
            fault.count()
            _reset(client)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", target)
        except OSError:
            _reset(client)
            return
        way = "close"
        try:
            async with trio.open_nursery() as nursery:
                if where == "control":
                    speaking = trio.Lock()  # both tasks answer the client
                    nursery.start_soon(self._commands, client, server, speaking)
                    nursery.start_soon(self._replies, server, client, speaking)
                else:
                    nursery.start_soon(self._pump, client, server, where, True)
                    nursery.start_soon(self._pump, server, client, where, False)
        except* _Cut as cuts:
            way = next(_leaves(cuts)).way
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            for stream in (client, server):
                if way == "reset":
                    _reset(stream)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await stream.aclose()

    async def _pass(self, data: bytes, sink: trio.SocketStream, where: str, up: bool, passed: int) -> None:
        """One piece, in the way that the fault of the moment wants it."""
        fault = self.fault
        if fault is not None and fault.way == "refuse" and fault.where in ("any", where) and fault.times > 0:
            fault.count()
            raise _Cut("reset")  # those that are open go, too
        if fault is not None and fault.after > passed and passed + len(data) > fault.after:
            first = fault.after - passed
            await sink.send_all(data[:first])
            data, passed = data[first:], fault.after
        if fault is None or not fault.hits(where, up, passed):
            await sink.send_all(data)
            return
        match fault.way:
            case "stall":
                while self.fault is fault:  # noqa: ASYNC110 - until the scenario ends the fault
                    await trio.sleep(0.05)
                raise _Cut("reset")
            case "slow":
                while data:
                    await trio.sleep(0.05)
                    step = max(1, int(fault.rate * 0.05)) if self.fault is fault else len(data)
                    await sink.send_all(data[:step])
                    data = data[step:]
            case "late":
                await trio.sleep(fault.delay)
                await sink.send_all(data)
            case way:
                raise _Cut(way)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, where: str, up: bool) -> None:
        passed = 0
        while data := bytes(await source.receive_some(PIECE)):
            try:
                await self._pass(data, sink, where, up, passed)
            except _Cut as cut:
                if cut.way != "truncate":
                    raise
                with suppress(trio.BrokenResourceError):
                    await sink.send_eof()
                async for _ in source:  # the sender believes that all is well
                    pass
                return
            passed += len(data)
        with suppress(trio.BrokenResourceError):
            await sink.send_eof()

    # the control connection

    async def _commands(self, client: trio.SocketStream, server: trio.SocketStream, speaking: trio.Lock) -> None:
        passed = 0
        async for line in _lines(client):
            fault = self.fault
            verb = line.decode("utf-8", "replace").strip()
            if fault is not None and fault.way == "answer" and fault.times > 0 and re.match(fault.command, verb):
                fault.count()
                async with speaking:
                    await client.send_all(fault.reply.encode() + b"\r\n")
                continue
            if fault is not None and fault.way == "hold" and fault.times > 0 and re.match(fault.command, verb):
                fault.count()
                await trio.to_thread.run_sync(fault.released.wait, READY_WITHIN)
            await self._pass(line, server, "control", True, passed)
            passed += len(line)
        await server.send_eof()

    async def _replies(self, server: trio.SocketStream, client: trio.SocketStream, speaking: trio.Lock) -> None:
        passed = 0
        async for line in _lines(server):
            fault, text = self.fault, line.decode("utf-8", "surrogateescape")
            if match := re.match(r"227 .*?(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)", text):
                port = await self._data_port(int(match[5]) * 256 + int(match[6]))
                text = f"227 Entering Passive Mode (127,0,0,1,{port >> 8},{port & 255}).\r\n"
            elif match := re.match(r"229 .*\(\|\|\|(\d+)\|\)", text):
                text = f"229 Entering Extended Passive Mode (|||{await self._data_port(int(match[1]))}|)\r\n"
            if fault is not None and fault.way == "rewrite" and fault.times > 0 and re.search(fault.pattern, text):
                fault.count()
                text = re.sub(fault.pattern, fault.reply, text)
            data = text.encode("utf-8", "surrogateescape")
            async with speaking:
                await self._pass(data, client, "control", False, passed)
            passed += len(data)
        await client.send_eof()

    async def _data_port(self, target: int) -> int:
        assert self._nursery is not None
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def accept() -> None:
            async with listener:
                with trio.move_on_after(30):
                    stream = await listener.accept()
                    await listener.aclose()
                    await self._serve(stream, target, "data")

        self._nursery.start_soon(accept)
        return int(listener.socket.getsockname()[1])


def _leaves(group: BaseExceptionGroup[_Cut]) -> Iterator[_Cut]:
    for problem in group.exceptions:
        if isinstance(problem, BaseExceptionGroup):
            yield from _leaves(problem)
        else:
            yield problem


async def _lines(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    buffer = b""
    async for data in stream:
        buffer += bytes(data)
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            yield line + b"\n"


def _reset(stream: trio.SocketStream) -> None:
    """RST instead of FIN."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@contextmanager
def fault_proxy(target: int, *, ftp: bool) -> Iterator[FaultProxy]:
    """A running proxy."""
    proxy = FaultProxy(target, ftp=ftp)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()

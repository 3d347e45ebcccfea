"""An HTTP server that answers what a test tells it to: for what no honest server sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import h11
import trio

Answer = bytes | None
"""The whole answer, as it goes over the wire; None never answers."""


@dataclass
class ScriptedHttp:
    """The running server: where it is, and what it was asked."""

    url: str = ""
    heard: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, target, headers."""


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; the connection stays open."""
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def scripted_http(script: Callable[[str, str, dict[str, str]], Answer]) -> AsyncIterator[ScriptedHttp]:
    """``script`` makes the answer of method, target and headers. An answer shorter than it says ends the connection."""
    server = ScriptedHttp()

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            while True:
                parser = h11.Connection(h11.SERVER)
                request = None
                while True:
                    event = parser.next_event()
                    if event is h11.NEED_DATA:
                        parser.receive_data(await stream.receive_some(65536))
                    elif isinstance(event, h11.Request):
                        request = event
                    elif isinstance(event, h11.EndOfMessage):
                        break
                    elif isinstance(event, h11.ConnectionClosed):
                        return
                assert request is not None
                headers = {name.decode(): value.decode() for name, value in request.headers}
                heard = (request.method.decode(), request.target.decode(), headers)
                server.heard.append(heard)
                found = script(*heard)
                if found is None:
                    await trio.sleep_forever()
                await stream.send_all(found)
                head, _, body = found.partition(b"\r\n\r\n")
                wanted = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
                if len(body) != wanted and heard[0] != "HEAD":
                    return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()

"""An FTP server that says what a test tells it to: for replies and listings that no honest server sends."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import trio

Answer = str | bytes | None | Callable[[str], str | bytes | None]
"""A reply, raw bytes for the control connection, None to close it; or what makes one of these of the argument."""
DEFAULTS: dict[str, Answer] = {
    "USER": "331 password",
    "PASS": "230 in",
    "FEAT": "211-Features\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n MLST type*;size*;modify*;\r\n211 End",
    "TYPE": "200 ok",
    "PBSZ": "200 ok",
    "PROT": "200 ok",
    "PWD": '257 "/" is home',
    "NOOP": "200 ok",
    "CWD": "250 ok",
    "REST": "350 go on",
    "MLST": "550 No such file or directory",
    "SIZE": "550 No such file or directory",
    "DELE": "250 ok",
    "RNFR": "350 go on",
    "RNTO": "250 ok",
}


UPLOADS = ("STOR", "APPE")


class ScriptedFtp:
    """The running server: its port, and what it was told in order."""

    def __init__(self, answers: Mapping[str, Answer], data: Mapping[str, bytes], final: Mapping[str, Answer]) -> None:
        self.port = 0
        self.greeting: bytes | None = b"220 hello\r\n"
        self.heard: list[str] = []
        self.packets: list[list[str]] = []
        """The same, by what came at once."""
        self.one_at_a_time = False
        """Of two commands that come at once, the second is lost."""
        self.refuses_early = False
        """A transfer is refused if it is asked for before its connection can be there: at once with the way for it."""
        self.takes_first = False
        """What is uploaded is waited for before it is said that it may come."""
        self.uploads: list[bytes] = []
        self.connections = 0
        self._answers = DEFAULTS | dict(answers)
        self._data = data
        self._final = final

    @property
    def options(self) -> dict[str, str]:
        """What `open_remote` needs for it."""
        return {"host": "127.0.0.1", "port": str(self.port), "user": "u", "pass": "p"}

    def told(self, verb: str) -> list[str]:
        """The arguments of all commands of one kind."""
        return [line.partition(" ")[2] for line in self.heard if line.partition(" ")[0] == verb]

    async def serve(self, control: trio.abc.Stream) -> None:
        """One control connection."""
        self.connections += 1
        if self.greeting is None:
            await trio.sleep_forever()
        assert self.greeting is not None
        await control.send_all(self.greeting)
        waiting: trio.SocketListener | None = None
        buffer = b""
        while True:
            while b"\r\n" not in buffer:
                received = await control.receive_some()
                if not received:
                    return
                buffer += bytes(received)
                self.packets.append(buffer.decode("utf-8", "surrogateescape").split("\r\n")[:-1])
            line, _, buffer = buffer.partition(b"\r\n")
            if self.one_at_a_time:
                buffer = b""
            text = line.decode("utf-8", "surrogateescape")
            self.heard.append(text)
            verb, _, argument = text.partition(" ")
            if verb in ("EPSV", "PASV") and verb not in self._answers:
                (waiting,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                port = waiting.socket.getsockname()[1]
                await control.send_all(f"229 Extended (|||{port}|)\r\n".encode())
            elif waiting is not None and self.refuses_early and len(self.packets[-1]) > 1 and self._transfers(verb):
                await control.send_all(b"425 Connect first\r\n")
            elif waiting is not None and self._transfers(verb):
                if not self.takes_first:
                    await control.send_all(b"150 here it comes\r\n")
                async with await waiting.accept() as stream:
                    await self._transfer(verb, stream)
                if self.takes_first:
                    await control.send_all(b"150 here it was\r\n")
                await waiting.aclose()
                if not await self._say(control, self._final.get(verb, "226 done"), argument):
                    return
            elif not await self._say(control, self._answers.get(verb, "502 what?"), argument):
                return

    def _transfers(self, verb: str) -> bool:
        return verb in self._data or (verb in UPLOADS and verb not in self._answers)

    async def _transfer(self, verb: str, stream: trio.SocketStream) -> None:
        if verb in self._data:
            try:
                await stream.send_all(self._data[verb])
            except trio.BrokenResourceError:
                return  # the reader has left
        else:
            self.uploads.append(b"".join([bytes(piece) async for piece in stream]))

    async def _say(self, control: trio.abc.Stream, answer: Answer, argument: str) -> bool:
        if callable(answer):
            answer = answer(argument)
        if answer is None:
            return False
        if answer == "":
            await trio.sleep_forever()
        await control.send_all(answer if isinstance(answer, bytes) else answer.encode() + b"\r\n")
        return True


@asynccontextmanager
async def scripted(
    answers: Mapping[str, Answer] | None = None,
    *,
    data: Mapping[str, bytes] | None = None,
    final: Mapping[str, Answer] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ScriptedFtp]:
    """Serve: ``answers`` by command, ``data`` to send on the data connection, ``final`` replies after it; with
    ``tls``, commands are encrypted from the first byte, and data is not."""
    server = ScriptedFtp(answers or {}, data or {}, final or {})

    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await server.serve(stream if tls is None else trio.SSLStream(stream, tls, server_side=True))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield server
        nursery.cancel_scope.cancel()

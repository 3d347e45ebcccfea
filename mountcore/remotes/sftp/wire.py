"""What goes out in one turn of the event loop goes out in one system call.

asyncssh writes each message by itself, and one to be ignored before it (its answer to attacks on CBC ciphers): some
fourteen calls of send(2) for a small file, each of which lets go of the interpreter lock. `GatheringLoop` is an event
loop whose connections gather them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, final


@final
class GatheringLoop(asyncio.SelectorEventLoop):
    """The usual loop, but for :meth:`create_connection`."""

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *args: Any, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        transport, between = await super().create_connection(
            lambda: _Between(self, protocol_factory()), *args, **options
        )
        return between.gathering or transport, between.inner


@final
class _Between(asyncio.Protocol):
    """Hands everything on, and a gathering transport instead of the real one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inner: asyncio.Protocol) -> None:
        self.inner = inner
        self.gathering: _Gathering | None = None
        self._loop = loop
        self.data_received = inner.data_received  # type: ignore[method-assign] # one call less for each block
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.gathering = _Gathering(self._loop, transport)
        self.inner.connection_made(self.gathering)

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)


@final
class _Gathering(asyncio.Transport):
    """A transport that writes at the end of the turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, real: asyncio.Transport) -> None:
        super().__init__()
        self._loop = loop
        self._real = real
        self._waiting: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._real.is_closing():
            self._real.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def write_eof(self) -> None:
        self._flush()
        self._real.write_eof()

    def close(self) -> None:
        self._flush()
        self._real.close()

    def abort(self) -> None:
        self._waiting.clear()
        self._real.abort()

    def can_write_eof(self) -> bool:
        return self._real.can_write_eof()

    def is_closing(self) -> bool:
        return self._real.is_closing()

    def is_reading(self) -> bool:
        return self._real.is_reading()

    def pause_reading(self) -> None:
        self._real.pause_reading()

    def resume_reading(self) -> None:
        self._real.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._real.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._real.set_protocol(protocol)

    def get_write_buffer_size(self) -> int:
        return self._real.get_write_buffer_size() + sum(map(len, self._waiting))

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._real.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._real.set_write_buffer_limits(high, low)

"""FTP's bytes are taken without waiting where they are there: nothing is lost, mistaken or held up by that."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
import trio

from mountcore.errors import TimedOut, Unreachable
from mountcore.remotes.ftp.connection import Connection
from mountcore.remotes.ftp.data import ALONE, Data
from mountcore.remotes.ftp.dial import receive_at_once, send_at_once
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.ftp.server import Server

MIB = 1 << 20
Pair = tuple[trio.SocketStream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Our end of a TCP connection, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield trio.SocketStream(trio.socket.from_stdlib_socket(ours)), theirs


def connection(stream: trio.SocketStream) -> Connection:
    return Connection(Server(parse({"host": "127.0.0.1", "user": "u", "timeout": "300ms"})), None, stream)


async def arrived(stream: trio.SocketStream) -> None:
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(stream.socket)


@pytest.mark.trio
async def test_nothing_something_and_the_end_are_told_apart(pair: Pair) -> None:
    stream, theirs = pair
    assert receive_at_once(stream, 100) is None
    theirs.sendall(b"abc")
    await arrived(stream)
    assert receive_at_once(stream, 2) == b"ab"
    assert receive_at_once(stream, 2) == b"c"
    assert receive_at_once(stream, 2) is None
    theirs.close()
    await arrived(stream)
    assert receive_at_once(stream, 2) == b""


@pytest.mark.trio
async def test_a_reset_is_not_taken_for_the_end(pair: Pair) -> None:
    stream, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    await arrived(stream)
    with pytest.raises(Unreachable):
        await Data(connection(stream), stream).receive()


@pytest.mark.trio
async def test_what_the_kernel_does_not_take_at_once_is_sent_as_well(pair: Pair) -> None:
    stream, theirs = pair
    filler = 0
    while count := send_at_once(stream, bytes(MIB)):
        filler += count
    control = connection(stream)
    received = bytearray()

    def read_all() -> None:
        while piece := theirs.recv(MIB):
            received.extend(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, read_all)
        await control.send("NOOP")
        await stream.send_eof()
    assert received == bytes(filler) + b"NOOP\r\n"


@pytest.mark.trio
async def test_replies_may_come_in_any_pieces_or_not_at_all(pair: Pair) -> None:
    stream, theirs = pair
    control = connection(stream)
    theirs.sendall(b"220-one\r\n220 two\r\n200 three\r\n21")
    await arrived(stream)
    assert (await control.reply()).lines == ("220-one", "220 two")
    assert (await control.reply()).text == "three"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_later, theirs, b"1 four\r\n")
        assert (await control.reply()).code == 211
    with pytest.raises(TimedOut):
        await control.reply()
    theirs.close()
    await arrived(stream)
    with pytest.raises(Unreachable):
        await control.reply()


async def _later(theirs: socket.socket, data: bytes) -> None:
    await trio.sleep(0.05)
    theirs.sendall(data)


@pytest.mark.trio
async def test_others_have_their_turn_during_a_transfer_that_never_waits(pair: Pair) -> None:
    stream, theirs = pair
    theirs.setblocking(False)
    data = Data(connection(stream), stream)
    turns, stopped = 0, False

    async def other() -> None:
        nonlocal turns
        while not stopped:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        total, waits, before = 0, 0, turns
        while total < 8 * ALONE:
            theirs.send(bytes(64 << 10))  # there is always something to receive
            here = turns
            total += len(await data.receive())
            waits += here != turns
        stopped = True
    assert 4 <= waits <= 8
    assert turns - before >= 4

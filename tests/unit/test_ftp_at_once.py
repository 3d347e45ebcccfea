"""FTP's bytes are taken without waiting where they are there: nothing is lost, mistaken or held up by that."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
import trio

from mountcore.errors import Corrupt, TimedOut, Unreachable
from mountcore.files.content import InMemory
from mountcore.remotes.ftp.connection import Connection
from mountcore.remotes.ftp.data import ALONE, Data
from mountcore.remotes.ftp.dial import open_to_peer, receive_at_once, send_at_once
from mountcore.remotes.ftp.feed import Feed
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
    assert receive_at_once(stream, 100, "", "") is None
    theirs.sendall(b"abc")
    await arrived(stream)
    assert receive_at_once(stream, 2, "", "") == b"ab"
    assert receive_at_once(stream, 2, "", "") == b"c"
    assert receive_at_once(stream, 2, "", "") is None
    theirs.close()
    await arrived(stream)
    assert receive_at_once(stream, 2, "", "") == b""


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
    while count := send_at_once(stream, bytes(MIB), ""):
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


class Failing:
    """A source that ends, or breaks, too soon."""

    def __init__(self, size: int, good: int, problem: OSError | None) -> None:
        self.size = size
        self._good = good
        self._problem = problem

    def pread(self, length: int, offset: int) -> bytes:
        if offset >= self._good and self._problem is not None:
            raise self._problem
        return bytes(min(length, self._good - offset))


@pytest.mark.trio
async def test_a_feed_is_sent_for_a_moment_at_a_time(pair: Pair) -> None:
    stream, theirs = pair
    content = bytes(range(256)) * (8 << 12)
    feed, got = Feed(InMemory(content), 5, "f"), bytearray()
    fed = connection(stream)

    def take() -> None:
        while len(got) < len(content) - 5:
            got.extend(theirs.recv(MIB))

    began = trio.current_time()
    await trio.to_thread.run_sync(feed.push, stream, "here")
    assert trio.current_time() - began < 1, "it waited for somebody to read"
    assert not feed.done
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, take)
        async with Data(fed, stream) as data:
            while not feed.done:
                assert await data.send_from(feed)
    assert got == content[5:]


@pytest.mark.trio
async def test_a_feed_that_nobody_takes_is_given_up(pair: Pair) -> None:
    stream, _ = pair
    feed = Feed(InMemory(bytes(64 * MIB)), 0, "f")
    data = Data(connection(stream), stream)

    async def send() -> None:
        while not feed.done:
            await data.send_from(feed)

    with trio.fail_after(10), pytest.raises(TimedOut):
        await send()


@pytest.mark.trio
async def test_a_feed_tells_a_broken_connection_from_a_broken_source(pair: Pair) -> None:
    stream, theirs = pair
    for problem, kind in ((OSError(5, "the disk broke"), OSError), (None, Corrupt)):
        feed = Feed(Failing(1000, 600, problem), 0, "f")
        with pytest.raises(kind) as raised:
            await Data(connection(stream), stream).send_from(feed)
        assert not isinstance(raised.value, Unreachable)
        assert feed.offset == 600
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    feed = Feed(InMemory(bytes(64 * MIB)), 0, "f")
    with pytest.raises(Unreachable):
        await Data(connection(stream), stream).send_from(feed)


@pytest.mark.trio
async def test_a_data_connection_is_there_refused_or_given_up() -> None:
    options = parse({"host": "127.0.0.1", "user": "u", "connect_timeout": "300ms"})
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        port = listener.getsockname()[1]
        stream = await open_to_peer(options, "127.0.0.1", socket.AF_INET, port)
        theirs, _ = listener.accept()
        theirs.sendall(b"x")
        theirs.close()
        assert await stream.receive_some(10) == b"x"
        stream.socket.close()
        crowd = [socket.socket() for _ in range(4)]
        try:
            for one in crowd:  # more than wait there at once: who comes now gets no answer
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            with trio.fail_after(5), pytest.raises(TimedOut):
                await open_to_peer(options, "127.0.0.1", socket.AF_INET, port)
        finally:
            for one in crowd:
                one.close()
    with pytest.raises(Unreachable, match="refused"):
        await open_to_peer(options, "127.0.0.1", socket.AF_INET, port)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        stream = await open_to_peer(options, "::1", socket.AF_INET6, listener.getsockname()[1])
        stream.socket.close()

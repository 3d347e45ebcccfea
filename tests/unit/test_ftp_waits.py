"""Waits for FTP's sockets end when they should: with bytes, with the limit, with the socket, with a cancelled call."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio

from mountcore.remotes.ftp import waits

Pair = tuple[trio.socket.SocketType, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield trio.socket.from_stdlib_socket(ours), theirs


@pytest.fixture(params=["exactly", "late"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds, of a wait whose limit is kept in the one way or the other."""
    if request.param == "exactly":
        return 0.3
    monkeypatch.setattr(waits, "LONG", 0.3)
    monkeypatch.setattr(waits, "EVERY", 0.1)
    return 0.3


@pytest.mark.trio
async def test_bytes_end_a_wait(pair: Pair, limit: float) -> None:
    ours, theirs = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits.readable, ours, limit)
        await trio.testing.wait_all_tasks_blocked()
        theirs.send(b"x")
    assert await ours.recv(1) == b"x"


@pytest.mark.trio
async def test_the_limit_ends_a_wait_and_the_socket_lives_on(pair: Pair, limit: float) -> None:
    ours, theirs = pair
    for _ in range(2):
        start = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await waits.readable(ours, limit)
        assert limit <= trio.current_time() - start < limit + 0.5
    theirs.send(b"x")
    await waits.readable(ours, limit)
    assert await ours.recv(1) == b"x"


@pytest.mark.trio
async def test_a_connection_that_takes_nothing(pair: Pair, limit: float) -> None:
    ours, theirs = pair
    await waits.writable(ours, limit)
    with trio.move_on_after(0.1):
        while True:
            await ours.send(bytes(1 << 20))
    with pytest.raises(trio.TooSlowError):
        await waits.writable(ours, limit)
    assert theirs.recv(1) == b"\0"


@pytest.mark.trio
async def test_who_closes_the_socket_ends_a_wait(pair: Pair, limit: float) -> None:
    ours, _ = pair

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await waits.readable(ours, limit)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        ours.close()


@pytest.mark.trio
async def test_a_cancelled_wait_leaves_nothing_behind(pair: Pair, limit: float) -> None:
    ours, theirs = pair
    with trio.move_on_after(0.05) as scope:
        await waits.readable(ours, limit)
    assert scope.cancelled_caught
    theirs.send(b"x")
    await waits.readable(ours, limit)
    await trio.sleep(2 * limit)  # what looks after limits has gone by then
    assert await ours.recv(1) == b"x"
    with pytest.raises(trio.TooSlowError):
        await waits.readable(ours, limit)


@pytest.mark.trio
async def test_each_wait_has_its_own_limit(limit: float) -> None:
    """Some end, others go on."""
    ended: list[int] = []

    async def wait(sock: trio.socket.SocketType, number: int) -> None:
        with pytest.raises(trio.TooSlowError):
            await waits.readable(sock, limit * number)
        ended.append(number)

    pairs = [socket.socketpair() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for number, (ours, _) in enumerate(pairs, 1):
            nursery.start_soon(wait, trio.socket.from_stdlib_socket(ours), number)
    assert ended == [1, 2, 3]
    for both in pairs:
        for sock in both:
            sock.close()

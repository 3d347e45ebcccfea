"""Bytes that the kernel moves by itself: each arrives once, where it belongs, and none over what is newer."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountcore.cache.item import Item
from mountcore.cache.rows import ItemId, Row
from mountcore.spans import Span
from mountcore.splicing import Pipe

CONTENT = random.Random(5).randbytes(300_000)
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Our end of a TCP connection, which does not block, and the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(1 << 20)
    yield pipe
    pipe.close()


@pytest.fixture
def item(tmp_path: Path) -> Iterator[Item]:
    """A file of which nothing is here yet."""
    item = Item(Row(ItemId(1), "f", len(CONTENT)), str(tmp_path / "f"))
    item.acquire()
    yield item
    item.release()
    item.close_file()


def filled(pipe: Pipe, pair: Pair, content: bytes) -> Pipe:
    """The pipe with these bytes as its piece."""
    ours, theirs = pair
    theirs.sendall(content)
    assert pipe.fill(ours.fileno(), len(content)) == len(content)
    return pipe


def content_of(item: Item) -> bytes:
    return item.read(0, item.size) or b""


def test_a_piece_fills_a_file(pipe: Pipe, pair: Pair, item: Item) -> None:
    ours, theirs = pair
    at = 0
    theirs.sendall(CONTENT)
    while at < len(CONTENT):
        try:
            pipe.fill(ours.fileno(), 100_001)
        except BlockingIOError:
            continue
        assert item.fill(at, pipe, len(CONTENT)) == len(pipe)
        at += len(pipe)
    assert content_of(item) == CONTENT
    theirs.close()
    assert pipe.fill(ours.fileno(), 10) == 0


def test_what_was_written_meanwhile_stays(pipe: Pipe, pair: Pair, item: Item) -> None:
    item.write(10, b"newer")
    item.write(50, b"newest")
    piece = CONTENT[:60]
    assert item.fill(0, filled(pipe, pair, piece), len(CONTENT)) == 60 - 5 - 6
    assert item.read(0, 60) == piece[:10] + b"newer" + piece[15:50] + b"newest" + piece[56:]
    assert item.fill(60, filled(pipe, pair, CONTENT[60:100]), 80) == 20, "bytes beyond the bound were believed"
    assert item.spans.gaps(0, 100) == [Span(80, 100)]
    assert item.fill(80, filled(pipe, pair, CONTENT[80:100]), len(CONTENT)) == 20
    assert item.read(60, 40) == CONTENT[60:100]


def test_after_an_error_it_goes_on_with_the_byte_that_was_next(
    pipe: Pipe, pair: Pair, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, put = 0, Pipe.put

    def now_and_then(self: Pipe, file: int, offset: int, count: int) -> int:
        nonlocal turns
        turns += 1
        if turns % 2:
            raise OSError(28, "No space left on device")
        return put(self, file, offset, min(count, 7))

    monkeypatch.setattr(Pipe, "put", now_and_then)
    item.write(20, b"newer")
    piece = filled(pipe, pair, CONTENT[:50])
    failures = 0
    while True:
        try:
            item.fill(0, piece, len(CONTENT))
        except OSError:
            failures += 1
            if failures == 4:  # evicted meanwhile, to make room
                item.spans.remove(Span(0, 5))
        else:
            break
    assert failures > 5
    assert item.spans.gaps(0, 50) == [Span(0, 5)]
    assert item.read(5, 45) == CONTENT[5:20] + b"newer" + CONTENT[25:50]


def test_where_a_file_cannot_be_spliced_into_an_error_loses_nothing(pipe: Pipe, pair: Pair, tmp_path: Path) -> None:
    """/dev/full takes no splice(2), nor anything else."""
    with open("/dev/full", "wb", buffering=0) as full, open(tmp_path / "f", "wb", buffering=0) as file:
        filled(pipe, pair, b"0123456789")
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                pipe.put(full.fileno(), 0, 6)
        assert (pipe.usable, pipe.taken) == (False, 0)
        pipe.skip(2)
        assert pipe.put(file.fileno(), 0, 8) == 4, "what was read for the first try"
        assert pipe.put(file.fileno(), 4, 4) == 4
        assert pipe.taken == len(pipe) == 10
    assert (tmp_path / "f").read_bytes() == b"23456789"


def test_pipes_do_not_outlive_their_end() -> None:
    """A program that is started meanwhile does not inherit them."""
    pipe = Pipe(1 << 20)
    try:
        seen = subprocess.run(
            ["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False
        )
        ours = {os.readlink(f"/proc/self/fd/{end}") for end in (pipe._out, pipe._into)}
        assert not any(name in seen.stdout for name in ours)
    finally:
        pipe.close()
        pipe.close()

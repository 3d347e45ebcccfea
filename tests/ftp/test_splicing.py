"""Large plain uploads, which the kernel moves into the cache file."""

from __future__ import annotations

import ftplib
import os
import random
import socket
import time
from pathlib import Path

import pytest

from mountcore.splicing import Pipe

from .conftest import eventually, fetch, store
from .serving import Served
from .test_transfers import last_reply, reset

LARGE = os.urandom(1 << 20) * 9 + b"and an odd end"


def open_pipes() -> int:
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
        except FileNotFoundError:
            continue
    return found


def test_it_arrives_whole_in_pieces_of_every_size(client: ftplib.FTP) -> None:
    pipes = open_pipes()
    dice, done = random.Random(20), 0
    with client.transfercmd("STOR f") as data:
        while done < len(LARGE):
            step = dice.choice((1, 7, 1000, 65_536, 300_000, 2_000_000))
            data.sendall(LARGE[done : done + step])
            done += step
            if step == 7:
                client.sendcmd("NOOP")  # in between, so that the server sees the pieces
    assert client.voidresp().startswith("226")
    assert fetch(client, "f") == LARGE
    assert open_pipes() == pipes


def test_so_does_what_is_appended_and_what_is_written_over(client: ftplib.FTP) -> None:
    store(client, "f", b"0123456789")
    store(client, "f", LARGE, "APPE")
    assert fetch(client, "f") == b"0123456789" + LARGE
    store(client, "f", LARGE, rest=5)
    assert fetch(client, "f") == b"01234" + LARGE + LARGE[-5:]


@pytest.mark.parametrize("end", ["reset", "abor", "control"])
def test_one_that_breaks_off_publishes_nothing_and_leaves_no_pipe(client: ftplib.FTP, server: Served, end: str) -> None:
    store(client, "f", b"old")
    directory, pipes = client.pwd(), open_pipes()
    data = client.transfercmd("STOR f")
    data.sendall(LARGE[: 4 << 20])
    eventually(lambda: f"received: {4 << 20}" in client.sendcmd("STAT"))
    assert open_pipes() == pipes + 2
    if end == "abor":
        client.putcmd("ABOR")
        assert last_reply(client).startswith("426")
        assert last_reply(client).startswith("226")
    elif end == "reset":
        reset(data)
        assert last_reply(client).startswith("426")
    else:
        assert client.sock is not None
        client.sock.shutdown(socket.SHUT_RDWR)
        client.close()
    data.close()
    with server.connect() as other:
        other.cwd(directory)
        assert fetch(other, "f") == b"old"
    eventually(lambda: open_pipes() == pipes)


def test_a_file_that_cannot_be_spliced_into_is_written(tmp_path: Path) -> None:
    """Some file systems cannot; here it is one that is opened for appending."""
    ours, theirs = socket.socketpair()
    file = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    pipe = Pipe(1 << 20)
    ours.setblocking(False)
    try:
        with pytest.raises(BlockingIOError):
            pipe.receive(ours.fileno(), file, 0, 100)
        theirs.sendall(b"first")
        assert pipe.receive(ours.fileno(), file, 0, 100) == 5
        assert not pipe.usable
        theirs.sendall(b" and second")
        assert pipe.receive(ours.fileno(), file, 5, 4) == 4
        assert pipe.receive(ours.fileno(), file, 9, 100) == 7
        theirs.close()
        assert pipe.receive(ours.fileno(), file, 16, 100) == 0
        assert (tmp_path / "f").read_bytes() == b"first and second"
    finally:
        pipe.close()
        os.close(file)
        ours.close()


def test_a_slow_upload_with_many_sessions_beside_it(server: Served) -> None:
    """More pipes than a user may have large ones of: they are smaller, or there are none."""
    sessions = [server.connect() for _ in range(80)]
    directory = f"/many-{time.monotonic_ns()}"
    sessions[0].mkd(directory)
    piece = LARGE[: 3 << 19]
    try:
        waiting = []
        for number, ftp in enumerate(sessions):
            ftp.voidcmd("TYPE I")
            waiting.append(ftp.transfercmd(f"STOR {directory}/{number}"))
        for data in waiting:
            data.sendall(piece)
        for data, ftp in zip(waiting, sessions, strict=True):
            data.sendall(b"end")
            data.close()
            assert ftp.voidresp().startswith("226")
        for number in range(0, 80, 13):
            assert fetch(sessions[0], f"{directory}/{number}") == piece + b"end"
    finally:
        for ftp in sessions:
            ftp.close()

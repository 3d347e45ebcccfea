"""A command that waits for a storage which hangs: the control connection answers, and ABOR gives up."""

from __future__ import annotations

import ftplib
import hashlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from mountcore.remotes.protocol import ANYTHING

from .conftest import eventually, fetch
from .serving import Served, serving
from .storage import Bytes, MoodyRemote


def last_reply(ftp: ftplib.FTP) -> str:
    try:
        return ftp.getresp()
    except ftplib.Error as problem:
        return str(problem)


@pytest.fixture
def moody() -> Iterator[tuple[Served, MoodyRemote]]:
    remote = MoodyRemote()
    with serving(lambda: remote) as served:
        served.run(fill, remote)
        yield served, remote


async def fill(remote: MoodyRemote) -> None:
    for name in ("good", "stalled"):
        await remote.inner.put(name, Bytes(b"0123456789abcdef" * (64 << 10)), expect=ANYTHING, mtime_ns=None)
    await remote.inner.mkdir("slow")


@pytest.mark.parametrize(
    "command", ["MLSD slow", "LIST slow", "STAT slow/x", "SIZE slow/x", "STOR slow/x", "XCRC stalled"]
)
def test_whatever_hangs_noop_and_stat_are_answered_and_abor_gives_up(
    moody: tuple[Served, MoodyRemote], command: str
) -> None:
    served, remote = moody
    with served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        ftp.sendcmd("PASV")
        ftp.putcmd(command)
        eventually(lambda: remote.hanging)
        started = time.monotonic()
        assert ftp.sendcmd("NOOP").startswith("200")
        assert ftp.sendcmd("STAT").startswith("211")
        ftp.putcmd("PWD")
        ftp.putcmd("ABOR")
        assert last_reply(ftp)[:3] in ("426", "451"), "what was given up says so first"
        assert last_reply(ftp).startswith("257"), "what came meanwhile is carried out, in order"
        assert last_reply(ftp)[:3] in ("225", "226")
        assert time.monotonic() - started < 10
        if not command.startswith("XCRC"):  # a download stays for a while, for whoever wants the rest
            eventually(lambda: not remote.hanging)
        assert len(fetch(ftp, "good")) == 1 << 20


def test_abor_behind_telnets_synch(moody: tuple[Served, MoodyRemote]) -> None:
    served, remote = moody
    with served.connect() as ftp:
        ftp.sendcmd("PASV")
        ftp.putcmd("LIST slow")
        eventually(lambda: remote.hanging)
        assert ftp.sock is not None
        ftp.sock.sendall(b"\xff\xf4\xff")
        ftp.sock.send(b"\xf2", socket.MSG_OOB)
        ftp.sock.sendall(b"ABOR\r\n")
        assert last_reply(ftp).startswith("426")
        assert last_reply(ftp)[:3] in ("225", "226")


def test_who_leaves_while_a_command_waits_frees_it(moody: tuple[Served, MoodyRemote]) -> None:
    served, remote = moody
    for command in ("MLSD slow", "STOR slow/x", "RETR slow/x"):
        ftp = served.connect()
        ftp.sendcmd("PASV")
        ftp.putcmd(command)
        eventually(lambda: remote.hanging)
        ftp.close()
        eventually(lambda: not remote.hanging)
    with served.connect() as ftp:
        assert len(fetch(ftp, "good")) == 1 << 20


def test_a_download_goes_on_while_another_command_waits(moody: tuple[Served, MoodyRemote]) -> None:
    served, remote = moody
    with served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        data = ftp.transfercmd("RETR good")
        ftp.putcmd("SIZE slow/x")
        eventually(lambda: remote.hanging)
        got = b"".join(iter(lambda: data.recv(65536), b""))
        assert hashlib.sha1(got).digest() == hashlib.sha1(b"0123456789abcdef" * (64 << 10)).digest()
        data.close()
        assert last_reply(ftp).startswith("226")
        ftp.putcmd("ABOR")
        assert last_reply(ftp)[:3] in ("426", "451")
        assert last_reply(ftp)[:3] in ("225", "226")


def test_a_slow_storage_is_no_idle_client() -> None:
    remote = MoodyRemote()
    with serving(lambda: remote, ftp_texts={"idle-timeout": "1s"}) as served:
        served.run(fill, remote)
        ftp = served.connect()
        ftp.voidcmd("TYPE I")
        ftp.putcmd("SIZE slow/x")
        eventually(lambda: remote.hanging)
        assert ftp.sock is not None
        ready, _, _ = select.select([ftp.sock], [], [], 2.5)
        assert not ready, "longer than the time-out, and still nothing is said"
        ftp.putcmd("ABOR")
        assert last_reply(ftp)[:3] in ("426", "451")
        assert last_reply(ftp)[:3] in ("225", "226")
        assert last_reply(ftp).startswith("421"), "and then it is one"
        ftp.close()

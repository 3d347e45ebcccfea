"""Transfers that go wrong, and sessions that do not wait for one another."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from mountcore.errors import NotFound
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import ANYTHING

from .conftest import eventually, fetch, store
from .serving import Served, serving
from .storage import Bytes, MoodyRemote


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def last_reply(ftp: ftplib.FTP) -> str:
    try:
        return ftp.getresp()
    except ftplib.Error as problem:
        return str(problem)


def names(ftp: ftplib.FTP) -> list[str]:
    return ftp.nlst()


# uploads that are cut off


def test_reset_during_an_upload_is_426_and_publishes_nothing(client: ftplib.FTP) -> None:
    store(client, "f", b"old")
    for name in ("f", "new"):
        data = client.transfercmd(f"STOR {name}")
        data.sendall(b"x" * 100_000)
        reset(data)
        assert last_reply(client).startswith("426")
    assert fetch(client, "f") == b"old"
    assert names(client) == ["f"]


def test_abor_during_an_upload(client: ftplib.FTP) -> None:
    store(client, "f", b"old")
    data = client.transfercmd("STOR f")
    data.sendall(b"x" * 100_000)
    client.putcmd("ABOR")
    assert last_reply(client).startswith("426")
    assert last_reply(client).startswith("226")
    data.close()
    assert fetch(client, "f") == b"old"


@pytest.mark.parametrize("command", ["STOR f", "APPE f"])
def test_losing_the_control_connection_publishes_nothing(server: Served, command: str) -> None:
    directory = f"/lost-{time.monotonic_ns()}"
    with server.connect() as ftp:
        ftp.mkd(directory)
        ftp.cwd(directory)
        store(ftp, "f", b"old")
        data = ftp.transfercmd(command)
        data.sendall(b"x" * 100_000)
        assert ftp.sock is not None
        assert ftp.file is not None
        ftp.file.close()  # or the socket stays open
        reset(ftp.sock)
        with contextlib.suppress(ConnectionResetError):
            assert data.recv(1) == b""  # by then the server knows
        data.close()
        ftp.close()
    with server.connect() as other:
        other.cwd(directory)
        assert fetch(other, "f") == b"old"


def test_an_upload_in_pieces_is_not_seen_before_its_end(client: ftplib.FTP, server: Served) -> None:
    store(client, "f", b"old")
    with server.connect() as other:
        other.cwd(client.pwd())
        with client.transfercmd("STOR f") as data:
            data.sendall(b"new" * 50_000)
            assert fetch(other, "f") == b"old"
        client.voidresp()
        assert fetch(other, "f") == b"new" * 50_000


def test_keep_partial_keeps_what_arrived() -> None:
    with serving(lambda: Memory(""), ftp_texts={"keep-partial": "true"}) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        data = ftp.transfercmd("STOR f")
        data.sendall(b"0123456789")
        eventually(lambda: "received: 10" in ftp.sendcmd("STAT"))
        reset(data)
        assert last_reply(ftp).startswith("426")
        assert ftp.size("f") == 10
        store(ftp, "f", b"ABC", rest=10)
        assert fetch(ftp, "f") == b"0123456789ABC"


def test_a_client_that_stops_sending_is_sent_away() -> None:
    with serving(lambda: Memory(""), ftp_texts={"data-timeout": "500ms"}) as served, served.connect() as ftp:
        data = ftp.transfercmd("STOR f")
        data.sendall(b"x" * 1000)
        assert last_reply(ftp).startswith("421")
        data.close()
        with served.connect() as other:
            assert names(other) == []


def test_an_idle_session_is_ended() -> None:
    with serving(lambda: Memory(""), ftp_texts={"idle-timeout": "300ms"}) as served, served.connect() as ftp:
        assert last_reply(ftp).startswith("421")


# commits that fail


def test_a_commit_that_fails_is_answered() -> None:
    """The file's directory goes away while it is being sent."""
    with serving(lambda: Memory("")) as served, served.connect() as ftp, served.connect() as other:
        ftp.mkd("d")
        data = ftp.transfercmd("STOR d/f")
        data.sendall(b"x")
        other.rmd("d")
        data.close()
        assert last_reply(ftp)[:3] in ("550", "451")
        assert ftp.sendcmd("NOOP").startswith("200")
        assert served.vfs is not None
        with pytest.raises(NotFound):
            served.run(served.vfs.resolve, "d/f")


def test_a_full_cache_is_452() -> None:
    texts = {"vfs-cache-max-size": "1Mi", "vfs-write-back": "1h"}
    with serving(lambda: Memory(""), texts) as served, served.connect() as ftp:
        assert served.vfs is not None
        with ftp.transfercmd("STOR f") as data, contextlib.suppress(OSError):  # the server hangs up when it is full
            data.sendall(bytes(64 << 20))
        with pytest.raises(ftplib.error_temp, match="452"):
            ftp.voidresp()
        assert names(ftp) == []


def test_a_small_cache_takes_small_files_and_what_fits() -> None:
    with serving(lambda: Memory(""), {"vfs-cache-max-size": "2Mi"}) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        for number in range(20):
            store(ftp, f"f{number}", b"x" * 300_000)  # more than it holds: it waits for uploads
        assert ftp.size("f19") == 300_000
        assert fetch(ftp, "f0") == b"x" * 300_000


# downloads


def test_reset_during_a_download_leaves_the_session_usable(client: ftplib.FTP) -> None:
    store(client, "f", os.urandom(20 << 20))
    data = client.transfercmd("RETR f")
    data.recv(1000)
    reset(data)
    assert last_reply(client).startswith("426")
    assert client.size("f") == 20 << 20


def test_abor_during_a_download(client: ftplib.FTP) -> None:
    store(client, "f", bytes(50 << 20))
    data = client.transfercmd("RETR f")
    data.recv(1000)
    client.putcmd("ABOR")
    assert last_reply(client).startswith("426")
    assert last_reply(client).startswith("226")
    data.close()
    client.putcmd("ABOR")
    assert last_reply(client).startswith("225")


def test_abor_of_a_transfer_that_waits_for_its_connection(client: ftplib.FTP) -> None:
    store(client, "f", b"x")
    client.sendcmd("PASV")
    client.putcmd("RETR f")
    assert last_reply(client).startswith("150")
    client.putcmd("ABOR")
    assert last_reply(client).startswith("426")
    assert last_reply(client).startswith("226")
    assert fetch(client, "f") == b"x"


def test_pasv_during_a_download_ends_it_with_a_reply(client: ftplib.FTP) -> None:
    store(client, "f", bytes(50 << 20))
    data = client.transfercmd("RETR f")
    data.recv(1000)
    client.putcmd("PASV")
    assert last_reply(client).startswith("426")
    assert last_reply(client).startswith("227")
    data.close()


def test_data_that_comes_before_the_command_is_not_lost(client: ftplib.FTP) -> None:
    host, port = client.makepasv()
    with socket.create_connection((host, port)) as data:
        data.sendall(b"early")
        data.shutdown(socket.SHUT_WR)
        assert client.sendcmd("STOR early")[:3] in ("125", "150")
        client.voidresp()
    assert fetch(client, "early") == b"early"


def test_pipelined_commands_are_answered_in_order(server: Served) -> None:
    with server.connect() as ftp:
        host, port = ftp.makepasv()
        with socket.create_connection((host, port)) as data:
            assert ftp.sock is not None
            ftp.sock.sendall(b"STOR pipelined\r\nPWD\r\n")
            first = ftp.getresp()
            assert first[:3] in ("125", "150")
            data.sendall(b"x" * 10)
            assert ftp.getresp().startswith("257")
            ftp.sock.sendall(b"NOOP\r\n")
            assert ftp.getresp().startswith("200")
        assert ftp.getresp().startswith("226")
        assert ftp.sock is not None
        ftp.sock.sendall(b"DELE pipelined\r\nPWD\r\nQUIT\r\n")
        assert [ftp.getresp()[:3] for _ in range(3)] == ["250", "257", "221"]


def test_pipelined_login(server: Served) -> None:
    with ftplib.FTP(timeout=20) as ftp:
        ftp.connect(server.host, server.port)
        assert ftp.sock is not None
        ftp.sock.sendall(f"USER {server.user}\r\nPASS {server.password}\r\nPWD\r\nSYST\r\n".encode())
        assert [ftp.getresp()[:3] for _ in range(4)] == ["331", "230", "257", "215"]


def test_quit_during_an_upload_keeps_the_upload(server: Served) -> None:
    with server.connect() as ftp:
        with ftp.transfercmd("STOR quitting") as data:
            data.sendall(b"x")
            assert ftp.sendcmd("QUIT").startswith("221")
        assert ftp.getresp().startswith("226")
    with server.connect() as other:
        assert fetch(other, "quitting") == b"x"


# storage that hangs or fails


@pytest.fixture
def moody() -> Iterator[Served]:
    """A storage that hangs and fails, by the name of the file."""
    remote = MoodyRemote()
    with serving(lambda: remote, {"vfs-write-back": "0s"}) as served:
        served.run(fill, remote)
        yield served


async def fill(remote: MoodyRemote) -> None:
    for name in ("stalled", *(f"stalled{i}" for i in range(8)), "broken", "good"):
        await remote.inner.put(name, Bytes(b"0123456789abcdef" * (64 << 10)), expect=ANYTHING, mtime_ns=None)
    await remote.inner.mkdir("slow")


def test_a_download_that_the_storage_breaks_off_is_451(moody: Served) -> None:
    with moody.connect() as ftp, pytest.raises(ftplib.error_temp, match="451"):
        fetch(ftp, "broken")
    with moody.connect() as ftp:
        assert len(fetch(ftp, "good")) == 1 << 20


def test_control_connection_answers_while_a_download_is_stalled(moody: Served) -> None:
    with moody.connect() as ftp:
        data = ftp.transfercmd("RETR stalled")
        eventually(lambda: "sent: 65536" in ftp.sendcmd("STAT"))
        started = time.monotonic()
        assert ftp.sendcmd("NOOP").startswith("200")
        ftp.putcmd("ABOR")
        assert last_reply(ftp).startswith("426")
        assert last_reply(ftp).startswith("226")
        assert time.monotonic() - started < 2
        data.close()
        assert len(fetch(ftp, "good")) == 1 << 20


def test_other_sessions_do_not_notice_stalled_ones(moody: Served) -> None:
    stalled = []
    for i in range(8):
        ftp = moody.connect()
        stalled.append((ftp, ftp.transfercmd(f"RETR stalled{i}")))
    for ftp, _ in stalled:
        eventually(lambda ftp=ftp: "sent: 65536" in ftp.sendcmd("STAT"))  # type: ignore[misc]
    worst: list[float] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with moody.connect() as ftp:
                ftp.voidcmd("TYPE I")
                for round in range(4):
                    began = time.monotonic()
                    store(ftp, f"w{number}", b"x" * 10_000 * (round + 1))
                    assert len(fetch(ftp, f"w{number}")) == 10_000 * (round + 1)
                    assert f"w{number}" in ftp.nlst()
                    worst.append(time.monotonic() - began)
        except BaseException as problem:
            failures.append(problem)
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(worst) == 200
    assert max(worst) < 15, "a session waited for another"
    for ftp, data in stalled:
        assert ftp.sendcmd("NOOP").startswith("200")
        ftp.close()
        data.close()


def test_a_client_that_leaves_a_stalled_download_frees_it(moody: Served) -> None:
    before = set(threading.enumerate())
    ftp = moody.connect()
    data = ftp.transfercmd("RETR stalled")
    eventually(lambda: "sent: 65536" in ftp.sendcmd("STAT"))
    ftp.close()
    data.close()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "ftp 127.0.0.1" and t not in before])


def test_stopping_while_the_storage_hangs() -> None:
    remote = MoodyRemote()
    with serving(lambda: remote) as served:
        served.run(fill, remote)
        reader, lister = served.connect(), served.connect()
        data = reader.transfercmd("RETR stalled")
        eventually(lambda: "sent: 65536" in reader.sendcmd("STAT"))
        lister.sendcmd("PASV")
        lister.putcmd("LIST slow")
        eventually(lambda: remote.hanging == 2)
    # the fixture asserts that the server has stopped
    assert last_reply(reader)[:3] in ("421", "426", "451")
    for thing in (reader, lister, data):
        thing.close()


# traps of the library


def test_no_session_changes_the_process_directory(client: ftplib.FTP) -> None:
    before = os.getcwd()
    client.mkd("sub")
    client.cwd("sub")
    client.cwd("..")
    client.rmd("sub")
    assert os.getcwd() == before


def test_two_servers_are_independent(server: Served) -> None:
    with serving(lambda: Memory("")) as other, server.connect() as kept:
        with other.connect() as ftp:
            assert ftp.sendcmd("NOOP")
        address = (other.host, other.port)
    with server.connect() as ftp:
        assert ftp.sendcmd("NOOP").startswith("200")
        assert kept.sendcmd("NOOP").startswith("200") if kept.sock else True
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address, timeout=5)


def test_descriptors_are_given_back(server: Served) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with server.connect() as ftp:
        store(ftp, "fd", b"x")
    before = descriptors()
    for _ in range(30):
        ftp = server.connect()
        fetch(ftp, "fd")
        data = ftp.transfercmd("STOR fd2")
        data.sendall(b"y")
        reset(data)
        last_reply(ftp)
        ftp.sendcmd("PASV")
        ftp.close()
    eventually(lambda: descriptors() <= before + 3)


def test_many_small_files_at_once_are_all_whole(server: Served) -> None:
    """Reused descriptor numbers once lost 2 of 2000 files."""
    failures: list[str] = []

    def work(number: int) -> None:
        with server.connect() as ftp:
            ftp.voidcmd("TYPE I")
            ftp.mkd(f"/many{number}")
            ftp.cwd(f"/many{number}")
            for i in range(60):
                content = f"{number}-{i}".encode() * (i + 1)
                store(ftp, f"f{i}", content)
                if fetch(ftp, f"f{i}") != content:
                    failures.append(f"{number}/{i}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures


def test_a_waker_after_the_end_is_harmless(moody: Served) -> None:
    """The core's answer arrives when the session has gone; the core survives, and so do other sessions."""
    for _ in range(10):
        ftp = moody.connect()
        host, port = ftp.makepasv()
        data = socket.create_connection((host, port))
        assert ftp.sock is not None
        ftp.sock.sendall(b"STOR waker\r\n")
        data.close()
        reset(ftp.sock)
        ftp.close()
    with moody.connect() as ftp:
        assert len(fetch(ftp, "good")) == 1 << 20


def test_large_upload_and_download(client: ftplib.FTP) -> None:
    data = os.urandom(1 << 20) * 40
    client.storbinary("STOR big", io.BytesIO(data), 1 << 18)
    assert fetch(client, "big") == data
    assert fetch(client, "big", rest=(40 << 20) - 5) == data[-5:]
    store(client, "big", b"tail", "APPE")
    assert client.size("big") == len(data) + 4


# replies


def test_a_small_download_is_announced_and_ended_in_one_segment(client: ftplib.FTP) -> None:
    store(client, "small", b"few bytes")
    assert client.sock is not None
    with socket.create_connection(client.makepasv()) as data:
        client.sock.sendall(b"RETR small\r\n")
        assert client.sock.recv(4096).count(b"\r\n") == 2
        assert data.recv(4096) == b"few bytes"
    for quiet in ("NLST", "MLSD"):
        with socket.create_connection(client.makepasv()) as data:
            client.putcmd(quiet)
            assert client.getresp().startswith("125")
            assert b"small" in data.recv(4096)
            assert client.getresp().startswith("226")


def test_a_download_that_takes_longer_is_announced_at_once(client: ftplib.FTP) -> None:
    store(client, "large", bytes(20 << 20))
    with socket.create_connection(client.makepasv()) as data:
        client.putcmd("RETR large")
        assert client.getresp().startswith("125")  # and nobody reads the data yet
        while data.recv(1 << 20):
            pass
        assert client.getresp().startswith("226")

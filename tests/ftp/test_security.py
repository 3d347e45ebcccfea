"""What strangers try: guessing, bounce, theft of data connections, floods, and commands that are none."""

from __future__ import annotations

import contextlib
import ftplib
import os
import random
import socket
import time
from pathlib import Path

import pytest

from mountcore.remotes.local import open as open_local
from mountcore.remotes.memory import Memory

from .conftest import eventually, fetch, store
from .serving import Served, serving
from .test_transfers import last_reply


def raw(served: Served) -> socket.socket:
    sock = socket.create_connection((served.host, served.port), timeout=20)
    assert sock.recv(200).startswith(b"220")
    return sock


def said(sock: socket.socket, line: bytes) -> bytes:
    sock.sendall(line)
    return sock.recv(2000)


# logging in


@pytest.mark.parametrize(("user", "password"), [("harbour", "wrong"), ("nobody", "x"), ("harbour", ""), ("", "x")])
def test_wrong_logins(server: Served, user: str, password: str) -> None:
    client = ftplib.FTP(timeout=20)
    client.connect(server.host, server.port)
    client.putcmd(f"USER {user}")
    assert last_reply(client)[:3] == ("331" if user else "501")
    client.putcmd(f"PASS {password}")
    assert last_reply(client)[:3] == ("530" if user else "503")
    client.close()


def test_empty_password_accepts_any() -> None:
    with serving(lambda: Memory(""), ftp_texts={"user": "anonymous", "pass": ""}) as served:
        for user, password in (("anonymous", "me@example.org"), ("anonymous", ""), ("ftp", "x")):
            with ftplib.FTP() as ftp:
                ftp.connect(served.host, served.port)
                assert ftp.login(user, password).startswith("230")


def test_listening_to_everybody_without_a_password_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda: Memory(""), ftp_texts={"addr": ":0", "pass": ""}):
        assert "ANYBODY" in caplog.text
    caplog.clear()
    with serving(lambda: Memory(""), ftp_texts={"addr": "127.0.0.1:0", "pass": ""}):
        assert "ANYBODY" not in caplog.text


def test_failed_logins_take_longer_end_the_session_and_ban() -> None:
    texts = {"login-delay": "50ms", "max-login-attempts": "2", "ban-after": "4", "ban-time": "1s"}
    with serving(lambda: Memory(""), ftp_texts=texts) as served:
        started = time.monotonic()
        for _ in range(2):
            sock = raw(served)
            for _ in range(2):
                said(sock, b"USER x\r\n")
                last = said(sock, b"PASS y\r\n")
                assert last.startswith(b"530")
            assert b"disconnecting" in last
            assert sock.recv(10) == b""
            sock.close()
        assert time.monotonic() - started >= 0.05 + 0.1 + 0.2 + 0.4
        with socket.create_connection((served.host, served.port), timeout=20) as banned:
            assert banned.recv(200).startswith(b"421")
        eventually(lambda: welcome(served))


def welcome(served: Served) -> bool:
    with socket.create_connection((served.host, served.port), timeout=20) as sock:
        return sock.recv(200).startswith(b"220")


def test_limits_of_connections() -> None:
    with serving(lambda: Memory(""), ftp_texts={"max-per-ip": "2"}) as served:
        first, second = raw(served), raw(served)
        assert not welcome(served)
        first.close()
        eventually(lambda: welcome(served))
        second.close()
    with serving(lambda: Memory(""), ftp_texts={"max-connections": "1"}) as served:
        only = raw(served)
        assert not welcome(served)
        only.close()
        eventually(lambda: welcome(served))


def test_secrets_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with serving(lambda: Memory("")) as served:
        with served.connect() as ftp:
            ftp.sendcmd("ACCT sesame")
        sock = raw(served)
        said(sock, b"USER harbour\r\n")
        said(sock, b"pass swordfish\r\n")
        sock.close()
        assert served.password not in caplog.text
    assert "swordfish" not in caplog.text
    assert "sesame" not in caplog.text


# data connections


def test_bounce_is_refused(client: ftplib.FTP) -> None:
    for command in (
        "PORT 192,0,2,1,20,21",
        "EPRT |1|192.0.2.1|5001|",
        "EPRT |2|2001:db8::1|5001|",
        "PORT 127,0,0,1,0,22",
    ):
        with pytest.raises(ftplib.error_perm, match=r"501|522"):
            client.sendcmd(command)
    for command in ("PORT 1,2,3", "PORT 127,0,0,1,256,1,9", "EPRT |9|x|y|", "EPRT", "PORT 999,0,0,1,20,20"):
        with pytest.raises(ftplib.error_perm, match="501"):
            client.sendcmd(command)


def test_active_connections_work_and_can_be_turned_off(client: ftplib.FTP) -> None:
    client.set_pasv(False)
    store(client, "active", b"x" * 100_000)
    assert fetch(client, "active") == b"x" * 100_000
    with serving(lambda: Memory(""), ftp_texts={"allow-active": "false"}) as served, served.connect() as ftp:
        with pytest.raises(ftplib.error_perm, match="502"):
            ftp.sendcmd("PORT 127,0,0,1,200,200")
        assert ftp.nlst() == []


def test_an_active_connection_that_cannot_be_made_is_425(client: ftplib.FTP) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ftplib.error_temp, match="425"):
        client.sendcmd(f"PORT 127,0,0,1,{port // 256},{port % 256}")


def test_a_data_connection_cannot_be_stolen(client: ftplib.FTP) -> None:
    """Somebody from another address connects first: he gets nothing, and the client does not notice."""
    store(client, "f", b"secret")
    host, port = client.makepasv()
    thief = socket.create_connection((host, port), source_address=("127.0.0.2", 0), timeout=20)
    client.putcmd("RETR f")
    assert last_reply(client).startswith("150")
    with contextlib.suppress(ConnectionResetError):
        assert thief.recv(100) == b""
    with socket.create_connection((host, port), timeout=20) as mine:
        assert mine.recv(100) == b"secret"
    assert last_reply(client).startswith("226")
    thief.close()


def test_data_connections_of_others_are_let_in_where_that_is_wanted() -> None:
    with serving(lambda: Memory(""), ftp_texts={"allow-foreign-data": "true"}) as served, served.connect() as ftp:
        store(ftp, "f", b"content")
        host, port = ftp.makepasv()
        ftp.putcmd("RETR f")
        with socket.create_connection((host, port), source_address=("127.0.0.2", 0), timeout=20) as another:
            assert another.recv(100) == b"content"
        assert ftp.getresp()[:3] in ("125", "150")
        assert ftp.getresp().startswith("226")


def two_free_ports() -> int:
    """The first of two; below those that the kernel gives to whoever connects somewhere."""
    for first in random.sample(range(20_000, 32_000, 2), 200):
        with socket.socket() as one, socket.socket() as two, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", first))
            two.bind(("127.0.0.1", first + 1))
            return first
    raise AssertionError("no two ports are free")


def test_passive_ports_are_of_the_range_and_run_out() -> None:
    first = two_free_ports()
    with serving(lambda: Memory(""), ftp_texts={"passive-port": f"{first}-{first + 1}"}) as served:
        sessions = [served.connect() for _ in range(3)]
        ports = {session.makepasv()[1] for session in sessions[:2]}
        assert ports == {first, first + 1}
        with pytest.raises(ftplib.error_temp, match="425"):
            sessions[2].makepasv()
        sessions[0].close()
        eventually(lambda: passive(sessions[2]))
        for session in sessions:
            session.close()


def passive(client: ftplib.FTP) -> bool:
    try:
        client.sendcmd("PASV")
    except ftplib.error_temp:
        return False
    return True


def test_public_addresses() -> None:
    for text, wanted in (
        ("192.0.2.7", "192.0.2.7"),
        ("localhost", "127.0.0.1"),
        ("10.0.0.0/8=10.1.1.1,192.0.2.7", "192.0.2.7"),
        ("127.0.0.0/8=192.0.2.8,192.0.2.7", "192.0.2.8"),
        ("10.0.0.0/8=10.1.1.1", "127.0.0.1"),
    ):
        with serving(lambda: Memory(""), ftp_texts={"public-ip": text}) as served, served.connect() as ftp:
            host, _ = ftplib.parse227(ftp.sendcmd("PASV"))
            assert host == wanted


def test_epsv_all(client: ftplib.FTP) -> None:
    client.sendcmd("EPSV ALL")
    for command in ("PASV", "PORT 127,0,0,1,200,200", "EPRT |1|127.0.0.1|5001|"):
        with pytest.raises(ftplib.error_perm, match="501"):
            client.sendcmd(command)
    assert client.sendcmd("EPSV").startswith("229")
    for command, code in (("EPSV 2", "522"), ("EPSV 7", "501")):
        with pytest.raises(ftplib.error_perm, match=code):
            client.sendcmd(command)


def test_ipv6() -> None:
    with serving(lambda: Memory(""), ftp_texts={"addr": "[::1]:0"}) as served:
        assert served.host == "::1"
        with served.connect() as ftp:
            store(ftp, "six", b"6")
            assert fetch(ftp, "six") == b"6"
            with pytest.raises(ftplib.error_temp, match="425"):
                ftp.sendcmd("PASV")
            ftp.set_pasv(False)
            assert fetch(ftp, "six") == b"6"
    with serving(lambda: Memory(""), ftp_texts={"addr": ":0"}) as served:
        for host in ("127.0.0.1", "::1"):
            with ftplib.FTP(timeout=20) as ftp:
                ftp.connect(host, served.port)
                ftp.login(served.user, served.password)
                store(ftp, "both", b"x")
                assert "both" in ftp.nlst()


def test_a_passive_port_that_nobody_uses_is_let_go(client: ftplib.FTP) -> None:
    first = client.makepasv()
    second = client.makepasv()
    assert first != second
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(first, timeout=5)


# lines


def test_lines_that_are_too_long_are_no_commands(server: Served) -> None:
    with raw(server) as sock:
        sock.sendall(b"NOOP " + b"x" * 300_000)
        sock.sendall(b"\r\nSYST\r\n")
        got = b""
        while got.count(b"\r\n") < 2:
            got += sock.recv(1000)
        assert got.startswith(b"500 Command too long.\r\n215 ")


@pytest.mark.parametrize("line", [b"MKD a\rb", b"MKD a\nDELE b", b"MKD a\0b", b"USER a\rb"])
def test_line_breaks_in_names_are_refused(client: ftplib.FTP, line: bytes) -> None:
    assert client.sock is not None
    client.sock.sendall(line + b"\r\n")
    assert last_reply(client).startswith("501")
    assert client.nlst() == []


def test_telnet_commands_are_taken_out(client: ftplib.FTP) -> None:
    assert client.sock is not None
    client.sock.sendall(b"\xff\xf4\xff\xf2ABOR\r\n")
    assert last_reply(client).startswith("225")
    client.sock.sendall(b"\xff\xfd\x06NO\xff\xf1OP\r\n")
    assert last_reply(client).startswith("200")
    client.sock.send(b"\xff\xf4\xff", socket.MSG_OOB)
    client.sock.sendall(b"\xf2ABOR\r\n")
    assert last_reply(client).startswith("225")


def test_browsers_are_hung_up_on(server: Served) -> None:
    with raw(server) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER harbour\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""


def test_unknown_commands_are_answered_for_a_while(server: Served) -> None:
    with raw(server) as sock:
        with contextlib.suppress(OSError):
            for number in range(50):
                reply = said(sock, f"X{number}\r\n".encode())
                if not reply.startswith(b"500"):
                    break
        assert reply.startswith(b"421")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 5000, b"\r\n" * 2000, b"\xff" * 5000])
def test_noise_harms_nobody(server: Served, data: bytes) -> None:
    with raw(server) as sock:
        sock.sendall(data)
    with server.connect() as ftp:
        assert ftp.sendcmd("NOOP").startswith("200")


def test_connections_that_come_and_go_harm_nobody(server: Served) -> None:
    for _ in range(100):
        socket.create_connection((server.host, server.port)).close()
    with server.connect() as ftp:
        assert ftp.sendcmd("NOOP").startswith("200")


@pytest.mark.parametrize("code", ["RETR {}", "CWD {}", "MKD {}", "RNFR {}", "SITE CHMOD 777 {}", "HASH {}", "MLST {}"])
def test_odd_paths_are_answered(client: ftplib.FTP, code: str) -> None:
    for path in ("/" * 300, "x/" * 1000, "a" * 4000, "~root", "|id", "$(id)", "..%2f..", "\\..\\.."):
        client.putcmd(code.format(path))
        assert last_reply(client)[:3] in ("250", "257", "350", "425", "501", "504", "550", "553", "200")
        client.cwd("/")


# links


def test_symbolic_links_do_not_lead_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_text("inside")
    for name, target in {
        "good": "dir/file", "gooddir": "dir", "up": "../secret", "absolute": str(tmp_path / "secret"), "loop": "loop",
        "dir/back": "../dir/file", "sneaky": "dir/../../secret", "nowhere": "missing",
    }.items():  # fmt: skip
        os.symlink(target, root / name)
    with serving(lambda: open_local({}, str(root)), {"vfs-write-back": "0s"}) as served, served.connect() as ftp:
        assert fetch(ftp, "good") == fetch(ftp, "dir/back") == fetch(ftp, "gooddir/file") == b"inside"
        for name in ("up", "absolute", "loop", "sneaky", "nowhere"):
            with pytest.raises(ftplib.error_perm, match="550"):
                fetch(ftp, name)
        lines: list[str] = []
        ftp.retrlines("LIST", lines.append)
        assert any(line.endswith("good -> dir/file") for line in lines)
        assert len(list(ftp.mlsd())) == 8
        store(ftp, "good", b"through the link")
        assert fetch(ftp, "dir/file") == b"through the link"
        assert ftp.nlst("good") == ["good"]
        ftp.delete("loop")
        ftp.sendcmd("SITE SYMLINK dir/file 'with blank'")
        assert os.readlink(root / "with blank") == "dir/file"
        for target in ("/etc/passwd", "../secret", "dir/../../secret"):
            with pytest.raises(ftplib.error_perm, match="550"):
                ftp.sendcmd(f"SITE SYMLINK {target} bad")
        ftp.sendcmd("SITE CHMOD 600 dir/file")
        # what was stored just now is first uploaded
        eventually(lambda: (root / "dir" / "file").stat().st_mode & 0o777 == 0o600)
        assert (root / "dir" / "file").read_text() == "through the link"


def test_line_breaks_in_names_of_the_storage_end_no_line_of_a_listing(tmp_path: Path) -> None:
    for name in ("a\r\n-rwxr-xr-x 1 root root 1 Jan 1 00:00 forged", "b\nforged", "c\rforged"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d\nforged").mkdir()
    with serving(lambda: open_local({}, str(tmp_path))) as served, served.connect() as ftp:
        for command in ("LIST", "NLST", "MLSD"):
            lines: list[str] = []
            ftp.retrlines(command, lines.append)
            assert len(lines) == 4, (command, lines)
            assert not [line for line in lines if line.startswith(("forged", "-rwxr-xr-x 1 root"))]
        assert len(ftp.sendcmd("STAT /").splitlines()) == 6

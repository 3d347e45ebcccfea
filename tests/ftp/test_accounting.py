"""What is kept of transfers, and how fast they may be."""

from __future__ import annotations

import ftplib
import json
import socket
import threading
import time
from pathlib import Path

import pytest

from mountcore.errors import Refused
from mountcore.remotes.memory import Memory

from .conftest import eventually, fetch, store
from .serving import serving


def test_json_has_a_line_for_every_transfer_of_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    texts = {"transfer-log": str(log), "transfer-log-format": "json"}
    with serving(lambda: Memory(""), ftp_texts=texts) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        store(ftp, "a file\u2028", b"x" * 1000)
        log.rename(tmp_path / "rotated")
        fetch(ftp, "a file\u2028")
        ftp.nlst()
        sock = ftp.transfercmd("STOR broken")
        sock.sendall(b"half")
        eventually(lambda: "received: 4" in ftp.sendcmd("STAT"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        with pytest.raises(ftplib.error_temp, match="426"):
            ftp.voidresp()
    lines = [json.loads(line) for file in ("rotated", "log") for line in (tmp_path / file).read_text().splitlines()]
    assert [(entry["command"], entry["path"], entry["bytes"], entry["complete"]) for entry in lines] == [
        ("STOR", "/a file\u2028", 1000, True), ("RETR", "/a file\u2028", 1000, True), ("STOR", "/broken", 4, False)
    ]  # fmt: skip
    assert {entry["client"] for entry in lines} == {"127.0.0.1"}
    assert [entry["direction"] for entry in lines] == ["in", "out", "in"]
    assert [entry["reply"][:3] for entry in lines] == ["226", "226", "426"]


def test_xferlog(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(lambda: Memory(""), ftp_texts={"transfer-log": str(log)}) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        store(ftp, "a file", b"x" * 1000)
        ftp.retrlines("RETR a file", lambda line: None)
    first, second = (line.split(" ") for line in log.read_text().replace("  ", " ").splitlines())
    assert first[5:] == ["1", "127.0.0.1", "1000", "/a_file", "b", "_", "i", "r", "harbour", "ftp", "0", "*", "c"]
    assert second[8:12] == ["/a_file", "a", "_", "o"]
    time.strptime(" ".join(first[:5]), "%a %b %d %H:%M:%S %Y")


def test_a_log_that_cannot_be_written_is_refused_at_the_start() -> None:
    texts = {"transfer-log": "/nonexistent/log"}
    with pytest.raises(Refused, match="/nonexistent/log"), serving(lambda: Memory(""), ftp_texts=texts):
        pass


@pytest.mark.parametrize("tls", [False, True])
def test_a_transfer_keeps_its_rate_and_the_control_connection_answers(tls: bool, tmp_path: Path) -> None:
    texts = {"transfer-bwlimit": "128K:256K"}
    if tls:
        from tests.servers import make_certificate

        made = make_certificate(tmp_path)
        texts |= {"cert": str(made.certificate), "key": str(made.key)}
    with serving(lambda: Memory(""), ftp_texts=texts) as served:
        ftp = ftplib.FTP_TLS(timeout=30) if tls else ftplib.FTP(timeout=30)
        ftp.connect(served.host, served.port)
        ftp.login(served.user, served.password)
        if isinstance(ftp, ftplib.FTP_TLS):
            ftp.prot_p()
        ftp.voidcmd("TYPE I")
        start = time.monotonic()
        store(ftp, "f", b"x" * (192 << 10))
        up = time.monotonic() - start
        start = time.monotonic()
        sock = ftp.transfercmd("RETR f")
        reading = threading.Thread(target=lambda: [None for _ in iter(lambda: sock.recv(65536), b"")])
        reading.start()
        asked = time.monotonic()
        assert "Total bytes sent" in ftp.sendcmd("STAT")
        assert time.monotonic() - asked < 0.4
        reading.join()
        down = time.monotonic() - start
        sock.close()
        ftp.voidresp()
        ftp.close()
    assert up > 1.0
    assert down > 0.3


def test_a_users_sessions_share_his_rate() -> None:
    with serving(lambda: Memory(""), ftp_texts={"user-bwlimit": "256K"}) as served:

        def one(name: str) -> None:
            with served.connect() as ftp:
                ftp.voidcmd("TYPE I")
                store(ftp, name, b"x" * (128 << 10))

        threads = [threading.Thread(target=one, args=(f"f{number}",)) for number in range(3)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - start > 1.0

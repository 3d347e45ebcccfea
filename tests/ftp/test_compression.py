"""MODE Z: what goes through it, and what is no such stream."""

from __future__ import annotations

import ftplib
import os
import resource
import shutil
import socket
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountcore.remotes.memory import Memory

from .conftest import eventually, fetch, store
from .serving import Served, serving


@pytest.fixture(scope="module")
def compressing() -> Iterator[Served]:
    with serving(lambda: Memory(""), {"vfs-write-back": "1h"}, {"mode-z": "true"}) as served:
        yield served


@pytest.fixture
def session(compressing: Served) -> Iterator[ftplib.FTP]:
    with compressing.connect() as ftp:
        ftp.voidcmd("TYPE I")
        assert "MODE Z" in ftp.sendcmd("FEAT")
        ftp.voidcmd("MODE Z")
        yield ftp


@pytest.mark.parametrize(
    "content", [b"", b"x", b"zeros" * 2_000_000, os.urandom(3 << 20)], ids=["nothing", "little", "repeated", "random"]
)
def test_both_ways(session: ftplib.FTP, content: bytes) -> None:
    store(session, "f", zlib.compress(content) if content else b"")
    assert zlib.decompress(fetch(session, "f")) == content
    session.voidcmd("MODE S")
    assert fetch(session, "f") == content
    assert session.size("f") == len(content)


def test_listings_are_compressed_too(session: ftplib.FTP) -> None:
    store(session, "listed", zlib.compress(b"x"))
    got: list[bytes] = []
    session.retrbinary("NLST", got.append)
    assert b"listed\r\n" in zlib.decompress(b"".join(got))


def test_text_and_a_position(session: ftplib.FTP) -> None:
    session.voidcmd("TYPE A")
    store_text = zlib.compress(b"one\r\ntwo\r\n")
    with session.transfercmd("STOR t") as data:
        data.sendall(store_text)
    session.voidresp()
    session.voidcmd("TYPE I")
    assert zlib.decompress(fetch(session, "t", rest=4)) == b"two\n"


def test_a_bomb_is_only_a_large_file(session: ftplib.FTP) -> None:
    size = 200 << 20
    bomb = zlib.compress(bytes(size), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store(session, "bomb", bomb)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10, f"{grown} KiB more memory"
    session.voidcmd("MODE S")
    assert session.size("bomb") == size


@pytest.mark.parametrize(
    "data",
    [b"this is no zlib stream at all", zlib.compress(b"cut short" * 1000)[:-10], zlib.compress(b"whole") + b"and more"],
    ids=["plain", "cut", "more"],
)
def test_what_is_no_whole_stream_publishes_nothing(session: ftplib.FTP, data: bytes) -> None:
    store(session, "kept", zlib.compress(b"old"))
    with pytest.raises(ftplib.error_temp, match="426"):
        store(session, "kept", data)
    assert zlib.decompress(fetch(session, "kept")) == b"old"


def test_a_reset_publishes_nothing(session: ftplib.FTP) -> None:
    sock = session.transfercmd("STOR reset")
    sock.sendall(zlib.compress(b"x" * 10_000))
    eventually(lambda: "received: 0" not in session.sendcmd("STAT"))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    with pytest.raises(ftplib.error_temp, match="426"):
        session.voidresp()
    session.voidcmd("MODE S")
    assert "reset" not in session.nlst()


def test_the_level_can_be_chosen(session: ftplib.FTP) -> None:
    store(session, "big", zlib.compress(bytes(range(256)) * 4000))
    sizes = []
    for level in (1, 9):
        assert session.sendcmd(f"OPTS MODE Z LEVEL {level}") == f"200 MODE Z LEVEL {level}"
        sizes.append(len(fetch(session, "big")))
    assert sizes[0] > sizes[1]
    with pytest.raises(ftplib.error_perm, match="501"):
        session.sendcmd("OPTS MODE Z LEVEL 11")


def test_it_is_off_by_default(client: ftplib.FTP) -> None:
    assert "MODE Z" not in client.sendcmd("FEAT")
    with pytest.raises(ftplib.error_perm, match="504"):
        client.sendcmd("MODE Z")


def test_lftp_mirrors_with_it(compressing: Served, tmp_path: Path) -> None:
    lftp = shutil.which("lftp") or pytest.skip("not installed: lftp")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"f{number}.txt").write_bytes(b"text and more of it\n" * number * 500)
    script = (
        "set ftp:use-mode-z yes; set net:timeout 20; set net:max-retries 1; debug 5; "
        f"open -u '{compressing.user}','{compressing.password}' ftp://{compressing.host}:{compressing.port}; "
        f"mirror -R {source} z; mirror z {tmp_path}/back"
    )
    done = subprocess.run([lftp, "--norc", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "MODE Z" in done.stdout + done.stderr
    for number in range(20):
        assert (tmp_path / "back" / f"f{number}.txt").read_bytes() == (source / f"f{number}.txt").read_bytes()

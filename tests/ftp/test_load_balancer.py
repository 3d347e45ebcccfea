"""The PROXY protocol: clients behind a load balancer, and those who only pretend to be."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator

import pytest

from ftp_frontend.proxy_header import SIGNATURE
from mountcore.errors import Refused
from mountcore.remotes.memory import Memory

from .conftest import eventually
from .serving import Served, serving

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 21\r\n"
V2 = (
    SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12) + bytes([192, 0, 2, 8, 192, 0, 2, 1]) + struct.pack("!HH", 4712, 21)
)
V2_SIX = SIGNATURE + struct.pack("!BBH", 0x21, 0x21, 36) + socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(20)
V2_EXTRA = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 20) + V2[16:] + b"\x04\x00\x05extra"


@pytest.fixture(scope="module")
def behind() -> Iterator[Served]:
    with serving(lambda: Memory(""), ftp_texts={"proxy-protocol": "127.0.0.0/8", "max-per-ip": "2"}) as served:
        yield served


@contextlib.contextmanager
def session(served: Served, header: bytes) -> Iterator[tuple[socket.socket, bytes]]:
    with socket.create_connection((served.host, served.port), 10) as sock:
        sock.settimeout(20)
        sock.sendall(header)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = sock.recv(200)
        yield sock, answer


def say(sock: socket.socket, line: str) -> str:
    sock.sendall(line.encode() + b"\r\n")
    return sock.recv(4096).decode()


@pytest.mark.parametrize(
    ("header", "client"),
    [(V1, "192.0.2.7"), (V2, "192.0.2.8"), (V2_SIX, "2001:db8::7"), (V2_EXTRA, "192.0.2.8"),
     (b"PROXY UNKNOWN\r\n", "127.0.0.1"), (SIGNATURE + b"\x20\x00\x00\x00", "127.0.0.1")],
)  # fmt: skip
def test_the_client_is_who_the_header_says(
    behind: Served, header: bytes, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with session(behind, header) as (sock, greeting):
        assert greeting.startswith(b"220")
        say(sock, "USER harbour")
        assert say(sock, f"PASS {behind.password}").startswith("230")
        eventually(lambda: re.search(rf" {re.escape(client)}:\d+ \[harbour\] logged in", caplog.text))


def test_limits_and_bans_are_the_clients_and_not_the_balancers(behind: Served) -> None:
    first = b"PROXY TCP4 198.51.100.1 192.0.2.1 1 21\r\n"
    second = b"PROXY TCP4 198.51.100.2 192.0.2.1 1 21\r\n"
    with session(behind, first), session(behind, first):
        with session(behind, first) as (_, answer):
            assert answer.startswith(b"421")
        with session(behind, second) as (_, answer):
            assert answer.startswith(b"220")
    eventually(lambda: _greeting(behind, first).startswith(b"220"))


def _greeting(served: Served, header: bytes) -> bytes:
    with session(served, header) as (_, answer):
        return answer
    return b""


@pytest.mark.parametrize(
    "header",
    [b"USER harbour\r\n", b"PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n", b"PROXY TCP6 1.2.3.4 4.5.6.7 1 2\r\n",
     b"PROXY " + b"x" * 500, SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x11\x11\x00\x00",
     SIGNATURE + b"\x21\x11\x00\x02ab"],
)  # fmt: skip
def test_a_balancer_that_says_nothing_sensible_gets_no_session(behind: Served, header: bytes) -> None:
    with session(behind, header) as (_, answer):
        assert answer == b""


def test_who_is_no_balancer_cannot_pretend() -> None:
    with serving(lambda: Memory(""), ftp_texts={"proxy-protocol": "10.0.0.0/8"}) as served:
        with session(served, V1) as (_, answer):
            assert answer.startswith(b"220")  # to the connection itself; the header is a command nobody knows
        with served.connect() as ftp:
            assert ftp.pwd() == "/"


def test_data_connections_may_come_through_the_balancer(behind: Served) -> None:
    with session(behind, V1) as (sock, _):
        say(sock, "USER harbour")
        say(sock, f"PASS {behind.password}")
        port = int(say(sock, "EPSV").split("|")[3])
        with socket.create_connection((behind.host, port), 10) as data:
            assert say(sock, "NLST").startswith(("125", "150"))
            assert data.recv(100) == b""


def test_bad_networks_are_refused() -> None:
    with (
        pytest.raises(Refused, match=r"10\.0\.0\.0/99"),
        serving(lambda: Memory(""), ftp_texts={"proxy-protocol": "10.0.0.0/99"}),
    ):
        pass

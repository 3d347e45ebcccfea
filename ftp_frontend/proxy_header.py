"""The PROXY protocol (haproxy.org, proxy-protocol.txt, versions 1 and 2): who the client behind a load balancer is.

Used by the server, in a session's thread, before a byte is sent. Only addresses in ``--proxy-protocol`` may say it,
and those must: else whoever is allowed could hide, or pretend.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PATIENCE = 5.0
LONGEST_V1 = 107
LONGEST_V2 = 2048


class BadHeader(Exception):
    """What came is no header."""


def read_header(sock: socket.socket) -> tuple[str, int] | None:
    """The client's address and port; None where the proxy speaks for itself or does not know.

    Takes exactly the header from the socket. Raises BadHeader, or OSError where the connection broke.
    """
    deadline = time.monotonic() + PATIENCE
    start = _take(sock, 6, deadline)
    if start == b"PROXY ":
        return _version_1(start + _line(sock, deadline))
    start += _take(sock, len(SIGNATURE) + 4 - 6, deadline)
    if not start.startswith(SIGNATURE):
        raise BadHeader("neither version 1 nor version 2")
    command, family, length = struct.unpack("!BBH", start[len(SIGNATURE) :])
    if length > LONGEST_V2:
        raise BadHeader(f"{length} bytes are too many")
    return _version_2(command, family, _take(sock, length, deadline))


def _take(sock: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise BadHeader("none came in time")
        sock.settimeout(left)
        try:
            piece = sock.recv(count - len(data))
        except TimeoutError:
            raise BadHeader("none came in time") from None
        if not piece:
            raise BadHeader("the connection ended")
        data += piece
    return data


def _line(sock: socket.socket, deadline: float) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        if len(line) > LONGEST_V1:
            raise BadHeader("the line does not end")
        line += _take(sock, 1, deadline)
    return line


def _version_1(line: bytes) -> tuple[str, int] | None:
    words = line.decode("ascii", "replace").rstrip("\r\n").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not words[4].isdigit():
        raise BadHeader("not a line of version 1")
    try:
        address = ipaddress.ip_address(words[2])
    except ValueError:
        raise BadHeader("not a line of version 1") from None
    port = int(words[4])
    if address.version != int(words[1][3]) or port > 65535:
        raise BadHeader("not a line of version 1")
    return str(address), port


def _version_2(command: int, family: int, addresses: bytes) -> tuple[str, int] | None:
    if command == 0x20:  # LOCAL: a health check of the proxy's own
        return None
    if command != 0x21:
        raise BadHeader("an unknown command")
    match family >> 4:
        case 1 if len(addresses) >= 12:
            return str(ipaddress.IPv4Address(addresses[:4])), int.from_bytes(addresses[8:10], "big")
        case 2 if len(addresses) >= 36:
            return str(ipaddress.IPv6Address(addresses[:16])), int.from_bytes(addresses[32:34], "big")
        case 0 | 3:
            return None
        case _:
            raise BadHeader("addresses that make no sense")

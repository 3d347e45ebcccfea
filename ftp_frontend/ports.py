"""Where data connections come from: a port that is listened on, or a client's port that is connected to.

Used by the session. A passive port is bound to the address that the client reached us at, taken from the
configured range and from nowhere else; only the client's own address may connect to it, and whoever else
tries learns nothing and disturbs nothing.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import random
import socket
from collections.abc import Iterable
from socket import SO_ERROR, SOL_SOCKET
from typing import Any

from .library import Acceptor, ActiveDTP

CONNECT_TIME = 30.0
"""Seconds that a client has to connect."""


@functools.lru_cache(1024)
def plain_address(text: str) -> str:
    """An address without the dress of IPv4 on an IPv6 socket, and in its canonical spelling."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def listen_for_data(local: tuple[Any, ...], ports: tuple[int, int] | None) -> socket.socket:
    """A listening socket on a free port of the range; OSError when none is free."""
    host, rest = plain_address(local[0]), local[2:]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET:
        rest = ()
    candidates: Iterable[int] = (0,)
    if ports is not None:
        low, high = ports
        start = random.randint(low, high)  # noqa: S311 - spreads load; that nobody else connects is checked
        candidates = itertools.chain(range(start, high + 1), range(low, start))
    problem: OSError | None = None
    for port in candidates:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port, *rest))
            sock.listen(5)  # two threads may bind the same port; only one of them can listen
        except OSError as error:
            sock.close()
            problem = error
        else:
            sock.setblocking(False)
            return sock
    assert problem is not None
    raise problem


class PassivePort(Acceptor):  # type: ignore[misc]
    """Waits for the client's connection."""

    socket: Any

    def __init__(self, session: Any, sock: socket.socket) -> None:
        super().__init__(ioloop=session.ioloop)
        self.cmd_channel = session
        self.log_exception = session.log_exception
        self.set_socket(sock)
        self.accepting = True  # `listen_for_data` does, and here it would be said again
        self.call_later(CONNECT_TIME, self.handle_timeout)

    def look(self) -> None:
        """See whether it is there already."""
        self.handle_accept()

    def handle_accepted(self, sock: socket.socket, addr: tuple[Any, ...]) -> None:
        """Somebody connected."""
        session = self.cmd_channel
        known = (session.remote_ip, session.peer_ip)
        if plain_address(addr[0]) not in known and not session.permit_foreign_addresses:
            session.log(f"refused a data connection from foreign address {addr[0]}")
            sock.close()
            return
        self.close()
        if not session.connected:
            sock.close()
            return
        session.data_connected(sock)

    def handle_timeout(self) -> None:
        """Nobody came."""
        self.close()
        self.cmd_channel.no_data_connection()

    def handle_error(self) -> None:
        self.log_exception(self)
        self.close()
        self.cmd_channel.no_data_connection()


class ActivePort(ActiveDTP):  # type: ignore[misc]
    """Connects to the port that the client named."""

    timeout = CONNECT_TIME
    socket: Any
    _fileno: int | None

    def handle_connect(self) -> None:
        self.del_channel()
        self._fileno = None
        if self._idler is not None and not self._idler.cancelled:
            self._idler.cancel()
        if self.socket.getsockopt(SOL_SOCKET, SO_ERROR):
            self.handle_close()
            return
        session = self.cmd_channel
        if not session.connected:
            self.close()
            return
        session.respond("200 Active data connection established.")
        sock, self.socket = self.socket, None
        session._dtp_connector = None
        self.close()
        session.data_connected(sock)

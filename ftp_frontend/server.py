"""The listening side: accepts connections, gives each session a thread and a loop, and stops them all.

Used by :mod:`.command`. One thread accepts on every address of the server. A session's thread makes its
handler, runs its loop and closes everything that is left. Nothing here is shared between two servers: a
process can have several, and closing one leaves the others alone.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import select
import socket
import threading
import time
from typing import Any, final

from mountcore.errors import Refused

from .auth import Authenticator, Gate
from .bridge import Bridge
from .extra_commands import Commands
from .loop import SessionLoop
from .ports import plain_address
from .proxy_header import BadHeader, read_header
from .rates import Rates
from .settings import FtpSettings, TlsMode
from .tls import Certificates
from .transfer_log import TransferLog

log = logging.getLogger(__name__)

BACKLOG = 512
RESOLVED_FOR = 60.0
"""Seconds that the address of a public name is believed."""
STACK = 1 << 20
"""Bytes of stack of a session's thread: a thousand of the usual 8 MiB are too many without overcommitted memory."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for an address as users write it; no host: every address of the machine.

    Raises :class:`Refused` that names the address.
    """
    name = f"{f'[{host}]' if ':' in host else host}:{port}"
    if not host:
        return [_listen(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET, ("", port), name)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as problem:
        raise Refused(f"--addr {name}: {problem.strerror}") from None
    made: list[socket.socket] = []
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            if made and not port:  # the second address of a name gets the port that the first one got
                where = (where[0], made[0].getsockname()[1], *where[2:])
            try:
                made.append(_listen(family, where, name))
            except OSError as problem:  # localhost is ::1 as well, where there is IPv6
                log.debug("%s: %s", where, problem)
        if not made:
            raise Refused(f"--addr {name}: this machine has no such address")
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _listen(family: int, where: tuple[Any, ...], name: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if where[0] in ("", "::") else 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as problem:
        sock.close()
        if problem.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        remedy = {
            errno.EADDRINUSE: "another program listens there; choose another --addr",
            errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        }.get(problem.errno or 0, problem.strerror)
        raise Refused(f"--addr {name}: {remedy}") from None
    sock.setblocking(False)
    return sock


def _turn_away(sock: socket.socket, kind: Listening, address: str, refusal: str) -> None:
    log.info("%s turned away: %s", address, refusal[4:])
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        if not kind.implicit:
            sock.send(refusal.encode() + b"\r\n")
    sock.close()


@final
class Listening:
    """What a session sees of its server: one per kind of address (plain or implicit TLS)."""

    ip_map: tuple[str, ...] = ()
    backlog = 5

    def __init__(self, server: Server, *, implicit: bool) -> None:
        self.implicit = implicit
        self.settings = server.settings
        self.authenticator = server.authenticator
        self.certificates = server.certificates
        self.gate = server.gate
        self.rates = server.rates
        self.transfers = server.transfers
        self._server = server

    def prepare(self, handler: Any) -> None:
        """Set what the library reads from a session."""
        settings = self.settings
        handler.timeout = settings.idle_timeout
        handler.data_timeout = settings.data_timeout
        handler.banner = settings.banner
        handler.max_login_attempts = settings.max_login_attempts
        handler.permit_foreign_addresses = settings.allow_foreign_data
        handler.passive_range = settings.passive_ports
        handler.keep_partial = settings.keep_partial
        handler.tls_reuse_required = settings.tls.require_reuse
        if self.certificates is not None:
            handler.tls_context = self.certificates.context()

    def public_address(self, local: str, client: str) -> str:
        """The address to name in a 227 reply to a client that reached us at ``local``."""
        return self._server.public_address(local, client)


@final
class Server:
    """One FTP server. Made and started on the trio thread; `close` blocks and belongs into a thread."""

    handler_class: type[Commands] = Commands

    def __init__(self, settings: FtpSettings, authenticator: Authenticator, bridge: Bridge) -> None:
        self.settings = settings
        self.authenticator = authenticator
        tls = settings.tls
        self.certificates = Certificates(tls) if tls.mode is not TlsMode.OFF else None
        self.gate = Gate(
            connections=settings.max_connections, per_address=settings.max_per_ip, delay=settings.login_delay,
            ban_after=settings.ban_after, ban_time=settings.ban_time,
        )  # fmt: skip
        self.rates = Rates(settings.transfer_rate, settings.user_rate)
        self.transfers = None
        if settings.transfer_log is not None:
            self.transfers = TransferLog(settings.transfer_log, "json" if settings.transfer_log_json else "xferlog")
        self._bridge = bridge
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, tuple[SessionLoop, Any]] = {}
        self._resolved: dict[str, tuple[float, str]] = {}
        self._closing = False
        self._listeners: dict[int, tuple[socket.socket, Listening]] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            plain = Listening(self, implicit=tls.mode is TlsMode.IMPLICIT)
            for host, port in settings.addresses:
                self._add(host, port, plain)
            for host, port in settings.implicit_addresses:
                self._add(host, port, Listening(self, implicit=True))
        except BaseException:
            self._close_listeners()
            os.close(self._wake)
            raise
        self._acceptor = threading.Thread(target=self._accept, name="ftp accept", daemon=True)

    def _add(self, host: str, port: int, kind: Listening) -> None:
        for sock in listen(host, port):
            self._listeners[sock.fileno()] = sock, kind

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports really listened on."""
        return [sock.getsockname()[:2] for sock, _ in self._listeners.values()]

    @property
    def sessions(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    # the accepting thread

    def _accept(self) -> None:
        poller = select.poll()
        for fd in (self._wake, *self._listeners):
            poller.register(fd, select.POLLIN)
        while not self._closing:
            for fd, _ in poller.poll():
                if fd in self._listeners:
                    self._accept_one(*self._listeners[fd])

    def _accept_one(self, listener: socket.socket, kind: Listening) -> None:
        try:
            sock, where = listener.accept()
        except OSError as problem:
            if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                log.warning("no connection can be accepted: %s; raise the limit or lower --max-connections", problem)
                time.sleep(0.1)  # the connection stays in the queue; do not spin on it
            return
        address = plain_address(where[0])
        proxy = self._is_proxy(address)
        refusal = self.gate.enter(address, proxy=proxy)
        if refusal:
            _turn_away(sock, kind, address, refusal)
            return
        serve = self._serve_behind_proxy if proxy else self._serve
        thread = threading.Thread(target=serve, args=(sock, kind, address), name=f"ftp {address}", daemon=True)
        before = threading.stack_size(STACK)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads for us
            log.warning("no thread can be started for another session; lower --max-connections")
            sock.close()
            self.gate.leave("" if proxy else address)
        finally:
            threading.stack_size(before)

    def _is_proxy(self, address: str) -> bool:
        proxies = self.settings.proxies
        if not proxies:
            return False
        host = ipaddress.ip_address(address.partition("%")[0])
        return any(host in network for network in proxies)

    # a session's thread

    def _serve_behind_proxy(self, sock: socket.socket, kind: Listening, proxy: str) -> None:
        """The same for who came through a load balancer, which says first who it is."""
        try:
            client = read_header(sock)
        except (BadHeader, OSError) as problem:
            log.warning("%s is in --proxy-protocol, but sent no header of it: %s", proxy, problem)
            sock.close()
            self.gate.leave()
            return
        address = plain_address(client[0]) if client is not None else proxy
        if refusal := self.gate.behind(address):
            _turn_away(sock, kind, address, refusal)
            return
        self._serve(sock, kind, address, client)

    def _serve(self, sock: socket.socket, kind: Listening, address: str, client: tuple[str, int] | None = None) -> None:
        thread = threading.current_thread()
        loop = SessionLoop(self._bridge)
        try:
            handler = self.handler_class(sock, kind, ioloop=loop)
            if client is not None:
                handler.remote_ip, handler.remote_port = address, client[1]
            with self._lock:
                self._sessions[thread] = loop, handler
                closing = self._closing
            if closing:
                handler.shut_down()
            elif handler.connected:
                handler.handle()
            loop.run()
        except Exception:  # a fault in one session must not look like silence
            log.exception("%s: a session ended by a fault in the server", address)
        finally:
            with contextlib.suppress(OSError):
                loop.close()
            with self._lock:
                self._sessions.pop(thread, None)
            self.gate.leave(address)

    def public_address(self, local: str, client: str) -> str:
        """See `Listening.public_address`."""
        chosen = ""
        for public in self.settings.public:
            if public.network is None:
                chosen = chosen or public.address
            elif ipaddress.ip_address(client) in public.network:
                chosen = public.address
                break
        return self._resolve(chosen) if chosen else local

    def _resolve(self, name: str) -> str:
        try:
            return str(ipaddress.ip_address(name))
        except ValueError:
            known = self._resolved.get(name)
        if known is not None and time.monotonic() - known[0] < RESOLVED_FOR:
            return known[1]
        try:
            address = str(socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        except OSError as problem:
            log.warning("--public-ip %s cannot be resolved: %s", name, problem)
            if known is None:
                raise
            address = known[1]
        self._resolved[name] = time.monotonic(), address
        return address

    # the end

    def stop_accepting(self) -> None:
        """No new sessions; those that are open get 421. From any thread, does not wait."""
        with self._lock:
            self._closing = True
            open_now = list(self._sessions.values())
        os.eventfd_write(self._wake, 1)
        for loop, handler in open_now:
            loop.call_soon(handler.shut_down)

    def wait(self, timeout: float) -> bool:
        """Wait until every session has ended; answers whether that is so."""
        deadline = time.monotonic() + timeout
        while (threads := list(self._sessions)) and time.monotonic() < deadline:
            threads[0].join(max(0.0, deadline - time.monotonic()))
        return not self._sessions

    def close(self) -> None:
        """Let go of the addresses, and of sessions that did not end by themselves."""
        for loop, _ in list(self._sessions.values()):
            loop.stop()
        self._acceptor.join()
        self._close_listeners()
        os.close(self._wake)

    def _close_listeners(self) -> None:
        for sock, _ in self._listeners.values():
            sock.close()
        self._listeners.clear()

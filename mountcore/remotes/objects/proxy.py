"""The way through a proxy that the environment names: ``https_proxy``, ``http_proxy``, ``all_proxy``, ``no_proxy``.

https goes through a tunnel (CONNECT, RFC 9110 §9.3.6), http by asking the proxy for the whole address. Never for this
machine and link-local addresses: the instance metadata service is one.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import trio

from ...errors import Refused, Unreachable

_LONGEST = 16_384


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; its login is in no repr."""

    host: str
    port: int
    login: str = field(default="", repr=False)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What a request to it carries."""
        return [("Proxy-Authorization", f"Basic {self.login}")] if self.login else []


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a server; raises :class:`Refused` for an address that makes no sense."""
    if _is_near(host):
        return None
    proxies = getproxies()
    if proxy_bypass(f"{host}:{port}", proxies):
        return None
    address = proxies.get(scheme) or proxies.get("all")
    if not address:
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        name, number = parts.hostname or "", parts.port or 80
    except ValueError:
        name, number, parts = "", 0, urlsplit("")
    if parts.scheme != "http" or not name:
        raise Refused(f"{scheme}_proxy in the environment is http://[user:password@]host[:port]")
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(name, number, base64.b64encode(login.encode()).decode() if login else "")


async def tunnel(stream: trio.SocketStream, proxy: Proxy, authority: str) -> None:
    """Ask for a tunnel; raises Unreachable with what the proxy says."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in proxy.headers]
    await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to TLS
        more = await stream.receive_some(1)
        if not more or len(head) > _LONGEST:
            raise Unreachable("", f"the proxy {proxy.host}:{proxy.port} gave no answer")
        head += bytes(more)
    status = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status) < 2 or not status[1].startswith(b"2"):
        said = b" ".join(status[1:]).decode("latin-1")[:80]
        raise Unreachable("", f"the proxy {proxy.host}:{proxy.port} does not let us through: {said}")


def _is_near(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_link_local

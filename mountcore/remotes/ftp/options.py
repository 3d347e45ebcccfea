"""What a user can say about an FTP server, as in rclone.conf; parsed and checked once. Pure.

The names, grammar and help texts that users see are in :mod:`mountcore.remotes.facts`; this module gives
the values their types. Durations of 0 mean "no limit" where rclone says so (``idle_timeout``).
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from ...errors import Refused
from ...quantity import parse_duration
from .names import NameEncoding

DEFAULT_PORT = 21
DEFAULT_CONNECTIONS = 8
"""Connections at once when the user sets no ``concurrency``: more brings nothing and annoys servers."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A way round: SOCKS 5 or HTTP CONNECT."""

    kind: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class FtpOptions:
    """One FTP server and how to talk to it. The password is in no repr."""

    host: str
    port: int = DEFAULT_PORT
    user: str = "anonymous"
    password: str = field(default="", repr=False)
    implicit_tls: bool = False
    explicit_tls: bool = False
    check_certificate: bool = True
    reuse_tls_session: bool = True
    tls13: bool = True
    insecure_ciphers: bool = False
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""
    active: bool = False
    epsv: bool = True
    mlsd: bool = True
    utf8: bool = True
    writing_mdtm: bool = False
    list_hidden: bool = False
    check_upload: bool = True
    connections: int = DEFAULT_CONNECTIONS
    idle_timeout: float | None = 60.0
    close_timeout: float = 1.0
    """Far less than rclone's minute: pure-ftpd over TLS may never answer, and a new login costs less."""
    shut_timeout: float = 60.0
    connect_timeout: float = 60.0
    timeout: float = 60.0
    proxy: Proxy | None = None
    names: NameEncoding = field(default_factory=NameEncoding)

    @property
    def tls(self) -> bool:
        """Whether anything is encrypted."""
        return self.implicit_tls or self.explicit_tls

    @property
    def address(self) -> str:
        """``host:port`` for messages and the identity."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def identity(self, root: str) -> str:
        """Which files these are, without secrets; the same with and without TLS."""
        return f"ftp://{quote(self.user, safe='')}@{self.address}/{root}"


def parse(values: dict[str, str]) -> FtpOptions:
    """Typed options; raises :class:`Refused` naming the option and what it accepts. May ask for a password."""
    host = _bare_host(values["host"])
    implicit, explicit = _flag(values, "tls"), _flag(values, "explicit_tls")
    if implicit and explicit:
        raise Refused("ftp: tls (from the first byte) and explicit_tls (AUTH TLS) exclude each other")
    user = values.get("user", "") or getpass.getuser()
    password = values.get("pass", "")
    if not password and _flag(values, "ask_password"):
        if not sys.stdin.isatty():
            raise Refused("ftp: ask_password needs a terminal; set pass, or run in one")
        password = getpass.getpass(f"Password of {user} at {host}: ")
    for name, text in (("user", user), ("pass", password)):
        if any(c in text for c in "\r\n\0"):
            raise Refused(f"ftp: {name} cannot have a line break or NUL in it")
    if not password and user in ("anonymous", "ftp"):
        password = "anonymous@"  # noqa: S105 - RFC 1635: the password of anonymous is an address
    concurrency = _number(values, "concurrency", 0, 256)
    proxies = [p for p in (_socks(values.get("socks_proxy", "")), _http(values.get("http_proxy", ""))) if p]
    active = _flag(values, "active")
    if len(proxies) > 1:
        raise Refused("ftp: socks_proxy and http_proxy exclude each other")
    if proxies and active:
        raise Refused("ftp: active mode cannot go through a proxy: the server could not connect back")
    if bool(values.get("client_key")) > bool(values.get("client_cert")):
        raise Refused("ftp: client_key needs client_cert")
    return FtpOptions(
        host=host,
        port=_number(values, "port", 1, 65535) if values.get("port") else DEFAULT_PORT,
        user=user,
        password=password,
        implicit_tls=implicit,
        explicit_tls=explicit,
        check_certificate=not _flag(values, "no_check_certificate"),
        reuse_tls_session=_number(values, "tls_cache_size", 0, 1 << 20) > 0 if values.get("tls_cache_size") else True,
        tls13=not _flag(values, "disable_tls13"),
        insecure_ciphers=_flag(values, "allow_insecure_tls_ciphers"),
        ca_cert=values.get("ca_cert", ""),
        client_cert=values.get("client_cert", ""),
        client_key=values.get("client_key", ""),
        active=active,
        epsv=not _flag(values, "disable_epsv"),
        mlsd=not (_flag(values, "disable_mlsd") or _flag(values, "force_list_hidden")),
        utf8=not _flag(values, "disable_utf8"),
        writing_mdtm=_flag(values, "writing_mdtm"),
        list_hidden=_flag(values, "force_list_hidden"),
        check_upload=not _flag(values, "no_check_upload"),
        connections=concurrency or DEFAULT_CONNECTIONS,
        idle_timeout=_duration(values, "idle_timeout", 60.0) or None,
        close_timeout=_duration(values, "close_timeout", 1.0),
        shut_timeout=_duration(values, "shut_timeout", 60.0),
        connect_timeout=_duration(values, "connect_timeout", 60.0),
        timeout=_duration(values, "timeout", 60.0),
        proxy=proxies[0] if proxies else None,
        names=NameEncoding.parse(values.get("encoding", "")),
    )


def _bare_host(text: str) -> str:
    host = text.strip().removeprefix("[").removesuffix("]")
    if not host or any(c in host for c in "/@ \r\n\0") or host.count(":") == 1:
        raise Refused(f"ftp: host {text!r} is not a host name or address (the port is an option of its own)")
    return host


def _flag(values: dict[str, str], name: str) -> bool:
    word = values.get(name, "").strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("", "false", "no", "off", "0"):
        return False
    raise Refused(f"ftp: {name} is true or false, not {values[name]!r}")


def _number(values: dict[str, str], name: str, low: int, high: int) -> int:
    text = values.get(name, "").strip() or "0"
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Refused(f"ftp: {name} is a whole number from {low} to {high}, not {values[name]!r}")
    return int(text)


def _duration(values: dict[str, str], name: str, default: float) -> float:
    """Seconds; ``off`` and 0 are 0, which only some options accept."""
    text = values.get(name, "")
    if not text:
        return default
    try:
        seconds = parse_duration(text) or 0.0
    except Refused as problem:
        raise Refused(f"ftp: {name}: {problem}") from None
    if not seconds and name != "idle_timeout":
        raise Refused(f"ftp: {name} must be more than 0: every wait is bounded")
    return seconds


def _socks(text: str) -> Proxy | None:
    return _proxy("socks_proxy", "socks", f"//{text}", 1080) if text else None


def _http(text: str) -> Proxy | None:
    if text and not text.startswith("http://"):
        raise Refused("ftp: http_proxy is http://[user:password@]host[:port]")
    return _proxy("http_proxy", "http", text, 80) if text else None


def _proxy(option: str, kind: str, url: str, port: int) -> Proxy:
    try:
        parts = urlsplit(url)
        host, number = parts.hostname or "", parts.port or port
    except ValueError:
        host, number = "", 0
    if not host or parts.path.strip("/") or parts.query:
        raise Refused(f"ftp: {option} is [user:password@]host[:port]")  # the value may hold a password: not shown
    return Proxy(kind, host, number, unquote(parts.username or ""), unquote(parts.password or ""))

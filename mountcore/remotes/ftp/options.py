"""What a user can say about an FTP server, as in rclone.conf; parsed and checked once. Pure.

The names, grammar and help texts that users see are in :mod:`mountcore.remotes.facts`; this module gives
the values their types. Durations of 0 mean "no limit" where rclone says so (``idle_timeout``).
"""

from __future__ import annotations

import codecs
import enum
import getpass
import re
import sys
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote, unquote, urlsplit

from ...errors import Refused
from ..encoding import NameEncoding
from ..values import duration, flag, number

DEFAULT_PORT = 21
IMPLICIT_PORT = 990
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


class DataConnection(enum.Enum):
    """How a data connection comes about: who connects to whom, by which command, to which address."""

    AUTO_PASSIVE = "auto_passive"
    """EPSV, else PASV to the host that commands go to."""
    EPSV = "epsv"
    PASV = "pasv"
    """To the address in the reply if it is a public one, else to the host that commands go to."""
    PASVEX = "pasvex"
    """To the host that commands go to, whatever the reply says."""
    PASVUSE = "pasvuse"
    """To the address in the reply, whatever it is."""
    AUTO_ACTIVE = "auto_active"
    """EPRT, else PORT."""
    PORT = "port"
    EPRT = "eprt"

    @property
    def active(self) -> bool:
        """Whether the server connects to us."""
        return self in (DataConnection.AUTO_ACTIVE, DataConnection.PORT, DataConnection.EPRT)


_DATA_WORDS = {kind.value.replace("_", ""): kind for kind in DataConnection} | {
    "passiveextended": DataConnection.PASVEX,
    "passiveallowunroutable": DataConnection.PASVUSE,
}


@dataclass(frozen=True, slots=True)
class FtpOptions:
    """One FTP server and how to talk to it. The password is in no repr."""

    host: str
    port: int = DEFAULT_PORT
    user: str = "anonymous"
    password: str = field(default="", repr=False)
    implicit_tls: bool = False
    explicit_tls: bool = False
    may_be_clear: bool = False
    """With `explicit_tls`: go on without where the server refuses AUTH."""
    clear_data: bool = False
    clear_commands: bool = False
    check_certificate: bool = True
    pins: frozenset[str] = frozenset()
    """Certificates to accept: lower-case hex of their SHA-1 or SHA-256."""
    tls_versions: frozenset[str] = frozenset()
    reuse_tls_session: bool = True
    tls13: bool = True
    insecure_ciphers: bool = False
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""
    data: DataConnection = DataConnection.AUTO_PASSIVE
    active_ports: range = range(1)
    """What to listen on in active mode; `range(1)`, port 0, is any."""
    epsv: bool = True
    mlsd: bool = True
    utf8: bool = True
    charset: str = "utf-8"
    absolute: bool = False
    cwd_names: bool = False
    writing_mdtm: bool = False
    list_hidden: bool = False
    check_upload: bool = True
    upload_delay: float = 0.0
    temporary_name: str = ""
    """With ``{name}`` in it; empty: one of our own."""
    console: bool = False
    console_private: bool = False
    connections: int = DEFAULT_CONNECTIONS
    keep_alive: float | None = 30.0
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

    address: str = field(init=False, default="")
    """``host:port`` for messages and the identity."""

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "address", f"{host}:{self.port}")

    def identity(self, root: str) -> str:
        """Which files these are, without secrets; the same with and without TLS."""
        return f"ftp://{quote(self.user, safe='')}@{self.address}/{root}"


_flag, _number = partial(flag, "ftp"), partial(number, "ftp")
_duration = partial(duration, "ftp", endless=("idle_timeout", "keep_alive", "upload_delay"))


def parse(values: dict[str, str]) -> FtpOptions:
    """Typed options; raises :class:`Refused` naming the option and what it accepts. May ask for a password."""
    host = _bare_host(values["host"])
    implicit, explicit, may_be_clear = _encryption(values)
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
    data = _data_connection(values)
    if len(proxies) > 1:
        raise Refused("ftp: socks_proxy and http_proxy exclude each other")
    if proxies and data.active:
        raise Refused("ftp: active mode cannot go through a proxy: the server could not connect back")
    if bool(values.get("client_key")) > bool(values.get("client_cert")):
        raise Refused("ftp: client_key needs client_cert")
    return FtpOptions(
        host=host,
        port=_port(values, implicit),
        user=user,
        password=password,
        implicit_tls=implicit,
        explicit_tls=explicit,
        may_be_clear=may_be_clear,
        clear_data=_flag(values, "clear_data"),
        clear_commands=_flag(values, "clear_commands"),
        check_certificate=not _flag(values, "no_check_certificate"),
        pins=_pins(values.get("certificate_hash", "")),
        tls_versions=_tls_versions(values),
        reuse_tls_session=_number(values, "tls_cache_size", 0, 1 << 20) > 0 if values.get("tls_cache_size") else True,
        tls13=not _flag(values, "disable_tls13"),
        insecure_ciphers=_flag(values, "allow_insecure_tls_ciphers"),
        ca_cert=values.get("ca_cert", ""),
        client_cert=values.get("client_cert", ""),
        client_key=values.get("client_key", ""),
        data=data,
        active_ports=_ports(values.get("active_ports", "")),
        epsv=not _flag(values, "disable_epsv"),
        mlsd=not (_flag(values, "disable_mlsd") or _flag(values, "force_list_hidden")),
        utf8=not _flag(values, "disable_utf8") and _charset(values.get("charset", "")) == "utf-8",
        charset=_charset(values.get("charset", "")),
        absolute=_flag(values, "absolute_path"),
        cwd_names=_flag(values, "cwd_names"),
        writing_mdtm=_flag(values, "writing_mdtm"),
        list_hidden=_flag(values, "force_list_hidden"),
        check_upload=not _flag(values, "no_check_upload"),
        temporary_name=_temporary(values.get("temporary_name", "")),
        upload_delay=_duration(values, "upload_delay", 0.0),
        console=_flag(values, "log_to_console"),
        console_private=_flag(values, "log_private_info"),
        connections=concurrency or DEFAULT_CONNECTIONS,
        keep_alive=_duration(values, "keep_alive", 30.0) or None,
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


def _port(values: dict[str, str], implicit: bool) -> int:
    if values.get("port"):
        return _number(values, "port", 1, 65535)
    # rclone's "tls" alone does not change the port
    return IMPLICIT_PORT if implicit and values.get("encryption") else DEFAULT_PORT


def _encryption(values: dict[str, str]) -> tuple[bool, bool, bool]:
    """Implicit, explicit, and whether none will do; from ``encryption``, or rclone's two flags."""
    implicit, explicit = _flag(values, "tls"), _flag(values, "explicit_tls")
    if implicit and explicit:
        raise Refused("ftp: tls (from the first byte) and explicit_tls (AUTH TLS) exclude each other")
    word = values.get("encryption", "").strip().lower()
    if not word:
        return implicit, explicit, False
    if word not in ("none", "implicit", "explicit", "auto"):
        raise Refused(f"ftp: encryption is none, implicit, explicit or auto, not {values['encryption']!r}")
    if (implicit and word != "implicit") or (explicit and word != "explicit"):
        raise Refused(f"ftp: encryption = {word} contradicts {'tls' if implicit else 'explicit_tls'}; set only one")
    return word == "implicit", word in ("explicit", "auto"), word == "auto"


def _data_connection(values: dict[str, str]) -> DataConnection:
    word = re.sub(r"[_ -]", "", values.get("data_connection", "")).lower() or "autopassive"
    kind = _DATA_WORDS.get(word)
    if kind is None:
        words = ", ".join(kind.value for kind in DataConnection)
        raise Refused(f"ftp: data_connection is one of {words}, not {values['data_connection']!r}")
    if _flag(values, "active"):
        if kind is DataConnection.AUTO_PASSIVE:
            return DataConnection.AUTO_ACTIVE
        if not kind.active:
            raise Refused(f"ftp: active and data_connection = {kind.value} exclude each other")
    if kind is DataConnection.EPSV and _flag(values, "disable_epsv"):
        raise Refused("ftp: disable_epsv and data_connection = epsv exclude each other")
    return kind


def _ports(text: str) -> range:
    if not text.strip():
        return range(1)
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= 65535:
        raise Refused(f"ftp: active_ports is a port or a range like 50000-50100, not {text!r}")
    return range(low, high + 1)


def _pins(text: str) -> frozenset[str]:
    """Duplicati takes ``,`` and ``;`` between hashes; openssl and browsers write ``:`` between bytes."""
    pins = frozenset(re.sub(r"[:\s-]", "", word).lower() for word in re.split("[,;]", text) if word.strip())
    for pin in pins:
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", pin):
            raise Refused(
                f"ftp: certificate_hash: {pin!r} is neither SHA-1 (40 hex digits) nor SHA-256 (64); "
                "openssl x509 -noout -fingerprint -sha256 tells it"
            )
    return pins


def _tls_versions(values: dict[str, str]) -> frozenset[str]:
    """Words like ``tls12``; also ``Tls``, which is 1.0 where these names come from."""
    words = {word.lower() for word in re.split(r"[,;|\s]+", values.get("tls_versions", "")) if word}
    if words <= {"none", "default", "systemdefault"}:
        return frozenset()
    words = {"tls10" if word == "tls" else word.replace("tls1.", "tls1") for word in words}
    known = {"tls10", "tls11", "tls12", "tls13"}
    if not words <= known:
        raise Refused(f"ftp: tls_versions is of {', '.join(sorted(known))}, or none, not {values['tls_versions']!r}")
    if _flag(values, "disable_tls13") and words == {"tls13"}:
        raise Refused("ftp: disable_tls13 and tls_versions = tls13 leave nothing to use")
    return frozenset(words)


def _temporary(text: str) -> str:
    if text and (text.count("{name}") != 1 or text == "{name}" or any(c in text for c in "/\r\n\0")):
        raise Refused(f"ftp: temporary_name has {{name}} and something else in it, like .{{name}}.tmp, not {text!r}")
    return text


def _charset(text: str) -> str:
    name = text.strip().lower() or "utf-8"
    try:
        found = codecs.lookup(name).name
        plain = bytes(range(32, 127)).decode("ascii") + "\r\n\t"
        if plain.encode(found) != plain.encode("ascii"):
            raise LookupError
    except (LookupError, UnicodeError):
        raise Refused(
            f"ftp: charset {text!r} is not known, or ASCII is something else in it; try utf-8 or latin-1"
        ) from None
    return found


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

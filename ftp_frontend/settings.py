"""What the FTP server can be told, as one frozen value. Pure; composed by :mod:`.command`. Seconds and bytes."""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

Network = IPv4Network | IPv6Network

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


class TlsMode(enum.Enum):
    """How connections are encrypted."""

    OFF = "off"
    EXPLICIT = "explicit"
    """AUTH TLS is offered (RFC 4217)."""
    REQUIRE = "require"
    """AUTH TLS is demanded before USER, and PROT P before data."""
    IMPLICIT = "implicit"
    """TLS from the first byte, on every address."""


class Acknowledge(enum.Enum):
    """When an upload is answered with 226."""

    MEMORY = "memory"
    """It is journalled, and survives the end of the process, but not a loss of power."""
    JOURNAL = "journal"
    """It is journalled and synced to the disk."""
    REMOTE = "remote"
    """The storage has it."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The server's certificate and what is asked of clients."""

    mode: TlsMode = TlsMode.OFF
    certificate: Path | None = None
    key: Path | None = None
    minimum: str = "1.2"
    require_reuse: bool = False
    """A data connection must resume the TLS session of its control connection."""
    client_authority: Path | None = None
    """Clients must show a certificate that this authority signed."""
    strict_end: bool = False
    """An upload that ends without close_notify is taken as cut off."""


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """The address that clients are told to connect to for data; ``network``: only clients of that network."""

    address: str
    network: Network | None = None


@dataclass(frozen=True, slots=True)
class FtpSettings:
    """Everything about one server but who may log in."""

    addresses: tuple[tuple[str, int], ...] = (("localhost", 2121),)
    implicit_addresses: tuple[tuple[str, int], ...] = ()
    """Listen here with TLS from the first byte, besides ``addresses``."""
    public: tuple[PublicAddress, ...] = ()
    passive_ports: tuple[int, int] | None = (30000, 32000)
    """First and last; None: the system chooses."""
    tls: TlsSettings = field(default_factory=TlsSettings)
    banner: str = "portside ready."
    idle_timeout: float = 300.0
    data_timeout: float = 300.0
    """A transfer on which the client makes no progress for this long is ended."""
    max_connections: int = 512
    max_per_ip: int = 0
    """0: no limit."""
    max_login_attempts: int = 3
    """Failed logins after which a session is closed."""
    login_delay: float = 1.0
    """The first failed login is answered after this long, each further one from the address after twice as long."""
    ban_after: int = 15
    """Failed logins from an address, within ``ban_time``, after which it is turned away; 0: never."""
    ban_time: float = 1800.0
    allow_active: bool = True
    allow_foreign_data: bool = False
    keep_partial: bool = False
    mode_z: bool = False
    fallback_encoding: str = ""
    """Read file names that are not UTF-8 in this encoding; empty: their bytes are kept as they are."""
    proxies: tuple[Network, ...] = ()
    """Who connects from these says with the PROXY protocol for whom."""
    transfer_rate: tuple[int | None, int | None] = (None, None)
    """Bytes per second of each transfer, up (to here) and down."""
    user_rate: tuple[int | None, int | None] = (None, None)
    """The same of all transfers of a user together."""
    transfer_log: Path | None = None
    transfer_log_json: bool = False
    acknowledge: Acknowledge = Acknowledge.JOURNAL

"""``portside serve ftp``: its options, what they mean together, and serving.

Used by the command line and by gateways of several servers. Option names and meanings are rclone's where
rclone has them. Everything is validated before anything is started; what makes no sense is
:class:`~mountcore.errors.Refused`, in one line.
"""

from __future__ import annotations

import codecs
import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from mountcore.errors import Refused
from mountcore.options import Option, bandwidth, boolean, integer, seconds
from mountcore.portal import ThreadPortal
from mountcore.quantity import parse_duration
from mountcore.service import Core
from mountcore.vfs import Vfs

from .auth import Authenticator, SingleUser
from .auth_proxy import AuthProxy
from .bridge import Bridge
from .proxy_program import ProxyMode, ProxySettings
from .settings import VERSIONS, Acknowledge, FtpSettings, Network, PublicAddress, TlsMode, TlsSettings

if TYPE_CHECKING:
    from .server import Server

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that uploads which are complete have to be committed when the server stops."""
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>\d{1,5})")


def addresses(text: str) -> tuple[tuple[str, int], ...]:
    """``host:port``, ``:port`` for every address of the machine, ``[::1]:port``; several with commas; port 0: any."""
    made = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        match = _ADDRESS.fullmatch(part)
        if match is None or int(match["port"]) > 65535:
            raise Refused(f"{part!r} is not an address like localhost:2121, :2121 or [::1]:2121")
        made.append((match["six"] or match["host"] or "", int(match["port"])))
    return tuple(made)


def passive_ports(text: str) -> tuple[int, int] | None:
    """``30000-32000``, or one port; ``any`` leaves the choice to the system."""
    if text.strip().lower() == "any":
        return None
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1024 <= low <= high <= 65535:
        raise Refused(f"{text!r} is not a range of ports from 1024 to 65535, low to high, like 30000-32000")
    return low, high


def public_addresses(text: str) -> tuple[PublicAddress, ...]:
    """An address or name; before it ``network=`` for clients of that network; several with commas."""
    made = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        network, equals, address = part.rpartition("=")
        where: Network | None = None
        if equals:
            try:
                where = ipaddress.ip_network(network)
            except ValueError:
                raise Refused(f"{network!r} is not a network like 192.168.0.0/16") from None
        if not re.fullmatch(r"[\w.-]+", address, re.ASCII):
            raise Refused(f"{address!r} is not an IPv4 address or a host name (data connections by PASV are IPv4)")
        made.append(PublicAddress(address, where))
    return tuple(made)


def networks(text: str) -> tuple[Network, ...]:
    """Addresses or networks; several with commas."""
    made: list[Network] = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        try:
            made.append(ipaddress.ip_network(part))
        except ValueError:
            raise Refused(f"{part!r} is not an address or a network like 10.0.0.0/8") from None
    return tuple(made)


def _mode(text: str) -> str:
    word = text.strip().lower()
    if word not in ("", *(mode.value for mode in TlsMode)):
        raise Refused(f"{text!r} is not one of {', '.join(mode.value for mode in TlsMode)}")
    return word


def _one_of(*words: str) -> Any:
    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise Refused(f"{text!r} is not one of {', '.join(words)}")
        return text.strip().lower()

    return parse


def _file(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _encoding(text: str) -> str:
    try:
        return codecs.lookup(text).name if text else ""
    except LookupError:
        raise Refused(f"{text!r} is not an encoding like cp1252 or latin-1") from None


OPTIONS: tuple[Option, ...] = (
    Option("addr", "localhost:2121", "Listen here: HOST:PORT, :PORT, [IPV6]:PORT; port 0: any; may be repeated",
           addresses, "ADDRESS", many=True),
    Option("addr-implicit", "", "Listen here as well, with TLS from the first byte", addresses, "ADDRESS", many=True),
    Option("public-ip", "", "Address or name that clients are told for passive connections; NETWORK=ADDRESS for some",
           public_addresses, "ADDRESS", many=True),
    Option("passive-port", "30000-32000", "Ports for passive connections, or any", passive_ports, "RANGE"),
    Option("user", "anonymous", "Who may log in", str, "NAME"),
    Option("pass", "", "Password; empty: any. Better in PORTSIDE_PASS or --pass-file", str, "PASSWORD"),
    Option("pass-file", "", "Read the password from the first line of this file", _file, "FILE"),
    Option("auth-proxy", "", "Program that decides who may log in, and to which storage", str, "COMMAND"),
    Option("auth-proxy-mode", "process", "process: start it for each login; stream: keep it running, JSON lines",
           _one_of("process", "stream"), "MODE"),
    Option("auth-proxy-timeout", "30s", "Give up on the auth proxy after this long", seconds, "DURATION"),
    Option("auth-proxy-cache", "5m", "Remember its answer for this long after the last use; 0: not at all", seconds,
           "DURATION"),
    Option("cert", "", "Certificate (chain) in PEM; read again when it changes", _file, "FILE"),
    Option("key", "", "Its key in PEM; default: in the file of --cert", _file, "FILE"),
    Option("tls", "", "off, explicit, require or implicit; default: explicit with --cert, else off", _mode, "MODE"),
    Option("min-tls", "1.2", "Oldest version of TLS: 1.0, 1.1, 1.2 or 1.3", _one_of(*VERSIONS), "VERSION"),
    Option("tls-session-reuse", "off", "require: data connections must resume the session's TLS",
           _one_of("off", "require"), "WHICH"),
    Option("tls-strict-end", "false", "An upload that ends without close_notify is cut off", boolean, flag=True),
    Option("client-ca", "", "Clients need a certificate signed by this authority (PEM)", _file, "FILE"),
    Option("idle-timeout", "5m", "End a session that says nothing for this long; off: never", parse_duration,
           "DURATION"),
    Option("data-timeout", "5m", "End a transfer on which the client makes no progress", seconds, "DURATION"),
    Option("max-connections", "512", "Sessions at once; 0: no limit", integer(0, 100_000), "N"),
    Option("max-per-ip", "0", "Sessions at once from one address; 0: no limit", integer(0, 100_000), "N"),
    Option("max-login-attempts", "3", "Failed logins that end a session", integer(1, 1000), "N"),
    Option("login-delay", "1s", "Time before a failed login is answered; doubles with each from an address", seconds,
           "DURATION"),
    Option("ban-after", "15", "Failed logins that ban an address; 0: never", integer(0, 1000), "N"),
    Option("ban-time", "30m", "How long it is banned", seconds, "DURATION"),
    Option("banner", "portside ready.", "Greeting", str, "TEXT"),
    Option("allow-active", "true", "Allow active connections (PORT, EPRT)", boolean, flag=True),
    Option("allow-foreign-data", "false", "Allow data connections from and to other addresses than the client's",
           boolean, flag=True),
    Option("proxy-protocol", "", "Networks of load balancers that say with the PROXY protocol for whom they connect",
           networks, "NETWORKS", many=True),
    Option("transfer-bwlimit", "off", "Bytes per second of each transfer, or UP:DOWN (up is to the server)", bandwidth,
           "RATE"),
    Option("user-bwlimit", "off", "Bytes per second of all transfers of a user together, or UP:DOWN", bandwidth,
           "RATE"),
    Option("transfer-log", "", "Append a line for every file transfer to this file", _file, "FILE"),
    Option("transfer-log-format", "xferlog", "xferlog or json", _one_of("xferlog", "json"), "FORMAT"),
    Option("keep-partial", "false", "Keep what arrived of an upload that broke off, under its name", boolean,
           flag=True),
    Option("mode-z", "false", "Offer compressed data connections (MODE Z); many clients then use them always", boolean,
           flag=True),
    Option("fallback-encoding", "", "Encoding of names from clients that do not send UTF-8; empty: keep the bytes",
           _encoding, "NAME"),
    Option("ftp-upload-ack", "journal", "Answer an upload when it is on this disk (journal), stored (remote), or only "
           "safe from kill -9 (memory)", _one_of("memory", "journal", "remote"), "WHEN"),
)  # fmt: skip


def ftp_settings(values: Mapping[str, object]) -> FtpSettings:
    """Compose the settings from the options' parsed values, by name; raises :class:`Refused`."""
    v: Mapping[str, Any] = values
    if not v["addr"] and not v["addr-implicit"]:
        raise Refused("--addr: an address is needed, like localhost:2121")
    return FtpSettings(
        addresses=v["addr"],
        implicit_addresses=v["addr-implicit"],
        public=v["public-ip"],
        passive_ports=v["passive-port"],
        tls=_tls_settings(v),
        banner=_banner(v["banner"]),
        idle_timeout=v["idle-timeout"] or 0.0,
        data_timeout=v["data-timeout"],
        max_connections=v["max-connections"],
        max_per_ip=v["max-per-ip"],
        max_login_attempts=v["max-login-attempts"],
        login_delay=v["login-delay"],
        ban_after=v["ban-after"],
        ban_time=v["ban-time"],
        allow_active=v["allow-active"],
        allow_foreign_data=v["allow-foreign-data"],
        keep_partial=v["keep-partial"],
        mode_z=v["mode-z"],
        fallback_encoding=v["fallback-encoding"],
        proxies=v["proxy-protocol"],
        transfer_rate=v["transfer-bwlimit"],
        user_rate=v["user-bwlimit"],
        transfer_log=v["transfer-log"],
        transfer_log_json=v["transfer-log-format"] == "json",
        acknowledge=Acknowledge(v["ftp-upload-ack"]),
    )


def _banner(text: str) -> str:
    if not text.isprintable():
        raise Refused("--banner: one line of printable characters")
    return text


def _tls_settings(v: Mapping[str, Any]) -> TlsSettings:
    certificate, key = v["cert"], v["key"]
    if key is not None and certificate is None:
        raise Refused("--key needs --cert")
    mode = TlsMode(v["tls"] or ("off" if certificate is None else "explicit"))
    if mode is TlsMode.OFF and v["addr-implicit"]:
        raise Refused("--addr-implicit needs TLS: give --cert, and --key")
    if mode is not TlsMode.OFF and certificate is None:
        raise Refused(f"--tls {mode.value} needs --cert, and --key if the key is in a file of its own")
    return TlsSettings(
        mode=mode,
        certificate=certificate,
        key=key,
        minimum=v["min-tls"],
        require_reuse=v["tls-session-reuse"] == "require",
        client_authority=v["client-ca"],
        strict_end=v["tls-strict-end"],
    )


def _password(v: Mapping[str, Any]) -> str:
    if v["pass"]:
        return str(v["pass"])
    file: Path | None = v["pass-file"]
    if file is None:
        return os.environ.get("PORTSIDE_PASS", "")
    try:
        lines = file.read_text(errors="surrogateescape").splitlines()
    except OSError as problem:
        raise Refused(f"--pass-file {file}: {problem.strerror}") from None
    if not lines or not lines[0]:
        raise Refused(f"--pass-file {file}: the first line is empty")
    return lines[0]


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _authenticator(core: Core, provider: Vfs | Mapping[str, str] | None, v: Mapping[str, Any]) -> Authenticator:
    command = str(v["auth-proxy"])
    if isinstance(provider, Vfs):
        if command:
            raise Refused("--auth-proxy says which storage each user gets; name no remote with it")
        return SingleUser(provider, str(v["user"]), _password(v))
    if not command:
        raise Refused("a remote is needed, or --auth-proxy")
    if v["pass"] or v["user"] != "anonymous":
        raise Refused("--user and --pass have no meaning with --auth-proxy, which decides")
    settings = ProxySettings.of(
        command, ProxyMode(v["auth-proxy-mode"]), v["auth-proxy-timeout"], v["auth-proxy-cache"]
    )
    return AuthProxy(core, settings, provider or {})


async def serve_ftp(
    core: Core,
    provider: Vfs | Mapping[str, str] | None,
    values: Mapping[str, object],
    *,
    task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. ``started`` gets the hosts and ports that are really listened on.

    ``provider`` is the storage to serve, or with ``--auth-proxy`` the texts of the VFS options for the
    storages that it names. Cancelled, it takes no new sessions, aborts transfers (an upload that has come in
    completely is still committed) and returns when the last session has ended.
    """
    try:  # here, so that the options can be shown where the library is not installed
        from .server import Server
    except ModuleNotFoundError as problem:
        raise Refused(f"ftp needs the Python package {problem.name!r}: pip install 'portside[ftp]'") from None
    settings = ftp_settings(values)
    authenticator = _authenticator(core, provider, values)
    if isinstance(authenticator, SingleUser) and authenticator.open_to_all:
        for host in [host for host, _ in (*settings.addresses, *settings.implicit_addresses) if not _is_local(host)]:
            log.warning(
                "ANYBODY who reaches %s can read and change everything: set --pass or --auth-proxy, or listen on "
                "localhost", host or "this machine",
            )  # fmt: skip
    bridge = Bridge(ThreadPortal(core.token), object(), core.door)
    server = await trio.to_thread.run_sync(Server, settings, authenticator, bridge)
    core.door.open()
    async with trio.open_nursery() as nursery:
        try:
            if isinstance(authenticator, AuthProxy):
                nursery.start_soon(authenticator.run)
            server.start()
            for host, port in server.addresses:
                log.info("FTP server listens on %s port %d", host, port)
            task_status.started(server.addresses)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await _stop(server, bridge)
                core.door.close()


async def _stop(server: Server, bridge: Bridge) -> None:
    """In this order: nobody new, sessions end, what they wait for is cancelled, addresses are let go."""
    server.stop_accepting()
    bridge.release()
    if not await trio.to_thread.run_sync(server.wait, GRACE):
        await bridge.close()
        await trio.to_thread.run_sync(server.wait, GRACE)
    await trio.to_thread.run_sync(server.close)
    await bridge.close()

"""What a user can say about an SFTP server, as in rclone.conf; parsed and checked once. Pure but for key files.

The names, grammar and help texts that users see are in :mod:`mountcore.remotes.facts`.
"""

from __future__ import annotations

import enum
import getpass
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

from ...errors import Refused
from ...quantity import parse_size
from ..values import duration, flag, number

DEFAULT_PORT = 22
DEFAULT_CONNECTIONS = 4
DEFAULT_CHUNK = 255 << 10
"""The most that OpenSSH's server takes in one message; a server that says less gets less."""


class HostKeys(enum.Enum):
    """What to do about the host key of a server; the words are those of ssh_config(5)."""

    KNOWN = "yes"
    NEW = "accept-new"
    ANY = "no"


class Shell(enum.Enum):
    """What answers a command on the server."""

    PROBE = ""
    UNIX = "unix"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SftpOptions:
    """One SSH server and how to talk to it. Secrets are in no repr."""

    host: str
    port: int | None = None
    """None: what ``~/.ssh/config`` says, else 22."""
    user: str = ""
    """Empty: what ``~/.ssh/config`` says, else the user that runs this."""
    password: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)
    key_file: str = ""
    key_passphrase: str = field(default="", repr=False)
    certificate_file: str = ""
    use_agent: bool = False
    known_hosts: str = ""
    host_keys: HostKeys = HostKeys.KNOWN
    host_key_algorithms: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    key_exchange: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()
    insecure: bool = False
    ssh_config: str = "~/.ssh/config"
    """Empty: none."""
    shell: Shell = Shell.PROBE
    hash_commands: tuple[tuple[str, str], ...] = ()
    """Algorithm and command, where the user named one; an empty command is none."""
    path_override: str = ""
    set_mtime: bool = True
    skip_links: bool = False
    owners: bool = False
    sync: bool = True
    chunk: int = DEFAULT_CHUNK
    requests: int = 64
    parallel_reads: bool = True
    parallel_writes: bool = True
    connections: int = DEFAULT_CONNECTIONS
    environment: tuple[tuple[str, str], ...] = ()
    connect_timeout: float = 60.0
    timeout: float = 60.0
    idle_timeout: float | None = 60.0

    @property
    def address(self) -> str:
        """``host:port`` for messages and the identity."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port or DEFAULT_PORT}"

    def identity(self, root: str) -> str:
        """Which files these are, without secrets."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"sftp://{user}{self.address}/{root}"


_flag, _number, _duration = partial(flag, "sftp"), partial(number, "sftp"), partial(duration, "sftp")


def parse(values: dict[str, str]) -> SftpOptions:
    """Typed options; raises :class:`Refused` naming the option and what it accepts. May ask for a password."""
    host = values["host"].strip().removeprefix("[").removesuffix("]")
    if not host or any(c in host for c in "/@ \r\n\0") or host.count(":") == 1:
        raise Refused(f"sftp: host {values['host']!r} is not a host name or address (the port is an option of its own)")
    user, password = values.get("user", ""), values.get("pass", "")
    for name, text in (("user", user), ("pass", password)):
        if "\0" in text or "\n" in text:
            raise Refused(f"sftp: {name} cannot have a line break or NUL in it")
    if not password and _flag(values, "ask_password"):
        if not sys.stdin.isatty():
            raise Refused("sftp: ask_password needs a terminal; set pass, or run in one")
        password = getpass.getpass(f"Password of {user or getpass.getuser()} at {host}: ")
    if values.get("key_file") and values.get("key_pem"):
        raise Refused("sftp: key_file and key_pem exclude each other: both are the private key")
    for name in ("key_file", "pubkey_file", "known_hosts_file"):
        path = os.path.expanduser(values.get(name, ""))
        if path and name != "known_hosts_file" and not os.access(path, os.R_OK):
            raise Refused(f"sftp: {name}: {path} cannot be read")
    if values.get("pubkey_file") and not (values.get("key_file") or values.get("key_pem")):
        raise Refused("sftp: pubkey_file is a certificate for key_file or key_pem, and needs one of them")
    ssh_config = values.get("ssh_config", "") or "~/.ssh/config"
    return SftpOptions(
        host=host,
        port=_number(values, "port", 1, 65535) if values.get("port") else None,
        user=user,
        password=password,
        key_pem=values.get("key_pem", "").replace("\\n", "\n"),
        key_file=os.path.expanduser(values.get("key_file", "")),
        key_passphrase=values.get("key_file_pass", ""),
        certificate_file=os.path.expanduser(values.get("pubkey_file", "")),
        use_agent=_flag(values, "key_use_agent"),
        known_hosts=os.path.expanduser(values.get("known_hosts_file", "")),
        host_keys=_choice(values, "strict_host_key_checking", HostKeys, HostKeys.KNOWN),
        host_key_algorithms=_words(values, "host_key_algorithms"),
        ciphers=_words(values, "ciphers"),
        key_exchange=_words(values, "key_exchange"),
        macs=_words(values, "macs"),
        insecure=_flag(values, "use_insecure_cipher"),
        ssh_config="" if ssh_config == "none" else os.path.expanduser(ssh_config),
        shell=Shell.NONE if _flag(values, "disable_hashcheck") else _shell(values),
        hash_commands=tuple(_hash_commands(values)),
        path_override=values.get("path_override", "").rstrip("/"),
        set_mtime=_flag(values, "set_modtime", True),
        skip_links=_flag(values, "skip_links"),
        owners=_flag(values, "owners"),
        sync=_flag(values, "sync", True),
        chunk=_size(values, "chunk_size", DEFAULT_CHUNK),
        requests=_number(values, "concurrency", 1, 1024) if values.get("concurrency") else 64,
        parallel_reads=not _flag(values, "disable_concurrent_reads"),
        parallel_writes=not _flag(values, "disable_concurrent_writes"),
        connections=_number(values, "connections", 0, 64) or DEFAULT_CONNECTIONS,
        environment=tuple(_environment(values)),
        connect_timeout=_duration(values, "connect_timeout", 60.0),
        timeout=_duration(values, "timeout", 60.0),
        idle_timeout=_duration(values, "idle_timeout", 60.0) or None,
    )


def _size(values: dict[str, str], name: str, default: int) -> int:
    text = values.get(name, "")
    if not text:
        return default
    try:
        size = parse_size(text)
    except Refused as problem:
        raise Refused(f"sftp: {name}: {problem}") from None
    if size is None or not 1 << 10 <= size <= DEFAULT_CHUNK:
        raise Refused(f"sftp: {name} is from 1Ki to 255Ki, not {text}: servers close the connection on more")
    return size


def _choice(values: dict[str, str], name: str, kind: type[HostKeys], default: HostKeys) -> HostKeys:
    text = values.get(name, "").strip().lower()
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(repr(one.value) for one in kind)
        raise Refused(f"sftp: {name} is one of {known}, not {text!r}") from None


def _shell(values: dict[str, str]) -> Shell:
    text = values.get("shell_type", "").strip().lower()
    if text in ("powershell", "cmd"):
        return Shell.NONE  # hashes come from Unix programs; everything else needs no shell
    try:
        return Shell(text)
    except ValueError:
        raise Refused(f"sftp: shell_type is unix, powershell, cmd or none, not {text!r}") from None


def _words(values: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(values.get(name, "").replace(",", " ").split())


def _hash_commands(values: dict[str, str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for algorithm in ("md5", "sha1", "sha256"):
        if command := values.get(f"{algorithm}sum_command", "").strip():
            found.append((algorithm, "" if command == "none" else command))
    return found


def _environment(values: dict[str, str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word in values.get("set_env", "").split():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Refused(f"sftp: set_env is NAME=value, several with blanks between; {word!r} is not")
        found.append((name, value))
    return found

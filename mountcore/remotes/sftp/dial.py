"""Making SSH connections: whom to trust, how to log in, and what to say when it fails. Runs on the asyncio loop.

A host key is trusted if ``known_hosts`` has it. An unknown one is refused with its fingerprint and the remedy, or
with ``strict_host_key_checking = accept-new`` written down and trusted from then on; a *changed* one never is.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import asyncssh

from ...errors import Corrupt, Denied, Refused, StorageError, TimedOut, Unreachable, Unsupported
from .options import DEFAULT_PORT, HostKeys, SftpOptions

FAST = "aes128-gcm@openssh.com"
"""486 MB/s on loopback, where asyncssh's own first choice reads 188."""
OLD_CIPHERS = "+aes128-cbc,aes192-cbc,aes256-cbc,3des-cbc"
OLD_EXCHANGES = "+diffie-hellman-group-exchange-sha1,diffie-hellman-group14-sha1,diffie-hellman-group1-sha1"
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
WINDOW = 4 << 20
PACKET = 256 << 10
KEEPALIVE = 15.0
"""Seconds of silence after which the server is asked for a sign of life; three without one end the connection."""


@final
class Dialer:
    """Makes connections to one server."""

    def __init__(self, options: SftpOptions) -> None:
        """Reads the key files; raises :class:`Refused` for those that cannot be used."""
        asyncssh.set_log_level("WARNING")
        self._options = options
        self._arguments = _arguments(options)

    async def connect(self, lost: Callable[[], None]) -> asyncssh.SSHClientConnection:
        """A connection, logged in; ``lost`` is called when it ends. Bounded; raises StorageError."""
        try:
            return await self._connect(lost, {})
        except StorageError:  # some of ours are ConnectionErrors, too
            raise
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionError) as problem:
            # asked for the kinds of keys that known_hosts has; if there is none of them, look at what there is
            if self._options.host_key_algorithms or self._options.host_keys is HostKeys.ANY:
                raise login_error(problem, self._options) from None
        try:
            return await self._connect(lost, {"server_host_key_algs": "default"})
        except StorageError:
            raise
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionError) as problem:
            raise login_error(problem, self._options) from None

    async def _connect(self, lost: Callable[[], None], more: dict[str, Any]) -> asyncssh.SSHClientConnection:
        options = self._options
        client: _Client | None = None

        def made() -> asyncssh.SSHClient:
            nonlocal client
            client = _Client(options, files, lost)
            return client

        try:
            async with asyncio.timeout(options.connect_timeout):
                ciphers, files = self._from_config()
                known = () if options.host_keys is HostKeys.ANY else asyncssh.read_known_hosts(files)
                return await asyncssh.connect(
                    options.host,
                    **self._arguments | ({"encryption_algs": ciphers} if ciphers else {}) | more,
                    known_hosts=None if options.host_keys is HostKeys.ANY else known,
                    client_factory=made,
                )
        except (asyncssh.Error, OSError, ValueError) as problem:
            if client is not None and client.refusal:
                raise Denied("", client.refusal) from None
            if isinstance(problem, asyncssh.KeyExchangeFailed | asyncssh.ConnectionLost | ConnectionError):
                raise
            raise login_error(problem, options) from None

    def _from_config(self) -> tuple[Sequence[str], list[str]]:
        """Which ciphers to ask for, () for what the configuration says; the known_hosts files that exist."""
        resolved = asyncssh.SSHClientConnectionOptions(host=self._options.host, **self._arguments)
        usual = asyncssh.SSHClientConnectionOptions(config=None, client_keys=None).encryption_algs
        ciphers: Sequence[str] = ()
        if list(resolved.encryption_algs) == list(usual):
            names = [name.decode("ascii") for name in usual]
            ciphers = sorted(names, key=lambda name: name != FAST)
        if self._options.known_hosts:
            files = [self._options.known_hosts]
        else:
            configured: Any = resolved.known_hosts
            files = list(configured) if configured else []
            if not files and configured is not None:
                files = [os.path.expanduser("~/.ssh/known_hosts"), SYSTEM_KNOWN_HOSTS]
        return ciphers, [file for file in files if os.access(os.path.expanduser(file), os.R_OK)]


@final
class _Client(asyncssh.SSHClient):
    """What asyncssh asks and tells during one connection."""

    def __init__(self, options: SftpOptions, files: list[str], lost: Callable[[], None]) -> None:
        self.refusal = ""
        self._options = options
        self._files = files
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked for a key that is not in ``known_hosts``."""
        name = host if port == DEFAULT_PORT else f"[{host}]:{port}"
        print_ = f"{key.get_algorithm()} {key.get_fingerprint()}"
        where = self._options.known_hosts or "~/.ssh/known_hosts"
        known = asyncssh.read_known_hosts(self._files).match(host, addr, None if port == DEFAULT_PORT else port)
        if known[0]:
            self.refusal = (
                f"the host key of {name} has CHANGED to {print_}: somebody may be listening in; if the change is "
                f"right, remove the old key: ssh-keygen -R '{name}' -f {where}"
            )
            return False
        if self._options.host_keys is HostKeys.NEW:
            return self._remember(name, key, Path(where).expanduser())
        self.refusal = (
            f"the host key of {name} is not known: {print_}; compare this with the server's, then add it: "
            f"ssh-keyscan -p {port} {host} >> {where}, or set strict_host_key_checking = accept-new"
        )
        return False

    def _remember(self, name: str, key: asyncssh.SSHKey, file: Path) -> bool:
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file.open("a+b") as known:
                if known.tell():
                    known.seek(-1, os.SEEK_END)
                    if known.read(1) != b"\n":
                        known.write(b"\n")
                known.write(name.encode() + b" " + b" ".join(key.export_public_key().split()[:2]) + b"\n")
        except OSError as problem:
            self.refusal = f"the host key of {name} cannot be written down in {file}: {problem.strerror}"
            return False
        return True


def _arguments(options: SftpOptions) -> dict[str, Any]:
    """What asyncssh is told, but for the host keys. What the user did not say is left to ``~/.ssh/config``."""
    config = options.ssh_config if options.ssh_config and os.path.exists(options.ssh_config) else None
    found: dict[str, Any] = {
        "config": [config] if config else None,
        "connect_timeout": options.connect_timeout,
        "login_timeout": options.connect_timeout,
        "window": WINDOW,
        "max_pktsize": PACKET,
    }
    if config is None:
        found |= {"keepalive_interval": KEEPALIVE}
    if options.port is not None:
        found["port"] = options.port
    if options.user:
        found["username"] = options.user
    if options.ciphers:
        found["encryption_algs"] = list(options.ciphers)
    elif options.insecure:
        found["encryption_algs"] = OLD_CIPHERS
    if options.key_exchange:
        found["kex_algs"] = list(options.key_exchange)
    elif options.insecure:
        found["kex_algs"] = OLD_EXCHANGES
    if options.macs:
        found["mac_algs"] = list(options.macs)
    if options.host_key_algorithms:
        found["server_host_key_algs"] = list(options.host_key_algorithms)
    found |= _credentials(options)
    try:
        asyncssh.SSHClientConnectionOptions(host=options.host, **found)
    except ValueError as problem:
        raise Refused(f"sftp: {problem}; see the options ciphers, key_exchange, macs, host_key_algorithms") from None
    except (asyncssh.Error, OSError) as problem:
        raise Refused(f"sftp: {config or 'the SSH configuration'}: {problem}") from None
    return found


def _credentials(options: SftpOptions) -> dict[str, Any]:
    """With a key or password, only these are shown to the server: it counts every key of an agent as a failure."""
    found: dict[str, Any] = {}
    if options.password:
        found["password"] = options.password
    if options.use_agent:
        if not os.environ.get("SSH_AUTH_SOCK") and not options.ssh_config:
            raise Refused("sftp: key_use_agent needs a running ssh-agent: SSH_AUTH_SOCK is not set")
        found["client_keys"] = None
        if options.key_file:
            try:
                found["agent_identities"] = [asyncssh.read_public_key(f"{options.key_file}.pub")]
            except (OSError, asyncssh.KeyImportError) as problem:
                raise Refused(
                    f"sftp: key_use_agent with key_file picks the agent's key by {options.key_file}.pub: {problem}"
                ) from None
        return found | {"client_keys": ()}
    if options.key_file or options.key_pem:
        key = _private_key(options)
        try:
            certificate = options.certificate_file and asyncssh.read_certificate(options.certificate_file)
        except (OSError, asyncssh.KeyImportError) as problem:
            raise Refused(f"sftp: pubkey_file {options.certificate_file}: {problem}") from None
        return found | {"client_keys": [(key, certificate) if certificate else key], "agent_path": None}
    if options.password:
        return found | {"client_keys": None, "agent_path": None}
    return found


def _private_key(options: SftpOptions) -> asyncssh.SSHKey:
    what = f"key_file {options.key_file}" if options.key_file else "key_pem"
    try:
        data = Path(options.key_file).read_bytes() if options.key_file else options.key_pem.encode()
        return asyncssh.import_private_key(data, options.key_passphrase or None)
    except asyncssh.KeyEncryptionError as problem:
        if "available" in str(problem):
            raise Refused(f"sftp: {what}: {problem}; pip install 'portside[sftp]'") from None
        raise Refused(f"sftp: {what}: key_file_pass is not its passphrase") from None
    except asyncssh.KeyImportError as problem:
        if "passphrase" in str(problem).lower():
            raise Refused(f"sftp: {what} is encrypted; set key_file_pass, or use an agent (key_use_agent)") from None
        raise Refused(f"sftp: {what} is not a private key in a form that is known: {problem}") from None
    except OSError as problem:
        raise Refused(f"sftp: {what}: {problem.strerror}") from None


def login_error(problem: Exception, options: SftpOptions) -> StorageError:
    """Why there is no connection, in our terms."""
    at, who = options.address, options.user or "the user"
    match problem:
        case TimeoutError():
            return TimedOut("", f"{at} did not let us in within {options.connect_timeout:g} s")
        case asyncssh.PermissionDenied():
            return Denied("", f"the login of {who} at {at} was refused; offered were {_offered(options)}")
        case asyncssh.HostKeyNotVerifiable():
            return Denied("", f"{at}: {problem.reason}")
        case asyncssh.KeyExchangeFailed():
            return Unsupported("", f"{at}: {problem.reason}; see host_key_algorithms, ciphers, key_exchange, macs")
        case socket.gaierror():
            return Unreachable("", f"{at}: the name cannot be resolved: {problem.strerror}")
        case asyncssh.ProtocolError() | asyncssh.ProtocolNotSupported() | asyncssh.MACError():
            return Corrupt("", f"{at} does not speak SSH as expected: {problem.reason}")
        case asyncssh.Error():
            return Unreachable("", f"{at}: {problem.reason}")
        case OSError():
            return Unreachable("", f"{at}: {problem.strerror or problem}")
        case _:
            return Denied("", f"{at}: {problem}")


def _offered(options: SftpOptions) -> str:
    words = ["a password"] if options.password else []
    if options.use_agent:
        words.append("the agent's keys")
    elif options.key_file or options.key_pem:
        words.append(options.key_file or "key_pem")
    elif not options.password:
        words.append("the agent's keys and those in ~/.ssh; set pass, key_file or key_use_agent")
    return " and ".join(words)

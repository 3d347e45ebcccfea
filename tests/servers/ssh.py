"""The SFTP servers: OpenSSH with a shell and without one, proftpd's mod_sftp, asyncssh's own, ``rclone serve sftp``."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .ftp import ACCOUNT, PASSWORD, USER, hashed_password, proftpd_settings
from .process import ServerProcess, find_program, free_port


@dataclass(frozen=True)
class SshServer:
    """A running server. ``root`` is the folder for tests, as seen on this machine; ``prefix`` its path there."""

    name: str
    port: int
    user: str
    root: Path
    prefix: str
    login: Mapping[str, str]
    scratch: Path
    process: ServerProcess
    kind: str = "sftp"
    account: str = ""
    """The account of the system that it works as, where that is not ours."""
    host: str = "127.0.0.1"
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, str]:
        """What `open_remote` needs for it."""
        return {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "known_hosts_file": str(self.scratch / "known_hosts"),
            "ssh_config": "none",
            **self.login,
            **self.extra,
        }

    def stop(self) -> None:
        """Kill it; the port refuses connections from now on."""
        self.process.stop()

    def start(self) -> None:
        """Start it again, on the same port."""
        self.process.start()


@dataclass(frozen=True)
class _Place:
    scratch: Path
    root: Path
    port: int
    host_key: Path
    user_key: Path

    def write(self, name: str, lines: Iterable[str], mode: int = 0o600) -> Path:
        path = self.scratch / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(mode)
        return path


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """A key pair: ``path`` and ``path.pub``."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@contextmanager
def _place() -> Iterator[_Place]:
    scratch = Path(tempfile.mkdtemp(prefix="portside-ssh-"))
    try:
        scratch.chmod(0o755)
        root = scratch / "root"
        root.mkdir()
        port = free_port()
        host_key, user_key = make_key(scratch / "host"), make_key(scratch / "user")
        place = _Place(scratch, root, port, host_key, user_key)
        place.write("known_hosts", [f"[127.0.0.1]:{port} {host_key.with_suffix('.pub').read_text().strip()}"])
        yield place
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _running(
    name: str, place: _Place, command: list[str], user: str, login: Mapping[str, str], prefix: str, account: str = ""
) -> Iterator[SshServer]:
    process = ServerProcess(command, place.port, place.scratch / "log", greets=True, greeting=b"SSH")
    process.start()
    try:
        yield SshServer(name, place.port, user, place.root, prefix, login, place.scratch, process, account=account)
    finally:
        process.stop()


@contextmanager
def sshd(*, shell: bool = True, lines: Iterable[str] = ()) -> Iterator[SshServer]:
    """OpenSSH's server with a log-in by key. Without ``shell``, SFTP is all that it does, as another user
    (which takes root)."""
    program = find_program("sshd")
    with _place() as place:
        user = getpass.getuser() if shell else ACCOUNT
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        if not shell:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(place.root, account.pw_uid, account.pw_gid)
        keys = place.write("authorized_keys", [place.user_key.with_suffix(".pub").read_text().strip()], 0o644)
        settings = [
            f"Port {place.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {place.host_key}",
            f"AuthorizedKeysFile {keys}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "UseDNS no",
            "MaxStartups 50",
            "SetEnv SHLVL=5",  # bash reads no .bashrc then: whatever is in there is not ours to run
            "Subsystem sftp internal-sftp" if not shell else "Subsystem sftp /usr/lib/openssh/sftp-server",
            *([] if shell else ["ForceCommand internal-sftp"]),
        ]
        config = place.write("sshd_config", [*lines, *settings])
        command = [program, "-D", "-e", "-f", str(config)]
        login = {"key_file": str(place.user_key)}
        name, works_as = ("sshd", "") if shell else ("sshd-no-shell", ACCOUNT)
        with _running(name, place, command, user, login, str(place.root), works_as) as server:
            yield server


@contextmanager
def proftpd_sftp(*, extensions: str = "") -> Iterator[SshServer]:
    """proftpd's mod_sftp with a log-in by password; ``extensions`` as in its directive SFTPExtensions."""
    program = find_program("proftpd")
    with _place() as place:
        if os.geteuid() != 0:
            raise RuntimeError("this server can be tested by root only: it changes its user")
        account = pwd.getpwnam(ACCOUNT)
        os.chown(place.root, account.pw_uid, account.pw_gid)
        users = place.write(
            "users", [f"{USER}:{hashed_password()}:{account.pw_uid}:{account.pw_gid}::{place.root}:/bin/sh"]
        )
        settings = [
            *proftpd_settings(place.port, place.scratch, users),
            "LoadModule mod_sftp.c",
            "SFTPEngine on",
            f"SFTPHostKey {place.host_key}",
            f"SFTPLog {place.scratch}/sftp.log",
            "SFTPAuthMethods password",
            *([f"SFTPExtensions {extensions}"] if extensions else []),
        ]
        config = place.write("proftpd.conf", settings)
        command = [program, "-n", "-q", "-c", str(config)]
        with _running("proftpd-sftp", place, command, USER, {"pass": PASSWORD}, "/", ACCOUNT) as server:
            yield server


@contextmanager
def asyncssh_server() -> Iterator[SshServer]:
    """asyncssh's own server, with a log-in by password (and keyboard-interactive)."""
    with _place() as place:
        config = {"port": place.port, "root": str(place.root), "user": USER, "password": PASSWORD,
                  "host_key": str(place.host_key)}  # fmt: skip
        main = str(Path(__file__).with_name("asyncssh_main.py"))
        command = [sys.executable, main, json.dumps(config)]
        with _running("asyncssh", place, command, USER, {"pass": PASSWORD}, "/") as server:
            yield server


@contextmanager
def rclone_sftp() -> Iterator[SshServer]:
    """``rclone serve sftp`` of a local folder."""
    program = find_program("rclone")
    with _place() as place:
        config = place.write("rclone.conf", ())
        command = [
            program, "serve", "sftp", str(place.root), "--config", str(config), "--cache-dir", str(place.scratch / "c"),
            "--addr", f"127.0.0.1:{place.port}", "--user", USER, "--pass", PASSWORD, "--key", str(place.host_key),
            "--vfs-cache-mode", "writes", "--vfs-write-back", "0", "--dir-cache-time", "1ms",
        ]  # fmt: skip
        with _running("rclone-sftp", place, command, USER, {"pass": PASSWORD}, "") as server:
            yield server


SSH_SERVERS: dict[str, Callable[[], AbstractContextManager[SshServer]]] = {
    "sshd": sshd,
    "sshd-no-shell": lambda: sshd(shell=False),
    "proftpd-sftp": proftpd_sftp,
    "proftpd-sftp-plain": lambda: proftpd_sftp(extensions="-posixRename -hardlink -statvfs -fsync"),
    "asyncssh": asyncssh_server,
    "rclone-sftp": rclone_sftp,
}
"""Every SFTP server by name."""

"""The FTP servers themselves: pyftpdlib, vsftpd, proftpd, pure-ftpd and ``rclone serve ftp``."""

from __future__ import annotations

import enum
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .certificate import Certificate, make_certificate
from .install import PREFIX
from .process import ServerProcess, find_program, free_port

LOOPBACK = "127.0.0.1"
USER = "harbour"
ACCOUNT = "daemon"
"""Not nobody: it has no home, which vsftpd insists on."""
PASSWORD = "p a:ss/wörd@%"


class Tls(enum.Enum):
    """How a server encrypts; when it does, it insists."""

    NONE = "none"
    EXPLICIT = "explicit"
    IMPLICIT = "implicit"


@dataclass(frozen=True)
class FtpServer:
    """A running server. ``root`` is the folder it serves, as seen on this machine."""

    name: str
    host: str
    port: int
    user: str
    password: str
    root: Path
    tls: Tls
    certificate: Certificate | None
    process: ServerProcess

    @property
    def options(self) -> dict[str, str]:
        """What `open_remote` needs for it."""
        values = {"host": self.host, "port": str(self.port), "user": self.user, "pass": self.password}
        if self.certificate is not None:
            values["ca_cert"] = str(self.certificate.authority)
        if self.tls is not Tls.NONE:
            values["explicit_tls" if self.tls is Tls.EXPLICIT else "tls"] = "true"
        return values

    def stop(self) -> None:
        """Kill it; the port refuses connections from now on."""
        self.process.stop()

    def start(self) -> None:
        """Start it again, on the same port."""
        self.process.start()


@dataclass(frozen=True)
class _Place:
    """A server's scratch folder."""

    scratch: Path
    root: Path
    port: int
    tls: Tls
    certificate: Certificate | None
    host: str

    @property
    def v6(self) -> bool:
        return ":" in self.host

    @property
    def bracketed(self) -> str:
        return f"[{self.host}]" if self.v6 else self.host

    def write(self, name: str, lines: Iterable[str], mode: int = 0o600) -> Path:
        path = self.scratch / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(mode)
        return path


@contextmanager
def _place(tls: Tls, host: str = LOOPBACK) -> Iterator[_Place]:
    scratch = Path(tempfile.mkdtemp(prefix="portside-server-"))
    try:
        scratch.chmod(0o755)
        root = scratch / "root"
        root.mkdir()
        certificate = make_certificate(scratch) if tls is not Tls.NONE else None
        yield _Place(scratch, root, free_port(host), tls, certificate, host)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _running(name: str, place: _Place, command: list[str]) -> Iterator[FtpServer]:
    greets = place.tls is not Tls.IMPLICIT
    process = ServerProcess(command, place.port, place.scratch / "log", greets=greets, host=place.host)
    process.start()
    try:
        yield FtpServer(name, place.host, place.port, USER, PASSWORD, place.root, place.tls, place.certificate, process)
    finally:
        process.stop()


def _unprivileged(*paths: Path) -> pwd.struct_passwd:
    """The account that servers change to; gives it the paths. Only root can change to it."""
    if os.geteuid() != 0:
        raise RuntimeError("this FTP server can be tested by root only: it changes its user")
    account = pwd.getpwnam(ACCOUNT)
    for path in paths:
        os.chown(path, account.pw_uid, account.pw_gid)
    return account


def hashed_password() -> str:
    """`PASSWORD`, as files of accounts hold it."""
    command = ["openssl", "passwd", "-1", "-stdin"]
    done = subprocess.run(command, input=PASSWORD.encode(), capture_output=True, check=True)
    return done.stdout.decode().strip()


@contextmanager
def pyftpdlib(
    *,
    tls: Tls = Tls.NONE,
    without: Iterable[str] = (),
    masquerade: str | None = None,
    max_per_ip: int = 0,
    host: str = LOOPBACK,
    dos: bool = False,
    pret: bool = False,
) -> Iterator[FtpServer]:
    """pyftpdlib in a process of its own, optionally without some commands, with DOS listings, or wanting PRET."""
    with _place(tls, host) as place:
        config = {
            "host": host,
            "dos": dos,
            "pret": pret,
            "port": place.port,
            "root": str(place.root),
            "user": USER,
            "password": PASSWORD,
            "without": list(without),
            "masquerade": masquerade,
            "max_per_ip": max_per_ip,
            "certificate": str(place.certificate.combined) if place.certificate else None,
        }
        main = str(Path(__file__).with_name("pyftpdlib_main.py"))
        with _running("pyftpdlib", place, [sys.executable, main, json.dumps(config)]) as server:
            yield server


@contextmanager
def vsftpd(
    *, tls: Tls = Tls.NONE, config: Mapping[str, str] | None = None, host: str = LOOPBACK
) -> Iterator[FtpServer]:
    """vsftpd with one guest user. LIST only: no MLSD. It takes any password: what is in PAM to check one
    needs an account of the system, or breaks vsftpd (pam_exec takes its SIGCHLD)."""
    program = find_program("vsftpd")
    with _place(tls, host) as place:
        _unprivileged(place.root)
        pam = Path(f"/etc/pam.d/portside-test-{place.port}")
        pam.write_text(
            f"auth requisite pam_succeed_if.so quiet user = {USER}\nauth required pam_permit.so\n"
            "account required pam_permit.so\n"
        )
        (place.scratch / "empty").mkdir(mode=0o555)
        values = {
            **(
                {"listen": "NO", "listen_ipv6": "YES", "listen_address6": host}
                if place.v6
                else {"listen": "YES", "listen_address": host}
            ),
            "listen_port": str(place.port),
            "background": "NO",
            "anonymous_enable": "NO",
            "local_enable": "YES",
            "guest_enable": "YES",
            "guest_username": ACCOUNT,
            "virtual_use_local_privs": "YES",
            "local_root": str(place.root),
            "chroot_local_user": "YES",
            "allow_writeable_chroot": "YES",
            "write_enable": "YES",
            "local_umask": "022",
            "pam_service_name": pam.name,
            "secure_chroot_dir": str(place.scratch / "empty"),
            "seccomp_sandbox": "NO",
            "isolate": "NO",
            "isolate_network": "NO",
            "delay_failed_login": "0",
            "xferlog_enable": "NO",
        }
        if place.certificate is not None:
            values |= {
                "ssl_enable": "YES",
                "force_local_logins_ssl": "YES",
                "force_local_data_ssl": "YES",
                "ssl_ciphers": "HIGH",
                "rsa_cert_file": str(place.certificate.combined),
                "implicit_ssl": "YES" if tls is Tls.IMPLICIT else "NO",
            }
        lines = [f"{key}={value}" for key, value in (values | dict(config or {})).items()]
        path = place.write("vsftpd.conf", lines)
        try:
            with _running("vsftpd", place, [program, str(path)]) as server:
                yield server
        finally:
            pam.unlink()


def proftpd_settings(
    port: int, scratch: Path, users: Path, *, host: str = LOOPBACK, v6: bool = False, overwrite: bool = True
) -> list[str]:
    """What every proftpd for tests is told, whatever it speaks."""
    modules = next(p for p in (PREFIX / "usr/lib/proftpd", Path("/usr/lib/proftpd")) if p.is_dir())
    return [
        f"ModulePath {modules}",
        'ServerName "test"',
        "ServerType standalone",
        f"DefaultAddress {host}",
        f"Port {port}",
        "SocketBindTight on",
        f"UseIPv6 {'on' if v6 else 'off'}",
        "UseReverseDNS off",
        "DelayEngine off",
        "WtmpLog off",
        "TransferLog none",
        f"SystemLog {scratch}/system.log",
        f"PidFile {scratch}/pid",
        f"ScoreboardFile {scratch}/scoreboard",
        f"User {ACCOUNT}",
        f"Group {ACCOUNT}",
        "AuthOrder mod_auth_file.c",
        f"AuthUserFile {users}",
        "RequireValidShell off",
        "DefaultRoot ~",
        "Umask 022",
        "MaxInstances 60",
        f"AllowOverwrite {'on' if overwrite else 'off'}",
    ]


@contextmanager
def proftpd(
    *, tls: Tls = Tls.NONE, overwrite: bool = True, lines: Iterable[str] = (), host: str = LOOPBACK
) -> Iterator[FtpServer]:
    """proftpd; without ``overwrite`` it refuses every STOR and RNTO over an existing file."""
    program = find_program("proftpd")
    with _place(tls, host) as place:
        account = _unprivileged(place.root)
        users = place.write(
            "users", [f"{USER}:{hashed_password()}:{account.pw_uid}:{account.pw_gid}::{place.root}:/bin/sh"]
        )
        settings = [
            *proftpd_settings(place.port, place.scratch, users, host=host, v6=place.v6, overwrite=overwrite),
            "AllowStoreRestart on",
            "AllowRetrieveRestart on",
        ]
        if place.certificate is not None:
            settings += [
                "LoadModule mod_tls.c",
                "TLSEngine on",
                "TLSRequired on",
                f"TLSECCertificateFile {place.certificate.certificate}",
                f"TLSECCertificateKeyFile {place.certificate.key}",
                "TLSVerifyClient off",
                f"TLSLog {place.scratch}/tls.log",
            ]
            if tls is Tls.IMPLICIT:
                settings.append("TLSOptions UseImplicitSSL")
        path = place.write("proftpd.conf", [*filter(None, settings), *lines])
        with _running("proftpd", place, [program, "-n", "-q", "-c", str(path)]) as server:
            yield server


@contextmanager
def pure_ftpd(*, tls: Tls = Tls.NONE, arguments: Iterable[str] = (), host: str = LOOPBACK) -> Iterator[FtpServer]:
    """pure-ftpd with one virtual user (PureDB)."""
    program, manager = find_program("pure-ftpd"), find_program("pure-pw")
    with _place(tls, host) as place:
        account = _unprivileged(place.root)
        users, database = place.scratch / "users", place.scratch / "users.pdb"
        # written by hand: pure-pw would hash the password in a way that takes a second at every login
        user = f"{USER}:{hashed_password()}:{account.pw_uid}:{account.pw_gid}::{place.root}/./::::::::::::"
        place.write("users", [user])
        subprocess.run([manager, "mkdb", str(database), "-f", str(users)], check=True, capture_output=True)
        command = [program, "-S", f"{host},{place.port}", "-l", f"puredb:{database}", "-A", "-H", "-E", "-u", "1"]
        if place.certificate is not None:
            if tls is Tls.IMPLICIT:
                raise ValueError("pure-ftpd has no implicit TLS")
            command += ["-Y", "2", "-2", str(place.certificate.combined)]
        with _running("pure-ftpd", place, [*command, *arguments]) as server:
            yield server


@contextmanager
def rclone(*, tls: Tls = Tls.NONE, arguments: Iterable[str] = (), host: str = LOOPBACK) -> Iterator[FtpServer]:
    """``rclone serve ftp`` of a local folder. TLS is implicit only; there is no way to set times."""
    program = find_program("rclone")
    with _place(tls, host) as place:
        config = place.write("rclone.conf", ())
        command = [
            program, "serve", "ftp", str(place.root), "--config", str(config), "--cache-dir", str(place.scratch / "c"),
            "--addr", f"{place.bracketed}:{place.port}",
            "--user", USER, "--pass", PASSWORD, "--vfs-cache-mode", "writes",
            "--vfs-write-back", "0", "--dir-cache-time", "1ms",
        ]  # fmt: skip
        if place.certificate is not None:
            command += ["--cert", str(place.certificate.certificate), "--key", str(place.certificate.key)]
        with _running("rclone", place, [*command, *arguments]) as server:
            yield server


SERVERS: dict[str, Callable[[], AbstractContextManager[FtpServer]]] = {
    "pyftpdlib": pyftpdlib,
    "vsftpd": vsftpd,
    "proftpd": proftpd,
    "pure-ftpd": pure_ftpd,
    "rclone": rclone,
}
"""Every server in its plain form, by name."""

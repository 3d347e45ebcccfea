"""The web servers: WebDAV by Apache, WsgiDAV, rclone and copyparty; index pages by Apache, nginx, Python and rclone."""

from __future__ import annotations

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

from .certificate import Certificate, make_certificate
from .ftp import ACCOUNT, PASSWORD, USER
from .process import ServerProcess, find_program, free_port

MODULES = Path("/usr/lib/apache2/modules")


@dataclass(frozen=True)
class WebServer:
    """A running server. ``root`` is the folder that it serves at ``/``, as seen on this machine."""

    name: str
    port: int
    root: Path
    process: ServerProcess
    login: Mapping[str, str] = field(default_factory=dict)
    certificate: Certificate | None = None

    @property
    def options(self) -> dict[str, str]:
        """What `open_remote` needs for it."""
        scheme = "http" if self.certificate is None else "https"
        trust = {} if self.certificate is None else {"ca_cert": str(self.certificate.authority)}
        return {"url": f"{scheme}://127.0.0.1:{self.port}", **self.login, **trust}

    def stop(self) -> None:
        """Kill it; the port refuses connections from now on."""
        self.process.stop()

    def start(self) -> None:
        """Start it again, on the same port."""
        self.process.start()


@contextmanager
def _scratch() -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="portside-web-"))
    try:
        scratch.chmod(0o755)
        (scratch / "root").mkdir()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _running(
    name: str, scratch: Path, port: int, command: list[str], login: Mapping[str, str],
    certificate: Certificate | None = None,
) -> Iterator[WebServer]:  # fmt: skip
    process = ServerProcess(command, port, scratch / "log", greets=False)
    process.start()
    try:
        yield WebServer(name, port, scratch / "root", process, login, certificate)
    finally:
        process.stop()


def _owned(*paths: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)


@contextmanager
def apache(
    *, dav: bool = True, auth: str = "basic", tls: bool = False, lines: Iterable[str] = ()
) -> Iterator[WebServer]:
    """Apache with mod_dav, or with index pages; ``auth`` is basic, digest or empty."""
    program = find_program("apache2")
    with _scratch() as scratch:
        port, root = free_port(), scratch / "root"
        certificate = make_certificate(scratch) if tls else None
        (scratch / "locks").mkdir()
        _owned(root, scratch / "locks")
        passwords = scratch / "passwords"
        hashed = subprocess.run(
            ["openssl", "passwd", "-apr1", "-stdin"], input=PASSWORD.encode(), capture_output=True, check=True
        ).stdout.decode().strip()  # fmt: skip
        passwords.write_text(f"{USER}:{hashed}\n")
        if auth == "digest":
            import hashlib

            digest = hashlib.md5(f"{USER}:realm:{PASSWORD}".encode()).hexdigest()
            passwords.write_text(f"{USER}:realm:{digest}\n")
        passwords.chmod(0o644)
        names = ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "dir", "autoindex", "dav",
                 "dav_fs", "auth_basic", "auth_digest", "setenvif"]  # fmt: skip
        names += ["ssl", "socache_shmcb"] if tls else []
        settings = [
            *(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names),
            f"ServerRoot {scratch}",
            "ServerName localhost",
            f"Listen 127.0.0.1:{port}",
            f"PidFile {scratch}/pid",
            f"ErrorLog {scratch}/error.log",
            f"DavLockDB {scratch}/locks/db",
            f"DefaultRuntimeDir {scratch}",
            f"DocumentRoot {root}",
            "KeepAliveTimeout 30",
            "StartServers 1",
            "ThreadsPerChild 32",
            "MaxRequestWorkers 32",
            "AllowEncodedSlashes Off",
            "DirectoryIndex disabled",
            *([f"User {ACCOUNT}", f"Group {ACCOUNT}"] if os.geteuid() == 0 else []),
            f"<Directory {root}>",
            "Options Indexes",
            "IndexOptions FancyIndexing NameWidth=*",
            *(["Dav On"] if dav else []),
            *([f"AuthType {auth}", "AuthName realm", f"Auth{auth}Provider file", "Require valid-user"] if auth else
              ["Require all granted"]),
            *([f"AuthUserFile {passwords}"] if auth else []),
            "</Directory>",
            *lines,
        ]  # fmt: skip
        if certificate is not None:
            settings += ["SSLEngine on", f"SSLCertificateFile {certificate.certificate}",
                         f"SSLCertificateKeyFile {certificate.key}"]  # fmt: skip
        config = scratch / "apache.conf"
        config.write_text("\n".join(settings) + "\n")
        login = {"user": USER, "pass": PASSWORD} if auth else {}
        # a killed one that nobody has waited for yet counts as running to the next
        forget = ["sh", "-c", 'rm -f "$0"; exec "$@"', str(scratch / "pid")]
        command = [*forget, program, "-D", "FOREGROUND", "-f", str(config)]
        with _running("apache", scratch, port, command, login, certificate) as server:
            yield server


@contextmanager
def nginx() -> Iterator[WebServer]:
    """nginx with index pages."""
    program = find_program("nginx")
    with _scratch() as scratch:
        port, root = free_port(), scratch / "root"
        temporary = "".join(f"{name}_temp_path {scratch}/{name};" for name in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
        user = "user root;" if os.geteuid() == 0 else ""
        config = scratch / "nginx.conf"
        config.write_text(
            f"{user} daemon off; pid {scratch}/pid; error_log {scratch}/error.log; events {{}} http {{ access_log off; "
            f"{temporary} server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; }} }}\n"
        )
        with _running("nginx", scratch, port, [program, "-p", str(scratch), "-c", str(config)], {}) as server:
            yield server


@contextmanager
def python_http() -> Iterator[WebServer]:
    """``python -m http.server``: no ranges."""
    with _scratch() as scratch:
        port = free_port()
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "-d", str(scratch / "root"), str(port)]
        with _running("python", scratch, port, command, {}) as server:
            yield server


@contextmanager
def rclone_web(kind: str) -> Iterator[WebServer]:
    """``rclone serve webdav`` or ``rclone serve http``."""
    program = find_program("rclone")
    with _scratch() as scratch:
        port = free_port()
        (scratch / "rclone.conf").touch()
        command = [
            program, "serve", kind, str(scratch / "root"), "--config", str(scratch / "rclone.conf"), "--cache-dir",
            str(scratch / "c"), "--addr", f"127.0.0.1:{port}", "--user", USER, "--pass", PASSWORD,
            "--vfs-cache-mode", "writes", "--vfs-write-back", "0", "--dir-cache-time", "1ms",
            "--no-unicode-normalization",
        ]  # fmt: skip
        with _running(f"rclone-{kind}", scratch, port, command, {"user": USER, "pass": PASSWORD}) as server:
            yield server


@contextmanager
def wsgidav() -> Iterator[WebServer]:
    """WsgiDAV on cheroot."""
    with _scratch() as scratch:
        port = free_port()
        config = {"port": port, "root": str(scratch / "root"), "user": USER, "password": PASSWORD}
        main = str(Path(__file__).with_name("wsgidav_main.py"))
        command = [sys.executable, main, json.dumps(config)]
        with _running("wsgidav", scratch, port, command, {"user": USER, "pass": PASSWORD}) as server:
            yield server


@contextmanager
def copyparty() -> Iterator[WebServer]:
    """copyparty, which takes ownCloud's X-OC-Mtime and sets times in no other way.

    Not one of `DAV_SERVERS`: it makes missing directories by itself.
    """
    with _scratch() as scratch:
        port = free_port()
        config = scratch / "copyparty.conf"
        lines = [
            "[global]",
            "  i: 127.0.0.1",
            f"  p: {port}",
            f"  hist: {scratch}/history",
            "  no-thumb",
            "  ban-pw: no",
        ]
        lines += ["  no-crt", "[accounts]", f"  {USER}: {PASSWORD}"]
        lines += ["[/]", f"  {scratch}/root", "  accs:", f"    rwmd.: {USER}"]
        config.write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "copyparty", "-c", str(config)]
        login = {"user": USER, "pass": PASSWORD, "vendor": "owncloud"}
        with _running("copyparty", scratch, port, command, login) as server:
            yield server


DAV_SERVERS: dict[str, Callable[[], AbstractContextManager[WebServer]]] = {
    "apache": apache,
    "wsgidav": wsgidav,
    "rclone-webdav": lambda: rclone_web("webdav"),
}
"""Every WebDAV server by name."""
INDEX_SERVERS: dict[str, Callable[[], AbstractContextManager[WebServer]]] = {
    "apache": lambda: apache(dav=False, auth=""),
    "nginx": nginx,
    "python": python_http,
    "rclone-http": lambda: rclone_web("http"),
}
"""Every server of index pages by name."""

"""Real servers on loopback, for tests and benchmarks.

Every server is a context manager that yields an `FtpServer`, `SshServer` or the like: it is up when entered, killed
on leaving, and serves a temporary folder of its own. ``python -m tests.servers.install`` fetches the servers' binaries.

>>> with proftpd() as server:
...     remote = open_remote("ftp", server.options, "")
"""

from __future__ import annotations

from .certificate import Certificate, make_certificate
from .ftp import SERVERS, FtpServer, Tls, proftpd, pure_ftpd, pyftpdlib, rclone, vsftpd
from .process import ServerMissing, free_port
from .samba import SmbServer, samba
from .ssh import SSH_SERVERS, SshServer
from .web import DAV_SERVERS, INDEX_SERVERS, WebServer

__all__ = [
    "DAV_SERVERS",
    "INDEX_SERVERS",
    "SERVERS",
    "SSH_SERVERS",
    "Certificate",
    "FtpServer",
    "ServerMissing",
    "SmbServer",
    "SshServer",
    "Tls",
    "WebServer",
    "free_port",
    "make_certificate",
    "proftpd",
    "pure_ftpd",
    "pyftpdlib",
    "rclone",
    "samba",
    "vsftpd",
]  # fmt: skip

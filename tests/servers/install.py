"""Fetch the FTP servers that the tests need, beside the system: Debian allows one FTP server at a time.

``python -m tests.servers.install`` downloads the packages and unpacks them into `PREFIX`. Nothing is
configured, started or registered with dpkg; no root is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PREFIX = Path(os.environ.get("PORTSIDE_TEST_SERVERS", "/opt/portside-test-servers"))
PACKAGES = ("vsftpd", "proftpd-core", "proftpd-mod-crypto", "pure-ftpd-common", "pure-ftpd")


def install() -> None:
    """Unpack all packages into `PREFIX`; what is there already is replaced."""
    PREFIX.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        for package in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, PREFIX], check=True)


if __name__ == "__main__":
    install()
    sys.stdout.write(f"FTP servers for the tests are in {PREFIX}\n")

"""Samba's file server, with shares of its own; nothing of the system's configuration is read or changed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .ftp import ACCOUNT, PASSWORD
from .process import ServerProcess, find_program, free_port

SHARE = "files"


@dataclass(frozen=True)
class SmbServer:
    """A running server. ``root`` is the folder behind its share, as seen on this machine."""

    name: str
    port: int
    root: Path
    login: Mapping[str, str]
    process: ServerProcess
    prefix: str = SHARE

    @property
    def options(self) -> dict[str, str]:
        """What `open_remote` needs for it."""
        return {"host": "127.0.0.1", "port": str(self.port), **self.login}

    def stop(self) -> None:
        """Kill it; the port refuses connections from now on."""
        self.process.stop()
        deadline = time.monotonic() + 10
        while True:  # what has been killed may still accept for a moment
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                return
            assert time.monotonic() < deadline, "somebody still listens"
            time.sleep(0.01)

    def start(self) -> None:
        """Start it again, on the same port."""
        self.process.start()


@contextmanager
def samba(*settings: str) -> Iterator[SmbServer]:
    """smbd with one share and one user, whose files belong to `ACCOUNT` (to us, where we are not root)."""
    program = find_program("smbd")
    account = ACCOUNT if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    scratch = Path(tempfile.mkdtemp(prefix="portside-smb-"))
    try:
        scratch.chmod(0o755)
        root, port = scratch / "root", free_port()
        root.mkdir()
        if os.geteuid() == 0:
            shutil.chown(root, account)
        own = ["private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"]
        for name in own:
            (scratch / name.replace(" ", "-")).mkdir()
        config = scratch / "smb.conf"
        config.write_text(
            "\n".join(
                [
                    "[global]",
                    *(f"{name} = {scratch / name.replace(' ', '-')}" for name in own),
                    f"passdb backend = tdbsam:{scratch}/passdb.tdb",
                    "server role = standalone server",
                    "interfaces = 127.0.0.1",
                    "bind interfaces only = yes",
                    f"smb ports = {port}",
                    "disable netbios = yes",
                    "disable spoolss = yes",
                    "load printers = no",
                    "map to guest = never",
                    f"log file = {scratch}/smbd.log",
                    f"[{SHARE}]",
                    f"path = {root}",
                    "read only = no",
                    "create mask = 0644",
                    *settings,
                ]
            )
            + "\n"
        )
        subprocess.run(
            [find_program("smbpasswd"), "-c", str(config), "-a", "-s", account],
            input=f"{PASSWORD}\n{PASSWORD}\n".encode(), check=True, capture_output=True,
        )  # fmt: skip
        command = [program, "--foreground", "--no-process-group", "-s", str(config)]
        process = ServerProcess(command, port, scratch / "log", greets=False)
        process.start()
        try:
            yield SmbServer("samba", port, root, {"user": account, "pass": PASSWORD}, process)
        finally:
            process.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

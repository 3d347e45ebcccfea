"""Where a scenario happens: a storage, a gateway with a mount and an FTP server over it, both real processes."""

from __future__ import annotations

import contextlib
import ftplib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers.command import FtpStorage, Portside, Running, is_mounted, until
from tests.servers.process import free_port

from .depots import S3Depot, SftpDepot

USER, PASSWORD = "keeper", "of the light"
BOUND = 15.0
"""Seconds within which a program on a mount must have its answer while the storage is in trouble: ``--timeout`` and the
remote's own are 4 s, which the name may take twice and the bytes once, and a busy machine has its share."""


class Ground:
    """One scenario's folder, and what runs in it. Nothing is shared with other scenarios."""

    def __init__(self, home: Path, seed: int, long: bool) -> None:
        self.home = home
        self.chance = random.Random(seed)
        self.long = long
        home.mkdir(parents=True)
        self.command = Portside(home)
        self.storage: FtpStorage | SftpDepot | S3Depot = FtpStorage(home / "storage")
        (home / "storage").mkdir()
        self.mountpoint = home / "mnt"
        self.mountpoint.mkdir()
        self.port = free_port()
        self.gateway: Running | None = None

    def scaled(self, short: int, long: int) -> int:
        """How often: in CI, or by hand."""
        return long if self.long else short

    # the gateway

    def configure(self, port: int | None = None, **options: object) -> None:
        """Write the configuration: the storage (or what stands before it on ``port``), and options of the core."""
        texts = {
            "vfs-write-back": "100ms",
            "dir-cache-time": "1s",
            "timeout": "4s",
            "vfs-cache-poll-interval": "1s",
            **{name.replace("_", "-"): str(value) for name, value in options.items()},
        }
        section = self.storage.section("store", port)
        if isinstance(self.storage, FtpStorage):
            section += "timeout = 4s\nshut_timeout = 4s\nclose_timeout = 1s\n"
        self.command.configure(section)
        vfs = "".join(f'{name} = "{text}"\n' for name, text in texts.items())
        (self.home / "gateway.toml").write_text(
            f'[vfs]\n{vfs}\n[[mount]]\nremote = "store:"\nmountpoint = "{self.mountpoint}"\n\n'
            f'[[ftp]]\nremote = "store:"\naddr = "127.0.0.1:{self.port}"\nuser = "{USER}"\npass = "{PASSWORD}"\n'
            'passive-port = "any"\n'
        )

    def start(self, *options: str, environ: Mapping[str, str] | None = None) -> Running:
        """Start the gateway and wait until it serves."""
        self.command.environ.update(environ or {})
        self.gateway = self.command.start("gateway", self.home / "gateway.toml", *options)
        self.gateway.wait_until_says(r"portside: mounted ")
        self.gateway.wait_until_says(rf"over FTP at 127\.0\.0\.1:{self.port}")
        return self.gateway

    def kill(self) -> None:
        """``kill -9``: what is mounted stays behind, dead."""
        assert self.gateway is not None
        self.gateway.process.kill()
        self.gateway.process.wait()

    def drain(self, patience: float = 60.0) -> int:
        """SIGTERM: answers the exit code, which is 0 if and only if everything is stored."""
        assert self.gateway is not None
        self.gateway.signal(signal.SIGTERM)
        code = self.gateway.ended(patience)
        assert not is_mounted(self.mountpoint), "SIGTERM left the mount"
        return code

    def said(self) -> str:
        """All that this scenario's processes have logged."""
        return "".join(running.said() for running in self.command.running)

    def end(self) -> None:
        """Leave nothing running, mounted or lying about."""
        self.command.end_all()
        self.storage.end()
        for _ in range(3):
            if not is_mounted(self.mountpoint):
                break
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=False, capture_output=True)

    # looking

    @contextmanager
    def ftp(self, timeout: float = 30.0) -> Iterator[ftplib.FTP]:
        """A session with our FTP server."""
        with contextlib.closing(ftplib.FTP(encoding="utf-8")) as session:
            session.connect("127.0.0.1", self.port, timeout=timeout)
            session.login(USER, PASSWORD)
            yield session

    def stored(self) -> dict[str, bytes]:
        """What the storage has under its final names."""
        found: dict[str, bytes] = {}
        for directory, _, files in os.walk(self.storage.folder):
            for name in files:
                path = os.path.relpath(os.path.join(directory, name), self.storage.folder)
                if not is_partial(name):
                    with contextlib.suppress(FileNotFoundError):  # renamed since
                        found[path] = Path(directory, name).read_bytes()
        return found

    def shown(self) -> dict[str, bytes]:
        """What the mount shows."""
        found: dict[str, bytes] = {}
        for directory, _, files in os.walk(self.mountpoint, onerror=_raise):
            for name in files:
                full = os.path.join(directory, name)
                found[os.path.relpath(full, self.mountpoint)] = Path(full).read_bytes()
        return found


def _raise(problem: OSError) -> None:
    raise problem


def is_partial(name: str) -> bool:
    """Whether a name at the storage is that of an upload under way, which every listing of ours hides."""
    from mountcore.remotes.partials import is_ours

    return is_ours(name)


def answers(work: Callable[[], object], patience: float) -> bool:
    """Whether a call returns or raises within ``patience``; left alone in its thread if not."""

    def run() -> None:
        with contextlib.suppress(OSError, ftplib.Error, EOFError):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience)
    return not thread.is_alive()


__all__ = ["BOUND", "PASSWORD", "USER", "Ground", "answers", "is_mounted", "is_partial", "until"]

"""The remotes under test, each in a fresh folder of a real server that is started once per run."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mountcore.remotes.protocol import Remote
from mountcore.remotes.registry import open_remote
from tests.servers import SERVERS, FtpServer, Tls, proftpd, pure_ftpd, pyftpdlib, vsftpd
from tests.servers.ftp import ACCOUNT

_VARIANTS: dict[str, Callable[[], AbstractContextManager[FtpServer]]] = {
    **SERVERS,
    "pyftpdlib-list": lambda: pyftpdlib(without=("MLSD", "MLST", "EPSV", "MFMT")),
    "proftpd-no-overwrite": lambda: proftpd(overwrite=False),
    "pyftpdlib-tls": lambda: pyftpdlib(tls=Tls.EXPLICIT),
    "vsftpd-tls": lambda: vsftpd(tls=Tls.EXPLICIT),
    "vsftpd-tls-implicit": lambda: vsftpd(tls=Tls.IMPLICIT),
    "proftpd-tls": lambda: proftpd(tls=Tls.EXPLICIT),
    "pure-ftpd-tls": lambda: pure_ftpd(tls=Tls.EXPLICIT),
}
OWN = ("memory", "local")
FTP = tuple(_VARIANTS)
PLAIN = tuple(name for name in FTP if "tls" not in name)
_counter = itertools.count()


@dataclass(frozen=True)
class Place:
    """A fresh folder: how to open it as a remote, where it is on this machine's disk, what serves it."""

    name: str
    kind: str
    options: dict[str, str]
    root: str
    disk: Path | None
    server: FtpServer | None

    def open(self, **options: str) -> Remote:
        """Another remote on the same folder."""
        return open_remote(self.kind, self.options | self._patience | options, self.root)

    @property
    def _patience(self) -> dict[str, str]:
        return {"timeout": "10s", "shut_timeout": "10s"} if self.server else {}

    def make(self, path: str, content: bytes = b"", mtime: float | None = None) -> Path:
        """Put a file there behind the remote's back."""
        assert self.disk is not None
        real = self.disk / path
        real.write_bytes(content)
        own(real)
        if mtime is not None:
            os.utime(real, (mtime, mtime))
        return real


def own(path: Path) -> None:
    """Give a file to the account that the servers run as."""
    account = pwd.getpwnam(ACCOUNT)
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


class Servers:
    """Servers by name, started when first wanted."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, FtpServer] = {}

    def __getitem__(self, name: str) -> FtpServer:
        if name not in self._running:
            self._running[name] = self._stack.enter_context(_VARIANTS[name]())
        return self._running[name]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


def fresh(name: str, servers: Servers, scratch: Path) -> Place:
    """A new empty folder on the storage called ``name``."""
    folder = f"t{next(_counter)}"
    if name == "memory":
        return Place(name, name, {}, "", None, None)
    if name == "local":
        disk = scratch / folder
        disk.mkdir()
        return Place(name, name, {}, str(disk), disk, None)
    server = servers[name]
    disk = server.root / folder
    disk.mkdir()
    own(disk)
    return Place(name, "ftp", server.options, folder, disk, server)


@pytest.fixture(params=[*OWN, *FTP])
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Place]:
    """Every storage in turn."""
    made = fresh(request.param, servers, tmp_path)
    yield made
    if made.disk is not None:
        shutil.rmtree(made.disk, ignore_errors=True)


@pytest.fixture(params=FTP)
def ftp_place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Place:
    """Every FTP server in turn."""
    return fresh(request.param, servers, tmp_path)


@pytest.fixture(params=["local", *FTP])
def disk_place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Place:
    """Every storage that can be looked at from outside."""
    return fresh(request.param, servers, tmp_path)


async def _opened(place: Place) -> AsyncIterator[Remote]:
    remote = place.open()
    await remote.stat("")  # capabilities are known after the first contact
    yield remote
    await remote.aclose()


@pytest.fixture
async def remote(place: Place) -> AsyncIterator[Remote]:
    async for opened in _opened(place):
        yield opened


@pytest.fixture
async def ftp_remote(ftp_place: Place) -> AsyncIterator[Remote]:
    async for opened in _opened(ftp_place):
        yield opened


@pytest.fixture
async def disk_remote(disk_place: Place) -> AsyncIterator[Remote]:
    async for opened in _opened(disk_place):
        yield opened

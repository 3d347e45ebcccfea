"""The remotes under test, each in a fresh folder of a real server that is started once per run."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from mountcore.remotes.protocol import Remote
from mountcore.remotes.registry import open_remote
from tests.servers import DAV_SERVERS, SERVERS, SSH_SERVERS, Tls, proftpd, pure_ftpd, pyftpdlib, samba, vsftpd
from tests.servers.ftp import ACCOUNT
from tests.servers.objects import KEY, OBJECT_SERVERS, ObjectServer


class Server(Protocol):
    """What a storage kind with a server needs for its places; see `tests.servers`."""

    @property
    def root(self) -> Path:
        """The folder for tests, as seen on this machine."""

    @property
    def options(self) -> dict[str, str]:
        """What `open_remote` needs for it."""

    def stop(self) -> None:
        """Kill it."""

    def start(self) -> None:
        """Start it again, on the same port."""


@dataclass(frozen=True)
class Storage:
    """A row of the table of storage kinds under test: its type, what starts its server, how tests see it."""

    kind: str
    start: Callable[[], AbstractContextManager[Server]]
    patience: Mapping[str, str] = field(default_factory=dict)
    """Options that every remote is opened with: nothing here may wait for minutes."""
    account: str = ACCOUNT
    """Whom files made behind the remote's back must belong to; empty: us."""


_FTP: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    **SERVERS,
    "pyftpdlib-list": lambda: pyftpdlib(without=("MLSD", "MLST", "EPSV", "MFMT")),
    "proftpd-no-overwrite": lambda: proftpd(overwrite=False),
    "pyftpdlib-tls": lambda: pyftpdlib(tls=Tls.EXPLICIT),
    "vsftpd-tls": lambda: vsftpd(tls=Tls.EXPLICIT),
    "vsftpd-tls-implicit": lambda: vsftpd(tls=Tls.IMPLICIT),
    "proftpd-tls": lambda: proftpd(tls=Tls.EXPLICIT),
    "pure-ftpd-tls": lambda: pure_ftpd(tls=Tls.EXPLICIT),
}
OURS = ("sshd", "asyncssh", "rclone-sftp")
"""Servers that work as the user who runs the tests."""
STORAGES: dict[str, Storage] = {
    **{name: Storage("ftp", start, {"timeout": "10s", "shut_timeout": "10s"}) for name, start in _FTP.items()},
    **{
        name: Storage("sftp", start, {"timeout": "10s"}, account="" if name in OURS else ACCOUNT)
        for name, start in SSH_SERVERS.items()
    },
    **{
        name: Storage("webdav", start, {"timeout": "10s"}, account=ACCOUNT if name == "apache" else "")
        for name, start in DAV_SERVERS.items()
    },
    "smb": Storage("smb", samba, {"timeout": "10s"}, account=ACCOUNT if os.geteuid() == 0 else ""),
}
"""Storage with servers, by name. A new kind is a row here; every test with the fixture `place` runs on it."""
OWN = ("memory", "local")
FTP = tuple(_FTP)
PLAIN_FTP = tuple(name for name in FTP if "tls" not in name)
SFTP = tuple(SSH_SERVERS)
WEBDAV = tuple(DAV_SERVERS)
SERVED = tuple(STORAGES)
PLAIN = tuple(name for name in SERVED if "tls" not in name and name not in ("sshd-no-shell", "proftpd-sftp"))
"""Without those that differ from another only in encryption, or in what they can do beyond names."""
SLOW = ("proftpd-sftp", "proftpd-sftp-plain", "rclone-sftp")
"""32 KiB a message: seconds for what takes others a tenth."""
BUCKETS: dict[str, tuple[str, dict[str, str]]] = {
    "moto": ("moto", {}),
    "moto-markers": ("moto", {"directory_markers": "true"}),
    "moto-parts": ("moto", {"upload_cutoff": "1Mi", "upload_concurrency": "2"}),
    "rclone-s3": ("rclone-s3", {}),
    "azurite": ("azurite", {}),
    "fake-gcs": ("fake-gcs", {}),
    "fake-gcs-parts": ("fake-gcs", {"upload_cutoff": "1Mi", "chunk_size": "5Mi"}),
    "azurite-parts": ("azurite", {"upload_cutoff": "1Mi", "chunk_size": "1Mi"}),
}
"""Object stores, which have no folder on this machine's disk: the server, and options."""
LONG_TAIL = ("opendal-fs", "opendal-s3", "swift")
"""OpenDAL's services with and without files of their own: a folder, moto's S3, OpenStack's servers."""
OBJECTS = ("moto", "rclone-s3", "azurite", "fake-gcs")
OBJECT_NAMES = ("moto-markers", "rclone-s3", "azurite", "fake-gcs")
"""With and without marked directories: what names are made of."""
CRYPT: dict[str, dict[str, str]] = {
    "crypt": {"directory_name_encryption": "true"},
    "crypt-plain-names": {"filename_encryption": "off"},
    "crypt-obfuscate": {"filename_encryption": "obfuscate", "directory_name_encryption": "false"},
}
"""Encrypted files around a folder, by how names are hidden."""
_counter = itertools.count()


@dataclass(frozen=True)
class Place:
    """A fresh folder: how to open it as a remote, where it is on this machine's disk, what serves it."""

    name: str
    kind: str
    options: dict[str, str]
    root: str
    disk: Path | None
    server: Server | ObjectServer | None

    def open(self, **options: str) -> Remote:
        """Another remote on the same folder."""
        if self.kind == "crypt":
            return open_remote(self.kind, self.options | options, "", open_remote("local", {}, self.root))
        return open_remote(self.kind, self.options | self._patience | options, self.root)

    @property
    def _patience(self) -> dict[str, str]:
        if self.name in BUCKETS:
            return {"timeout": "10s"}
        return dict(STORAGES[self.name].patience) if self.name in STORAGES else {}

    def make(self, path: str, content: bytes = b"", mtime: float | None = None) -> Path:
        """Put a file there behind the remote's back."""
        assert self.disk is not None
        real = self.disk / path
        real.write_bytes(content)
        if self.name in STORAGES:
            own(real, STORAGES[self.name].account)
        if mtime is not None:
            os.utime(real, (mtime, mtime))
        return real


def own(path: Path, name: str = ACCOUNT) -> None:
    """Give a file to the account that a server works as."""
    if not name:
        return
    account = pwd.getpwnam(name)
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


class Servers:
    """Servers by name, started when first wanted."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, Server] = {}
        self._objects: dict[str, ObjectServer] = {}

    def objects(self, name: str) -> ObjectServer:
        """An object store."""
        if name not in self._objects:
            self._objects[name] = self._stack.enter_context(OBJECT_SERVERS[name]())
        return self._objects[name]

    def __getitem__(self, name: str) -> Server:
        if name not in self._running:
            self._running[name] = self._stack.enter_context(STORAGES[name].start())
        return self._running[name]


@pytest.fixture(scope="session", autouse=True)
def no_diaries_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """FTP remotes keep notes in the cache directory; those of remotes that tests leave open stay there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
    if name in CRYPT:
        (scratch / folder).mkdir()
        options = {"remote": "x:", "password": "one", "password2": "two"} | CRYPT[name]
        return Place(name, "crypt", options, str(scratch / folder), None, None)
    if name in LONG_TAIL:
        return _through_opendal(name, servers, scratch / folder)
    if name in BUCKETS:
        host, options = BUCKETS[name]
        store = servers.objects(host)
        return Place(name, store.kind, store.options | options, store.bucket(), None, store)
    server = servers[name]
    disk = server.root / folder
    disk.mkdir()
    own(disk, STORAGES[name].account)
    prefix = getattr(server, "prefix", "")
    root = f"{prefix.rstrip('/')}/{folder}" if prefix else folder
    return Place(name, STORAGES[name].kind, server.options, root, disk, server)


def _through_opendal(name: str, servers: Servers, disk: Path) -> Place:
    if name == "opendal-fs":
        disk.mkdir()
        return Place(name, "opendal", {"service": "fs", "config": f"root='{disk}'"}, "", disk, None)
    store = servers.objects("swift" if name == "swift" else "moto")
    if name == "swift":
        return Place(name, store.kind, store.options, store.bucket(), None, store)
    config = f"bucket={store.bucket()} endpoint={store.url} region=us-east-1 access_key_id={KEY} secret_access_key=x"
    return Place(name, "opendal", {"service": "s3", "config": config}, "", None, store)


@pytest.fixture(params=[*OWN, *CRYPT, *SERVED, *OBJECTS, *LONG_TAIL])
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


@pytest.fixture(params=["local", *SERVED])
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


FEW_NAMES = ("moto-markers", "opendal-s3")
"""Whose odd names are those of another storage here: ``rclone-s3`` and ``opendal-fs`` prove them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the odd names of `FEW_NAMES`."""
    gone = [
        item
        for item in items
        if getattr(item, "originalname", "") == "test_odd_names" and item.callspec.params.get("place") in FEW_NAMES  # type: ignore[attr-defined]
    ]
    if gone:
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=gone)

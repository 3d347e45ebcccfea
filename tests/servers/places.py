"""One place on every kind of storage that can be had here, as `open_remote` makes remotes of it.

The table of what each storage can do, in the guide, is found out on them (scripts/guide_capabilities.py), and the
behaviour suite runs through a mount of each, held to the row that the guide has of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from mountcore.remotes.conf import Config
from mountcore.remotes.protocol import Remote
from mountcore.remotes.registry import open_remote

from .ftp import SERVERS
from .objects import OBJECT_SERVERS
from .samba import samba
from .ssh import SSH_SERVERS
from .web import DAV_SERVERS, INDEX_SERVERS, copyparty

Opens = Callable[[str], Remote]
"""A remote rooted at a directory of the place; "" for all of it."""


@dataclass(frozen=True)
class Kind:
    """How a place is called in the guide, and what starts it."""

    title: str
    start: Callable[[], AbstractContextManager[Opens]]


@contextmanager
def _folder(kind: str, **options: str) -> Iterator[Opens]:
    with tempfile.TemporaryDirectory(prefix="portside-place-") as folder:

        def opens(below: str) -> Remote:
            match kind:
                case "local":
                    return open_remote("local", {}, f"{folder}/{below}")
                case "crypt":
                    return open_remote("crypt", {"remote": folder, **options}, below, open_remote("local", {}, folder))
                case "alias":
                    environ = {"HOME": "/nowhere", "PORTSIDE_CONFIG_HERE_TYPE": "alias"}
                    return Config(environ={**environ, "PORTSIDE_CONFIG_HERE_REMOTE": folder}).open(f"here:{below}")
                case _:
                    return open_remote("opendal", {"service": "fs", "config": f"root='{folder}'"}, below)

        yield opens


@contextmanager
def _memory() -> Iterator[Opens]:
    """Forgotten with the remote, so there is one, and no directory of it to open."""
    remote = open_remote("memory", {}, "")

    def opens(below: str) -> Remote:
        assert not below
        return remote

    yield opens


@contextmanager
def _served(kind: str, start: Callable[[], AbstractContextManager[object]]) -> Iterator[Opens]:
    with start() as server:
        options, prefix = server.options, getattr(server, "prefix", "")  # type: ignore[attr-defined]
        yield lambda below: open_remote(kind, options, f"{prefix}/{below}" if prefix and below else prefix or below)


@contextmanager
def _bucket(name: str, **options: str) -> Iterator[Opens]:
    with OBJECT_SERVERS[name]() as store:
        bucket = store.bucket()
        yield lambda below: open_remote(store.kind, {**store.options, **options}, f"{bucket}/{below}".rstrip("/"))


PLACES: dict[str, Kind] = {
    "local": Kind("`local`", partial(_folder, "local")),
    "memory": Kind("`memory`", _memory),
    "alias": Kind("`alias` (of a folder)", partial(_folder, "alias")),
    "crypt": Kind("`crypt` (in a folder)", partial(_folder, "crypt", password="between us", password2="salt")),
    "ftp-proftpd": Kind("`ftp` (proftpd)", partial(_served, "ftp", SERVERS["proftpd"])),
    "ftp-vsftpd": Kind("`ftp` (vsftpd)", partial(_served, "ftp", SERVERS["vsftpd"])),
    "ftp-pure-ftpd": Kind("`ftp` (Pure-FTPd)", partial(_served, "ftp", SERVERS["pure-ftpd"])),
    "ftp-pyftpdlib": Kind("`ftp` (pyftpdlib)", partial(_served, "ftp", SERVERS["pyftpdlib"])),
    "ftp-rclone": Kind("`ftp` (rclone's server)", partial(_served, "ftp", SERVERS["rclone"])),
    "sftp": Kind("`sftp` (OpenSSH)", partial(_served, "sftp", SSH_SERVERS["sshd"])),
    "sftp-proftpd": Kind("`sftp` (proftpd)", partial(_served, "sftp", SSH_SERVERS["proftpd-sftp"])),
    "smb": Kind("`smb` (Samba)", partial(_served, "smb", samba)),
    "webdav": Kind("`webdav` (Apache)", partial(_served, "webdav", DAV_SERVERS["apache"])),
    "webdav-rclone": Kind("`webdav` (rclone's server)", partial(_served, "webdav", DAV_SERVERS["rclone-webdav"])),
    "webdav-wsgidav": Kind("`webdav` (WsgiDAV)", partial(_served, "webdav", DAV_SERVERS["wsgidav"])),
    "webdav-copyparty": Kind("`webdav` (copyparty)", partial(_served, "webdav", copyparty)),
    "s3": Kind("`s3` (moto), `directory_markers`", partial(_bucket, "moto", directory_markers="true")),
    "s3-plain": Kind("`s3` (moto)", partial(_bucket, "moto")),
    "s3-rclone": Kind("`s3` (rclone's server)", partial(_bucket, "rclone-s3")),
    "azureblob": Kind("`azureblob` (Azurite)", partial(_bucket, "azurite")),
    "gcs": Kind("`gcs` (fake-gcs-server)", partial(_bucket, "fake-gcs")),
    "swift": Kind("`swift` (OpenStack's servers)", partial(_bucket, "swift")),
    "opendal": Kind("`opendal`, service `fs`", partial(_folder, "opendal")),
}
"""What can be written to, by the name of its door."""
READ_ONLY: dict[str, Kind] = {
    "http": Kind("`http` (nginx)", partial(_served, "http", INDEX_SERVERS["nginx"])),
}

"""The same tree copied by rclone and by portside to each kind of server, and compared both ways by both.

Not vsftpd: it lists no names with a leading dot, which rclone takes for a failed upload.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mountcore.remotes.obscure import obscure
from mountcore.remotes.registry import types
from tests.servers import DAV_SERVERS, SERVERS, SSH_SERVERS
from tests.servers.objects import OBJECT_SERVERS

from .conftest import Here, content, rclone

LARGE = 20 << 20
"""Bytes: more than is read into memory before it is stored, and several parts of an upload in parts."""


@dataclass(frozen=True)
class Box:
    """A server: how both programs reach it, and a place on it."""

    environ: dict[str, str]
    place: str


def box(kind: str, options: dict[str, str], place: str) -> Box:
    """One environment for both programs: portside reads rclone's names."""
    facts = types()[kind]
    environ = {"RCLONE_CONFIG_BOX_TYPE": kind}
    for name, value in options.items():
        environ[f"RCLONE_CONFIG_BOX_{name.upper()}"] = obscure(value) if facts.option(name).secret else value
    return Box(environ, place)


@pytest.fixture(
    scope="module",
    params=["proftpd", "pure-ftpd", "sshd", "proftpd-sftp", "rclone-webdav", "apache", "moto", "azurite", "fake-gcs"],
)
def server(request: pytest.FixtureRequest) -> Iterator[Box]:
    name = request.param
    with ExitStack() as held:
        if name in SERVERS:
            ftp = held.enter_context(SERVERS[name]())
            yield box("ftp", ftp.options, "box:")
        elif name in SSH_SERVERS:
            ssh = held.enter_context(SSH_SERVERS[name]())
            yield box("sftp", dict(ssh.options), f"box:{ssh.prefix.rstrip('/')}/" if ssh.prefix else "box:")
        elif name in DAV_SERVERS:
            dav = held.enter_context(DAV_SERVERS[name]())
            yield box("webdav", dict(dav.options), "box:")
        else:
            store = held.enter_context(OBJECT_SERVERS[name]())
            options = dict(store.options)
            if store.kind == "gcs":  # rclone speaks the JSON interface, whose address is this
                options["endpoint"] += "/storage/v1/"
            yield box(store.kind, options, f"box:{store.bucket()}/")


def test_there_and_back(here: Here, monkeypatch: pytest.MonkeyPatch, server: Box, tree: Path, tmp_path: Path) -> None:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    (tree / "streamed").write_bytes(os.urandom(LARGE))
    ours, theirs = f"{server.place}ours/deep", f"{server.place}theirs/deep"
    done = here.run("copy", tree, ours, "-v")
    assert done.returncode == 0, done.stderr
    assert rclone("copy", "--ignore-checksum", tree, theirs, **server.environ).returncode == 0
    checked = rclone("check", "--download", tree, ours, **server.environ)
    assert checked.returncode == 0, checked.stderr
    assert here.run("check", "--download", tree, theirs).returncode == 0
    assert here.run("copy", tree, ours, "--error-on-no-transfer").returncode == 9, "nothing is copied twice"
    back = here.run("copy", theirs, tmp_path / "back")
    assert back.returncode == 0, back.stderr
    assert {name: data for name, (data, _) in content(tmp_path / "back").items()} == {
        name: data for name, (data, _) in content(tree).items()
    }
    (tree / "a.txt").write_bytes(b"changed since\n")
    (tree / "zero").unlink()
    assert here.run("sync", tree, ours).returncode == 0
    assert rclone("check", "--download", tree, ours, **server.environ).returncode == 0
    assert here.run("move", f"{ours}/d1", f"{server.place}moved").returncode == 0
    assert rclone("check", "--download", tree / "d1", f"{server.place}moved", **server.environ).returncode == 0
    assert here.run("purge", f"{server.place}moved").returncode == 0
    assert here.run("lsf", "-R", "--files-only", f"{server.place}moved").stdout == b""

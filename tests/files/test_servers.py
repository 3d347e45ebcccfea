"""The same tree copied by rclone and by portside to each kind of server, and compared both ways by both.

Not vsftpd: it lists no names with a leading dot, which rclone takes for a failed upload. Nor pyftpdlib: rclone cannot
make a directory in a new one there (501).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mountcore.remotes.obscure import obscure
from mountcore.remotes.registry import types
from tests.servers import DAV_SERVERS, SERVERS, SSH_SERVERS, samba
from tests.servers.objects import OBJECT_SERVERS
from tests.servers.web import copyparty

from .conftest import Here, content, rclone

FTP = ("proftpd", "pure-ftpd")
DAV = ("rclone-webdav", "apache", "wsgidav", "copyparty")
REFUSED = {"wsgidav": "quote'\"s/a,b;c.html"}
"""Names that portside refuses to store there, as the server would move them to others."""
LARGE = 20 << 20
"""Bytes: more than is read into memory before it is stored, and several parts of an upload in parts."""


@dataclass(frozen=True)
class Box:
    """A server: how both programs reach it, and a place on it."""

    environ: dict[str, str]
    place: str
    refused: str = ""


def box(kind: str, options: dict[str, str], place: str) -> Box:
    """One environment for both programs: portside reads rclone's names."""
    facts = types()[kind]
    environ = {"RCLONE_CONFIG_BOX_TYPE": kind}
    for name, value in options.items():
        environ[f"RCLONE_CONFIG_BOX_{name.upper()}"] = obscure(value) if facts.option(name).secret else value
    return Box(environ, place)


@pytest.fixture(
    scope="module",
    params=[*FTP, "sshd", "proftpd-sftp", "asyncssh", "smb", *DAV, *OBJECT_SERVERS],
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
        elif name == "smb":
            share = held.enter_context(samba())
            yield box("smb", dict(share.options), f"box:{share.prefix}/")
        elif name in DAV_SERVERS or name == "copyparty":
            dav = held.enter_context(DAV_SERVERS.get(name, copyparty)())
            yield replace(box("webdav", dict(dav.options), "box:"), refused=REFUSED.get(name, ""))
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
    if server.refused:
        assert b"another name" in here.run("copyto", tree / server.refused, f"{server.place}{server.refused}").stderr
        (tree / server.refused).unlink()
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
    for target in ("single", "new/deep/single", "single"):
        assert here.run("copyto", tree / "a.txt", f"{server.place}{target}").returncode == 0
        assert here.run("cat", f"{server.place}{target}").stdout == b"changed since\n"
    assert here.run("moveto", f"{server.place}single", f"{server.place}new/moved").returncode == 0
    assert here.run("lsf", f"{server.place}new").stdout == b"deep/\nmoved\n"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_bytes(b"kept")
    assert here.run("sync", f"{server.place}no/such/place", tmp_path / "kept").returncode == 3
    assert (tmp_path / "kept/file").exists(), "a source that is not there is no empty one"
    assert here.run("lsf", "-R", "--files-only", f"{server.place}moved").stdout == b""


@pytest.mark.parametrize("name", ["azurite", "swift"])
def test_buckets_that_cannot_be_listed(
    here: Here, monkeypatch: pytest.MonkeyPatch, tree: Path, tmp_path: Path, name: str
) -> None:
    with OBJECT_SERVERS[name]() as store:
        for key, value in box(store.kind, store.options, "").environ.items():
            monkeypatch.setenv(key, value)
        one, two = store.bucket(), store.bucket()
        assert here.run("copy", tree, f"box:{one}/in").returncode == 0
        assert here.run("copy", f"box:{one}/in", f"box:{two}/there/deep").returncode == 0
        assert here.run("check", "--download", tree, f"box:{two}/there/deep").returncode == 0
        assert here.run("lsf", f"box:{one}/in/a.txt").stdout == b"a.txt\n"
        absent = here.run("lsf", "box:absent-bucket")
        assert absent.returncode == 3
        assert (absent.stderr.count(b"\n"), b"absent-bucket" in absent.stderr) == (1, True), absent.stderr


def test_a_wrong_token_is_one_line(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of OpenDAL's that fails ends in the thread that it began in."""
    with OBJECT_SERVERS["swift"]() as store:
        for key, value in box(store.kind, {**store.options, "auth_token": "expired"}, "").environ.items():
            monkeypatch.setenv(key, value)
        refused = here.run("lsf", f"box:{store.bucket()}")
    assert refused.returncode != 0
    assert (refused.stderr.count(b"\n"), b"check the login" in refused.stderr) == (1, True), refused.stderr

"""Uploads to an FTP server that were interrupted go on where they were, in another run of portside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountcore.remotes.obscure import obscure
from tests.fuse.mounting import need_fuse
from tests.servers import FtpServer, vsftpd
from tests.servers.command import Portside, until
from tests.servers.faultproxy import Fault, FaultProxy, fault_proxy

MIB = 1 << 20
SIZE = 24 * MIB


@pytest.fixture(scope="module")
def server() -> Iterator[FtpServer]:
    with vsftpd() as running:
        yield running


@pytest.fixture
def proxy(server: FtpServer) -> Iterator[FaultProxy]:
    with fault_proxy(server.port, ftp=True) as running:
        yield running


@pytest.fixture
def portside(tmp_path: Path, server: FtpServer, proxy: FaultProxy) -> Iterator[Portside]:
    made = Portside(tmp_path / "home")
    made.configure(
        f"[srv]\ntype = ftp\nhost = 127.0.0.1\nport = {proxy.port}\n"
        f"user = {server.user}\npass = {obscure(server.password)}\n"
        "timeout = 10s\nshut_timeout = 10s\n"
    )
    yield made
    made.end_all()


def test_a_copy_goes_on_in_the_next_run(
    portside: Portside, server: FtpServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    local = tmp_path / "big"
    local.write_bytes(os.urandom(SIZE))
    place = server.root / "in"
    place.mkdir()
    place.chmod(0o777)
    proxy.fault = Fault("slow", rate=16 * MIB, after=8 * MIB)
    copying = portside.start("copy", local, "srv:in")
    deadline = time.monotonic() + 30
    while not (found := [path for path in place.iterdir() if path.stat().st_size > 12 * MIB]):
        assert copying.process.poll() is None, copying.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    copying.process.send_signal(signal.SIGKILL)
    copying.process.wait(20)
    (partial,) = found
    assert ".portside-" in partial.name
    proxy.fault = None
    inode = partial.stat().st_ino
    done = portside.run("copy", local, "srv:in", "-v")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in place.iterdir()] == ["big"]
    assert (place / "big").read_bytes() == local.read_bytes()
    assert (place / "big").stat().st_ino == inode, "it began anew"


def test_a_copy_goes_on_after_a_cut(portside: Portside, server: FtpServer, proxy: FaultProxy, tmp_path: Path) -> None:
    local = tmp_path / "big"
    local.write_bytes(os.urandom(SIZE))
    place = server.root / "cut"
    place.mkdir()
    place.chmod(0o777)
    fault = proxy.fault = Fault("reset", after=16 * MIB, times=1)
    copying = portside.start("copy", local, "srv:cut")
    inodes = set()
    while copying.process.poll() is None:
        inodes |= {path.stat().st_ino for path in place.iterdir()}
        time.sleep(0.005)
    assert copying.process.returncode == 0, copying.log.read_text()
    assert fault.injected
    assert (place / "big").read_bytes() == local.read_bytes()
    assert inodes == {(place / "big").stat().st_ino}, "it began anew"


def test_an_upload_of_a_mount_goes_on_after_a_kill(
    portside: Portside, server: FtpServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    need_fuse()
    place = server.root / "mount"
    place.mkdir()
    place.chmod(0o777)
    point = portside.home / "mnt"
    content = os.urandom(SIZE)
    proxy.fault = Fault("slow", rate=16 * MIB, after=8 * MIB)
    mount = portside.mount("srv:mount", point, "--vfs-write-back", "100ms")
    (point / "big").write_bytes(content)
    until(lambda: [path for path in place.iterdir() if path.stat().st_size > 12 * MIB], "half of it is there")
    (partial,) = place.iterdir()
    inode = partial.stat().st_ino
    mount.signal(signal.SIGKILL)
    mount.ended()
    proxy.fault = None
    portside.run("umount", point)
    portside.mount("srv:mount", point, "--vfs-write-back", "100ms")
    until(lambda: [path.name for path in place.iterdir()] == ["big"], "it is stored")
    assert (place / "big").read_bytes() == content
    assert (place / "big").stat().st_ino == inode, "it began anew"


def test_an_upload_of_a_killed_mount_brings_no_name_back(
    portside: Portside, server: FtpServer, proxy: FaultProxy
) -> None:
    """The server gives an upload its name when the mount that sent it is dead, and the next one has moved the file."""
    need_fuse()
    place = server.root / "late"
    place.mkdir()
    place.chmod(0o777)
    point = portside.home / "mnt"
    mount = portside.mount("srv:late", point, "--vfs-write-back", "100ms")
    (point / "name").write_bytes(b"first")
    until(lambda: (place / "name").exists(), "it is stored")
    fault = proxy.fault = Fault("hold", command="RNFR .*partial", times=1)
    (point / "name").write_bytes(b"x" * 5000)
    until(lambda: fault.injected, "an upload is about to get its name")
    mount.signal(signal.SIGKILL)
    mount.ended()
    portside.run("umount", point)
    portside.mount("srv:late", point, "--vfs-write-back", "100ms")
    (point / "name").rename(point / "other")
    (point / "other").write_bytes(b"newest")
    until(lambda: (place / "other").exists() and (place / "other").read_bytes() == b"newest", "it is stored")
    fault.release()
    until_quiet = time.monotonic() + 1
    while time.monotonic() < until_quiet:
        assert not (place / "name").exists(), "it came back"
        time.sleep(0.05)
    assert [path.name for path in place.iterdir()] == ["other"]
    assert (point / "other").read_bytes() == b"newest"
    assert not (point / "name").exists()

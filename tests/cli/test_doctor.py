"""``portside doctor``: what it finds, what it says helps, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.servers.command import FtpStorage, Portside


def test_a_good_machine_and_a_good_remote(portside: Portside, storage: FtpStorage) -> None:
    portside.configure(storage.section("store"))
    (storage.folder / "file").write_bytes(b"content")
    done = portside.run("doctor", "store:", "--write")
    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout
    assert "a file is stored whole" in done.stdout
    assert "all is well" in done.stdout
    assert os.listdir(storage.folder) == ["file"], "nothing is left behind"


def test_nothing_is_written_unless_asked_for(portside: Portside, storage: FtpStorage) -> None:
    portside.configure(storage.section("store"))
    storage.folder.chmod(0o555)
    before = storage.folder.stat().st_mtime_ns
    done = portside.run("doctor", "store:")
    assert done.returncode == 0, done.stdout
    assert storage.folder.stat().st_mtime_ns == before
    assert not (portside.home / "cache").exists()


def test_what_is_wrong_has_a_remedy(portside: Portside, storage: FtpStorage, tmp_path: Path) -> None:
    portside.configure(storage.section("store"))
    portside.config.chmod(0o644)
    lost = tmp_path / "cache-dir" / "remote" / "lost+found"
    lost.mkdir(parents=True)
    (lost / "7").write_bytes(b"what could not be placed")
    storage.stop()
    done = portside.run("doctor", "store:", "--cache-dir", tmp_path / "cache-dir")
    assert done.returncode == 1
    assert "chmod 600" in done.stdout
    assert "lost+found is not empty" in done.stdout
    assert "Connection refused" in done.stdout
    assert "3 things to see to" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_cache_in_memory_is_told(portside: Portside) -> None:
    done = portside.run("doctor", "--cache-dir", "/dev/shm/portside")
    assert done.returncode == 1
    # what /dev itself is, where nothing is mounted on /dev/shm
    assert re.search("✗ its file system is (dev)?tmpfs", done.stdout), done.stdout
    assert not Path("/dev/shm/portside").exists()

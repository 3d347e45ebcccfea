"""The real command in processes of its own, with a home of its own, and a real FTP server as storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.command import PASSWORD, PATIENCE, ROOT, FtpStorage, Portside, Running, is_mounted, until
from tests.servers.process import free_port

__all__ = ["PASSWORD", "PATIENCE", "ROOT", "FtpStorage", "Portside", "Running", "free_port", "is_mounted", "until"]


@pytest.fixture
def portside(tmp_path: Path) -> Iterator[Portside]:
    command = Portside(tmp_path)
    yield command
    command.end_all()


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """An empty directory; the test needs a kernel that can mount."""
    if not os.path.exists("/dev/fuse"):
        assert not os.environ.get("CI"), "CI has /dev/fuse"
        pytest.skip("needs /dev/fuse")
    point = tmp_path / "mnt"
    point.mkdir()
    return point


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FtpStorage]:
    folder = tmp_path / "storage"
    folder.mkdir()
    server = FtpStorage(folder)
    server.start()
    yield server
    server.stop()

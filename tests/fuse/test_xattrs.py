"""State as extended attributes, where they are asked for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mountcore.settings import CacheSettings, VfsSettings

from .mounting import Mount


@pytest.fixture
def shown(mount_here: Callable[..., Mount], tmp_path: Path) -> Mount:
    """Nothing is uploaded before somebody asks for it."""
    return mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=3600)), xattr="true")


def test_the_status_of_a_file_follows_it_to_the_storage(shown: Mount, store: Path) -> None:
    path = shown.path / "f"
    with path.open("wb") as file:
        file.write(b"x" * 1000)
        file.flush()
        assert os.getxattr(path, "user.portside.status") == b"dirty"
    until(lambda: os.getxattr(path, "user.portside.status") == b"queued")
    assert not (store / "f").exists()
    os.setxattr(path, "user.portside.upload", b"now")
    assert (store / "f").read_bytes() == b"x" * 1000
    assert os.getxattr(path, "user.portside.status") == b"clean"


def until(question: Callable[[], bool]) -> None:
    """close(2) returns before the kernel has told of the last close."""
    pause = threading.Event()
    for _ in range(500):
        if question():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def test_what_is_cached_and_where_it_is(shown: Mount, store: Path) -> None:
    (store / "big").write_bytes(b"x" * (4 << 20))
    path = shown.path / "big"
    assert os.getxattr(path, "user.portside.cached") == b"0 0%"
    path.read_bytes()
    assert os.getxattr(path, "user.portside.cached") == b"4194304 100%"
    assert os.getxattr(path, "user.portside.remote") == f"local://{store}/big".encode()
    assert os.listxattr(path) == [f"user.portside.{name}" for name in ("status", "cached", "remote")]
    assert os.listxattr(shown.path) == ["user.portside.remote"]


def test_refresh_looks_at_the_storage_again(shown: Mount, store: Path) -> None:
    assert os.listdir(shown.path) == []
    (store / "new").touch()
    assert os.listdir(shown.path) == []
    os.setxattr(shown.path, "user.portside.refresh", b"1")
    assert os.listdir(shown.path) == ["new"]


def test_other_attributes_are_refused_and_not_there(shown: Mount) -> None:
    (shown.path / "f").touch()
    for change in (
        lambda: os.setxattr(shown.path / "f", "user.mine", b"x"),
        lambda: os.removexattr(shown.path / "f", "user.portside.status"),
    ):
        with pytest.raises(OSError, match="not supported") as caught:
            change()
        assert caught.value.errno == errno.ENOTSUP
    for name in ("user.mine", "security.capability"):
        with pytest.raises(OSError, match="No data") as caught:
            os.getxattr(shown.path / "f", name)
        assert caught.value.errno == errno.ENODATA

"""State as extended attributes, where they are asked for."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mountcore.remotes.around import Around
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Capabilities
from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings

from .mounting import Mount, mounted, spoken


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
    assert os.listxattr(path) == [f"user.portside.{name}" for name in ("status", "cached", "remote", "pin")]
    assert os.listxattr(shown.path) == ["user.portside.remote", "user.portside.pin"]


def test_refresh_looks_at_the_storage_again(shown: Mount, store: Path) -> None:
    assert os.listdir(shown.path) == []
    (store / "new").touch()
    assert os.listdir(shown.path) == []
    os.setxattr(shown.path, "user.portside.refresh", b"1")
    assert os.listdir(shown.path) == ["new"]


def test_others_are_refused_where_the_storage_keeps_none(tmp_path: Path, session: str) -> None:
    with mounted(Plain(), tmp_path, options=spoken(session) | {"xattr": "true"}) as shown:
        (shown.path / "f").touch()
        for change in (
            lambda: os.setxattr(shown.path / "f", "user.mine", b"x"),
            lambda: os.setxattr(shown.path / "f", "trusted.mine", b"x"),
            lambda: os.setxattr(shown.path / "f", "user.portside.etag", b"x"),
            lambda: os.removexattr(shown.path / "f", "user.portside.status"),
        ):
            with pytest.raises(OSError, match="not supported") as caught:
                change()
            assert caught.value.errno == errno.ENOTSUP
        for name in ("user.mine", "security.capability"):
            with pytest.raises(OSError, match="No data") as caught:
                os.getxattr(shown.path / "f", name)
            assert caught.value.errno == errno.ENODATA


class Plain(Around):
    """A storage that keeps no attributes."""

    def __init__(self) -> None:
        super().__init__(Memory())

    @property
    def caps(self) -> Capabilities:
        return dataclasses.replace(super().caps, attributes=False)


def test_others_are_kept_where_the_storage_keeps_them(shown: Mount, store: Path) -> None:
    (store / "f").write_text("stored already")
    os.setxattr(store / "f", "user.there", b"before")
    path = shown.path / "f"
    assert os.getxattr(path, "user.there") == b"before"
    os.setxattr(path, "user.mine", b"some\0bytes\xff")
    os.setxattr(path, "user.empty", b"")
    assert os.getxattr(store / "f", "user.mine") == b"some\0bytes\xff"
    assert {"user.there", "user.mine", "user.empty"} < set(os.listxattr(path))
    os.removexattr(path, "user.there")
    assert "user.there" not in os.listxattr(store / "f")
    with pytest.raises(OSError, match="No data") as caught:
        os.removexattr(path, "user.there")
    assert caught.value.errno == errno.ENODATA
    assert shown.run(shown.vfs.drain) == (), "and the file is not changed by that"
    os.mkdir(shown.path / "d")
    os.setxattr(shown.path / "d", "user.mine", b"of a directory")
    assert os.getxattr(store / "d", "user.mine") == b"of a directory"


def test_what_a_new_file_is_given_is_stored_with_it(shown: Mount, store: Path) -> None:
    path = shown.path / "f"
    path.write_text("new")
    os.setxattr(path, "user.mine", b"x")
    os.setxattr(path, "user.other", b"y")
    os.removexattr(path, "user.other")
    os.chmod(path, 0o640)
    assert os.getxattr(path, "user.mine") == b"x", "shown before it is stored"
    assert shown.run(shown.vfs.drain) == ()
    assert os.getxattr(store / "f", "user.mine") == b"x"
    assert os.listxattr(store / "f") == ["user.mine"]
    assert (store / "f").stat().st_mode & 0o777 == 0o640
    path.write_text("changed")
    assert shown.run(shown.vfs.drain) == ()
    assert os.getxattr(store / "f", "user.mine") == b"x", "a new version keeps them"


def test_create_and_replace(shown: Mount, session: str) -> None:
    if session == "pyfuse3":
        pytest.skip("pyfuse3 does not hand on the flags of setxattr(2)")
    path = shown.path / "f"
    path.write_text("x")
    with pytest.raises(OSError, match="No data"):
        os.setxattr(path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.a") == b"2"


@pytest.mark.parametrize("readable", ["false", "true"])
def test_a_pinned_file_is_fetched_and_stays(mount_here: Callable[..., Mount], store: Path, readable: str) -> None:
    for name in ("kept", "other"):
        (store / name).write_bytes(os.urandom(3 << 20))
    (store / "dir").mkdir()
    (store / "dir/below").write_bytes(b"below")
    mount = mount_here(xattr=readable)
    os.setxattr(mount.path / "kept", "user.portside.pin", b"1")
    os.setxattr(mount.path / "dir", "user.portside.pin", b"1")

    def held() -> int:
        return mount.vfs.store.held

    until(lambda: mount.run(call, held) == (3 << 20) + 5)
    (mount.path / "other").read_bytes()
    if readable == "true":
        assert os.getxattr(mount.path / "kept", "user.portside.pin") == b"1"
        assert os.getxattr(mount.path / "dir/below", "user.portside.pin") == b"1"
        assert os.getxattr(mount.path / "other", "user.portside.pin") == b"0"
    mount.run(call, mount.vfs.evictor.rescue)
    assert mount.run(call, held) == (3 << 20) + 5
    (mount.path / "kept").rename(mount.path / "renamed")
    os.removexattr(mount.path / "dir", "user.portside.pin")
    mount.run(call, mount.vfs.evictor.rescue)
    assert mount.run(call, held) == 3 << 20
    os.setxattr(mount.path / "renamed", "user.portside.pin", b"0")
    mount.run(call, mount.vfs.evictor.rescue)
    assert mount.run(call, held) == 0


async def call(function: Callable[[], object]) -> object:
    """Something of the core's that is no coroutine."""
    return function()


def test_a_pin_is_there_in_the_next_run(mount_here: Callable[..., Mount], tmp_path: Path, store: Path) -> None:
    (store / "kept").write_bytes(b"x" * 1000)
    first = mount_here()
    os.setxattr(first.path / "kept", "user.portside.pin", b"1")
    first.cancel()
    assert first.ended.wait(20)
    with mounted(open_remote("local", {}, str(store)), tmp_path) as second:
        (second.path / "kept").read_bytes()
        second.run(call, second.vfs.evictor.rescue)
        assert second.vfs.store.held == 1000
        (second.path / "kept").unlink()
        assert not second.vfs.store.pins, "and goes with the file"


def test_without_the_option_none_can_be_read_and_those_that_do_something_work(mount: Mount, store: Path) -> None:
    (mount.path / "f").write_text("x")
    for question in (lambda: os.getxattr(mount.path / "f", "user.portside.status"), lambda: os.listxattr(mount.path)):
        with pytest.raises(OSError, match="not supported") as caught:
            question()
        assert caught.value.errno == errno.ENOTSUP
    os.setxattr(mount.path / "f", "user.portside.upload", b"now")
    assert (store / "f").read_text() == "x"


def test_asking_for_capabilities_costs_the_storage_nothing(tmp_path: Path, session: str) -> None:
    remote = Counting()
    with mounted(remote, tmp_path, options=spoken(session) | {"xattr": "true"}) as mount:
        with (mount.path / "f").open("wb", buffering=0) as file:
            for _ in range(50):
                file.write(b"x" * 100)
        subprocess.run(["ls", "-l", mount.path], check=True, capture_output=True)
        assert remote.asked == 0
        assert mount.run(mount.vfs.drain) == ()
        os.listxattr(mount.path / "f")
        asked = remote.asked
        assert asked > 0
        for _ in range(10):
            os.listxattr(mount.path / "f")
        assert remote.asked == asked, "and what is known is not asked again"


class Counting(Around):
    """Counts the requests for attributes."""

    def __init__(self) -> None:
        super().__init__(Memory())
        self.asked = 0

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        self.asked += 1
        return await super().attributes(path)


def test_one_of_two_versions_says_so(shown: Mount, store: Path) -> None:
    (store / "f.txt").write_text("one")
    (shown.path / "f.txt").write_text("here")
    (store / "f.txt").write_text("there")
    assert shown.run(shown.vfs.drain) == ()
    (other,) = [name for name in os.listdir(shown.path) if "conflict" in name]
    assert os.getxattr(shown.path / other, "user.portside.status") == b"conflict"
    assert os.getxattr(shown.path / "f.txt", "user.portside.status") == b"clean"

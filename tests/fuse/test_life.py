"""How a mount begins and ends, and what its options change."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from fuse_frontend.mountpoint import mounted_at
from mountcore.errors import Refused
from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings
from mountcore.vfs import OpenFlags

from .mounting import Mount, mounted


@pytest.mark.parametrize("session", ["direct"])
def test_a_mount_that_goes_while_a_request_is_read_ends_like_any_other(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.readv

    def cut(descriptor: int, buffers: tuple[bytearray, ...]) -> int:
        read(descriptor, buffers)
        raise OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))

    monkeypatch.setattr(os, "readv", cut)
    assert subprocess.run(["stat", mount.path / "file"], capture_output=True).returncode != 0
    assert mount.ended.wait(20)


@pytest.mark.parametrize("session", ["pyfuse3"])
def test_a_mount_that_goes_while_libfuse_reads_a_request_ends_like_any_other(
    mount_here: Callable[..., Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    pyfuse3 = pytest.importorskip("pyfuse3")
    serve = pyfuse3.main

    async def cut(max_tasks: int) -> None:
        """What pyfuse3 raises when fuse_session_receive_buf(3) fails, out of its nursery."""
        with trio.move_on_after(1):
            await serve(max_tasks=max_tasks)
        raise ExceptionGroup("", [OSError(errno.ECONNABORTED, "fuse_session_receive_buf failed")])

    monkeypatch.setattr(pyfuse3, "main", cut)
    assert mount_here().ended.wait(20)


def test_unmounted_from_outside_it_ends(mount: Mount) -> None:
    subprocess.run(["umount", mount.path], check=True)
    assert mount.ended.wait(10)


def test_a_mount_that_is_in_use_ends_and_leaves_no_dead_mount_point(mount: Mount) -> None:
    (mount.path / "open").write_bytes(b"x" * 10)
    file = os.open(mount.path / "open", os.O_RDONLY)
    try:
        mount.cancel()
        assert mount.ended.wait(20)
        assert mounted_at(str(mount.path)) is None
        assert os.listdir(mount.path) == []
        with pytest.raises(OSError, match=r"not connected|aborted"):
            os.fsync(file)
    finally:
        with contextlib.suppress(OSError):  # close(2) tells that nobody answers any more, and closes
            os.close(file)


def test_what_was_written_before_the_end_is_kept(mount_here: Callable[..., Mount], tmp_path: Path, store: Path) -> None:
    settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=3600))
    mount = mount_here(settings)
    (mount.path / "late").write_text("kept")
    mount.cancel()
    assert mount.ended.wait(20)
    assert not (store / "late").exists()
    with mounted(open_remote("local", {}, str(store)), tmp_path) as again:
        assert (again.path / "late").read_text() == "kept"
        assert again.run(again.vfs.drain) == ()
    assert (store / "late").read_text() == "kept"


def test_two_mounts_in_one_process_share_the_core(mount: Mount, tmp_path: Path, store: Path) -> None:
    other = open_remote("local", {}, str(store))
    with mounted(other, tmp_path / "second", mount.vfs.settings, {"fuse-session": "direct"}, core=mount.core) as second:
        assert second.vfs is mount.vfs
        assert not (second.path / "f").exists()
        (mount.path / "f").write_text("through the first")
        pause = threading.Event()
        for _ in range(400):
            if (second.path / "f").exists():
                break
            pause.wait(0.01)
        assert (second.path / "f").read_text() == "through the first"


def test_read_only_refuses_every_change(mount_here: Callable[..., Mount], tmp_path: Path, store: Path) -> None:
    (store / "f").write_text("x")
    settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache"), read_only=True)
    mount = mount_here(settings)
    assert (mount.path / "f").read_text() == "x"
    for change in (
        lambda: (mount.path / "new").write_text("x"),
        lambda: (mount.path / "f").unlink(),
        lambda: (mount.path / "d").mkdir(),
        lambda: (mount.path / "f").rename(mount.path / "g"),
        lambda: os.truncate(mount.path / "f", 0),
    ):
        with pytest.raises(OSError, match="Read-only") as caught:
            change()
        assert caught.value.errno == errno.EROFS


def test_the_name_of_the_device(mount_here: Callable[..., Mount]) -> None:
    mount = mount_here(devname="harbour, the old one:")
    line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(mount.path) in line)
    assert "harbour" in line
    assert " fuse.portside " in line
    assert "default_permissions" in line
    assert "allow_other" not in line


def test_options_for_the_kernel(mount_here: Callable[..., Mount]) -> None:
    mount = mount_here(allow_other="true", default_permissions="false", fuse_flag="noexec,noatime")
    line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(mount.path) in line)
    for word in ("allow_other", "noexec", "noatime"):
        assert word in line
    assert "default_permissions" not in line


@pytest.mark.parametrize("kib", [128, 1024])
def test_max_read_ahead(mount_here: Callable[..., Mount], kib: int) -> None:
    mount = mount_here(max_read_ahead=f"{kib}Ki")
    there = mounted_at(str(mount.path))
    assert there is not None
    assert Path(f"/sys/class/bdi/{there.device}/read_ahead_kb").read_text().strip() == str(kib)


def test_write_back_cache_stores_the_same(mount_here: Callable[..., Mount], store: Path) -> None:
    mount = mount_here(write_back_cache="true")
    data = os.urandom(500_000)
    with (mount.path / "f").open("wb", buffering=0) as file:
        for start in range(0, len(data), 1000):
            file.write(data[start : start + 1000])
    assert (mount.path / "f").read_bytes() == data
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "f").read_bytes() == data


def test_direct_io_reads_and_writes(mount_here: Callable[..., Mount], store: Path) -> None:
    mount = mount_here(direct_io="true")
    (mount.path / "f").write_bytes(b"x" * 100_000)
    assert (mount.path / "f").read_bytes() == b"x" * 100_000


def test_attr_timeout_zero_sees_what_nobody_told(mount_here: Callable[..., Mount]) -> None:
    mount = mount_here(attr_timeout="0s")
    (mount.path / "f").write_bytes(b"four")
    assert (mount.path / "f").stat().st_size == 4

    async def grow() -> None:  # by a door that tells nobody
        handle = await mount.vfs.open(await mount.vfs.resolve("f"), OpenFlags.WRITE)
        await handle.write(4, b"more")
        await handle.close()

    mount.run(grow)
    assert (mount.path / "f").stat().st_size == 8


def test_the_kernel_gives_back_what_it_was_told(mount: Mount, store: Path) -> None:
    for i in range(50):
        (store / f"f{i}").touch()
    for entry in os.scandir(mount.path):
        entry.stat()
    mount.run(mount.vfs.refresh)
    Path("/proc/sys/vm/drop_caches").write_text("2")
    for i in range(50):
        assert (mount.path / f"f{i}").exists()


REFUSALS = {
    "missing": "does not exist; make it",
    "file": "is not a directory",
    "full": "is not empty",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_place_that_cannot_be_mounted_on(case: str, tmp_path: Path, session: str) -> None:
    point = tmp_path / "mnt"
    if case == "file":
        point.write_text("x")
    elif case == "full":
        point.mkdir()
        (point / "x").touch()
    from fuse_frontend.mountpoint import prepare

    with pytest.raises(Refused, match=REFUSALS[case]):
        prepare(str(point), allow_non_empty=False, allow_other=False)


def test_a_place_that_is_mounted_on_already(mount: Mount) -> None:
    from fuse_frontend.mountpoint import prepare

    with pytest.raises(Refused, match="mounted there already; run: portside umount"):
        prepare(str(mount.path), allow_non_empty=False, allow_other=False)

"""Directories, names and room on a mount."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mountcore.options import vfs_settings
from mountcore.remotes.registry import open_remote
from mountcore.stage import Publish
from mountcore.vfs import OpenFlags

from .mounting import Mount, mounted, spoken


def test_make_rename_and_remove_trees(mount: Mount, store: Path) -> None:
    (mount.path / "a/b/c").mkdir(parents=True)
    (mount.path / "a/b/c/f").write_text("deep")
    (mount.path / "a").rename(mount.path / "z")
    assert (mount.path / "z/b/c/f").read_text() == "deep"
    assert not (mount.path / "a").exists()
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "z/b/c/f").read_text() == "deep"
    with pytest.raises(OSError, match="not empty") as caught:
        (mount.path / "z").rmdir()
    assert caught.value.errno == errno.ENOTEMPTY
    subprocess.run(["rm", "-r", mount.path / "z"], check=True)
    assert os.listdir(store) == []


def test_rename_onto_directories(mount: Mount, store: Path) -> None:
    for name in ("empty", "full", "moved"):
        (mount.path / name).mkdir()
    (mount.path / "full/x").write_text("x")
    (mount.path / "file").write_text("file")
    with pytest.raises(OSError, match="not empty"):
        (mount.path / "moved").rename(mount.path / "full")
    (mount.path / "moved").rename(mount.path / "empty")
    with pytest.raises(IsADirectoryError):
        (mount.path / "file").rename(mount.path / "full")
    with pytest.raises(NotADirectoryError):
        (mount.path / "full").rename(mount.path / "file")
    with pytest.raises(OSError, match="Invalid argument"):
        (mount.path / "full").rename(mount.path / "full/inside")
    assert sorted(os.listdir(mount.path)) == ["empty", "file", "full"]
    mount.run(mount.vfs.drain)
    assert sorted(os.listdir(store)) == ["empty", "file", "full"]


def test_five_thousand_entries_are_listed_each_once(mount: Mount, store: Path) -> None:
    (store / "many").mkdir()
    for i in range(5000):
        (store / "many" / f"f{i:05}").touch()
    assert sorted(os.listdir(mount.path / "many")) == [f"f{i:05}" for i in range(5000)]
    assert sum(1 for entry in os.scandir(mount.path / "many") if entry.stat().st_size == 0) == 5000


def test_a_listing_that_is_under_way_keeps_every_entry_that_stays(mount: Mount, store: Path) -> None:
    (store / "d").mkdir()
    for i in range(600):
        (store / "d" / f"stay{i:03}").touch()
        (store / "d" / f"go{i:03}").touch()
    seen: list[str] = []
    with os.scandir(mount.path / "d") as listing:
        for count, entry in enumerate(listing):
            seen.append(entry.name)
            if count % 3 == 0 and count < 1500:
                number = count // 3
                (mount.path / "d" / f"new{number:03}").touch()
                (mount.path / "d" / f"go{number:03}").unlink(missing_ok=True)
    stayed = [name for name in seen if name.startswith("stay")]
    assert sorted(stayed) == [f"stay{i:03}" for i in range(600)]
    assert len(seen) == len(set(seen))


def test_df_shows_the_remote(mount: Mount, store: Path) -> None:
    here, there = os.statvfs(mount.path), os.statvfs(store)
    total, real = here.f_blocks * here.f_frsize, there.f_blocks * there.f_frsize
    assert abs(total - real) <= here.f_frsize
    assert 0 < here.f_bavail <= here.f_blocks
    assert here.f_namemax == 255


def test_symbolic_links_of_the_storage_are_followed(mount: Mount, store: Path) -> None:
    (store / "target").write_text("pointed at")
    (store / "link").symlink_to("target")
    assert os.readlink(mount.path / "link") == "target"
    assert (mount.path / "link").read_text() == "pointed at"


def test_symbolic_links_and_modes_are_kept_where_the_storage_keeps_them(mount: Mount, store: Path) -> None:
    (mount.path / "script").write_text("#!/bin/sh\nexit 7\n")
    (mount.path / "script").chmod(0o750)
    (mount.path / "link").symlink_to("script")
    (mount.path / "private").mkdir(0o700)
    with open(os.open(mount.path / "secret", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write("x")
    assert subprocess.run([mount.path / "link"], check=False).returncode == 7
    assert mount.run(mount.vfs.drain) == ()
    for place in (store, mount.path):
        assert os.readlink(place / "link") == "script"
        for name, mode in {"script": 0o750, "private": 0o700, "secret": 0o600}.items():
            # at the storage it is set after the upload, which is what drain waits for
            eventually(lambda path=place / name, mode=mode: path.stat().st_mode & 0o777 == mode)


# what comes in by another door, although the kernel was given five minutes


def put(mount: Mount, name: str, content: bytes) -> None:
    """As the FTP server does."""

    async def publish() -> None:
        stage = await mount.vfs.stage()
        os.pwrite(stage.fileno(), content, 0)
        await stage.commit(mount.vfs.root, name, size=len(content), how=Publish.REPLACE)

    mount.run(publish)


def eventually(question: Callable[..., bool]) -> None:
    """The kernel is told from a thread: soon, not before the other door's reply."""
    import threading

    pause = threading.Event()
    for _ in range(400):
        if question():
            return
        pause.wait(0.01)
    raise AssertionError("the kernel was not told")


def test_a_file_put_by_another_door_is_there_at_once(mount: Mount) -> None:
    assert not (mount.path / "new").exists()  # the kernel remembers that
    assert os.listdir(mount.path) == []
    put(mount, "new", b"by another door")
    eventually(lambda: (mount.path / "new").exists())
    assert (mount.path / "new").read_bytes() == b"by another door"


def test_content_changed_by_another_door_is_read_at_once(mount: Mount) -> None:
    (mount.path / "f").write_bytes(b"first")
    assert (mount.path / "f").read_bytes() == b"first"
    put(mount, "f", b"the second one")
    eventually(lambda: (mount.path / "f").stat().st_size == 14)
    assert (mount.path / "f").read_bytes() == b"the second one"

    async def overwrite() -> None:
        node = await mount.vfs.resolve("f")
        handle = await mount.vfs.open(node, OpenFlags.WRITE)
        await handle.write(0, b"THE")
        await handle.close()
        mount.vfs.content_changed(node)

    mount.run(overwrite)
    eventually(lambda: (mount.path / "f").read_bytes() == b"THE second one")


def test_a_listing_that_the_kernel_keeps_follows_every_door(mount: Mount, store: Path) -> None:
    (mount.path / "d").mkdir()
    names = [f"f{number:03}" for number in range(300)]
    for name in names:
        (mount.path / "d" / name).touch()
    for _ in range(2):
        assert sorted(os.listdir(mount.path / "d")) == names
    (mount.path / "d" / "f000").unlink()
    (mount.path / "d" / "f001").rename(mount.path / "d" / "g")
    names = [*names[2:], "g"]
    assert sorted(os.listdir(mount.path / "d")) == names

    async def elsewhere() -> None:
        directory = await mount.vfs.resolve("d")
        handle = await mount.vfs.create(directory, "h", OpenFlags.WRITE, exclusive=True)
        await handle.close()
        await mount.vfs.unlink(directory, "f002")

    mount.run(elsewhere)
    names = [*names[1:], "h"]
    assert sorted(os.listdir(mount.path / "d")) == names
    mount.run(mount.vfs.drain)
    (store / "d" / "i").touch()
    assert sorted(os.listdir(mount.path / "d")) == names
    mount.run(mount.vfs.refresh)
    assert sorted(os.listdir(mount.path / "d")) == [*names, "i"]


def test_an_empty_listing_that_the_kernel_keeps_follows_every_door(mount: Mount, store: Path) -> None:
    (mount.path / "d").mkdir()
    assert os.listdir(mount.path / "d") == []

    async def elsewhere() -> None:
        handle = await mount.vfs.create(await mount.vfs.resolve("d"), "h", OpenFlags.WRITE, exclusive=True)
        await handle.close()

    mount.run(elsewhere)
    assert os.listdir(mount.path / "d") == ["h"]
    assert mount.run(mount.vfs.drain) == ()
    (mount.path / "d" / "h").unlink()
    assert os.listdir(mount.path / "d") == []
    (store / "d" / "i").touch()
    mount.run(mount.vfs.refresh)
    assert os.listdir(mount.path / "d") == ["i"]


def test_a_file_removed_by_another_door_is_gone_at_once(mount: Mount) -> None:
    (mount.path / "f").write_bytes(b"x")
    assert (mount.path / "f").exists()
    mount.run(mount.vfs.unlink, mount.vfs.root, "f")
    eventually(lambda: not (mount.path / "f").exists())


def test_a_change_at_the_remote_shows_when_the_listing_is_read_anew(mount: Mount, store: Path) -> None:
    (store / "f").write_bytes(b"old")
    assert (mount.path / "f").read_bytes() == b"old"
    (store / "f").write_bytes(b"newer content")
    (store / "g").write_bytes(b"")
    mount.run(mount.vfs.refresh)
    mount.run(mount.vfs.children, mount.vfs.root)
    eventually(lambda: (mount.path / "f").stat().st_size == 13)
    assert (mount.path / "f").read_bytes() == b"newer content"
    eventually(lambda: (mount.path / "g").exists())


def test_links_as_files_owners_and_views_of_metadata(
    tmp_path: Path, session: str, store: Path, mount_here: Callable[..., Mount]
) -> None:
    given = {"links": "true", "vfs-metadata-extension": ".meta", "vfs-write-back": "10ms"}
    settings = vfs_settings({"cache-dir": str(tmp_path / "own"), **given})
    with mounted(open_remote("memory", {}, ""), tmp_path / "m", settings, spoken(session)) as mount:
        (mount.path / "link").symlink_to("file")
        (mount.path / "file").write_text("content")
        assert (mount.path / "link").read_text() == "content"
        assert os.readlink(mount.path / "link") == "file"
        assert json.loads((mount.path / "file.meta").read_text())["mtime"].endswith("Z")
        assert sorted(os.listdir(mount.path)) == ["file", "link"]
    (store / "old").write_text("x")
    mount = mount_here()
    for name in ("old", "new"):
        (mount.path / name).touch()
        os.chown(mount.path / name, 1234, -1)
        os.chown(mount.path / name, -1, 4321)
        assert ((mount.path / name).stat().st_uid, (mount.path / name).stat().st_gid) == (1234, 4321)
    assert mount.run(mount.vfs.drain) == ()
    for name in ("old", "new"):
        eventually(lambda name=name: (store / name).stat().st_uid == 1234 and (store / name).stat().st_gid == 4321)

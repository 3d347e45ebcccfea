"""Links as files, owners, views of metadata, and the other options about what is shown."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from mountcore.errors import Denied, NotFound
from mountcore.handle import OpenFlags
from mountcore.options import vfs_settings
from mountcore.remotes.protocol import Kind
from mountcore.settings import OwnerSettings, ReadSettings, TreeSettings, VfsSettings
from mountcore.vfs import Vfs

from .live import mkdir, names, place, read_file, remove, rename, write_file
from .scene import edit, folder, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away; the tests in a container are root")


def chosen(cache: Path, **given: str) -> VfsSettings:
    """Settings as the command line makes them."""
    texts = {name.replace("_", "-"): text for name, text in given.items()}
    return vfs_settings({"cache-dir": str(cache), "vfs-write-back": "1h", **texts})


@pytest.mark.parametrize("option", ["links", "vfs_links"])
async def test_links_are_files_where_the_remote_has_none(tmp_path: Path, option: str) -> None:
    remote = memory()
    async with opened(remote, chosen(tmp_path, **{option: "true"})) as vfs:
        await mkdir(vfs, "d")
        node = await vfs.symlink(await vfs.resolve("d"), "l", "../where")
        assert (node.kind, await vfs.readlink(node), vfs.attributes(node).size) == (Kind.SYMLINK, "../where", 8)
        await rename(vfs, "d/l", "m")
        await rename(vfs, "d", "e")
        assert await content_of_remote(remote.inner) == {"e": None, "m.rclonelink": b"../where"}
    async with opened(remote, chosen(tmp_path, **{option: "true"})) as vfs:
        assert await names(vfs) == {"e", "m"}
        assert await vfs.readlink(await vfs.resolve("m")) == "../where"
        await write_file(vfs, "f", b"content")
        assert await vfs.drain() == ()
        await rename(vfs, "f", "m")
        assert await read_file(vfs, "m") == b"content"
        assert await content_of_remote(remote.inner) == {"e": None, "m": b"content"}
        await remove(vfs, "m")
    async with opened(remote, chosen(tmp_path)) as vfs:
        await edit(remote, "l.rclonelink", b"x")
        assert await names(vfs) == {"e", "l.rclonelink"}, "without --links it is a file like any other"


async def test_a_remote_that_promises_links_and_refuses_one_gets_a_file(tmp_path: Path) -> None:
    remote = memory()
    remote.caps_changes = {"symlinks": True}
    async with opened(remote, chosen(tmp_path, links="true")) as vfs:
        await vfs.symlink(vfs.root, "l", "where")
        assert await content_of_remote(remote.inner) == {"l.rclonelink": b"where"}


@pytest.mark.parametrize("explicit", [False, True])
async def test_the_storages_owner_is_shown_unless_another_is_asked_for(tmp_path: Path, explicit: bool) -> None:
    remote = folder(tmp_path / "store")
    await edit(remote, "f", b"x")
    status = os.stat(tmp_path / "store" / "f")
    given = {"uid": "1234", "gid": "4321"} if explicit else {}
    async with opened(remote, chosen(tmp_path / "cache", **given)) as vfs:
        shown = vfs.attributes(await vfs.resolve("f"))
        expected = (1234, 4321) if explicit else (status.st_uid, status.st_gid)
        assert (shown.uid, shown.gid) == expected


@ROOT
async def test_a_new_owner_is_kept_now_later_and_over_a_new_content(tmp_path: Path) -> None:
    store = tmp_path / "store"
    remote = folder(store)
    await edit(remote, "old", b"x")

    async def owner(vfs: Vfs, path: str) -> tuple[int, int]:
        shown = vfs.attributes(await vfs.resolve(path))
        return shown.uid, shown.gid

    async with opened(remote, chosen(tmp_path / "cache")) as vfs:
        await write_file(vfs, "new", b"not stored yet")
        await mkdir(vfs, "d")
        for path in ("old", "new", "d"):
            await vfs.set_owner(await vfs.resolve(path), 1234, None)
            await vfs.set_owner(await vfs.resolve(path), None, 4321)
            assert await owner(vfs, path) == (1234, 4321)
        await vfs.set_mode(await vfs.resolve("new"), 0o640)
        await write_file(vfs, "old", b"changed")
        assert await vfs.drain() == ()
        for path in ("old", "new", "d"):
            await until(lambda path=path: os.stat(store / path).st_uid == 1234)
            assert os.stat(store / path).st_gid == 4321
        await until(lambda: os.stat(store / "new").st_mode & 0o777 == 0o640)
        assert (store / "old").read_bytes() == b"changed"
        await vfs.refresh()
        assert await owner(vfs, "new") == (1234, 4321)
    async with opened(remote, chosen(tmp_path / "cache")) as vfs:
        remote.down = NotFound()
        assert await owner(vfs, "new") == (1234, 4321), "the saved listing has it, too"


async def test_owners_are_the_mounts_where_the_remote_keeps_none(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"x")
    async with opened(remote, chosen(tmp_path, uid="77", gid="88")) as vfs:
        node = await vfs.resolve("f")
        await vfs.set_owner(node, 5, 6)
        assert (vfs.attributes(node).uid, vfs.attributes(node).gid) == (77, 88)


async def test_permission_bits_of_links(tmp_path: Path) -> None:
    remote = memory()
    given = {"links": "true", "umask": "0022", "link_perms": "0753"}
    async with opened(remote, chosen(tmp_path, **given)) as vfs:
        node = await vfs.symlink(vfs.root, "l", "x")
        assert vfs.attributes(node).mode & 0o7777 == 0o751
    assert OwnerSettings().link_perms == 0o666


async def test_no_modtime_shows_the_directorys_and_sets_none(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"x", 10**18)
    async with opened(remote, chosen(tmp_path, no_modtime="true")) as vfs:
        node = await vfs.resolve("f")
        assert vfs.attributes(node).mtime_ns == vfs.attributes(vfs.root).mtime_ns != 10**18
        await vfs.set_mtime(node, 2 * 10**18)
        assert (await remote.inner.stat("f")).mtime_ns == 10**18


# views


async def test_what_is_known_of_a_file_is_a_file_that_no_listing_has(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f.txt", b"content", 1_500_000_000_123_456_789)
    await remote.inner.set_attribute("f.txt", "colour", b"red")
    await remote.inner.mkdir("d")
    given = {"vfs_metadata_extension": ".meta", "uid": "7", "gid": "8", "file_perms": "0640", "umask": "0"}
    async with opened(remote, chosen(tmp_path, **given)) as vfs:
        node = await vfs.resolve("f.txt.meta")
        told = json.loads(await read_file(vfs, "f.txt.meta"))
        assert told == {
            "colour": "red",
            "gid": "8",
            "mode": "100640",
            "mtime": "2017-07-14T02:40:00.123456789Z",
            "uid": "7",
        }
        assert vfs.attributes(node).size == len(await read_file(vfs, "f.txt.meta"))
        assert (await vfs.resolve("f.txt.meta")).inode == node.inode
        assert json.loads(await read_file(vfs, "d.meta"))["mode"].startswith("40")
        assert await names(vfs) == {"f.txt", "d"}
        with pytest.raises(NotFound):
            await vfs.resolve("absent.meta")
        with pytest.raises(Denied):
            await vfs.open(node, OpenFlags.WRITE)
        with pytest.raises(NotFound):
            await vfs.unlink(*await place(vfs, "f.txt.meta"))
        await vfs.set_mtime(await vfs.resolve("f.txt"), 10**18)
        assert json.loads(await read_file(vfs, "f.txt.meta"))["mtime"] == "2001-09-09T01:46:40.000000000Z"
        await write_file(vfs, "g.meta", b"a real one wins")
        await write_file(vfs, "g", b"x")
        assert await read_file(vfs, "g.meta") == b"a real one wins"
    async with opened(memory(), chosen(tmp_path)) as vfs:
        await write_file(vfs, "f", b"x")
        with pytest.raises(NotFound):
            await vfs.resolve("f.meta")


async def test_who_follows_a_file_hears_of_its_view(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"x")
    async with opened(remote, chosen(tmp_path, vfs_metadata_extension=".meta")) as vfs:
        view = await vfs.resolve("f.meta")
        told: list[int] = []
        vfs.subscribe(lambda change: told.append(change.inode))
        await vfs.set_mtime(await vfs.resolve("f"), 10**18)
        assert view.inode in told


# reading


@pytest.mark.parametrize("caching", [0.0, 3600.0])
async def test_a_download_waits_for_its_reader_as_long_as_asked(tmp_path: Path, caching: float) -> None:
    remote = memory()
    await edit(remote, "f", bytes(8 << 20))
    read = ReadSettings(buffer_size=0, handle_caching=caching)
    async with opened(remote, replace(settings(tmp_path, read=read, tree=TreeSettings(poll_interval=None)))) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        await handle.read(0, 1000)
        await handle.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert vfs.snapshot().streams == (1 if caching else 0)

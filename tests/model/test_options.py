"""Every option of the file system and cache: refused where it makes no sense, else it changes something.

What each changes is tested where its subject is; here stand those that are a subject of their own.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from mountcore.errors import Exists, NotFound, NotSeekable, Refused
from mountcore.handle import OpenFlags
from mountcore.options import VFS_OPTIONS, vfs_settings
from mountcore.settings import CacheMode, ReadSettings, TreeSettings, VfsSettings

from . import live
from .scene import edit, memory, opened, settings, until

MIB = 1 << 20
ACCEPTED = {"vfs-fast-fingerprint", "use-server-modtime"}
"""For scripts written for rclone; they say so."""
OTHER = {
    "cache-dir": "/elsewhere", "vfs-cache-mode": "off", "on-conflict": "local", "bwlimit": "1M:2M", "umask": "0070",
    "uid": "12", "gid": "13", "dir-perms": "0700", "file-perms": "0600", "link-perms": "0600",
    "vfs-metadata-extension": ".meta", "tpslimit": "5", "vfs-read-chunk-streams": "3",
}  # fmt: skip


def another(name: str, metavar: str, default: str, flag: bool) -> str:
    """A value that is not the default."""
    if name in OTHER:
        return OTHER[name]
    if flag:
        return "false" if default == "true" else "true"
    return {"DURATION": "77s", "SIZE": "192Mi", "N": "7"}[metavar]


@pytest.mark.parametrize("option", VFS_OPTIONS, ids=lambda option: option.name)
def test_an_option_reaches_the_core(option: object) -> None:
    name, flag = option.name, option.flag  # type: ignore[attr-defined]
    text = another(name, option.metavar, option.default, flag)  # type: ignore[attr-defined]
    changed = vfs_settings({name: text}) != vfs_settings({})
    assert changed is (name not in ACCEPTED)


@pytest.mark.parametrize("option", VFS_OPTIONS, ids=lambda option: option.name)
def test_a_value_that_makes_no_sense_is_refused_by_name(option: object) -> None:
    name, metavar = option.name, option.metavar  # type: ignore[attr-defined]
    nonsense = {
        "DURATION": ["-5s", "5 parsecs", "", "9" * 400], "SIZE": ["-1", "1X", "", "9" * 400],
        "DIR": ["", "a\0b"], "N": ["-1", "1.5x", "many"],
        "OCTAL": ["0999", "-1", "99999"], "RATE": ["-1", "1M:fast", "08:00,512k 12:00,off"],
        "MODE": ["half"], "WHICH": ["both"],
    }.get(metavar, ["perhaps"] if option.flag else [])  # type: ignore[attr-defined]  # fmt: skip
    for text in nonsense:
        with pytest.raises(Refused, match=f"--{name}: "):
            vfs_settings({name: text})


@pytest.mark.parametrize(
    "name", ["vfs-cache-max-size", "vfs-cache-min-free-space", "bwlimit", "vfs-read-chunk-size", "timeout", "tpslimit"]
)
def test_0_means_no_limit_as_with_rclone(name: str) -> None:
    assert vfs_settings({name: "0"}) == vfs_settings({name: "0" if name == "tpslimit" else "off"})


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(Refused, match="--vfs-read-chunk-size-limit must be at least"):
        vfs_settings({"vfs-read-chunk-size": "10M", "vfs-read-chunk-size-limit": "1M"})
    with pytest.raises(Refused, match="did you mean --dir-cache-time"):
        vfs_settings({"dir-cache-tme": "5m"})
    with pytest.raises(Refused, match="--vfs-metadata-extension"):
        vfs_settings({"vfs-metadata-extension": "/x"})


def direct(place: Path, **read: object) -> VfsSettings:
    """Settings for reading and writing past the cache."""
    return settings(place, mode=CacheMode.OFF, read=replace(ReadSettings(), **read))  # type: ignore[arg-type]


@pytest.mark.trio
@pytest.mark.parametrize("no_seek", [False, True])
async def test_no_seek_reads_in_order_only(tmp_path: Path, no_seek: bool) -> None:
    remote = memory()
    await edit(remote, "f", bytes(9 * MIB))
    async with opened(remote, direct(tmp_path, no_seek=no_seek, read_wait=0.0)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        assert await handle.read(0, 10) == bytes(10)
        assert await handle.read(10, 10) == bytes(10)
        if no_seek:
            with pytest.raises(NotSeekable):
                await handle.read(8 * MIB, 10)
        else:
            assert await handle.read(8 * MIB, 10) == bytes(10)
        await handle.close()


@pytest.mark.trio
@pytest.mark.parametrize("wait", [0.0, 5.0])
async def test_read_wait_puts_reads_in_order_instead_of_seeking(tmp_path: Path, wait: float) -> None:
    remote = memory()
    await edit(remote, "f", bytes(MIB))
    async with opened(remote, direct(tmp_path, read_wait=wait)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.read, 128 << 10, 128 << 10)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(handle.read, 0, 128 << 10)
        assert remote.asked("read") == (1 if wait else 2)
        await handle.close()


@pytest.mark.trio
@pytest.mark.parametrize("wait", [0.0, 5.0])
async def test_write_wait_puts_writes_in_order_instead_of_refusing(tmp_path: Path, wait: float) -> None:
    remote = memory()
    async with opened(remote, direct(tmp_path, write_wait=wait)) as vfs:
        handle = await vfs.create(vfs.root, "f", OpenFlags.WRITE, exclusive=True)
        if not wait:
            with pytest.raises(NotSeekable):
                await handle.write(4, b"late")
            await handle.write(0, b"soon")
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle.write, 4, b"late")
                await trio.testing.wait_all_tasks_blocked()
                await handle.write(0, b"soon")
        await handle.close()
        assert await live.read_file(vfs, "f") == (b"soonlate" if wait else b"soon")


@pytest.mark.trio
@pytest.mark.parametrize("refresh", [False, True])
async def test_refresh_lists_everything_at_the_start(tmp_path: Path, refresh: bool) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await remote.inner.mkdir("d/e")
    chosen = settings(tmp_path, tree=TreeSettings(refresh=refresh, poll_interval=None))
    async with opened(remote, chosen):
        if refresh:
            await until(lambda: remote.asked("list", "d/e"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert remote.asked("list") == (3 if refresh else 0)


@pytest.mark.trio
@pytest.mark.parametrize("block", [False, True])
async def test_names_that_count_as_the_same_are_shown_once(tmp_path: Path, block: bool) -> None:
    remote = memory()
    for name in ("caf\u00e9", "cafe\u0301", "other"):
        await edit(remote, name, b"x")
    chosen = settings(tmp_path, tree=TreeSettings(block_dupes=block, poll_interval=None))
    async with opened(remote, chosen) as vfs:
        assert len(await live.names(vfs)) == (2 if block else 3)


@pytest.mark.trio
@pytest.mark.parametrize("insensitive", [False, True])
async def test_names_are_found_whatever_their_case(tmp_path: Path, insensitive: bool) -> None:
    remote = memory()
    await edit(remote, "ReadMe.TXT", b"x")
    chosen = settings(tmp_path, tree=TreeSettings(case_insensitive=insensitive, poll_interval=None))
    async with opened(remote, chosen) as vfs:
        if insensitive:
            assert await vfs.resolve("README.txt") is await vfs.resolve("ReadMe.TXT")
            with pytest.raises(Exists):
                await vfs.create(vfs.root, "readme.txt", OpenFlags.WRITE, exclusive=True)
            await live.write_file(vfs, "readme.txt", b"changed")
            assert await live.read_file(vfs, "ReadMe.TXT") == b"changed"
        else:
            with pytest.raises(NotFound):
                await vfs.resolve("README.txt")
            await live.write_file(vfs, "readme.txt", b"another")
        assert await vfs.drain() == ()
        assert await live.names(vfs) == ({"ReadMe.TXT"} if insensitive else {"ReadMe.TXT", "readme.txt"})
        assert {entry.name async for entry in remote.inner.list("")} == await live.names(vfs)


@pytest.mark.trio
@pytest.mark.parametrize("normalize", [False, True])
async def test_names_in_other_normal_forms_are_the_same_unless_asked(tmp_path: Path, normalize: bool) -> None:
    remote = memory()
    await edit(remote, "caf\u00e9", b"x")
    texts = {"cache-dir": str(tmp_path)} | ({} if normalize else {"no-unicode-normalization": "true"})
    async with opened(remote, vfs_settings(texts)) as vfs:
        if normalize:
            assert (await vfs.resolve("cafe\u0301")).name == "caf\u00e9"
        else:
            with pytest.raises(NotFound):
                await vfs.resolve("cafe\u0301")


@pytest.mark.trio
async def test_tpslimit_spaces_requests(tmp_path: Path) -> None:
    remote = memory()
    for number in range(8):
        await remote.inner.mkdir(f"d{number}")
    async with opened(remote, replace(settings(tmp_path), request_limit=10.0)) as vfs:
        began = trio.current_time()
        for number in range(8):
            await live.names(vfs, f"d{number}")
        assert trio.current_time() - began > 0.3, "8 requests at 10 in a second"


@pytest.mark.trio
async def test_bwlimit_slows_uploads_and_downloads(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", bytes(4 * MIB))
    chosen = replace(settings(tmp_path), upload_limit=4 * MIB, download_limit=8 * MIB)
    async with opened(remote, chosen) as vfs:
        began = trio.current_time()
        await live.read_file(vfs, "f")
        assert trio.current_time() - began > 0.25, "4 MiB at 8 MiB in a second"
        await live.write_file(vfs, "g", bytes(2 * MIB))
        began = trio.current_time()
        assert await vfs.drain() == ()
        assert trio.current_time() - began > 0.25, "2 MiB at 4 MiB in a second"


@pytest.mark.trio
@pytest.mark.parametrize("wanted", [1, 1 << 60])
async def test_min_free_space_keeps_the_disk_free(tmp_path: Path, wanted: int) -> None:
    remote = memory()
    data = os.urandom(MIB)
    await edit(remote, "f", data)
    assert shutil.disk_usage(tmp_path).free < 1 << 60
    async with opened(remote, settings(tmp_path, min_free_space=wanted)) as vfs:
        assert await live.read_file(vfs, "f") == data
        assert vfs.snapshot().cached_bytes == (MIB if wanted == 1 else 0)


@pytest.mark.trio
async def test_permission_bits_of_directories_and_files(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "f", b"x")
    texts = {"cache-dir": str(tmp_path), "dir-perms": "0751", "file-perms": "0646", "umask": "0002"}
    async with opened(remote, vfs_settings(texts)) as vfs:
        modes = [vfs.attributes(await vfs.resolve(name)).mode & 0o7777 for name in ("d", "f")]
        assert modes == [0o751, 0o644]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away; the tests in a container are root")
@pytest.mark.trio
async def test_a_cache_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        directory = vfs.store.directory
    os.chown(directory, 12345, 12345)
    with pytest.raises(Refused, match="belongs to user 12345"):
        async with opened(remote, settings(tmp_path)):
            pass

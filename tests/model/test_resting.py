"""Items that nobody uses: how many stay in memory, how many files stay open, and what the index knows of them."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest

from mountcore.cache import store
from mountcore.cache.latesync import LateSync
from mountcore.handle import OpenFlags
from mountcore.stage import Publish
from mountcore.vfs import Vfs

from . import live
from .scene import edit, memory, opened, settings

FILES = 60


def files_open(cache: Path) -> int:
    """Descriptors of this process that are cache files."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith(f"{cache}/") and name.isdigit()
        except OSError:
            continue
    return found


async def read_all(vfs: Vfs) -> None:
    """Open, read and close every file."""
    for number in range(FILES):
        handle = await vfs.open(await vfs.resolve(f"file{number}"), OpenFlags.READ)
        assert await handle.read(0, 100) == b"%d" % number
        await handle.close()


@pytest.mark.trio
async def test_files_at_rest_are_few_and_open_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "IDLE_FILES", 10)
    remote = memory()
    for number in range(FILES):
        await edit(remote, f"file{number}", b"%d" % number)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        before = files_open(tmp_path / "cache")
        await read_all(vfs)
        assert files_open(tmp_path / "cache") - before == 10
        for number in range(FILES):  # changed, and kept until uploaded: nor do these hold a descriptor each
            handle = await vfs.open(await vfs.resolve(f"file{number}"), OpenFlags.WRITE)
            await handle.write(0, b"x")
            await handle.close()
        assert files_open(tmp_path / "cache") - before == 10
        assert not await vfs.drain()
        assert remote.asked("put") == FILES
        await read_back(vfs)


async def read_back(vfs: Vfs) -> None:
    """What `test_files_at_rest_are_few_and_open_again` wrote."""
    for number in range(FILES):
        handle = await vfs.open(await vfs.resolve(f"file{number}"), OpenFlags.READ)
        assert await handle.read(0, 100) == b"x" + (b"%d" % number)[1:]
        await handle.close()


@pytest.mark.trio
async def test_items_at_rest_are_few_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "IDLE_ITEMS", 20)
    monkeypatch.setattr(store, "DROPPED", 5)
    remote = memory()
    for number in range(FILES):
        await edit(remote, f"file{number}", b"%d" % number)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        await read_all(vfs)
        in_memory = [number for number in range(FILES) if vfs.store.peek(f"file{number}")]
        assert 15 <= len(in_memory) <= 20
        assert in_memory[-1] == FILES - 1, "least recently used goes first"
        fetched = vfs.counters.fetched_bytes
        await read_all(vfs)
        assert vfs.counters.fetched_bytes == fetched, "what left memory is still in the cache"


@pytest.mark.trio
async def test_eviction_goes_by_the_latest_use_of_files_at_rest(tmp_path: Path) -> None:
    remote = memory()
    for number in range(FILES):
        await edit(remote, f"file{number}", b"%d" % number)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        await read_all(vfs)
        vfs.store.save_resting()
        handle = await vfs.open(await vfs.resolve("file0"), OpenFlags.READ)
        await handle.close()
        assert vfs.evictor.make_room(3) >= 3
        assert vfs.store.get("file0") is not None, "it was used last"
        assert vfs.store.get("file1") is None


@pytest.mark.trio
async def test_many_closed_files_are_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single: list[int] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        single.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    async with opened(memory(), settings(tmp_path / "cache")) as vfs:
        for number in range(FILES):
            await live.write_file(vfs, f"file{number}", b"closed")
        late = LateSync(vfs.store)
        await late.look()
        await late.look()
        promised = [item.row.promise for number in range(FILES) if (item := vfs.store.get(f"file{number}"))]
        assert promised == [2] * FILES
        assert len(single) < FILES // 2, "the index, and not each of them"


@pytest.mark.trio
@pytest.mark.parametrize("how", ["removed", "replaced", "written anew", "published over", "removed while open"])
async def test_what_is_gone_leaves_nothing_in_memory(tmp_path: Path, how: str) -> None:
    async with opened(memory(), settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file", b"content")
        node = await vfs.resolve("file")
        gone = weakref.ref(node)
        match how:
            case "removed":
                await live.remove(vfs, "file")
            case "replaced":
                await live.write_file(vfs, "new", b"another")
                await live.rename(vfs, "new", "file")
            case "written anew":
                await live.remove(vfs, "file")
                await live.write_file(vfs, "file", b"another")
            case "published over":
                stage = await vfs.stage()
                await stage.commit(vfs.root, "file", size=0, how=Publish.REPLACE)
            case "removed while open":
                handle = await vfs.open(node, OpenFlags.READ | OpenFlags.WRITE)
                await live.remove(vfs, "file")
                await handle.write(0, b"more")
                await handle.close()
                del handle
        del node
        gc.collect()
        assert gone() is None

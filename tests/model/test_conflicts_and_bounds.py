"""Edits on both sides, and the bounds of the cache."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from mountcore.accounting import UploadState
from mountcore.errors import BadHandle, Corrupt, NoSpace, Unreachable
from mountcore.handle import OpenFlags
from mountcore.remotes.protocol import Usage
from mountcore.settings import CacheMode, OnConflict, ReadSettings
from mountcore.space import fill_in
from mountcore.vfs import Vfs

from .live import names, overwrite, read_file, write_file
from .scene import edit, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio
MIB = 1 << 20


async def both_edit(vfs: Vfs, remote: object, here: bytes, there: bytes) -> None:
    """The same file, changed here and then at the remote, before the upload."""
    await read_file(vfs, "f.txt")
    await write_file(vfs, "f.txt", here)
    await edit(remote, "f.txt", there)  # type: ignore[arg-type]


async def test_keep_both_keeps_both(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f.txt", b"before")
    async with opened(remote, settings(tmp_path)) as vfs:
        await both_edit(vfs, remote, b"here", b"there!")
        assert await vfs.drain() == ()
        stored = await content_of_remote(remote.inner)
        assert stored.pop("f.txt") == b"there!"
        ((name, data),) = stored.items()
        assert name.startswith("f (conflict ")
        assert name.endswith(").txt")
        assert data == b"here"
        assert await names(vfs) == {"f.txt", name}
        assert await read_file(vfs, "f.txt") == b"there!"
        assert await read_file(vfs, name) == b"here"


@pytest.mark.parametrize(
    ("choice", "kept"), [(OnConflict.LOCAL, b"here"), (OnConflict.REMOTE, b"there!")], ids=["local", "remote"]
)
async def test_one_side_wins_where_that_is_wanted(tmp_path: Path, choice: OnConflict, kept: bytes) -> None:
    remote = memory()
    await edit(remote, "f.txt", b"before")
    async with opened(remote, settings(tmp_path, on_conflict=choice)) as vfs:
        await both_edit(vfs, remote, b"here", b"there!")
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f.txt": kept}
        assert await read_file(vfs, "f.txt") == kept


async def test_a_part_that_cannot_be_completed_any_more_is_kept_until_it_is_given_up(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f.txt", bytes(2 * MIB))
    read = ReadSettings(chunk_size=MIB // 4, buffer_size=0)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        handle = await vfs.open(await vfs.resolve("f.txt"), OpenFlags.WRITE)
        await handle.write(MIB, b"HERE")
        await handle.close()
        await edit(remote, "f.txt", b"there!")
        (left,) = await vfs.drain(1)
        assert left.path.startswith("f (conflict ")
        assert "neither here nor at the remote" in left.error
        assert await names(vfs) == {"f.txt", left.path}
        assert await read_file(vfs, "f.txt") == b"there!"
        handle = await vfs.open(await vfs.resolve(left.path), OpenFlags.READ)
        assert await handle.read(MIB, 4) == b"HERE"
        with pytest.raises(Corrupt):
            await handle.read(0, 4)
        await handle.close()
        await vfs.discard_changes(await vfs.resolve(left.path))
        assert await vfs.drain() == ()
        assert await names(vfs) == {"f.txt"}
        assert await content_of_remote(remote.inner) == {"f.txt": b"there!"}


async def test_an_edit_here_outlives_a_removal_there(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"before")
    async with opened(remote, settings(tmp_path)) as vfs:
        await write_file(vfs, "f", b"edited")
        await remote.inner.remove("f")
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"edited"}


async def test_our_own_upload_whose_answer_was_lost_is_no_conflict(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("put", "f", after=Unreachable("f", "the answer was lost"))
        await write_file(vfs, "f", b"stored all the same")
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"stored all the same"}


async def test_a_failing_upload_is_tried_again_and_says_why(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, write_back=0.01)) as vfs:
        remote.rule("put", "f", before=Unreachable("f", "no route"), times=2)
        await write_file(vfs, "f", b"patience")
        await until(lambda: vfs.snapshot().uploads and vfs.snapshot().uploads[0].tries == 1)
        (upload,) = vfs.snapshot().uploads
        assert upload.state is UploadState.RETRYING
        assert "no route" in upload.error
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"patience"}


@pytest.mark.parametrize("write_back", [0.0, 0.01])
async def test_a_held_upload_waits_and_a_discarded_one_shows_the_remote_again(
    tmp_path: Path, write_back: float
) -> None:
    remote = memory()
    await edit(remote, "f", b"before")
    async with opened(remote, settings(tmp_path, write_back=write_back)) as vfs:
        node = await vfs.resolve("f")
        handle = await vfs.open(node, OpenFlags.WRITE | OpenFlags.TRUNCATE)
        await handle.write(0, b"changed")
        await vfs.hold_upload(node, True)
        await handle.flush()
        await handle.close()
        await vfs.drain()
        assert await content_of_remote(remote.inner) == {"f": b"before"}
        await vfs.hold_upload(node, False)
        await vfs.settle(node)
        assert await content_of_remote(remote.inner) == {"f": b"changed"}
        handle = await vfs.open(node, OpenFlags.WRITE)
        await handle.write(0, b"CHANGED")
        await vfs.discard_changes(node)
        await handle.close()
        assert await read_file(vfs, "f") == b"changed"
        if not write_back:
            return
        await overwrite(vfs, "f", 0, b"CHANGED")
        await vfs.discard_changes(node)
        assert await read_file(vfs, "f") == b"changed"


# bounds


async def test_the_least_recently_used_goes_first_and_never_what_is_dirty_or_open(tmp_path: Path) -> None:
    remote = memory()
    for name in "abcd":
        await edit(remote, name, name.encode() * MIB)
    async with opened(remote, settings(tmp_path, max_size=3 * MIB + MIB // 2, max_age=None)) as vfs:
        for name in "abc":
            await read_file(vfs, name)
        handle = await vfs.open(await vfs.resolve("a"), OpenFlags.READ)
        await write_file(vfs, "dirty", b"d" * (MIB // 4))
        assert await read_file(vfs, "d") == b"d" * MIB
        assert vfs.snapshot().cached_bytes <= 3 * MIB + MIB // 2
        assert vfs.store.get("b") is None, "the least recently used is still there"
        held = vfs.store.get("a")
        assert held is not None
        assert held.complete
        assert await read_file(vfs, "dirty") == b"d" * (MIB // 4)
        await handle.close()


async def test_age_takes_what_nobody_used(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", bytes(MIB))
    async with opened(remote, settings(tmp_path, max_age=0.0, poll_interval=0.05)) as vfs:
        await read_file(vfs, "f")
        await until(lambda: vfs.snapshot().cached_bytes == 0)


async def test_a_writer_over_the_bound_waits_for_uploads(tmp_path: Path) -> None:
    remote = memory()
    gate = remote.gate("put", "first")
    async with opened(remote, settings(tmp_path, max_size=2 * MIB)) as vfs:
        await write_file(vfs, "first", bytes(MIB + MIB // 2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_file, vfs, "second", bytes(MIB))
            await gate.entered.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert vfs.snapshot().cached_bytes <= 2 * MIB
            gate.release()
        assert vfs.snapshot().cached_bytes <= 2 * MIB
        assert await vfs.drain() == ()


async def test_a_writer_over_the_bound_does_not_hammer_storage_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once more, and then at its own pace; the writer waits as long as ever, and is told."""
    monkeypatch.setattr("mountcore.contents.ROOM_PATIENCE", 0.5)
    remote = memory()
    async with opened(remote, settings(tmp_path, max_size=2 * MIB)) as vfs:
        await write_file(vfs, "first", bytes(MIB + MIB // 2))
        remote.rule("put", before=Unreachable("first", "no route"), times=1_000_000)
        with pytest.raises(NoSpace, match="not uploaded yet"):
            await write_file(vfs, "second", bytes(MIB))
        assert remote.asked("put", "first") == 1
        remote.rules.clear()
        assert await vfs.drain() == ()
        assert (await content_of_remote(remote.inner))["first"] == bytes(MIB + MIB // 2)


async def test_a_file_written_past_the_cache_keeps_to_the_bound(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, mode=CacheMode.OFF, max_size=MIB)) as vfs:
        handle = await vfs.create(vfs.root, "f", OpenFlags.WRITE, exclusive=True)
        for start in range(0, MIB, MIB // 4):
            assert handle.try_write(start, bytes(MIB // 4)) == MIB // 4
        assert handle.try_write(MIB, b"more") is None
        with pytest.raises(NoSpace):
            await handle.write(MIB, b"more")
        assert vfs.snapshot().cached_bytes == MIB
        await handle.flush()
        await handle.close()
        assert await content_of_remote(remote.inner) == {"f": bytes(MIB)}


async def test_a_file_larger_than_the_bound_is_read_whole(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(6 * MIB)
    await edit(remote, "f", data)
    async with opened(remote, settings(tmp_path, max_size=2 * MIB)) as vfs:
        assert await read_file(vfs, "f") == data
        assert vfs.snapshot().cached_bytes <= 2 * MIB


async def test_a_read_with_nothing_but_changed_files_in_the_cache_goes_past_it(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(2 * MIB)
    await edit(remote, "clean", data)
    async with opened(remote, settings(tmp_path, max_size=2 * MIB)) as vfs:
        await write_file(vfs, "dirty", bytes(2 * MIB))
        assert await read_file(vfs, "clean") == data
        assert vfs.snapshot().cached_bytes == vfs.snapshot().dirty_bytes == 2 * MIB
        with pytest.raises(BadHandle):
            await (await vfs.open(await vfs.resolve("clean"), OpenFlags.READ)).write(0, b"x")
        assert remote.asked("put") == 0
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"clean": data, "dirty": bytes(2 * MIB)}


async def test_a_file_in_use_loses_ranges_and_is_right_all_the_same(tmp_path: Path) -> None:
    remote = memory()
    first, second = os.urandom(3 * MIB), os.urandom(3 * MIB)
    await edit(remote, "first", first)
    await edit(remote, "second", second)
    async with opened(remote, settings(tmp_path, max_size=4 * MIB)) as vfs:
        handle = await vfs.open(await vfs.resolve("first"), OpenFlags.READ)
        assert await handle.read(0, 3 * MIB) == first
        assert await read_file(vfs, "second") == second
        item = vfs.store.get("first")
        assert item is not None
        assert 0 < item.spans.total < 3 * MIB, "the open file lost some of it, and not all"
        assert vfs.snapshot().cached_bytes <= 4 * MIB
        assert await handle.read(0, 3 * MIB) == first
        await handle.close()


async def test_eviction_does_not_scan(tmp_path: Path) -> None:
    async with opened(memory(), settings(tmp_path)) as vfs:
        queries: list[str] = []
        vfs.store.index._db.set_trace_callback(queries.append)
        list(vfs.store.index.oldest(10.0))
        vfs.store.index._db.set_trace_callback(None)
        (query,) = queries
        plan = " ".join(str(row[3]) for row in vfs.store.index._db.execute("EXPLAIN QUERY PLAN " + query))
        assert "items_by_access" in plan
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    "usage", [Usage(), Usage(total=10, used=20), Usage(total=10, free=30), Usage(free=-5), Usage(used=-1, total=0)]
)
async def test_room_is_never_negative(usage: Usage) -> None:
    for total in (None, 0, 5):
        room = fill_in(usage, total)
        assert room.total >= 0
        assert room.used >= 0
        assert 0 <= room.free <= room.total


@pytest.mark.parametrize("at_once", [False, True])
async def test_used_is_size_counts_the_remote(tmp_path: Path, at_once: bool) -> None:
    remote = memory()
    remote.caps_changes = {"list_tree": at_once}
    await edit(remote, "a", bytes(1000))
    await remote.inner.mkdir("d")
    await edit(remote, "d/b", bytes(234))
    chosen = replace(settings(tmp_path), used_is_size=True, total_size=10_000)
    async with opened(remote, chosen) as vfs:
        room = await vfs.statfs()
        assert (room.total, room.used, room.free) == (10_000, 1234, 8766)
        assert remote.asked("list") == (0 if at_once else 2)


async def test_nobody_waits_for_a_remote_that_does_not_say_how_much_room_there_is(tmp_path: Path) -> None:
    remote = memory()
    remote.caps_changes = {"list_tree": False}
    await edit(remote, "a", bytes(1000))
    gate = remote.gate("list", "")
    chosen = replace(settings(tmp_path), used_is_size=True, total_size=10_000)
    async with opened(remote, chosen) as vfs:
        assert (await vfs.statfs()).used == 0, "it answers while the remote is still counted"
        assert gate.entered.is_set()
        assert remote.asked("list") == 1, "and it is counted once"
        gate.release()
        with trio.fail_after(5):
            while (await vfs.statfs()).used != 1000:  # noqa: ASYNC110 - the count has no event
                await trio.sleep(0.01)

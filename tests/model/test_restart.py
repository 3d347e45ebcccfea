"""What a program sees after portside was started again: nothing is missing, nothing is there twice, nothing stale."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import trio

from mountcore.cache.opening import open_store
from mountcore.errors import TimedOut, Unreachable
from mountcore.handle import OpenFlags
from mountcore.remotes.protocol import Span, Version
from mountcore.settings import TreeSettings

from . import live
from .scene import edit, folder, memory, opened, settings, until
from .storage import content_of_remote


def forget_listings(cache: Path) -> None:
    """As if no directory had ever been listed."""
    [folder] = cache.glob("*/listings")
    shutil.rmtree(folder)


def cache_files(cache: Path) -> list[Path]:
    """All data files of the cache."""
    return [path for path in cache.glob("*/data/*/*") if path.is_file()]


@pytest.mark.trio
async def test_what_was_not_uploaded_is_uploaded_at_the_next_start(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.mkdir(vfs, "dir")
        await live.write_file(vfs, "dir/file", b"content")
    assert await content_of_remote(remote.inner) == {"dir": None}
    async with opened(remote, settings(tmp_path)) as vfs:
        await until(lambda: not vfs.snapshot().uploads)
    assert await content_of_remote(remote.inner) == {"dir": None, "dir/file": b"content"}


@pytest.mark.trio
async def test_how_often_an_upload_failed_and_why_outlives_the_process(tmp_path: Path) -> None:
    remote = memory()
    remote.rule("put", before=Unreachable("f", "no route"), times=3)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "f", b"content")
        await vfs.drain(1)
    async with opened(remote, settings(tmp_path)) as vfs:
        await until(lambda: vfs.snapshot().uploads[0].tries == 2)
        assert "no route" in vfs.snapshot().uploads[0].error
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"content"}


@pytest.mark.trio
async def test_a_file_whose_upload_ends_while_its_directory_is_listed_is_shown(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file", b"content")
    forget_listings(tmp_path)
    upload = remote.gate("put")
    listing = remote.gate("list", after=True)
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await upload.entered.wait()
        nursery.start_soon(live.names, vfs)
        await listing.entered.wait()
        upload.release()
        await until(lambda: not vfs.snapshot().uploads)
        listing.release()
        assert await live.names(vfs) == {"file"}
        assert await live.read_file(vfs, "file") == b"content"
    async with opened(remote, settings(tmp_path)) as vfs:  # the listing that was on its way is not believed
        assert await live.names(vfs) == {"file"}


@pytest.mark.trio
async def test_a_file_taken_up_from_an_earlier_run_can_be_removed_after_its_upload(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file", b"content")
    gate = remote.gate("put")
    async with opened(remote, settings(tmp_path)) as vfs:
        await gate.entered.wait()
        assert await live.names(vfs) == {"file"}
        gate.release()
        await until(lambda: not vfs.snapshot().uploads)
        await live.remove(vfs, "file")
        await vfs.refresh()
        assert await live.names(vfs) == set()
    assert await content_of_remote(remote.inner) == {}


@pytest.mark.trio
async def test_a_conflict_with_a_file_from_an_earlier_run_shows_both_versions(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file.txt", b"base")
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file.txt", b"ours")
    await edit(remote, "file.txt", b"theirs")
    gate = remote.gate("put")
    async with opened(remote, settings(tmp_path)) as vfs:
        await gate.entered.wait()
        assert await live.read_file(vfs, "file.txt") == b"ours"
        gate.release()
        assert not await vfs.drain()
        assert await live.read_file(vfs, "file.txt") == b"theirs"
        [other] = await live.names(vfs) - {"file.txt"}
        assert await live.read_file(vfs, other) == b"ours"
        assert other.startswith("file (conflict ")
        assert other.endswith(".txt")


@pytest.mark.trio
async def test_a_file_in_a_directory_that_was_removed_remotely_comes_back_with_it(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.mkdir(vfs, "dir")
        await live.mkdir(vfs, "dir/sub")
        await live.write_file(vfs, "dir/sub/file", b"content")
    await remote.inner.rmdir("dir/sub")
    await remote.inner.rmdir("dir")
    async with opened(remote, settings(tmp_path)) as vfs:
        await vfs.refresh()
        assert await live.names(vfs) == {"dir"}
        assert await live.read_file(vfs, "dir/sub/file") == b"content"
        assert not await vfs.drain()
        await vfs.refresh()
        await live.remove(vfs, "dir/sub/file")
    assert await content_of_remote(remote.inner) == {"dir": None, "dir/sub": None}


@pytest.mark.trio
async def test_a_directory_removed_remotely_while_a_file_in_it_is_written_comes_back_with_it(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.mkdir(vfs, "dir")
        handle = await vfs.create(await vfs.resolve("dir"), "file", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"one")
        await remote.inner.rmdir("dir")
        await vfs.refresh()
        assert await live.names(vfs) == {"dir"}
        await handle.write(3, b" two")
        await handle.close()
        assert not await vfs.drain()
        assert await live.read_file(vfs, "dir/file") == b"one two"
        await live.remove(vfs, "dir/file")
    assert await content_of_remote(remote.inner) == {"dir": None}


@pytest.mark.trio
@pytest.mark.parametrize("problem", [Unreachable, TimedOut])
async def test_without_the_remote_what_is_cached_is_listed_and_read(
    tmp_path: Path, problem: type[Unreachable | TimedOut]
) -> None:
    remote = memory()
    await edit(remote, "cached", b"content")
    await edit(remote, "other", b"not cached")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "cached") == b"content"
    remote.down = problem()
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs) == {"cached", "other"}
        assert await live.read_file(vfs, "cached") == b"content"
        with pytest.raises(problem):
            await live.read_file(vfs, "other")
        await live.write_file(vfs, "new", b"written offline")
        assert await vfs.drain(1)
        remote.down = None
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {
        "cached": b"content", "other": b"not cached", "new": b"written offline"
    }  # fmt: skip


@pytest.mark.trio
async def test_a_listing_from_an_earlier_run_does_not_bring_back_what_was_changed_before_a_kill(tmp_path: Path) -> None:
    """A listing that was saved before a crash may be behind; it is only used when the remote cannot be reached."""
    remote = memory()
    await edit(remote, "old", b"x")
    cache, image = tmp_path / "cache", tmp_path / "image"
    async with opened(remote, settings(cache)) as vfs:
        assert await live.names(vfs) == {"old"}
        await live.remove(vfs, "old")
        await live.write_file(vfs, "new", b"y")
        shutil.copytree(cache, image)  # what a kill here would leave
    async with opened(remote, settings(image)) as vfs:
        assert vfs.store.unclean_stop
        assert await live.names(vfs) == {"new"}


@pytest.mark.trio
async def test_a_warm_start_asks_the_remote_for_no_listing_while_it_is_young(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"content")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "file") == b"content"
    before = remote.asked("list"), remote.asked("read")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "file") == b"content"
    assert (remote.asked("list"), remote.asked("read")) == before
    async with opened(remote, settings(tmp_path, tree=TreeSettings(cache_time=0.0))) as vfs:
        await live.names(vfs)
    assert remote.asked("list") > before[0]


@pytest.mark.trio
async def test_two_interrupted_files_whose_long_names_begin_alike_are_both_kept(tmp_path: Path) -> None:
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    names = ["x" * 250 + "1", "x" * 250 + "2"]
    async with opened(remote, settings(cache)) as vfs:
        for name in names:
            handle = await vfs.create(vfs.root, name, OpenFlags.WRITE, exclusive=True)
            await handle.write(0, name.encode())
        shutil.copytree(cache, image)
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
    # without the promise of close only the length that the index knew is kept, but each file is there
    assert len(await content_of_remote(remote.inner)) == 2


@pytest.mark.trio
async def test_nothing_is_left_behind_in_the_cache_directory_by_what_was_removed(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        for number in range(20):
            await live.write_file(vfs, f"f{number}", os.urandom(1000))
        assert not await vfs.drain()
        for number in range(20):
            await live.remove(vfs, f"f{number}")
        assert vfs.store.held == 0
    async with opened(remote, settings(tmp_path)) as vfs:
        assert vfs.store.held == 0
    assert cache_files(tmp_path) == []


@pytest.mark.trio
@pytest.mark.parametrize("what", ["file", "directory"])
@pytest.mark.parametrize("happened", [False, True], ids=["not-yet", "done"])
async def test_a_kill_while_the_remote_renames_loses_no_change_of_what_it_renamed(
    tmp_path: Path, what: str, happened: bool
) -> None:
    """A part of the file was changed here, the rest is at the remote, under the one name or the other."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", b"old" * (1 << 20))
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        await live.overwrite(vfs, "d/file", 0, b"NEW")
        gate = remote.gate("rename", after=happened)
        nursery.start_soon(live.rename, vfs, *{"file": ("d/file", "d/other"), "directory": ("d", "m")}[what])
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
    remote.down = None
    path = {"file": "d/other", "directory": "m/file"}[what] if happened else "d/file"
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
        assert await live.read_file(vfs, path) == b"NEW" + (b"old" * (1 << 20))[3:]
    stored = await content_of_remote(remote.inner)
    assert {name for name, data in stored.items() if data is not None} == {path}


@pytest.mark.trio
@pytest.mark.parametrize("what", ["file", "file-replaces", "directory"])
@pytest.mark.parametrize("happened", [False, True], ids=["not-yet", "done"])
@pytest.mark.parametrize("when", ["before", "cached", "meanwhile"])
async def test_a_kill_while_the_remote_renames_loses_nothing_that_is_written_meanwhile(
    tmp_path: Path, what: str, happened: bool, when: str
) -> None:
    """The file was only open when the rename began, or was not even that; what is written then completes what the
    remote has."""
    replaced = what == "file-replaces"
    names = ("d", "m") if what == "directory" else ("d/file", "d/other")
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", b"old" * (1 << 20))
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        await vfs.resolve("d/file")
        if replaced:
            await live.write_file(vfs, "d/other", b"replaced")
            assert not await vfs.drain()
            await live.read_file(vfs, "d/other")
        if when == "cached":
            reader = await vfs.open(await vfs.resolve("d/file"), OpenFlags.READ)
            await reader.read(1 << 20, 10)
            await reader.close()
        if when == "before":
            handle = await vfs.open(await vfs.resolve("d/file"), OpenFlags.READ | OpenFlags.WRITE)
        gate = remote.gate("rename", after=happened)
        nursery.start_soon(live.rename, vfs, *names)
        await gate.entered.wait()
        if when != "before":
            handle = await vfs.open(await vfs.resolve("d/file"), OpenFlags.READ | OpenFlags.WRITE)
        await handle.write(0, b"NEW")
        await handle.flush()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await handle.close()
    remote.down = None
    path = ("m/file" if what == "directory" else "d/other") if happened else "d/file"
    left = {"d/other"} if replaced else set()
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
        assert await live.read_file(vfs, path) == b"NEW" + (b"old" * (1 << 20))[3:]
    stored = await content_of_remote(remote.inner)
    assert {name for name, data in stored.items() if data is not None} == {path} | left


@pytest.mark.trio
@pytest.mark.parametrize("what", ["file", "directory", "replaced"])
@pytest.mark.parametrize("happened", [False, True], ids=["not-yet", "done"])
@pytest.mark.parametrize("looked", [False, True], ids=["", "looked-at"])
async def test_a_start_that_is_not_told_what_became_of_a_rename_finds_out_later(
    tmp_path: Path, what: str, happened: bool, looked: bool
) -> None:
    """The storage can be reached, and the two names cannot be asked for."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", b"old" * (1 << 20))
    if what == "replaced":
        await edit(remote, "d/other", b"replaced")
    old, new = ("d", "m") if what == "directory" else ("d/file", "d/other")
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        if what == "replaced":
            await live.write_file(vfs, "d/other", b"changed")
        else:
            await live.overwrite(vfs, "d/file", 0, b"NEW")
        gate = remote.gate("rename", after=happened)
        nursery.start_soon(live.rename, vfs, old, new)
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
    remote.down = None
    rules = [remote.rule("stat", path, times=1 << 20, before=Unreachable("", "cut")) for path in (old, new)]
    async with opened(remote, settings(image, write_back=0.01)) as vfs:
        assert vfs.snapshot().doubts == 1
        path = ("m/file" if what == "directory" else "d/other") if happened else "d/file"
        if looked:
            await vfs.children(await vfs.resolve("d" if not happened or what != "directory" else ""))
        puts = remote.asked("put")
        await until(lambda: any(upload.tries for upload in vfs.snapshot().uploads), "an upload was refused")
        assert remote.asked("put") == puts
        for rule in rules:
            remote.rules.remove(rule)
        await until(lambda: not vfs.snapshot().doubts, "it is known what happened")
        assert not await vfs.drain()
        whole = b"old" * (1 << 20)
        whole = whole if what == "replaced" else b"NEW" + whole[3:]
        assert await live.read_file(vfs, path) == whole
    ends = {path: whole}
    if what == "replaced" and not happened:
        ends["d/other"] = b"changed"
    stored = await content_of_remote(remote.inner)
    assert {name: data for name, data in stored.items() if data is not None} == ends
    async with opened(remote, settings(image)) as vfs:
        assert not vfs.snapshot().uploads
        assert await live.read_file(vfs, path) == whole


@pytest.mark.trio
@pytest.mark.parametrize("read", [["old", "new"], ["new"]], ids=["both-cached", "one-cached"])
@pytest.mark.parametrize("happened", [False, True], ids=["not-yet", "done"])
async def test_a_kill_while_the_remote_renames_over_a_file_of_the_same_size_and_time_shows_no_other_bytes(
    tmp_path: Path, happened: bool, read: list[str]
) -> None:
    """Nothing was changed here, only cached; by what the storage says the two files cannot be told apart."""
    remote = folder(tmp_path / "store")
    cache, image = tmp_path / "cache", tmp_path / "image"
    for name in ("old", "new"):
        await edit(remote, name, name.encode() * 1000)
        os.utime(tmp_path / "store" / name, (10**9, 10**9))
    async with opened(remote, settings(cache)) as vfs:
        for name in read:
            await live.read_file(vfs, name)
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        gate = remote.gate("rename", after=happened)
        nursery.start_soon(live.rename, vfs, "old", "new")
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        nursery.cancel_scope.cancel()
    stored = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert len(stored) == (1 if happened else 2)
    async with opened(remote, settings(image)) as vfs:
        assert {name: await live.read_file(vfs, name) for name in await live.names(vfs)} == stored


@pytest.mark.trio
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "only-tried"])
@pytest.mark.parametrize("happened", [False, True], ids=["not-yet", "done"])
async def test_a_kill_while_the_remote_renames_over_a_changed_file_leaves_one_of_the_two(
    tmp_path: Path, happened: bool, stored: bool
) -> None:
    """What is renamed may be at the remote, or was only being uploaded there; what it replaces was changed here."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "target", b"as stored")
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        await live.write_file(vfs, "target", b"changed here")
        await live.write_file(vfs, "source", b"the new one")
        if stored:
            await vfs.settle(await vfs.resolve("source"))
        else:
            put = remote.gate("put")
            vfs.writeback.schedule((await vfs.resolve("source")).item, 0.0)  # type: ignore[arg-type]
            await put.entered.wait()
        gate = remote.gate("rename", after=happened and stored)
        nursery.start_soon(live.rename, vfs, "source", "target")
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
    remote.down = None
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
        found = {name: await live.read_file(vfs, name) for name in await live.names(vfs)}
    done = {"target": b"the new one"}
    before = {"target": b"changed here", "source": b"the new one"}
    assert found == (done if happened and stored else before)
    assert await content_of_remote(remote.inner) == found


@pytest.mark.trio
@pytest.mark.parametrize("how", ["renamed", "replaced", "time set"])
async def test_a_file_whose_cached_bytes_are_given_back_while_it_is_changed_stays_known(
    tmp_path: Path, how: str
) -> None:
    """Eviction runs while the remote is asked; what is written afterwards must be found by the start after a kill."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "file", b"as stored")
    await edit(remote, "other", b"another")
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "file") == b"as stored"
        assert await live.read_file(vfs, "other") == b"another"
        gate = remote.gate("set_mtime" if how == "time set" else "rename")
        path = {"renamed": "new", "replaced": "other", "time set": "file"}[how]
        async with trio.open_nursery() as nursery:
            if how == "time set":
                nursery.start_soon(vfs.set_mtime, await vfs.resolve("file"), 10**18)
            else:
                nursery.start_soon(live.rename, vfs, "file", path)
            await gate.entered.wait()
            vfs.evictor.make_room(1 << 40)
            gate.release()
        await live.append(vfs, path, b", and changed")
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
    remote.down = None
    async with opened(remote, settings(image)) as vfs:
        assert await live.read_file(vfs, path) == b"as stored, and changed"
        assert not await vfs.drain()
    assert (await content_of_remote(remote.inner))[path] == b"as stored, and changed"


@pytest.mark.trio
@pytest.mark.parametrize("happened", [False, True], ids=["not-yet", "done"])
async def test_a_kill_while_the_remote_removes_a_changed_file_leaves_all_of_it_or_nothing(
    tmp_path: Path, happened: bool
) -> None:
    """A part of the file was changed here; the rest is at the remote, or was."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "file", b"old" * (1 << 20))
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        await live.overwrite(vfs, "file", 0, b"NEW")
        gate = remote.gate("remove", after=happened)
        nursery.start_soon(live.remove, vfs, "file")
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
    remote.down = None
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
        assert await live.names(vfs) == (set() if happened else {"file"})
    stored = await content_of_remote(remote.inner)
    assert stored == ({} if happened else {"file": b"NEW" + (b"old" * (1 << 20))[3:]})


@pytest.mark.trio
async def test_what_is_written_to_a_file_whose_removal_was_not_answered_survives_a_kill(tmp_path: Path) -> None:
    """The removal was an error, nobody knows yet that it happened, and people went on with the file."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "file", b"as stored")
    async with opened(remote, settings(cache)) as vfs:
        await live.write_file(vfs, "file", b"changed")
        remote.rule("remove", after=Unreachable("", "cut"))
        remote.rule("stat", times=1000, before=Unreachable("", "cut"))
        with pytest.raises(Unreachable):
            await live.remove(vfs, "file")
        assert vfs.snapshot().doubts == 1
        remote.rule("list", times=1000, before=Unreachable("", "cut"))
        await live.append(vfs, "file", b", and more")
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
    remote.down = None
    remote.rules.clear()
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"changed, and more"}


@pytest.mark.trio
async def test_making_up_for_a_removal_that_a_kill_cut_off_spares_what_was_written_later(tmp_path: Path) -> None:
    """The start after the kill had no storage to ask, so the file was there again, and somebody went on with it."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "file", b"as stored")
    async with opened(remote, settings(cache)) as vfs:
        assert await live.names(vfs) == {"file"}  # else there is no start without the storage
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        await live.write_file(vfs, "file", b"changed")
        gate = remote.gate("remove", after=True)
        nursery.start_soon(live.remove, vfs, "file")
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
    async with opened(remote, settings(image)) as vfs:
        await live.append(vfs, "file", b", and more")
    remote.down = None
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"changed, and more"}


@pytest.mark.trio
@pytest.mark.parametrize("back", [True, False], ids=["back-meanwhile", "back-at-the-next-start"])
async def test_making_up_for_a_rename_that_a_kill_cut_off_spares_what_came_later(tmp_path: Path, back: bool) -> None:
    """The start after the kill had no storage to ask, and people went on; the one after that finds the journal."""
    remote = memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "source", b"as stored")
    async with opened(remote, settings(cache)) as vfs:
        assert await live.names(vfs) == {"source"}  # else there is no start without the storage
    async with opened(remote, settings(cache)) as vfs, trio.open_nursery() as nursery:
        await live.write_file(vfs, "source", b"changed")
        gate = remote.gate("rename", after=True)
        nursery.start_soon(live.rename, vfs, "source", "target")
        await gate.entered.wait()
        shutil.copytree(cache, image)  # what a kill here would leave
        remote.down = Unreachable()
        nursery.cancel_scope.cancel()
    async with opened(remote, settings(image)) as vfs:
        if back:
            remote.down = None
            assert not await vfs.drain()
            await vfs.refresh()
            assert await live.read_file(vfs, "source") == b"changed"
            await live.remove(vfs, "source")
        await live.write_file(vfs, "target", b"written after that")
    remote.down = None
    async with opened(remote, settings(image)) as vfs:
        assert not await vfs.drain()
    stored = await content_of_remote(remote.inner)
    if back:
        assert stored == {"target": b"written after that"}
    else:  # there was nothing of that name as far as anybody knew: two versions
        assert stored.pop("source") == b"changed"
        assert stored.pop("target") == b"as stored"
        assert list(stored.values()) == [b"written after that"]


@pytest.mark.trio
async def test_a_start_does_not_look_at_what_is_clean(tmp_path: Path) -> None:
    """SQLite counts its steps: a start with thousands of clean items takes no more of them than one with a few."""
    steps: dict[int, int] = {}
    original = sqlite3.connect
    for count in (10, 5000):
        cache = tmp_path / str(count)
        store = open_store(cache, "memory://x/")
        for number in range(count):
            item = store.new(f"f{number}", base=Version(4096, 1), dirty=False)
            item.row.spans.add(Span(0, 4096))
        store.new("dirty", base=None, dirty=True)
        store.ledger.total = count * 4096
        store.close()
        taken = 0

        def step() -> int:
            nonlocal taken
            taken += 1
            return 0

        class Counted(sqlite3.Connection):
            def __init__(self, *args: object, **more: object) -> None:
                super().__init__(*args, **more)  # type: ignore[arg-type]
                self.set_progress_handler(step, 10)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda *args, **more: original(*args, **more, factory=Counted))
            store = open_store(cache, "memory://x/")
        assert store.held == count * 4096
        steps[count] = taken
        assert [item.path for item in store.dirty_items()] == ["dirty"]
        store.close()
        await trio.lowlevel.checkpoint()
    assert steps[5000] < steps[10] + 20


@pytest.mark.trio
async def test_data_that_nobody_knows_is_set_aside_beside_everything_else(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"content")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "file") == b"content"
        folder = vfs.store.directory
        image = tmp_path / "image"
        shutil.copytree(tmp_path / folder.name, image / folder.name)  # what a kill here would leave
    (image / folder.name / "data" / "07").mkdir(exist_ok=True)
    (image / folder.name / "data" / "07" / "1031").write_bytes(b"of an index that forgot")
    (image / folder.name / "data" / "07" / "1287").write_bytes(b"")
    with sqlite3.connect(image / folder.name / "index.sqlite") as db:
        db.execute("INSERT INTO trash VALUES (1287)")
    db.close()
    async with opened(remote, settings(image)) as vfs:
        kept = image / folder.name / "lost+found" / "1031"
        await until(lambda: kept.exists(), "what nobody knows is set aside")
        assert kept.read_bytes() == b"of an index that forgot"
        await until(lambda: not (image / folder.name / "data" / "07" / "1287").exists(), "the trash is emptied")
        assert await live.read_file(vfs, "file") == b"content"


@pytest.mark.trio
async def test_what_was_stored_while_its_directory_was_listed_is_there_after_a_restart(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "other", b"x")
    chosen = settings(tmp_path, tree=TreeSettings(cache_time=60.0))
    async with opened(remote, chosen) as vfs, trio.open_nursery() as nursery:
        await live.names(vfs)
        await live.write_file(vfs, "file", b"written")
        await vfs.refresh()
        gate = remote.gate("list", after=True)
        nursery.start_soon(live.names, vfs)
        await gate.entered.wait()
        assert not await vfs.drain()
        gate.release()
    async with opened(remote, chosen) as vfs:
        assert await live.names(vfs) == {"file", "other"}

"""Two things at once: each test holds one operation up at the storage and does the other in the meantime."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from model import live
from model.scene import NEVER, edit, memory, opened, settings, until
from model.storage import content_of_remote

from mountcore.errors import NotFound, StorageError
from mountcore.handle import OpenFlags
from mountcore.stage import Publish

pytestmark = pytest.mark.trio


class Outcome:
    """What became of an operation that runs beside the test."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.problem: StorageError | None = None

    async def run(self, operation: Callable[..., object], *arguments: object) -> None:
        """Run it and remember."""
        try:
            await operation(*arguments)  # type: ignore[misc]
        except StorageError as problem:
            self.problem = problem
        self.done.set()


@pytest.mark.parametrize("write_back", [0.0, 0.01, NEVER])
async def test_what_is_removed_while_its_writer_closes_stays_removed(tmp_path: Path, write_back: float) -> None:
    remote = memory()
    await edit(remote, "file", b"stored")
    async with opened(remote, settings(tmp_path, write_back=write_back)) as vfs, trio.open_nursery() as nursery:
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ | OpenFlags.WRITE)
        gate = remote.gate("remove", after=True)
        removal = Outcome()
        nursery.start_soon(removal.run, live.remove, vfs, "file")
        await gate.entered.wait()
        await handle.write(0, b"LATE")
        nursery.start_soon(handle.close)
        await trio.sleep(0.05)  # time for an upload that must not start
        gate.release()
        await removal.done.wait()
        assert removal.problem is None
        await vfs.drain()
        assert await live.names(vfs) == set()
        assert await content_of_remote(remote.inner) == {}


@pytest.mark.parametrize("write_back", [0.0, 0.01, NEVER])
async def test_what_is_renamed_while_its_writer_closes_is_stored_under_the_new_name(
    tmp_path: Path, write_back: float
) -> None:
    remote = memory()
    await edit(remote, "old", b"0123456789")
    async with opened(remote, settings(tmp_path, write_back=write_back)) as vfs, trio.open_nursery() as nursery:
        handle = await vfs.open(await vfs.resolve("old"), OpenFlags.READ | OpenFlags.WRITE)
        gate = remote.gate("rename", after=True)
        renaming = Outcome()
        nursery.start_soon(renaming.run, live.rename, vfs, "old", "new")
        await gate.entered.wait()
        await handle.write(0, b"LATE")
        nursery.start_soon(handle.close)
        await trio.sleep(0.05)
        gate.release()
        await renaming.done.wait()
        assert renaming.problem is None
        assert not await vfs.drain()
        assert await live.read_file(vfs, "new") == b"LATE456789"
        assert await content_of_remote(remote.inner) == {"new": b"LATE456789"}


@pytest.mark.parametrize("write_back", [0.0, NEVER])
@pytest.mark.parametrize("after", [False, True], ids=["before-it-happens", "before-it-is-heard"])
async def test_what_is_made_in_a_directory_while_it_is_renamed_moves_with_it(
    tmp_path: Path, write_back: float, after: bool
) -> None:
    remote = memory()
    await remote.inner.mkdir("old")
    await edit(remote, "old/kept", b"kept")
    async with opened(remote, settings(tmp_path, write_back=write_back)) as vfs, trio.open_nursery() as nursery:
        directory = await vfs.resolve("old")
        await vfs.children(directory)
        handle = await vfs.open(await vfs.resolve("old/kept"), OpenFlags.READ | OpenFlags.WRITE)
        gate = remote.gate("rename", after=after)
        renaming, creating = Outcome(), Outcome()
        nursery.start_soon(renaming.run, live.rename, vfs, "old", "new")
        await gate.entered.wait()
        nursery.start_soon(creating.run, live.write_file, vfs, "old/made", b"made")
        await handle.write(0, b"K")
        nursery.start_soon(handle.close)
        await trio.sleep(0.05)
        gate.release()
        await renaming.done.wait()
        await creating.done.wait()
        assert renaming.problem is None
        assert not await vfs.drain()
        expected: dict[str, bytes | None] = {"new": None, "new/kept": b"Kept"}
        if creating.problem is None:
            expected["new/made"] = b"made"
        else:
            assert isinstance(creating.problem, NotFound)
        assert await content_of_remote(remote.inner) == expected
        assert await live.names(vfs) == {"new"}


async def test_what_is_removed_while_its_directory_is_renamed_stays_removed(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("old")
    await edit(remote, "old/file", b"x")
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await vfs.resolve("old/file")
        gate = remote.gate("rename", after=True)
        renaming, removing = Outcome(), Outcome()
        nursery.start_soon(renaming.run, live.rename, vfs, "old", "new")
        await gate.entered.wait()
        nursery.start_soon(removing.run, live.remove, vfs, "old/file")
        await trio.testing.wait_all_tasks_blocked(0.02)
        gate.release()
        await renaming.done.wait()
        await removing.done.wait()
        await vfs.refresh()
        shown = await live.names(vfs, "new")
        assert shown == (set() if removing.problem is None else {"file"})
        assert await content_of_remote(remote.inner) == {"new": None, **{f"new/{name}": b"x" for name in shown}}


async def test_a_directory_can_be_renamed_while_it_is_listed_for_the_first_time(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("old")
    await edit(remote, "old/file", b"x")
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        directory = await vfs.resolve("old")
        gate = remote.gate("list", "old", after=True)
        listing = Outcome()
        nursery.start_soon(listing.run, vfs.children, directory)
        await gate.entered.wait()
        with trio.fail_after(5):
            await live.rename(vfs, "old", "new")
        gate.release()
        await listing.done.wait()
        assert listing.problem is None
        assert await live.names(vfs, "new") == {"file"}


async def test_directories_renamed_into_each_other_at_once_do_not_block_for_ever(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        for name in ("a", "b"):
            await live.mkdir(vfs, name)
            await vfs.children(await vfs.resolve(name))
        one, other = Outcome(), Outcome()
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.run, live.rename, vfs, "a", "b/a")
                nursery.start_soon(other.run, live.rename, vfs, "b", "a/b")
        assert (one.problem is None) != (other.problem is None)
        assert len(await content_of_remote(remote.inner)) == 2


@pytest.mark.parametrize("size", [10, 3 << 20])
async def test_two_appends_at_once_both_arrive_whole(tmp_path: Path, size: int) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, write_back=0.0)) as vfs:
        await live.write_file(vfs, "log", b"start")

        async def append(letter: bytes) -> None:
            stage = await vfs.stage()
            os.pwrite(stage.fileno(), letter * size, 0)
            await stage.commit(vfs.root, "log", size=size, how=Publish.APPEND)

        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(append, letter)
        data = await live.read_file(vfs, "log")
        assert len(data) == 5 + 3 * size
        parts = [data[5 + size * number : 5 + size * (number + 1)] for number in range(3)]
        assert sorted(parts) == [b"a" * size, b"b" * size, b"c" * size]


async def test_two_creations_of_one_name_make_one_file(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        made: list[object] = []

        async def create() -> None:
            try:
                handle = await vfs.create(vfs.root, "file", OpenFlags.WRITE, exclusive=True)
            except FileExistsError:
                return
            made.append(handle.node)
            await handle.close()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(create)
        assert len(made) == 1
        assert await live.names(vfs) == {"file"}


async def test_a_local_change_wins_over_a_listing_that_is_on_its_way(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "removed", b"x")
    await edit(remote, "renamed", b"y")
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await live.names(vfs)
        await vfs.refresh()
        gate = remote.gate("list", "", after=True)
        nursery.start_soon(live.names, vfs)
        await gate.entered.wait()
        removed = vfs.root.children["removed"]  # type: ignore[index]
        assert removed is not None
        for operation in (
            lambda: remote.inner.remove("removed"),
            lambda: remote.inner.rename("renamed", "other"),
        ):
            await operation()  # type: ignore[no-untyped-call]
        gate.release()
        await until(lambda: vfs.root.loading is None)
        await vfs.refresh()
        assert await live.names(vfs) == {"other"}


async def test_a_removal_that_fails_leaves_the_change_to_be_uploaded(tmp_path: Path) -> None:
    from mountcore.errors import Unreachable

    remote = memory()
    await edit(remote, "file", b"stored")
    async with opened(remote, settings(tmp_path, write_back=0.01)) as vfs:
        gate = remote.gate("put")
        await live.append(vfs, "file", b" and more")
        await gate.entered.wait()
        remote.rule("remove", before=Unreachable("file", "down"))
        with pytest.raises(Unreachable):
            await live.remove(vfs, "file")
        await until(lambda: not vfs.snapshot().uploads)
        assert await content_of_remote(remote.inner) == {"file": b"stored and more"}


@pytest.mark.parametrize("what", ["remove", "rename", "replace", "stage"])
async def test_a_change_of_a_name_that_fails_for_want_of_bytes_leaves_the_upload_going(
    tmp_path: Path, what: str
) -> None:
    """An open file is fetched before its name goes; where that fails, so does the change, and nothing else."""
    from mountcore.errors import Unreachable

    remote = memory()
    await edit(remote, "file", b"stored" * (1 << 20))
    await edit(remote, "other", b"other")
    async with opened(remote, settings(tmp_path, write_back=0.05)) as vfs:
        await live.overwrite(vfs, "file", 0, b"LOCAL!")
        reader = await vfs.open(await vfs.resolve("file"), OpenFlags.READ)
        remote.rule("read", times=100, before=Unreachable("file", "down"))

        async def change() -> None:
            match what:
                case "remove":
                    await live.remove(vfs, "file")
                case "rename" | "replace":
                    await live.rename(vfs, "other", "file")
                case "stage":
                    stage = await vfs.stage()
                    os.pwrite(stage.fileno(), b"new", 0)
                    await stage.commit(vfs.root, "file", size=3, how=Publish.REPLACE)

        with pytest.raises(Unreachable):
            await change()
        remote.rules.clear()
        await until(lambda: not vfs.snapshot().uploads)
        await reader.close()
        stored = await content_of_remote(remote.inner)
        assert stored == {"file": b"LOCAL!" + (b"stored" * (1 << 20))[6:], "other": b"other"}

"""Two names exchange what they stand for: whatever fails or is killed on the way, both are there afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from mountcore.errors import CrossDevice, Denied, InvalidName, NotFound, StorageError, Unreachable
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import RenameScope
from mountcore.vfs import Vfs

from . import live
from .faulty import Faulty, Gate, Rule
from .scene import NEVER, edit, opened, settings
from .storage import Content, content_of_remote
from .test_crash_points import Camera

pytestmark = pytest.mark.trio
ONE, TWO, MORE = b"one" * 1000, b"two" * 700, b"more"
Prepare = Callable[[Vfs], Awaitable[object]]


async def nothing(vfs: Vfs) -> None:
    """Both are at the remote, and nothing is cached."""


async def change(vfs: Vfs) -> None:
    await live.overwrite(vfs, "a", 0, b"X")
    await live.overwrite(vfs, "d/b", 0, b"Y")


async def change_one(vfs: Vfs) -> None:
    await live.read_file(vfs, "a")
    await live.overwrite(vfs, "d/b", 0, b"Y")


async def write_anew(vfs: Vfs) -> None:
    for name in ("a", "d/b"):
        await live.remove(vfs, name)
        await live.write_file(vfs, name, ONE if name == "a" else TWO)


async def write_one_anew(vfs: Vfs) -> None:
    await live.remove(vfs, "a")
    await live.write_file(vfs, "a", ONE)


CASES: list[Prepare] = [nothing, change, change_one, write_anew, write_one_anew]


async def begin(first: bytes = ONE) -> Faulty:
    remote = Faulty(Memory())
    await remote.inner.mkdir("d")
    await edit(remote, "a", first)
    await edit(remote, "d/b", TWO)
    return remote


async def exchange(vfs: Vfs, name: str, other: str) -> None:
    await vfs.exchange(*await live.place(vfs, name), *await live.place(vfs, other))


async def shown(vfs: Vfs) -> tuple[bytes, bytes]:
    return await live.read_file(vfs, "a"), await live.read_file(vfs, "d/b")


def files(found: Content) -> Content:
    return {path: data for path, data in found.items() if data is not None}


@pytest.mark.parametrize("prepare", CASES)
async def test_files_exchange_their_names(tmp_path: Path, prepare: Prepare) -> None:
    remote = await begin()
    async with opened(remote, settings(tmp_path, write_back=NEVER)) as vfs:
        await prepare(vfs)
        one, two = await shown(vfs)
        nodes = await vfs.resolve("a"), await vfs.resolve("d/b")
        await exchange(vfs, "a", "d/b")
        assert await shown(vfs) == (two, one)
        assert (await vfs.resolve("d/b"), await vfs.resolve("a")) == nodes
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"d": None, "a": two, "d/b": one}


async def test_directories_exchange_their_names(tmp_path: Path) -> None:
    remote = await begin()
    await remote.inner.mkdir("e")
    await edit(remote, "e/b", ONE)
    async with opened(remote, settings(tmp_path, write_back=NEVER)) as vfs:
        await live.write_file(vfs, "d/new", MORE)
        await exchange(vfs, "d", "e")
        assert await live.read_file(vfs, "e/new") == MORE
        assert await live.read_file(vfs, "d/b") == ONE
        await exchange(vfs, "a", "e")
        for inside in (("a", "a/b"), ("a/b", "a")):
            with pytest.raises(InvalidName):
                await exchange(vfs, *inside)
        with pytest.raises(NotFound):
            await exchange(vfs, "a", "absent")
        await exchange(vfs, "a", "a")
        assert await vfs.drain() == ()
        expected = {"a": None, "a/b": TWO, "a/new": MORE, "d": None, "d/b": ONE, "e": ONE}
        assert await content_of_remote(remote.inner) == expected


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("prepare", CASES)
async def test_a_step_that_fails_undoes_those_before(tmp_path: Path, prepare: Prepare, step: int) -> None:
    remote = await begin()
    async with opened(remote, settings(tmp_path, write_back=NEVER)) as vfs:
        await prepare(vfs)
        before = await shown(vfs)
        if step:
            remote.rules.append(Rule("rename", times=step))
        remote.rules.append(Rule("rename", before=Denied("", "not today")))
        try:
            await exchange(vfs, "a", "d/b")
        except Denied:
            expected = before
        else:  # the remote had nothing of one of them, and so had fewer steps
            expected = before[1], before[0]
        remote.rules.clear()
        assert await shown(vfs) == expected
        assert await live.names(vfs) == {"a", "d"}
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"d": None, "a": expected[0], "d/b": expected[1]}


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("prepare", CASES)
async def test_an_answer_that_is_lost_loses_no_file(tmp_path: Path, prepare: Prepare, step: int) -> None:
    remote = await begin()
    async with opened(remote, settings(tmp_path, write_back=NEVER)) as vfs:
        await prepare(vfs)
        before = await shown(vfs)
        if step:
            remote.rules.append(Rule("rename", times=step))
        remote.rules.append(Rule("rename", after=Unreachable("", "gone")))
        with suppress(StorageError):
            await exchange(vfs, "a", "d/b")
        remote.rules.clear()
        await vfs.refresh()
        assert await vfs.drain() == ()
        found = files(await content_of_remote(remote.inner))
        assert set(before) <= set(found.values()), sorted(found)


@pytest.mark.parametrize("prepare", CASES)
async def test_a_kill_on_the_way_loses_no_file(tmp_path: Path, prepare: Prepare) -> None:
    remote = await begin()
    camera = Camera(tmp_path / "cache", tmp_path / "images", remote)
    inner = remote.inner
    assert isinstance(inner, Memory)
    rename = inner.rename

    async def photographed(source: str, target: str) -> None:
        camera.look("before rename at the remote")
        await rename(source, target)
        camera.look("after rename at the remote")

    async with opened(remote, settings(tmp_path / "cache", write_back=NEVER), 60) as vfs:
        await prepare(vfs)
        before = await shown(vfs)
        with pytest.MonkeyPatch.context() as patch, camera.running():
            patch.setattr(inner, "rename", photographed)
            await exchange(vfs, "a", "d/b")
    assert len(camera.taken) > 3
    between = 0
    for image in camera.taken:
        again = Faulty(Memory())
        again.inner._identity, again.inner._root = inner.identity, image.storage  # type: ignore[attr-defined]
        async with opened(again, settings(image.place), 60) as vfs:
            assert await vfs.drain() == ()
        found = files(await content_of_remote(again.inner))
        where = f"killed {image.at}: {sorted(found)}"
        assert set(before) <= set(found.values()), where
        assert all(path in ("a", "d/b") or "(exchanging " in path for path in found), where
        between += any("(exchanging " in path for path in found)
        shutil.rmtree(image.place)
    assert between, "no kill was between two of the renames"


async def test_nobody_sees_what_is_between(tmp_path: Path) -> None:
    remote = await begin()
    async with opened(remote, settings(tmp_path, write_back=NEVER)) as vfs, trio.open_nursery() as nursery:
        before = await shown(vfs)
        gate = Gate()
        remote.rules += [Rule("rename"), Rule("rename", gate=gate)]
        nursery.start_soon(exchange, vfs, "a", "d/b")
        await gate.entered.wait()
        assert vfs.try_lookup(vfs.root, "a") is None
        assert vfs.try_children(vfs.root) is None
        seen: list[set[str]] = []
        read: list[tuple[bytes, bytes]] = []

        async def look() -> None:
            seen.append(await live.names(vfs))
            read.append(await shown(vfs))

        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        assert not seen
        gate.release()
        nursery.start_soon(look)
    assert seen == [{"a", "d"}] * 2
    assert read == [(before[1], before[0])] * 2


async def test_storage_that_cannot_rename_says_so(tmp_path: Path) -> None:
    remote = await begin()
    remote.caps_changes = {"rename": RenameScope.NONE}
    async with opened(remote, settings(tmp_path, write_back=NEVER)) as vfs:
        with pytest.raises(CrossDevice):
            await exchange(vfs, "a", "d/b")
        assert await shown(vfs) == (ONE, TWO)

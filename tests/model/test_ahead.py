"""Listing ahead of a walk through a tree."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from mountcore.errors import Unreachable
from mountcore.vfs import Vfs

from .faulty import Faulty
from .scene import edit, memory, opened, settings, until

pytestmark = pytest.mark.trio
NAMES = [f"d{number:02}" for number in range(30)]


async def tree() -> Faulty:
    """Directories side by side, each with a file."""
    remote = memory()
    for name in NAMES:
        await remote.mkdir(name)
        await edit(remote, f"{name}/file", b"1")
    return remote


async def show(vfs: Vfs, name: str) -> set[str]:
    """List one of them, as readdir does."""
    return {node.name for node in await vfs.children(await vfs.resolve(name))}


def asked(remote: Faulty) -> set[str]:
    """Which of them the remote was asked for."""
    return {name for name in NAMES if remote.asked("list", name)}


async def test_who_lists_neighbours_finds_the_next_ones_listed(tmp_path: Path) -> None:
    remote = await tree()
    async with opened(remote, settings(tmp_path)) as vfs:
        for name in NAMES[:3]:
            await show(vfs, name)
        most = 2 * max(1, min(8, remote.caps.parallelism // 2))
        await until(lambda: asked(remote) == set(NAMES[: 3 + most]), "the next ones are listed, and no more than that")
        for name in NAMES[3:]:
            assert await show(vfs, name) == {"file"}
        assert all(remote.asked("list", name) == 1 for name in NAMES), "each was listed once"


async def test_who_jumps_about_gets_what_he_asks_for(tmp_path: Path) -> None:
    remote = await tree()
    async with opened(remote, settings(tmp_path)) as vfs:
        for number in (3, 17, 9, 25, 1, 20):
            await show(vfs, NAMES[number])
        assert asked(remote) == {NAMES[number] for number in (3, 17, 9, 25, 1, 20)}


async def test_what_fails_ahead_is_asked_again_when_it_is_wanted(tmp_path: Path) -> None:
    remote = await tree()
    remote.rule("list", NAMES[4], before=Unreachable(NAMES[4]))
    async with opened(remote, settings(tmp_path)) as vfs:
        for name in NAMES[:3]:
            await show(vfs, name)
        await until(lambda: NAMES[5] in asked(remote))
        assert await show(vfs, NAMES[4]) == {"file"}
        assert remote.asked("list", NAMES[4]) == 2


async def test_quick_storage_is_asked_one_at_a_time_and_slow_storage_several(tmp_path: Path) -> None:
    remote = await tree()
    async with opened(remote, settings(tmp_path)) as vfs:
        for name in NAMES[:3]:  # that is answered quickly
            await show(vfs, name)
        most = 2 * max(1, min(8, remote.caps.parallelism // 2))
        await until(lambda: asked(remote) == set(NAMES[: 3 + most]))
        stuck = remote.gate("list", NAMES[3 + most])
        for name in NAMES[3:6]:
            await show(vfs, name)
        await stuck.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert asked(remote) == set(NAMES[: 4 + most]), "one is under way, and the others wait for their turn"
        await trio.sleep(0.02)
        others = [remote.gate("list", name) for name in NAMES[4 + most : 6 + most]]
        stuck.release()
        await until(lambda: asked(remote) == set(NAMES[: 6 + most]), "that was slow: the others are asked for at once")
        for gate in others:
            gate.release()

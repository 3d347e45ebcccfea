"""``--poll-interval``: what others change at a remote that can tell shows soon, whatever the directory cache time."""

from __future__ import annotations

from pathlib import Path

import pytest

from mountcore.errors import NotFound, Unreachable
from mountcore.options import vfs_settings
from mountcore.remotes import memory as memory_module
from mountcore.settings import TreeSettings
from mountcore.vfs import Change, ChangeKind

from . import live
from .scene import edit, memory, opened, settings, until

pytestmark = pytest.mark.trio
POLLED = TreeSettings(cache_time=None, poll_interval=0.02)


async def test_what_others_change_is_told_and_shown(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "d/f", b"before")
    await edit(remote, "d/gone", b"x")
    async with opened(remote, settings(tmp_path, tree=POLLED)) as vfs:
        assert await live.read_file(vfs, "d/f") == b"before"
        node = await vfs.resolve("d/f")
        told: list[Change] = []
        vfs.subscribe(told.append)
        await until(lambda: remote.asked("changes") > 1)
        await edit(remote, "d/f", b"after it")
        await remote.inner.remove("d/gone")
        await edit(remote, "d/new", b"y")
        await until(lambda: {change.name for change in told} == {"f", "gone", "new"})
        assert (ChangeKind.CONTENT, node.inode, None) in [(c.what, c.inode, c.origin) for c in told]
        before = remote.asked("list")
        assert await live.read_file(vfs, "d/f") == b"after it"
        assert await live.names(vfs, "d") == {"f", "new"}
        with pytest.raises(NotFound):
            await vfs.resolve("d/gone")
        assert remote.asked("list") == before


async def test_an_open_clean_file_follows_and_a_changed_one_stays(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "clean", b"before")
    await edit(remote, "dirty", b"before")
    async with opened(remote, settings(tmp_path, tree=POLLED)) as vfs:
        handle = await vfs.open(await vfs.resolve("clean"), live.OpenFlags.READ)
        assert await handle.read(0, 100) == b"before"
        await live.write_file(vfs, "dirty", b"ours")
        await until(lambda: remote.asked("changes") > 1)
        await edit(remote, "clean", b"theirs!")
        await edit(remote, "dirty", b"theirs!")
        await until(lambda: handle.size == 7)
        assert await handle.read(0, 100) == b"theirs!"
        await handle.close()
        assert await live.read_file(vfs, "dirty") == b"ours"
        assert await vfs.drain() == ()
        assert len(await live.names(vfs)) == 3, "both versions are kept"


async def test_a_directory_that_nobody_looked_at_costs_no_request(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    async with opened(remote, settings(tmp_path, tree=POLLED)) as vfs:
        await live.names(vfs)
        await until(lambda: remote.asked("changes") > 1)
        await edit(remote, "d/f", b"x")
        asked = remote.asked("changes")
        await until(lambda: remote.asked("changes") > asked + 2)
        assert remote.asked("list", "d") == 0
        assert await live.names(vfs, "d") == {"f"}


async def test_a_listing_of_a_former_run_is_not_believed_past_a_change(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "d/f", b"x")
    async with opened(remote, settings(tmp_path, tree=POLLED)) as vfs:
        assert await live.names(vfs, "d") == {"f"}
    async with opened(remote, settings(tmp_path, tree=POLLED)) as vfs:
        await until(lambda: remote.asked("changes") > 2)
        await edit(remote, "d/g", b"x")
        asked = remote.asked("changes")
        await until(lambda: remote.asked("changes") > asked + 2)
        assert await live.names(vfs, "d") == {"f", "g"}


async def test_a_remote_that_lost_track_or_was_away_is_compared_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "REMEMBERED", 3)
    remote = memory()
    await remote.inner.mkdir("d")
    async with opened(remote, settings(tmp_path, tree=POLLED)) as vfs:
        assert await live.names(vfs, "d") == set()
        told: list[Change] = []
        vfs.subscribe(told.append)
        await until(lambda: remote.asked("changes") > 1)
        remote.down = Unreachable()
        await edit(remote, "d/f", b"x")
        for number in range(5):
            await edit(remote, "other", b"%d" % number)
        asked = remote.asked("changes")
        await until(lambda: remote.asked("changes") > asked + 2)
        assert not told
        remote.down = None
        await until(lambda: {change.name for change in told} >= {"f", "other"})
        assert await live.names(vfs, "d") == {"f"}


async def test_poll_interval_0_asks_for_nothing(tmp_path: Path) -> None:
    polled, left_alone = memory(), memory()
    often, never = (vfs_settings({"cache-dir": str(tmp_path), "poll-interval": text}) for text in ("20ms", "0"))
    async with opened(polled, often), opened(left_alone, never):
        await until(lambda: polled.asked("changes") > 5)
        assert left_alone.asked("changes") == 0


async def test_dropped_listings_are_compared_for_those_who_follow(tmp_path: Path) -> None:
    remote = memory()
    remote.caps_changes = {"changes": False}
    await edit(remote, "f", b"before")
    async with opened(remote, settings(tmp_path, tree=TreeSettings(cache_time=None, poll_interval=None))) as vfs:
        await live.read_file(vfs, "f")
        await edit(remote, "f", b"after it")
        told: list[Change] = []
        vfs.subscribe(told.append)
        await vfs.refresh()
        await until(lambda: told)
        assert told[0].what is ChangeKind.CONTENT

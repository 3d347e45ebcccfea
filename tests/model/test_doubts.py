"""Renames and removals whose answer is lost, and everything else that goes on meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from mountcore import doubts
from mountcore.errors import StorageError, Unreachable
from mountcore.vfs import Vfs

from . import live
from .faulty import Faulty
from .scene import edit, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio

OLD = b"old" * (1 << 20)
CHANGED = b"NEW" + OLD[3:]


async def doubtful(remote: Faulty, vfs: Vfs, old: str, new: str) -> None:
    """The remote renames, and nobody hears of it."""
    remote.rule("rename", after=Unreachable("", "cut"))
    remote.rule("stat", before=Unreachable("", "cut"))
    with pytest.raises(Unreachable):
        await live.rename(vfs, old, new)
    assert vfs.snapshot().doubts == 1


async def known(vfs: Vfs) -> None:
    """Wait until nothing is in doubt."""
    await until(lambda: not vfs.snapshot().doubts, "it is known what happened")


@pytest.mark.parametrize("looked", [False, True], ids=["", "looked-at"])
async def test_changed_files_follow_a_directory_whose_renaming_is_found_out_later(tmp_path: Path, looked: bool) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", OLD)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "d/file", 0, b"NEW")
        await doubtful(remote, vfs, "d", "m")
        if looked:
            await live.names(vfs)
        await known(vfs)
        assert await live.names(vfs) == {"m"}
        assert await live.read_file(vfs, "m/file") == CHANGED
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"m": None, "m/file": CHANGED}


async def test_changed_files_follow_a_directory_that_is_listed_before_its_renaming_is_answered(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", OLD)
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await live.overwrite(vfs, "d/file", 0, b"NEW")
        gate = remote.gate("rename", after=True)
        nursery.start_soon(live.rename, vfs, "d", "m")
        await gate.entered.wait()
        await vfs.refresh()
        await live.names(vfs)
        gate.release()
        await until(lambda: vfs.store.peek("m/file") is not None)
        assert await live.names(vfs) == {"m"}
        assert await live.read_file(vfs, "m/file") == CHANGED
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"m": None, "m/file": CHANGED}


async def test_a_removal_that_a_clean_stop_cuts_off_does_not_bring_the_file_back(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"as stored")
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await live.write_file(vfs, "file", b"changed")
        gate = remote.gate("remove", after=True)
        nursery.start_soon(live.remove, vfs, "file")
        await gate.entered.wait()
        nursery.cancel_scope.cancel()
    async with opened(remote, settings(tmp_path)) as vfs:
        assert not await vfs.drain()
        assert await live.names(vfs) == set()
    assert await content_of_remote(remote.inner) == {}


@pytest.mark.parametrize("what", ["file", "directory"])
async def test_a_rename_whose_program_goes_away_is_followed(tmp_path: Path, what: str) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", OLD)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "d/file", 0, b"NEW")
        gate = remote.gate("rename", after=True)
        old, new, path = {"file": ("d/file", "d/other", "d/other"), "directory": ("d", "m", "m/file")}[what]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live.rename, vfs, old, new)
            await gate.entered.wait()
            nursery.cancel_scope.cancel()
        await known(vfs)
        assert await live.read_file(vfs, path) == CHANGED
        assert not await vfs.drain()
    stored = await content_of_remote(remote.inner)
    assert {name: data for name, data in stored.items() if data is not None} == {path: CHANGED}


async def test_a_stop_while_it_is_found_out_forgets_no_rename(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", OLD)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "file", 0, b"NEW")
        await doubtful(remote, vfs, "file", "other")
        asked = remote.gate("stat", "other")
        await asked.entered.wait()
        follows = remote.gate("stat", "other")
        asked.release()
        await follows.entered.wait()
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "other") == CHANGED
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"other": CHANGED}


@pytest.mark.parametrize("replaced", [True, False], ids=["replaces", "new-name"])
async def test_a_rename_that_is_done_while_it_is_asked_for_is_seen(tmp_path: Path, replaced: bool) -> None:
    remote = memory()
    await edit(remote, "file", OLD)
    if replaced:
        await edit(remote, "other", b"what has the name")
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await live.overwrite(vfs, "file", 0, b"NEW")
        remote.rule("rename", before=Unreachable("", "cut"))
        asked = remote.gate("stat", "file")
        nursery.start_soon(live.rename, vfs, "file", "other")
        with trio.fail_after(5):
            await asked.entered.wait()
        await remote.inner.rename("file", "other")
        asked.release()
        await until(lambda: vfs.store.peek("file") is None)
        assert await live.read_file(vfs, "other") == CHANGED
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"other": CHANGED}


@pytest.mark.parametrize("replaces", [True, False])
async def test_who_tries_a_rename_again_before_it_is_found_out_loses_nothing(tmp_path: Path, replaces: bool) -> None:
    remote = memory()
    remote.caps_changes["rename_replaces"] = replaces
    await edit(remote, "file", OLD)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "file", 0, b"NEW")
        await doubtful(remote, vfs, "file", "other")
        try:
            await live.rename(vfs, "file", "other")
        except StorageError:
            await known(vfs)
        assert await live.read_file(vfs, "other") == CHANGED
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"other": CHANGED}


async def test_new_files_below_a_directory_in_doubt_wait(tmp_path: Path) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "d/file", OLD)
    async with opened(remote, settings(tmp_path, write_back=0.01)) as vfs:
        await live.overwrite(vfs, "d/file", 0, b"NEW")
        await doubtful(remote, vfs, "d", "m")
        await live.write_file(vfs, "d/another", b"more")
        await known(vfs)
        await until(lambda: not vfs.snapshot().uploads)
    assert await content_of_remote(remote.inner) == {"m": None, "m/file": CHANGED, "m/another": b"more"}


async def test_an_exchange_whose_second_rename_is_not_heard_of_loses_neither(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "a", b"of a")
    await edit(remote, "b", b"of b")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs) == {"a", "b"}
        remote.rule("rename", "b", after=Unreachable("", "cut"))
        remote.rule("stat", "a", before=Unreachable("", "cut"))
        with pytest.raises(Unreachable):
            await vfs.exchange(vfs.root, "a", vfs.root, "b")
    assert sorted((await content_of_remote(remote.inner)).values()) == [b"of a", b"of b"]


async def test_an_upload_has_the_remote_asked_about_what_is_in_doubt_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, "FIRST", 3600.0)
    remote = memory()
    await edit(remote, "file", OLD)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "file", 0, b"NEW")
        remote.rule("stat", "file", times=2, before=Unreachable("", "cut"))
        remote.rule("stat", "other", times=2, before=Unreachable("", "cut"))
        remote.rule("rename", after=Unreachable("", "cut"))
        with pytest.raises(Unreachable):
            await live.rename(vfs, "file", "other")
        await until(lambda: remote.asked("stat") >= 3, "it was asked in the background, in vain")
        remote.rules.clear()
        with trio.fail_after(20):
            assert not await vfs.drain()
        assert await live.read_file(vfs, "other") == CHANGED
    assert await content_of_remote(remote.inner) == {"other": CHANGED}


async def deaf(remote: Faulty, vfs: Vfs) -> None:
    """`doubtful`, of "file" to "other", and the remote tells nothing until the rules are cleared."""
    remote.rule("rename", after=Unreachable("", "cut"))
    remote.rule("stat", times=1000, before=Unreachable("", "cut"))
    with pytest.raises(Unreachable):
        await live.rename(vfs, "file", "other")


@pytest.mark.parametrize(
    ("how", "name", "there", "ends"),
    [
        (live.stage, "file", False, {"file": b"another", "other": CHANGED}),
        (live.stage, "other", False, {"other": b"another"}),
        (live.write_file, "other", False, {"other": b"another"}),
        (live.append, "other", True, {"other": CHANGED + b"another"}),
    ],
    ids=["received-at-the-old-name", "received-at-the-new-name", "made-at-the-new-name", "appended-at-the-new-name"],
)
async def test_who_writes_at_a_name_in_doubt_is_refused_until_it_is_known(
    tmp_path: Path, how: Callable[[Vfs, str, bytes], Awaitable[None]], name: str, there: bool, ends: dict[str, bytes]
) -> None:
    """It would take the place of a file of which the changes are here, and the rest is under the other name."""
    remote = memory()
    await edit(remote, "file", OLD)
    if there:
        await edit(remote, "other", b"replaced")
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "file", 0, b"NEW")
        await deaf(remote, vfs)
        with pytest.raises(Unreachable):
            await how(vfs, name, b"another")
        remote.rules.clear()
        await how(vfs, name, b"another")
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == ends

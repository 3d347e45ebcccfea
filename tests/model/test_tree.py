"""The directory cache: how long a listing is believed, and what wins over it."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import diskcache
import pytest
import trio

from mountcore.errors import Corrupt, NotFound, StorageError, TimedOut, Unreachable
from mountcore.listings import Listings
from mountcore.remotes.protocol import Entry, Kind
from mountcore.settings import TreeSettings
from mountcore.vfs import Change, ChangeKind, OpenFlags

from . import live
from .scene import edit, folder, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio


async def test_a_listing_is_believed_for_its_time_and_then_asked_for_again(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "one", b"1")
    async with opened(remote, settings(tmp_path, tree=TreeSettings(cache_time=0.3, poll_interval=None))) as vfs:
        assert await live.names(vfs) == {"one"}
        await edit(remote, "two", b"2")
        before = remote.asked("list")
        assert await live.names(vfs) == {"one"}
        assert remote.asked("list") == before
        with trio.fail_after(5):
            while await live.names(vfs) != {"one", "two"}:  # noqa: ASYNC110 - time has no event
                await trio.sleep(0.02)


async def test_a_name_that_is_not_listed_is_not_asked_for(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "there", b"1")
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.names(vfs)
        before = len(remote.log)
        for number in range(20):
            with pytest.raises(NotFound):
                await vfs.resolve(f"missing{number}")
        assert len(remote.log) == before


@pytest.mark.parametrize(
    "lie",
    [{"size": -1}, *({"name": name} for name in ("", ".", "..", "a/b", "../b", "a\0b", "n" * 1025, "\u20ac" * 400))],
)
async def test_what_no_file_can_be_is_passed_over_and_the_others_are_listed(
    tmp_path: Path, lie: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """With a name that has a slash, or is too long, the kernel would refuse the whole listing."""
    remote = memory()
    for name in ("a", "lie", "z"):
        await edit(remote, name, b"x")
    remote.rule("list", "", entry=lambda entry: entry._replace(**lie) if entry.name == "lie" else entry)
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs) == {"a", "z"}
        assert "passed over" in caplog.text
        assert await live.read_file(vfs, "a") == b"x"


async def test_many_who_list_at_once_are_one_request(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"1")
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = remote.gate("list", "")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(live.names, vfs)
            await gate.entered.wait()
            gate.release()
        assert remote.asked("list") == 1


@pytest.mark.parametrize("problem", [Unreachable, TimedOut])
async def test_a_remote_that_cannot_be_reached_empties_no_directory(
    tmp_path: Path, problem: type[StorageError]
) -> None:
    remote = memory()
    await edit(remote, "file", b"content")
    await remote.inner.mkdir("unknown")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "file") == b"content"
        remote.down = problem()
        await vfs.refresh()
        assert await live.names(vfs) == {"file", "unknown"}
        assert await live.read_file(vfs, "file") == b"content"
        with pytest.raises(problem):  # never listed, so there is nothing to show, and that is no empty directory
            await live.names(vfs, "unknown")
        with pytest.raises(problem):
            await vfs.resolve("unknown/name")


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_listing_that_breaks_off_is_no_listing(tmp_path: Path, after: int) -> None:
    remote = memory()
    for name in "abcd":
        await edit(remote, name, b"x")
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("list", dies=after, before=Corrupt("", "broke off"))
        with pytest.raises(Corrupt):
            await live.names(vfs)
        assert await live.names(vfs) == set("abcd")
        await vfs.refresh()
        remote.rule("list", dies=after, before=Corrupt("", "broke off"))
        try:
            assert await live.names(vfs) == set("abcd")
        except Corrupt:
            assert await live.names(vfs) == set("abcd")


async def test_what_changed_outside_is_announced_and_what_did_not_is_not(tmp_path: Path) -> None:
    remote = memory()
    for name in ("changed", "gone", "same"):
        await edit(remote, name, b"old")
    async with opened(remote, settings(tmp_path)) as vfs:
        nodes = {name: await vfs.resolve(name) for name in ("changed", "gone", "same")}
        told: list[Change] = []
        vfs.subscribe(told.append)
        await edit(remote, "changed", b"new content")
        await remote.inner.remove("gone")
        await edit(remote, "fresh", b"x")
        await vfs.refresh()
        assert await live.names(vfs) == {"changed", "same", "fresh"}
        assert {(change.what, change.name, change.origin) for change in told} == {
            (ChangeKind.CONTENT, "changed", None), (ChangeKind.ENTRY, "gone", None), (ChangeKind.ENTRY, "fresh", None)
        }  # fmt: skip
        assert await vfs.resolve("changed") is nodes["changed"], "inode numbers stay"
        assert await vfs.resolve("same") is nodes["same"]
        assert await live.read_file(vfs, "changed") == b"new content"


async def test_local_changes_win_over_a_listing_that_was_made_before_them(tmp_path: Path) -> None:
    remote = memory()
    for name in ("removed", "renamed", "saved"):
        await edit(remote, name, b"old")
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await live.names(vfs)
        parent = vfs.root
        gate = remote.gate("list", "", after=True)
        await vfs.refresh()
        nursery.start_soon(live.names, vfs)
        await gate.entered.wait()  # the remote has listed: what happens now is not in its answer
        node = parent.children["removed"]  # type: ignore[index]
        await remote.inner.remove("removed")
        vfs.tree.remove(node)
        await remote.inner.mkdir("made")
        vfs.tree.add(parent, "made", Kind.DIRECTORY)
        gate.release()
        await until(lambda: parent.loading is None)
        assert await live.names(vfs) == {"renamed", "saved", "made"}


async def test_a_file_in_place_of_a_directory_is_found_and_the_other_way_round(tmp_path: Path) -> None:
    remote = folder(tmp_path / "store")
    await edit(remote, "name", b"file")
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        assert await live.read_file(vfs, "name") == b"file"
        await remote.inner.remove("name")
        await remote.inner.mkdir("name")
        await edit(remote, "name/below", b"x")
        await vfs.refresh()
        assert await live.names(vfs, "name") == {"below"}
        await remote.inner.remove("name/below")
        await remote.inner.rmdir("name")
        await edit(remote, "name", b"file again")
        await vfs.refresh()
        assert await live.read_file(vfs, "name") == b"file again"


async def test_a_moved_directory_is_listed_as_it_is_after_a_restart(tmp_path: Path) -> None:
    remote = memory()
    for path in ("a", "a/s", "b", "b/s"):
        await remote.inner.mkdir(path)
    await edit(remote, "a/s/file", b"of a")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs, "b/s") == set()  # listed, and so saved
        assert await live.names(vfs, "a") == {"s"}
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.rmdir(vfs, "b/s")
        await live.rename(vfs, "a", "b")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs, "b/s") == {"file"}
        assert await live.names(vfs) == {"b"}
    assert await content_of_remote(remote.inner) == {"b": None, "b/s": None, "b/s/file": b"of a"}


async def test_a_directory_that_was_removed_and_made_again_elsewhere_is_not_shown_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to look up what was remembered of the old one."""
    remote = memory()
    await remote.inner.mkdir("d")
    load = Listings.load

    def slowly(self: Listings, directory: str) -> object:
        found = load(self, directory)
        threading.Event().wait(0.2)
        return found

    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs, "d") == set()
        await live.rmdir(vfs, "d")
        await remote.inner.mkdir("d")
        await edit(remote, "d/file", b"theirs")
        await vfs.refresh()
        monkeypatch.setattr(Listings, "load", slowly)
        assert await live.names(vfs, "d") == {"file"}


@pytest.mark.parametrize("happened", [False, True], ids=["not-done", "done"])
async def test_a_removal_whose_answer_is_lost_is_looked_at(tmp_path: Path, happened: bool) -> None:
    """Of a file that was changed in place: were it still shown, the rest of it would be gone."""
    remote = memory()
    whole = b"old" * (1 << 20)
    await edit(remote, "file", whole)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.overwrite(vfs, "file", 0, b"NEW")
        remote.rule("remove", **{"after" if happened else "before": Unreachable("", "cut")})
        if happened:
            await live.remove(vfs, "file")
            assert await live.names(vfs) == set()
        else:
            with pytest.raises(Unreachable):
                await live.remove(vfs, "file")
            assert await live.read_file(vfs, "file") == b"NEW" + whole[3:]
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == ({} if happened else {"file": b"NEW" + whole[3:]})


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return Path.touch, (self._path,)


async def test_saved_listings_are_text_and_no_pickle_is_read(tmp_path: Path) -> None:
    """CVE-2025-69872: who can write to a cache of pickles runs code in its reader."""
    place, bomb = tmp_path / "listings", tmp_path / "went off"
    listings = Listings(place)
    listings.save("d", [Entry("caf\u00e9", Kind.FILE, 3, 5)], 0.0)
    listings.close()
    with closing(sqlite3.connect(place / "cache.db")) as db:
        ((value,),) = db.execute("SELECT value FROM Cache").fetchall()
        assert json.loads(value)[1][0][:4] == ["caf\u00e9", "file", 3, 5]
    with diskcache.Cache(str(place), disk=diskcache.Disk) as cache:
        cache[json.dumps("/evil")] = Bomb(bomb)
    with diskcache.Cache(str(place), disk=diskcache.Disk) as cache:
        cache[json.dumps("/evil")]
    assert bomb.exists(), "the bomb works"
    bomb.unlink()
    listings = Listings(place)
    assert listings.may_have("evil")
    assert listings.load("evil") is None
    found = listings.load("d")
    listings.close()
    assert found is not None
    assert set(found[1]) == {"caf\u00e9"}
    assert not bomb.exists()


async def test_saved_listings_are_bounded_and_the_least_used_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mountcore.listings.SIZE_LIMIT", 256 << 10)
    entries = [Entry(f"file {number}", Kind.FILE, number) for number in range(200)]
    for turn in range(10):
        listings = Listings(tmp_path)
        for number in range(50):
            listings.save(f"d{turn} {number}", entries, 0.0)
        listings.close()
    listings = Listings(tmp_path)
    kept = [turn for turn in range(10) for number in range(50) if listings.load(f"d{turn} {number}") is not None]
    listings.close()
    assert 0 < len(kept) < 250, "500 of 7 KiB each were saved"
    assert 9 in kept
    assert 0 not in kept


@pytest.mark.parametrize("deep", [False, True], ids=["directory", "tree"])
async def test_whoever_is_in_a_directory_that_is_gone_touches_no_file_of_the_same_name_above(
    tmp_path: Path, deep: bool
) -> None:
    """A process has it as its working directory, and what was listed in it is believed for a while."""
    remote = memory()
    for directory in ("s", "d", "d/s"):
        await remote.inner.mkdir(directory)
    inside, same = ("d/s", "s/file") if deep else ("d", "file")
    await edit(remote, same, b"of all")
    await edit(remote, f"{inside}/file", b"of it")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, same) == b"of all"
        here = await vfs.resolve(inside)
        [node] = [node for node in await vfs.children(here) if node.name == "file"]
        await remote.inner.remove(f"{inside}/file")
        await remote.inner.rmdir("d/s")
        await remote.inner.rmdir("d")
        vfs.tree.expire(vfs.root)
        assert "d" not in await live.names(vfs)
        with pytest.raises(NotFound):
            await vfs.unlink(here, "file")
        with pytest.raises(NotFound):
            await vfs.rename(here, "file", vfs.root, "mine")
        with pytest.raises(NotFound):
            await vfs.open(node, OpenFlags.READ)
        with pytest.raises(NotFound):
            await vfs.create(here, "new", OpenFlags.WRITE, exclusive=True)
        with pytest.raises(NotFound):
            vfs.try_lookup(here, "file") or await vfs.lookup(here, "file")
        assert not await vfs.drain()
    stored = await content_of_remote(remote.inner)
    assert {name: data for name, data in stored.items() if data is not None} == {same: b"of all"}


async def test_a_file_that_cannot_be_made_for_want_of_descriptors_is_not_there(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.names(vfs) == set()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.open("/dev/null", os.O_RDONLY)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                await vfs.create(vfs.root, "file", OpenFlags.WRITE, exclusive=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert await live.names(vfs) == set()
        assert not vfs.snapshot().uploads
        await live.write_file(vfs, "file", b"content")
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"content"}

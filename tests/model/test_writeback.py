"""Write-back, row by row of the state table in ``mountcore/cache/writeback.py``."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
import trio

from mountcore.accounting import Counters, UploadState
from mountcore.cache.fetch import Fetcher
from mountcore.cache.item import Item
from mountcore.cache.opening import open_store
from mountcore.cache.writeback import MAX_DELAY, WriteBack
from mountcore.doubts import Doubts
from mountcore.errors import StorageError, TimedOut, Unreachable
from mountcore.handle import Handle, OpenFlags
from mountcore.remotes.protocol import Entry
from mountcore.settings import CacheSettings, ReadSettings
from mountcore.stage import Publish
from mountcore.vfs import Vfs

from . import live
from .faulty import Faulty, Gate
from .scene import edit, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio

STATES = [UploadState.OPEN, UploadState.WAITING, UploadState.UPLOADING, UploadState.RETRYING, UploadState.HELD]
EVENTS = ["write", "truncate", "rename", "replace", "remove", "read", "save", "set a time", "move its directory"]


async def let_go(gate: Gate | Handle | None) -> None:
    """Let the upload go on from its state."""
    if isinstance(gate, Gate):
        gate.release()
    elif gate is not None:
        await gate.close()


def state_of(vfs: Vfs, path: str) -> UploadState | None:
    """Where the upload of a file stands; None: there is nothing to upload."""
    return next((upload.state for upload in vfs.snapshot().uploads if upload.path == path), None)


async def bring_to(vfs: Vfs, remote: Faulty, state: UploadState) -> Gate | Handle | None:
    """Write ``d/file`` and let its upload come to a state; answers what keeps it there."""
    gate = None
    if state is UploadState.OPEN:
        await live.write_file(vfs, "d/file", b"0123456")
        writer = await vfs.open(await vfs.resolve("d/file"), OpenFlags.WRITE)
        await writer.write(7, b"789")
        assert state_of(vfs, "d/file") is state
        return writer
    if state is UploadState.RETRYING:
        remote.rule("put", before=Unreachable("", "down"))
    if state is UploadState.UPLOADING:
        gate = remote.gate("put")
    await live.write_file(vfs, "d/file", b"0123456789")
    assert state_of(vfs, "d/file") is UploadState.WAITING
    if state is UploadState.HELD:
        await vfs.hold_upload(await vfs.resolve("d/file"), True)
    elif state is not UploadState.WAITING:
        vfs.writeback.hurry()
    if gate is not None:
        await gate.entered.wait()
    await until(lambda: state_of(vfs, "d/file") is state)
    return gate


@pytest.mark.parametrize("stored", [False, True], ids=["new", "stored-before"])
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.value)
async def test_whatever_happens_to_a_queued_file_is_what_the_remote_gets(
    tmp_path: Path, state: UploadState, event: str, stored: bool
) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    if stored:
        await edit(remote, "d/file", b"before")
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = await bring_to(vfs, remote, state)
        directory, expected = await vfs.resolve("d"), {"d/file": b"0123456789"}
        match event:
            case "write":
                await live.overwrite(vfs, "d/file", 2, b"XX")
                expected = {"d/file": b"01XX456789"}
            case "truncate":
                await vfs.truncate(await vfs.resolve("d/file"), 4)
                expected = {"d/file": b"0123"}
            case "rename":
                await vfs.rename(directory, "file", directory, "other")
                expected = {"d/other": b"0123456789"}
            case "replace":
                await live.write_file(vfs, "d/tmp", b"replaced")
                await vfs.rename(directory, "tmp", directory, "file")
                expected = {"d/file": b"replaced"}
            case "remove":
                await vfs.unlink(directory, "file")
                expected = {}
            case "read":
                handle = await vfs.open(await vfs.resolve("d/file"), OpenFlags.READ)
                assert await handle.read(0, 100) == b"0123456789"
                assert state_of(vfs, "d/file") is state, "a reader does not disturb an upload"
                await handle.close()
            case "save":
                await live.write_file(vfs, "d/file", b"saved anew")
                expected = {"d/file": b"saved anew"}
            case "set a time":
                await vfs.set_mtime(await vfs.resolve("d/file"), 10**18)
            case "move its directory":
                await vfs.rename(vfs.root, "d", vfs.root, "m")
                expected = {"m/file": b"0123456789"}
        await let_go(gate)
        for path in expected:
            if state_of(vfs, path) is UploadState.HELD:
                assert state is UploadState.HELD
                await vfs.hold_upload(await vfs.resolve(path), False)
        assert not await vfs.drain()
        found = await content_of_remote(remote.inner)
        assert {path: data for path, data in found.items() if data is not None} == expected
        for path in expected:
            assert await live.read_file(vfs, path) == expected[path]
            if event == "set a time":
                assert (await remote.inner.stat(path)).mtime_ns == 10**18


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.value)
async def test_a_file_that_is_open_for_writing_is_not_uploaded_until_it_is_closed(
    tmp_path: Path, state: UploadState
) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = await bring_to(vfs, remote, state)
        handle = await vfs.open(await vfs.resolve("d/file"), OpenFlags.WRITE)
        await handle.write(0, b"W")
        assert state_of(vfs, "d/file") in (UploadState.OPEN, UploadState.HELD)
        vfs.writeback.hurry()
        await let_go(gate)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await content_of_remote(remote.inner) == {"d": None}
        await handle.close()
        assert state_of(vfs, "d/file") in (UploadState.WAITING, UploadState.HELD)


async def test_with_no_delay_close_returns_when_the_remote_has_the_file(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, write_back=0.0)) as vfs:
        await live.write_file(vfs, "file", b"content")
        assert await content_of_remote(remote.inner) == {"file": b"content"}
        remote.rule("put", before=Unreachable("file", "the cable is out"))
        with pytest.raises(StorageError, match="the cable is out"):
            await live.write_file(vfs, "file", b"changed")
        assert not await vfs.drain()
        assert await content_of_remote(remote.inner) == {"file": b"changed"}


async def test_an_upload_that_was_stored_unheard_is_ours_even_after_another_failed(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"base")
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file", b"first")
        remote.rule("put", after=TimedOut("file", "stored, and nobody heard"))
        assert await vfs.drain(1)
        await live.write_file(vfs, "file", b"second one")
        remote.rule("put", before=Unreachable("file", "down"))
        assert await vfs.drain(1)
        await live.write_file(vfs, "file", b"the third")
        assert not await vfs.drain()
        assert await content_of_remote(remote.inner) == {"file": b"the third"}


@pytest.mark.parametrize("how", ["rename", "stage", "remove and make anew"])
async def test_a_file_that_takes_the_place_of_one_stored_unheard_is_no_conflict(tmp_path: Path, how: str) -> None:

    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file", b"first")
        remote.rule("put", after=TimedOut("file", "stored, and nobody heard"))
        assert await vfs.drain(1)
        match how:
            case "rename":
                await live.write_file(vfs, "tmp", b"second")
                await live.rename(vfs, "tmp", "file")
            case "stage":
                stage = await vfs.stage()
                os.pwrite(stage.fileno(), b"second", 0)
                await stage.commit(vfs.root, "file", size=6, how=Publish.REPLACE)
            case "remove and make anew":
                await live.remove(vfs, "file")
                await live.write_file(vfs, "file", b"second")
        assert not await vfs.drain()
        assert await content_of_remote(remote.inner) == {"file": b"second"}


async def test_two_conflicts_of_one_file_at_once_keep_both_copies(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"base")
    async with opened(remote, settings(tmp_path)) as vfs:
        for number in range(2):
            await live.write_file(vfs, "file", b"ours %d" % number)
            await edit(remote, "file", b"theirs %d" % number)
            vfs.writeback.hurry()
            await until(lambda: state_of(vfs, "file") is None)
            await vfs.refresh()
        assert not await vfs.drain()
        stored = await content_of_remote(remote.inner)
        assert stored.pop("file") == b"theirs 1"
        assert sorted(data or b"" for data in stored.values()) == [b"ours 0", b"ours 1"]


async def test_drain_does_not_hammer_what_fails_while_it_waits_for_what_is_slow(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = remote.gate("put", "slow")
        remote.rule("put", "bad", times=10_000, before=Unreachable("bad", "down"))
        await live.write_file(vfs, "slow", b"s")
        await live.write_file(vfs, "bad", b"b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vfs.drain, 2)
            await gate.entered.wait()
            await until(lambda: remote.asked("put", "bad") == 2)
            await trio.sleep(0.1)
            assert remote.asked("put", "bad") == 2
            gate.release()


# time, on a clock of its own: no thread is involved


class Bench:
    """A write-back alone, over a storage in memory."""

    def __init__(self, place: Path, nursery: trio.Nursery, chosen: CacheSettings) -> None:
        self.remote = memory()
        self.store = open_store(place, "memory://bench/")
        counters = Counters()
        fetcher = Fetcher(
            self.remote, self.store, ReadSettings(), counters, nursery, self._stale, lambda count: True, lambda: 0
        )
        self.times: list[float] = []
        self.writeback = WriteBack(
            self.remote, self.store, fetcher, chosen, counters, nursery, self._stored, self._conflict,
            Doubts(self.remote, self.store, nursery).settled,
        )  # fmt: skip
        nursery.start_soon(self.writeback.run)

    async def _stale(self, item: Item) -> bool:
        raise AssertionError("nothing is read")

    async def _conflict(self, item: Item) -> None:
        raise AssertionError("nobody else writes")

    def _stored(self, item: Item, entry: Entry) -> None:
        self.times.append(trio.current_time())

    def save(self, path: str, data: bytes) -> Item:
        """Write and close a file."""
        item = self.store.get(path) or self.store.new(path, base=None, dirty=True)
        self.store.mark_dirty(item)
        self.store.acquire(item)
        self.store.write(item, 0, data)
        self.store.promise(item, 1)
        self.writeback.schedule(item)
        self.store.release(item)
        return item


async def test_the_delay_begins_with_the_last_close(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path, nursery, CacheSettings(directory=tmp_path, write_back=5.0))
        began = trio.current_time()
        for _ in range(4):
            bench.save("file", b"x")
            await trio.sleep(3.0)
        await trio.sleep(10.0)
        assert [round(at - began) for at in bench.times] == [14]
        nursery.cancel_scope.cancel()
    bench.store.close()


async def test_a_failing_upload_is_tried_again_ever_more_slowly_and_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path, nursery, CacheSettings(directory=tmp_path, write_back=1.0))
        bench.remote.rule("put", times=50, before=Unreachable("file", "down"))
        tried: list[float] = []
        item = bench.save("file", b"x")
        while item.dirty:
            await bench.writeback.changed()
            if item.row.tries > len(tried):
                tried.append(trio.current_time())
                assert bench.store.index.dirty()[0][0].tries == item.row.tries, "the journal knows"
        delays = [round(b - a) for a, b in itertools.pairwise(tried)]
        assert delays[:8] == [1, 2, 4, 8, 16, 32, 64, 128]
        assert set(delays[9:]) == {round(MAX_DELAY)}
        assert len(tried) == 50
        nursery.cancel_scope.cancel()
    bench.store.close()


@pytest.mark.parametrize("transfers", [1, 4])
async def test_no_more_uploads_run_at_once_than_allowed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, transfers: int
) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path, nursery, CacheSettings(directory=tmp_path, write_back=1.0, transfers=transfers))
        gates = [bench.remote.gate("put", f"f{number}") for number in range(10)]
        for number in range(10):
            bench.save(f"f{number}", b"x")
        await trio.sleep(10.0)
        assert sum(gate.entered.is_set() for gate in gates) == transfers
        for gate in gates:
            gate.release()
        await trio.sleep(10.0)
        assert len(bench.times) == 10
        nursery.cancel_scope.cancel()
    bench.store.close()


async def test_a_thousand_random_saves_end_with_the_last_of_each_stored(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path, nursery, CacheSettings(directory=tmp_path, write_back=2.0))
        chance, last = random.Random(5), {}
        for number in range(1000):
            path, data = f"f{chance.randrange(30)}", b"%04d" % number
            item = bench.store.get(path)
            if item is not None:
                await bench.writeback.withdraw(item)
            bench.save(path, data)
            last[path] = data
            await trio.sleep(chance.uniform(0, 0.5))
        assert not await bench.writeback.drain()
        assert await content_of_remote(bench.remote.inner) == last
        nursery.cancel_scope.cancel()
    bench.store.close()


@pytest.mark.parametrize("how", ["rename", "stage"])
async def test_taking_over_a_name_whose_uploads_were_withdrawn_is_no_conflict(tmp_path: Path, how: str) -> None:
    """The first upload was stored and not heard of, the second found that out and was withdrawn itself: only the
    item knows what the remote has."""
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = remote.gate("put", after=True)
        await live.write_file(vfs, "file", b"first, stored")
        vfs.writeback.hurry()
        await gate.entered.wait()
        await live.write_file(vfs, "file", b"second")
        gate = remote.gate("put")
        vfs.writeback.hurry()
        await gate.entered.wait()
        if how == "rename":
            await live.write_file(vfs, "tmp", b"third")
            await live.rename(vfs, "tmp", "file")
        else:
            stage = await vfs.stage()
            os.pwrite(stage.fileno(), b"third", 0)
            await stage.commit(vfs.root, "file", size=5, how=Publish.REPLACE)
        assert not await vfs.drain()
        assert await content_of_remote(remote.inner) == {"file": b"third"}


async def test_ending_does_not_wait_for_what_is_written_meanwhile(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs, trio.open_nursery() as nursery:
        await live.write_file(vfs, "there", b"before")

        async def write_on() -> None:
            for number in itertools.count():
                await live.write_file(vfs, f"f{number % 3}", bytes(number % 100))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(write_on)
        await vfs.drain(as_now=True)
        assert (await content_of_remote(remote.inner))["there"] == b"before"
        nursery.cancel_scope.cancel()

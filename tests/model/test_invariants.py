"""The eight invariants at the head of ``mountcore/cache/item.py``, each by its number, on real files."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from mountcore.cache.latesync import LateSync
from mountcore.cache.opening import open_store
from mountcore.errors import Refused, Unreachable
from mountcore.handle import OpenFlags
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Version
from mountcore.spans import Span
from mountcore.stage import Publish

from . import live
from .faulty import Faulty
from .scene import edit, folder, memory, opened, settings, until
from .storage import content_of_folder, content_of_remote

MIB = 1 << 20
HERE = Path(__file__).parent


def index_of(cache: Path) -> sqlite3.Connection:
    """The index file, as another process sees it."""
    [path] = cache.glob("*/index.sqlite")
    return sqlite3.connect(path, isolation_level=None)


def row_of(cache: Path, path: str) -> tuple[int, str, int, str, int]:
    """id, spans, size, base and dirtiness that the index claims for a name, if this very moment were the last."""
    db = index_of(cache)
    try:
        return db.execute("SELECT id, spans, size, base, dirty FROM items WHERE path = ?", (path,)).fetchone()
    finally:
        db.close()


def file_of(cache: Path, ident: int) -> Path:
    """The cache file of an item."""
    [path] = cache.glob(f"*/data/*/{ident}")
    return path


def run_until_killed(script: str, *arguments: object) -> str:
    """Run a script that prints a line when it wants to be killed; kill -9 it there; answers the line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert line, "the script ended before it was killed"
    return line.strip()


PRELUDE = """
import sys, trio
from pathlib import Path
from model import live
from model.scene import folder, opened, settings, edit, until
from mountcore.handle import OpenFlags
from mountcore.stage import Publish
from mountcore.cache.latesync import LateSync
import os
root, cache = Path(sys.argv[1]), Path(sys.argv[2])
def kill_me(line="now"):
    print(line, flush=True)
    import signal
    signal.pause()
"""


# 1: the index may forget, never lie


@pytest.mark.trio
async def test_invariant_1_the_index_says_dirty_before_the_first_local_byte(tmp_path: Path) -> None:
    remote = folder(tmp_path / "store")
    await edit(remote, "file", b"x" * 100_000)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        assert await live.read_file(vfs, "file") == b"x" * 100_000
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.WRITE)
        ident, _, _, _, dirty = row_of(tmp_path / "cache", "file")
        assert not dirty
        seen = []
        write = os.pwrite

        def watched(descriptor: int, data: bytes, offset: int) -> int:
            seen.append(row_of(tmp_path / "cache", "file")[4])
            return write(descriptor, data, offset)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", watched)
            await handle.write(0, b"local")
        assert seen == [1]
        assert file_of(tmp_path / "cache", ident).read_bytes()[:5] == b"local"
        await handle.close()


@pytest.mark.trio
async def test_invariant_1_the_index_claims_no_byte_that_is_not_in_the_file(tmp_path: Path) -> None:
    """Whenever the process may be killed: what the index claims is in the file, whatever happens to it."""
    remote = folder(tmp_path / "store")
    data = os.urandom(4 * MIB)
    await edit(remote, "file", data)
    cache = tmp_path / "cache"

    def check(content: bytes) -> None:
        ident, spans, size, _, _ = row_of(cache, "file")
        assert size <= len(content) or not spans
        held = file_of(cache, ident).read_bytes()
        for part in filter(None, spans.split(",")):
            start, _, stop = part.partition("-")
            span = Span(int(start), int(stop))
            assert held[span.start : span.stop] == content[span.start : span.stop]

    async with opened(remote, settings(cache)) as vfs:
        node = await vfs.resolve("file")
        handle = await vfs.open(node, OpenFlags.READ | OpenFlags.WRITE)
        for offset in (0, 2 * MIB, 3 * MIB + 5):
            await handle.read(offset, 100_000)
            vfs.store.save_resting()
            check(data)
        expected = bytearray(data)
        await handle.write(MIB, b"w" * 1000)
        expected[MIB : MIB + 1000] = b"w" * 1000
        await handle.flush()
        check(bytes(expected))
        await handle.truncate(3 * MIB)
        check(bytes(expected[: 3 * MIB]))
        await handle.truncate(4 * MIB)
        await handle.flush()
        check(bytes(expected[: 3 * MIB] + bytes(MIB)))
        await handle.close()


@pytest.mark.trio
@pytest.mark.parametrize("operation", ["truncate", "rebase", "evict-in-use"])
async def test_invariant_1_a_claim_goes_before_the_bytes_it_is_about(tmp_path: Path, operation: str) -> None:
    remote = Faulty(Memory())
    await edit(remote, "file", b"a" * 200_000)
    cache = tmp_path / "cache"
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "file")
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ | OpenFlags.WRITE)
        item = handle.node.item
        assert item is not None
        claims: list[str] = []

        def look() -> None:
            claims.append(row_of(cache, "file")[1])

        shrink = os.ftruncate

        def watched(descriptor: int, size: int) -> None:
            look()
            shrink(descriptor, size)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "ftruncate", watched)
            patch.setattr("mountcore.cache.store._punch", lambda descriptor, span: look())
            match operation:
                case "truncate":
                    await handle.truncate(1000)
                    assert claims[0] == "0-1000"
                case "rebase":
                    vfs.store.rebase(item, Version(5, 1))
                    assert claims[0] == ""
                case "evict-in-use":
                    vfs.store.discard_clean(item, Span(0, 100_000))
                    assert claims[0] == "100000-200000"
        await handle.close()


# 2: clean spans belong to exactly one remote version


@pytest.mark.trio
async def test_invariant_2_bytes_of_an_old_version_go_when_the_remote_has_a_new_one(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"1" * 3 * MIB)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ)
        assert await handle.read(0, 1000) == b"1" * 1000
        await edit(remote, "file", b"2" * 3 * MIB)
        await vfs.refresh()
        await vfs.resolve("file")
        assert await handle.read(0, 3 * MIB) == b"2" * 3 * MIB
        await handle.close()


@pytest.mark.trio
async def test_invariant_2_a_change_that_only_the_read_notices_mixes_no_versions(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"1" * 3 * MIB)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ)
        assert await handle.read(0, 1000) == b"1" * 1000
        vfs.fetcher.stop(handle.node.item)  # type: ignore[arg-type]
        await edit(remote, "file", b"2" * 2 * MIB)
        assert await handle.read(0, 3 * MIB) == b"2" * 2 * MIB
        await handle.close()


@pytest.mark.trio
async def test_invariant_2_setting_a_time_does_not_take_a_foreign_version_for_ours(tmp_path: Path) -> None:
    """utime(2) answers with the remote's version; if that is somebody else's edit, our bytes are not of it."""
    remote = folder(tmp_path / "store")
    await edit(remote, "file", b"ours" * 1000)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        assert await live.read_file(vfs, "file") == b"ours" * 1000
        await edit(remote, "file", b"theirs" * 1000)
        await vfs.set_mtime(await vfs.resolve("file"), 10**18)
        assert await live.read_file(vfs, "file") == b"theirs" * 1000


@pytest.mark.trio
async def test_invariant_2_a_changed_file_is_never_completed_with_bytes_of_another_version(tmp_path: Path) -> None:
    """A part of a file was changed here, the rest is not here, and the remote now has another file."""
    from mountcore.settings import OnConflict

    for policy in OnConflict:
        remote = memory()
        await edit(remote, "file", b"1" * 4 * MIB)
        async with opened(remote, settings(tmp_path / policy.value, on_conflict=policy)) as vfs:
            await live.overwrite(vfs, "file", 0, b"local")
            await edit(remote, "file", b"2" * 4 * MIB)
            await vfs.drain(1)
            stored = await content_of_remote(remote.inner)
            for path, data in stored.items():
                assert data is not None
                assert not (b"1" in data and b"2" in data), f"{policy}: {path} is a mixture"
                assert data.strip(b"1") in (b"local", b"") or data == b"2" * 4 * MIB, f"{policy}: {path} is torn"


# 3: dirty is dropped only by a settled upload or an explicit discard


@pytest.mark.trio
async def test_invariant_3_a_write_during_the_upload_stays_to_be_uploaded(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path / "cache", write_back=0.01)) as vfs:
        gate = remote.gate("put", after=True)
        await live.write_file(vfs, "file", b"first")
        with trio.fail_after(10):
            await gate.entered.wait()
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.WRITE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.write, 0, b"SECOND")
            await until(lambda: vfs.snapshot().uploads)
            gate.release()
        await handle.close()
        assert row_of(tmp_path / "cache", "file")[4] == 1
        assert not await vfs.drain()
        assert await content_of_remote(remote.inner) == {"file": b"SECOND"}
        assert row_of(tmp_path / "cache", "file")[4] == 0


@pytest.mark.trio
async def test_invariant_3_neither_eviction_nor_refresh_nor_a_new_listing_drops_what_is_dirty(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "edited", b"remote" * 1000)
    async with opened(remote, settings(tmp_path / "cache", max_age=0.0, max_size=100)) as vfs:
        await live.write_file(vfs, "new", b"only here")
        await live.overwrite(vfs, "edited", 0, b"LOCAL!")
        remote.down = Unreachable()
        vfs.evictor.tidy()
        vfs.evictor.make_room(1 << 40)
        await vfs.refresh()
        remote.down = None
        assert await live.names(vfs) == {"new", "edited"}
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"new": b"only here", "edited": b"LOCAL!" + b"remote" * 999}


# 4: cache files are named by item id


@pytest.mark.trio
async def test_invariant_4_renaming_touches_no_cache_file(tmp_path: Path) -> None:
    remote = memory()
    cache = tmp_path / "cache"
    async with opened(remote, settings(cache)) as vfs:
        await live.mkdir(vfs, "dir")
        await live.write_file(vfs, "dir/file", b"content")
        before = {path: path.stat().st_ino for path in cache.glob("*/data/*/*")}
        ident = row_of(cache, "dir/file")[0]
        await live.rename(vfs, "dir/file", "dir/other")
        await live.rename(vfs, "dir", "moved")
        assert {path: path.stat().st_ino for path in cache.glob("*/data/*/*")} == before
        assert row_of(cache, "moved/other")[0] == ident
        assert all(path.name.isdigit() for path in before)


# 5: an unclean stop with a changed boot id


@pytest.mark.trio
async def test_invariant_5_after_a_power_cut_clean_bytes_are_forgotten_and_dirty_ones_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was not synced replaces nothing; of what was added to synced bytes nobody knows."""
    root, cache = tmp_path / "store", tmp_path / "cache"
    remote = folder(root)
    await edit(remote, "clean", b"right" * 1000)
    await edit(remote, "half", b"base" * MIB)
    await edit(remote, "closed", b"before")
    script = (
        PRELUDE
        + """
async def main():
    async with opened(folder(root), settings(cache)) as vfs:
        await live.read_file(vfs, "clean")
        await live.write_file(vfs, "late", b"closed and left alone")
        late = LateSync(vfs.store)
        await late.look()
        await late.look()
        await live.write_file(vfs, "closed", b"closed" * 1000)
        await live.overwrite(vfs, "half", 5, b"HERE")
        for name in ("added to", "cut"):
            handle = await vfs.create(vfs.root, name, OpenFlags.WRITE, exclusive=True)
            await handle.write(0, b"synced")
            await handle.fsync()
            if name == "cut":
                await handle.truncate(0)
                await handle.write(0, b"a")
            else:
                await handle.write(6, b" and more")
            await handle.close()
        vfs.store.save_resting()
        kill_me()
trio.run(main)
"""
    )
    await trio.to_thread.run_sync(run_until_killed, script, root, cache)
    ident = row_of(cache, "clean")[0]
    assert row_of(cache, "clean")[1] == "0-5000"
    db = index_of(cache)
    db.execute("UPDATE facts SET value = 'another boot' WHERE key = 'running'")
    db.close()
    file_of(cache, ident).write_bytes(b"wrong" * 1000)  # what a page that was never synced looks like
    with caplog.at_level(logging.WARNING):
        async with opened(remote, settings(cache)) as vfs:
            assert vfs.store.power_lost
            assert await live.read_file(vfs, "clean") == b"right" * 1000
            assert not await vfs.drain()
    stored = content_of_folder(root)
    beside = {name.partition(" (interrupted")[0]: stored.pop(name) for name in list(stored) if "(inter" in name}
    assert beside == {"closed": b"closed" * 1000, "cut": b"a"}
    assert stored == {
        "clean": b"right" * 1000, "closed": b"before", "half": b"base" * MIB, "added to": b"synced",
        "late": b"closed and left alone",
    }  # fmt: skip
    assert [path for path in cache.rglob("lost+found/*") if path.stat().st_size == 4 * MIB], "the edit of half is kept"
    reported = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("closed" in line for line in reported), "what may not have been synced is named"


@pytest.mark.trio
async def test_invariant_6_what_is_fetched_into_a_synced_file_is_not_taken_for_synced(tmp_path: Path) -> None:
    """A part of it was changed and synced; the rest came later, and a loss of power takes it: it is fetched again."""
    old, remote = b"base" * MIB, memory()
    cache, image = tmp_path / "cache", tmp_path / "image"
    await edit(remote, "file", old)
    async with opened(remote, settings(cache)) as vfs:
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ | OpenFlags.WRITE)
        await handle.write(2 * MIB, b"HERE")
        await handle.fsync()
        ident, spans, *_ = row_of(cache, "file")
        assert await handle.read(0, MIB) == old[:MIB]
        await handle.close()
        vfs.store.save(vfs.store.peek("file"))  # as an upload does before it begins
        later = row_of(cache, "file")[1]
        assert later != spans
        shutil.copytree(cache, image)
        await vfs.discard_changes(await vfs.resolve("file"))
    db = index_of(image)
    db.execute("UPDATE facts SET value = 'another boot' WHERE key = 'running'")
    db.close()
    with file_of(image, ident).open("r+b") as file:
        file.write(bytes(MIB))
    async with opened(remote, settings(image)) as vfs:
        assert vfs.store.power_lost
        assert row_of(image, "file")[1] == spans
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": old[: 2 * MIB] + b"HERE" + old[2 * MIB + 4 :]}


@pytest.mark.trio
async def test_invariant_5_after_a_kill_within_the_same_boot_clean_bytes_stay(tmp_path: Path) -> None:
    root, cache = tmp_path / "store", tmp_path / "cache"
    remote = folder(root)
    await edit(remote, "clean", b"right" * 1000)
    script = (
        PRELUDE
        + """
async def main():
    async with opened(folder(root), settings(cache)) as vfs:
        await live.read_file(vfs, "clean")
        vfs.store.save_resting()
        kill_me()
trio.run(main)
"""
    )
    await trio.to_thread.run_sync(run_until_killed, script, root, cache)
    async with opened(remote, settings(cache)) as vfs:
        assert vfs.store.unclean_stop
        assert not vfs.store.power_lost
        assert await live.read_file(vfs, "clean") == b"right" * 1000
        assert remote.fetched == 0


# 6: what close returned on survives kill -9


@pytest.mark.trio
async def test_invariant_6_what_close_returned_on_survives_kill_9(tmp_path: Path) -> None:
    root, cache = tmp_path / "store", tmp_path / "cache"
    remote = folder(root)
    await edit(remote, "stored", b"0123456789" * 300_000)
    await edit(remote, "gone", b"to be removed")
    await edit(remote, "renamed", b"R" * 100)
    script = (
        PRELUDE
        + """
async def main():
    async with opened(folder(root), settings(cache)) as vfs:
        await live.write_file(vfs, "new", b"n" * 3_000_000)
        await live.overwrite(vfs, "stored", 1_000_000, b"in the middle")
        await live.append(vfs, "stored", b"at the end")
        await live.remove(vfs, "gone")
        await live.append(vfs, "renamed", b"S")
        await live.rename(vfs, "renamed", "other")
        handle = await vfs.create(vfs.root, "closed alone", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"c" * 5000)
        await handle.close()
        handle = await vfs.create(vfs.root, "synced", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"s" * 5000)
        await handle.fsync()
        await handle.write(5000, b"not promised")
        kill_me()
trio.run(main)
"""
    )
    await trio.to_thread.run_sync(run_until_killed, script, root, cache)
    expected = bytearray(b"0123456789" * 300_000 + b"at the end")
    expected[1_000_000:1_000_013] = b"in the middle"
    async with opened(remote, settings(cache)) as vfs:
        assert await live.names(vfs) == {"new", "stored", "other", "closed alone", "synced"}
        assert await live.read_file(vfs, "stored") == expected
        assert not await vfs.drain()
    stored = content_of_folder(root)
    synced = stored.pop("synced")
    assert synced is not None
    assert synced[:5000] == b"s" * 5000
    assert stored == {
        "new": b"n" * 3_000_000, "stored": bytes(expected), "other": b"R" * 100 + b"S", "closed alone": b"c" * 5000
    }  # fmt: skip


@pytest.mark.trio
async def test_invariant_6_fsync_syncs_the_bytes_and_then_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power loss cannot be had in a test: seen instead is that both files are synced, in this order, while the
    claim is already in the index's log."""
    synced: list[str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    async with opened(memory(), settings(tmp_path / "cache")) as vfs:
        handle = await vfs.create(vfs.root, "file", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"precious")
        monkeypatch.setattr(os, "fsync", watched)
        await handle.fsync()
        ident, spans, size, _, dirty = row_of(tmp_path / "cache", "file")
        assert (spans, size, dirty) == ("0-8", 8, 1)
        data = str(file_of(tmp_path / "cache", ident))
        wal = [number for number, path in enumerate(synced) if path.endswith("index.sqlite-wal")]
        assert data in synced
        assert wal
        assert synced.index(data) < wal[-1]
        await handle.close()


# 7: one process owns a cache directory


@pytest.mark.trio
async def test_invariant_7_a_second_process_is_refused_and_told_who_has_the_cache(tmp_path: Path) -> None:
    root, cache = tmp_path / "store", tmp_path / "cache"
    remote = folder(root)
    script = (
        PRELUDE
        + """
async def main():
    async with opened(folder(root), settings(cache)) as vfs:
        kill_me(str(os.getpid()))
trio.run(main)
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(root), str(cache)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])},
    )
    assert process.stdout is not None
    try:
        owner = process.stdout.readline().strip()
        assert owner == str(process.pid)
        with pytest.raises(Refused, match=rf"process {owner}\b"):
            async with opened(remote, settings(cache)):
                pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    async with opened(remote, settings(cache)) as vfs:  # the lock dies with its process
        assert await live.names(vfs) == set()


# 8: a transfer that did not complete is never published


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["memory", "folder"])
async def test_invariant_8_an_upload_that_dies_leaves_the_old_file_as_it_was(tmp_path: Path, kind: str) -> None:
    remote = memory() if kind == "memory" else folder(tmp_path / "store")
    await edit(remote, "file", b"old" * 1000)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        await live.write_file(vfs, "file", os.urandom(3 * MIB))
        await live.write_file(vfs, "new", os.urandom(3 * MIB))
        remote.rule("put", times=4, dies=2 * MIB, before=Unreachable("", "broken"))
        left = await vfs.drain(2)
        assert {(upload.path, upload.tries) for upload in left} == {("file", 2), ("new", 2)}
        assert await content_of_remote(remote.inner) == {"file": b"old" * 1000}
        if kind == "folder":
            assert os.listdir(tmp_path / "store") == ["file"]
        assert not await vfs.drain()


@pytest.mark.trio
async def test_invariant_8_a_staged_upload_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "file", b"old")
    cache = tmp_path / "cache"
    async with opened(remote, settings(cache)) as vfs:
        before = set(cache.glob("*/data/*/*"))
        stage = await vfs.stage()
        os.pwrite(stage.fileno(), b"half of it", 0)
        stage.wrote(0, 10)
        assert await live.names(vfs) == {"file"}
        await stage.discard()
        await until(lambda: set(cache.glob("*/data/*/*")) == before)
        assert vfs.store.held == 0
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"old"}


@pytest.mark.trio
@pytest.mark.parametrize("how", list(Publish))
async def test_invariant_8_a_commit_that_fails_half_way_changes_nothing(tmp_path: Path, how: Publish) -> None:
    """The bytes came, but putting them into the file fails in the middle: the file is as it was."""
    remote = memory()
    await edit(remote, "file", b"old" * MIB)
    async with opened(remote, settings(tmp_path / "cache")) as vfs:
        assert len(await live.read_file(vfs, "file")) == 3 * MIB
        stage = await vfs.stage()
        size = 3 * MIB
        for start in range(0, size, MIB):
            os.pwrite(stage.fileno(), b"new" * MIB, start)
        pieces = 0
        write, publish = vfs.store.write, vfs.store.publish

        def full(*arguments: object) -> int:
            nonlocal pieces
            pieces += 1
            if pieces == 2:
                raise OSError(5, "the disk of the cache is broken")
            return write(*arguments)  # type: ignore[arg-type]

        def broken(*arguments: object) -> None:
            raise OSError(5, "the disk of the cache is broken")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(vfs.store), "write", lambda self, *a: full(*a))
            patch.setattr(type(vfs.store), "publish", lambda self, *a: broken(*a))
            with pytest.raises(OSError, match="broken"):
                await stage.commit(vfs.root, "file", size=size, how=how, offset=100)
        assert publish is not None
        await stage.discard()
        assert await live.read_file(vfs, "file") == b"old" * MIB
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"old" * MIB}


@pytest.mark.trio
async def test_invariant_8_a_kill_while_a_file_is_staged_or_written_publishes_none_of_it(tmp_path: Path) -> None:
    root, cache = tmp_path / "store", tmp_path / "cache"
    remote = folder(root)
    await edit(remote, "staged", b"old staged")
    await edit(remote, "written", b"old written" * 100_000)
    script = (
        PRELUDE
        + """
async def main():
    async with opened(folder(root), settings(cache)) as vfs:
        stage = await vfs.stage()
        os.pwrite(stage.fileno(), b"half of the new", 0)
        stage.wrote(0, 15)
        handle = await vfs.open(await vfs.resolve("written"), OpenFlags.WRITE)
        await handle.write(3, b"HALF")
        fresh = await vfs.create(vfs.root, "fresh.txt", OpenFlags.WRITE, exclusive=True)
        await fresh.write(0, b"half a file")
        kill_me()
trio.run(main)
"""
    )
    await trio.to_thread.run_sync(run_until_killed, script, root, cache)
    async with opened(remote, settings(cache)) as vfs:
        left = await vfs.drain()
        assert not left, "what was interrupted can be stored beside"
        assert await live.read_file(vfs, "written") == b"old written" * 100_000
    stored = content_of_folder(root)
    assert stored["staged"] == b"old staged"
    assert stored["written"] == b"old written" * 100_000
    assert "fresh.txt" not in stored
    for path, data in stored.items():
        assert path in ("staged", "written") or "(interrupted" in path, path
        assert path in ("staged", "written") or data in (
            b"", b"half a file", b"oldHALFtten" + b"old written" * 99_999
        ), path  # fmt: skip


# and what the cache directory is when its metadata is not what it was


@pytest.mark.trio
async def test_a_damaged_index_costs_no_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remote = memory()
    cache = tmp_path / "cache"
    async with opened(remote, settings(cache)) as vfs:
        await live.write_file(vfs, "file", b"not uploaded yet")
    [index] = cache.glob("*/index.sqlite")
    index.write_bytes(b"this is no database" * 1000)
    async with opened(remote, settings(cache)) as vfs:
        assert await live.names(vfs) == set()
    [kept] = [path for path in cache.glob("*/lost+found/*/data/*/*") if path.is_file()]
    assert kept.read_bytes() == b"not uploaded yet"
    assert "lost+found" in caplog.text


@pytest.mark.trio
async def test_a_damaged_entry_of_a_changed_file_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    remote = memory()
    cache = tmp_path / "cache"
    async with opened(remote, settings(cache)) as vfs:
        await live.write_file(vfs, "bad", b"damaged entry")
        await live.write_file(vfs, "good", b"fine")
    db = index_of(cache)
    db.execute("UPDATE items SET spans = 'nonsense' WHERE path = 'bad'")
    db.close()
    async with opened(remote, settings(cache)) as vfs:
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"good": b"fine"}
    assert [path.read_bytes() for path in cache.glob("*/lost+found/*")] == [b"damaged entry"]


@pytest.mark.trio
@pytest.mark.parametrize("column", ["spans", "base"])
async def test_a_damaged_entry_of_a_clean_file_costs_a_download(tmp_path: Path, column: str) -> None:
    remote = memory()
    cache = tmp_path / "cache"
    await edit(remote, "file", b"content")
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "file") == b"content"
    db = index_of(cache)
    db.execute(f"UPDATE items SET {column} = 'nonsense'")
    db.close()
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "file") == b"content"
        await live.append(vfs, "file", b"!")
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"content!"}


def test_a_cache_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path, "memory://x/")
    store.close()
    store.directory.chmod(0o755)
    with pytest.raises(Refused, match="chmod 700"):
        open_store(tmp_path, "memory://x/")


def test_the_cache_of_another_storage_is_not_taken_for_this_one(tmp_path: Path) -> None:
    one, other = open_store(tmp_path, "memory://one/"), open_store(tmp_path, "memory://other/")
    assert one.directory != other.directory
    one.close()
    other.close()


@pytest.mark.trio
@pytest.mark.parametrize("how", ["OVERLAY", "APPEND"])
async def test_invariant_8_an_upload_over_a_file_is_finished_by_the_next_start(tmp_path: Path, how: str) -> None:
    root, cache = tmp_path / "store", tmp_path / "cache"
    remote = folder(root)
    await edit(remote, "file", b"old" * MIB)
    script = (
        PRELUDE
        + f"""
async def main():
    async with opened(folder(root), settings(cache)) as vfs:
        stage = await vfs.stage()
        os.pwrite(stage.fileno(), b"N" * (3 << 20), 0)
        write = vfs.store.write
        def once(*args):
            write(*args)
            kill_me()
        vfs.store.write = once
        await stage.commit(vfs.root, "file", size=3 << 20, how=Publish.{how}, offset=1000)
trio.run(main)
"""
    )
    await trio.to_thread.run_sync(run_until_killed, script, root, cache)
    async with opened(remote, settings(cache)) as vfs:
        assert not await vfs.drain()
    old, new = b"old" * MIB, b"N" * (3 << 20)
    at = len(old) if how == "APPEND" else 1000
    assert content_of_folder(root) == {"file": old[:at] + new + old[at + len(new) :]}


@pytest.mark.trio
async def test_invariant_6_what_replaces_a_synced_file_is_on_the_disk_before_that_is_deleted(tmp_path: Path) -> None:
    async with opened(memory(), settings(tmp_path)) as vfs:
        handle = await vfs.create(vfs.root, "file", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"synced")
        await handle.fsync()
        await handle.close()
        ident = row_of(tmp_path, "file")[0]
        await live.write_file(vfs, "new", b"closed")
        await live.rename(vfs, "new", "file")
        path = file_of(tmp_path, ident)
        assert path.read_bytes() == b"synced"
        await LateSync(vfs.store).look()
        assert not path.exists()


@pytest.mark.trio
async def test_what_is_cut_off_a_synced_file_is_not_counted_as_held(tmp_path: Path) -> None:
    async with opened(memory(), settings(tmp_path)) as vfs:
        handle = await vfs.create(vfs.root, "file", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"x" * 5000)
        await handle.fsync()
        await handle.truncate(10)
        await handle.close()
        assert vfs.store.held == 10

"""A damaged index: every flipped byte is noticed, nothing dirty is deleted, and no wrong byte is served."""

from __future__ import annotations

import copy
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
import trio

from mountcore.cache.index import Index
from mountcore.cache.opening import open_store, store_directory
from mountcore.errors import Corrupt, StorageError
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Version

from . import live
from .faulty import Faulty
from .scene import edit, memory, opened, settings
from .storage import content_of_remote

pytestmark = pytest.mark.trio
CLEAN = random.Random(1).randbytes(60_000)
DIRTY = random.Random(2).randbytes(50_000)
FLIPS = int(os.environ.get("PORTSIDE_FLIPS", "60"))


async def prepare(remote: Faulty, cache: Path) -> Path:
    """A cache with a clean file and a changed one, closed; answers its directory."""
    await edit(remote, "clean", CLEAN, 10**18)
    await edit(remote, "dirty", b"before", 10**18)
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "clean") == CLEAN
        await live.write_file(vfs, "dirty", DIRTY)
    return store_directory(cache, remote.identity)


def kept_aside(directory: Path) -> list[bytes]:
    """Every data file in lost+found."""
    return [path.read_bytes() for path in (directory / "lost+found").rglob("*") if path.is_file()]


async def judge(remote: Faulty, cache: Path, directory: Path) -> bool:
    """Open it again: what is served is right, and what was written is somewhere. True: in the journal, and stored."""
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "clean") == CLEAN
        shown = await live.read_file(vfs, "dirty")
        assert shown in (DIRTY, b"before")
        if shown == DIRTY:
            left = await vfs.drain()
            if left and (directory / "damaged").exists():
                raise StorageError("dirty", left[0].error)
            assert left == ()
            stored = await content_of_remote(remote.inner)
            assert stored == {"clean": CLEAN, "dirty": DIRTY}
            return True
    stored = await content_of_remote(remote.inner)
    assert DIRTY in kept_aside(directory) or DIRTY in stored.values(), "what was written here is gone"
    return False


@pytest.mark.parametrize(
    ("column", "value"),
    [("size", 49_999), ("size", 70_000), ("mtime_ns", 5), ("spans", "[[0, 60001]]"), ("spans", "nonsense"),
     ("spans", b"\xff"), ("held", 7), ("base", '[60000, 1, 1, "2"]'), ("base", None), ("attempt", '[1, 1, 1, ""]'),
     ("dirty", "the other"), ("dirty", 2), ("promise", 7), ("tries", 99), ("error", "x"), ("sum", 12345),
     ("sum", 1 << 32), ("named", 3), ("path", "other"), ("path", None)],
)  # fmt: skip
@pytest.mark.parametrize("which", ["clean", "dirty"])
async def test_a_changed_value_in_a_row_is_noticed(
    tmp_path: Path, which: str, column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    remote = memory()
    directory = await prepare(remote, tmp_path)
    with sqlite3.connect(directory / "index.sqlite") as db:
        (before,) = db.execute(f"SELECT {column} FROM items WHERE path = ?", (which,)).fetchone()
        if value == "the other":
            value = 1 - before
        assert value != before
        db.execute(f"UPDATE items SET {column} = ? WHERE path = ?", (value, which))
    db.close()
    before = remote.fetched
    assert await judge(remote, tmp_path, directory) is (which == "clean")
    if which == "dirty":
        assert any("lost+found" in line for line in caplog.messages)
        assert DIRTY in kept_aside(directory)
    elif column != "path":
        assert remote.fetched - before >= len(CLEAN), "what the row said was believed"


@pytest.mark.parametrize("victim", ["overlays", "trash", "renames", "pins", "retired", "facts"])
async def test_a_table_that_lies_in_the_place_of_another_is_noticed(tmp_path: Path, victim: str) -> None:
    """One bit of the schema: what it says of one would be done to the other."""
    remote = memory()
    directory = await prepare(remote, tmp_path)
    with sqlite3.connect(directory / "index.sqlite") as db:
        db.execute("PRAGMA writable_schema = ON")
        items = "SELECT rootpage FROM sqlite_master WHERE name = 'items'"
        db.execute(f"UPDATE sqlite_master SET rootpage = ({items}) WHERE name = ?", (victim,))
    db.close()
    assert await judge(remote, tmp_path, directory) is False


@pytest.mark.parametrize(
    "row", ["overlays VALUES (99, 1, 0, NULL)", "overlays VALUES (99, 1, 'x', 5)", "overlays VALUES (99, 1, -1, 5)",
            "overlays VALUES (99, NULL, 0, 5)", "renames VALUES (5, 6, '[[], 1, 2]')", "pins VALUES (7)"],
)  # fmt: skip
async def test_what_is_no_statement_about_an_upload_a_rename_or_a_pin_is_not_believed(tmp_path: Path, row: str) -> None:
    remote = memory()
    directory = await prepare(remote, tmp_path)
    with sqlite3.connect(directory / "index.sqlite") as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute(f"INSERT INTO {row}")
    db.close()
    assert await judge(remote, tmp_path, directory) is not row.startswith("overlays")


async def test_flipped_bytes_anywhere_in_the_file(tmp_path: Path) -> None:
    remote = memory()
    pristine = (await prepare(remote, tmp_path / "first")).parent
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    assert isinstance(remote.inner, Memory)
    content_before = copy.deepcopy(remote.inner._root)
    for number in range(FLIPS):
        remote.inner._root = copy.deepcopy(content_before)
        cache = tmp_path / f"c{number}"
        shutil.copytree(pristine, cache)
        directory = store_directory(cache, remote.identity)
        content = bytearray((directory / "index.sqlite").read_bytes())
        used = [place for place, byte in enumerate(content) if byte]
        place = chance.choice(used)
        content[place] ^= 1 << chance.randrange(8)
        (directory / "index.sqlite").write_bytes(content)
        try:
            await judge(remote, cache, directory)
        except StorageError:  # found while it was in use: the file is refused now, and set aside at the next start
            assert (directory / "damaged").exists(), f"byte {place}, seed {seed}"
            await judge(remote, cache, directory)
        except BaseException as problem:
            problem.add_note(f"byte {place}, seed {seed}")
            raise
        shutil.rmtree(cache)


async def test_damage_that_is_found_in_use_is_set_aside_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote = memory()
    directory = await prepare(remote, tmp_path)
    index = Index(directory / "index.sqlite")
    with pytest.raises(StorageError, match="damaged"):
        index._ask("SELECT nothing FROM nowhere")
    index.close()
    assert await judge(remote, tmp_path, directory) is False
    assert not (directory / "damaged").exists()
    assert any("was damaged" in line for line in caplog.messages)


async def test_what_is_asked_after_the_end_is_no_damage(tmp_path: Path) -> None:
    """A program's last request, say, when portside was told twice to end: the next start must find everything."""
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "file", DIRTY)
        store = vfs.store
    with pytest.raises(StorageError):
        store.get("other")
    with pytest.raises(StorageError):
        store.index.set_fact("running", "on")
    assert not store.index.marker.exists()
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await live.read_file(vfs, "file") == DIRTY


async def test_rows_of_a_former_version_get_their_checksums(tmp_path: Path) -> None:
    remote = memory()
    directory = await prepare(remote, tmp_path)
    with sqlite3.connect(directory / "index.sqlite") as db:
        db.execute("ALTER TABLE items DROP COLUMN sum")
        db.execute("ALTER TABLE items DROP COLUMN named")
        db.execute("ALTER TABLE items DROP COLUMN synced")
        db.execute("UPDATE facts SET value = '1' WHERE key = 'format'")
    db.close()
    before = remote.fetched
    assert await judge(remote, tmp_path, directory) is True
    assert remote.fetched == before


async def test_every_way_to_change_a_row_keeps_its_checksum(tmp_path: Path) -> None:
    store = open_store(tmp_path, "memory://x/")
    base = Version(3, 10**18, 1, "tag")
    for number, name in enumerate(["a", "d/b", "d/\udcff\udc80", "d/e/c", "d/\u00e9", "e/b", "gone"]):
        item = store.new(name, base=base, dirty=number % 2 == 1)
        store.save(item)
        item.row.error = "said \udcff"
        store.save(item)
    store.rename_tree("d", "e")
    item = store.new("e/b", base=None, dirty=True)  # takes a name
    store.publish(item, "a")
    item = store.new(None, base=None, dirty=True)
    store.acquire(item)
    store.publish(item, "gone")
    store.unlink(item)
    rows, unreadable = store.index._rows("1")
    assert not unreadable
    assert {row.path for row in rows} == {"a", "e/\udcff\udc80", "e/e/c", "e/\u00e9", None}
    store.release(item)
    store.close()
    store = open_store(tmp_path, "memory://x/")
    assert {item.path for item in store.dirty_items()} <= {"a", "e/\udcff\udc80", "e/e/c", "e/\u00e9"}
    assert not (store.directory / "lost+found").exists()
    store.close()
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["emptied", "deleted", "as it was made"])
async def test_an_index_that_has_forgotten_everything_deletes_nothing(tmp_path: Path, how: str) -> None:
    """What new files would be called is what the old ones, which it knows nothing of, are called."""
    remote = memory()
    directory = await prepare(remote, tmp_path)
    for path in directory.glob("index.sqlite*"):
        path.unlink()
    match how:
        case "emptied":
            (directory / "index.sqlite").touch()
        case "as it was made":
            Index(directory / "index.sqlite").close()
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.write_file(vfs, "new", b"new" * 10_000)
        assert await live.read_file(vfs, "clean") == CLEAN
        assert await vfs.drain() == ()
    assert DIRTY in kept_aside(directory)


@pytest.mark.parametrize("how", ["deleted", "cut"])
async def test_a_changed_file_whose_bytes_are_gone_is_an_error_and_never_zeros(tmp_path: Path, how: str) -> None:
    """Somebody tidied the cache by hand, say. What the remote has stays; a user may discard the rest."""
    remote = memory()
    await edit(remote, "file", b"as stored")
    cache, image = tmp_path / "cache", tmp_path / "image"
    async with opened(remote, settings(cache)) as vfs:
        await live.write_file(vfs, "file", b"changed" * 1000)
        shutil.copytree(cache, image)  # what a kill here would leave
        await vfs.discard_changes(await vfs.resolve("file"))
    (held,) = store_directory(image, remote.identity).glob("data/*/*")
    if how == "deleted":
        held.unlink()
    else:
        os.truncate(held, 3000)
    async with opened(remote, settings(image)) as vfs:
        left = await vfs.drain(1)
        assert [upload.path for upload in left] == ["file"]
        assert "shorter" in left[0].error
        with pytest.raises(Corrupt, match="shorter"):
            await live.read_file(vfs, "file")
        assert await content_of_remote(remote.inner) == {"file": b"as stored"}
        await vfs.discard_changes(await vfs.resolve("file"))
        assert await live.read_file(vfs, "file") == b"as stored"
    assert await content_of_remote(remote.inner) == {"file": b"as stored"}

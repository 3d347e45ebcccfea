"""Files on a mount behave as on a local disk."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mountcore.settings import CacheSettings, VfsSettings

from .mounting import Mount, in_a_process

NAMES = [
    "plain", "with space", " leading", "trailing ", "-dash", "--", "#hash", "quote'\"", "back\\slash", "tab\there",
    "new\nline", "\x01control\x7f", "*?[x]", "trailing.", "ünïcödé", "u\u0308NFD", "日本語", "🚢", "x" * 255, "é" * 127,
]  # fmt: skip


def drain(mount: Mount) -> None:
    assert mount.run(mount.vfs.drain) == ()


def test_what_is_written_is_read_back_and_stored(mount: Mount, store: Path) -> None:
    data = os.urandom(3_000_001)
    (mount.path / "file").write_bytes(data)
    assert (mount.path / "file").read_bytes() == data
    assert (mount.path / "file").stat().st_size == len(data)
    drain(mount)
    assert (store / "file").read_bytes() == data


def test_a_large_remote_file_is_read_at_any_offset(mount: Mount, store: Path) -> None:
    data = os.urandom(9 << 20)
    (store / "big").write_bytes(data)
    with (mount.path / "big").open("rb") as file:
        for offset in (8 << 20, 0, 5_000_001, 9 << 20, (9 << 20) - 1):
            file.seek(offset)
            assert file.read(70_000) == data[offset : offset + 70_000]
        file.seek(0)
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest()


def test_in_place_edits_of_a_file_that_is_only_at_the_remote(mount: Mount, store: Path) -> None:
    data = bytearray(os.urandom(2 << 20))
    (store / "edit").write_bytes(data)
    with (mount.path / "edit").open("r+b") as file:
        for offset, piece in ((0, b"start"), (1_000_000, b"middle" * 100), ((2 << 20) - 3, b"endandmore")):
            file.seek(offset)
            file.write(piece)
            data[offset : offset + len(piece)] = piece
    assert (mount.path / "edit").read_bytes() == bytes(data)
    drain(mount)
    assert (store / "edit").read_bytes() == bytes(data)


def test_append_from_two_processes_loses_nothing(mount: Mount, store: Path) -> None:
    script = "import os,sys\nfor i in range(200):\n  f=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n" \
             "  os.write(f,(sys.argv[2]+str(i)+'\\n').encode()); os.close(f)"  # fmt: skip
    target = str(mount.path / "log")
    writers = [subprocess.Popen([sys.executable, "-c", script, target, tag]) for tag in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = (mount.path / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{tag}{i}" for tag in "ab" for i in range(200))


def test_truncate_by_path_by_descriptor_and_at_open(mount: Mount, store: Path) -> None:
    (store / "t").write_bytes(b"0123456789")
    os.truncate(mount.path / "t", 4)
    assert (mount.path / "t").read_bytes() == b"0123"
    with (mount.path / "t").open("r+b") as file:
        file.truncate(8)
        assert file.read() == b"0123\0\0\0\0"
    drain(mount)
    assert (store / "t").read_bytes() == b"0123\0\0\0\0"
    os.close(os.open(mount.path / "t", os.O_WRONLY | os.O_TRUNC))
    assert (mount.path / "t").stat().st_size == 0
    drain(mount)
    assert (store / "t").read_bytes() == b""


def test_truncate_of_a_new_file_before_it_is_uploaded(mount: Mount, store: Path) -> None:
    (mount.path / "new").write_bytes(b"x" * 100)
    os.truncate(mount.path / "new", 10)
    os.close(os.open(mount.path / "new", os.O_RDONLY))
    drain(mount)
    assert (store / "new").read_bytes() == b"x" * 10


def test_a_hole_reads_as_zeros(mount: Mount, store: Path) -> None:
    with (mount.path / "hole").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    assert (mount.path / "hole").read_bytes() == bytes(5_000_000) + b"end"
    drain(mount)
    assert (store / "hole").read_bytes() == bytes(5_000_000) + b"end"


def test_an_unlinked_open_file_stays_readable_and_writable(mount: Mount, store: Path) -> None:
    (store / "gone").write_bytes(b"a" * 3_000_000)
    with (mount.path / "gone").open("r+b") as file:
        (mount.path / "gone").unlink()
        assert not (mount.path / "gone").exists()
        assert file.read(10) == b"a" * 10
        file.seek(2_999_990)
        assert file.read() == b"a" * 10
        file.write(b"more")
        file.flush()
        assert os.fstat(file.fileno()).st_size == 3_000_004
        assert os.fstat(file.fileno()).st_nlink == 0
    drain(mount)
    assert not (store / "gone").exists()


def test_rename_over_an_open_file_leaves_the_reader_with_the_old_one(mount: Mount, store: Path) -> None:
    (mount.path / "old").write_bytes(b"old content")
    (mount.path / "new").write_bytes(b"new")
    with (mount.path / "old").open("rb") as reader:
        (mount.path / "new").rename(mount.path / "old")
        assert reader.read() == b"old content"
    assert (mount.path / "old").read_bytes() == b"new"
    drain(mount)
    assert {p.name for p in store.iterdir()} == {"old"}
    assert (store / "old").read_bytes() == b"new"


def test_exclusive_create(mount: Mount) -> None:
    os.close(os.open(mount.path / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    with pytest.raises(FileExistsError):
        os.open(mount.path / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


MAP = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
    print(mapped[50_000:50_010].hex())
    mapped[70_000:70_005] = b"HELLO"
    if sys.argv[2] == "flush":
        mapped.flush()
"""


@pytest.mark.parametrize("end", ["flush", "close"])
def test_mmap_reads_and_shared_mmap_writes(mount: Mount, store: Path, end: str) -> None:
    data = os.urandom(100_000)
    (store / "m").write_bytes(data)
    assert bytes.fromhex(in_a_process(MAP, mount.path / "m", end)) == data[50_000:50_010]
    expected = data[:70_000] + b"HELLO" + data[70_005:]
    assert (mount.path / "m").read_bytes() == expected
    drain(mount)
    assert (store / "m").read_bytes() == expected


MAP_AND_APPEND = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND)
mapped = mmap.mmap(file, 8192)
mapped[0:5] = b"FIRST"
os.write(file, b"appended")
mapped[4096:4101] = b"SECND"
mapped.flush()
mapped.close()
os.close(file)
"""


def test_mapped_pages_of_a_file_open_for_appending_go_where_they_belong(mount: Mount, store: Path) -> None:
    (store / "m").write_bytes(b"." * 8192)
    in_a_process(MAP_AND_APPEND, mount.path / "m")
    expected = b"FIRST" + b"." * 4091 + b"SECND" + b"." * 4091 + b"appended"
    assert (mount.path / "m").read_bytes() == expected
    drain(mount)
    assert (store / "m").read_bytes() == expected


DATABASE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute(f"pragma journal_mode={sys.argv[2]}").fetchone()[0] == sys.argv[2]
db.execute("create table if not exists t (a integer primary key, b text)")
with db:
    db.executemany("insert into t(b) values (?)", [(f"{sys.argv[3]}-{i}" * 20,) for i in range(500)])
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
db.close()
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite_works(mount: Mount, store: Path, journal: str) -> None:
    for turn in range(3):
        in_a_process(DATABASE, mount.path / "data.db", journal, turn)
    drain(mount)
    copy = sqlite3.connect(store / "data.db")
    assert copy.execute("select count(*) from t").fetchone()[0] == 1500
    assert copy.execute("pragma integrity_check").fetchone()[0] == "ok"
    copy.close()


def test_odd_names_everywhere(mount: Mount, store: Path) -> None:
    for name in NAMES:
        (mount.path / name).write_text(name)
    assert sorted(os.listdir(mount.path)) == sorted(NAMES)
    drain(mount)
    assert {p.name: p.read_text() for p in store.iterdir()} == {name: name for name in NAMES}
    for name in NAMES:
        (mount.path / name).unlink()
    assert os.listdir(mount.path) == [] == os.listdir(store)


def test_a_name_that_is_not_utf_8(mount: Mount, store: Path) -> None:
    raw = os.fsencode(mount.path) + b"/\xff\xfe-latin"
    with open(raw, "wb") as file:
        file.write(b"kept")
    drain(mount)
    assert os.listdir(os.fsencode(store)) == [b"\xff\xfe-latin"]


def test_a_name_that_is_too_long(mount: Mount) -> None:
    with pytest.raises(OSError, match="File name too long") as caught:
        (mount.path / ("x" * 256)).write_text("no")
    assert caught.value.errno == errno.ENAMETOOLONG


def test_times_are_set_and_stored(mount: Mount, store: Path) -> None:
    (mount.path / "f").write_text("x")
    os.utime(mount.path / "f", ns=(10**18, 1_500_000_000_123_456_789))
    assert (mount.path / "f").stat().st_mtime_ns == 1_500_000_000_123_456_789
    drain(mount)
    assert (store / "f").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert (mount.path / "f").stat().st_mtime_ns == 1_500_000_000_123_456_789


def test_a_copied_tree_has_the_times_of_its_directories(mount: Mount, store: Path, tmp_path: Path) -> None:
    """Files are uploaded into them after that, and change them at the storage."""
    origin = tmp_path / "origin"
    (origin / "a" / "b").mkdir(parents=True)
    for place in (origin, origin / "a", origin / "a" / "b"):
        for number in range(5):
            (place / f"{number}").write_text(f"{number}")
    for depth, place in enumerate((origin / "a" / "b", origin / "a", origin)):
        os.utime(place, (1_400_000_000 + depth, 1_400_000_000 + depth))
    subprocess.run(["cp", "-a", origin, mount.path / "copy"], check=True)
    drain(mount)

    def times(place: Path) -> list[float]:
        return [folder.stat().st_mtime for folder in (place / "a" / "b", place / "a", place)]

    expected = [1_400_000_000.0, 1_400_000_001.0, 1_400_000_002.0]
    assert times(mount.path / "copy") == expected
    assert times(store / "copy") == expected
    mount.run(mount.vfs.refresh)
    said = subprocess.run(
        ["rsync", "-a", "--itemize-changes", f"{origin}/", f"{mount.path}/copy/"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert said.stdout == ""
    (mount.path / "copy" / "a" / "new").write_text("x")
    assert (mount.path / "copy" / "a").stat().st_mtime > 1_500_000_000


def test_access_times_are_set_and_stored(mount: Mount, store: Path, tmp_path: Path) -> None:
    origin, copied, touched = tmp_path / "origin", mount.path / "copied", mount.path / "touched"
    origin.write_text("x")
    os.utime(origin, ns=(1_400_000_000_123_456_789, 1_500_000_000_123_456_789))
    subprocess.run(["cp", "-p", origin, copied], check=True)
    touched.write_text("y")
    drain(mount)
    before = touched.stat().st_mtime_ns
    subprocess.run(["touch", "-a", "-d", "@1300000000.5", touched], check=True)

    def check(place: Path) -> None:
        status = (place / "copied").stat()
        assert (status.st_atime_ns, status.st_mtime_ns) == (1_400_000_000_123_456_789, 1_500_000_000_123_456_789)
        status = (place / "touched").stat()
        assert (status.st_atime_ns, status.st_mtime_ns) == (1_300_000_000_500_000_000, before)

    check(mount.path)
    check(store)
    mount.run(mount.vfs.refresh)
    os.listdir(mount.path)
    check(mount.path)
    subprocess.run(["touch", "-m", "-d", "@1200000000", touched], check=True)
    assert touched.stat().st_atime_ns == 1_300_000_000_500_000_000
    subprocess.run(["touch", touched], check=True)
    assert touched.stat().st_atime_ns > before


def test_fsync_and_fdatasync_return(mount: Mount) -> None:
    with (mount.path / "s").open("wb") as file:
        file.write(b"synced")
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    folder = os.open(mount.path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def test_what_a_remote_cannot_hold_is_refused_with_the_right_errno(mount: Mount) -> None:
    (mount.path / "f").write_text("x")
    with pytest.raises(OSError, match=r"not supported|not permitted"):
        os.mkfifo(mount.path / "fifo")
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(mount.path / "f", "user.x")


def test_a_cache_on_a_file_system_without_sparse_files_is_refused(mount: Mount) -> None:
    """A mount is one: what a file has of blocks is what it has of bytes."""
    script = (
        "import sys; from pathlib import Path; from mountcore.cache.opening import open_store\n"
        "from mountcore.errors import Refused\n"
        "try: open_store(Path(sys.argv[1]), 'memory://x/')\n"
        "except Refused as problem: print(problem)"
    )
    said = in_a_process(script, mount.path / "cache")
    assert "cannot hold sparse files" in said
    assert "--cache-dir" in said


def test_files_that_are_made_one_after_the_other_leave_no_tasks_behind(
    mount_here: Callable[..., Mount], tmp_path: Path
) -> None:
    """Each that was lent to the kernel left one for a second: of thousands, they took the time of those that follow."""

    async def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    mount = mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=60)))
    (mount.path / "first").write_text("x")
    before = mount.run(tasks)
    for number in range(600):
        (mount.path / f"{number}").write_text("x")
    assert mount.run(tasks) < before + 300  # pyfuse3 itself comes to have 256
    assert len(os.listdir(mount.path)) == 601

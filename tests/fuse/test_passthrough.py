"""What is particular where the kernel reads and writes cache files itself: it does not tell, and the core must know."""

from __future__ import annotations

import mmap
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuse_frontend.mountpoint import unmount
from mountcore.cache.item import Item
from mountcore.handle import OpenFlags
from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings
from mountcore.vfs import Handle

from .mounting import Mount, in_a_process, mounted, spoken

MIB = 1 << 20
NEVER = 3600.0
LEAST = (6, 9)


@pytest.fixture
def session() -> str:
    """The one that this file is about."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < LEAST:
        pytest.skip("the kernel has passthrough since 6.9; scripts/test runs this on newer ones")
    return "passthrough"


@pytest.fixture
def later(mount_here: Callable[..., Mount], tmp_path: Path) -> Mount:
    """Nothing is uploaded by itself."""
    return mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=NEVER)))


def journal(place: Path, name: str) -> tuple[int, int, int]:
    """Whether the index has the file dirty, what it promised, and its size: as a process would find it after a kill."""
    [index] = (place / "cache").glob("*/index.sqlite")
    with sqlite3.connect(index) as database:
        return database.execute("SELECT dirty, promise, size FROM items WHERE path = ?", (name,)).fetchone()  # type: ignore[no-any-return]


def item_of(mount: Mount, name: str) -> Item:
    """The item behind a name."""

    async def find() -> Item:
        node = await mount.vfs.resolve(name)
        item = node.item or mount.vfs.store.get(name)
        assert item is not None
        return item

    return mount.run(find)


def cached(mount: Mount, store: Path, name: str, data: bytes) -> Path:
    """A file of the storage that is whole in the cache and not open; the kernel knows nothing of it."""
    (store / name).write_bytes(data)
    mount.run(mount.vfs.refresh)
    assert (mount.path / name).read_bytes() == data
    return mount.path / name


def settled(mount: Mount, condition: Callable[[], bool]) -> None:
    """RELEASE comes after close(2) has returned."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_whole_file_is_read_without_asking(mount: Mount, store: Path) -> None:
    data = os.urandom(3 * MIB)
    path = cached(mount, store, "file", data)
    settled(mount, lambda: not item_of(mount, "file").opens)
    before = mount.vfs.counters.hits + mount.vfs.counters.misses
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == data
    assert mount.vfs.counters.hits + mount.vfs.counters.misses == before, "it was asked"


def test_opening_for_writing_without_writing_uploads_nothing(later: Mount, store: Path, tmp_path: Path) -> None:
    path = cached(later, store, "file", b"x" * 100)
    os.utime(store / "file", ns=(0, 10**18))
    later.run(later.vfs.refresh)
    os.listdir(later.path)
    path.read_bytes()
    file = os.open(path, os.O_RDWR)
    assert journal(tmp_path, "file")[:2] == (1, 0), "whoever is killed now has it in the journal"

    async def uploads() -> object:
        return later.vfs.snapshot().uploads

    assert later.run(uploads) == ()
    os.close(file)
    settled(later, lambda: journal(tmp_path, "file")[0] == 0)
    assert later.run(later.vfs.drain) == ()
    assert (store / "file").stat().st_mtime_ns == 10**18, "it was uploaded"
    assert path.read_bytes() == b"x" * 100


def by_write(file: int) -> None:
    os.pwrite(file, b"new", 5)


def by_page(file: int) -> None:
    # by a process: a page that is mapped is fetched while the interpreter's lock is held
    in_a_process(
        "import mmap, os, sys\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "with mmap.mmap(file, 0) as pages: pages[5:8] = b'new'\n",
        f"/proc/{os.getpid()}/fd/{file}",
    )


def by_copy(file: int) -> None:
    with mmap.mmap(-1, 4096) as pages:
        pages[:3] = b"new"
        assert os.pwritev(file, [memoryview(pages)[:3]], 5) == 3


@pytest.mark.parametrize("write", [by_write, by_page, by_copy])
def test_every_way_of_writing_is_noticed(
    later: Mount, store: Path, tmp_path: Path, write: Callable[[int], None]
) -> None:
    """Also within the tick of the clock in which it was opened, and without the length changing."""
    path = cached(later, store, "file", b"old content")
    for number in range(5):
        (path).write_bytes(b"old content")
        assert later.run(later.vfs.drain) == ()
        file = os.open(path, os.O_RDWR)
        write(file)
        os.close(file)
        assert journal(tmp_path, "file")[0] == 1, number
        settled(later, lambda: not item_of(later, "file").writers)
        assert later.run(later.vfs.drain) == ()
        assert (store / "file").read_bytes() == b"old cnewent"
        assert abs(path.stat().st_mtime - time.time()) < 60, "the time of the write, not one of 1970"


def test_what_is_written_shows_through_other_doors_at_once(later: Mount, tmp_path: Path) -> None:
    file = os.open(later.path / "file", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(file, b"a" * 10)

    async def look() -> tuple[int, bytes]:
        node = await later.vfs.resolve("file")
        handle: Handle = await later.vfs.open(node, OpenFlags.READ)
        data = await handle.read(0, 100)
        await handle.close()
        return later.vfs.attributes(node).size, data

    assert later.run(look) == (10, b"a" * 10)
    os.write(file, b"b" * 5)
    assert later.run(look) == (15, b"a" * 10 + b"b" * 5)
    os.ftruncate(file, 12)
    assert later.run(look) == (12, b"a" * 10 + b"b" * 2)
    assert os.stat(later.path / "file").st_size == os.fstat(file).st_size == 12
    os.close(file)


def test_flush_and_fsync_promise_what_was_written(later: Mount, tmp_path: Path) -> None:
    file = os.open(later.path / "file", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(file, b"a" * 10)
    os.fsync(file)
    assert journal(tmp_path, "file") == (1, 2, 10)
    os.write(file, b"b" * 10)
    os.close(os.dup(file))
    assert journal(tmp_path, "file")[2] == 20
    os.close(file)


def test_a_time_that_is_set_stays_unless_something_is_written_after(later: Mount, store: Path) -> None:
    for name, after in (("kept", False), ("gone", True)):
        file = os.open(later.path / name, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, b"content")
        os.utime(file, ns=(10**18, 10**18))
        if after:
            os.write(file, b", more")
        os.close(file)
    assert later.run(later.vfs.drain) == ()
    assert (store / "kept").stat().st_mtime_ns == 10**18
    assert (store / "gone").stat().st_mtime_ns > 10**18


def test_touching_a_file_uploads_nothing(later: Mount, store: Path) -> None:
    path = cached(later, store, "file", b"content")
    before = later.vfs.counters.uploaded_files
    subprocess.run(["touch", "-d", "@1000000000", path], check=True)
    settled(later, lambda: not item_of(later, "file").writers)
    assert (store / "file").stat().st_mtime == 10**9
    assert later.run(later.vfs.drain) == ()
    assert later.vfs.counters.uploaded_files == before
    assert path.stat().st_mtime == 10**9


def test_a_file_that_is_open_in_part_stays_with_the_kernels_pages(later: Mount, store: Path) -> None:
    data = os.urandom(8 * MIB)
    (store / "file").write_bytes(data)
    first = os.open(later.path / "file", os.O_RDONLY)
    assert os.pread(first, 10, 0) == data[:10]
    second = os.open(later.path / "file", os.O_RDWR)
    os.pwrite(second, b"n" * 10, 5)
    assert os.pread(first, 20, 0) == data[:5] + b"n" * 10 + data[15:20]
    third = os.open(later.path / "file", os.O_RDONLY)  # all of it is here by now, or soon
    assert os.pread(third, 8 * MIB, 0) == data[:5] + b"n" * 10 + data[15:]
    for file in (first, second, third):
        os.close(file)
    with (later.path / "file").open("rb") as again:
        assert again.read() == data[:5] + b"n" * 10 + data[15:]


def test_a_reader_keeps_his_version_while_others_open_the_next(later: Mount, store: Path) -> None:
    path = cached(later, store, "file", b"old version " * 1000)
    settled(later, lambda: not item_of(later, "file").opens)
    reader = os.open(path, os.O_RDONLY)
    assert os.pread(reader, 3, 0) == b"old"
    (store / "file").write_bytes(b"new version, longer than the old one " * 1000)
    later.run(later.vfs.refresh)
    os.listdir(later.path)
    assert path.read_bytes() == b"new version, longer than the old one " * 1000
    assert os.pread(reader, 11, 0) == b"old version"
    mapped = in_a_process(
        "import mmap, os, sys\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "with mmap.mmap(file, 0) as pages:\n    print(pages[:11].decode()); pages[:3] = b'NEW'\n",
        path,
    )
    assert mapped == "new version\n"
    assert path.read_bytes().startswith(b"NEW version")
    assert os.pread(reader, 11, 0) == b"old version"
    os.close(reader)
    settled(later, lambda: not item_of(later, "file").opens)
    assert path.read_bytes().startswith(b"NEW version, longer")
    assert later.run(later.vfs.drain) == ()
    assert (store / "file").read_bytes().startswith(b"NEW version, longer")


def test_a_bounded_cache_keeps_its_bound_and_what_is_read(
    mount_here: Callable[..., Mount], store: Path, tmp_path: Path
) -> None:
    cache = CacheSettings(directory=tmp_path / "cache", write_back=NEVER, max_size=4 * MIB)
    mount = mount_here(VfsSettings(cache=cache))
    data = os.urandom(2 * MIB)
    path = cached(mount, store, "read", data)
    settled(mount, lambda: not item_of(mount, "read").opens)
    with path.open("rb", buffering=0) as reader:
        file = os.open(mount.path / "written", os.O_WRONLY | os.O_CREAT, 0o644)
        assert not item_of(mount, "written").lent
        os.write(file, bytes(MIB))

        async def evict() -> int:
            return mount.vfs.evictor.make_room(2 * MIB)

        assert mount.run(evict) == 0, "what the kernel reads by itself is not punched under it"
        assert reader.read() == data
        os.close(file)
        writer = os.open(path, os.O_RDWR)  # where a reader has the file, what is mapped is the file itself
        by_page(writer)
        os.close(writer)
        assert journal(tmp_path, "read")[0] == 1
    settled(mount, lambda: not item_of(mount, "read").writers)
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "read").read_bytes() == data[:5] + b"new" + data[8:]


def test_uploads_of_a_file_that_is_open_and_written_again(later: Mount, store: Path, tmp_path: Path) -> None:
    file = os.open(later.path / "file", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(file, b"first")
    os.close(os.dup(file))
    assert later.run(later.vfs.drain) == ()
    assert (store / "file").read_bytes() == b"first"
    assert journal(tmp_path, "file")[:2] == (1, 0), "it may be written any moment, and stays marked"
    os.pwrite(file, b"FIRST", 0)
    os.close(file)
    settled(later, lambda: not item_of(later, "file").writers)
    assert later.run(later.vfs.drain) == ()
    assert (store / "file").read_bytes() == b"FIRST"
    assert journal(tmp_path, "file")[0] == 0


def test_uploads_within_close(mount_here: Callable[..., Mount], store: Path, tmp_path: Path) -> None:
    mount = mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=0)))
    for content in (b"one", b"three", b"two"):
        (mount.path / "file").write_bytes(content)
        assert (store / "file").read_bytes() == content


def test_opened_without_the_kernels_cache(later: Mount, store: Path) -> None:
    """O_DIRECT takes any offset and length, as without passthrough, also while others have the file open."""
    path = cached(later, store, "file", b"0123456789")
    settled(later, lambda: not item_of(later, "file").opens)
    with path.open("rb", buffering=0) as reader:
        file = os.open(path, os.O_RDWR | os.O_DIRECT)
        assert os.pwrite(file, b"abc", 3) == 3
        assert os.pread(file, 5, 1) == b"12abc"[:5]
        assert reader.read() == b"012abc6789"
        os.close(file)


def test_a_program_that_goes_on_writing_after_the_end_writes_into_nothing(
    mount_here: Callable[..., Mount], store: Path, tmp_path: Path
) -> None:
    mount = mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=NEVER)))
    file = os.open(mount.path / "file", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(file, b"while it was mounted")
    os.fsync(file)
    mount.cancel()
    assert mount.ended.wait(30)
    os.pwrite(file, b"AFTER IT HAS ENDED!!", 0)
    with mounted(open_remote("local", {}, str(store)), tmp_path, options=spoken("passthrough")) as again:
        assert (again.path / "file").read_bytes() == b"while it was mounted"
        os.pwrite(file, b"AFTER IT HAS ENDED!!", 0)
        assert (again.path / "file").read_bytes() == b"while it was mounted"
        assert again.run(again.vfs.drain) == ()
        assert (store / "file").read_bytes() == b"while it was mounted"
    with pytest.raises(OSError, match=r"not connected|aborted"):
        os.fsync(file)
    os.close(os.open(os.devnull, os.O_RDONLY))


KILLED = """
import os, sys
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1]]
from pathlib import Path
from fuse.mounting import mounted, spoken
from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings
place = Path(sys.argv[2])
settings = VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=3600))
with mounted(open_remote("local", {}, str(place / "store")), place, settings, spoken("passthrough")):
    print("mounted", flush=True)
    sys.stdin.read()
"""


def test_killed_while_files_are_written_past_it(store: Path, tmp_path: Path, session: str) -> None:
    """What fsync and close returned on is kept; what nobody wrote into is as it was; the rest is beside its name. Who
    still has a file open cannot change it any more."""
    (store / "untouched").write_bytes(b"as it was")
    (store / "quiet").write_bytes(b"opened and never written")
    (store / "edited").write_bytes(b"before the edit")
    top = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(top), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    files: list[int] = []
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        point = tmp_path / "mnt"
        for name in ("quiet", "untouched", "edited"):
            (point / name).read_bytes()
        quiet = os.open(point / "quiet", os.O_RDWR)
        for name, flags in (("untouched", 0), ("edited", 0), ("synced", os.O_CREAT), ("half", os.O_CREAT)):
            files.append(os.open(point / name, os.O_RDWR | flags, 0o644))
        (point / "closed").write_bytes(b"closed")
        os.pwrite(files[1], b"BEFORE", 0)
        os.write(files[2], b"synced")
        os.fsync(files[2])
        os.write(files[3], b"half")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()  # type: ignore[union-attr]
    unmount(str(tmp_path / "mnt"), lazily=True)
    for file in files:
        os.pwrite(file, b"#" * 20, 0)
    with mounted(open_remote("local", {}, str(store)), tmp_path, options=spoken(session)) as again:
        for file in files:
            os.pwrite(file, b"!" * 20, 0)
        found = {
            path.name.partition(" ")[0] + " interrupted" * ("(" in path.name): path for path in again.path.iterdir()
        }
        assert found["closed"].read_bytes() == b"closed"
        assert len(found["synced"].read_bytes()) == 6, "as long as it was synced; its holder wrote on before the start"
        assert found["edited"].read_bytes() == b"before the edit"
        assert found["untouched"].read_bytes() == b"as it was"
        assert "edited interrupted" in found
        assert found["quiet"].read_bytes() == b"opened and never written"
        assert "quiet interrupted" not in found
        assert not any(b"!" in path.read_bytes() for path in found.values())
        assert again.run(again.vfs.drain) == ()
    for file in (quiet, *files):
        try:
            os.close(file)
        except OSError:
            continue

"""What the core needs of the machine: memory does not grow with the size of a file, descriptors do not leak."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from mountcore.cache.item import Item
from mountcore.cache.rows import Row
from mountcore.cache.store import IDLE_FILES
from mountcore.errors import NotFound
from mountcore.tree import Node

from . import live
from .scene import edit, memory, opened, settings

HERE = Path(__file__).parent
LIMIT = 64 << 20

SCRIPT = """
import os, sys, trio
from pathlib import Path
from model.scene import folder, opened, settings
from mountcore.handle import OpenFlags

SIZE, PIECE = 2 << 30, 1 << 20
root, cache, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    async with opened(folder(root), settings(cache), 90) as vfs:
        small = await vfs.create(vfs.root, "small", OpenFlags.WRITE, exclusive=True)
        await small.write(0, bytes(PIECE))
        await small.close()
        await vfs.drain()
        before = resident()
        if what == "read":
            handle = await vfs.open(await vfs.resolve("big"), OpenFlags.READ)
            for offset in range(0, SIZE, PIECE):
                data = handle.try_read(offset, PIECE) or await handle.read(offset, PIECE)
                assert len(data) == PIECE
                if offset % (512 << 20) == 0:
                    vfs.evictor.make_room(1 << 40)
            await handle.close()
        else:
            # a sparse file of 2 GiB, with data here and there, uploaded whole
            handle = await vfs.create(vfs.root, "new", OpenFlags.WRITE, exclusive=True)
            for offset in range(0, SIZE, 64 << 20):
                await handle.write(offset, b"data" * 1000)
            await handle.truncate(SIZE)
            await handle.close()
            assert not await vfs.drain()
            assert (root / "new").stat().st_size == SIZE
        # not ru_maxrss: that one is inherited from the process that started this one
        [peak] = [int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM")]
        print(peak - before)

trio.run(main)
"""


@pytest.mark.parametrize("what", ["read", "write"])
def test_a_file_of_2_gib_takes_less_than_64_mib_of_memory(tmp_path: Path, what: str) -> None:
    root = tmp_path / "store"
    root.mkdir()
    with (root / "big").open("wb") as file:
        file.truncate(2 << 30)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), str(tmp_path / "cache"), what],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    (root / "new").unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout)
    assert grown < LIMIT, f"{grown / (1 << 20):.0f} MiB"


@pytest.mark.trio
async def test_thousands_of_files_leave_no_descriptor_behind(tmp_path: Path) -> None:
    remote = memory()
    for number in range(1500):
        await edit(remote, f"f{number}", b"%d" % number)
    async with opened(remote, settings(tmp_path)) as vfs:
        await live.read_file(vfs, "f0")
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1500):
            assert await live.read_file(vfs, f"f{number}") == b"%d" % number
        assert len(os.listdir("/proc/self/fd")) - before <= IDLE_FILES
        assert vfs.snapshot().open_files == 0
        before = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) < before


@pytest.mark.trio
async def test_names_that_come_and_go_leave_nothing_in_memory(tmp_path: Path) -> None:
    """Long before their upload would be due."""
    remote = memory()
    count = 3000
    async with opened(remote, settings(tmp_path, write_back=3600.0)) as vfs:
        await live.write_file(vfs, "again", b"1")
        for number in range(count):
            await live.write_file(vfs, f"file{number}", b"1")
            await live.remove(vfs, f"file{number}")
            await live.append(vfs, "again", b"1")
            if number % 5 == 0:
                await live.mkdir(vfs, f"d{number}")
                await live.write_file(vfs, f"d{number}/file", b"1")
                await live.remove(vfs, f"d{number}/file")
                await live.rmdir(vfs, f"d{number}")
        gc.collect()
        kinds = (Item, Node, Row)
        assert sum(isinstance(found, kinds) for found in gc.get_objects()) < count


@pytest.mark.trio
async def test_names_that_are_not_there_leave_nothing_in_memory(tmp_path: Path) -> None:
    async with opened(memory(), settings(tmp_path)) as vfs:

        async def ask(prefix: str) -> None:
            for number in range(5000):
                with pytest.raises(NotFound):
                    await vfs.lookup(vfs.root, f"{prefix}{number}")
            gc.collect()

        await ask("first")
        tracemalloc.start()
        try:
            await ask("second")
            assert tracemalloc.get_traced_memory()[0] < 100_000, "20 bytes for each name"
        finally:
            tracemalloc.stop()

"""How fast the core is, without a kernel or a network in front of it: ``python benchmarks/core.py [WHAT…]``.

Prints a table. WHAT chooses rows by their first word: hit, miss, write, lookup, listing, eviction, memory. Everything
happens in a temporary directory (``--dir`` for another one), over storage in memory, on one thread. ``--scale 0.01``
takes a hundredth of everything: to see that it works.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mountcore.cache import rows
from mountcore.cache.evict import Evictor
from mountcore.cache.opening import open_store
from mountcore.cache.rows import ItemId, Row
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import ANYTHING, Version
from mountcore.service import open_core
from mountcore.settings import CacheSettings, VfsSettings
from mountcore.spans import Span, SpanSet
from mountcore.vfs import OpenFlags, Vfs

MIB = 1 << 20
PIECE = 128 << 10
FILE = 256 * MIB
NAMES = 100_000
ITEMS = 1_000_000


@dataclass(frozen=True)
class Result:
    """One row."""

    what: str
    value: str
    note: str = ""


class Content:
    """Bytes to store."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        """Part of them."""
        return self._data[offset : offset + length]


@asynccontextmanager
async def opened(remote: Memory, place: Path) -> AsyncIterator[Vfs]:
    """A Vfs over a storage."""
    async with open_core() as core:
        yield await core.attach(remote, VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=3600.0)))


async def timed(operation: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    await operation()
    return time.perf_counter() - began


def rate(size: int, seconds: float) -> str:
    """Bytes per second, for people."""
    return f"{size / seconds / MIB:,.0f} MiB/s"


async def reads(place: Path) -> list[Result]:
    """A file read for the first time, and again."""
    remote = Memory()
    await remote.put("file", Content(os.urandom(MIB) * (FILE // MIB)), expect=ANYTHING, mtime_ns=None)
    async with opened(remote, place) as vfs:
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ)

        async def through() -> None:
            for offset in range(0, FILE, PIECE):
                if handle.try_read(offset, PIECE) is None:
                    await handle.read(offset, PIECE)

        miss, hit = await timed(through), await timed(through)
        calls = NAMES
        began = time.perf_counter()
        for number in range(calls):
            handle.try_read(number * 4096 % FILE, 4096)
        small = (time.perf_counter() - began) / calls
        await handle.close()
    return [
        Result("hit read, 128 KiB", rate(FILE, hit), f"{hit / (FILE // PIECE) * 1e6:.1f} µs each"),
        Result("hit read, 4 KiB", f"{small * 1e6:.2f} µs"),
        Result("miss read, 128 KiB", rate(FILE, miss), "from storage in memory, into the cache file"),
    ]


async def writes(place: Path) -> list[Result]:
    """A file written, and many small ones made."""
    data, count = os.urandom(PIECE), NAMES // 20
    async with opened(Memory(), place) as vfs:

        async def large() -> None:
            handle = await vfs.create(vfs.root, "file", OpenFlags.WRITE, exclusive=True)
            for offset in range(0, FILE, PIECE):
                if handle.try_write(offset, data) is None:
                    await handle.write(offset, data)
            await handle.close()

        async def small() -> None:
            for number in range(count):
                handle = await vfs.create(vfs.root, f"small{number}", OpenFlags.WRITE, exclusive=True)
                await handle.write(0, data[:4096])
                await handle.close()

        whole, each = await timed(large), await timed(small) / count
        drain = await timed(vfs.drain)
    return [
        Result("write, 128 KiB", rate(FILE, whole)),
        Result("write, create + 4 KiB + close", f"{each * 1e6:.0f} µs"),
        Result("write, upload of what was made", rate(FILE + count * 4096, drain), f"{count + 1} files"),
    ]


async def names(place: Path) -> list[Result]:
    """A directory of many names: listed, looked up in, and what a node costs."""
    remote = Memory()
    content = Content(b"x")
    for number in range(NAMES):
        await remote.put(f"a file with a name of usual length {number}.txt", content, expect=ANYTHING, mtime_ns=None)
    async with opened(remote, place) as vfs:
        gc.collect()
        tracemalloc.start()
        cold = await timed(lambda: vfs.children(vfs.root))
        gc.collect()
        per_node = tracemalloc.get_traced_memory()[0] / NAMES
        tracemalloc.stop()
        await vfs.refresh()
        cold = min(cold, await timed(lambda: vfs.children(vfs.root)))
        warm = await timed(lambda: vfs.children(vfs.root))
        wanted = [f"a file with a name of usual length {number}.txt" for number in range(0, NAMES, 2)]

        async def look() -> None:
            for name in wanted:
                vfs.attributes(await vfs.lookup(vfs.root, name))

        lookup = await timed(look) / len(wanted)
    async with opened(remote, place) as vfs:
        restart = await timed(lambda: vfs.children(vfs.root))
    return [
        Result(f"listing of {NAMES:,}, from the storage", f"{cold:.2f} s"),
        Result(f"listing of {NAMES:,}, saved by an earlier run", f"{restart:.2f} s"),
        Result(f"listing of {NAMES:,}, known", f"{warm * 1e3:.1f} ms"),
        Result("lookup and attributes", f"{lookup * 1e6:.1f} µs"),
        Result("memory per cached node", f"{per_node:.0f} bytes", "name included"),
    ]


async def eviction(place: Path) -> list[Result]:
    """A cache of very many items: opened, the oldest given up, one looked up."""
    store = open_store(place / "cache", "memory://bench/")
    db = store.index._db
    now = time.time()
    facts = rows.facts_of(Row(ItemId(0), None, 4096, 1, SpanSet([Span(0, 4096)]), base=Version(4096, 1)))
    db.execute("BEGIN")
    db.executemany(
        rows.INSERT,
        (
            (n + 1, path, *facts, now - ITEMS + n, rows.checksum(n + 1, facts, False), rows.name_checksum(n + 1, path))
            for n, path in ((n, b"directory/of/some/depth/file%d" % n) for n in range(ITEMS))
        ),
    )
    db.execute("COMMIT")
    store.recount()
    store.close()
    began = time.perf_counter()
    store = open_store(place / "cache", "memory://bench/")
    start = time.perf_counter() - began
    evictor = Evictor(store, CacheSettings(directory=place / "cache", max_size=ITEMS * 4096 - MIB, max_age=None))
    began = time.perf_counter()
    freed = evictor.tidy()
    few = time.perf_counter() - began
    began = time.perf_counter()
    for number in range(1000):
        assert store.get(f"directory/of/some/depth/file{ITEMS - 1 - number * 7}") is not None
    get = (time.perf_counter() - began) / 1000
    plan = " ".join(row[3] for row in db_plan(store.index._db))
    gc.collect()
    tracemalloc.start()
    kept = [store.new(f"new/file{number}", base=Version(4096, 1), dirty=True) for number in range(10_000)]
    gc.collect()
    per_item = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    index = sum(path.stat().st_size for path in store.directory.glob("index.sqlite*")) / ITEMS
    store.close()
    assert "SCAN" not in plan, plan
    assert freed >= MIB, freed
    return [
        Result(
            f"eviction of 1 MiB among {ITEMS:,} items", f"{few * 1e3:.1f} ms", f"{freed // 4096} items; no scan: {plan}"
        ),
        Result(f"eviction: opening a cache of {ITEMS:,} items", f"{start * 1e3:.1f} ms"),
        Result("lookup of a cached item that is not in memory", f"{get * 1e6:.1f} µs"),
        Result("memory per item in use or not uploaded", f"{per_item:.0f} bytes", "clean ones rest on disk"),
        Result("memory on disk per item", f"{index:.0f} bytes", "of the index"),
    ]


def db_plan(db) -> list[tuple[int, int, int, str]]:  # type: ignore[no-untyped-def]
    """How SQLite finds the oldest."""
    query = "EXPLAIN QUERY PLAN SELECT id, atime, held FROM items WHERE dirty = 0 AND atime < ? ORDER BY atime"
    return list(db.execute(query, (ItemId(0),)))


ROWS = {
    ("hit", "miss"): reads,
    ("write",): writes,
    ("lookup", "listing", "memory"): names,
    ("eviction", "lookup", "memory"): eviction,
}


async def main(chosen: set[str], directory: str | None) -> None:
    """Run what was chosen and print it."""
    results: list[Result] = []
    for words, measure in ROWS.items():
        if not chosen or chosen & set(words):
            with tempfile.TemporaryDirectory(dir=directory) as place:
                os.chmod(place, 0o700)
                results += await measure(Path(place))
    results = [result for result in results if not chosen or result.what.split()[0].strip(",:") in chosen]
    width, values = max(len(r.what) for r in results), max(len(r.value) for r in results)
    for result in results:
        print(f"{result.what:<{width}}  {result.value:>{values}}  {result.note}".rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[[], *sorted({word for words in ROWS for word in words})])
    parser.add_argument("--dir", help="where to work; the default is the temporary directory")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of everything; 1 unless given")
    arguments = parser.parse_args()
    FILE, NAMES, ITEMS = (
        max(least, int(full * arguments.scale) // least * least)
        for full, least in ((FILE, MIB), (NAMES, 1000), (ITEMS, 10_000))
    )
    trio.run(main, set(arguments.what), arguments.dir)

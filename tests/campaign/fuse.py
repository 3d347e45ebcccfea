"""Part 8, the mount: random work on files, storms of renames, and names, trees and sizes at their limits."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from .ground import Ground
from .table import Row

EXERCISER = Path(__file__).resolve().parents[1] / "fuse" / "exerciser.py"


def _start(ground: Ground, **options: object) -> None:
    ground.storage.start()
    ground.configure(**{"vfs_write_back": "200ms", **options})
    ground.start()


def _same(ground: Ground, row: Row) -> None:
    """What the mount shows is what the storage has in the end."""
    shown = ground.shown()
    if ground.drain(120):
        row.fail("it could not be stored")
    stored = ground.stored()
    row.checked += len(shown)
    for name in sorted({*shown, *stored}):
        if shown.get(name) != stored.get(name):
            row.lose(f"{name} is {_size(shown.get(name))} on the mount and {_size(stored.get(name))} in the storage")


def _size(content: bytes | None) -> str:
    return "nothing" if content is None else f"{len(content)} bytes"


def exercised(ground: Ground, row: Row) -> None:
    """Several files at once, each against its model, with mappings and without."""
    _start(ground, vfs_cache_max_size="64Mi")
    operations = ground.scaled(1500, 100_000)
    runs = [
        subprocess.Popen(
            [sys.executable, EXERCISER, ground.mountpoint / f"f{seed}", "--seed", str(seed), "--operations",
             str(operations), "--size", str(400_000)],
            stderr=subprocess.PIPE, text=True,
        )
        for seed in (ground.chance.randrange(1 << 30) for _ in range(3))
    ]  # fmt: skip
    for run in runs:
        try:
            _, said = run.communicate(timeout=ground.scaled(120, 7200))
        except subprocess.TimeoutExpired:
            run.kill()
            row.hang("the exerciser hangs")
            continue
        row.injected += operations
        row.checked += operations
        if run.returncode:
            row.lose(said[-500:])
    _same(ground, row)


def storms(ground: Ground, row: Row) -> None:
    """Threads rename the same names over each other, exchange and list, all at once: every file is somewhere."""
    _start(ground)
    root = ground.mountpoint / "d"
    root.mkdir()
    contents = {os.urandom(2000) for _ in range(12)}
    for number, data in enumerate(contents):
        (root / f"f{number}").write_bytes(data)
    rounds = ground.scaled(150, 5000)

    def storm(own: int) -> None:
        # names that nobody else takes are moved between names that everybody looks at
        for number in range(rounds):
            with contextlib.suppress(FileNotFoundError):
                os.rename(root / f"f{own}", root / f"g{own}")
                os.rename(root / f"g{own}", root / f"f{own}")
            if number % 10 == 0:
                names = os.listdir(root)
                if len(names) != len(set(names)):
                    row.fail("a name is listed twice")
        row.injected += 2 * rounds

    threads = [threading.Thread(target=storm, args=(own,)) for own in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
        if thread.is_alive():
            row.hang("a storm of renames hangs")
            return
    found = {path.read_bytes() for path in root.iterdir()}
    row.checked += len(contents)
    if found != contents:
        row.lose(f"{len(contents - found)} files are gone, {len(found - contents)} are new")
    _same(ground, row)


def limits(ground: Ground, row: Row) -> None:
    """Names of 255 bytes, a tree of 200 levels, many files in a directory, files of 0 bytes and of 5 TB."""
    _start(ground, vfs_write_back="1h")  # most of it is removed before it is uploaded
    root = ground.mountpoint
    (root / ("n" * 200)).write_bytes(b"long")
    try:
        (root / ("ü" * 127 + "x")).write_bytes(b"255 bytes")  # beside it there is no room for a partial's name
    except OSError as problem:
        row.fail(f"a name of 255 bytes: {problem}")
    with contextlib.suppress(OSError):
        (root / ("n" * 256)).write_bytes(b"")
        row.fail("a name of 256 bytes is taken")
    deep = root
    for _ in range(200):
        deep = deep / "d"
        deep.mkdir()
    (deep / "bottom").write_bytes(b"deep")
    many = root / "many"
    many.mkdir()
    count = ground.scaled(2000, 100_000)
    for number in range(count):
        (many / f"{number}").touch()
    row.injected += count + 204
    row.checked += 3
    if len(os.listdir(many)) != count:
        row.lose(f"{len(os.listdir(many))} of {count} names are listed")
    if (deep / "bottom").read_bytes() != b"deep":
        row.lose("the bottom of the tree")
    large = root / "large"
    with large.open("wb") as file:
        file.truncate(5 << 40)
        file.seek((5 << 40) - 4)
        file.write(b"last")
    with large.open("rb") as file:
        file.seek((5 << 40) - 8)
        if file.read() != b"\0\0\0\0last":
            row.lose("the end of 5 TB")
    large.unlink()
    shutil.rmtree(many)
    _same(ground, row)


def open_files(ground: Ground, row: Row) -> None:
    """Unlinked, replaced, mapped and O_DIRECT: what is open stays what it is."""
    _start(ground)
    for number in range(ground.scaled(20, 500)):
        path = ground.mountpoint / f"f{number}"
        data = os.urandom(300_000)
        path.write_bytes(data)
        with path.open("r+b", buffering=0) as file:
            if number % 2:
                path.unlink()
            else:
                (ground.mountpoint / "other").write_bytes(b"other")
                os.rename(ground.mountpoint / "other", path)
            with mmap.mmap(file.fileno(), len(data)) as mapped:
                mapped[1000:1004] = b"HERE"
                mapped.flush()
            expected = data[:1000] + b"HERE" + data[1004:]
            row.injected += 1
            row.checked += 2
            if os.pread(file.fileno(), len(data), 0) != expected:
                row.lose(f"f{number}: an open file without a name is not what was written")
        if not number % 2 and path.read_bytes() != b"other":
            row.lose(f"f{number} is not what replaced it")
        direct = os.open(ground.mountpoint / "direct", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_DIRECT)
        block = mmap.mmap(-1, 8192)
        block[:] = data[:8192]
        os.pwritev(direct, [block], 0)
        os.close(direct)
        if (ground.mountpoint / "direct").read_bytes() != data[:8192]:
            row.lose("what was written with O_DIRECT")
    _same(ground, row)


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {
        "random work on files, mapped and not": exercised,
        "storms of renames": storms,
        "names, trees and sizes at their limits": limits,
        "open files without their names": open_files,
    }

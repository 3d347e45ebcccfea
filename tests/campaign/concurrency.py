"""Part 5, two at once: two mounts of one storage in two processes, and somebody at the storage itself.

Whoever edits a file that another has edited finds both edits afterwards, always.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .ground import Ground
from .table import Row


def two_mounts(ground: Ground, row: Row) -> None:
    """The same file is saved through both, or through one and at the storage."""
    other = Ground(ground.home / "other", ground.chance.randrange(1 << 30), ground.long)
    other.storage = ground.storage
    ground.storage.start()
    folder = ground.storage.folder
    names = [f"file{number}" for number in range(ground.scaled(4, 60))]
    past = time.time() - 600
    for name in names:
        (folder / name).write_bytes(b"before")
        os.utime(folder / name, (past, past))
    try:
        for number, name in enumerate(names):
            there_too = number % 2 == 1
            edits = {b"written on the one side": ground, b"and on the other": other}
            for side in edits.values():
                # who edits at the storage overwrites what was uploaded before: all three are kept if nothing was
                side.configure(vfs_write_back="1h" if there_too else side.chance.choice(["50ms", "500ms", "1h"]))
                side.start()
                if (side.mountpoint / name).read_bytes() != b"before":
                    row.lose(f"{name} is not what it was before anybody edited it")
            for data, side in edits.items():
                (side.mountpoint / name).write_bytes(data)
            expected = set(edits)
            if there_too:
                (folder / name).write_bytes(b"and at the storage itself")
                expected.add(b"and at the storage itself")
            row.injected += 1
            for side in edits.values():
                if code := side.drain():
                    row.fail(f"draining ended with {code}")
            kept = {data for path, data in ground.stored().items() if path.startswith(f"{name} ") or path == name}
            row.checked += len(expected)
            for data in expected - kept:
                row.lose(f"{name}: {data!r} is gone; there are {sorted(kept)}")
    finally:
        other.storage = _Nothing()  # type: ignore[assignment]
        other.end()


class _Nothing:
    def end(self) -> None:
        """The storage is the other ground's."""


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {"two mounts and the storage edit one file": two_mounts}

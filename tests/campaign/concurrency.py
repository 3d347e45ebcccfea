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
    try:
        for number in range(ground.scaled(3, 60)):
            for side in (ground, other):
                side.configure(vfs_write_back=side.chance.choice(["50ms", "500ms", "1h"]), dir_cache_time="1h")
            name = f"file{number}"
            (folder / name).write_bytes(b"before")
            past = time.time() - 600
            os.utime(folder / name, (past, past))
            edits = {b"written on the one side": ground, b"and on the other": other}
            for side in edits.values():
                side.start()
                assert (side.mountpoint / name).read_bytes() == b"before"
            expected = set(edits)
            for data, side in edits.items():
                (side.mountpoint / name).write_bytes(data)
            if ground.chance.random() < 0.5:
                (folder / name).write_bytes(b"and at the storage itself")
                expected.add(b"and at the storage itself")
            row.injected += 1
            for side in edits.values():
                if code := side.drain():
                    row.fail(f"draining ended with {code}")
            kept = {data for path, data in ground.stored().items() if path.startswith(name)}
            row.checked += len(expected)
            # an edit at the storage may have come between: it replaces what was uploaded before it, as anywhere
            for data in expected - kept:
                if b"and at the storage itself" in expected and data != b"and at the storage itself":
                    continue
                row.lose(f"{name}: {data!r} is gone; there are {sorted(kept)}")
            if b"before" in kept and len(kept) == 1:
                row.lose(f"{name}: both edits are gone")
    finally:
        other.storage = _Nothing()  # type: ignore[assignment]
        other.end()


class _Nothing:
    def stop(self) -> None:
        """The storage is the other ground's."""


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {"two mounts and the storage edit one file": two_mounts}

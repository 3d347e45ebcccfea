"""Part 9, the soak: mixed load for long; memory, descriptors and threads stay flat, the cache within its bound."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from .ground import Ground
from .judge import settle
from .table import Row
from .writers import FtpWriter, MountWriter, Writer

BOUND = 16 << 20


def soak(ground: Ground, row: Row) -> None:
    """Ten seconds, or an hour."""
    ground.storage.start()
    writers: list[Writer] = [MountWriter(ground, f"mount{n}", ground.chance.randrange(1 << 30)) for n in range(2)]
    writers.append(FtpWriter(ground, "ftp", ground.chance.randrange(1 << 30)))
    for writer in writers:
        writer.seed_files()
    ground.configure(vfs_cache_max_size="16Mi", vfs_write_back="200ms")
    gateway = ground.start()
    process = Path(f"/proc/{gateway.process.pid}")
    for writer in writers:
        writer.start()
    seconds = ground.scaled(12, 3600)
    samples: list[tuple[int, int, int]] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(min(2.0, seconds / 40))
        resident = int((process / "statm").read_text().split()[1]) * resource.getpagesize()
        samples.append((resident, len(os.listdir(process / "fd")), len(os.listdir(process / "task"))))
        held = sum(
            path.stat().st_blocks * 512 for path in (ground.home / "cache").glob("portside/*/data/*/*") if path.exists()
        )
        row.checked += 1
        if held > BOUND + (8 << 20):  # what is being replaced is still open, and the disk counts in blocks
            row.fail(f"the cache holds {held >> 20} MiB, and may hold {BOUND >> 20}")
        for writer in writers:
            if writer.problem is not None:
                row.fail(f"{writer.folder}: {writer.problem!r}")
                writer.problem = None
    for writer in writers:
        if not writer.stop(60):
            row.hang(f"{writer.folder} hangs")
        row.injected += writer.ledger.promises
    early, late = samples[len(samples) // 4], samples[-1]
    for what, before, after, slack in zip(
        ("bytes resident", "descriptors", "threads"), early, late, (32 << 20, 64, 12), strict=True
    ):
        if after > before + slack:
            row.fail(f"{what} have grown from {before} to {after}")
    if ground.drain():
        row.fail("it could not be stored")
    settle(row, ground, writers)


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {"mixed load for long": soak}

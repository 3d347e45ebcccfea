"""Part 1, the process: killed, told to end, unmounted under its feet, at any moment of a mixed load."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

from .ground import Ground, is_mounted
from .judge import settle
from .table import Row
from .writers import FEW, FtpWriter, MountWriter, Writer

ENDS_WITHIN = 90.0


def mixed_load(ground: Ground) -> list[Writer]:
    """Programs on the mount and FTP clients."""
    seeds = [ground.chance.randrange(1 << 30) for _ in range(5)]
    writers: list[Writer] = [MountWriter(ground, f"mount{n}", seeds[n]) for n in range(3)]
    return [*writers, *(FtpWriter(ground, f"ftp{n}", seeds[3 + n]) for n in range(2))]


def few_names(ground: Ground) -> list[Writer]:
    """FTP clients, and a program on the mount, that change the same few small files again and again."""
    writers: list[Writer] = [FtpWriter(ground, f"ftp{n}", ground.chance.randrange(1 << 30), FEW) for n in range(4)]
    return [*writers, MountWriter(ground, "mount", ground.chance.randrange(1 << 30), FEW)]


def under_load(
    ground: Ground, row: Row, rounds: int, fault: Callable[[Ground, Row], None],
    load: Callable[[Ground], list[Writer]] = mixed_load, port: int | None = None,
) -> None:  # fmt: skip
    """Again and again: start, work, the fault at a random moment, and look at what is left."""
    ground.storage.start()
    writers = load(ground)
    for writer in writers:
        writer.seed_files()
    for _ in range(rounds):
        ground.configure(
            port,
            vfs_write_back=ground.chance.choice(["0s", "50ms", "300ms", "1h"]),
            vfs_cache_max_size=ground.chance.choice(["off", "8Mi"]),
        )
        ground.start()
        before = sum(writer.ledger.promises for writer in writers)
        for writer in writers:
            writer.start()
        time.sleep(ground.chance.uniform(0.1, 1.5))  # the moment of the fault is what is varied
        for writer in writers:
            if writer.problem is not None:
                row.fail(f"{writer.folder}: {writer.problem!r} before the fault")
        fault(ground, row)
        row.injected += 1
        for writer in writers:
            if not writer.stop(ENDS_WITHIN):
                row.hang(f"{writer.folder} hangs after the fault")
                return
        row.checked += sum(writer.ledger.promises for writer in writers) - before
        settle(row, ground, writers)
        if row.wrong:
            return


def kill(ground: Ground, row: Row) -> None:
    """Nothing can be prepared for this. What is mounted stays, dead, for the next start to clear."""
    ground.kill()


def _ended(ground: Ground, row: Row, codes: tuple[int, ...]) -> None:
    assert ground.gateway is not None
    try:
        code = ground.gateway.ended(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        row.hang("the gateway does not end")
        ground.kill()
        return
    if code not in codes:
        row.fail(f"exit code {code}, expected {codes}: {ground.gateway.said()[-300:]}")
    if is_mounted(ground.mountpoint):
        row.fail("the mount was left behind")


def terminate(ground: Ground, row: Row) -> None:
    """One signal: everything is uploaded, and the exit code says so."""
    assert ground.gateway is not None
    ground.gateway.signal(signal.SIGTERM)
    _ended(ground, row, (0,))


def interrupt_twice(ground: Ground, row: Row) -> None:
    """Two signals: at once, the rest in the journal."""
    assert ground.gateway is not None
    ground.gateway.signal(signal.SIGINT)
    time.sleep(ground.chance.uniform(0.0, 0.3))
    ground.gateway.signal(signal.SIGINT)
    _ended(ground, row, (0, 5, 130))


def detach(command: tuple[str, ...]) -> Callable[[Ground, Row], None]:
    """Unmounted from outside while programs use it; the FTP server stays until it is told to end, too."""

    def fault(ground: Ground, row: Row) -> None:
        subprocess.run([*command, str(ground.mountpoint)], check=True, capture_output=True)
        assert ground.gateway is not None
        ground.gateway.signal(signal.SIGTERM)
        _ended(ground, row, (0,))

    return fault


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    faults: list[tuple[str, int, int, Callable[[Ground, Row], None]]] = [
        ("kill -9", 5, 200, kill),
        ("SIGTERM", 2, 20, terminate),
        ("SIGINT twice", 2, 20, interrupt_twice),
        ("umount -l", 1, 20, detach(("umount", "-l"))),
        ("fusermount3 -uz", 1, 20, detach(("fusermount3", "-uz"))),
    ]

    def scenario(rounds: int, fault: Callable[[Ground, Row], None]) -> Callable[[Ground, Row], None]:
        return lambda ground, row: under_load(ground, row, rounds, fault)

    found = {f"{name} under a mixed load": scenario(many if long else few, fault) for name, few, many, fault in faults}
    rounds = 200 if long else 5
    found["kill -9, the same few names"] = lambda ground, row: under_load(ground, row, rounds, kill, few_names)
    return found

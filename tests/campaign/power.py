"""Part 4, power loss: the cache directory goes back to what was synced, and to some of what was not.

What fsync returned on, and what FTP answered 226 to, is there after the restart and reaches the remote. Of what was
only closed there is a version that was once whole, or none; never a mixture under a name.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

from .ground import Ground
from .layer import Layer
from .table import Row
from .writers import FtpWriter, Writer, write_all


@final
class Syncer(Writer):
    """Saves files, and syncs half of them: ``synced…`` are promised, ``closed…`` may be any of their versions."""

    def seed_files(self) -> None:
        (self.ground.storage.folder / self.folder).mkdir()
        self.versions: dict[str, list[bytes]] = {}

    def work(self, stopped: Callable[[], bool]) -> None:
        while not stopped():
            data = self.fresh()
            path = self.path(f"{self.chance.choice(['synced', 'closed'])}{self.chance.randrange(4)}")
            self.versions.setdefault(path, []).append(data)
            real = self.ground.mountpoint / path
            if "closed" in path:
                with real.open("wb", buffering=0) as file:
                    write_all(file.fileno(), data, 0)
            else:
                with self.change({path: data}, (b"", data)), real.open("wb", buffering=0) as file:
                    write_all(file.fileno(), data, 0)
                    os.fsync(file.fileno())


def lose_power(ground: Ground, layer: Layer) -> None:
    """What was synced is as it was then; what was not may be on the disk all the same, file by file."""
    now, kept = layer.cache, ground.home / "after"
    shutil.copytree(now, kept, symlinks=True)
    for directory, _, files in os.walk(kept):
        for name in files:
            path = Path(directory, name)
            relative = path.relative_to(kept)
            synced = layer.shadow / relative
            if name.endswith("-shm") or name == "lock":
                continue
            if name.startswith("index.sqlite") or ground.chance.random() < 0.5:
                if synced.exists():
                    shutil.copyfile(synced, path)
                elif name.startswith("index.sqlite"):
                    path.unlink()
                else:
                    os.truncate(path, 0)
            path.chmod(0o600)
    shutil.rmtree(now)
    kept.rename(now)
    layer.settled()
    layer.reboot()


def forgive_rewritten(syncer: Syncer, stored: dict[str, bytes]) -> None:
    """A program that was saving a file anew had emptied it: what it had got to is beside the name, which has what
    the storage had before, if anything."""
    for path in syncer.ledger.allowed:
        if any(name.startswith(f"{path} (interrupted") for name in stored):
            syncer.ledger.allowed[path] += [None, *syncer.versions.get(path, [])]


def power_loss(ground: Ground, row: Row, rounds: int) -> None:
    """Again and again."""
    ground.storage.start()
    layer = Layer(ground)
    syncer = Syncer(ground, "mount", ground.chance.randrange(1 << 30))
    client = FtpWriter(ground, "ftp", ground.chance.randrange(1 << 30))
    for writer in (syncer, client):
        writer.seed_files()
    for _ in range(rounds):
        ground.configure(vfs_write_back=ground.chance.choice(["50ms", "1h"]), dir_cache_time="1h")
        layer.settled()
        ground.start(environ=layer.environ)
        before = syncer.ledger.promises + client.ledger.promises
        for writer in (syncer, client):
            writer.start()
        time.sleep(ground.chance.uniform(0.3, 2.0))  # the moment is what is varied
        for writer in (syncer, client):
            if writer.problem is not None:
                row.fail(f"{writer.folder}: {writer.problem!r} before the fault")
        ground.kill()
        row.injected += 1
        for writer in (syncer, client):
            writer.stop(60)
        row.checked += syncer.ledger.promises + client.ledger.promises - before
        lose_power(ground, layer)
        ground.start(environ=layer.environ)
        if ground.drain():
            row.fail(f"draining failed: {ground.said()[-300:]}")
        stored = ground.stored()
        forgive_rewritten(syncer, stored)
        for path, content in client.ledger.files.items():
            if content is None:  # that it was removed is not promised
                client.ledger.allowed.setdefault(path, [None]).append(stored.get(path))
        for writer in (syncer, client):
            for complaint in writer.ledger.complaints(stored):
                row.lose(complaint)
        for path, versions in syncer.versions.items():
            row.checked += 1
            if "closed" in path and path in stored and stored[path] not in versions:
                row.tear(f"{path} is {len(stored[path])} bytes that were never its content")
        for path in [path for path in stored if "(interrupted" in path]:
            (ground.storage.folder / path).unlink()
        if not row.good:
            return


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {"power is lost under a load": lambda ground, row: power_loss(ground, row, 60 if long else 4)}

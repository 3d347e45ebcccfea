"""A write load that expects to be killed: ``python -m model.load FOLDER CACHE LEDGER SEED``.

Each line of the ledger is written and synced on its own: ``["begin", …]`` before an operation, ``["end"]`` once it
returned. After the kill the last ``begin`` without ``end`` may have happened, or not, or half (a write that nobody
was told about); everything before it must be there.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path

import trio

from mountcore.errors import StorageError
from mountcore.handle import OpenFlags
from mountcore.settings import TreeSettings

from . import live
from .scene import folder, opened, settings

NAMES = [f"{directory}{name}" for directory in ("", "one/", "two/") for name in "abcde"]
LARGEST = 300_000


class Ledger:
    """What was asked for and what was promised, on the disk before anything goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, *entry: object) -> None:
        """One line, synced."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())


async def main(root: Path, cache: Path, ledger: Ledger, seed: int) -> None:
    """Change files until killed."""
    chance = random.Random(seed)
    chosen = settings(
        cache, write_back=chance.choice([0.0, 0.01, 0.05, 3600.0]), max_size=chance.choice([None, 2 << 20])
    )
    async with opened(folder(root), replace(chosen, tree=TreeSettings(cache_time=0.2))) as vfs:
        print("ready", flush=True)
        while True:
            name, other = chance.sample(NAMES, 2)
            data = chance.randbytes(chance.choice([0, 10, 5000, chance.randrange(LARGEST)]))
            offset, size = chance.randrange(LARGEST), chance.randrange(LARGEST)
            text = base64.b64encode(data).decode()
            kind = chance.choice(
                ["save", "save", "append", "edit", "edit", "truncate", "rename", "remove", "sync", "swap"]
            )
            try:
                match kind:
                    case "save":
                        ledger.write("begin", "save", name, text)
                        await live.write_file(vfs, name, data)
                    case "append":
                        ledger.write("begin", "append", name, text)
                        await live.append(vfs, name, data)
                    case "edit":
                        ledger.write("begin", "edit", name, offset, text)
                        await live.overwrite(vfs, name, offset, data)
                    case "truncate":
                        ledger.write("begin", "truncate", name, size)
                        await vfs.truncate(await vfs.resolve(name), size)
                    case "rename":
                        ledger.write("begin", "rename", name, other)
                        await live.rename(vfs, name, other)
                    case "swap":
                        ledger.write("begin", "rename", "one", "three")
                        await live.rename(vfs, "one", "three")
                        ledger.write("end")
                        ledger.write("begin", "rename", "three", "one")
                        await live.rename(vfs, "three", "one")
                    case "remove":
                        ledger.write("begin", "remove", name)
                        await live.remove(vfs, name)
                    case "sync":
                        handle = await vfs.create(*await live.place(vfs, name), OpenFlags.WRITE, exclusive=False)
                        ledger.write("begin", "edit", name, 0, text)
                        await handle.write(0, data)
                        await handle.fsync()
                        ledger.write("end")
                        ledger.write("begin", "edit", name, len(data), text)
                        await handle.write(len(data), data)
                        await handle.close()
            except StorageError as problem:
                if not isinstance(problem, FileNotFoundError):
                    raise
                ledger.write("none")  # refused: there is no such file
            else:
                ledger.write("end")
            if chance.random() < 0.05:
                vfs.evictor.make_room(1 << 30)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), Ledger(Path(sys.argv[3])), int(sys.argv[4]))

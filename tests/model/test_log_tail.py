"""The end of the index's log is lost while nobody runs: what it said is not taken for what was before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mountcore.handle import OpenFlags

from . import live
from .scene import edit, memory, opened, settings
from .storage import content_of_remote

FRAME = 24 + 4096
"""A page and what the log says of it; https://www.sqlite.org/fileformat2.html#walformat."""


def shorten(log: Path) -> None:
    """The last transaction's pages are missing, to the byte."""
    log.write_bytes(log.read_bytes()[:-FRAME])


def flip(log: Path) -> None:
    """One bit of the last page is another."""
    data = bytearray(log.read_bytes())
    data[-100] ^= 1
    log.write_bytes(data)


def empty(log: Path) -> None:
    """Nothing is left of it."""
    log.write_bytes(b"")


def leave(log: Path) -> None:
    """Nothing happens to it."""


@pytest.mark.trio
@pytest.mark.parametrize("damage", [shorten, flip, empty, leave])
async def test_a_log_that_lost_its_end_is_not_believed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    remote, cache, later = memory(), tmp_path / "cache", tmp_path / "later"
    await edit(remote, "file", b"old")
    async with opened(remote, settings(cache)) as vfs:
        assert await live.read_file(vfs, "file") == b"old"
        await live.write_file(vfs, "new", b"made here")
        await live.overwrite(vfs, "file", 0, b"NEW")
        shutil.copytree(cache, later)  # what is there at a kill
    [log] = later.glob("*/index.sqlite-wal")
    damage(log)
    async with opened(remote, settings(later)) as vfs:
        assert await live.read_file(vfs, "file") == (b"NEW" if damage is leave else b"old"), "or nothing is what it was"
        assert not await vfs.drain()
    kept = {path.read_bytes() for path in later.glob("*/lost+found/**/data/*/*")}
    stored = await content_of_remote(remote.inner)
    if damage is leave:
        assert (stored, kept) == ({"file": b"NEW", "new": b"made here"}, set())
    else:
        assert (stored, kept) == ({"file": b"old"}, {b"NEW", b"made here"})


@pytest.mark.trio
async def test_what_was_interrupted_keeps_what_its_file_has(tmp_path: Path) -> None:
    remote, cache, later = memory(), tmp_path / "cache", tmp_path / "later"
    async with opened(remote, settings(cache)) as vfs:
        handle = await vfs.create(vfs.root, "new", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"what there is of it")
        shutil.copytree(cache, later)
        await handle.close()
    async with opened(remote, settings(later)) as vfs:
        assert not await vfs.drain()
    [(name, data)] = (await content_of_remote(remote.inner)).items()
    assert name.startswith("new (interrupted")
    assert data == b"what there is of it"

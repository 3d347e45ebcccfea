"""Data files that the index does not know, after an unclean stop: kept for whoever can tell what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mountcore.cache.opening import open_store

from .scene import memory, opened, settings, until


@pytest.mark.trio
@pytest.mark.parametrize("starts", [0, 2])
async def test_a_file_that_the_index_does_not_know_is_set_aside_however_short_the_next_starts_are(
    tmp_path: Path, starts: int
) -> None:
    remote, cache, left = memory(), tmp_path / "cache", tmp_path / "left"
    async with opened(remote, settings(cache)):
        shutil.copytree(cache, left)  # what is there at a kill
    [data] = left.glob("*/data")
    (data / "40").mkdir()
    (data / "40" / "1000000").write_bytes(b"whose is this?")
    (data / "40" / "2000000").touch()  # nobody misses it
    for _ in range(starts):
        open_store(left, remote.identity).close()  # and not a moment for it in between
    async with opened(remote, settings(left)) as vfs:
        aside = vfs.store.directory / "lost+found" / "1000000"
        await until(lambda: aside.exists() and not list((data / "40").iterdir()), "what is not known is set aside")
        assert aside.read_bytes() == b"whose is this?"
        await until(lambda: vfs.store.index.fact("strays") is None, "that is done")
    shutil.copy(aside, data / "40" / "1000000")
    async with opened(remote, settings(left)) as vfs:
        assert not vfs.store.strays, "a clean cache is not searched"

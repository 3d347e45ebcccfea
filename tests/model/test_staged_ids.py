"""Ids of uploads under way are put aside many at a time: in the trash, so that a crash leaves none of their files."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from mountcore.cache.index import AT_ONCE

from . import live
from .scene import memory, opened, settings, until
from .storage import content_of_remote


def trash(cache: Path) -> set[int]:
    [index] = cache.glob("*/index.sqlite")
    with sqlite3.connect(index) as db:
        found = {ident for (ident,) in db.execute("SELECT id FROM trash")}
    db.close()
    return found


def data_files(cache: Path) -> set[int]:
    return {int(path.name) for path in cache.glob("*/data/*/*")}


@pytest.mark.trio
async def test_after_a_kill_what_was_published_is_there_and_what_was_not_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote, cache, later = memory(), tmp_path / "cache", tmp_path / "later"
    names = [f"file {number}" for number in range(AT_ONCE + 6)]
    async with opened(remote, settings(cache)) as vfs:
        for name in names:
            await live.stage(vfs, name, name.encode())
        half = await vfs.stage()
        os.pwrite(half.fileno(), b"half of it", 0)
        half.wrote(0, 10)
        shutil.copytree(cache, later)  # what is there at a kill
        await half.discard()
    async with opened(remote, settings(later)) as vfs:
        await until(lambda: vfs.store.index.fact("strays") is None and not trash(later), "it is put in order")
        assert len(data_files(later)) == len(names)
        for name in names:
            assert await live.read_file(vfs, name) == name.encode()
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {name: name.encode() for name in names}
    assert not list(later.glob("*/lost+found")), "nobody wonders about a file that was under way"


@pytest.mark.trio
async def test_ids_are_not_given_twice_and_the_trash_does_not_fill(tmp_path: Path) -> None:
    remote, cache = memory(), tmp_path / "cache"
    given: list[int] = []
    for _ in range(3):
        async with opened(remote, settings(cache)) as vfs:
            for number in range(2 * AT_ONCE + 1):
                await live.stage(vfs, f"{len(given)}", b"x")
                item = vfs.store.peek(f"{len(given)}")
                assert item is not None
                given.append(item.id)
                if number % 20 == 0:
                    await live.write_file(vfs, f"other {number}", b"y")
            assert len(trash(cache)) <= AT_ONCE
        assert not trash(cache)
    assert len(set(given)) == len(given)
    assert set(given) <= data_files(cache)


@pytest.mark.trio
async def test_one_of_them_can_replace_a_file_and_be_replaced(tmp_path: Path) -> None:
    remote, cache, later = memory(), tmp_path / "cache", tmp_path / "later"
    async with opened(remote, settings(cache)) as vfs:
        await live.write_file(vfs, "file", b"by a program")
        await live.stage(vfs, "file", b"first")
        assert await live.read_file(vfs, "file") == b"first"
        await live.stage(vfs, "file", b"second")
        shutil.copytree(cache, later)
    async with opened(remote, settings(later)) as vfs:
        assert await live.read_file(vfs, "file") == b"second"
        assert not await vfs.drain()
    assert await content_of_remote(remote.inner) == {"file": b"second"}


@pytest.mark.trio
async def test_what_is_set_aside_replaces_nothing_that_was(tmp_path: Path) -> None:
    async with opened(memory(), settings(tmp_path / "cache")) as vfs:
        aside = vfs.store.directory / "lost+found"
        aside.mkdir(0o700)
        await live.write_file(vfs, "file", b"content")
        item = vfs.store.peek("file")
        assert item is not None
        (aside / str(item.id)).write_bytes(b"of another time")
        await until(lambda: item is not None and not item.opens, "it is closed")
        vfs.store.abandon(item, "for a test")
        assert sorted(path.read_bytes() for path in aside.glob(f"{item.id}*")) == [b"content", b"of another time"]

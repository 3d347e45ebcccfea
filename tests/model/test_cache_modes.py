"""What goes through the cache in each ``--vfs-cache-mode``, and what is stored and read past it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from mountcore.errors import BadHandle, Denied, NotSeekable, Unreachable
from mountcore.handle import OpenFlags
from mountcore.settings import CacheMode
from mountcore.stage import Publish

from .live import names, overwrite, read_file
from .scene import edit, memory, opened, settings
from .storage import content_of_remote

pytestmark = pytest.mark.trio
MIB = 1 << 20


async def test_off_stores_at_close_and_reads_past_the_cache(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(3 * MIB)
    await edit(remote, "f", data)
    async with opened(remote, settings(tmp_path, mode=CacheMode.OFF)) as vfs:
        assert await read_file(vfs, "f") == data
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        assert await handle.read(2 * MIB, 100) == data[2 * MIB :][:100]
        assert await handle.read(5, 100) == data[5:105]
        await handle.close()
        handle = await vfs.create(vfs.root, "new", OpenFlags.READ | OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"in order")
        with pytest.raises(NotSeekable):
            await handle.write(2, b"back")
        with pytest.raises(BadHandle):
            await handle.read(0, 1)
        assert "new" not in await content_of_remote(remote.inner)
        await handle.flush()
        await handle.close()
        assert (await content_of_remote(remote.inner))["new"] == b"in order"
        assert vfs.snapshot().cached_bytes == 0


async def test_off_refuses_to_change_a_file_in_place_and_tells_a_failed_store_at_close(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"content")
    async with opened(remote, settings(tmp_path, mode=CacheMode.OFF)) as vfs:
        with pytest.raises(Denied, match="O_TRUNC"):
            await vfs.open(await vfs.resolve("f"), OpenFlags.READ | OpenFlags.WRITE)
        with pytest.raises(Denied, match="O_TRUNC"):
            await vfs.truncate(await vfs.resolve("f"), 3)
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.WRITE | OpenFlags.TRUNCATE)
        await handle.write(0, b"anew")
        remote.rule("put", "f", before=Unreachable("f", "gone"))
        with pytest.raises(Unreachable):
            await handle.flush()
        await handle.close()
        assert await read_file(vfs, "f") == b"content"
        await vfs.truncate(await vfs.resolve("f"), 0)
        assert await content_of_remote(remote.inner) == {"f": b""}


async def test_off_stores_at_fsync_too_and_tells_each_one_that_it_failed(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, mode=CacheMode.OFF)) as vfs:
        handle = await vfs.create(vfs.root, "f", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"synced")
        await handle.fsync()
        assert await content_of_remote(remote.inner) == {"f": b"synced"}
        await handle.write(6, b", and more")
        await handle.flush()
        await handle.close()
        assert await content_of_remote(remote.inner) == {"f": b"synced, and more"}
        handle = await vfs.create(vfs.root, "g", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"lost")
        remote.rule("put", "g", before=Unreachable("g", "gone"))
        for _ in range(2):
            with pytest.raises(Unreachable, match="gone"):
                await handle.fsync()
        await handle.close()
        with pytest.raises(BadHandle):
            await handle.fsync()
        assert await names(vfs) == {"f"}
        assert await read_file(vfs, "f") == b"synced, and more"


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("what", ["removed", "replaced", "renamed", "renamed while it is stored", "moved along"])
async def test_off_stores_what_was_written_under_the_name_that_it_has_at_close_if_any(
    tmp_path: Path, what: str, existing: bool
) -> None:
    remote = memory()
    await remote.inner.mkdir("d")
    await edit(remote, "other", b"other")
    if existing:
        await edit(remote, "d/f", b"old content")
    async with opened(remote, settings(tmp_path, mode=CacheMode.OFF)) as vfs:
        directory = await vfs.resolve("d")
        handle = await vfs.create(directory, "f", OpenFlags.WRITE | OpenFlags.TRUNCATE, exclusive=False)
        await handle.write(0, b"new")
        expected: dict[str, bytes | None] = {"d": None, "other": b"other"}
        match what:
            case "removed":
                await vfs.unlink(directory, "f")
            case "replaced":
                await vfs.rename(vfs.root, "other", directory, "f")
                expected = {"d": None, "d/f": b"other"}
            case "renamed":
                await vfs.rename(directory, "f", directory, "g")
                expected["d/g"] = b"new"
            case "renamed while it is stored":
                gate = remote.gate("put")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(handle.flush)
                    await gate.entered.wait()
                    nursery.start_soon(vfs.rename, directory, "f", directory, "g")
                    await trio.testing.wait_all_tasks_blocked()
                    gate.release()
                expected["d/g"] = b"new"
            case "moved along":
                await vfs.rename(vfs.root, "d", vfs.root, "e")
                expected = {"e": None, "e/f": b"new", "other": b"other"}
        await handle.flush()
        await handle.close()
        assert await content_of_remote(remote.inner) == expected
        for path, data in expected.items():
            assert data is None or await read_file(vfs, path) == data
        assert vfs.snapshot().cached_bytes == 0


@pytest.mark.parametrize("mode", list(CacheMode))
async def test_what_is_received_whole_is_stored_before_the_answer_in_off_alone(tmp_path: Path, mode: CacheMode) -> None:
    """An upload over FTP."""
    remote = memory()
    async with opened(remote, settings(tmp_path, mode=mode)) as vfs:
        for turn, problem in enumerate((Unreachable("f", "gone"), None)):
            stage = await vfs.stage()
            os.pwrite(stage.fileno(), b"%d" % turn, 0)
            if problem is not None and mode is CacheMode.OFF:
                remote.rule("put", "f", before=problem)
                with pytest.raises(Unreachable):
                    await stage.commit(vfs.root, "f", size=1, how=Publish.REPLACE)
                await stage.discard()
                assert await names(vfs) == set()
            else:
                await stage.commit(vfs.root, "f", size=1, how=Publish.REPLACE)
        assert await content_of_remote(remote.inner) == ({"f": b"1"} if mode is CacheMode.OFF else {})
        assert await read_file(vfs, "f") == b"1"
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"1"}


@pytest.mark.parametrize("mode", [CacheMode.MINIMAL, CacheMode.WRITES])
async def test_what_the_middle_modes_cache(tmp_path: Path, mode: CacheMode) -> None:
    remote = memory()
    await edit(remote, "f", b"0123456789")
    async with opened(remote, settings(tmp_path, mode=mode)) as vfs:
        assert await read_file(vfs, "f") == b"0123456789"
        assert vfs.snapshot().cached_bytes == 0
        await overwrite(vfs, "f", 3, b"xx")  # read and write: cached in both
        assert (await content_of_remote(remote.inner))["f"] == b"0123456789"
        handle = await vfs.create(vfs.root, "w", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"write only")
        await handle.flush()
        await handle.close()
        stored = "w" in await content_of_remote(remote.inner)
        assert stored is (mode is CacheMode.MINIMAL)
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"012xx56789", "w": b"write only"}

"""How bytes come from the remote: in which requests, how often, and what happens when the remote misbehaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from mountcore.errors import Corrupt, NotFound, Stale, StorageError, TimedOut, Unreachable
from mountcore.handle import OpenFlags
from mountcore.settings import CacheMode, ReadSettings, VfsSettings
from mountcore.vfs import Vfs

from . import live
from .faulty import Faulty, Gate
from .live import read_file
from .scene import edit, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio
MIB = 1 << 20


async def read_at(vfs: Vfs, path: str, offset: int, length: int) -> bytes:
    handle = await vfs.open(await vfs.resolve(path), OpenFlags.READ)
    try:
        return await handle.read(offset, length)
    finally:
        await handle.close()


def requests(remote: Faulty, path: str) -> list[tuple[int, int]]:
    return [(span.start, span.length) for name, at, span in remote.log if name == "read" and at == path and span]


async def test_requests_double_at_each_exact_end_up_to_the_limit(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(12 * MIB)
    await edit(remote, "f", data)
    read = ReadSettings(chunk_size=MIB, chunk_limit=4 * MIB)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        assert await read_file(vfs, "f") == data
    assert [length // MIB for _, length in requests(remote, "f")] == [1, 2, 4, 4, 1]


async def test_a_jump_starts_small_again(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", bytes(64 * MIB))
    read = ReadSettings(chunk_size=MIB, buffer_size=0)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        for offset in (0, 40 * MIB, 20 * MIB):
            await handle.read(offset, 4096)
        await handle.close()
    assert requests(remote, "f") == [(0, MIB), (40 * MIB, MIB), (20 * MIB, MIB)]


async def test_without_chunks_one_request_is_made_for_the_rest_of_the_file(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", bytes(9 * MIB))
    async with opened(remote, settings(tmp_path, read=ReadSettings(chunk_size=None))) as vfs:
        await read_file(vfs, "f")
    assert requests(remote, "f") == [(0, 9 * MIB)]


async def test_two_readers_of_the_same_bytes_fetch_them_once(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(8 * MIB)
    await edit(remote, "f", data)
    async with opened(remote, settings(tmp_path)) as vfs:
        found: list[bytes] = []

        async def reader() -> None:
            found.append(await read_file(vfs, "f"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(reader)
        assert found == [data] * 5
        assert vfs.snapshot().fetched_bytes == len(data)


async def test_a_reader_that_jumps_about_does_not_download_the_file(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", bytes(256 * MIB))
    async with opened(remote, settings(tmp_path)) as vfs:
        for place in range(16):
            await read_at(vfs, "f", (place * 37 % 16) * 16 * MIB, 4096)
    assert remote.fetched <= 16 * 2 * MIB


async def test_parallel_streams_fetch_chunks_of_a_sequential_read_side_by_side(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(16 * MIB)
    await edit(remote, "f", data)
    read = ReadSettings(chunk_size=MIB, parallel=4, streams=5)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        assert await read_file(vfs, "f") == data
        assert vfs.snapshot().fetched_bytes == len(data)
    lengths = {length for _, length in requests(remote, "f")}
    assert max(lengths) == MIB, "parallel chunks do not double"


async def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(4 * MIB)
    await edit(remote, "f", data)
    remote.rule("read", "f", dies=3 * MIB, before=Unreachable("f", "reset"))
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await read_file(vfs, "f") == data
    assert requests(remote, "f")[1][0] == 3 * MIB


@pytest.mark.parametrize("times", [1, 99])
async def test_a_body_that_is_too_short_is_never_the_end_of_the_file(tmp_path: Path, times: int) -> None:
    remote = memory()
    data = os.urandom(MIB)
    await edit(remote, "f", data)
    remote.rule("read", "f", cut=1000, times=times)
    async with opened(remote, settings(tmp_path)) as vfs:
        if times == 1:
            assert await read_file(vfs, "f") == data
        else:
            remote.rules[0].cut = 0
            with pytest.raises(Corrupt):
                await read_file(vfs, "f")


async def test_a_body_that_is_too_long_adds_nothing(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(MIB)
    await edit(remote, "f", data)
    remote.rule("read", "f", extra=b"more than was asked for")
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await read_file(vfs, "f") == data


async def test_a_remote_that_sends_nothing_times_out_and_stalls_nobody_else(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "stuck", bytes(1000))
    await edit(remote, "well", b"well")
    gate = remote.gate("read", "stuck")
    read = ReadSettings(timeout=0.3)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        async with trio.open_nursery() as nursery:

            async def stuck() -> None:
                with pytest.raises(TimedOut):
                    await read_file(vfs, "stuck")

            nursery.start_soon(stuck)
            await gate.entered.wait()
            assert await read_file(vfs, "well") == b"well"
        gate.release()


async def test_a_file_that_changed_while_it_was_read_is_read_anew_and_whole(tmp_path: Path) -> None:
    remote = memory()
    old, new = os.urandom(4 * MIB), os.urandom(3 * MIB)
    await edit(remote, "f", old)
    read = ReadSettings(chunk_size=MIB, buffer_size=0)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        assert await handle.read(0, 1000) == old[:1000]
        await edit(remote, "f", new)
        assert await handle.read(2 * MIB, 2 * MIB) == new[2 * MIB :]
        assert await handle.read(0, 1000) == new[:1000]
        await handle.close()


async def test_a_fault_in_an_adapter_ends_one_read_and_not_the_core(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"x" * 10)
    await edit(remote, "g", b"fine")
    remote.rule("read", "f", entry=None, before=None, dies=0)  # raises None: a defect of an adapter
    async with opened(remote, settings(tmp_path)) as vfs:
        with pytest.raises(StorageError):
            await read_file(vfs, "f")
        assert await read_file(vfs, "g") == b"fine"


async def test_a_file_that_went_while_its_listing_was_believed_is_not_found(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"x" * 10)
    async with opened(remote, settings(tmp_path)) as vfs:
        node = await vfs.resolve("f")
        await remote.inner.remove("f")
        handle = await vfs.open(node, OpenFlags.READ)
        with pytest.raises(NotFound):
            await handle.read(0, 10)
        await handle.close()
        with pytest.raises(NotFound):
            await vfs.resolve("f")


async def test_a_remote_that_ignores_ranges_leaves_nothing_wrong_in_the_cache(tmp_path: Path) -> None:
    """Its adapter should notice at the first byte; here it does not, and there is more than was asked for."""
    remote = memory()
    data = os.urandom(5 * MIB)
    await edit(remote, "file", data)
    start = 4 * MIB + MIB // 2
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("read", "file", whole=True, times=1)
        handle = await vfs.open(await vfs.resolve("file"), OpenFlags.READ)
        assert await handle.read(start, MIB) == data[start:], "it was noticed, and asked for again"
        assert remote.asked("read") == 2
        remote.rule("read", "file", whole=True, times=100)
        vfs.evictor.make_room(1 << 40)
        with pytest.raises(Corrupt, match="more than it was asked for"):
            await handle.read(start, MIB)
        remote.rules.clear()
        assert await handle.read(0, 5 * MIB) == data
        await handle.close()


@pytest.mark.parametrize(("buffer", "ahead"), [(0, 0), (2 * MIB, 0), (2 * MIB, 4 * MIB)])
async def test_a_sequential_reader_has_so_much_read_ahead_of_him_and_no_more(
    tmp_path: Path, buffer: int, ahead: int
) -> None:
    remote = memory()
    await edit(remote, "f", bytes(64 * MIB))
    read = ReadSettings(buffer_size=buffer, read_ahead=ahead)
    async with opened(remote, settings(tmp_path, read=read)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        for start in range(0, 16 * MIB, 128 << 10):
            await handle.read(start, 128 << 10)
        await until(lambda: all(download.waiting for download in vfs.snapshot().downloads))
        assert buffer + ahead <= vfs.snapshot().bytes_ahead <= buffer + ahead + MIB
        assert remote.fetched <= 16 * MIB + buffer + ahead + MIB
        await handle.close()


@pytest.mark.parametrize(("files", "parallelism", "bound"), [(8, 3, 3), (1, 32, 4)])
async def test_streams_are_bounded_of_one_file_and_in_all(
    tmp_path: Path, files: int, parallelism: int, bound: int
) -> None:
    remote = memory()
    remote.caps_changes = {"parallelism": parallelism}
    for number in range(files):
        await edit(remote, f"f{number}", bytes(16 * MIB))
    gate = Gate()
    remote.rule("read", gate=gate, times=8)
    served: list[bytes] = []

    async def reader(path: str, offset: int) -> None:
        served.append(await read_at(vfs, path, offset, 1000))

    async with opened(remote, settings(tmp_path)) as vfs:
        assert (vfs.snapshot().streams_per_file, vfs.snapshot().streams_at_once) == (4, parallelism)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(reader, f"f{number % files}", number * 2 * MIB)
            await until(lambda: remote.asked("read") >= bound)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert remote.asked("read") == vfs.snapshot().streams == bound
            gate.release()
        assert served == [bytes(1000)] * 8


# past the cache


def past(place: Path, **read: int) -> VfsSettings:
    """Settings with which reads go to the remote itself."""
    return settings(place, mode=CacheMode.OFF, read=ReadSettings(**read))  # type: ignore[arg-type]


async def test_past_the_cache_a_read_that_is_given_up_half_way_shifts_no_later_one(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(4 * MIB)
    await edit(remote, "f", data)
    async with opened(remote, past(tmp_path)) as vfs:
        remote.rule("read", "f", delay=0.02, times=2)
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        assert await handle.read(0, 1000) == data[:1000]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.read, 1000, 3 * MIB)
            fetched = remote.fetched
            await until(lambda: remote.fetched > fetched + MIB)
            nursery.cancel_scope.cancel()
        assert await handle.read(1000, 1000) == data[1000:2000]
        await handle.close()


async def test_past_the_cache_what_is_on_its_way_is_shown(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", bytes(16 * MIB))
    async with opened(remote, past(tmp_path, buffer_size=2 * MIB)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        assert vfs.snapshot().downloads == ()
        await handle.read(0, MIB)
        await until(lambda: vfs.snapshot().downloads[0].waiting)
        (download,) = vfs.snapshot().downloads
        assert (download.path, download.size) == ("f", 16 * MIB)
        assert download.position == MIB + download.ahead
        assert 2 * MIB <= vfs.snapshot().bytes_ahead <= 3 * MIB, "the buffer, and no more than a piece"
        await handle.read(10 * MIB, 6 * MIB)
        await until(lambda: vfs.snapshot().downloads == (), "all of it is here")
        await handle.read(0, MIB)
        assert vfs.snapshot().streams == 1
        await handle.close()
        assert vfs.snapshot().downloads == ()


async def test_past_the_cache_a_body_that_is_too_long_is_an_error_and_no_bytes(tmp_path: Path) -> None:
    remote = memory()
    data = os.urandom(4 * MIB)
    await edit(remote, "f", data)
    async with opened(remote, past(tmp_path, chunk_size=MIB)) as vfs:
        remote.rule("read", "f", extra=b"more than was asked for")
        with pytest.raises(Corrupt, match="more than it was asked for"):
            await read_file(vfs, "f")
        assert await read_file(vfs, "f") == data


async def test_past_the_cache_a_fault_in_an_adapter_ends_one_read_and_not_the_core(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"x" * 10)
    await edit(remote, "g", b"fine")
    remote.rule("read", "f", entry=None, before=None, dies=0)  # raises None: a defect of an adapter
    async with opened(remote, past(tmp_path)) as vfs:
        with pytest.raises(Corrupt, match="adapter failed"):
            await read_file(vfs, "f")
        assert await read_file(vfs, "g") == b"fine"


async def test_an_answer_from_before_a_change_here_was_stored_does_not_count_after_it(tmp_path: Path) -> None:
    """A read asks what the file is now; until it hears that, the file is changed here and stored."""
    remote = memory()
    await edit(remote, "f", b"1" * (4 * MIB))
    async with opened(remote, settings(tmp_path)) as vfs:
        handle = await vfs.open(await vfs.resolve("f"), OpenFlags.READ)
        remote.rule("read", before=Stale("f", "it is being replaced"))
        answer = remote.gate("stat", "f", after=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle.read, 3 * MIB, 10)
            await answer.entered.wait()
            await live.write_file(vfs, "f", b"2" * (4 * MIB))
            assert not await vfs.drain()
            fetched = remote.fetched
            answer.release()
        assert await handle.read(3 * MIB, 10) == b"2" * 10
        assert remote.fetched == fetched, "what is here was not given up"
        await handle.close()
        await live.write_file(vfs, "f", b"3")
        assert not await vfs.drain()
        assert await live.names(vfs) == {"f"}
    assert await content_of_remote(remote.inner) == {"f": b"3"}

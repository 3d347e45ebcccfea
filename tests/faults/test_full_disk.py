"""The cache on a disk that is too small for what is asked of it: nothing is lost, nothing is wrong, all goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from mountcore.errors import NoSpace
from mountcore.handle import OpenFlags
from mountcore.remotes.registry import open_remote
from mountcore.service import open_core
from mountcore.settings import CacheSettings, ReadSettings, VfsSettings
from mountcore.vfs import Handle, Vfs
from tests.servers import pyftpdlib

DISK = 24 << 20
PIECE = 128 << 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB; mounting one needs root, as CI is."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("mounting a tmpfs needs root; runs in CI")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        # lazily: a captured log record may still hold the exception, and with it a descriptor of diskcache's
        subprocess.run(["umount", "-l", str(place)], check=True)


def settings(disk: Path) -> VfsSettings:
    return VfsSettings(cache=CacheSettings(directory=disk, write_back=0.05))


async def write_until_full(handle: Handle, data: bytes) -> int:
    """Bytes written when the disk was full."""
    done = 0
    while done < 4 * DISK:
        try:
            done += await handle.write(done, data[done % len(data) :][:PIECE])
        except NoSpace:
            return done
    raise AssertionError("a disk of 24 MiB took 96 MiB")


async def whole(vfs: Vfs, path: str) -> bytes:
    handle = await vfs.open(await vfs.resolve(path), OpenFlags.READ)
    try:
        parts = []
        while part := await handle.read(sum(map(len, parts)), PIECE):
            parts.append(part)
        return b"".join(parts)
    finally:
        await handle.close()


@pytest.mark.trio
async def test_a_file_larger_than_the_disk_is_read_whole(small_disk: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    data = os.urandom(2 * DISK)
    (store / "big").write_bytes(data)
    async with open_core() as core:
        vfs = await core.attach(open_remote("local", {}, str(store)), settings(small_disk))
        assert await whole(vfs, "big") == data
        assert await whole(vfs, "big") == data


@pytest.mark.trio
async def test_so_is_one_that_the_kernel_moves_from_a_socket_into_the_cache(small_disk: Path) -> None:
    data = os.urandom(2 * DISK)
    patient = replace(settings(small_disk), read=ReadSettings(handle_caching=300))
    with pyftpdlib() as server:
        (server.root / "big").write_bytes(data)
        async with open_core() as core:
            vfs = await core.attach(open_remote("ftp", server.options, ""), patient)
            with trio.fail_after(60):  # nobody waits for bytes that were given back, which an idle stream once ended
                for _ in range(3):
                    assert await whole(vfs, "big") == data


@pytest.mark.trio
async def test_a_writer_gets_no_space_and_everything_else_goes_on(small_disk: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    data = os.urandom(DISK)
    (store / "read").write_bytes(data)
    async with open_core() as core:
        vfs = await core.attach(open_remote("local", {}, str(store)), settings(small_disk))
        assert await whole(vfs, "read") == data  # clean bytes fill the disk, and have to make way
        handle = await vfs.create(vfs.root, "large", OpenFlags.WRITE, exclusive=True)
        done = await write_until_full(handle, data)
        assert done > DISK // 2, "clean files did not make way for what was written"
        await handle.flush()
        await handle.close()
        assert await vfs.drain() == ()
        assert (store / "large").read_bytes() == data[:done]
        small = await vfs.create(vfs.root, "small", OpenFlags.WRITE, exclusive=True)
        await small.write(0, b"after")
        await small.flush()
        await small.close()
        assert await whole(vfs, "read") == data
        assert await vfs.drain() == ()
    assert (store / "small").read_bytes() == b"after"


@pytest.mark.trio
async def test_what_was_closed_on_a_full_disk_is_uploaded_by_the_next_run(small_disk: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    data = os.urandom(DISK)
    patient = VfsSettings(cache=CacheSettings(directory=small_disk, write_back=3600))
    async with open_core() as core:
        vfs = await core.attach(open_remote("local", {}, str(store)), patient)
        handle = await vfs.create(vfs.root, "large", OpenFlags.WRITE, exclusive=True)
        done = await write_until_full(handle, data)
        await handle.close()
    assert not (store / "large").exists()
    async with open_core() as core:
        vfs = await core.attach(open_remote("local", {}, str(store)), settings(small_disk))
        assert await vfs.drain() == ()
    assert (store / "large").read_bytes() == data[:done]

"""What was uploaded is compared by hash where the remote has one; what differs is never taken for stored."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio

from mountcore.accounting import UploadState
from mountcore.cache.verify import Digesting, algorithm
from mountcore.errors import Corrupt, Unreachable, Unsupported
from mountcore.handle import OpenFlags
from mountcore.options import vfs_settings
from mountcore.remotes.protocol import Capabilities
from mountcore.settings import CacheMode
from mountcore.stage import Publish

from .live import names, read_file, write_file
from .scene import Bytes, edit, memory, opened, settings, until
from .storage import content_of_remote

pytestmark = pytest.mark.trio
MIB = 1 << 20


@pytest.mark.parametrize("existing", [False, True], ids=["new", "replaced"])
async def test_an_upload_that_arrived_changed_is_sent_again(tmp_path: Path, existing: bool) -> None:
    remote = memory()
    data = os.urandom(3 * MIB)
    if existing:
        await edit(remote, "f", b"before")
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("put", "f", flip=2 * MIB, times=2)
        await write_file(vfs, "f", data)
        assert await vfs.drain(1) != ()
        (upload,) = vfs.snapshot().uploads
        assert upload.state is UploadState.RETRYING
        assert "what was sent" in upload.error
        assert (await content_of_remote(remote.inner))["f"] != data
        assert await read_file(vfs, "f") == data
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": data}
        assert await names(vfs) == {"f"}, "what was stored wrongly is no conflict"


async def test_a_file_stored_wrongly_is_removed_and_renamed_like_a_stored_one(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("put", flip=0, times=2)
        for name in "ab":
            await write_file(vfs, name, b"content")
        assert await vfs.drain(1) != ()
        await vfs.unlink(vfs.root, "a")
        await vfs.rename(vfs.root, "b", vfs.root, "c")
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"c": b"content"}


async def test_wrongly_stored_and_killed_is_uploaded_again_and_no_conflict(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("put", "f", flip=0)
        await write_file(vfs, "f", b"content")
        assert await vfs.drain(1) != ()
    async with opened(remote, settings(tmp_path)) as vfs:
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"content"}


async def test_no_checksum_asks_for_none(tmp_path: Path) -> None:
    for place, text in enumerate(("true", "false")):
        chosen = vfs_settings({"cache-dir": str(tmp_path / str(place)), "no-checksum": text, "vfs-write-back": "1h"})
        remote = memory()
        async with opened(remote, chosen) as vfs:
            await write_file(vfs, "f", b"content")
            assert await vfs.drain() == ()
            assert remote.asked("hash") == place


async def test_a_remote_without_a_hash_for_this_file_is_believed(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("hash", "f", before=Unsupported("f", "uploaded in parts"))
        await write_file(vfs, "f", b"content")
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"content"}


async def test_what_cannot_be_verified_now_is_not_clean(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        remote.rule("hash", "f", before=Unreachable("f", "gone"))
        await write_file(vfs, "f", b"content")
        assert await vfs.drain(1) != ()
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"content"}


async def test_a_write_while_it_is_verified_ends_with_the_last_content(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = remote.gate("hash", "f")
        await write_file(vfs, "f", b"first")
        vfs.writeback.hurry()
        await gate.entered.wait()
        await write_file(vfs, "f", b"second")
        gate.release()
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"second"}
        assert await names(vfs) == {"f"}


async def test_somebody_elses_edit_before_the_comparison_is_a_conflict(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path)) as vfs:
        gate = remote.gate("hash", "f")
        await write_file(vfs, "f", b"ours")
        vfs.writeback.hurry()
        await gate.entered.wait()
        await edit(remote, "f", b"theirs")
        gate.release()
        await until(lambda: vfs.snapshot().errors)
        assert await vfs.drain() == ()
        stored = await content_of_remote(remote.inner)
        assert stored.pop("f") == b"theirs"
        assert list(stored.values()) == [b"ours"]


async def test_past_the_cache_close_says_that_it_arrived_changed(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, mode=CacheMode.OFF)) as vfs:
        remote.rule("put", "f", flip=3)
        handle = await vfs.create(vfs.root, "f", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"content")
        with pytest.raises(Corrupt, match="what was sent"):
            await handle.flush()
        await handle.close()
        remote.rule("put", "g", flip=3)
        stage = await vfs.stage()
        os.pwrite(stage.fileno(), b"content", 0)
        with pytest.raises(Corrupt, match="what was sent"):
            await stage.commit(vfs.root, "g", size=7, how=Publish.REPLACE)
        await stage.discard()
        assert await names(vfs) == {"f", "g"}, "what is there is shown, whatever it is"


@pytest.mark.parametrize("order", ["in order", "again", "backwards", "half"])
async def test_the_digest_is_that_of_the_whole_however_it_is_read(order: str) -> None:
    data = os.urandom(100_000)
    source = Digesting(Bytes(data), "sha256")
    starts = list(range(0, len(data), 1000))
    match order:
        case "again":
            starts = [start for start in starts for _ in range(2)] + starts
        case "backwards":
            starts.reverse()
        case "half":
            starts = starts[:50]
    for start in starts:
        assert source.pread(1500, start) == data[start : start + 1500]
    assert await source.hexdigest() == hashlib.sha256(data).hexdigest()


async def test_the_cheapest_algorithm_that_both_know_is_used() -> None:
    assert algorithm(Capabilities()) is None
    assert algorithm(Capabilities(hashes=frozenset({"quickxor"}))) is None
    assert algorithm(Capabilities(hashes=frozenset({"md5", "sha256"}))) == "md5"
    assert algorithm(Capabilities(hashes=frozenset({"sha512", "quickxor"}))) == "sha512"
    await trio.lowlevel.checkpoint()


async def test_with_no_delay_close_says_that_it_arrived_changed(tmp_path: Path) -> None:
    remote = memory()
    async with opened(remote, settings(tmp_path, write_back=0.0)) as vfs:
        remote.rule("put", "f", flip=0)
        with pytest.raises(Corrupt, match="what was sent"):
            await write_file(vfs, "f", b"content")
        assert await vfs.drain() == ()
        assert await content_of_remote(remote.inner) == {"f": b"content"}

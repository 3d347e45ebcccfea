"""What is in files: reading ranges, storing whole files, versions and times, on every remote."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import trio
from conftest import OBJECTS, SERVED, SLOW, Place
from sources import Content, Failing, Pattern, entries, fetch, put

from mountcore.errors import Corrupt, NotFound, Stale, StorageError, Unsupported
from mountcore.remotes.partials import ABANDONED_AFTER, is_ours, partial_name
from mountcore.remotes.protocol import ABSENT, ANYTHING, Remote, Span, Usage, Version

pytestmark = pytest.mark.trio
MIB = 1 << 20
TEXT = bytes(range(256)) * 4096 + b"end"  # 1 MiB and a bit
SOME_TIME = 1_500_000_000_123_456_789


async def test_an_empty_file(remote: Remote) -> None:
    stored = await put(remote, "empty")
    assert stored.size == 0
    assert await fetch(remote, "empty") == b""
    assert (await entries(remote))["empty"].size == 0


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, len(TEXT)), (1, 5), (255, 257), (MIB - 1, MIB + 1), (MIB, len(TEXT)), (len(TEXT) - 1, len(TEXT)),
     (len(TEXT), len(TEXT) + 5), (len(TEXT) + 100, len(TEXT) + 200), (10, len(TEXT) + 1000), (7, 7)],
)  # fmt: skip
async def test_ranges(remote: Remote, start: int, stop: int) -> None:
    stored = await put(remote, "f", TEXT)
    assert await fetch(remote, "f", Span(start, stop)) == TEXT[start:stop]
    assert await fetch(remote, "f", Span(start, stop), stored.version) == TEXT[start:stop]
    assert remote.caps.ranged_read


async def test_pieces_are_small_and_a_reader_may_leave_early(remote: Remote) -> None:
    await put(remote, "f", TEXT * 8)
    for _ in range(3):
        async with remote.read("f", Span(5, len(TEXT) * 8), None) as pieces:
            async for piece in pieces:
                assert 0 < len(piece) <= MIB
                assert TEXT[5:].startswith(piece[:1000])
                break
    async with remote.read("f", Span(0, MIB), None):
        pass  # not even one piece
    assert await fetch(remote, "f", Span(3, 9)) == TEXT[3:9]
    assert (await remote.stat("f")).size == len(TEXT) * 8


async def test_a_paused_reader_holds_nobody_up(remote: Remote) -> None:
    content = TEXT * 20
    await put(remote, "f", content)
    got = bytearray()
    with trio.fail_after(30):
        async with remote.read("f", Span(0, len(content)), None) as pieces:
            async for piece in pieces:
                if not got:
                    await remote.stat("f")
                    assert await fetch(remote, "f", Span(0, 10)) == content[:10]
                    await put(remote, "g", b"x")
                got += piece
    assert got == content


async def test_many_at_once(remote: Remote) -> None:
    async def one(number: int) -> None:
        content = b"%d" % number * 1000
        await put(remote, f"f{number}", content)
        assert await fetch(remote, f"f{number}") == content
        assert (await remote.stat(f"f{number}")).size == len(content)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(3 * min(remote.caps.parallelism, 8)):
                nursery.start_soon(one, number)
    assert len(await entries(remote)) == 3 * min(remote.caps.parallelism, 8)


async def test_put_answers_what_is_stored(remote: Remote) -> None:
    stored = await put(remote, "f", b"12345")
    assert (stored.name, stored.size) == ("f", 5)
    found = await remote.stat("f")
    assert found.version.matches(stored.version)
    assert stored.version.matches(found.version)
    replaced = await put(remote, "f", b"123")
    assert replaced.size == 3
    assert await fetch(remote, "f") == b"123"


async def test_put_expecting_absence(remote: Remote) -> None:
    await put(remote, "f", b"first", ABSENT)
    with pytest.raises(Stale):
        await put(remote, "f", b"second", ABSENT)
    assert await fetch(remote, "f") == b"first"
    assert list(await entries(remote)) == ["f"]


async def test_put_expecting_a_version(remote: Remote) -> None:
    first = await put(remote, "f", b"first")
    await put(remote, "f", b"other", Version(len(b"first"), first.mtime_ns, first.resolution_ns, first.tag))
    with pytest.raises(Stale):
        await put(remote, "f", b"third", Version(999, first.mtime_ns, first.resolution_ns))
    with pytest.raises(Stale):
        await put(remote, "absent", b"x", first.version)
    assert await fetch(remote, "f") == b"other"
    assert list(await entries(remote)) == ["f"]


async def test_the_listed_version_can_be_expected(remote: Remote) -> None:
    await put(remote, "f", b"first")
    listed = (await entries(remote))["f"]
    await put(remote, "f", b"second", listed.version)
    assert await fetch(remote, "f") == b"second"


async def test_reading_another_version_is_stale(remote: Remote) -> None:
    old = await put(remote, "f", b"12345")
    assert await fetch(remote, "f", Span(0, 5), old.version) == b"12345"
    await put(remote, "f", b"123456789")
    with pytest.raises(Stale):
        await fetch(remote, "f", Span(0, 5), old.version)


async def test_put_into_nothing(remote: Remote) -> None:
    with pytest.raises(NotFound):
        await put(remote, "absent/f", b"x")
    assert await entries(remote) == {}


@pytest.mark.parametrize("good", [0, 1000, MIB])
async def test_a_source_that_fails_publishes_nothing(remote: Remote, good: int) -> None:
    await put(remote, "old", b"old")
    for name in ("new", "old"):
        with pytest.raises(OSError, match=r"the disk broke|Input/output error"):
            await remote.put(name, Failing(TEXT, good), expect=ANYTHING, mtime_ns=None)
    assert await fetch(remote, "old") == b"old"
    assert list(await entries(remote)) == ["old"]
    await put(remote, "new", b"now it works")


async def test_a_source_that_ends_too_soon_is_noticed(remote: Remote) -> None:
    class Short(Content):
        @property
        def size(self) -> int:
            return len(self.content) + 1

    with pytest.raises(Corrupt):
        await remote.put("f", Short(b"12345"), expect=ANYTHING, mtime_ns=None)
    assert await entries(remote) == {}


async def test_a_cancelled_put_publishes_nothing(remote: Remote) -> None:
    assert remote.caps.atomic_put or not remote.caps.rename_replaces
    await put(remote, "f", b"old")
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        await remote.put(
            "f",
            Content(TEXT * 4, before=lambda offset: scope_cancel(scope, offset, token)),
            expect=ANYTHING,
            mtime_ns=None,
        )
    assert scope.cancelled_caught
    assert await fetch(remote, "f") == b"old"
    assert list(await entries(remote)) == ["f"]


def scope_cancel(scope: trio.CancelScope, offset: int, token: trio.lowlevel.TrioToken) -> None:
    """Cancel from wherever the source is read: on the trio thread, or in a thread, trio's or not."""
    if offset >= MIB:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            trio.from_thread.run_sync(scope.cancel, trio_token=token)
        else:
            scope.cancel()


async def test_readers_see_old_or_new(disk_place: Place, disk_remote: Remote) -> None:
    assert disk_place.disk is not None
    target = disk_place.disk / "f"
    disk_place.make("f", b"old")
    seen: set[bytes] = set()

    def look(offset: int) -> None:
        seen.add(target.read_bytes())

    await disk_remote.put("f", Content(TEXT, before=look), expect=ANYTHING, mtime_ns=None)
    assert seen == {b"old"}
    assert await fetch(disk_remote, "f") == TEXT


async def test_nothing_is_left_behind(disk_place: Place, disk_remote: Remote) -> None:
    assert disk_place.disk is not None
    with pytest.raises(OSError, match=r"broke|Input/output error"):
        await disk_remote.put("f", Failing(TEXT, MIB), expect=ANYTHING, mtime_ns=None)
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        source = Content(TEXT * 4, before=lambda offset: scope_cancel(scope, offset, token))
        await disk_remote.put("f", source, expect=ANYTHING, mtime_ns=None)
    await put(disk_remote, "g", b"x")
    with trio.fail_after(10):  # a server may still be busy with the connection that was cut
        while [path.name for path in disk_place.disk.iterdir()] != ["g"]:  # noqa: ASYNC110 - a folder, not an event
            await trio.sleep(0.02)


async def test_abandoned_uploads_are_cleaned_up(disk_place: Place, disk_remote: Remote) -> None:
    assert disk_place.disk is not None
    long_ago = time.time() - 4 * ABANDONED_AFTER
    old, kept = partial_name("f"), partial_name("f", kept=True)
    young = partial_name("f")
    disk_place.make(old, b"x", long_ago)
    disk_place.make(kept, b"x", long_ago)
    disk_place.make(young, b"x")
    disk_place.make("f", b"x")
    assert list(await entries(disk_remote)) == ["f"]
    assert {path.name for path in disk_place.disk.iterdir()} == {old, kept, young, "f"}, "only looking deletes nothing"
    await put(disk_remote, "g", b"x")
    assert {path.name for path in disk_place.disk.iterdir()} == {kept, young, "f", "g"}
    assert all(is_ours(name) for name in (old, kept, young))


async def test_times_are_kept_to_the_resolution(remote: Remote) -> None:
    stored = await put(remote, "f", b"x", mtime_ns=SOME_TIME)
    if not remote.caps.set_mtime:
        with pytest.raises(Unsupported):
            await remote.set_mtime("f", SOME_TIME)
        return
    step = remote.caps.mtime_resolution_ns
    assert stored.mtime_ns == SOME_TIME // step * step
    later = SOME_TIME + 86_400 * 1_000_000_000
    changed = await remote.set_mtime("f", later)
    assert changed.mtime_ns == later // step * step
    assert (await remote.stat("f")).mtime_ns == later // step * step
    with pytest.raises(NotFound):
        await remote.set_mtime("absent", later)
    assert await fetch(remote, "f", Span(0, 1), changed.version) == b"x"


async def test_listed_and_found_times_agree(disk_place: Place, disk_remote: Remote) -> None:
    """Also where one is a LIST line in the server's local time and the other an MDTM reply."""
    now = 1_790_000_000
    for name, moment in (("recent", now), ("older", 1_600_000_000), ("epoch", 0)):
        disk_place.make(name, b"x", moment)
    listed = await entries(disk_remote)
    for name, moment in (("recent", now), ("older", 1_600_000_000), ("epoch", 0)):
        found = await disk_remote.stat(name)
        assert found.version.matches(listed[name].version)
        assert found.mtime_ns is None or found.mtime_ns // 1_000_000_000 == moment
        assert found.mtime_ns is not None


async def test_usage(remote: Remote) -> None:
    if remote.caps.usage:
        usage = await remote.usage()
        assert isinstance(usage, Usage)
        assert usage != Usage()
    else:
        with pytest.raises(Unsupported):
            await remote.usage()


@pytest.mark.parametrize(
    "place",
    [
        "local",
        *(name for name in SERVED if name not in SLOW),
        *OBJECTS,
        "moto-parts",
        "azurite-parts",
        "fake-gcs-parts",
        "opendal-fs",
    ],
    indirect=True,
)
async def test_big_files_are_streamed(remote: Remote) -> None:
    source = Pattern(50 * MIB)
    tracemalloc.start()
    try:
        await remote.put("big", source, expect=ANYTHING, mtime_ns=None)
        offset = 0
        async with remote.read("big", Span(0, source.size), None) as pieces:
            async for piece in pieces:
                assert piece == pattern(source, offset, len(piece))
                offset += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert offset == source.size
    assert peak < 8 * MIB


def pattern(source: Pattern, offset: int, length: int) -> bytes:
    out = b""
    while len(out) < length:
        out += source.pread(length - len(out), offset + len(out))
    return out


async def test_identity_and_repr_hold_no_secret(place: Place) -> None:
    first, second = place.open(), place.open()
    password = place.options.get("pass", "nothing secret here")
    for remote in (first, second):
        assert password not in remote.identity
        assert password not in repr(remote)
    assert (first.identity == second.identity) == (place.name != "memory")
    await first.aclose()
    await first.aclose()
    await second.aclose()


async def test_closing_works_when_cancelled(place: Place) -> None:
    remote = place.open()
    await put(remote, "f", b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await remote.aclose()


async def test_errors_name_what_was_asked_for(remote: Remote) -> None:
    with pytest.raises(StorageError) as caught:
        await fetch(remote, "absent")
    assert caught.value.filename == "absent"

"""What some storage can do and other cannot: hashes, copies, links, owners, attributes, trees, changes.

Each test holds a capability against what the remote does: with it, it works; without it, the answer is Unsupported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import cast

import pytest
from conftest import LONG_TAIL, OBJECTS, OWN, PLAIN, Place
from sources import entries, fetch, put

from mountcore.errors import Denied, Exists, IsDirectory, NotFound, Stale, Unsupported
from mountcore.remotes.protocol import ABSENT, ANYTHING, Entry, Kind, Remote

pytestmark = [pytest.mark.trio, pytest.mark.parametrize("place", [*OWN, *PLAIN, *OBJECTS, *LONG_TAIL], indirect=True)]
TEXT = bytes(range(256)) * 10_000


async def unsupported(attempt: Awaitable[object]) -> None:
    with pytest.raises(Unsupported):
        await attempt


async def test_hashes(remote: Remote) -> None:
    await put(remote, "f", TEXT)
    await put(remote, "empty")
    await unsupported(remote.hash("f", "no-such-algorithm"))
    for name in ("md5", "sha1", "sha256"):
        if name not in remote.caps.hashes:
            await unsupported(remote.hash("f", name))
            continue
        for path, content in (("f", TEXT), ("empty", b"")):
            assert (await remote.hash(path, name)).lower() == hashlib.new(name, content).hexdigest()
        with pytest.raises(NotFound):
            await remote.hash("absent", name)
    await put(remote, "f", b"other")
    for name in remote.caps.hashes & hashlib.algorithms_available:
        assert (await remote.hash("f", name)).lower() == hashlib.new(name, b"other").hexdigest()


async def test_copy(remote: Remote) -> None:
    before = await put(remote, "f", TEXT, mtime_ns=1_500_000_000_000_000_000)
    await remote.mkdir("d")
    if not remote.caps.copy:
        await unsupported(remote.copy("f", "d/g", expect=ABSENT))
        return
    copied = await remote.copy("f", "d/g", expect=ABSENT)
    assert (copied.name, copied.size) == ("g", len(TEXT))
    assert copied.mtime_ns == before.mtime_ns or not remote.caps.set_mtime
    assert copied.version.matches((await remote.stat("d/g")).version)
    assert await fetch(remote, "d/g") == TEXT
    with pytest.raises(Stale):
        await remote.copy("f", "d/g", expect=ABSENT)
    await put(remote, "f", b"changed later")
    assert await fetch(remote, "d/g") == TEXT
    await remote.copy("f", "d/g", expect=copied.version)
    assert await fetch(remote, "d/g") == b"changed later"
    with pytest.raises(Stale):
        await remote.copy("f", "d/g", expect=copied.version)
    with pytest.raises(NotFound) as caught:
        await remote.copy("absent", "d/h", expect=ANYTHING)
    assert caught.value.path == "absent"
    with pytest.raises(NotFound):
        await remote.copy("f", "absent/f", expect=ANYTHING)
    with pytest.raises(IsDirectory):
        await remote.copy("d", "e", expect=ANYTHING)
    assert sorted(await entries(remote)) == ["d", "f"]
    assert sorted(await entries(remote, "d")) == ["g"]


async def test_hard_links(remote: Remote) -> None:
    await put(remote, "f", b"content")
    await remote.mkdir("d")
    if not remote.caps.hard_links:
        await unsupported(remote.hard_link("f", "d/g"))
        return
    made = await remote.hard_link("f", "d/g")
    assert (made.name, made.kind, made.size) == ("g", Kind.FILE, 7)
    assert made.ident == (await remote.stat("f")).ident
    with pytest.raises(Exists):
        await remote.hard_link("f", "d/g")
    with pytest.raises(NotFound) as caught:
        await remote.hard_link("absent", "x")
    assert caught.value.path == "absent"
    with pytest.raises(IsDirectory):
        await remote.hard_link("d", "x")
    await remote.remove("f")
    assert await fetch(remote, "d/g") == b"content"


async def test_times_of_directories(remote: Remote, place: Place) -> None:
    await remote.mkdir("d")
    await put(remote, "d/f", b"x")
    if not remote.caps.directory_times:
        return
    changed = await remote.set_mtime("d", 1_400_000_000 * 10**9)
    if place.name == "rclone-sftp":  # it shows the time that was set, or another one
        return
    assert (changed.kind, changed.mtime_ns) == (Kind.DIRECTORY, 1_400_000_000 * 10**9)
    assert (await entries(remote))["d"].mtime_ns == 1_400_000_000 * 10**9
    assert await fetch(remote, "d/f") == b"x"


async def test_access_times(remote: Remote, place: Place) -> None:
    stored = await put(remote, "f", b"x", mtime_ns=1_500_000_000 * 10**9)
    if not remote.caps.access_times:
        await unsupported(remote.set_atime("f", 10**18))
        return
    if place.name == "rclone-sftp":  # it says that it has set it, and has not
        await unsupported(remote.set_atime("f", 10**18))
        assert not remote.caps.access_times
        return
    changed = await remote.set_atime("f", 1_400_000_000 * 10**9)
    assert (changed.atime_ns, changed.version) == (1_400_000_000 * 10**9, stored.version)
    assert (await remote.stat("f")).atime_ns == (await entries(remote))["f"].atime_ns == 1_400_000_000 * 10**9
    assert (await remote.stat("f")).mtime_ns == 1_500_000_000 * 10**9
    with pytest.raises(NotFound) as caught:
        await remote.set_atime("absent", 10**18)
    assert caught.value.path == "absent"


async def test_owners(remote: Remote) -> None:
    await put(remote, "f", b"x")
    if not remote.caps.owners:
        assert (await remote.stat("f")).owner is None
        await unsupported(remote.set_owner("f", None, None))
        return
    owner = (await remote.stat("f")).owner
    assert owner is not None
    assert (await entries(remote))["f"].owner == owner
    assert (await remote.set_owner("f", None, None)).owner == owner
    assert (await remote.set_owner("f", *owner)).owner == owner
    with pytest.raises(NotFound):
        await remote.set_owner("absent", *owner)
    if os.geteuid() != 0:
        with pytest.raises(Denied):
            await remote.set_owner("f", owner[0] + 1, None)
        return
    assert (await remote.set_owner("f", 1234, None)).owner == (1234, owner[1])
    assert (await remote.set_owner("f", None, 4321)).owner == (1234, 4321)
    await put(remote, "f", b"a new content keeps its owner")
    assert (await remote.stat("f")).owner == (1234, 4321)


async def test_attributes(remote: Remote) -> None:
    await put(remote, "f", b"x")
    await remote.mkdir("d")
    if not remote.caps.attributes:
        await unsupported(remote.attributes("f"))
        await unsupported(remote.set_attribute("f", "note", b"x"))
        return
    for path in ("f", "d"):
        assert await remote.attributes(path) == {}
        await remote.set_attribute(path, "note", b"first")
        await remote.set_attribute(path, "note", b"second\0\xff")
        await remote.set_attribute(path, "empty", b"")
        assert await remote.attributes(path) == {"note": b"second\0\xff", "empty": b""}
        await remote.set_attribute(path, "empty", None)
        with pytest.raises(NotFound):
            await remote.set_attribute(path, "empty", None)
        assert await remote.attributes(path) == {"note": b"second\0\xff"}
    await put(remote, "f", b"a new content keeps them")
    await remote.rename("f", "g")
    assert await remote.attributes("g") == {"note": b"second\0\xff"}
    with pytest.raises(NotFound):
        await remote.attributes("absent")
    with pytest.raises(NotFound):
        await remote.set_attribute("absent", "note", b"x")


async def tree(remote: Remote, directory: str = "") -> dict[str, Entry]:
    async with aclosing(cast(AsyncGenerator[tuple[str, Entry], None], remote.list_tree(directory))) as walk:
        found = [(f"{place}/{entry.name}" if place else entry.name, entry) async for place, entry in walk]
    assert len(dict(found)) == len(found), "a name was listed twice"
    return dict(found)


async def test_trees(remote: Remote) -> None:
    for directory in ("d", "d/e", "d/empty", "other"):
        await remote.mkdir(directory)
    for path in ("f", "d/g", "d/e/h", "d/e/i", "other/j"):
        await put(remote, path, path.encode())
    if not remote.caps.list_tree:
        with pytest.raises(Unsupported):
            await tree(remote)
        return
    below_d = {"d/e", "d/empty", "d/g", "d/e/h", "d/e/i"}
    assert set(await tree(remote)) == below_d | {"d", "f", "other", "other/j"}
    found = await tree(remote, "d")
    assert set(found) == below_d
    assert found["d/e"].kind is Kind.DIRECTORY
    assert found["d/e/h"].version.matches((await remote.stat("d/e/h")).version)
    assert await tree(remote, "d/empty") == {}
    with pytest.raises(NotFound):
        await tree(remote, "absent")


async def test_changes_are_told(place: Place, remote: Remote) -> None:
    await remote.mkdir("d")
    if not remote.caps.changes:
        await unsupported(remote.changes(None))
        return
    cursor = (await remote.changes(None)).cursor
    assert (await remote.changes(cursor)).directories == ()
    await put(remote, "d/f", b"x")
    told = await remote.changes(cursor)
    assert (set(told.directories), told.everything) == ({"d"}, False)
    await remote.rename("d/f", "g")
    assert set((await remote.changes(told.cursor)).directories) == {"d", ""}
    assert set((await remote.changes(cursor)).directories) == {"d", ""}, "the older cursor still works"
    cursor = (await remote.changes(cursor)).cursor
    for change, where in ((remote.mkdir("d/e"), "d"), (remote.rmdir("d/e"), "d"), (remote.remove("g"), "")):
        await change
        told = await remote.changes(cursor)
        assert where in told.directories
        cursor = told.cursor


async def test_a_file_keeps_its_number(remote: Remote) -> None:
    await put(remote, "f", b"x")
    await put(remote, "g", b"x")
    number = (await remote.stat("f")).ident
    listed = await entries(remote)
    assert listed["f"].ident == number
    await remote.rename("f", "renamed")
    assert (await remote.stat("renamed")).ident == number
    assert number is None or number != listed["g"].ident

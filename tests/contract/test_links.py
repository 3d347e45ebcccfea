"""Symbolic links as files in rclone's way, around every remote, and with what rclone itself writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from conftest import OWN, Place
from sources import entries, fetch, put

from mountcore.errors import Exists, NotFound
from mountcore.remotes.links import LONGEST, SUFFIX, Links
from mountcore.remotes.protocol import Kind, Remote
from mountcore.remotes.registry import open_remote

STORAGE = [*OWN, "vsftpd", "pure-ftpd", "sshd"]
"""With links of its own, and without."""
pytestmark = [pytest.mark.trio, pytest.mark.parametrize("place", STORAGE, indirect=True)]


@pytest.fixture
def links(remote: Remote) -> Links:
    return Links(remote)


async def make(links: Links, path: str, target: str) -> None:
    """A link as rclone writes it, also where the storage has links of its own."""
    await put(links.inner, path + SUFFIX, target.encode())


async def test_a_new_link_is_shown_with_its_target(place: Place, links: Links) -> None:
    made = await links.symlink("l", "some/where")
    assert (made.name, made.kind, made.target, made.size) == ("l", Kind.SYMLINK, "some/where", 10)
    listed = (await entries(links))["l"]
    assert (listed.kind, listed.target) == (Kind.SYMLINK, "some/where")
    assert (await links.stat("l")).target == "some/where"
    if not links.inner.caps.symlinks:
        assert await fetch(links.inner, "l.rclonelink") == b"some/where"
    for taken in ("l", "f"):
        await put(links, "f", b"x")
        with pytest.raises(Exists):
            await links.symlink(taken, "elsewhere")


@pytest.mark.parametrize("listed", [False, True], ids=["unseen", "listed"])
async def test_what_rclone_wrote_is_a_link(links: Links, listed: bool) -> None:
    await links.mkdir("d")
    await make(links, "d/caf\u00e9", "/absolute/caf\u00e9")
    if listed:
        assert (await entries(links, "d"))["caf\u00e9"].target == "/absolute/caf\u00e9"
    assert (await links.stat("d/caf\u00e9")).kind is Kind.SYMLINK
    await links.rename("d/caf\u00e9", "moved")
    assert (await entries(links))["moved"].target == "/absolute/caf\u00e9"
    assert await entries(links, "d") == {}
    await links.remove("moved")
    assert sorted(await entries(links.inner)) == ["d"]
    with pytest.raises(NotFound) as caught:
        await links.stat("moved")
    assert caught.value.path == "moved"
    with pytest.raises(NotFound):
        await links.remove("moved")
    with pytest.raises(NotFound):
        await links.rename("moved", "x")


async def test_a_link_and_a_file_take_each_others_place(links: Links) -> None:
    for over in ("link", "file"):
        await make(links, "link", "a")
        await put(links, "file", b"content")
        await entries(links)
        source, target = ("file", "link") if over == "link" else ("link", "file")
        if target == "file" and not links.caps.rename_replaces:
            await links.remove("file")
        await links.rename(source, target)
        ((name, entry),) = (await entries(links)).items()
        assert name == target
        assert entry.kind is (Kind.FILE if over == "link" else Kind.SYMLINK)
        await links.remove(name)
        assert await entries(links.inner) == {}


async def test_a_directory_takes_its_links_along(links: Links) -> None:
    await links.mkdir("d")
    await make(links, "d/l", "x")
    await entries(links, "d")
    await links.rename("d", "e")
    assert (await links.stat("e/l")).target == "x"
    assert (await entries(links, "e"))["l"].target == "x"
    await links.remove("e/l")
    await links.rmdir("e")


async def test_what_is_no_link_stays_a_file(links: Links) -> None:
    contents = {
        "both" + SUFFIX: b"x",
        "both": b"a file",
        SUFFIX: b"nothing before it",
        "empty" + SUFFIX: b"",
        "long" + SUFFIX: b"x" * (LONGEST + 1),
        "zero" + SUFFIX: b"a\0b",
    }
    for name, content in contents.items():
        await put(links.inner, name, content)
    shown = await entries(links)
    assert set(shown) == set(contents)
    assert {entry.kind for entry in shown.values()} == {Kind.FILE}
    for name, content in contents.items():
        assert await fetch(links, name) == content


async def test_a_link_that_others_change_is_read_again(links: Links) -> None:
    await make(links, "l", "first")
    assert (await entries(links))["l"].target == "first"
    await make(links, "l", "second one")
    assert (await entries(links))["l"].target == "second one"
    await links.inner.remove("l" + SUFFIX)
    assert await entries(links) == {}
    with pytest.raises(NotFound):
        await links.stat("l")


async def test_what_rclone_copies_is_read(place: Place, links: Links, tmp_path: Path) -> None:
    if place.disk is None:
        pytest.skip("rclone cannot reach this process's memory; the other storage types run this")
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "link").symlink_to("../target with space")
    (source / "f").write_bytes(b"x")
    command = ["rclone", "copy", f":local,links:{source}", str(place.disk), "--config", "/dev/null"]
    await trio.run_process(command)
    assert (place.disk / "d" / "link.rclonelink").is_file()
    assert (await entries(links, "d"))["link"].target == "../target with space"
    assert sorted(await entries(links)) == ["d", "f"]


async def test_options_of_the_inner_remote_stay(place: Place, links: Links) -> None:
    assert replace(links.caps, symlinks=links.inner.caps.symlinks) == links.inner.caps
    assert links.identity == links.inner.identity
    assert open_remote("memory", {}, "").caps.symlinks is False

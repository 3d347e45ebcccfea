"""What the options of a folder change; special files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sources import entries, fetch, put

from mountcore.errors import NotFound, Refused, Unsupported
from mountcore.remotes.protocol import Kind
from mountcore.remotes.registry import open_remote

pytestmark = pytest.mark.trio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file, a directory, links to both and to nowhere and to each other, a pipe."""
    made, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    made.mkdir()
    elsewhere.mkdir()
    (elsewhere / "f").write_bytes(b"content")
    (elsewhere / "d").mkdir()
    (elsewhere / "d/g").write_bytes(b"below")
    (made / "plain").write_bytes(b"x")
    for name, target in (("f", elsewhere / "f"), ("d", elsewhere / "d"), ("broken", "nowhere"), ("a", "b"), ("b", "a")):
        (made / name).symlink_to(target)
    os.mkfifo(made / "pipe")
    return made


async def test_links_are_links(folder: Path) -> None:
    remote = open_remote("local", {}, str(folder))
    kinds = {name: entry.kind for name, entry in (await entries(remote)).items()}
    links = dict.fromkeys(("f", "d", "broken", "a", "b"), Kind.SYMLINK)
    assert kinds == links | {"plain": Kind.FILE}, "and the pipe is not shown"


async def test_copy_links_shows_what_they_point_at(folder: Path) -> None:
    remote = open_remote("local", {"copy_links": "true"}, str(folder))
    listed = await entries(remote)
    assert {name: entry.kind for name, entry in listed.items()} == {
        "f": Kind.FILE, "d": Kind.DIRECTORY, "plain": Kind.FILE,
    }  # fmt: skip
    assert listed["f"].size == 7
    assert await fetch(remote, "d/g") == b"below"
    await put(remote, "f", b"changed", expect=listed["f"].version)
    assert (folder / "f").is_symlink()
    assert (folder.parent / "elsewhere/f").read_bytes() == b"changed"
    assert (await remote.set_mtime("f", 10**18)).mtime_ns == 10**18
    for absent in ("broken", "a"):
        with pytest.raises(NotFound):
            await remote.stat(absent)
    assert not remote.caps.symlinks
    with pytest.raises(Unsupported):
        await remote.symlink("new", "f")
    await remote.remove("f")
    assert (folder.parent / "elsewhere/f").exists(), "what is removed is the link"


async def test_skip_links_hides_them(folder: Path) -> None:
    remote = open_remote("local", {"skip_links": "true"}, str(folder))
    assert list(await entries(remote)) == ["plain"]
    with pytest.raises(NotFound):
        await remote.stat("f")
    assert not remote.caps.symlinks


async def test_bad_options_are_refused_by_name() -> None:
    for options, words in (
        ({"copy_links": "true", "skip_links": "true"}, "exclude each other"),
        ({"links": "true"}, "use --links"),
        ({"copy_links": "maybe"}, "copy_links is true or false"),
    ):
        with pytest.raises(Refused, match=words):
            open_remote("local", options, "/")
    open_remote("local", {"no_check_updated": "true"}, "/")

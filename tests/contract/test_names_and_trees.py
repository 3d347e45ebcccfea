"""The name space: list, stat, mkdir, rmdir, remove, rename, on every remote."""

from __future__ import annotations

import pytest
from conftest import LONG_TAIL, OBJECT_NAMES, OWN, PLAIN, Place
from sources import entries, fetch, put

from mountcore.errors import (
    CrossDevice,
    Exists,
    InvalidName,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    StorageError,
)
from mountcore.remotes.partials import partial_name
from mountcore.remotes.protocol import Kind, Remote, RenameScope

# names do not depend on TLS, and log-ins over TLS are slow
pytestmark = [
    pytest.mark.trio,
    pytest.mark.parametrize("place", [*OWN, *PLAIN, *OBJECT_NAMES, *LONG_TAIL], indirect=True),
]

ODD_NAMES = [
    "no-break space\u00a0",
    "with space",
    " leading space",
    "trailing space ",
    "-rf",
    "--",
    "a;b",
    "[a]*?{b}",
    "#%&'\"",
    "back\\slash",
    "~tilde",
    "caf\u00e9",
    "cafe\u0301",
    "日本語",
    "🚢",
    "x" * 255,
    "é" * 127 + "x",
    "tab\there",
    "line\nbreak",
    "carriage\rreturn",
    "del\x7f",
    "\x01",
    "...",
    ".hidden",
    "a -> b",
    "Jan 01 12:00 x",
    "quoted ‛␊",
    "a␠b",
]
"""The control characters and trailing spaces among them are replaced over FTP, and come back."""


async def test_an_empty_directory_lists_nothing(remote: Remote) -> None:
    assert await entries(remote) == {}
    await remote.mkdir("d")
    assert await entries(remote, "d") == {}


async def test_what_is_stored_is_listed_and_found(remote: Remote) -> None:
    await remote.mkdir("d")
    await remote.mkdir("d/e")
    await put(remote, "d/e/f", b"12345")
    await put(remote, "d/empty")
    listed = await entries(remote, "d")
    assert {name: entry.kind for name, entry in listed.items()} == {"e": Kind.DIRECTORY, "empty": Kind.FILE}
    assert list(await entries(remote)) == ["d"]
    found = await remote.stat("d/e/f")
    assert (found.name, found.kind, found.size) == ("f", Kind.FILE, 5)
    assert found.version.matches((await entries(remote, "d/e"))["f"].version)
    assert (await remote.stat("d/e")).kind is Kind.DIRECTORY
    assert (await remote.stat("d/empty")).size == 0


async def test_the_root_is_a_directory_without_a_name(remote: Remote) -> None:
    root = await remote.stat("")
    assert (root.name, root.kind) == ("", Kind.DIRECTORY)


@pytest.mark.parametrize("path", ["absent", "absent/x", "d/absent"])
async def test_absence_is_reported_as_absence(remote: Remote, path: str) -> None:
    await remote.mkdir("d")
    with pytest.raises(NotFound) as caught:
        await remote.stat(path)
    assert caught.value.path == path
    with pytest.raises(NotFound):
        await entries(remote, path)
    with pytest.raises(NotFound):
        await fetch(remote, path)
    with pytest.raises(NotFound):
        await remote.remove(path)
    with pytest.raises(NotFound):
        await remote.rmdir(path)
    with pytest.raises(NotFound):
        await remote.rename(path, "elsewhere")


async def test_a_file_is_no_directory(remote: Remote) -> None:
    await put(remote, "f", b"x")
    with pytest.raises(NotDirectory):
        await entries(remote, "f")
    with pytest.raises(NotDirectory):
        await remote.rmdir("f")
    for attempt in (remote.stat("f/x"), remote.mkdir("f/x"), put(remote, "f/x")):
        with pytest.raises((NotDirectory, NotFound)):
            await attempt
    assert await fetch(remote, "f") == b"x"


async def test_a_directory_is_no_file(remote: Remote) -> None:
    await remote.mkdir("d")
    with pytest.raises(IsDirectory):
        await remote.remove("d")
    with pytest.raises(IsDirectory):
        await fetch(remote, "d")
    with pytest.raises(IsDirectory):
        await put(remote, "d", b"x")
    assert await entries(remote, "d") == {}
    assert list(await entries(remote)) == ["d"]


async def test_mkdir_refuses_what_exists(remote: Remote) -> None:
    await remote.mkdir("d")
    await put(remote, "f")
    for taken in ("d", "f", ""):
        with pytest.raises(Exists):
            await remote.mkdir(taken)
    with pytest.raises(NotFound):
        await remote.mkdir("absent/d")


async def test_rmdir_takes_only_empty_directories(remote: Remote) -> None:
    await remote.mkdir("d")
    await remote.mkdir("d/e")
    await put(remote, "d/e/.hidden", b"x")
    with pytest.raises(NotEmpty):
        await remote.rmdir("d")
    with pytest.raises(NotEmpty):
        await remote.rmdir("d/e")
    await remote.remove("d/e/.hidden")
    await remote.rmdir("d/e")
    await remote.rmdir("d")
    assert await entries(remote) == {}


async def test_remove(remote: Remote) -> None:
    await put(remote, "f", b"x")
    await remote.remove("f")
    with pytest.raises(NotFound):
        await remote.stat("f")
    assert await entries(remote) == {}


async def test_rename_a_file(place: Place, remote: Remote) -> None:
    assert remote.caps.rename is not RenameScope.NONE
    await remote.mkdir("d")
    await put(remote, "f", b"content")
    before = await remote.stat("f")
    await remote.rename("f", "d/g")
    after = await remote.stat("d/g")
    if remote.caps.tags:  # a copy at an object store may have another tag; who renames asks (`Capabilities.tags`)
        before, after = before._replace(tag=""), after._replace(tag="")
        if place.name in LONG_TAIL:  # … and another time, where the storage keeps none but its own
            before = before._replace(mtime_ns=None)
    assert after.version.matches(before.version)
    assert await fetch(remote, "d/g") == b"content"
    with pytest.raises(NotFound):
        await remote.stat("f")


async def test_rename_a_tree(place: Place, remote: Remote) -> None:
    await remote.mkdir("d")
    await remote.mkdir("d/e")
    await put(remote, "d/e/f", b"content")
    if remote.caps.rename is not RenameScope.TREE:
        assert place.name in LONG_TAIL, "every other storage can"
        with pytest.raises(CrossDevice):
            await remote.rename("d", "moved")
        assert await fetch(remote, "d/e/f") == b"content"
        return
    await remote.rename("d", "moved")
    assert await fetch(remote, "moved/e/f") == b"content"
    assert list(await entries(remote)) == ["moved"]


async def test_rename_over_a_file(remote: Remote) -> None:
    await put(remote, "old", b"old content")
    await put(remote, "new", b"new")
    promised = remote.caps.rename_replaces
    try:
        await remote.rename("new", "old")
    except Exists:
        assert not promised
        assert await fetch(remote, "old") == b"old content"
        return
    assert promised or not remote.caps.rename_replaces
    assert await fetch(remote, "old") == b"new"
    assert list(await entries(remote)) == ["old"]


async def test_rename_over_a_directory_is_refused(remote: Remote) -> None:
    await remote.mkdir("full")
    await put(remote, "full/f", b"x")
    await remote.mkdir("d")
    await put(remote, "file", b"y")
    never = () if remote.caps.rename is RenameScope.TREE else (CrossDevice,)
    with pytest.raises((NotEmpty, Exists, *never)):
        await remote.rename("d", "full")
    with pytest.raises((IsDirectory, Exists)):
        await remote.rename("file", "full")
    with pytest.raises((NotDirectory, Exists, *never)):
        await remote.rename("d", "file")
    assert sorted(await entries(remote)) == ["d", "file", "full"]
    assert await fetch(remote, "full/f") == b"x"
    assert await fetch(remote, "file") == b"y"


async def test_rename_to_nowhere(remote: Remote) -> None:
    await put(remote, "f", b"x")
    await remote.mkdir("d")
    with pytest.raises(NotFound):
        await remote.rename("f", "absent/f")
    with pytest.raises(InvalidName):
        await remote.rename("d", "d/inside")
    await remote.rename("f", "f")
    assert sorted(await entries(remote)) == ["d", "f"]


REFUSED = {("pure-ftpd", "back\\slash"): "BackSlash"}
"""Names that a server itself refuses, and the word of the ``encoding`` option that stores them all the same."""


LOST = {
    "rclone-sftp": ("tab\there", "line\nbreak", "carriage\rreturn", "del\x7f", "\x01"),
    "rclone-webdav": ("tab\there", "line\nbreak", "carriage\rreturn", "del\x7f", "\x01"),
}
"""Names that a server takes and does not find again."""
MISPLACED = {"wsgidav": ("a;b", "[a]*?{b}", "tab\there", "line\nbreak", "carriage\rreturn")}
"""Names that a server would move to another: WsgiDAV reads a Destination as if it were not encoded."""


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
async def test_odd_names(place: Place, remote: Remote, name: str) -> None:
    word = next((REFUSED[server, bad] for server, bad in REFUSED if place.name.startswith(server) and bad == name), "")
    if name in LOST.get(place.name, ()):
        with pytest.raises(NotFound):  # the server loses what it stores under such a name, and this is told
            await put(remote, name, b"content")
        return
    if name in MISPLACED.get(place.name, ()):
        await put(remote, "a", b"another")
        for attempt in (put(remote, name, b"content"), remote.rename("a", name)):
            with pytest.raises(InvalidName):
                await attempt
        assert await fetch(remote, "a") == b"another"
        assert sorted(await entries(remote)) == ["a"]
        return
    if place.name in LONG_TAIL and (name != name.rstrip() or "\r" in name or "\n" in name):
        await remote.mkdir("d")
        for attempt in (remote.mkdir(f"d/{name}"), put(remote, f"d/{name}"), remote.stat(f"d/{name}")):
            with pytest.raises(InvalidName):
                await attempt
        return
    if not word or place.kind != "ftp":
        await use_a_name(remote, name)
        return
    with pytest.raises(InvalidName):
        await remote.mkdir(name)
    encoding = place.open(encoding=f"Ctl,{word}")
    await use_a_name(encoding, name)
    await encoding.aclose()


async def use_a_name(remote: Remote, name: str) -> None:
    await remote.mkdir("d")
    path = f"d/{name}"
    await put(remote, path, b"content")
    assert list(await entries(remote, "d")) == [name]
    assert (await remote.stat(path)).name == name
    assert await fetch(remote, path) == b"content"
    await remote.rename(path, "plain")
    await remote.mkdir(path)
    await remote.rename("plain", f"{path}/{name}")
    assert list(await entries(remote, path)) == [name]
    await remote.remove(f"{path}/{name}")
    await remote.rmdir(path)
    assert await entries(remote, "d") == {}


async def test_composed_and_decomposed_names_are_two(remote: Remote) -> None:
    await put(remote, "caf\u00e9", b"composed")
    await put(remote, "cafe\u0301", b"decomposed")
    assert await fetch(remote, "caf\u00e9") == b"composed"
    assert len(await entries(remote)) == 2


@pytest.mark.parametrize("path", ["..", "../x", "a/../b", ".", "a//b", "/a", "a/", "a\0b"], ids=ascii)
async def test_paths_cannot_leave_the_root(remote: Remote, path: str) -> None:
    for attempt in (remote.stat(path), put(remote, path), remote.mkdir(path), remote.remove(path),
                    fetch(remote, path), entries(remote, path), remote.rename(path, "x")):  # fmt: skip
        with pytest.raises(InvalidName):
            await attempt


async def test_the_root_stays(remote: Remote) -> None:
    for attempt in (remote.remove(""), remote.rmdir(""), remote.rename("", "x"), put(remote, "")):
        with pytest.raises((InvalidName, IsDirectory)):
            await attempt


async def test_uploads_in_progress_are_not_listed(remote: Remote) -> None:
    await put(remote, partial_name("f"), b"half")
    await put(remote, partial_name("f", hidden=False), b"half")
    await put(remote, partial_name("f", kept=True), b"kept")
    await put(remote, "f.partial", b"somebody's own")
    await put(remote, "f", b"whole")  # without it, FTP gives what was set aside its name again
    visible = set(await entries(remote))
    assert visible == {"f", "f.partial"} or remote.identity.startswith("memory:")


async def test_errors_are_ours_and_carry_the_path(remote: Remote) -> None:
    with pytest.raises(StorageError) as caught:
        await remote.stat("no/such/file")
    assert caught.value.filename == "no/such/file"

"""Directories, through every door."""

from __future__ import annotations

import errno

import pytest

from .doors import Ability, Door, walk


@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
def test_a_new_directory_is_empty_and_shown(door: Door) -> None:
    door.mkdir("dir")
    assert door.listdir("") == ["dir"]
    assert door.listdir("dir") == []
    assert door.stat("dir").directory


@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
def test_an_empty_directory_is_kept_by_the_storage(door: Door) -> None:
    door.mkdir("empty")
    door.mkdir("empty/within")
    door.drain()
    door.forget()
    assert walk(door) == {"empty": None, "empty/within": None}


@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
def test_a_name_that_is_taken_is_refused(door: Door) -> None:
    door.mkdir("dir")
    door.write("file", b"x")
    with door.refused(errno.EEXIST):
        door.mkdir("dir")
    with door.refused(errno.EEXIST):
        door.mkdir("file")
    with door.refused(errno.ENOENT):
        door.mkdir("missing/below")


def test_only_an_empty_directory_is_removed(door: Door) -> None:
    door.mkdir("dir")
    door.write("dir/file", b"content")
    with door.refused(errno.ENOTEMPTY):
        door.rmdir("dir")
    assert door.read("dir/file") == b"content"
    door.remove("dir/file")
    door.rmdir("dir")
    assert door.listdir("") == []
    with door.refused(errno.ENOENT):
        door.rmdir("dir")


def test_a_directory_of_files_that_are_stored_is_not_empty_either(door: Door) -> None:
    door.mkdir("dir")
    door.write("dir/file", b"content")
    door.drain()
    door.forget()
    with door.refused(errno.ENOTEMPTY):
        door.rmdir("dir")


@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
def test_a_directory_is_not_a_file(door: Door) -> None:
    door.mkdir("dir")
    with door.refused(errno.EISDIR):
        door.remove("dir")
    with door.refused(errno.EISDIR):
        door.write("dir", b"x")
    assert walk(door) == {"dir": None}


@pytest.mark.needs(Ability.TREES)
def test_renaming_a_directory_takes_all_files_along(door: Door) -> None:
    door.mkdir("old")
    door.mkdir("old/sub")
    door.write("old/stored", b"stored")
    door.write("old/sub/deep", b"deep")
    door.drain()
    door.write("old/queued", b"queued")
    door.rename("old", "new")
    assert walk(door) == {
        "new": None, "new/stored": b"stored", "new/queued": b"queued", "new/sub": None, "new/sub/deep": b"deep"
    }  # fmt: skip


@pytest.mark.needs(Ability.TREES)
@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_renaming_a_directory_takes_everything_below_along(door: Door, stored: bool) -> None:
    expected = {"new": None, "new/sub": None, "new/sub/deep": b"deep", "new/file": b"file", "new/sub2": None}
    door.mkdir("old")
    door.mkdir("old/sub")
    door.mkdir("old/sub2")
    door.write("old/file", b"file")
    door.write("old/sub/deep", b"deep")
    if stored:
        door.drain()
        door.forget()
    door.rename("old", "new")
    assert walk(door) == expected


@pytest.mark.needs(Ability.TREES)
@pytest.mark.needs(Ability.RENAMED_CHANGES)
def test_files_in_a_renamed_directory_go_on_being_changed(door: Door) -> None:
    door.mkdir("a")
    door.write("a/stored", b"one")
    door.drain()
    door.write("a/queued", b"q")
    door.append("a/stored", b" two")
    door.rename("a", "b")
    door.append("b/stored", b" three")
    door.append("b/queued", b"!")
    door.mkdir("a")
    door.write("a/stored", b"another")
    assert walk(door) == {
        "a": None, "a/stored": b"another", "b": None, "b/stored": b"one two three", "b/queued": b"q!"
    }  # fmt: skip


@pytest.mark.needs(Ability.TREES)
def test_directories_whose_names_begin_alike_are_different(door: Door) -> None:
    for name in ("dir", "dir0", "dir-", "dir.", "dir "):
        door.mkdir(name)
        door.write(f"{name}/file", name.encode())
    door.rename("dir", "moved")
    assert walk(door) == {
        path: data
        for name, at in (("dir", "moved"), ("dir0", "dir0"), ("dir-", "dir-"), ("dir.", "dir."), ("dir ", "dir "))
        for path, data in ((at, None), (f"{at}/file", name.encode()))
    }


@pytest.mark.needs(Ability.TREES)
def test_a_directory_replaces_an_empty_one_and_no_other(door: Door) -> None:
    for name in ("source", "empty", "full"):
        door.mkdir(name)
    door.write("source/file", b"s")
    door.write("full/file", b"f")
    with door.refused(errno.ENOTEMPTY):
        door.rename("source", "full")
    door.rename("source", "empty")
    assert walk(door) == {"empty": None, "empty/file": b"s", "full": None, "full/file": b"f"}


@pytest.mark.needs(Ability.TREES)
@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
def test_a_directory_does_not_replace_a_file_nor_a_file_a_directory(door: Door) -> None:
    door.mkdir("dir")
    door.write("file", b"x")
    with door.refused(errno.ENOTDIR):
        door.rename("dir", "file")
    with door.refused(errno.EISDIR):
        door.rename("file", "dir")
    assert walk(door) == {"dir": None, "file": b"x"}


@pytest.mark.needs(Ability.TREES)
@pytest.mark.needs(Ability.EMPTY_DIRECTORIES)
def test_a_directory_is_not_moved_into_itself(door: Door) -> None:
    door.mkdir("dir")
    door.mkdir("dir/sub")
    with door.refused(errno.EINVAL):
        door.rename("dir", "dir/sub/dir")
    assert walk(door) == {"dir": None, "dir/sub": None}


def test_files_move_between_directories(door: Door) -> None:
    for name in ("from", "to"):
        door.mkdir(name)
    door.write("from/a", b"a")
    door.drain()
    door.write("from/b", b"b")
    for name in ("a", "b"):
        door.rename(f"from/{name}", f"to/{name}")
    door.rmdir("from")
    assert walk(door) == {"to": None, "to/a": b"a", "to/b": b"b"}


def test_a_deep_tree_is_shown_whole(door: Door) -> None:
    path = "d"
    for level in range(20):
        door.mkdir(path)
        door.write(f"{path}/file", b"%d" % level)
        path += "/d"
    assert len(walk(door)) == 40


def test_a_directory_of_many_names_lists_each_of_them_once(door: Door) -> None:
    expected = {f"n{number}" for number in range(300)}
    for name in expected:
        door.write(name, b"")
    assert len(door.listdir("")) == 300
    assert set(door.listdir("")) == expected
    door.drain()
    door.forget()
    assert set(door.listdir("")) == expected


@pytest.mark.needs(Ability.TREES)
@pytest.mark.needs(Ability.HANDLES)
@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_a_file_stays_open_while_its_directory_is_renamed(door: Door, stored: bool) -> None:
    door.mkdir("old")
    door.write("old/file", b"0123456789")
    if stored:
        door.drain()
        door.forget()
    file = door.open("old/file", write=True)
    try:
        door.rename("old", "new")
        assert file.read(0, 100) == b"0123456789"
        file.write(2, b"XX")
    finally:
        file.close()
    assert walk(door) == {"new": None, "new/file": b"01XX456789"}

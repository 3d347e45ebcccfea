"""Files, through every door."""

from __future__ import annotations

import errno
import os
import random
import time

import pytest

from .doors import Ability, Door, walk

MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    """The same random bytes every time."""
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1])
def test_what_is_written_is_read_back(door: Door, size: int) -> None:
    data = noise(size)
    door.write("file", data)
    assert door.read("file") == data
    assert door.stat("file").size == size
    assert door.listdir("") == ["file"]


def test_a_large_file_is_read_back_before_and_after_its_upload(door: Door) -> None:
    data = noise(20 * MIB + 17)
    door.write("large", data)
    assert door.read("large") == data
    door.drain()
    door.forget()
    assert door.read("large") == data


@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
@pytest.mark.parametrize(("before", "after"), [(100_000, 10), (10, 100_000), (5000, 5000), (5000, 0), (0, 5000)])
def test_saving_again_replaces_the_whole_content(door: Door, stored: bool, before: int, after: int) -> None:
    door.write("file", noise(before, 1))
    if stored:
        door.drain()
    door.write("file", noise(after, 2))
    assert door.read("file") == noise(after, 2)
    assert door.stat("file").size == after


@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_appending_adds_to_the_end_and_keeps_what_was_there(door: Door, stored: bool) -> None:
    door.write("log", b"one\n")
    if stored:
        door.drain()
        door.forget()
    door.append("log", b"two\n")
    door.append("log", b"three\n")
    assert door.read("log") == b"one\ntwo\nthree\n"
    assert door.stat("log").size == 14


def test_appending_makes_a_file_that_was_not_there(door: Door) -> None:
    door.append("new", b"first")
    assert door.read("new") == b"first"


def test_appending_nothing_changes_nothing(door: Door) -> None:
    door.write("file", b"content")
    door.append("file", b"")
    assert door.read("file") == b"content"


@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
@pytest.mark.parametrize(
    "offset",
    [
        *[pytest.param(offset, marks=pytest.mark.needs(Ability.ANY_OFFSET)) for offset in (0, 100_100, 3 * MIB)],
        *[1, 4096, 99_990, 100_000],
    ],
)
def test_overwriting_in_place_changes_that_part_alone(door: Door, stored: bool, offset: int) -> None:
    expected = bytearray(noise(100_000))
    door.write("file", bytes(expected))
    if stored:
        door.drain()
        door.forget()
    door.overwrite("file", offset, b"HERE" * 10)
    if offset > len(expected):
        expected += bytes(offset - len(expected))
    expected[offset : offset + 40] = b"HERE" * 10
    assert door.read("file") == expected
    assert door.stat("file").size == len(expected)


def test_many_small_changes_of_a_large_stored_file_all_arrive(door: Door) -> None:
    expected = bytearray(noise(5 * MIB))
    door.write("file", bytes(expected))
    door.drain()
    door.forget()
    chance = random.Random(7)
    for _ in range(30):
        offset, data = chance.randrange(len(expected)), chance.randbytes(chance.randrange(1, 5000))
        door.overwrite("file", offset, data)
        expected[offset : offset + len(data)] = data
    assert door.read("file") == expected


@pytest.mark.needs(Ability.TRUNCATE)
@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
@pytest.mark.parametrize("size", [0, 1, 4096, 9_999, 10_000, 10_001, 2 * MIB])
def test_truncating_cuts_or_extends_with_zeros(door: Door, stored: bool, size: int) -> None:
    data = noise(10_000)
    door.write("file", data)
    if stored:
        door.drain()
        door.forget()
    door.truncate("file", size)
    assert door.stat("file").size == size
    assert door.read("file") == data[:size] + bytes(max(0, size - len(data)))


@pytest.mark.needs(Ability.TRUNCATE)
def test_what_was_cut_off_comes_back_as_zeros(door: Door) -> None:
    door.write("file", b"x" * 9000)
    door.drain()
    door.truncate("file", 10)
    door.truncate("file", 9000)
    assert door.read("file") == b"x" * 10 + bytes(8990)


@pytest.mark.needs(Ability.TRUNCATE)
def test_a_new_file_can_be_truncated_and_written_again_before_its_upload(door: Door) -> None:
    door.write("new", noise(5000))
    door.truncate("new", 0)
    door.append("new", b"again")
    door.truncate("new", 3)
    assert door.read("new") == b"aga"


def test_removing_takes_the_file_away_and_frees_its_name(door: Door) -> None:
    door.write("file", b"old")
    door.remove("file")
    assert door.listdir("") == []
    with door.refused(errno.ENOENT):
        door.read("file")
    with door.refused(errno.ENOENT):
        door.remove("file")
    door.write("file", b"new one")
    assert door.read("file") == b"new one"


def test_a_removed_file_does_not_come_back(door: Door) -> None:
    door.write("stored", b"s")
    door.drain()
    door.write("queued", b"q")
    door.append("stored", b"and changed")
    door.remove("stored")
    door.remove("queued")
    door.drain()
    door.forget()
    assert door.listdir("") == []


@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_renaming_keeps_the_content(door: Door, stored: bool) -> None:
    data = noise(50_000)
    door.write("old", data)
    if stored:
        door.drain()
        door.forget()
    door.rename("old", "new")
    assert door.listdir("") == ["new"]
    assert door.read("new") == data
    with door.refused(errno.ENOENT):
        door.stat("old")


@pytest.mark.parametrize("source_stored", [False, True], ids=["queued", "stored"])
@pytest.mark.parametrize("target_stored", [False, True], ids=["over-queued", "over-stored"])
def test_renaming_over_a_file_replaces_it(door: Door, source_stored: bool, target_stored: bool) -> None:
    for name, data, is_stored in (("source", b"winner", source_stored), ("target", b"the loser", target_stored)):
        if is_stored:
            door.write(name, data)
    door.drain()
    for name, data, is_stored in (("source", b"winner", source_stored), ("target", b"the loser", target_stored)):
        if not is_stored:
            door.write(name, data)
    door.rename("source", "target")
    assert walk(door) == {"target": b"winner"}


def test_saving_by_temporary_file_and_rename_keeps_the_last_version(door: Door) -> None:
    for version in range(6):
        door.write(".file.tmp", b"version %d" % version)
        door.rename(".file.tmp", "file")
        if version == 3:
            door.drain()
        assert door.read("file") == b"version %d" % version
    assert door.listdir("") == ["file"]


def test_two_files_change_places(door: Door) -> None:
    door.write("a", b"content of a")
    door.drain()
    door.write("b", b"b's")
    door.rename("a", "third")
    door.rename("b", "a")
    door.rename("third", "b")
    assert walk(door) == {"a": b"b's", "b": b"content of a"}


def test_a_file_changed_after_its_rename_is_stored_under_the_new_name(door: Door) -> None:
    door.write("old", b"one")
    door.drain()
    door.append("old", b" two")
    door.rename("old", "new")
    door.append("new", b" three")
    assert walk(door) == {"new": b"one two three"}


def test_a_renamed_name_is_free_again(door: Door) -> None:
    door.write("log", b"yesterday")
    door.rename("log", "log.1")
    door.write("log", b"today")
    assert walk(door) == {"log": b"today", "log.1": b"yesterday"}


def test_what_does_not_exist_is_refused(door: Door) -> None:
    with door.refused(errno.ENOENT):
        door.read("missing")
    with door.refused(errno.ENOENT):
        door.rename("missing", "other")
    with door.refused(errno.ENOENT):
        door.stat("missing")
    with door.refused(errno.ENOENT):
        door.write("missing/file", b"")
    assert door.listdir("") == []


def test_a_file_is_not_a_directory(door: Door) -> None:
    door.write("file", b"x")
    with door.refused(errno.ENOTDIR):
        door.write("file/below", b"")
    with door.refused(errno.ENOTDIR):
        door.rmdir("file")
    assert walk(door) == {"file": b"x"}


def test_the_modification_time_is_that_of_the_last_write(door: Door) -> None:
    began = time.time()
    door.write("file", b"x")
    assert began - 2 <= door.stat("file").mtime <= time.time() + 2
    door.drain()
    door.forget()
    assert began - 2 <= door.stat("file").mtime <= time.time() + 2


@pytest.mark.needs(Ability.TIMES)
@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_a_modification_time_that_was_set_is_kept_by_the_storage(door: Door, stored: bool) -> None:
    door.write("file", b"content")
    if stored:
        door.drain()
    door.set_mtime("file", 1_000_000_000)
    assert door.stat("file").mtime == 1_000_000_000
    door.drain()
    door.forget()
    assert door.stat("file").mtime == 1_000_000_000
    assert door.read("file") == b"content"


@pytest.mark.needs(Ability.HANDLES)
@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_a_file_that_is_removed_while_open_stays_readable_and_writable(door: Door, stored: bool) -> None:
    data = noise(3 * MIB)
    door.write("file", data)
    if stored:
        door.drain()
        door.forget()
    file = door.open("file", write=True)
    try:
        assert file.read(0, 10) == data[:10]
        door.remove("file")
        assert file.read(2 * MIB, 1000) == data[2 * MIB : 2 * MIB + 1000]
        file.write(0, b"changed")
        assert file.read(0, 10) == b"changed" + data[7:10]
        assert door.listdir("") == []
    finally:
        file.close()
    assert door.listdir("") == []


@pytest.mark.needs(Ability.HANDLES)
def test_a_file_that_is_replaced_while_open_still_reads_as_it_was(door: Door) -> None:
    door.write("file", b"old content")
    door.write("other", b"new")
    file = door.open("file")
    try:
        door.rename("other", "file")
        assert file.read(0, 100) == b"old content"
        assert door.read("file") == b"new"
    finally:
        file.close()


@pytest.mark.needs(Ability.HANDLES)
def test_a_file_that_is_renamed_while_open_takes_its_writes_along(door: Door) -> None:
    door.write("old", b"0123456789")
    file = door.open("old", write=True)
    try:
        file.write(0, b"AB")
        door.rename("old", "new")
        file.write(8, b"YZ")
    finally:
        file.close()
    assert walk(door) == {"new": b"AB234567YZ"}


@pytest.mark.needs(Ability.HANDLES)
def test_two_writers_of_one_file_see_each_other(door: Door) -> None:
    door.write("file", b"....")
    one, two = door.open("file", write=True), door.open("file", write=True)
    try:
        one.write(0, b"1")
        two.write(3, b"2")
        assert one.read(0, 10) == two.read(0, 10) == b"1..2"
    finally:
        one.close()
        two.close()
    assert door.read("file") == b"1..2"


@pytest.mark.needs(Ability.HANDLES)
def test_writing_far_beyond_the_end_reads_as_zeros_between(door: Door) -> None:
    door.write("file", b"start")
    file = door.open("file", write=True)
    try:
        file.write(4 * MIB, b"end")
        assert file.read(0, 10) == b"start" + bytes(5)
        assert file.read(4 * MIB - 2, 10) == b"\0\0end"
    finally:
        file.close()
    assert door.stat("file").size == 4 * MIB + 3


def test_a_hundred_files_written_and_half_of_them_removed_are_all_right(door: Door) -> None:
    expected = {f"file {number:03}": os.fsencode(f"{number}") * number for number in range(100)}
    for name, data in expected.items():
        door.write(name, data)
    door.drain()
    for name in list(expected)[::2]:
        door.remove(name)
        del expected[name]
    assert walk(door) == expected

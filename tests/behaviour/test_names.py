"""Odd names, through every door: each is kept to the letter, as a file and as a directory."""

from __future__ import annotations

import errno
import ftplib
import os
import unicodedata

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .conftest import OpenDoors
from .doors import Ability, Door, FtpDoor, walk

NAMES = [
    "with space", "  leading spaces", "trailing space ", "trailing dot.", "...", "..hidden", ".hidden", " ",
    "-leading-dash", "--help", "-rf", "~", "~root", "#hash#", "[abc]", "a*b", "what?", "{x,y}", "$HOME", "`id`",
    "semi;colon", "pipe|", "amp&", "quote'single", 'quote"double', "back\\slash", "back\\", "100%", "%41", "a:b",
    "CON", "aux.txt", "<angle>", "tab\there", "bell\x07", "esc\x1b[31m", "delete\x7f", "\x01", "C1 \x85 \x9f",
    unicodedata.normalize("NFC", "Ünïcödé – 文字 – ελληνικά"), unicodedata.normalize("NFD", "Ünïcödé décomposé"),
    "emoji 👩‍👩‍👧‍👦", "rtl \u202e name", "zero\u200bwidth", "\ufeffbom", "nbsp\u00a0", "İstanbul ß ſ", "line\u2028sep",
    "x" * 255, "€" * 85, "😀" * 63, "a" * 251 + ".txt", "file.part", "name (conflict 1)", "=", "@", "!", "'", '"',
]  # fmt: skip


def check(door: Door, name: str) -> None:
    """A name as a file, renamed to and from, and as a directory."""
    door.write(name, b"content")
    assert door.listdir("") == [name]
    assert door.read(name) == b"content"
    door.rename(name, "plain")
    assert door.listdir("") == ["plain"]
    door.rename("plain", name)
    door.append(name, b" and more")
    assert walk(door) == {name: b"content and more"}
    door.drain()
    door.forget()
    assert walk(door) == {name: b"content and more"}
    door.remove(name)
    door.mkdir(name)
    door.write(f"{name}/{name}", b"below")
    door.drain()
    door.forget()
    assert walk(door) == {name: None, f"{name}/{name}": b"below"}
    assert door.stored() == {name: None, f"{name}/{name}": b"below"}
    door.remove(f"{name}/{name}")
    door.rmdir(name)
    assert door.listdir("") == []


RARE = set(";?:\\\t\x07\x1b\x7f\x01") | {"  leading spaces", "trailing space ", " ", "CON", "aux.txt"}
"""What storage that does not keep every name may refuse: characters, and whole names."""


def _asked(name: str) -> object:
    marks = [pytest.mark.needs(Ability.ANY_NAME)] if name in RARE or not RARE.isdisjoint(name) else []
    return pytest.param(name, marks=marks, id=ascii(name)[1:-1][:40])


@pytest.mark.parametrize("name", [*map(_asked, NAMES)])
def test_an_odd_name_is_kept_to_the_letter(door: Door, name: str) -> None:
    check(door, name)


@pytest.mark.needs(Ability.LINE_BREAKS)
@pytest.mark.parametrize("name", ["line\nfeed", "carriage\rreturn", "both\r\n", "\n", "\r"], ids=ascii)
def test_a_line_break_in_a_name_is_kept(door: Door, name: str) -> None:
    check(door, name)


@pytest.mark.needs(Ability.RAW_NAMES)
@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"\xe2\x82"], ids=repr)
def test_a_name_that_is_not_utf_8_is_kept_to_the_byte(door: Door, name: bytes) -> None:
    check(door, os.fsdecode(name))


@pytest.mark.needs(Ability.ANY_NAME)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_characters="/\0\r\n", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
        lambda name: name not in (".", "..") and len(name.encode()) <= 255
    )
)
@example("\u0344")
@example("ǆ")
def test_any_name_is_kept_to_the_letter(door: Door, name: str) -> None:
    check(door, name)


def test_the_two_normal_forms_of_a_name_are_one_file(door: Door) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müller é.txt") for form in ("NFC", "NFD"))
    door.write(decomposed, b"first")
    assert door.read(composed) == b"first"
    door.write(composed, b"second")
    assert door.listdir("") == [decomposed]
    assert door.read(decomposed) == b"second"


def test_renaming_over_the_other_normal_form_of_a_name_replaces_that_file(door: Door) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    door.write(decomposed, b"loser")
    door.drain()
    door.write("winner", b"winner")
    door.rename("winner", composed)
    assert walk(door) == {decomposed: b"winner"}
    door.append(composed, b"!")
    assert walk(door) == {decomposed: b"winner!"}


@pytest.mark.needs(Ability.RESPELLING)
@pytest.mark.parametrize("stored", [False, True], ids=["queued", "stored"])
def test_a_file_is_renamed_to_the_other_normal_form_of_its_name(door: Door, stored: bool) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    door.write(decomposed, b"content")
    if stored:
        door.drain()
    door.rename(decomposed, composed)
    assert walk(door) == {composed: b"content"}


@pytest.mark.needs(Ability.CASE)
def test_names_that_differ_in_case_are_different_files(door: Door) -> None:
    door.write("Readme", b"one")
    door.write("README", b"two")
    assert walk(door) == {"Readme": b"one", "README": b"two"}


@pytest.mark.parametrize("name", ["x" * 256, "€" * 86], ids=["256 bytes", "258 bytes in 86 characters"])
def test_a_name_of_more_than_255_bytes_is_refused(door: Door, name: str) -> None:
    with door.refused(errno.ENAMETOOLONG):
        door.write(name, b"x")
    with door.refused(errno.ENAMETOOLONG):
        door.mkdir(name)
    assert door.listdir("") == []


@pytest.mark.parametrize("command", ["MKD line\rfeed", "STOR line\rfeed", "DELE line\rfeed", "MKD nul\0nul"], ids=ascii)
def test_a_name_with_a_line_break_is_refused_over_ftp(open_doors: OpenDoors, command: str) -> None:
    door = open_doors.get("ftp-folder")
    assert isinstance(door, FtpDoor)
    before = set(door.listdir(""))
    assert door.client.sock is not None
    door.client.sock.sendall(command.encode() + b"\r\n")
    with pytest.raises(ftplib.error_perm, match=r"^5"):
        door.client.getresp()
    assert set(door.listdir("")) == before

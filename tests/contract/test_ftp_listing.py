"""Listing lines of many servers, as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listings import CORPUS

from mountcore.remotes.ftp.listing import (
    DAY,
    MINUTE,
    SECOND,
    Lines,
    Listed,
    format_stamp,
    is_heading,
    parse_list,
    parse_mlsx,
    parse_stamp,
)
from mountcore.remotes.protocol import Kind

NOW = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)
FILE, FOLDER, LINK = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-rw-r--r--    1 1        1          500005 Mar 09  2001 x", ("x", FILE, 500005, at(2001, 3, 9), DAY)),
        ("-rw-r--r--   1 o g   12 Mar  9 13:05 a b", ("a b", FILE, 12, at(2024, 3, 9, 13, 5), MINUTE)),
        ("-rw-r--r--   1 o g   12 Mar 11 11:00 ahead", ("ahead", FILE, 12, at(2024, 3, 11, 11, 0), MINUTE)),
        ("-rw-r--r--   1 o g   12 Mar 12 13:05 last year", ("last year", FILE, 12, at(2023, 3, 12, 13, 5), MINUTE)),
        ("-rw-r--r--   1 o g   12 Feb 29 13:05 leap", ("leap", FILE, 12, at(2024, 2, 29, 13, 5), MINUTE)),
        ("drwxr-xr-x+  2 o g 4096 Jan  1  2020 d", ("d", FOLDER, 4096, at(2020, 1, 1), DAY)),
        ("-rw-r--r--   1 o g    1 Jan  1  2020   two leading", ("  two leading", FILE, 1, at(2020, 1, 1), DAY)),
        ("-rw-r--r--   1 o g    1 Jan  1  2020 trailing ", ("trailing ", FILE, 1, at(2020, 1, 1), DAY)),
        ("-rw-r--r--   1 Domain Users 7 Jan  1  2020 x", ("x", FILE, 7, at(2020, 1, 1), DAY)),
        ("-rw-r--r--   1 owner 7 Jan  1  2020 no group", ("no group", FILE, 7, at(2020, 1, 1), DAY)),
        ("-rw-r--r-- owner group 7 Jan  1  2020 no links", ("no links", FILE, 7, at(2020, 1, 1), DAY)),
        ("drwxrwxr-x folder 2 May 10  1996 network", ("network", FOLDER, 2, at(1996, 5, 10), DAY)),
        ("-rw-r--r--   1 o g    7 1 Jan 2020 day first", ("day first", FILE, 7, at(2020, 1, 1), DAY)),
        ("-rw-r--r--   1 o g    7 2020-01-02 03:04 iso", ("iso", FILE, 7, at(2020, 1, 2, 3, 4), MINUTE)),
        ("-rw-r--r--   1 o g    7 Jan  1  2020 Jan 02 12:30 x", ("Jan 02 12:30 x", FILE, 7, at(2020, 1, 1), DAY)),
        ("lrwxrwxrwx   1 o g    7 Jan  1  2020 l -> ../t", ("l", LINK, 7, at(2020, 1, 1), DAY)),
        ("-rw-r--r--   1 o g    7 Jan  1  2020 a -> b", ("a -> b", FILE, 7, at(2020, 1, 1), DAY)),
        ("prw-r--r--   1 o g    0 Jan  1  2020 pipe", ("pipe", None, 0, at(2020, 1, 1), DAY)),
        ("d [R----F--] supervisor 512 Jan 16  2020 login", ("login", FOLDER, 512, at(2020, 1, 16), DAY)),
        ("-rw-r--r-- 0 user group 652 Feb 24 00:39 Hosted", ("Hosted", FILE, 652, at(2024, 2, 24, 0, 39), MINUTE)),
        ("11-21-23  05:36AM       <DIR>          My F", ("My F", FOLDER, None, at(2023, 11, 21, 5, 36), MINUTE)),
        ("11-21-23  05:36PM                 1234 a  b", ("a  b", FILE, 1234, at(2023, 11, 21, 17, 36), MINUTE)),
        ("12-01-2023  12:05AM               1234 midnight", ("midnight", FILE, 1234, at(2023, 12, 1, 0, 5), MINUTE)),
        ("2023-11-21  17:36             1,234 x", ("x", FILE, 1234, at(2023, 11, 21, 17, 36), MINUTE)),
        ("21.11.2023  17:36             1.234 x", ("x", FILE, 1234, at(2023, 11, 21, 17, 36), MINUTE)),
        ("+i8388621.48594,m825718503,r,s280,\tdjb.html", ("djb.html", FILE, 280, 825718503 * SECOND, SECOND)),
        ("+i8388621.50690,m824255907,/,\t514", ("514", FOLDER, None, 824255907 * SECOND, SECOND)),
    ],
)  # fmt: skip
def test_list_lines(line: str, expected: tuple[str, Kind | None, int | None, int, int]) -> None:
    listed = parse_list(line, NOW)
    assert listed is not None
    assert (listed.name, listed.kind, listed.size, listed.mtime_ns, listed.resolution_ns) == expected
    assert listed.local == (not line.startswith("+"))
    assert listed.target == ("../t" if listed.kind is LINK else "")


def meaning(listed: Listed) -> str:
    """As `CORPUS` says it."""
    letter = {Kind.FILE: "f", Kind.DIRECTORY: "d", Kind.SYMLINK: "l", None: "?"}[listed.kind]
    when = "-"
    if listed.mtime_ns is not None:
        moment = datetime.fromtimestamp(listed.mtime_ns / SECOND, UTC)
        form = {DAY: "%Y-%m-%d", MINUTE: "%Y-%m-%dT%H:%M", SECOND: "%Y-%m-%dT%H:%M:%SZ"}[listed.resolution_ns]
        assert listed.local == (listed.resolution_ns != SECOND)
        when = moment.strftime(form)
    target = f" -> {listed.target}" if listed.kind is Kind.SYMLINK else ""
    return f"{letter} {listed.name}{target} {'-' if listed.size is None else listed.size} {when}"


@pytest.mark.parametrize("server", CORPUS)
def test_listings_of_many_servers(server: str) -> None:
    text, expected = CORPUS[server]
    lines = Lines(NOW)
    found = [listed for line in text.splitlines() if (listed := lines.feed(line)) is not None]
    assert "\n".join(map(meaning, found)) == expected
    assert lines.unknown == 0


@pytest.mark.parametrize(
    "line",
    ["", "total 12", "ls: cannot open directory", "-rw-r--r--", "-rw-r--r-- 1 o g x Jan 1 2020 y", "+", "+r,\t",
     "-rw-r--r--   1 o g    7 Jan 32  2020 x", "-rw-r--r--   1 o g    7 Jan  1  2020 ", "99-99-99  05:36AM  1 x"],
)  # fmt: skip
def test_what_is_no_entry(line: str) -> None:
    assert parse_list(line, NOW) is None


def test_headings_are_not_unknown() -> None:
    assert is_heading("total 12")
    assert is_heading("  ")
    assert not is_heading("somebody's own format")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("type=file;size=3;modify=20240229010203; a; b=c", Listed("a; b=c", FILE, 3, at(2024, 2, 29, 1, 2, 3), SECOND)),
        ("Type=file;Size=3;Modify=20240229010203.25; x",
         Listed("x", FILE, 3, at(2024, 2, 29, 1, 2, 3) + 250_000_000, 10_000_000)),
        ("type=dir;modify=20240229010203;  lead", Listed(" lead", FOLDER, None, at(2024, 2, 29, 1, 2, 3), SECOND)),
        ("type=OS.unix=slink:/t;size=3; l", Listed("l", LINK, 3, None, SECOND, target="/t")),
        ("type=OS.unix=chr-1/3; dev", Listed("dev", None)),
        ("size=3; untyped", Listed("untyped", FILE, 3)),
        ("type=file;size=-3;modify=notime; odd", Listed("odd", FILE)),
    ],
)  # fmt: skip
def test_mlsd_lines(line: str, expected: Listed) -> None:
    assert parse_mlsx(line) == expected


def test_a_listing_leaves_out_the_directory_itself() -> None:
    for line in ("type=cdir; /x", "type=pdir; ..", "nothing", ""):
        assert parse_mlsx(line) is None
    itself = parse_mlsx("type=cdir; /x", single=True)
    assert itself is not None
    assert itself.kind is FOLDER


def test_stamps() -> None:
    assert parse_stamp("19700101000000") == (0, SECOND)
    assert parse_stamp("191000101000000") == (at(2000, 1, 1), SECOND)
    assert parse_stamp("20241301000000") is None
    assert parse_stamp("2024") is None
    assert format_stamp(-1) == "19691231235959"


@given(st.integers(-(60 * 10**9), 250 * 10**9).map(lambda seconds: seconds * SECOND))
def test_stamps_come_back(mtime_ns: int) -> None:
    assert parse_stamp(format_stamp(mtime_ns)) == (mtime_ns, SECOND)


@given(st.text(max_size=200))
def test_no_line_breaks_the_parsers(line: str) -> None:
    parse_list(line, NOW)
    parse_list("-rw-r--r-- 1 o g 7 " + line, NOW)
    parse_mlsx(line)

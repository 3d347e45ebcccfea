"""Listings read a block at a time say what they say line by line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountcore.remotes.encoding import NameEncoding
from mountcore.remotes.ftp.bulk import Done, FactLines, UsualLines
from mountcore.remotes.ftp.listing import Lines, Listed, parse_mlsx
from mountcore.remotes.protocol import Entry, Kind

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_characters="\n\r\0"), min_size=1, max_size=12) | st.sampled_from(
    [".", "..", " ", "a ", "a/b", "␊", "‛", "a -> b", "total 3", "é", "\udcff", "x;y=1; z"]
)
ENCODINGS = [NameEncoding(), NameEncoding.parse("None"), NameEncoding.parse("LeftPeriod"), NameEncoding.parse("Hash")]


def slowly(names: NameEncoding, listed: list[Listed]) -> list[Entry]:
    """As `entries_of` does it."""
    found = []
    for line in listed:
        name = names.decode(line.name)
        if line.name in ("", ".", "..") or line.kind is None or name is None or "/" in name or name in ("", ".", ".."):
            continue
        size = line.size or 0 if line.kind is Kind.FILE else 0
        found.append(Entry(name, line.kind, size, line.mtime_ns, line.resolution_ns, target=line.target))
    return found


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("--dl"), st.integers(0, 1 << 40), st.sampled_from(["Nov 26 01:02", "Feb  3  2021",
                  "Feb 30 2020", "Mar 12 00:00"]), NAMES), min_size=1, max_size=6
    ),
    heading=st.booleans(),
    names=st.sampled_from(ENCODINGS),
)  # fmt: skip
def test_lines_of_ls(rows: list[tuple[str, int, str, str]], heading: bool, names: NameEncoding) -> None:
    lines = ["total 8"] * heading + [
        f"{kind}rw-r--r--   1 ftp ftp {size:9} {date} {name}" for kind, size, date, name in rows
    ]
    done = UsualLines(names, NOW, 0).read("\n".join(lines))
    if done is not None:
        assert done == slowly(names, Lines(NOW).feed_all(lines))


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["file", "dir", "cdir", "pdir", "File", "OS.unix=slink:/x", ""]),
                  st.integers(0, 1 << 40), st.sampled_from(["20240101000000", "20240101000000.5", "nonsense"]), NAMES),
        min_size=1, max_size=6,
    ),
    order=st.permutations(["type", "size", "sizd", "modify", "Perm"]),
    names=st.sampled_from(ENCODINGS),
)  # fmt: skip
def test_lines_of_facts(rows: list[tuple[str, int, str, str]], order: list[str], names: NameEncoding) -> None:
    lines = []
    for kind, size, modify, name in rows:
        facts = {"type": kind, "modify": modify, "Perm": "adfr"}
        if kind != "dir":
            facts["size"] = str(size)
        elif size % 2:
            facts["sizd"] = "4096"
        lines.append("".join(f"{fact}={facts[fact]};" for fact in order if fact in facts) + f" {name}")
    done = FactLines(names).read("\n".join(lines))
    if done is not None:
        assert done == slowly(names, [listed for line in lines if (listed := parse_mlsx(line)) is not None])


@pytest.mark.parametrize("offset", [0, 3600 * 10**9])
def test_what_servers_send_is_read_so(offset: int) -> None:
    text = "\n".join(f"-rw-r--r--    1 1        1          {n} Nov 26 01:0{n} file number {n}.txt" for n in range(9))
    done = UsualLines(NameEncoding(), NOW, offset).read(text)
    assert isinstance(done, Done)
    assert len(done) == 9
    first = Lines(NOW).feed_all(text.split("\n"))[0]
    assert first.mtime_ns is not None
    assert done[0].mtime_ns == first.mtime_ns - offset
    reader = FactLines(NameEncoding())
    for shape in ("type=file;size={n};modify=20240101000000;", "modify=20240101000000;perm=r;size={n};type=file;"):
        mixed = ["type=cdir;sizd=4096;modify=20240101000000; ."] if shape.startswith("type") else []
        text = "\n".join([*mixed, *(shape.format(n=n) + f" name {n}" for n in range(9))])
        found = reader.read(text)
        assert found is not None
        assert [(entry.name, entry.size) for entry in found] == [(f"name {n}", n) for n in range(9)]


def test_folders_alone_teach_as_much_as_they_can() -> None:
    """What Pure-FTPd and proftpd say of folders: no size, or one by another name."""
    reader = FactLines(NameEncoding())
    for size in ("", "sizd=4096;") * 10:
        folders = [f"type=dir;{size}modify=20240101000000;unique=a{n}; d{n}" for n in range(3)]
        found = reader.read("\n".join(["type=cdir;modify=20240101000000; .", *folders]))
        assert found is not None
        assert [(entry.name, entry.kind) for entry in found] == [(f"d{n}", Kind.DIRECTORY) for n in range(3)]
    found = reader.read("type=file;size=7;modify=20240101000000;unique=b; f\ntype=dir;modify=20240101000000; d")
    assert found is not None
    assert [(entry.name, entry.size) for entry in found] == [("f", 7), ("d", 0)]

"""Listings a block at a time: what almost every server sends is read by one regular expression, many lines at once.

A directory of many thousand names costs mostly the steps for each of its lines. Where every line of a block is of the
usual form, and no name in it needs a second look, entries are made of the whole block; otherwise the answer is None,
and the block goes line by line (:mod:`.listing`), with the same result.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, final

from ..partials import MARK
from ..protocol import Entry, Kind
from .dialects import USUAL, usual_time
from .listing import MINUTE, parse_mlsx, parse_stamp

if TYPE_CHECKING:
    from ..encoding import NameEncoding

_USUAL = re.compile(
    r"^([-d])[-rwxsStT]{9}[+.@]? +\d+ +\S+ +\S+ +(\d+) ([A-Z][a-z]{2} +\d{1,2} +(?:\d{2}:\d{2}|\d{4})) (.+)$", re.M
)
_HEADING = re.compile(r"total \d+(?:\n|\Z)")
_KINDS = {"file": Kind.FILE, "dir": Kind.DIRECTORY, "cdir": None, "pdir": None}
_WANTED = {"type": "([a-z]*)", "size": "([0-9]*)", "sizd": "([0-9]*)", "modify": "([0-9.]*)"}
"""``sizd``: what Pure-FTPd says of folders in place of ``size``."""
_OTHER = r"[^;\n]*"
_SHAPES = 8
"""Forms of MLSD lines that are learned from one server; those of a sane one are one or two."""
_SUMMER = 60 * MINUTE
_SELF = (".", "..")


@final
class Done(list[Entry]):
    """Entries as they are to be: names decoded, times in UTC; files and directories only."""

    odd = False
    """Whether names of ours may be among them."""


@final
class UsualLines:
    """Lines of ``ls -l`` from a server whose distance from UTC is known."""

    def __init__(self, names: NameEncoding, now: datetime, offset_ns: int) -> None:
        self._names = names
        self._now = now
        self._offset = offset_ns
        self._dates: dict[str, tuple[int, int]] = {}

    def read(self, text: str) -> Done | None:
        """The entries of a block of whole lines, which end in LF."""
        if not self._names.leaves_alone(text):
            return None
        heading = _HEADING.match(text)
        rows = _USUAL.findall(text)
        if len(rows) + (heading is not None) != text.count("\n") + 1:
            return None
        done, dates = Done(), self._dates
        done.odd = MARK in text
        add, file, directory = done.append, Kind.FILE, Kind.DIRECTORY
        for letter, size, date, name in rows:
            when = dates.get(date)
            if when is None and (when := self._time(date)) is None:
                return None
            if name in _SELF:
                continue
            if letter == "-":
                add(Entry(name, file, int(size), when[0], when[1]))
            else:
                add(Entry(name, directory, 0, when[0], when[1]))
        return done

    def _time(self, date: str) -> tuple[int, int] | None:
        usual = USUAL.fullmatch(f"-rw-r--r-- 1 u g 0 {date} x")
        found = usual_time(usual, self._now) if usual else None
        if found is None:
            return None
        if self._offset:
            found = found[0] - self._offset, found[1] + _SUMMER
        self._dates[date] = found
        return found


@final
class FactLines:
    """Lines of MLSD. One is kept for all listings of a server: it learns in which order the server gives its facts."""

    def __init__(self, names: NameEncoding) -> None:
        self._names = names
        self._shape: re.Pattern[str] | None = None
        self._places: tuple[int, int | None, int] = (0, None, 0)
        self._learned = 0
        self._times: dict[str, tuple[int, int]] = {}

    def read(self, text: str) -> Done | None:
        """The entries of a block of whole lines, which end in LF."""
        if self._learned > _SHAPES or not self._names.leaves_alone(text):
            return None
        done = self._entries(text)
        return self._entries(text) if done is None and self._learn(text) else done

    def _entries(self, text: str) -> Done | None:
        rows = self._shape.findall(text) if self._shape is not None else ()
        if len(rows) != text.count("\n") + 1:
            return None
        done, times = Done(), self._times
        done.odd = MARK in text
        add, kinds, file, directory = done.append, _KINDS, Kind.FILE, Kind.DIRECTORY
        what, length, modify = self._places
        for row in rows:
            kind = kinds.get(row[what], False)
            name = row[-1]
            if kind is None or name in _SELF:
                continue
            when = times.get(row[modify]) or self._time(row[modify])
            if when is None:
                return None
            if kind is file and length is not None and row[length]:
                add(Entry(name, file, int(row[length]), when[0], when[1]))
            elif kind is directory:
                add(Entry(name, directory, 0, when[0], when[1]))
            else:
                return None
        return done

    def _time(self, modify: str) -> tuple[int, int] | None:
        found = parse_stamp(modify)
        if found is not None:
            if len(self._times) > 50_000:
                self._times.clear()
            self._times[modify] = found
        return found

    def _learn(self, text: str) -> bool:
        """The order of facts, from the line of a block that has most of them; each but the type may be missing in
        others. Where there are only folders, it may be that none has a size: a file teaches more. Answers whether it
        is another than before."""
        sample = max(text.split("\n"), key=lambda line: line.partition(" ")[0].count(";"))
        facts = [fact.partition("=")[0] for fact in sample.partition(" ")[0].split(";") if "=" in fact]
        wanted = ["size" if fact == "sizd" else fact for fact in map(str.lower, facts) if fact in _WANTED]
        if (
            sorted(wanted) not in (["modify", "size", "type"], ["modify", "type"])
            or parse_mlsx(sample, single=True) is None
        ):
            return False
        parts = []
        last = max(number for number, fact in enumerate(facts) if fact.lower() in _WANTED)
        for fact in facts[: last + 1]:
            name = "siz[ed]" if fact.lower() in ("size", "sizd") else re.escape(fact)
            part = f"{name}={_WANTED.get(fact.lower(), _OTHER)};"
            parts.append(part if fact.lower() == "type" else f"(?:{part})?")
        before, self._shape = self._shape, re.compile(f"^{''.join(parts)}[^ \\n]* (.+)$", re.M)
        if self._shape == before:
            return False
        self._learned += 1
        length = wanted.index("size") if "size" in wanted else None
        self._places = wanted.index("type"), length, wanted.index("modify")
        return True

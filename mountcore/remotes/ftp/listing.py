"""Listings: MLSD facts (RFC 3659 §7), and LIST in whatever dialect. Pure; the dialects are in :mod:`.dialects`.

Times: MLSD and EPLF are UTC and exact to a second or better. LIST lines are in the server's local time, and exact to
a minute, or to a day for files older than half a year.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import final

from ..protocol import Kind
from .dialects import DAY, DIALECTS, MINUTE, SECOND, USUAL, Listed, epoch, unix, unix_entry, usual_time, vms

__all__ = [
    "DAY",
    "MINUTE",
    "SECOND",
    "Lines",
    "Listed",
    "format_stamp",
    "is_heading",
    "parse_list",
    "parse_mlsx",
    "parse_stamp",
]
_STAMP = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:\.(\d{1,9}))?")


def parse_stamp(text: str) -> tuple[int, int] | None:
    """``YYYYMMDDHHMMSS[.sss]`` (MDTM, MLSD, MFMT; UTC) as nanoseconds and their resolution."""
    if len(text) == 14 and text.isdecimal() and text.isascii():
        whole = epoch(int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[8:10]), int(text[10:12]))
        return None if whole is None or text[12] > "6" else ((whole + min(int(text[12:]), 59)) * SECOND, SECOND)
    match = _STAMP.fullmatch(text.strip())
    if not match:
        if text.startswith("191") and len(text) > 14:  # the year 2000 as "19100": old wu-ftpd
            return parse_stamp(f"{1900 + int(text[2:5])}{text[5:]}") if text[:5].isdecimal() else None
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    seconds = epoch(year, month, day, hour, minute, min(second, 59))
    if seconds is None:
        return None
    digits = match[7] or ""
    return seconds * SECOND + int((digits + "0" * 9)[:9]), SECOND // 10 ** len(digits)


def format_stamp(mtime_ns: int) -> str:
    """The time for MFMT and MDTM: whole seconds, UTC."""
    return _formatted(mtime_ns // SECOND)


@lru_cache(16)
def _formatted(seconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y%m%d%H%M%S}".rjust(14, "0")


_TYPE, _SIZE, _MODIFY = (re.compile(f"(?:^|;){fact}=([^;]*)", re.IGNORECASE) for fact in ("type", "size", "modify"))


def parse_mlsx(line: str, *, single: bool = False) -> Listed | None:
    """One line of MLSD, or (``single``) the middle line of MLST: ``type=file;size=3;modify=20240101000000; name``.

    In a listing ``cdir`` and ``pdir`` are "." and ".." and no entries; an MLST answer may call itself so.
    """
    facts_text, space, name = line.partition(" ")
    if not space or not name:
        return None
    found = _TYPE.search(facts_text)
    what = found[1] if found else "file"
    kind: Kind | None
    target = ""
    match what.lower().partition(":")[0]:
        case "file":
            kind = Kind.FILE
        case "dir":
            kind = Kind.DIRECTORY
        case "cdir" | "pdir" if single:
            kind = Kind.DIRECTORY
        case "cdir" | "pdir":
            return None
        case "os.unix=slink" | "os.unix=symlink":
            kind, target = Kind.SYMLINK, what.partition(":")[2]
        case _:
            kind = None
    modify, length = _MODIFY.search(facts_text), _SIZE.search(facts_text)
    stamp = parse_stamp(modify[1]) if modify else None
    size = length[1] if length else ""
    return Listed(
        name,
        kind,
        int(size) if size.isdecimal() else None,
        stamp[0] if stamp else None,
        stamp[1] if stamp else SECOND,
        target=target,
    )


_HEADINGS = re.compile(
    r"\s*|total:?\s.*|(?:insgesamt|totalt?|razem|итого|合計|总用量|總計|합계):?\s\d+.*|\s*volume\s+unit\s.*|\s*name\s+vv\.mm\s.*"
    r"|directory\s+\S*[\[:].*|\s*size\s+date\s+time\s+name.*|-+\s+-+.*|file\s+code\s+eof\s.*",
    re.IGNORECASE,
)
_MLSX_AS_LIST = re.compile(r"(?:[A-Za-z][\w.-]*=[^;]*;)+ ")
_VMS_NAME = re.compile(r"[^\s;]+;\d+\s*")


def is_heading(line: str) -> bool:
    """Whether a LIST line is known to carry no entry: blank, ``total 12``, the head of a table."""
    return _HEADINGS.fullmatch(line) is not None


def parse_list(line: str, now: datetime) -> Listed | None:
    """One line of LIST in any dialect known here; ``now`` (UTC) is for dates that leave out the year."""
    for dialect in DIALECTS:
        listed = dialect(line, now)
        if listed is not None:
            return listed
    return parse_mlsx(line) if _MLSX_AS_LIST.match(line) else None


@final
class Lines:
    """The lines of one LIST, in turn. Some entries take two; old versions of a file (VMS) are none."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._begun = ""
        self._versions: set[str] = set()
        self._dates: dict[tuple[str | None, ...], tuple[int, int]] = {}
        self._dialect = DIALECTS[0]
        self.understood = 0
        self.unknown = 0
        """Lines that are neither entries nor headings."""

    @property
    def at_start(self) -> bool:
        """Whether the next line may be one like ``ls -l`` has."""
        return self._dialect is unix and not self._begun

    def feed_all(self, lines: list[str]) -> list[Listed]:
        """The entries that these lines end."""
        found: list[Listed] = []
        for line in lines:
            if self._dialect is unix and not self._begun and (usual := USUAL.fullmatch(line)):
                letter, size, *date, name = usual.groups()
                key = tuple(date)
                when = self._dates.get(key)
                if when is None and (when := usual_time(usual, self._now)) is not None:
                    self._dates[key] = when
                if when is not None:
                    found.append(unix_entry(letter, int(size), when, name))
                    self.understood += 1
                    continue
            if (listed := self.feed(line)) is not None:
                found.append(listed)
        return found

    def feed(self, line: str) -> Listed | None:
        """The entry that this line ends, or None."""
        if self._begun:
            line, self._begun = f"{self._begun} {line.lstrip()}", ""
        listed = None
        for dialect in (self._dialect, *DIALECTS):
            listed = dialect(line, self._now)
            if listed is not None:
                self._dialect = dialect
                break
        if listed is None and _VMS_NAME.fullmatch(line):  # a long name has a line of its own
            self._begun = line.strip()
            return None
        if listed is None and _MLSX_AS_LIST.match(line):
            listed = parse_mlsx(line)
        elif listed is None:
            self.unknown += not is_heading(line)
        if listed is None:
            return None
        self.understood += 1
        if self._dialect is vms:
            if listed.name in self._versions:
                return None
            self._versions.add(listed.name)
        return listed

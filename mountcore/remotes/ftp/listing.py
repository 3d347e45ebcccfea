"""Listings: MLSD facts (RFC 3659 §7) and the many faces of LIST. Pure.

Every parser takes one line, already decoded, and answers a `Listed` or None for a line that is no entry.
Times: MLSD and EPLF are UTC and exact to a second or better. LIST lines are in the server's local time,
which LIST does not tell, and exact to a minute, or to a day for files older than half a year; they are read
here as if UTC and marked `local`, for the caller to correct.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..protocol import Kind

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Listed:
    """What one line says. ``name`` is still in wire encoding; ``kind`` None is something we do not show."""

    name: str
    kind: Kind | None
    size: int | None = None
    mtime_ns: int | None = None
    resolution_ns: int = SECOND
    local: bool = False
    target: str = ""


_STAMP = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:\.(\d{1,9}))?")


def parse_stamp(text: str) -> tuple[int, int] | None:
    """``YYYYMMDDHHMMSS[.sss]`` (MDTM, MLSD, MFMT; UTC) as nanoseconds and their resolution."""
    match = _STAMP.fullmatch(text.strip())
    if not match:
        if text.startswith("191") and len(text) > 14:  # the year 2000 as "19100": old wu-ftpd
            return parse_stamp(f"{1900 + int(text[2:5])}{text[5:]}") if text[:5].isdecimal() else None
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    seconds = _epoch(year, month, day, hour, minute, min(second, 59))
    if seconds is None:
        return None
    digits = match[7] or ""
    return seconds * SECOND + int((digits + "0" * 9)[:9]), SECOND // 10 ** len(digits)


def format_stamp(mtime_ns: int) -> str:
    """The time for MFMT and MDTM: whole seconds, UTC."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=mtime_ns // SECOND)
    return f"{moment:%Y%m%d%H%M%S}".rjust(14, "0")


def parse_mlsx(line: str, *, single: bool = False) -> Listed | None:
    """One line of MLSD, or (``single``) the middle line of MLST: ``type=file;size=3;modify=20240101000000; name``.

    In a listing ``cdir`` and ``pdir`` are "." and ".." and no entries; an MLST answer may call itself so.
    """
    facts_text, space, name = line.partition(" ")
    if not space or not name:
        return None
    facts = {}
    for fact in facts_text.split(";"):
        key, equals, value = fact.partition("=")
        if equals:
            facts[key.lower()] = value
    what = facts.get("type", "file")
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
    stamp = parse_stamp(facts.get("modify", ""))
    size = facts.get("size", "")
    return Listed(
        name,
        kind,
        int(size) if size.isdecimal() else None,
        stamp[0] if stamp else None,
        stamp[1] if stamp else SECOND,
        target=target,
    )


def is_understood_nothing(line: str) -> bool:
    """Whether a LIST line is known to carry no entry: blank, or ``total 12``."""
    return not line.strip() or re.fullmatch(r"total:? \d+.*", line, re.IGNORECASE) is not None


def parse_list(line: str, now: datetime) -> Listed | None:
    """One line of LIST in any dialect known here; ``now`` (UTC) is for dates that leave out the year."""
    if line.startswith("+"):
        return _eplf(line)
    if line[:1].isdigit():
        return _dos(line)
    return _unix(line, now)


_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_UNIX_DATE = re.compile(
    r"\s(?:"
    r"(?P<month>[A-Za-z]{3})\.?\s+(?P<day>\d{1,2})\s+(?:(?P<hour>\d{1,2}):(?P<minute>\d{2})|(?P<year>\d{4}))"
    r"|(?P<day2>\d{1,2})\.?\s(?P<month2>[A-Za-z]{3})\s+(?:(?P<hour2>\d{1,2}):(?P<minute2>\d{2})|(?P<year2>\d{4}))"
    r"|(?P<iso>\d{4}-\d{2}-\d{2})\s(?P<isohour>\d{2}):(?P<isominute>\d{2})(?::\d{2}(?:\.\d+)?(?:\s[+-]\d{4})?)?"
    r")\s"
)
_UNIX_TYPES = {"-": Kind.FILE, "f": Kind.FILE, "d": Kind.DIRECTORY, "l": Kind.SYMLINK}
_UNIX_HEAD = re.compile(r"(?:[-fdlbcpsDn?][-rwxsStTlLyY?]{9}|[-d]\s?\[[-A-Z]{8}\])")


def _unix(line: str, now: datetime) -> Listed | None:
    """``ls -l`` with or without link count, group and ACL mark; NetWare's bracketed rights."""
    head = _UNIX_HEAD.match(line)
    if not head:
        return None
    for date in _UNIX_DATE.finditer(line, head.end()):
        before = line[head.end() : date.start()].split()
        if not before or not before[-1].isdecimal():
            continue
        when = _unix_time(date, now)
        name = line[date.end() :]
        if when is None or not name:
            continue
        kind, target = _UNIX_TYPES.get(line[0]), ""
        if kind is Kind.SYMLINK:
            name, _, target = name.partition(" -> ")
        return Listed(name, kind, int(before[-1]), when[0], when[1], True, target)
    return None


def _unix_time(date: re.Match[str], now: datetime) -> tuple[int, int] | None:
    if date["iso"]:
        year, month, day = (int(part) for part in date["iso"].split("-"))
        moment = _epoch(year, month, day, int(date["isohour"]), int(date["isominute"]))
        return None if moment is None else (moment * SECOND, MINUTE)
    month = _MONTHS.get((date["month"] or date["month2"]).lower(), 0)
    day = int(date["day"] or date["day2"])
    if written := date["year"] or date["year2"]:
        moment = _epoch(int(written), month, day)
        return None if moment is None else (moment * SECOND, DAY)
    hour, minute = int(date["hour"] or date["hour2"]), int(date["minute"] or date["minute2"])
    # no year: the last time that this date was; a day ahead is the server's time zone or clock
    latest = int((now + timedelta(days=1)).timestamp())
    for year in range(now.year + 1, now.year - 9, -1):  # nine years reach a 29 February
        moment = _epoch(year, month, day, hour, minute)
        if moment is not None and moment <= latest:
            return moment * SECOND, MINUTE
    return None


_DOS = re.compile(
    r"(\d{1,4})[-/.](\d{1,2})[-/.](\d{2,4})\s+(\d{1,2}):(\d{2})(?::\d{2})?\s?([AaPp])?[Mm]?\s+"
    r"(?:(<DIR>|<JUNCTION>|<SYMLINKD?>)(?: {10}|\s+)|([\d,.]+)\s)(.+)"
)


def _dos(line: str) -> Listed | None:
    """IIS and friends: ``11-21-23  05:36AM  <DIR>  name``; month first, or an ISO date; 12 or 24 hours."""
    match = _DOS.fullmatch(line)
    if not match:
        return None
    a, b, c, hour, minute = (int(part) for part in match.groups()[:5])
    year, month, day = (a, b, c) if len(match[1]) == 4 else (c, a, b)
    if len(match[1]) != 4 and month > 12:
        month, day = day, month
    if year < 100:
        year += 2000 if year < 70 else 1900
    if match[6]:
        hour = hour % 12 + (12 if match[6] in "pP" else 0)
    moment = _epoch(year, month, day, hour, minute)
    if moment is None:
        return None
    if match[7]:
        kind = Kind.DIRECTORY if match[7] in ("<DIR>", "<JUNCTION>", "<SYMLINKD>") else Kind.SYMLINK
        return Listed(match[9], kind, None, moment * SECOND, MINUTE, True)
    size = int(re.sub(r"[,.]", "", match[8]) or 0)
    return Listed(match[9], Kind.FILE, size, moment * SECOND, MINUTE, True)


def _eplf(line: str) -> Listed | None:
    """``+i8388621.48594,m825718503,r,s280,<TAB>name`` (cr.yp.to/ftp/list/eplf.html); times are UTC."""
    facts, tab, name = line[1:].partition("\t")
    if not tab or not name:
        return None
    kind, size, mtime = None, None, None
    for fact in facts.split(","):
        if fact == "/":
            kind = Kind.DIRECTORY
        elif fact == "r":
            kind = Kind.FILE
        elif fact[:1] == "s" and fact[1:].isdecimal():
            size = int(fact[1:])
        elif fact[:1] == "m" and fact[1:].isdecimal():
            mtime = int(fact[1:]) * SECOND
    return Listed(name, kind, size, mtime)


def _epoch(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int | None:
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        return None

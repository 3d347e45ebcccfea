"""The dialects of LIST, each as a function from a line to what it says, or None. Pure.

LIST was never specified; these are the forms in the documentation of the servers, and what they send. Times are in
the server's local time, which LIST does not tell; they are read as if UTC and marked ``local``, for the caller to
correct. A size of None is one that the dialect does not tell, or only in blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ..protocol import Kind
from .months import month_of

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND


@dataclass(slots=True)
class Listed:
    """What one line says. ``name`` is still in wire encoding; ``kind`` None is something we do not show."""

    name: str
    kind: Kind | None
    size: int | None = None
    mtime_ns: int | None = None
    resolution_ns: int = SECOND
    local: bool = False
    target: str = ""


@lru_cache(4096)
def epoch(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int | None:
    """Seconds since 1970 of a date read as UTC; None where there is no such date."""
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _century(year: int) -> int:
    return year if year >= 100 else year + (2000 if year < 70 else 1900)


def _number(text: str) -> int | None:
    """A size, perhaps with separators between its thousands."""
    if text.isdecimal():
        return int(text)
    return int(re.sub(r"\D", "", text)) if re.fullmatch(r"\d{1,3}(?:[.,'’]\d{3})+", text) else None


# Unix

_WORD = r"[^\s\d:/.-][^\s\d:/-]{1,9}"
_COUNTED = r"\d{1,2}[月월]"
_CLOCK = (
    r"(?P<hour{0}>\d{{1,2}})[:.](?P<minute{0}>\d{{2}})(?::\d{{2}}(?:\s(?P<after{0}>\d{{4}}))?)?|(?P<year{0}>\d{{4}})"
)
_UNIX_DATE = re.compile(
    r"\s(?:"
    rf"(?:(?:{_WORD}\s+)?(?P<month>{_WORD}|{_COUNTED})\s+(?P<day>\d{{1,2}})[日일]?,?\s+(?:{_CLOCK.format('')})[年년]?)"
    rf"|(?:(?P<day2>\d{{1,2}})\.?[\s-](?P<month2>{_WORD})[\s-]+(?:{_CLOCK.format('2')}))"
    r"|(?P<iso>\d{4}[-/]\d{1,2}[-/]\d{1,2})(?:\s(?P<isohour>\d{1,2}):(?P<isominute>\d{2})(?::\d{2}(?:\.\d+)?)?"
    r"(?:\s[+-]\d{4})?)?"
    r"|(?P<nomonth>\d{2})-(?P<noday>\d{2})\s(?P<nohour>\d{2}):(?P<nominute>\d{2})"
    r")\s"
)
_UNIX_TYPES = {"-": Kind.FILE, "f": Kind.FILE, "d": Kind.DIRECTORY, "l": Kind.SYMLINK}
_NETWARE = re.compile(r"[-d]\s?\[[-A-Z]{8}\]")
_UNIX_HEAD = re.compile(r"(?:\s*\d+\s+){0,2}([-fdlbcpsDnS?][-rwxsStTlLyY?]{9})[+.@]?(?=[\s\d])")
#: what almost every server sends, in one step
USUAL = re.compile(
    r"([-dl])[-rwxsStT]{9}[+.@]?\s+\d+\s+\S+\s+\S+\s+(\d+)\s([A-Z][a-z]{2})\s+(\d{1,2})\s+"
    r"(?:(\d{2}):(\d{2})|(\d{4}))\s(.+)", re.DOTALL
)  # fmt: skip


def unix(line: str, now: datetime) -> Listed | None:
    """``ls -l``: with or without inode, link count, group and ACL mark, in many languages; also MacOS servers'
    (``folder``, two more sizes) and NetWare's bracketed rights."""
    usual = USUAL.fullmatch(line)
    if usual and (when := usual_time(usual, now)) is not None:
        return unix_entry(usual[1], int(usual[2]), when, usual[8])
    head = _NETWARE.match(line) or _UNIX_HEAD.match(line)
    if not head:
        return None
    kind = (head[1] if head.re is _UNIX_HEAD else line)[0]
    at = head.end()
    while date := _UNIX_DATE.search(line, at):
        before = line[head.end() : date.start()].split()
        size = _number(before[-1]) if before else None
        found = _unix_time(date, now)
        name = line[date.end() :]
        if size is not None and found is not None and name:
            return unix_entry(kind, size, found, name.lstrip() if head.re is _NETWARE else name)
        at = date.start() + 1
    return None


def usual_time(usual: re.Match[str], now: datetime) -> tuple[int, int] | None:
    """The time, and its resolution, in a match of :data:`USUAL`."""
    month = month_of(usual[3])
    if month is None:
        return None
    if usual[7]:
        written = epoch(int(usual[7]), month, int(usual[4]))
        return None if written is None else (written * SECOND, DAY)
    return _guessed(now, month, int(usual[4]), int(usual[5]), int(usual[6]))


def unix_entry(letter: str, size: int, when: tuple[int, int], name: str) -> Listed:
    """What a line of ``ls -l`` says."""
    kind, target = _UNIX_TYPES.get(letter), ""
    if kind is Kind.SYMLINK:
        name, _, target = name.partition(" -> ")
    return Listed(name, kind, size, when[0], when[1], True, target)


def _unix_time(date: re.Match[str], now: datetime) -> tuple[int, int] | None:
    if date["iso"]:
        year, month, day = (int(part) for part in re.split("[-/]", date["iso"]))
        moment = epoch(year, month, day, int(date["isohour"] or 0), int(date["isominute"] or 0))
        return None if moment is None else (moment * SECOND, MINUTE if date["isohour"] else DAY)
    if date["nomonth"]:
        return _guessed(now, *(int(date[part]) for part in ("nomonth", "noday", "nohour", "nominute")))
    number = month_of(date["month"] or date["month2"])
    if number is None:
        return None
    which = "" if date["month"] else "2"
    day, written, after = int(date["day" + which]), date["year" + which], date["after" + which]
    if written:
        moment = epoch(int(written), number, day)
        return None if moment is None else (moment * SECOND, DAY)
    hour, minute = int(date["hour" + which]), int(date["minute" + which])
    if after:
        moment = epoch(int(after), number, day, hour, minute)
        return None if moment is None else (moment * SECOND, MINUTE)
    return _guessed(now, number, day, hour, minute)


def _guessed(now: datetime, month: int, day: int, hour: int, minute: int) -> tuple[int, int] | None:
    """No year: the last time that this date was; a day ahead is the server's time zone or clock."""
    latest = int((now + timedelta(days=1)).timestamp())
    for year in range(now.year + 1, now.year - 9, -1):  # nine years reach a 29 February
        moment = epoch(year, month, day, hour, minute)
        if moment is not None and moment <= latest:
            return moment * SECOND, MINUTE
    return None


# DOS and its kin

_DOS = re.compile(
    r"(\d{1,4})([-/.])(\d{1,2})[-/.](\d{2,4})\s+(\d{1,2}):(\d{2})(?::\d{2})?\s?([AaPp])?[Mm]?\s+"
    r"(?:(<DIR>|<JUNCTION>|<SYMLINKD?>)(?: {10}|\s+)|([\d,.]+)\s)(.+)", re.DOTALL
)  # fmt: skip
_OS2 = re.compile(r"\s*(\d+)\s+(?:([A-Z]{1,4})\s+)?(\d{1,2})-(\d{1,2})-(\d{2,4})\s+(\d{1,2}):(\d{2})\s+(.+)", re.DOTALL)
_VXWORKS = re.compile(
    r"\s*(\d+)\s+([A-Za-z]{3})-(\d{2})-(\d{4})\s+(\d{2}):(\d{2}):(\d{2})\s+(\S+)(?:\s+(<DIR>))?\s*", re.DOTALL
)


def dos(line: str, now: datetime) -> Listed | None:
    """IIS and friends: ``11-21-23  05:36AM  <DIR>  name``; month first, day first (with full stops), or year first;
    12 or 24 hours."""
    match = _DOS.fullmatch(line)
    if not match:
        return None
    a, b, c = int(match[1]), int(match[3]), int(match[4])
    year, month, day = (a, b, c) if len(match[1]) == 4 else (c, b, a) if match[2] == "." else (c, a, b)
    if len(match[1]) != 4 and month > 12:
        month, day = day, month
    hour = int(match[5])
    if match[7]:
        hour = hour % 12 + (12 if match[7] in "pP" else 0)
    moment = epoch(_century(year), month, day, hour, int(match[6]))
    if moment is None:
        return None
    name, target = match[10], ""
    if match[8]:
        kind = Kind.DIRECTORY if match[8] in ("<DIR>", "<JUNCTION>", "<SYMLINKD>") else Kind.SYMLINK
        if match[8] != "<DIR>" and name.endswith("]") and " [" in name:
            name, _, target = name[:-1].rpartition(" [")
        return Listed(name, kind, None, moment * SECOND, MINUTE, True, target if kind is Kind.SYMLINK else "")
    return Listed(name, Kind.FILE, int(re.sub(r"[,.]", "", match[9]) or 0), moment * SECOND, MINUTE, True)


def os2(line: str, now: datetime) -> Listed | None:
    """``  612979    A    04-11-95   16:26  name``, with DIR among the attributes of a directory."""
    match = _OS2.fullmatch(line)
    if not match:
        return None
    size, attributes = int(match[1]), match[2] or ""
    month, day, year, hour, minute = (int(match[part]) for part in range(3, 8))
    moment = epoch(_century(year), month, day, hour, minute)
    if moment is None:
        return None
    kind = Kind.DIRECTORY if attributes == "DIR" else Kind.FILE
    return Listed(match[8], kind, size, moment * SECOND, MINUTE, True)


def vxworks(line: str, now: datetime) -> Listed | None:
    """``   512    Jan-01-1980  00:00:00   NAME   <DIR>``."""
    match = _VXWORKS.fullmatch(line)
    month = month_of(match[2]) if match else None
    if not match or month is None:
        return None
    moment = epoch(int(match[4]), month, int(match[3]), int(match[5]), int(match[6]), int(match[7]))
    kind = Kind.DIRECTORY if match[9] else Kind.FILE
    return None if moment is None else Listed(match[8], kind, int(match[1]), moment * SECOND, MINUTE, True)


# the rest

_VMS = re.compile(
    r"([^\s;]+);(\d+)\s+(\d+)(?:/\d+)?\s+(\d{1,2})-([A-Za-z]{3})-(\d{4})\s+(\d{1,2}):(\d{2})(?::\d{2}(?:\.\d+)?)?(?:\s+.*)?"
)
_OS400 = re.compile(
    r"\S+\s+(\d+)\s+(\d{2})/(\d{2})/(\d{2,4})\s+(\d{2}):(\d{2}):(\d{2})\s+(\*[A-Z0-9]+)\s+(\S.*?)/?", re.DOTALL
)
_OS400_BARE = re.compile(r"\S+\s+(\*MEM)\s+(\S.*?)/?")
_NONSTOP = re.compile(
    r"(\S+)\s+\d+\s+(\d+)\s+(\d{1,2})-([A-Za-z]{3})-(\d{2,4})\s+(\d{1,2}):(\d{2}):(\d{2})\s+\d+,\s*\d+\s+\"?[A-Z-]{4}\"?\s*"
)
_MVS = re.compile(
    r"\S+\s+\S+\s+(\d{4})/(\d{2})/(\d{2})\s+\d+\s+\d+\s+[A-Z?]+\s+\d+\s+\d+\s+(PO(?:-E)?|PS|VS|DA)\s+'?([^\s']+)'?\s*"
)
_MVS_MEMBER = re.compile(
    r"\s*([A-Z0-9$#@]{1,8})\s+\d{2}\.\d{2}\s+\d{4}/\d{2}/\d{2}\s+(\d{4})/(\d{2})/(\d{2})\s+(\d{2}):(\d{2})\s+\d+\s+\d+"
    r"\s+\d+\s+\S+\s*"
)
_OS400_FOLDERS = ("*DIR", "*DDIR", "*LIB", "*FLR", "*ALRTBL")


def vms(line: str, now: datetime) -> Listed | None:
    """``NAME.TXT;3   213/216   29-JAN-1996 03:33:12  [OWNER]  (RWED,RWED,,)``: sizes are in blocks."""
    match = _VMS.fullmatch(line)
    month = month_of(match[5]) if match else None
    if not match or month is None:
        return None
    moment = epoch(int(match[6]), month, int(match[4]), int(match[7]), int(match[8]))
    if moment is None:
        return None
    name = match[1]
    if name.upper().endswith(".DIR"):
        return Listed(name[:-4], Kind.DIRECTORY, None, moment * SECOND, MINUTE, True)
    return Listed(name, Kind.FILE, None, moment * SECOND, MINUTE, True)


def os400(line: str, now: datetime) -> Listed | None:
    """``OWNER   77824 02/23/00 15:09:55 *DIR   NAME/``; members have neither size nor time."""
    if bare := _OS400_BARE.fullmatch(line):
        return Listed(bare[2], Kind.FILE)
    match = _OS400.fullmatch(line)
    if not match:
        return None
    a, b, year = int(match[2]), int(match[3]), _century(int(match[4]))
    month, day = (a, b) if a <= 12 else (b, a)
    moment = epoch(year, month, day, int(match[5]), int(match[6]), int(match[7]))
    if moment is None:
        return None
    kind = Kind.DIRECTORY if match[8] in _OS400_FOLDERS else Kind.FILE
    return Listed(match[9], kind, int(match[1]), moment * SECOND, MINUTE, True)


def nonstop(line: str, now: datetime) -> Listed | None:
    """``NAME   101   9594  26-Jan-06 10:33:56  255,255 "OOOO"`` of HP NonStop (Guardian)."""
    match = _NONSTOP.fullmatch(line)
    month = month_of(match[4]) if match else None
    if not match or month is None:
        return None
    moment = epoch(_century(int(match[5])), month, int(match[3]), *(int(match[part]) for part in (6, 7, 8)))
    return None if moment is None else Listed(match[1], Kind.FILE, int(match[2]), moment * SECOND, MINUTE, True)


def mvs(line: str, now: datetime) -> Listed | None:
    """z/OS: data sets (``WORK01 3390 2023/11/21 1 15 FB 80 27920 PO NAME``) and members; sizes are not told."""
    if match := _MVS.fullmatch(line):
        moment = epoch(int(match[1]), int(match[2]), int(match[3]))
        kind = Kind.DIRECTORY if match[4].startswith("PO") else Kind.FILE
        # "referred" is the day of the last use, not of the last change
        return None if moment is None else Listed(match[5], kind)
    if match := _MVS_MEMBER.fullmatch(line):
        moment = epoch(*(int(match[part]) for part in range(2, 7)))
        return None if moment is None else Listed(match[1], Kind.FILE, None, moment * SECOND, MINUTE, True)
    return None


def eplf(line: str, now: datetime) -> Listed | None:
    """``+i8388621.48594,m825718503,r,s280,<TAB>name`` (cr.yp.to/ftp/list/eplf.html); times are UTC."""
    facts, tab, name = line[1:].partition("\t")
    if not line.startswith("+") or not tab or not name:
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


DIALECTS = (unix, dos, eplf, vms, os400, os2, vxworks, nonstop, mvs)
"""In the order in which they are tried."""

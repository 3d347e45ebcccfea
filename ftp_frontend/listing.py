"""What LIST, NLST, MLSD and MLST send: lines, and the producer that makes them piece by piece.

Used by the file commands. A directory is read once, from the core's directory cache; attributes are asked
for in batches while the lines are sent, so that a directory of any length takes little memory.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from mountcore.remotes.protocol import Kind
from mountcore.vfs import Attributes, Node

from .filesystem import BATCH, Found

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HALF_A_YEAR = 180 * 24 * 3600
OWNER = "ftp"
_OPTIONS = re.compile(r"(-[aAlLRrtSshFnC1d]+(?:\s+|$))+")
_LINE_BREAKS = str.maketrans("\r\n\0", "???")

Entry = tuple[str, Node]


def without_options(argument: str) -> tuple[str, str]:
    """What clients write before the path, as if we were ls(1): the letters, and the rest."""
    match = _OPTIONS.match(argument)
    if match is None:
        return "", argument
    return "".join(match[0].split()).replace("-", ""), argument[match.end() :]


def has_pattern(text: str) -> bool:
    """Whether a name may be meant as a pattern."""
    return any(c in text for c in "*?[")


def matching(entries: Sequence[Entry], pattern: str) -> list[Entry]:
    """The entries that a pattern names; as in a shell, not those with a leading dot unless it has one."""
    hidden = pattern.startswith(".")
    return [e for e in entries if fnmatch.fnmatchcase(e[0], pattern) and (hidden or not e[0].startswith("."))]


def encoded(text: str) -> bytes:
    """A line for the data connection; what would end it early is a question mark."""
    if "\n" in text or "\r" in text or "\0" in text:
        text = text.translate(_LINE_BREAKS)
    return text.encode("utf-8", "surrogateescape") + b"\r\n"


def name_line(name: str) -> bytes:
    """A line of NLST."""
    return encoded(name)


def list_line(found: Found, now: float) -> bytes:
    """A line of LIST, like ``ls -lA`` in the C locale, times in UTC."""
    attributes = found.attributes
    seconds = attributes.mtime_ns // 10**9
    when = time.gmtime(seconds)
    recent = -3600 < now - seconds < HALF_A_YEAR
    clock = f"{when.tm_hour:02d}:{when.tm_min:02d}" if recent else f" {when.tm_year}"
    mode, name = stat.filemode(attributes.mode), found.name
    if found.target:
        mode, name = "lrwxrwxrwx", f"{name} -> {found.target}"
    return encoded(
        f"{mode} {attributes.nlink:3d} {OWNER:<8} {OWNER:<8} {attributes.size:>12d} "
        f"{MONTHS[when.tm_mon - 1]} {when.tm_mday:2d} {clock:>5} {name}"
    )


def modify(mtime_ns: int) -> str:
    """A time as MLSD, MDTM and MFMT write it (RFC 3659 §2.3)."""
    year, month, day, hour, minute, second, *_ = time.gmtime(mtime_ns // 10**9)
    return f"{year:04d}{month:02d}{day:02d}{hour:02d}{minute:02d}{second:02d}"


def facts_line(found: Found, facts: Sequence[str], letters: str, name: str | None = None) -> bytes:
    """A line of MLSD (RFC 3659 §7): the wanted facts, a blank, the name."""
    return encoded(f"{facts_of(found, facts, letters)} {found.name if name is None else name}")


def facts_of(found: Found, facts: Sequence[str], letters: str) -> str:
    """The wanted facts, each with its semicolon."""
    attributes, made = found.attributes, ""
    for fact in facts:
        value = _FACTS[fact](attributes)
        if value:
            made += f"{fact}={value};"
        elif fact == "perm":
            made += f"perm={permissions(letters, directory=attributes.kind is Kind.DIRECTORY)};"
    return made


def _type(attributes: Attributes) -> str:
    match attributes.kind:
        case Kind.FILE:
            return "file"
        case Kind.DIRECTORY:
            return "dir"
        case _:
            return "OS.unix=symlink"


_FACTS: Mapping[str, Callable[[Attributes], str]] = {
    "type": _type,
    "size": lambda attributes: "" if attributes.kind is Kind.DIRECTORY else str(attributes.size),
    "modify": lambda attributes: modify(attributes.mtime_ns),
    "perm": lambda attributes: "",  # of the login, not of the file
    "unique": lambda attributes: f"{attributes.inode:x}",
    "UNIX.mode": lambda attributes: f"0{attributes.mode & 0o7777:o}",
    "UNIX.uid": lambda attributes: str(attributes.uid),
    "UNIX.gid": lambda attributes: str(attributes.gid),
}
"""What each fact says; nothing: it is left out."""


@functools.lru_cache(256)
def permissions(letters: str, *, directory: bool) -> str:
    """RFC 3659 §7.5.5 out of pyftpdlib's letters."""
    if not directory:
        return "".join(c for c in letters if c in "adfrw")
    made = "".join(c for c in letters if c in "eldfm")
    return made + ("c" if "w" in letters else "") + ("p" if "d" in letters else "")


@final
class Lines:
    """A producer for pyftpdlib: lines of a listing, a batch at a time."""

    def __init__(
        self,
        entries: Sequence[Entry],
        details: Callable[[Sequence[Entry]], Sequence[Found]],
        line: Callable[[Found], bytes],
    ) -> None:
        self._entries = entries
        self._details = details
        self._line = line
        self._next = 0

    def more(self) -> bytes:
        """The next lines; nothing at the end."""
        data = b""
        while not data and self._next < len(self._entries):
            batch = self._entries[self._next : self._next + BATCH]
            self._next += BATCH
            data = b"".join(map(self._line, self._details(batch)))
        return data


@final
class Names:
    """A producer of NLST: names need no details."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._next = 0

    def more(self) -> bytes:
        """The next names; nothing at the end."""
        batch = self._names[self._next : self._next + 16 * BATCH]
        self._next += 16 * BATCH
        return b"".join(map(name_line, batch))

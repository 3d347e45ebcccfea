"""Replies of FTP servers and what they mean as errors. Pure.

The code alone says little: 550 is a missing file, a missing right, a full directory. Servers that pass on
``strerror`` (pyftpdlib, proftpd, pure-ftpd) are understood by their text; where the text says nothing
(vsftpd: "Could not get file size.") the meaning is `None` and the caller has to ask again.
"""

from __future__ import annotations

import re
from typing import NamedTuple, final

from ...errors import (
    Busy,
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    NameTooLong,
    NoSpace,
    NotDirectory,
    NotEmpty,
    NotFound,
    Quota,
    ReadOnly,
    StorageError,
    TooLarge,
    Unreachable,
    Unsupported,
)


class Reply(NamedTuple):
    """One reply: its code, the text of its last line, and all its lines as they came."""

    code: int
    text: str
    lines: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


UNKNOWN_COMMAND = (500, 502, 504)
"""Codes of a server that does not have the command."""


@final
class ReplyError(Exception):
    """The server answered no. Stays inside this package; `meaning` turns it into one of ours."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


_TEXTS: tuple[tuple[re.Pattern[str], type[StorageError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"not empty", NotEmpty),
        (r"(illegal|invalid|bad|prohibited) (file|path|directory)? ?name|invalid character|byte sequence", InvalidName),
        (r"(name|path)( is)? too long", NameTooLong),
        (r"no such (file|directory|path|object)|not found|does ?n[o']t exist|can ?not find|can't find", NotFound),
        (r"already exists|file exists", Exists),
        (r"not a directory", NotDirectory),
        (r"is a directory|not a (regular|plain) file|not retrievable", IsDirectory),
        (r"read[- ]only file ?system", ReadOnly),
        (r"quota|exceeded storage allocation", Quota),
        (r"no space|disk (is )?full|out of space|insufficient (disk|storage) space", NoSpace),
        (r"file too large|file is too big", TooLarge),
        (r"permission|access (is )?denied|not permitted|not allowed|forbidden|prohibited|privilege|unauthori[sz]ed",
         Denied),
        (r"invalid argument", InvalidName),
    )
)  # fmt: skip
_TOO_MANY = re.compile(
    r"too many|maximum (number )?(of )?|max(imum)? (connections|clients|users)|(connection|user|login|client)s? limit"
    r"|already logged in|sessions? (from|for)|simultaneous",
    re.IGNORECASE,
)
_CODES: dict[int, type[StorageError]] = {
    421: Unreachable,
    425: Unreachable,
    426: Unreachable,
    430: Denied,
    434: Unreachable,
    450: Busy,
    451: Busy,
    452: NoSpace,
    500: Unsupported,
    501: InvalidName,
    502: Unsupported,
    503: Unsupported,
    504: Unsupported,
    530: Denied,
    532: Denied,
    534: Denied,
    552: Quota,
    553: InvalidName,
}


def means_too_many(reply: Reply) -> bool:
    """Whether a refused greeting or login is about the number of connections, not about the user."""
    return reply.code in (421, 530, 550) and _TOO_MANY.search(reply.text) is not None


def meaning(reply: Reply) -> type[StorageError] | None:
    """The error a negative reply stands for, from its text, else its code; None where it may be anything."""
    if reply.code >= 450 and reply.code not in (500, 502, 504, 530):
        for pattern, kind in _TEXTS:
            if pattern.search(reply.text):
                return kind
    return _CODES.get(reply.code)


def error_for(reply: Reply, path: str) -> StorageError:
    """The error to raise when asking again would not tell more."""
    kind = meaning(reply) or (Denied if reply.code >= 500 else Busy)
    return kind(path, str(reply))

"""Names on the wire: what a server cannot hold is replaced as rclone replaces it (the option ``encoding``). Pure.

A control character becomes its Unicode control picture (``\\n`` → ``␊``), a printable one its fullwidth form
(``:`` → ``：``), a space at an end ``␠``; a name that has such a stand-in of its own gets ``‛`` before it. So
a folder can be used with rclone and portside in turn. The words of the ``encoding`` option are rclone's.

Where we differ, because rclone does not read back what it lists (its issues 6098 and 7456): ``‛`` stands
for itself unless a stand-in follows; a character on the server that we would have replaced is shown as ``‛``
and its stand-in, and finds the way back. ``/`` and NUL have no stand-in: neither side can have them.

CR, LF and NUL never reach the wire, whatever the option says: they would end the command.
Bytes that are not UTF-8 pass both ways as surrogates (PEP 383), as in file names of the system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import final

from ..errors import InvalidName, Refused

QUOTE = "‛"
_FULLWIDTH = 0xFEE0
_ANYWHERE: dict[str, str] = {
    "LtGt": "<>",
    "DoubleQuote": '"',
    "SingleQuote": "'",
    "BackQuote": "`",
    "Dollar": "$",
    "Colon": ":",
    "Question": "?",
    "Asterisk": "*",
    "Pipe": "|",
    "Hash": "#",
    "Percent": "%",
    "BackSlash": "\\",
    "SquareBracket": "[]",
    "Semicolon": ";",
    "CrLf": "\r\n",
    "Del": "\x7f",
    "Ctl": "".join(map(chr, range(1, 32))),
}
_FIRST: dict[str, str] = {
    "LeftSpace": " ",
    "LeftPeriod": ".",
    "LeftTilde": "~",
    "LeftCrLfHtVt": "\r\n\t\v",
}
_LAST: dict[str, str] = {
    "RightSpace": " ",
    "RightPeriod": ".",
    "RightCrLfHtVt": "\r\n\t\v",
}
_NOTHING = ("Slash", "Dot", "None", "Raw", "InvalidUtf8")
"""Words that rclone has and that change nothing here: such names cannot exist, or pass as they are."""
DEFAULT = "Slash,Del,Ctl,RightSpace,Dot"


def _picture(char: str) -> str:
    code = ord(char)
    if code <= 32:
        return chr(0x2400 + code)
    return "␡" if code == 127 else chr(code + _FULLWIDTH)


@final
@dataclass(frozen=True, slots=True)
class NameEncoding:
    """One set of replacements, for names (never whole paths)."""

    anywhere: frozenset[str] = frozenset(_ANYWHERE["Ctl"] + "\x7f")
    first: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset(" ")

    remarkable: re.Pattern[str] = field(init=False, repr=False, compare=False)
    """What a name must have in it, or at an end, to be changed either way, or not to be usable at all."""

    _stand_ins: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _printable: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "remarkable", _remarkable(self.anywhere, self.first, self.last))
        every = self.anywhere | self.first | self.last | {"\r", "\n"}
        pictures = "".join(map(re.escape, sorted({QUOTE, *map(_picture, every)})))
        object.__setattr__(self, "_stand_ins", re.compile(f"[{pictures}]"))
        object.__setattr__(self, "_printable", "".join(sorted(c for c in self.anywhere if c.isprintable())) + "/")

    def leaves_alone(self, block: str) -> bool:
        """Whether surely no name in a block of lines, with LF between them and names at their ends, is remarkable ("."
        and ".." aside). Far cheaper than to look at each."""
        if self.first or any(char in block for char in self._printable):
            return False
        if any(char + "\n" in block or block.endswith(char) for char in self.last):
            return False
        if block.isascii():  # five times as fast as str.isprintable
            return not block.encode().translate(None, _PLAIN_ASCII)
        return block.replace("\n", "").isprintable() and not self._stand_ins.search(block)

    @classmethod
    def parse(cls, text: str) -> NameEncoding:
        """From rclone's words, comma separated; "" is the default of rclone's FTP backend."""
        words = [word.strip() for word in (text or DEFAULT).split(",")]
        known = [*_ANYWHERE, *_FIRST, *_LAST, *_NOTHING]
        for word in words:
            if word not in known:
                raise Refused(f"ftp: encoding: {word!r} is not one of {', '.join(sorted(known))}")
        return cls(
            frozenset("\r\n").union(*(_ANYWHERE[w] for w in words if w in _ANYWHERE)),
            frozenset().union(*(_FIRST[w] for w in words if w in _FIRST)),
            frozenset().union(*(_LAST[w] for w in words if w in _LAST)),
        )

    def encode(self, name: str) -> str:
        """The name on the wire. :class:`InvalidName` if the server could not give the same name back."""
        if not self.remarkable.search(name):
            return name
        wire = self._translate(name, to_wire=True)
        if any(c in wire for c in "\r\n\0") or self._translate(wire, to_wire=False) != name:
            raise InvalidName(name, "this mix of replaced characters and ‛ cannot be stored over FTP")
        return wire

    def decode(self, wire: str) -> str | None:
        """The name of a wire name in a listing; None if it could not be addressed again."""
        name = self._translate(wire, to_wire=False)
        return name if self._translate(name, to_wire=True) == wire else None

    def _special(self, char: str, start: int, stop: int, length: int) -> bool:
        return char in self.anywhere or (start == 0 and char in self.first) or (stop == length and char in self.last)

    def _translate(self, text: str, *, to_wire: bool) -> str:
        if not self.remarkable.search(text):
            return text
        length, out, i = len(text), [], 0
        while i < length:
            quoted = text[i] == QUOTE and i + 1 < length
            char = text[i + 1] if quoted else text[i]
            stop = i + (2 if quoted else 1)
            plain = _PLAIN.get(char)
            stand_in = plain is not None and self._special(plain, i, stop, length)
            if quoted and (not stand_in or (to_wire and plain in _NEVER)):
                out.append(QUOTE)
                i += 1
                continue
            if quoted and plain is not None:
                # '‛␊' on the wire is a real '␊'; '‛␊' in a name is a raw '\n' on the wire, where it can be
                out.append(plain if to_wire else char)
            elif stand_in and plain is not None:
                out.append(QUOTE + char if to_wire else plain)
            elif self._special(char, i, stop, length):
                out.append(_picture(char) if to_wire else QUOTE + _picture(char))
            else:
                out.append(char)
            i = stop
        return "".join(out)


def _one_of(chars: frozenset[str]) -> str:
    both = sorted({*chars, *map(_picture, chars)})
    return f"[{''.join(map(re.escape, both))}]" if both else "(?!)"


def _remarkable(anywhere: frozenset[str], first: frozenset[str], last: frozenset[str]) -> re.Pattern[str]:
    always = _one_of(anywhere | {"\r", "\n"})
    unusable = r"[/\0]|^\.{0,2}\Z"
    return re.compile(rf"{QUOTE}|{always}|^{_one_of(first)}|{_one_of(last)}\Z|{unusable}")


_NEVER = ("\r", "\n")
_PLAIN_ASCII = bytes(range(32, 127)) + b"\n"
_PLAIN = {
    _picture(char): char
    for table in (_ANYWHERE, _FIRST, _LAST)
    for chars in table.values()
    for char in chars
}  # fmt: skip

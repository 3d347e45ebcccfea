"""The values of a storage type's options, from words to types. Pure; used by adapters when they are opened.

Every error names the storage type, the option and what it accepts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import final

from ..errors import Refused
from ..quantity import parse_duration, parse_size
from .encoding import NameEncoding


@final
class Words:
    """A storage type's option values, asked for one by one; "" is the default."""

    def __init__(self, kind: str, values: Mapping[str, str]) -> None:
        self._kind = kind
        self._values = values

    def text(self, name: str) -> str:
        """As it is, without blanks around it."""
        text = self._values.get(name, "").strip()
        if any(c in text for c in "\r\n\0"):
            raise Refused(f"{self._kind}: {name} cannot have a line break or NUL in it")
        return text

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false."""
        word = self.text(name).lower()
        if word in ("", "unset"):
            return default
        if word in ("true", "yes", "on", "1"):
            return True
        if word in ("false", "no", "off", "0"):
            return False
        raise Refused(f"{self._kind}: {name} is true or false, not {word!r}")

    def number(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number within bounds."""
        text = self.text(name)
        if not text:
            return default
        if not text.isdecimal() or not low <= int(text) <= high:
            raise Refused(f"{self._kind}: {name} is a whole number from {low} to {high}, not {text!r}")
        return int(text)

    def size(self, name: str, low: int, high: int, default: int) -> int:
        """Bytes within bounds; ``off`` is the upper one."""
        text = self.text(name)
        if not text:
            return default
        try:
            size = parse_size(text)
        except Refused as problem:
            raise Refused(f"{self._kind}: {name}: {problem}") from None
        size = high if size is None else size
        if not low <= size <= high:
            raise Refused(f"{self._kind}: {name} is from {low} to {high} bytes, not {text!r}")
        return size

    def duration(self, name: str, default: float) -> float:
        """Seconds, more than none: every wait is bounded."""
        text = self.text(name)
        if not text:
            return default
        try:
            seconds = parse_duration(text) or 0.0
        except Refused as problem:
            raise Refused(f"{self._kind}: {name}: {problem}") from None
        if not seconds:
            raise Refused(f"{self._kind}: {name} must be more than 0: every wait is bounded")
        return seconds

    def choice(self, name: str, accepted: Collection[str], default: str) -> str:
        """One of a few words."""
        text = self.text(name)
        if not text:
            return default
        for word in accepted:
            if word.lower() == text.lower():
                return word
        raise Refused(f"{self._kind}: {name} is one of {', '.join(accepted)}, not {text!r}")

    def encoding(self, name: str, default: str) -> NameEncoding:
        """What to replace in names, in rclone's words."""
        try:
            return NameEncoding.parse(self.text(name) or default)
        except Refused as problem:
            raise Refused(f"{self._kind}: {str(problem).removeprefix('ftp: ')}") from None

"""Reading options of storage types: words as typed values, or :class:`Refused`, naming the option. Pure.

``kind`` is the storage type, for messages. Used by types that parse their options themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import Refused
from ..quantity import parse_duration

_YES = ("true", "yes", "on", "1")
_NO = ("false", "no", "off", "0")


def flag(kind: str, values: Mapping[str, str], name: str, default: bool = False) -> bool:
    """True or false; ``default`` where nothing is said."""
    word = values.get(name, "").strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    if word:
        raise Refused(f"{kind}: {name} is true or false, not {values[name]!r}")
    return default


def number(kind: str, values: Mapping[str, str], name: str, low: int, high: int) -> int:
    """A whole number; 0 where nothing is said, if that is allowed."""
    text = values.get(name, "").strip() or "0"
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Refused(f"{kind}: {name} is a whole number from {low} to {high}, not {values[name]!r}")
    return int(text)


def duration(
    kind: str, values: Mapping[str, str], name: str, default: float, *, endless: Collection[str] = ("idle_timeout",)
) -> float:
    """Seconds; ``off`` and 0 are 0, which the options in ``endless`` accept."""
    text = values.get(name, "")
    if not text:
        return default
    try:
        seconds = parse_duration(text) or 0.0
    except Refused as problem:
        raise Refused(f"{kind}: {name}: {problem}") from None
    if not seconds and name not in endless:
        raise Refused(f"{kind}: {name} must be more than 0: every wait is bounded")
    return seconds

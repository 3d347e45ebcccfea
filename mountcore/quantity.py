"""Sizes, durations and rates as users write them, parsed once at the edge. Pure.

The grammar is rclone's, so that scripts carry over: a size without a suffix counts KiB, ``K M G T P``
are powers of 1024 with or without ``i``, ``B`` is bytes; a duration is ``1h30m``, ``100ms``, or a bare
number of seconds; ``off`` means no limit.
"""

from __future__ import annotations

import re

from .errors import Refused

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([bkmgtpe]?)(i?)b?", re.IGNORECASE)
_SHIFTS = {"b": 0, "": 10, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w|M|y)?")
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
    "d": 86400.0, "w": 604800.0, "M": 2592000.0, "y": 31536000.0,
}  # fmt: skip
SIZE_GRAMMAR = "a size like 512, 64Ki, 128Mi, 1.5G or 100B (no suffix means KiB), or off"
LARGEST = (1 << 63) - 1
LONGEST = LARGEST / 1e9
"""What fits into rclone's types: bytes, and nanoseconds."""
DURATION_GRAMMAR = "a duration like 90s, 1h30m, 500ms or 10 (seconds), or off"


def parse_size(text: str) -> int | None:
    """Bytes, or ``None`` for ``off``. Raises :class:`Refused` with the accepted grammar."""
    word = text.strip()
    if word.lower() == "off":
        return None
    match = _SIZE.fullmatch(word)
    if not match or (match[3] and match[2].lower() in ("", "b")):
        raise Refused(f"{text!r} is not {SIZE_GRAMMAR}")
    count = float(match[1]) * (1 << _SHIFTS[match[2].lower()])
    if count > LARGEST:
        raise Refused(f"{_short(word)} is more than 8 EiB; off means no limit")
    return int(count)


def parse_duration(text: str) -> float | None:
    """Seconds, or ``None`` for ``off``. Raises :class:`Refused` with the accepted grammar."""
    word = text.strip()
    if word.lower() == "off":
        return None
    total, at = 0.0, 0
    while at < len(word):
        match = _DURATION.match(word, at)
        if not match or (match[2] is None and (at or match.end() < len(word))):
            break
        total += float(match[1]) * _SECONDS[match[2] or "s"]
        at = match.end()
    if not word or at < len(word):
        raise Refused(f"{text!r} is not {DURATION_GRAMMAR}")
    if total > LONGEST:
        raise Refused(f"{_short(word)} is longer than 292 years; off means for ever")
    return total


def _short(word: str) -> str:
    return word if len(word) <= 24 else word[:20] + "…"


def format_size(count: int | float | None) -> str:
    """Bytes for people: ``0 B``, ``1.5 MiB``; ``off`` for None."""
    if count is None:
        return "off"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024 or unit == "PiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def format_duration(seconds: float | None) -> str:
    """Seconds for people, in the grammar that :func:`parse_duration` reads: ``1h30m``; ``off`` for None."""
    if seconds is None:
        return "off"
    if seconds < 1:
        return f"{seconds * 1000:g}ms" if seconds else "0s"
    parts, rest = [], seconds
    for unit, length in (("h", 3600), ("m", 60)):
        if rest >= length:
            parts.append(f"{int(rest // length)}{unit}")
            rest %= length
    if rest or not parts:
        parts.append(f"{rest:g}s")
    return "".join(parts)

"""A file's time in an object's metadata, as rclone writes it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from .store import MTIME, TimeForm

_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,18}))?")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?([Zz]|[+-]\d\d:\d\d)")
SECOND = 1_000_000_000


def written(mtime_ns: int, form: TimeForm) -> str:
    """Exact to the nanosecond."""
    if form is TimeForm.SECONDS or not 0 <= mtime_ns < 253_402_300_800 * SECOND:  # year 10000: RFC 3339 ends
        sign, ns = ("-", -mtime_ns) if mtime_ns < 0 else ("", mtime_ns)
        seconds, rest = divmod(ns, SECOND)
        return f"{sign}{seconds}" + (f".{rest:09d}".rstrip("0") if rest else "")
    seconds, rest = divmod(mtime_ns, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def read(metadata: Mapping[str, str]) -> int | None:
    """The time in nanoseconds; None where there is none, or none that can be read."""
    text = metadata.get(MTIME, "").strip()
    if match := _SECONDS.fullmatch(text):
        ns = int(match[2]) * SECOND + int((match[3] or "0")[:9].ljust(9, "0"))
        return -ns if match[1] else ns
    if match := _RFC3339.fullmatch(text):
        try:
            moment = datetime.fromisoformat(match[1] + match[3].upper().replace("Z", "+00:00"))
        except ValueError:
            return None
        return int(moment.timestamp()) * SECOND + int((match[2] or "0")[:9].ljust(9, "0"))
    return None

"""Sizes, times and names of entries as rclone prints them, so that scripts can read either. Pure."""

from __future__ import annotations

import datetime as dt
import mimetypes
import time

from ..remotes.protocol import Entry, Kind

UNKNOWN_NS = 946_684_800_000_000_000
"""What is shown where a time is not known: 2000-01-01, as with rclone."""
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip", "xz": "application/x-xz"}
_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def mtime_of(entry: Entry) -> int:
    """The time, or what stands for an unknown one."""
    return UNKNOWN_NS if entry.mtime_ns is None else entry.mtime_ns


def size_of(entry: Entry) -> int:
    """Bytes; -1 for a directory, whose size no storage tells alike."""
    return -1 if entry.kind is Kind.DIRECTORY else entry.size


def digits_of(resolution_ns: int) -> int:
    """How many digits of a second a storage keeps that is exact to this."""
    return max(0, 10 - len(str(resolution_ns)))


def local_time(ns: int, *, digits: int = 0) -> str:
    """``2026-01-31 12:34:56``, with so many digits of a second; in this machine's zone."""
    seconds, rest = divmod(ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{text}.{rest:09d}"[: len(text) + digits + 1] if digits else text


def rfc3339(ns: int, digits: int | None = None) -> str:
    """``2026-01-31T12:34:56.123456789+01:00``: so many digits, or as many as there are; ``Z`` for UTC."""
    seconds, rest = divmod(ns, 1_000_000_000)
    when = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()
    text = when.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{rest:09d}".rstrip("0") if digits is None else f"{rest:09d}"[:digits]
    offset = when.strftime("%z")
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return f"{text}{'.' if fraction else ''}{fraction}{zone}"


def iec(count: int | float, unit: str = "B") -> str:
    """``2.940 KiB``, ``12 B``: three digits behind the point, as rclone's size and about."""
    value, index = float(count), 0
    while abs(value) >= 1024 and index < len(_UNITS) - 1:
        value /= 1024
        index += 1
    return f"{int(count)} {unit}" if not index else f"{value:.3f} {_UNITS[index]}{unit}"


def short_count(count: int) -> str:
    """``12``, ``1.234k``: numbers of things."""
    value, index = float(count), 0
    while abs(value) >= 1000 and index < 4:
        value /= 1000
        index += 1
    return str(count) if not index else f"{value:.3f}{'kMGT'[index - 1]}"


def mime_type(entry: Entry) -> str:
    """By the name's extension."""
    if entry.kind is Kind.DIRECTORY:
        return "inode/directory"
    kind, packed = mimetypes.guess_type(entry.name)
    if packed is not None:
        return _PACKED.get(packed, "application/octet-stream")
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind

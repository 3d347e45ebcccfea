"""Names that are not UTF-8 in keys, which are: as rclone's S3 backend writes them (its word: InvalidUtf8). Pure.

A byte that is no UTF-8 stands in a key as ``‛`` and two upper-case hex digits. What looks like that by itself gets one
more ``‛`` in front. A key that nothing is written as stays what it is.
"""

from __future__ import annotations

import re

from ...errors import InvalidName

_QUOTED = re.compile("‛(?=[89A-F][0-9A-F])")
_RAW = re.compile("[\udc80-\udcff]")
_WRITTEN = re.compile("(‛?)‛([89A-F][0-9A-F])")


def written(path: str) -> str:
    """The key of a path; ``InvalidName`` for a mix that could not be read back."""
    if path.isascii():
        return path
    key = _RAW.sub(lambda match: f"‛{ord(match[0]) - 0xDC00:02X}", _QUOTED.sub("‛‛", path))
    if _read(key) != path:
        raise InvalidName(path, "the storage cannot hold this mix of ‛ and bytes that are not UTF-8")
    return key


def read(key: str) -> str:
    """The path of a key."""
    if key.isascii():
        return key
    path = _read(key)
    return path if path == key or _RAW.sub("", path) == path or written(path) == key else key


def _read(key: str) -> str:
    return _WRITTEN.sub(lambda match: f"‛{match[2]}" if match[1] else chr(0xDC00 + int(match[2], 16)), key)

"""Whether the end of SQLite's log is still there. Used by the opening.

A log that was cut short, or has a wrong bit in it, looks to SQLite like one that ends there: what was written later
is silently not so any more, and a changed file looks like the clean one that it was before. But a process that is
killed leaves the log's index behind as well (``-shm``, shared memory in a file), which says how long the log was;
format: https://www.sqlite.org/walformat.html, section 2.1. After a restart of the machine it says nothing: then a
shorter log is what is to be expected.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct("=12x B 3x I 28x")
"""Whether it is in use; how many frames the log has."""


def frames(database: Path) -> int:
    """Frames (changed pages) that the log is known to have; 0 where nothing is known."""
    try:
        with open(f"{database}-shm", "rb") as file:
            first, second = file.read(_HEADER.size), file.read(_HEADER.size)
    except FileNotFoundError:
        return 0
    if first != second or len(second) < _HEADER.size:  # its writer was killed between the two
        return 0
    in_use, count = _HEADER.unpack(first)
    return int(count) if in_use else 0

"""What a writer expects at a name, held against what is there."""

from __future__ import annotations

from ..errors import IsDirectory, Stale
from .protocol import Absent, Entry, Expect, Kind, Version


def check_expected(now: Entry | None, path: str, expect: Expect) -> None:
    """Raise `Stale` if ``now``, what is at ``path``, is not what was expected; `IsDirectory` if it is a directory."""
    if now is not None and now.kind is Kind.DIRECTORY:
        raise IsDirectory(path)
    if isinstance(expect, Absent) and now is not None:
        raise Stale(path, "the name is taken")
    if isinstance(expect, Version) and (now is None or not now.version.matches(expect)):
        raise Stale(path, "the file has changed")

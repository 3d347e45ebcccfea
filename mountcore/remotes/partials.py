"""Names of uploads in progress, the same for every remote that publishes by renaming. Pure.

A partial lies beside its target as ``.NAME.portside-0123abcd.partial``; where a server refuses names with a
leading dot, without the dot. A file set aside while a server that cannot rename over it gets the new one
ends in ``.previous`` instead: it may be the only copy and is never deleted on sight. Both are hidden from
listings, by every remote, whoever left them.
"""

from __future__ import annotations

import re
import secrets

_MINE = re.compile(r"\.?.*\.portside-[0-9a-f]{8}\.(partial|previous)", re.DOTALL)
_REPLACED = re.compile(r"[\x00-\x1f\x7f<>\"'`$:?*|#%\\\[\];]|^[ .~]")
"""What encodings of names (:mod:`.encoding`) may have stand-ins for, but at the end of a name."""
MARK = ".portside-"
"""In every name of ours."""
LONGEST = 255
"""Bytes in a name, as every Linux file system bounds it."""
ABANDONED_AFTER = 86_400.0
"""Seconds after which nobody is still uploading a partial."""


def partial_name(name: str, *, hidden: bool = True, kept: bool = False) -> str:
    """A fresh name for the upload of ``name``, no longer than :data:`LONGEST` bytes."""
    tail = f".portside-{secrets.token_hex(4)}.{'previous' if kept else 'partial'}"
    head = ("." if hidden else "") + name
    room = LONGEST - len(tail)
    while _width(head) > room:
        head = head[:-1]
    return head + tail


def _width(name: str) -> int:
    """Bytes of a name at most, whatever its storage spells with stand-ins of three bytes."""
    return len(name.encode("utf-8", "surrogateescape")) + 2 * len(_REPLACED.findall(name))


def is_ours(name: str) -> bool:
    """Whether a name in a listing is an upload in progress, or what one left behind."""
    return MARK in name and _MINE.fullmatch(name) is not None


def is_abandonable(name: str) -> bool:
    """Whether a name of ours may be deleted once it is old: partials, never a previous version."""
    return name.endswith(".partial") and is_ours(name)


def is_abandoned(name: str, mtime_ns: int | None, now_ns: int) -> bool:
    """Whether a partial of that time was left by somebody who is gone."""
    return is_abandonable(name) and mtime_ns is not None and now_ns - mtime_ns > ABANDONED_AFTER * 1e9


def belongs_to(name: str) -> str | None:
    """The file whose partial or previous version a name of ours is; None where the name has been cut to fit."""
    match = _MINE.fullmatch(name)
    if match is None or _width(name) >= LONGEST - 3:
        return None
    return name[: name.rindex(MARK)].removeprefix(".") or None

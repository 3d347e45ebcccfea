"""Paths of the remote port: splitting, joining and refusing what must never reach a storage. Pure."""

from __future__ import annotations

from ..errors import InvalidName, NameTooLong
from .partials import LONGEST

LONGEST_PATH = 4095
"""Bytes in a path, as Linux bounds it."""

LONGEST_LISTED = 1024
"""Bytes of a name in a directory (FUSE_NAME_MAX): for a longer one the kernel refuses the whole listing."""


def check_path(path: str) -> str:
    """``path`` if it keeps the port's rules (see `protocol`); else raises :class:`InvalidName`."""
    if path:
        for part in path.split("/"):
            if part in ("", ".", "..") or "\0" in part:
                raise InvalidName(path, "a path has no empty part, no '.' or '..', and no NUL")
    return path


def is_name(name: str) -> bool:
    """Whether what a storage lists can be the name of something in a directory; see also `check_path`."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    return len(name) <= LONGEST_LISTED // 4 or len(name.encode(errors="surrogateescape")) <= LONGEST_LISTED


def check_lengths(path: str, wire: bytes, longest: int = LONGEST) -> None:
    """Raises :class:`NameTooLong` if ``wire``, which is how the storage spells ``path``, is too long for any disk."""
    if len(wire) > longest and max(map(len, wire.split(b"/"))) > longest:
        raise NameTooLong(path, f"the storage takes names of {longest} bytes, as it spells them")
    if len(wire) > LONGEST_PATH:
        raise NameTooLong(path, f"the storage takes paths of {LONGEST_PATH} bytes")


def parent(path: str) -> str:
    """The directory that holds ``path``; "" for the root and what lies in it."""
    return path.rpartition("/")[0]


def basename(path: str) -> str:
    """The last part of ``path``."""
    return path.rpartition("/")[2]


def join(directory: str, name: str) -> str:
    """The path of ``name`` in ``directory``."""
    return f"{directory}/{name}" if directory else name


def is_below(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` itself or lies somewhere in it."""
    return path == directory or not directory or path.startswith(directory + "/")

"""Hashes of a remote's files: told by the storage, or computed from the content on its way through."""

from __future__ import annotations

import difflib
import hashlib

from ..errors import Refused, Unsupported
from ..remotes.protocol import Entry, Remote, Span

NAMES = ("md5", "sha1", "sha256", "sha512")
"""What can be computed here whatever the storage."""


def algorithm_named(word: str) -> str:
    """A hash as the user names it; raises :class:`Refused` with those there are."""
    name = word.lower().replace("-", "")
    if name in NAMES:
        return name
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
    raise Refused(f"there is no hash {word!r}; {hint}")


async def digest_of(
    remote: Remote, path: str, algorithm: str, entry: Entry | None = None, *, download: bool = False
) -> str:
    """The hex digest of a file. ``Unsupported`` where the storage does not tell it and ``download`` is off."""
    if not download:
        if algorithm not in remote.caps.hashes:
            raise Unsupported(path, f"the storage does not tell {algorithm}; --download computes it here")
        return await remote.hash(path, algorithm)
    entry = entry or await remote.stat(path)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    async with remote.read(path, Span(0, entry.size), None) as pieces:
        async for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()

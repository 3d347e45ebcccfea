"""Whether two files are equal, as far as listings, hashes or contents tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import final

from ..errors import Unsupported
from ..remotes.protocol import Capabilities, Entry
from .places import Place

#: the first that both sides have is compared; what is cheap and common first
PREFERRED = ("md5", "sha1", "sha256", "sha512", "crc32")


class By(enum.Enum):
    """What decides."""

    TIME = "size and time"
    SIZE = "size"
    HASH = "size and hash"
    NOTHING = "nothing: always different"


class Verdict(enum.Enum):
    """What a comparison says."""

    EQUAL = "equal"
    TIME_DIFFERS = "the content is equal, the time is not"
    DIFFERENT = "different"


def common_hash(a: Capabilities, b: Capabilities) -> str:
    """The hash that both storages can tell; "" if there is none."""
    shared = a.hashes & b.hashes
    return next((name for name in PREFERRED if name in shared), next(iter(sorted(shared)), ""))


def window_ns(a: Place, b: Place) -> int | None:
    """Times nearer to each other than this are equal; None where a side does not keep them."""
    if not b.remote.caps.set_mtime:
        return None
    return max(1, a.remote.caps.mtime_resolution_ns, b.remote.caps.mtime_resolution_ns)


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """How the files of two places are compared."""

    source: Place
    target: Place
    by: By = By.TIME
    ignore_size: bool = False
    window: int = 1

    def tolerance(self, a: Entry, b: Entry) -> int | None:
        """How far apart the times of two equal files may be; None if times say nothing."""
        window = window_ns(self.source, self.target)
        if window is None or a.mtime_ns is None or b.mtime_ns is None:
            return None
        return max(window, a.resolution_ns, b.resolution_ns, self.window)

    def same_time(self, a: Entry, b: Entry) -> bool | None:
        """Whether the times are equal; None if they say nothing."""
        tolerance = self.tolerance(a, b)
        if tolerance is None:
            return None
        assert a.mtime_ns is not None
        assert b.mtime_ns is not None
        return abs(a.mtime_ns - b.mtime_ns) < tolerance

    async def same_hash(self, path_a: str, path_b: str) -> bool | None:
        """Whether the hashes are equal; None if there is none to compare."""
        name = common_hash(self.source.remote.caps, self.target.remote.caps)
        if not name:
            return None
        try:
            one = await self.source.remote.hash(path_a, name)
            other = await self.target.remote.hash(path_b, name)
        except Unsupported:
            return None
        return one == other

    async def verdict(self, path_a: str, a: Entry, path_b: str, b: Entry) -> Verdict:
        """What is to be done about two files. Paths are the remotes' own."""
        if self.by is By.NOTHING:
            return Verdict.DIFFERENT
        if not self.ignore_size and a.size != b.size:
            return Verdict.DIFFERENT
        if self.by is By.SIZE:
            return Verdict.EQUAL
        if self.by is By.HASH:
            same = await self.same_hash(path_a, path_b)
            return Verdict.DIFFERENT if same is False else Verdict.EQUAL
        if self.same_time(a, b) is not False:
            return Verdict.EQUAL
        if await self.same_hash(path_a, path_b):
            return Verdict.TIME_DIFFERS
        return Verdict.DIFFERENT

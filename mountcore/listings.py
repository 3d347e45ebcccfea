"""Directory listings that outlive the process: what may be thrown away and fetched again. Used by the tree.

Kept in a diskcache of bounded size. Values are JSON text and keys plain text, never pickles: whoever can
write to a pickle cache can run code in the reader (CVE-2025-69872), so this :class:`_TextDisk` refuses to
read or write anything that is not text, whatever the file says. The directory is private (0700) like the
whole cache.

A listing here serves two ends: a warm start needs no network while the listing is young enough, and a remote
that cannot be reached still lists what it last held. All calls block for up to some milliseconds for large
directories and belong in a worker thread.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import diskcache

from .remotes.protocol import Entry, Kind

log = logging.getLogger(__name__)

SIZE_LIMIT = 256 << 20
"""Bytes of listings that are kept; least recently used go first."""


class _TextDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores text as text; everything else is refused."""

    def put(self, key: Any) -> tuple[Any, bool]:
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: bool) -> Any:
        if type(key) is not str or not raw:
            raise ValueError("keys are text")
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if type(value) is not str or read:
            raise TypeError("values are text")
        return super().store(value, False, key=key)

    def fetch(self, mode: int, filename: Any, value: Any, read: bool) -> Any:
        if mode not in (diskcache.core.MODE_RAW, diskcache.core.MODE_TEXT):
            raise ValueError("values are text")
        return super().fetch(mode, filename, value, read)


@final
class Listings:
    """Last known listings of one remote. A damaged store loses them, which costs a request each."""

    def __init__(self, directory: Path) -> None:
        self._cache: Any = None
        try:
            self._cache = diskcache.Cache(
                str(directory), disk=_TextDisk, size_limit=SIZE_LIMIT, eviction_policy="least-recently-used",
                sqlite_synchronous=0, disk_min_file_size=1 << 20,
            )  # fmt: skip
        except (sqlite3.Error, OSError, ValueError) as problem:
            log.warning("the listing cache in %s cannot be used: %s", directory, problem)

    def save(self, directory: str, entries: Iterable[Entry], age: float) -> None:
        """Remember a complete listing that was made ``age`` seconds ago."""
        rows = [[e.name, e.kind.value, e.size, e.mtime_ns, e.resolution_ns, e.tag, e.mode, e.target] for e in entries]
        text = json.dumps([time.time() - age, rows], ensure_ascii=True, separators=(",", ":"))
        if self._cache is not None:
            try:
                self._cache.set(_key(directory), text)
            except (sqlite3.Error, OSError) as problem:
                log.info("a listing could not be remembered: %s", problem)
            finally:
                self._cache.close()  # diskcache keeps a connection for every thread that ever used it

    def load(self, directory: str) -> tuple[float, dict[str, Entry]] | None:
        """The last listing and its age in seconds; None where there is none that can be read."""
        if self._cache is None:
            return None
        try:
            text = self._cache.get(_key(directory))
            if text is None:
                return None
            saved, rows = json.loads(text)
            entries = {row[0]: Entry(row[0], Kind(row[1]), *row[2:]) for row in rows}
            return max(0.0, time.time() - saved), entries
        except (sqlite3.Error, OSError, ValueError, TypeError, IndexError) as problem:
            log.info("a remembered listing cannot be read: %s", problem)
            return None
        finally:
            self._cache.close()

    def forget(self, directory: str) -> None:
        """The directory is gone."""
        if self._cache is not None:
            try:
                self._cache.delete(_key(directory))
            except (sqlite3.Error, OSError) as problem:
                log.info("a listing could not be forgotten: %s", problem)

    def close(self) -> None:
        """Close the store."""
        if self._cache is not None:
            self._cache.close()


def _key(directory: str) -> str:
    """ASCII, whatever bytes a name is made of."""
    return json.dumps("/" + directory)

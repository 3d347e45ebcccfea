"""Directory listings that outlive the process: what may be thrown away and fetched again. Used by the tree.

Kept in a diskcache of bounded size. Values are encoded JSON text and keys plain text, never pickles: whoever can
write to a pickle cache can run code in the reader (CVE-2025-69872), so this :class:`_TextDisk` refuses to read
or write anything else, whatever the file says. Values are encoded here because diskcache would write text
through a buffer of four bytes a character. The directory is private (0700) like the whole cache.

A listing here serves two ends: a warm start needs no network while the listing is young enough, and a remote
that cannot be reached still lists what it last held. All calls block for up to some milliseconds for large
directories and belong in a worker thread.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import diskcache

from .remotes.protocol import Entry, Kind

log = logging.getLogger(__name__)

SIZE_LIMIT = 256 << 20
"""Bytes of listings that are kept; least recently used go first."""
DELAY = 1.0
"""Seconds that a listing may wait for being written: whoever walks a tree wants the processor for himself."""
BATCH = 256
"""Listings that are written in one transaction."""
PIECE = 256
"""Entries that are encoded at a time."""
MOST = 1024
"""Listings that may wait; beyond, they are written without delay."""


class _TextDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text, values encoded text; everything else is refused."""

    def put(self, key: Any) -> tuple[Any, bool]:
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: Any, raw: bool) -> Any:
        if type(key) is not str or not raw:
            raise ValueError("keys are text")
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if type(value) is not bytes or read:
            raise TypeError("values are encoded text")
        return super().store(value, False, key=key)

    def fetch(self, mode: int, filename: Any, value: Any, read: bool) -> Any:
        if mode not in (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY):
            raise ValueError("values are encoded text")
        return super().fetch(mode, filename, value, read)


_Saved = tuple[float, Sequence[Entry]]
"""When a listing was made, and what it said."""


@final
class Listings:
    """Last known listings of one remote. A damaged store loses them, which costs a request each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache: Any = None
        self._known: set[str] = set()
        """Keys of what former processes left, as long as nobody asked for them."""
        self._todo: dict[str, _Saved | None] = {}
        """What is to be written by key, None for what is to be forgotten."""
        self._asked: dict[str, threading.Event] = {}
        self._found: dict[str, bytes | None] = {}
        self._closing = False
        self._turn = threading.Condition()
        opened = threading.Event()
        self._thread = threading.Thread(target=self._own, args=(opened,), name="listings", daemon=True)
        self._thread.start()
        opened.wait()

    def save(self, directory: str, entries: Sequence[Entry], age: float) -> None:
        """Remember a complete listing that was made ``age`` seconds ago; ``entries`` are not changed any more."""
        self._do(_key(directory), (time.time() - age, entries))

    def forget(self, directory: str) -> None:
        """The directory is gone."""
        self._do(_key(directory), None)

    def _do(self, key: str, what: _Saved | None) -> None:
        if self._cache is None:
            return
        with self._turn:
            self._todo[key] = what
            if len(self._todo) in (1, MOST):
                self._turn.notify()

    def load(self, directory: str) -> tuple[float, dict[str, Entry]] | None:
        """The last listing and when it was made, as `time.time`; None where none can be read. Blocking."""
        key = _key(directory)
        with self._turn:
            if key in self._todo:
                saved = self._todo[key]
                return None if saved is None else (saved[0], {entry.name: entry for entry in saved[1]})
            if key not in self._known:
                return None
            answered = self._asked.setdefault(key, threading.Event())
            self._turn.notify()
        answered.wait()
        with self._turn:
            text = self._found.pop(key, None)
        try:
            return _read(text) if text is not None else None
        except (ValueError, TypeError, IndexError) as problem:
            log.info("a remembered listing cannot be read: %s", problem)
            return None

    def may_have(self, directory: str) -> bool:
        """Whether `load` may find something; costs nothing."""
        key = _key(directory)
        return key in self._known or key in self._todo

    def close(self) -> None:
        """Write what is to be written, and close the store. Blocking."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join()

    # the thread that owns the database

    def _own(self, opened: threading.Event) -> None:
        try:
            self._cache = diskcache.Cache(
                str(self._directory), disk=_TextDisk, size_limit=SIZE_LIMIT, eviction_policy="least-recently-used",
                cull_limit=0, sqlite_synchronous=0, disk_min_file_size=1 << 20,
            )  # fmt: skip
            self._known = set(self._cache.iterkeys())
        except (sqlite3.Error, OSError, ValueError, diskcache.Timeout) as problem:
            log.warning("the listing cache in %s cannot be used: %s", self._directory, problem)
            self._cache = None
            return
        finally:
            opened.set()
        try:
            while self._step():
                pass
        finally:
            self._cache.close()

    def _step(self) -> bool:
        """Answer who waits, else write a little; answers whether to go on."""
        with self._turn:
            while not (self._asked or self._todo or self._closing):
                self._turn.wait()
            waits = -1
            while not self._busy() and waits != len(self._todo):  # until nothing more comes for a while
                waits = len(self._todo)
                self._turn.wait_for(self._busy, DELAY)
            asked = list(self._asked)
            todo = [] if asked else list(self._todo.items())[:BATCH]
        if asked:
            self._fetch(asked)
        elif todo:
            self._write(todo)
        with self._turn:
            return bool(self._asked or self._todo or not self._closing)

    def _busy(self) -> bool:
        return bool(self._asked) or self._closing or len(self._todo) >= MOST

    def _fetch(self, keys: list[str]) -> None:
        for key in keys:
            text = None
            try:
                text = self._cache.get(key)
            except (sqlite3.Error, OSError, ValueError, diskcache.Timeout) as problem:
                log.info("a remembered listing cannot be read: %s", problem)
            with self._turn:
                self._found[key] = text
                self._asked.pop(key).set()

    def _write(self, todo: list[tuple[str, _Saved | None]]) -> None:
        try:
            with self._cache.transact():
                for key, saved in todo:
                    if saved is None:
                        self._cache.delete(key)
                    else:
                        self._cache.set(key, _encoded(saved))
            self._cache.cull()  # and not with every `set`: within a transaction what is deleted does not count yet
        except (sqlite3.Error, OSError, diskcache.Timeout) as problem:
            log.info("a listing could not be remembered: %s", problem)
        with self._turn:
            for key, saved in todo:
                if self._todo.get(key) is saved:
                    del self._todo[key]
                if saved is None:
                    self._known.discard(key)
                else:
                    self._known.add(key)


def _encoded(saved: _Saved) -> bytes:
    """In pieces: encoding 100,000 entries in one go would hold the interpreter's lock for a quarter of a second."""
    made, entries = saved
    pieces = []
    for start in range(0, len(entries), PIECE):
        rows = [
            [
                e.name, e.kind.value, e.size, e.mtime_ns, e.resolution_ns, e.tag, e.mode, e.target, e.owner, e.ident,
                e.atime_ns,
            ]
            for e in entries[start : start + PIECE]
        ]  # fmt: skip
        pieces.append(json.dumps(rows, ensure_ascii=True, separators=(",", ":"))[1:-1].encode())
    return b"[%r,[%b]]" % (made, b",".join(pieces))


def _read(text: bytes) -> tuple[float, dict[str, Entry]]:
    saved, rows = json.loads(text)
    return float(saved), {row[0]: _entry(*row) for row in rows}


def _entry(
    name: str, kind: str, size: int, mtime_ns: int | None, resolution_ns: int, tag: str, mode: int | None, target: str,
    owner: tuple[int, int] | None, ident: int | None = None, atime_ns: int | None = None,
) -> Entry:  # fmt: skip
    owner = None if owner is None else (owner[0], owner[1])
    return Entry(name, Kind(kind), size, mtime_ns, resolution_ns, tag, mode, target, owner, ident, atime_ns)


def _key(directory: str) -> str:
    """ASCII, whatever bytes a name is made of."""
    return json.dumps("/" + directory)

"""The index: what must never be lost, in SQLite (WAL). Used by :mod:`.store` alone.

One row an item: name, size, spans held, the remote version they belong to, and the upload journal. Every
call commits before it returns, which survives ``kill -9``; :meth:`Index.sync` makes it survive power loss.
All calls run inline on the trio thread (a commit costs about 20 µs); `sync` and `checkpoint` block on the
disk and belong in a worker thread.

Queries go by access time and by dirtiness, so that neither start-up nor eviction walks the cache.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, final

from ..errors import NoSpace, StorageError
from ..remotes.protocol import Version
from ..spans import SpanSet
from .shared import SharedSync

ItemId = NewType("ItemId", int)
FORMAT = 1
RESERVE = 4 << 20
"""Bytes of the disk that are kept for the index, so that a full disk can be tidied."""

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT,
    size INTEGER NOT NULL,
    mtime_ns INTEGER,
    spans TEXT NOT NULL,
    held INTEGER NOT NULL,
    base TEXT,
    attempt TEXT,
    dirty INTEGER NOT NULL,
    promise INTEGER NOT NULL,
    atime REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX IF NOT EXISTS items_by_path ON items (path) WHERE path IS NOT NULL;
CREATE INDEX IF NOT EXISTS items_by_access ON items (atime, id, held) WHERE dirty = 0;
CREATE INDEX IF NOT EXISTS items_dirty ON items (id) WHERE dirty = 1;
CREATE INDEX IF NOT EXISTS items_nameless ON items (id) WHERE path IS NULL;
CREATE TABLE IF NOT EXISTS trash (id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS renames (old TEXT PRIMARY KEY, new TEXT NOT NULL, versions TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pins (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retired (path TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


@final
@dataclass(slots=True)
class Row:
    """What the index knows of one item. ``base`` is the remote version it came from, None for a new file."""

    id: ItemId
    path: str | None
    size: int
    mtime_ns: int | None = None
    spans: SpanSet = field(default_factory=SpanSet)
    base: Version | None = None
    attempt: Version | None = None
    """What an upload that did not report back may have stored."""
    dirty: bool = False
    promise: int = 0
    """0: nobody was told; 1: close returned on it; 2: fsync returned on it."""
    atime: float = 0.0
    tries: int = 0
    error: str = ""


class Unreadable(Exception):
    """An entry makes no sense; ``item`` is its id."""

    def __init__(self, item: ItemId) -> None:
        super().__init__(item)
        self.item = item


_COLUMNS = "id, path, size, mtime_ns, spans, base, attempt, dirty, promise, atime, tries, error"


def _bytes(name: str) -> bytes:
    """A name as ``CAST(? AS TEXT)`` takes it: one of the kernel's need not be UTF-8, and is kept all the same."""
    return name.encode("utf-8", "surrogateescape")


def _path_or_none(path: str | None) -> bytes | None:
    return None if path is None else _bytes(path)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _pack(version: Version | None) -> str | None:
    if version is None:
        return None
    return json.dumps([version.size, version.mtime_ns, version.resolution_ns, version.tag])


def _unpack(text: str | None) -> Version | None:
    return None if text is None else Version(*json.loads(text))


def _row(values: tuple[Any, ...]) -> Row:
    ident, path, size, mtime_ns, spans, base, attempt, dirty, promise, atime, tries, error = values
    return Row(
        ItemId(ident), path, size, mtime_ns, SpanSet.decode(spans), _unpack(base), _unpack(attempt),
        bool(dirty), promise, atime, tries, error,
    )  # fmt: skip


@final
class Index:
    """The open index file. Raises ``sqlite3.DatabaseError`` from :meth:`__init__` when the file is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shared_sync = SharedSync(self._sync)
        self._log_is_named = False
        self._reserve = path.with_name("reserve")
        self._reserved = self._reserve.exists() and self._reserve.stat().st_blocks * 512 >= RESERVE
        fresh = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.text_factory = _text
        os.chmod(path, 0o600)
        run = self._db.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA wal_autocheckpoint = 0")
        run("PRAGMA temp_store = MEMORY")
        self._db.executescript(_SCHEMA)
        found = self.fact("format")
        if fresh or found is None:
            self.set_fact("format", str(FORMAT))
        elif found != str(FORMAT):
            raise sqlite3.DatabaseError(f"format {found}, this program writes {FORMAT}")
        self.make_reserve()
        run("SELECT count(*) FROM (SELECT 1 FROM items LIMIT 1)").fetchone()

    def close(self) -> None:
        """Checkpoint and close."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    # facts about the whole cache

    def fact(self, key: str) -> str | None:
        """A remembered fact, or None."""
        found = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return str(found[0]) if found else None

    def set_fact(self, key: str, value: str | None) -> None:
        """Remember a fact; None forgets it."""
        if value is None:
            self._write(("DELETE FROM facts WHERE key = ?", (key,)))
        else:
            self._write(("INSERT OR REPLACE INTO facts VALUES (?, CAST(? AS TEXT))", (key, _bytes(value))))

    # items

    def insert(self, row: Row) -> ItemId:
        """Add an item (``row.id`` is ignored); answers its id, never used before. The name must be free."""
        return ItemId(
            self._write(
                (
                    "INSERT INTO items (path, size, mtime_ns, spans, held, base, attempt, dirty, promise, atime)"
                    " VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (_path_or_none(row.path), row.size, row.mtime_ns, row.spans.encode(), row.spans.total,
                     _pack(row.base), _pack(row.attempt), row.dirty, row.promise, row.atime),
                )
            )
        )  # fmt: skip

    def save(self, *rows: Row, used: Iterable[Row] = ()) -> None:
        """Write everything but the path, and of those that were only ``used`` the access time, in one step."""
        self._write(*map(_update, rows), *(("UPDATE items SET atime=? WHERE id=?", (r.atime, r.id)) for r in used))

    def by_path(self, path: str) -> Row | None:
        """The item of that name; raises `Unreadable` for an entry that makes no sense."""
        query = f"SELECT {_COLUMNS} FROM items WHERE path = CAST(? AS TEXT)"  # noqa: S608
        found = self._db.execute(query, (_bytes(path),)).fetchone()
        try:
            return _row(found) if found else None
        except (ValueError, TypeError):
            raise Unreadable(ItemId(found[0])) from None

    def dirty(self) -> tuple[list[Row], list[ItemId]]:
        """Every item with bytes that the remote does not have, and the ids of those that make no sense."""
        rows: list[Row] = []
        unreadable: list[ItemId] = []
        for values in self._db.execute(f"SELECT {_COLUMNS} FROM items WHERE dirty = 1"):  # noqa: S608
            try:
                rows.append(_row(values))
            except (ValueError, TypeError):
                unreadable.append(ItemId(values[0]))
        return rows, unreadable

    def link(self, item: ItemId, path: str | None) -> None:
        """Give an item a name, taking the name from whoever has it; None takes its name away."""
        self._write(*_link(item, path))

    def publish(self, row: Row) -> None:
        """:meth:`save` and :meth:`link` to ``row.path`` in one step."""
        try:  # the name is nearly always free
            self._write(_update(row, with_path=True))
        except sqlite3.IntegrityError:
            self._write(_update(row), *_link(row.id, row.path))

    def rename_tree(self, old: str, new: str) -> None:
        """Rename every item below the directory ``old``; one that has such a name already loses it."""
        # "0" is the character after "/": the half-open range of all names below a directory
        self._write(
            (
                "UPDATE items SET path = NULL WHERE path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT)",
                (_bytes(new + "/"), _bytes(new + "0")),
            ),
            (
                "UPDATE items SET path = CAST(? || substr(CAST(path AS BLOB), ?) AS TEXT)"
                " WHERE path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT)",
                (_bytes(new), len(_bytes(old)) + 1, _bytes(old + "/"), _bytes(old + "0")),
            ),
        )

    def delete(self, items: list[ItemId]) -> None:
        """Forget items; their ids stay in the trash until :meth:`trash_emptied`, for a crash in between."""
        self._write(
            *(("DELETE FROM items WHERE id = ?", (i,)) for i in items),
            *(("INSERT OR IGNORE INTO trash VALUES (?)", (i,)) for i in items),
        )

    def trash(self) -> list[ItemId]:
        """Ids whose files are still to be deleted."""
        return [ItemId(i) for (i,) in self._db.execute("SELECT id FROM trash")]

    def trash_emptied(self, items: list[ItemId]) -> None:
        """The files of these are gone."""
        self._write(*(("DELETE FROM trash WHERE id = ?", (i,)) for i in items))

    def begin_move(self, old: str, new: str, versions: Sequence[Version]) -> None:
        """The remote is being asked to rename something of which changes are here, for a crash before `end_move`.

        ``versions``: what of it the remote may have; for a directory none.
        """
        packed = json.dumps([_pack(version) for version in versions])
        self._write(
            ("INSERT OR REPLACE INTO renames VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)",
             (_bytes(old), _bytes(new), packed))
        )  # fmt: skip

    def end_move(self, old: str) -> None:
        """What became of it is known, and items have the names that go with it."""
        self._write(("DELETE FROM renames WHERE old = CAST(? AS TEXT)", (_bytes(old),)))

    def moves(self) -> list[tuple[str, str, list[Version]]]:
        """Renames that were not heard to end."""
        return [
            (old, new, [version for version in map(_unpack, json.loads(packed)) if version is not None])
            for old, new, packed in self._db.execute("SELECT old, new, versions FROM renames")
        ]

    def retire(self, path: str, at: float) -> None:
        """Listings saved before a time, of a directory and all below it, are no more to be believed."""
        self._write(("INSERT OR REPLACE INTO retired VALUES (CAST(? AS TEXT), ?)", (_bytes(path), at)))

    def retired(self) -> dict[str, float]:
        """What `retire` was told."""
        return dict(self._db.execute("SELECT path, at FROM retired"))

    def retire_all(self, at: float) -> None:
        """`retire` the root, and forget the rest."""
        self._write(("DELETE FROM retired", ()), ("INSERT INTO retired VALUES ('', ?)", (at,)))

    def pins(self) -> list[str]:
        """Names that are kept in the cache."""
        return [path for (path,) in self._db.execute("SELECT path FROM pins")]

    def pin(self, path: str) -> None:
        """Keep a name in the cache."""
        self._write(("INSERT OR IGNORE INTO pins VALUES (CAST(? AS TEXT))", (_bytes(path),)))

    def unpin(self, path: str) -> None:
        """Keep it no longer."""
        self._write(("DELETE FROM pins WHERE path = CAST(? AS TEXT)", (_bytes(path),)))

    def path_of(self, item: ItemId) -> str | None:
        """The name of an item, if it has one."""
        found = self._db.execute("SELECT path FROM items WHERE id = ?", (item,)).fetchone()
        return found[0] if found else None

    def nameless(self) -> list[ItemId]:
        """Items without a name: unlinked while open, or staged; garbage after a restart."""
        return [ItemId(i) for (i,) in self._db.execute("SELECT id FROM items WHERE path IS NULL")]

    def clean(self) -> list[ItemId]:
        """Items that can be fetched again."""
        return [ItemId(i) for (i,) in self._db.execute("SELECT id FROM items WHERE dirty = 0")]

    def exists(self, item: ItemId) -> bool:
        """Whether the index, or its trash, knows this id."""
        return bool(
            self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM items WHERE id = ?) OR EXISTS (SELECT 1 FROM trash WHERE id = ?)",
                (item, item),
            ).fetchone()[0]
        )

    def oldest(self, before: float) -> Iterator[tuple[ItemId, float, int]]:
        """Clean items last used before a time, least recently used first: id, atime, bytes held.

        The index may change while it is read; read it to the end or drop it.
        """
        yield from self._db.execute(
            "SELECT id, atime, held FROM items WHERE dirty = 0 AND atime < ? ORDER BY atime", (before,)
        )

    def held(self) -> int:
        """Bytes held by all items."""
        return int(self._db.execute("SELECT coalesce(sum(held), 0) FROM items").fetchone()[0])

    # durability

    def sync(self) -> None:
        """Put what was committed on the disk itself. Blocking, from any thread; those who wait share one."""
        self._shared_sync()

    def _sync(self) -> None:
        # A commit in WAL mode with synchronous=NORMAL is in the log file but not synced (sqlite.org/wal.html §2.1);
        # syncing that file by any descriptor does what synchronous=FULL would have done at each commit.
        wal = f"{self._path}-wal"
        try:
            descriptor = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if self._log_is_named:
                os.fdatasync(descriptor)
            else:  # the first time its name in the directory as well
                os.fsync(descriptor)
                self._log_is_named = True
        finally:
            os.close(descriptor)

    def checkpoint(self) -> None:
        """Move the log into the database file, over a connection of its own. Blocking; in a worker thread."""
        other = sqlite3.connect(self._path, isolation_level=None)
        try:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            other.close()

    # writing, with a full disk in mind

    def _write(self, *statements: _Statement) -> int:
        """Run statements as one transaction; answers the last rowid. On a full disk the reserve is spent first."""
        try:
            return self._transact(statements)
        except sqlite3.OperationalError as problem:
            if "full" not in str(problem):
                raise StorageError("", f"the cache index cannot be written: {problem}") from problem
            if not self._spend_reserve():
                raise NoSpace("", "the disk of the cache is full") from problem
        try:
            return self._transact(statements)
        except sqlite3.OperationalError as problem:
            raise NoSpace("", "the disk of the cache is full") from problem

    def _transact(self, statements: tuple[_Statement, ...]) -> int:
        if not statements:
            return 0
        if len(statements) == 1:
            return self._db.execute(*statements[0]).lastrowid or 0
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                made = self._db.execute(*statement)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return made.lastrowid or 0

    @property
    def starved(self) -> bool:
        """The reserve is spent: data must not take the room that the index needs to give room back."""
        return not self._reserved

    def make_reserve(self) -> bool:
        """Put room aside that only the index may use; answers whether there is some."""
        if not self._reserved:
            descriptor = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE)
                self._reserved = True
            except OSError:
                os.unlink(self._reserve)
            finally:
                os.close(descriptor)
        return self._reserved

    def _spend_reserve(self) -> bool:
        if not self._reserved:
            return False
        self._reserved = False
        os.unlink(self._reserve)
        log.warning("the disk of the cache is full; the index goes on with what was put aside for it")
        return True


_Statement = tuple[str, tuple[Any, ...]]


_UPDATE = (
    "UPDATE items SET size=?, mtime_ns=?, spans=?, held=?, base=?, attempt=?, dirty=?, promise=?, atime=?,"
    " tries=?, error=CAST(? AS TEXT) WHERE id=?"
)
_UPDATE_WITH_PATH = _UPDATE.replace(" WHERE", ", path=CAST(? AS TEXT) WHERE")


def _update(row: Row, *, with_path: bool = False) -> _Statement:
    values = (
        row.size, row.mtime_ns, row.spans.encode(), row.spans.total, _pack(row.base), _pack(row.attempt),
        row.dirty, row.promise, row.atime, row.tries, _bytes(row.error),
    )  # fmt: skip
    if with_path:
        return _UPDATE_WITH_PATH, (*values, _path_or_none(row.path), row.id)
    return _UPDATE, (*values, row.id)


def _link(item: ItemId, path: str | None) -> list[_Statement]:
    take: list[_Statement] = [("UPDATE items SET path = CAST(? AS TEXT) WHERE id = ?", (_path_or_none(path), item))]
    if path is not None:
        take.insert(0, ("UPDATE items SET path = NULL WHERE path = CAST(? AS TEXT) AND id <> ?", (_bytes(path), item)))
    return take

"""The index: what must never be lost, in SQLite (WAL). Used by :mod:`.store` alone.

One row an item: name, size, spans held, the remote version they belong to, and the upload journal. Every
call commits before it returns, which survives ``kill -9``; :meth:`Index.sync` makes it survive power loss.
All calls run inline on the trio thread (a commit costs about 20 µs); `sync` and `checkpoint` block on the
disk and belong in a worker thread.

Queries go by access time and by dirtiness, so that neither start-up nor eviction walks the cache.

Each row carries a checksum of everything in it but the access time (which only orders eviction), and whether it is
dirty a second time, so that a flipped byte is noticed, and what may be dirty is never taken for clean.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, final

from ..errors import NoSpace, StorageError
from ..remotes.protocol import Version
from ..spans import SpanSet
from .shared import SharedSync

ItemId = NewType("ItemId", int)
FORMAT = 2
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
    error TEXT NOT NULL DEFAULT '',
    sum INTEGER NOT NULL DEFAULT 0,
    named INTEGER NOT NULL DEFAULT 0,
    synced INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS items_by_path ON items (path) WHERE path IS NOT NULL;
CREATE INDEX IF NOT EXISTS items_by_access ON items (atime, id, held) WHERE dirty = 0;
CREATE INDEX IF NOT EXISTS items_dirty ON items (id) WHERE dirty = 1;
CREATE INDEX IF NOT EXISTS items_nameless ON items (id) WHERE path IS NULL;
CREATE TABLE IF NOT EXISTS trash (id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS renames (old TEXT PRIMARY KEY, new TEXT NOT NULL, versions TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pins (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS overlays (stage INTEGER PRIMARY KEY, item INTEGER, start INTEGER, size INTEGER);
CREATE TABLE IF NOT EXISTS retired (path TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


def _definitions(db: sqlite3.Connection) -> dict[str, str]:
    """What tables and indexes a file has, by name; blanks do not count."""
    found = db.execute("SELECT name, sql FROM sqlite_master WHERE typeof(sql) = 'text'").fetchall()
    return {name: "".join(sql.split()) for name, sql in found}


def _expected() -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return _definitions(db)


_EXPECTED = _expected()


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
    synced: int = 0
    """How long the file was when fsync returned on it; what was added since, a loss of power may take."""


@final
@dataclass(frozen=True, slots=True)
class Move:
    """A rename that the remote is asked for, where changes are here of what is renamed, or of what is replaced."""

    old: str
    new: str
    versions: tuple[Version, ...] = ()
    """What the remote may have of it; of a directory nothing."""
    item: ItemId | None = None
    replaced: ItemId | None = None
    """What was changed of the file that had the new name. Whatever else is found of a name came later."""


class Unreadable(Exception):
    """An entry makes no sense; ``item`` is its id, ``dirty`` whether it may hold what is nowhere else."""

    def __init__(self, item: ItemId, dirty: bool) -> None:
        super().__init__(item)
        self.item = item
        self.dirty = dirty


_COLUMNS = (
    "id, path, size, mtime_ns, spans, held, base, attempt, dirty, promise, atime, tries, error, synced, sum, named"
)
DIRTY_TOO = 1 << 32
"""Set in the checksum of dirty rows."""


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


_DAMAGE = {
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_READONLY,  # what the header says, for the directory can be written
}  # fmt: skip


def is_damage(problem: sqlite3.DatabaseError) -> bool:
    """Whether the file is not what was written, rather than the disk full, failing or somebody else's."""
    code = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in _DAMAGE


def _sum(ident: int, facts: tuple[Any, ...], dirty: bool) -> int:
    """The checksum of a row: ``facts`` as they are stored, from the size to the error, without the access time."""
    text = repr((ident, facts)).encode()
    return zlib.crc32(text) | (DIRTY_TOO if dirty else 0)


def _named(ident: int, path: bytes | None) -> int:
    """The checksum of a row's name, which alone changes in a rename."""
    return zlib.crc32(b"" if path is None else path, zlib.crc32(b"%d %d" % (ident, path is not None)))


def _row(values: tuple[Any, ...]) -> Row:
    """A row as read; raises `Unreadable` where it is not what was written."""
    ident, path, size, mtime_ns, spans, held, base, attempt, dirty, promise, atime, tries, error, synced, *sums = values
    facts = (size, mtime_ns, spans, held, base, attempt, dirty, promise, tries, error, synced)
    total, named = sums
    try:
        if total != _sum(ident, facts, dirty == 1) or named != _named(ident, _path_or_none(path)):
            raise ValueError("checksum")
        return Row(
            ItemId(ident), path, size, mtime_ns, SpanSet.decode(spans), _unpack(base), _unpack(attempt),
            bool(dirty), promise, float(atime), tries, error, synced,
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError):
        clean = dirty == 0 and isinstance(total, int) and not total & DIRTY_TOO
        raise Unreadable(ItemId(ident), not clean) from None


@final
class Index:
    """The open index file. Raises ``sqlite3.DatabaseError`` from :meth:`__init__` when the file is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.marker = path.with_name("damaged")
        """Says that a former process found the file damaged."""
        self._shared_sync = SharedSync(self._sync)
        self._log_is_named = False
        self._reserve = path.with_name("reserve")
        self._reserved = self._reserve.exists() and self._reserve.stat().st_blocks * 512 >= RESERVE
        fresh = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.text_factory = _text
        os.chmod(path, 0o600)
        try:
            self._prepare(fresh)
        except UnicodeDecodeError as problem:  # the message that says so quotes what was found
            raise sqlite3.DatabaseError("it is not what was written") from problem

    def _prepare(self, fresh: bool) -> None:
        run = self._db.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA wal_autocheckpoint = 0")
        run("PRAGMA temp_store = MEMORY")
        self._db.create_function("named", 2, _named, deterministic=True)
        self._db.executescript(_SCHEMA)
        found = self.fact("format")
        if fresh or found is None:
            self.set_fact("format", str(FORMAT))
        elif found == "1":
            self._add_sums()
        elif found != str(FORMAT):
            raise sqlite3.DatabaseError(f"format {found}, this program writes {FORMAT}")
        if not _EXPECTED.items() <= _definitions(self._db).items():
            raise sqlite3.DatabaseError("its tables are not those that this program makes")
        self._next = 1 + max(
            run(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]  # noqa: S608
            for column, table in (("seq", "sqlite_sequence"), ("id", "items"), ("id", "trash"))
        )
        self.make_reserve()
        run("SELECT count(*) FROM (SELECT 1 FROM items LIMIT 1)").fetchone()

    def _add_sums(self) -> None:
        """Rows of a former version have no checksum yet."""
        old = _COLUMNS.removesuffix(", synced, sum, named")
        for column in ("sum", "named", "synced"):
            with contextlib.suppress(sqlite3.OperationalError):  # a former start did not get to the end of this
                self._db.execute(f"ALTER TABLE items ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
        statements: list[_Statement] = []
        for ident, path, *more in self._db.execute(f"SELECT {old} FROM items"):  # noqa: S608
            size, mtime_ns, spans, held, base, attempt, dirty, promise, _, tries, error = more
            facts = (size, mtime_ns, spans, held, base, attempt, dirty, promise, tries, error, size)
            named = _named(ident, _path_or_none(path))
            sums = _sum(ident, facts, dirty == 1), named, ident
            statements.append(("UPDATE items SET sum = ?, named = ?, synced = size WHERE id = ?", sums))
        self._write(*statements, ("UPDATE facts SET value = ? WHERE key = 'format'", (str(FORMAT),)))

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            self._ask("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()

    # facts about the whole cache

    def fact(self, key: str) -> str | None:
        """A remembered fact, or None."""
        found = self._ask("SELECT value FROM facts WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    def set_fact(self, key: str, value: str | None) -> None:
        """Remember a fact; None forgets it."""
        if value is None:
            self._write(("DELETE FROM facts WHERE key = ?", (key,)))
        else:
            self._write(("INSERT OR REPLACE INTO facts VALUES (?, CAST(? AS TEXT))", (key, _bytes(value))))

    # items

    def insert(self, row: Row) -> ItemId:
        """Add an item (``row.id`` is ignored); answers its id, never used before. The name must be free."""
        ident, path, facts = self._next, _path_or_none(row.path), _facts(row)
        self._write(
            (_INSERT, (ident, path, *facts, row.atime, _sum(ident, facts, row.dirty), _named(ident, path))),
        )
        self._next += 1
        return ItemId(ident)

    def save(self, *rows: Row, used: Iterable[Row] = ()) -> None:
        """Write everything but the path, and of those that were only ``used`` the access time, in one step."""
        self._write(*map(_update, rows), *(("UPDATE items SET atime=? WHERE id=?", (r.atime, r.id)) for r in used))

    def by_path(self, path: str) -> Row | None:
        """The item of that name; raises `Unreadable` for an entry that makes no sense."""
        query = f"SELECT {_COLUMNS} FROM items WHERE path = CAST(? AS TEXT)"  # noqa: S608
        found = self._ask(query, (_bytes(path),))
        return _row(found[0]) if found else None

    def dirty(self) -> tuple[list[Row], list[ItemId]]:
        """Every item with bytes that the remote does not have, and the ids of those that make no sense."""
        return self._rows("dirty = 1")

    def _rows(self, condition: str) -> tuple[list[Row], list[ItemId]]:
        rows: list[Row] = []
        unreadable: list[ItemId] = []
        for values in self._ask(f"SELECT {_COLUMNS} FROM items WHERE {condition}"):  # noqa: S608
            try:
                rows.append(_row(values))
            except Unreadable as problem:
                unreadable.append(problem.item)
        return rows, unreadable

    def link(self, item: ItemId, path: str | None) -> None:
        """Give an item a name, taking the name from whoever has it; None takes its name away."""
        self._write(*_link(item, path))

    def publish(self, row: Row, *, moved: str | None = None) -> None:
        """:meth:`save` and :meth:`link` to ``row.path``, and :meth:`end_move` of the name it had, in one step."""
        ended = [] if moved is None else [_end_move(moved)]
        try:  # the name is nearly always free
            self._write(_update(row, with_path=True), *ended)
        except sqlite3.IntegrityError:
            self._write(_update(row), *_link(row.id, row.path), *ended)

    def rename_tree(self, old: str, new: str) -> None:
        """Rename every item below the directory ``old``; one that has such a name already loses it. `end_move`, too."""
        # "0" is the character after "/": the half-open range of all names below a directory
        self._write(
            (
                "UPDATE items SET path = NULL, named = named(id, NULL)"
                " WHERE path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT)",
                (_bytes(new + "/"), _bytes(new + "0")),
            ),
            (
                "UPDATE items SET path = CAST(?1 || substr(CAST(path AS BLOB), ?2) AS TEXT),"
                " named = named(id, CAST(?1 || substr(CAST(path AS BLOB), ?2) AS BLOB))"
                " WHERE path >= CAST(?3 AS TEXT) AND path < CAST(?4 AS TEXT)",
                (_bytes(new), len(_bytes(old)) + 1, _bytes(old + "/"), _bytes(old + "0")),
            ),
            _end_move(old),
        )

    def delete(self, items: list[ItemId]) -> None:
        """Forget items; their ids stay in the trash until :meth:`trash_emptied`, for a crash in between."""
        self._write(
            *(("DELETE FROM items WHERE id = ?", (i,)) for i in items),
            *(("INSERT OR IGNORE INTO trash VALUES (?)", (i,)) for i in items),
        )

    def trash(self) -> list[ItemId]:
        """Ids whose files are still to be deleted."""
        query = "SELECT id FROM trash WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.id = trash.id)"
        return [ItemId(i) for (i,) in self._ask(query)]

    def trash_emptied(self, items: list[ItemId]) -> None:
        """The files of these are gone."""
        self._write(*(("DELETE FROM trash WHERE id = ?", (i,)) for i in items))

    def begin_overlay(self, stage: ItemId, item: ItemId, start: int, size: int) -> None:
        """The first ``size`` bytes of one file are being laid over another, for a crash before `end_overlay`."""
        self._write(("INSERT OR REPLACE INTO overlays VALUES (?, ?, ?, ?)", (stage, item, start, size)))

    def end_overlay(self, stage: ItemId) -> None:
        """They are, or never will be."""
        self._write(("DELETE FROM overlays WHERE stage = ?", (stage,)))

    def overlays(self) -> list[tuple[ItemId, ItemId, int, int]]:
        """Overlays that were not heard to end."""
        query = "SELECT stage, item, start, size FROM overlays"
        return [(ItemId(stage), ItemId(item), start, size) for stage, item, start, size in self._ask(query)]

    def begin_move(self, move: Move) -> None:
        """The remote is being asked, for a crash before `end_move`."""
        packed = json.dumps([[_pack(version) for version in move.versions], move.item, move.replaced])
        self._write(
            ("INSERT OR REPLACE INTO renames VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)",
             (_bytes(move.old), _bytes(move.new), packed))
        )  # fmt: skip

    def end_move(self, old: str) -> None:
        """What became of it is known, and items have the names that go with it. Not a step of its own where an item
        gets the new name: a journal that outlives that takes the item for what it replaced."""
        self._write(_end_move(old))

    def moves(self) -> list[Move]:
        """Renames that were not heard to end."""
        found = []
        for old, new, packed in self._ask("SELECT old, new, versions FROM renames"):
            try:
                versions, item, replaced = json.loads(packed)
                known = tuple(version for version in map(_unpack, versions) if version is not None)
            except (ValueError, TypeError, AttributeError):
                log.warning("what is known of a rename from %s to %s is damaged", old, new)
                continue
            found.append(Move(old, new, known, item, replaced))
        return found

    def retire(self, path: str, at: float) -> None:
        """Listings saved before a time, of a directory and all below it, are no more to be believed."""
        self._write(("INSERT OR REPLACE INTO retired VALUES (CAST(? AS TEXT), ?)", (_bytes(path), at)))

    def retired(self) -> dict[str, float]:
        """What `retire` was told."""
        found = dict(self._ask("SELECT path, at FROM retired"))
        sound = all(isinstance(path, str) and isinstance(at, float) for path, at in found.items())
        return found if sound else {"": time.time()}

    def retire_all(self, at: float) -> None:
        """`retire` the root, and forget the rest."""
        self._write(("DELETE FROM retired", ()), ("INSERT INTO retired VALUES ('', ?)", (at,)))

    def pins(self) -> list[str]:
        """Names that are kept in the cache."""
        return [path for (path,) in self._ask("SELECT path FROM pins")]

    def pin(self, path: str) -> None:
        """Keep a name in the cache."""
        self._write(("INSERT OR IGNORE INTO pins VALUES (CAST(? AS TEXT))", (_bytes(path),)))

    def unpin(self, path: str) -> None:
        """Keep it no longer."""
        self._write(("DELETE FROM pins WHERE path = CAST(? AS TEXT)", (_bytes(path),)))

    def path_of(self, item: ItemId) -> str | None:
        """The name of an item, if it has one."""
        found = self._ask("SELECT path FROM items WHERE id = ?", (item,))
        return found[0][0] if found else None

    def nameless(self) -> tuple[list[Row], list[ItemId]]:
        """Items without a name: unlinked while open, or staged; garbage after a restart, but those of no sense."""
        return self._rows("path IS NULL")

    def forget_clean(self) -> None:
        """Delete every item that can be fetched again; their ids are in the trash."""
        clean = f"dirty = 0 AND sum < {DIRTY_TOO}"
        self._write(
            (f"INSERT OR IGNORE INTO trash SELECT id FROM items WHERE {clean}", ()),  # noqa: S608
            (f"DELETE FROM items WHERE {clean}", ()),  # noqa: S608
        )

    def exists(self, item: ItemId) -> bool:
        """Whether the index, or its trash, knows this id."""
        query = "SELECT EXISTS (SELECT 1 FROM items WHERE id = ?) OR EXISTS (SELECT 1 FROM trash WHERE id = ?)"
        return bool(self._ask(query, (item, item))[0][0])

    def oldest(self, before: float) -> Iterator[tuple[ItemId, float, int]]:
        """Clean items last used before a time, least recently used first: id, atime, bytes held.

        The index may change while it is read; read it to the end or drop it.
        """
        query = "SELECT id, atime, held FROM items WHERE dirty = 0 AND atime < ? ORDER BY atime"
        try:
            yield from self._db.execute(query, (before,))
        except sqlite3.DatabaseError as problem:
            raise self._damaged(problem) from problem

    def held(self) -> int:
        """Bytes held by all items."""
        halves = [f"SELECT coalesce(sum(held), 0) FROM items WHERE dirty {test} 0" for test in ("=", "<>")]  # noqa: S608
        return sum(int(self._ask(half)[0][0]) for half in halves)

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
        try:
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as other:
                other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.DatabaseError as problem:
            raise self._damaged(problem) from problem

    # a damaged file

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query; StorageError where the file is damaged."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as problem:
            raise self._damaged(problem) from problem
        except UnicodeDecodeError as problem:
            raise self._damaged(sqlite3.DatabaseError("it is not what was written")) from problem

    def _damaged(self, problem: sqlite3.DatabaseError) -> StorageError:
        """What went wrong, as ours. A damaged file is marked: nobody can go on with it after this run."""
        if not is_damage(problem):
            return StorageError("", f"the cache index cannot be read: {problem}")
        if not self.marker.exists():
            log.error("the cache index is damaged (%s); start anew, and what it described is set aside", problem)
            with contextlib.suppress(OSError):
                self.marker.touch(0o600)
        return StorageError("", f"the cache index is damaged: {problem}")

    # writing, with a full disk in mind

    def _write(self, *statements: _Statement) -> int:
        """Run statements as one transaction; answers the last rowid. On a full disk the reserve is spent first."""
        try:
            return self._transact(statements)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise self._damaged(problem) from problem
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


_FACTS = "size, mtime_ns, spans, held, base, attempt, dirty, promise, tries, error, synced"
_INSERT = (
    f"INSERT INTO items (id, path, {_FACTS}, atime, sum, named)"  # noqa: S608
    " VALUES (?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE items SET size=?, mtime_ns=?, spans=?, held=?, base=?, attempt=?, dirty=?, promise=?, tries=?,"
    " error=CAST(? AS TEXT), synced=?, atime=?, sum=? WHERE id=?"
)
_UPDATE_WITH_PATH = _UPDATE.replace(" WHERE", ", path=CAST(? AS TEXT), named=? WHERE")


def _facts(row: Row) -> tuple[Any, ...]:
    return (
        row.size, row.mtime_ns, row.spans.encode(), row.spans.total, _pack(row.base), _pack(row.attempt),
        int(row.dirty), row.promise, row.tries, _printable(row.error), row.synced,
    )  # fmt: skip


def _printable(text: str) -> str:
    """Text that is the same when it is read again."""
    return text.encode("utf-8", "replace").decode()


def _update(row: Row, *, with_path: bool = False) -> _Statement:
    facts = _facts(row)
    values = (*facts, row.atime, _sum(row.id, facts, row.dirty))
    if with_path:
        path = _path_or_none(row.path)
        return _UPDATE_WITH_PATH, (*values, path, _named(row.id, path), row.id)
    return _UPDATE, (*values, row.id)


def _end_move(old: str) -> _Statement:
    return "DELETE FROM renames WHERE old = CAST(? AS TEXT)", (_bytes(old),)


def _link(item: ItemId, path: str | None) -> list[_Statement]:
    name = _path_or_none(path)
    take: list[_Statement] = [
        ("UPDATE items SET path = CAST(? AS TEXT), named = ? WHERE id = ?", (name, _named(item, name), item))
    ]
    if path is not None:
        taken = (
            "UPDATE items SET path = NULL, named = named(id, NULL) WHERE path = CAST(? AS TEXT) AND id <> ?",
            (_bytes(path), item),
        )
        take.insert(0, taken)
    return take

"""The index: what must never be lost, in SQLite (WAL). Used by :mod:`.store` alone.

One row an item: name, size, spans held, the remote version they belong to, and the upload journal. Every
call commits before it returns, which survives ``kill -9``; :meth:`Index.sync` makes it survive power loss.
All calls run inline on the trio thread (a commit costs about 20 µs); `sync` and `checkpoint` block on the
disk and belong in a worker thread.

Queries go by access time and by dirtiness, so that neither start-up nor eviction walks the cache.

A change that tells of something which the remote has done already cannot be refused when the disk is: it is *owed*,
and goes first with the next write; until then nothing is asked. A crash before that is what :class:`.rows.Move` is for.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from ..errors import NoSpace, StorageError
from . import rows as sql
from .indexlog import IndexLog
from .rows import ItemId, Move, Row, Unreadable

FORMAT = 2
AT_ONCE = 64
"""Ids that are put aside in one step, see `Index.stage`."""
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


_DAMAGE = {
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_READONLY,  # what the header says, for the directory can be written
}  # fmt: skip


def _code(problem: sqlite3.DatabaseError) -> int:
    if isinstance(problem, sqlite3.ProgrammingError):  # it is closed: what comes after the end is no damage
        return sqlite3.SQLITE_MISUSE
    return int(getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def is_damage(problem: sqlite3.DatabaseError) -> bool:
    """Whether the file is not what was written, rather than closed, or the disk full, failing or somebody else's."""
    return _code(problem) in _DAMAGE


@final
class Index:
    """The open index file. Raises ``sqlite3.DatabaseError`` from :meth:`__init__` when the file is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.marker = path.with_name("damaged")
        """Says that a former process found the file damaged."""
        self._log = IndexLog(path)
        self._block = self._spare = range(0)
        """Ids that were put aside last for `stage`, and those of them that are left."""
        self._staged: set[ItemId] = set()
        """Ids that it gave, of which there is no row yet."""
        self._owed: list[sql.Statement] = []
        self._reserve = path.with_name("reserve")
        self._reserved = self._reserve.exists() and self._reserve.stat().st_blocks * 512 >= RESERVE
        fresh = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.text_factory = sql.name_text
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
        self._db.create_function("named", 2, sql.name_checksum, deterministic=True)
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
        roots = [root for (root,) in run("SELECT rootpage FROM sqlite_master WHERE rootpage <> 0")]
        if len(set(roots)) < len(roots):
            raise sqlite3.DatabaseError("two of its tables lie in one place")
        self._write(("DELETE FROM trash WHERE EXISTS (SELECT 1 FROM items WHERE items.id = trash.id)", ()))
        self._next = 1 + max(
            run(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]  # noqa: S608
            for column, table in (("seq", "sqlite_sequence"), ("id", "items"), ("id", "trash"))
        )
        self.make_reserve()
        run("SELECT count(*) FROM (SELECT 1 FROM items LIMIT 1)").fetchone()

    def _add_sums(self) -> None:
        """Rows of a former version have no checksum yet."""
        old = sql.COLUMNS.removesuffix(", synced, sum, named")
        for column in ("sum", "named", "synced"):
            with contextlib.suppress(sqlite3.OperationalError):  # a former start did not get to the end of this
                self._db.execute(f"ALTER TABLE items ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
        statements: list[sql.Statement] = []
        for ident, path, *more in self._db.execute(f"SELECT {old} FROM items"):  # noqa: S608
            size, mtime_ns, spans, held, base, attempt, dirty, promise, _, tries, error = more
            facts = (size, mtime_ns, spans, held, base, attempt, dirty, promise, tries, error, size)
            named = sql.name_checksum(ident, sql.path_bytes(path))
            sums = sql.checksum(ident, facts, dirty == 1), named, ident
            statements.append(("UPDATE items SET sum = ?, named = ?, synced = size WHERE id = ?", sums))
        self._write(*statements, ("UPDATE facts SET value = ? WHERE key = 'format'", (str(FORMAT),)))

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            if self._block:
                self._write(self._without_spare())
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
            self._write(("INSERT OR REPLACE INTO facts VALUES (?, CAST(? AS TEXT))", (key, sql.name_bytes(value))))

    # items

    def insert(self, row: Row) -> ItemId:
        """Add an item (``row.id`` is ignored); answers its id, never used before. The name must be free."""
        ident = self._next
        self._write(sql.insert(row, ident))
        self._next += 1
        return ItemId(ident)

    def stage(self) -> ItemId:
        """An id for an item that is not to be known before `publish`; `delete` if it never is.

        Until then it is in the trash, for a crash, where a step of the index puts many.
        """
        if not self._spare:
            spare = range(self._next, self._next + AT_ONCE)
            self._write(self._without_spare(), *(("INSERT INTO trash VALUES (?)", (i,)) for i in spare))
            self._block = self._spare = spare
            self._next = spare.stop
        ident = ItemId(self._spare[0])
        self._spare = self._spare[1:]
        self._staged.add(ident)
        return ident

    def _without_spare(self) -> sql.Statement:
        """Those that were put aside last are not in the trash any more, but for what is to be deleted."""
        first = self._spare.start if self._spare else self._block.stop
        return (
            "DELETE FROM trash WHERE id >= ? AND id < ?"
            " AND (id >= ? OR EXISTS (SELECT 1 FROM items WHERE items.id = trash.id))",
            (self._block.start, self._block.stop, first),
        )

    def save(self, *rows: Row, used: Iterable[Row] = (), owed: bool = False) -> None:
        """Write everything but the path, and of those that were only ``used`` the access time, in one step."""
        touched = [("UPDATE items SET atime=? WHERE id=?", (row.atime, row.id)) for row in used]
        self._write(*map(sql.update, rows), *touched, owed=owed)

    def by_path(self, path: str) -> Row | None:
        """The item of that name; raises `Unreadable` for an entry that makes no sense."""
        query = f"SELECT {sql.COLUMNS} FROM items WHERE path = CAST(? AS TEXT)"  # noqa: S608
        found = self._ask(query, (sql.name_bytes(path),))
        return sql.read_row(found[0]) if found else None

    def dirty(self) -> tuple[list[Row], list[ItemId]]:
        """Every item with bytes that the remote does not have, and the ids of those that make no sense."""
        return self._rows("dirty = 1")

    def _rows(self, condition: str) -> tuple[list[Row], list[ItemId]]:
        rows: list[Row] = []
        unreadable: list[ItemId] = []
        for values in self._ask(f"SELECT {sql.COLUMNS} FROM items WHERE {condition}"):  # noqa: S608
            try:
                rows.append(sql.read_row(values))
            except Unreadable as problem:
                unreadable.append(problem.item)
        return rows, unreadable

    def link(self, item: ItemId, path: str | None, *, gone: str | None = None, owed: bool = False) -> None:
        """Give an item a name, taking the name from whoever has it; None takes its name away.

        ``gone``: of a removal of that name, which the remote has done, that is the end.
        """
        self._write(*sql.link(item, path), *([] if gone is None else [sql.end_move(gone)]), owed=owed)

    def publish(self, row: Row, *, moved: str | None = None, owed: bool = False) -> None:
        """:meth:`save` and :meth:`link` to ``row.path``, and :meth:`end_move` of the name it had, in one step."""
        ended = [] if moved is None else [sql.end_move(moved)]
        staged = row.id in self._staged
        try:  # the name is nearly always free
            self._write(sql.insert(row, row.id) if staged else sql.update(row, with_path=True), *ended)
        except sqlite3.IntegrityError:
            self._write(*self._taking_the_name(row), *ended, owed=owed)
        except OSError as problem:
            if not owed:
                raise
            self._owe((*self._taking_the_name(row), *ended), problem)
        self._staged.discard(row.id)

    def _taking_the_name(self, row: Row) -> list[sql.Statement]:
        """`publish`, from whoever has it."""
        facts = sql.insert(replace(row, path=None), row.id) if row.id in self._staged else sql.update(row)
        return [facts, *sql.link(row.id, row.path)]

    def rename_tree(self, old: str, new: str) -> None:
        """Rename every item below the directory ``old``; one that has such a name already loses it. `end_move`, too."""
        self._write(
            (
                "UPDATE items SET path = NULL, named = named(id, NULL)"
                " WHERE path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT)",
                sql.below(new),
            ),
            (
                "UPDATE items SET path = CAST(?1 || substr(CAST(path AS BLOB), ?2) AS TEXT),"
                " named = named(id, CAST(?1 || substr(CAST(path AS BLOB), ?2) AS BLOB))"
                " WHERE path >= CAST(?3 AS TEXT) AND path < CAST(?4 AS TEXT)",
                (sql.name_bytes(new), len(sql.name_bytes(old)) + 1, *sql.below(old)),
            ),
            sql.end_move(old),
            owed=True,
        )

    def delete(self, items: list[ItemId], *, gone: str | None = None, owed: bool = False) -> None:
        """Forget items; their ids stay in the trash until :meth:`trash_emptied`, for a crash in between."""
        self._write(
            *(("DELETE FROM items WHERE id = ?", (i,)) for i in items),
            *(("INSERT OR IGNORE INTO trash VALUES (?)", (i,)) for i in items),
            *([] if gone is None else [sql.end_move(gone)]),
            owed=owed,
        )
        self._staged.difference_update(items)

    def trash(self) -> list[ItemId]:
        """Ids whose files are still to be deleted."""
        query = "SELECT id FROM trash WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.id = trash.id)"
        return [ItemId(i) for (i,) in self._ask(query)]

    def trash_emptied(self, items: list[ItemId], *, owed: bool = False) -> None:
        """The files of these are gone."""
        self._write(*(("DELETE FROM trash WHERE id = ?", (i,)) for i in items), owed=owed)

    def begin_overlay(self, stage: ItemId, item: ItemId, start: int, size: int) -> None:
        """The first ``size`` bytes of one file are being laid over another, for a crash before `end_overlay`."""
        self._write(("INSERT OR REPLACE INTO overlays VALUES (?, ?, ?, ?)", (stage, item, start, size)))

    def end_overlay(self, stage: ItemId) -> None:
        """They are, or never will be."""
        self._write(("DELETE FROM overlays WHERE stage = ?", (stage,)))

    def overlays(self) -> list[tuple[ItemId, ItemId, int, int]]:
        """Overlays that were not heard to end."""
        found = self._ask("SELECT stage, item, start, size FROM overlays")
        if not all(type(value) is int and value >= 0 for row in found for value in row):
            raise self._damaged(sqlite3.DatabaseError("what is known of an upload is not what was written"))
        return [(ItemId(stage), ItemId(item), start, size) for stage, item, start, size in found]

    def begin_move(self, move: Move) -> None:
        """The remote is being asked to rename or to remove something, for a crash before `end_move`."""
        packed = json.dumps([[sql.pack(version) for version in move.versions], move.item, move.replaced])
        self._write(
            ("INSERT OR REPLACE INTO renames VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)",
             (sql.name_bytes(move.old), sql.name_bytes(move.new), packed))
        )  # fmt: skip

    def end_move(self, old: str) -> None:
        """What became of it is known, and items have the names that go with it. Not a step of its own where an item
        gets the new name: a journal that outlives that takes the item for what it replaced."""
        self._write(sql.end_move(old), owed=True)

    def moves(self) -> list[Move]:
        """Renames and removals that were not heard to end."""
        found = []
        for old, new, packed in self._ask("SELECT old, new, versions FROM renames"):
            try:
                versions, item, replaced = json.loads(packed)
                known = tuple(version for version in map(sql.unpack, versions) if version is not None)
                if not (isinstance(old, str) and isinstance(new, str)):
                    raise TypeError("names are text")
            except (ValueError, TypeError, AttributeError):
                log.warning("what is known of a rename from %s to %s is damaged", old, new)
                continue
            found.append(Move(old, new, known, item, replaced))
        return found

    def retire(self, path: str, at: float) -> None:
        """Listings saved before a time, of a directory and all below it, are no more to be believed."""
        self._write(("INSERT OR REPLACE INTO retired VALUES (CAST(? AS TEXT), ?)", (sql.name_bytes(path), at)))

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
        return [path for (path,) in self._ask("SELECT path FROM pins") if isinstance(path, str)]

    def pin(self, path: str, *, owed: bool = False) -> None:
        """Keep a name in the cache."""
        self._write(("INSERT OR IGNORE INTO pins VALUES (CAST(? AS TEXT))", (sql.name_bytes(path),)), owed=owed)

    def unpin(self, path: str, *, owed: bool = False) -> None:
        """Keep it no longer."""
        self._write(("DELETE FROM pins WHERE path = CAST(? AS TEXT)", (sql.name_bytes(path),)), owed=owed)

    def path_of(self, item: ItemId) -> str | None:
        """The name of an item, if it has one."""
        found = self._ask("SELECT path FROM items WHERE id = ?", (item,))
        return found[0][0] if found else None

    def nameless(self) -> tuple[list[Row], list[ItemId]]:
        """Items without a name: unlinked while open, or staged; garbage after a restart, but those of no sense."""
        return self._rows("path IS NULL")

    def forget_clean(self) -> None:
        """Delete every item that can be fetched again; their ids are in the trash."""
        clean = f"dirty = 0 AND sum < {sql.DIRTY_TOO}"
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
        self.pay()
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
        """Put what was committed on the disk itself. Blocking, from any thread; those who wait share one.

        StorageError while something is owed: that is not even committed.
        """
        if self._owed:
            raise StorageError("", "the cache index could not be written before")
        self._log.sync()

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
        self.pay()
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

    def _write(self, *statements: sql.Statement, owed: bool = False) -> None:
        """Run statements as one transaction, after what is owed. On a full disk the reserve is spent first.

        ``owed``: they are, where the disk refuses.
        """
        try:
            self._transact_somehow((*self._owed, *statements))
        except OSError as problem:
            if not owed:
                raise
            self._owe(statements, problem)
        else:
            self._owed.clear()
            if not self.starved:
                self._log.grow()

    def _owe(self, statements: tuple[sql.Statement, ...], problem: OSError) -> None:
        log.warning("the cache index cannot be written now, and is to be later: %s", problem)
        self._owed += statements

    @property
    def owes(self) -> bool:
        """Whether something has happened that is not written yet."""
        return bool(self._owed)

    def pay(self) -> None:
        """Write what is owed; raises if that still cannot be."""
        if self._owed:
            self._write()

    def _transact_somehow(self, statements: tuple[sql.Statement, ...]) -> None:
        try:
            self._transact(statements)
            return
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as problem:
            if _code(problem) != sqlite3.SQLITE_FULL:
                raise self._damaged(problem) from problem
            if not self._spend_reserve():
                raise NoSpace("", "the disk of the cache is full") from problem
        try:
            self._transact(statements)
        except sqlite3.OperationalError as problem:
            raise NoSpace("", "the disk of the cache is full") from problem

    def _transact(self, statements: tuple[sql.Statement, ...]) -> None:
        if not statements:
            return
        if len(statements) == 1:
            self._db.execute(*statements[0])
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                self._db.execute(*statement)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

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

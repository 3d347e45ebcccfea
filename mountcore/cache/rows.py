"""Rows of the index: what is known of one item, and how it is written and read again. Pure; a leaf.

Each row carries a checksum of everything in it but the access time (which only orders eviction), and whether it is
dirty a second time, so that a flipped byte is noticed, and what may be dirty is never taken for clean.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NewType, final

from ..remotes.protocol import Version
from ..spans import Span, SpanSet

ItemId = NewType("ItemId", int)
Statement = tuple[str, tuple[Any, ...]]
"""SQL and its values."""
Claim = tuple[
    int, "int | None", SpanSet, "Version | None", "Version | None", bool, int, int, str, int, "SpanSet | None"
]


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
    synced_spans: SpanSet | None = None
    """Which of these bytes were here then, where that was not all of them: what was fetched or written into the gaps
    since, a loss of power may take, too."""

    def claim(self) -> Claim:
        """What the row says now, but its name and access time, for `restore`."""
        return (self.size, self.mtime_ns, self.spans.copy(), self.base, self.attempt, self.dirty, self.promise,
                self.tries, self.error, self.synced, self.synced_spans)  # fmt: skip

    def restore(self, claim: Claim) -> None:
        """Say again what was said then."""
        (self.size, self.mtime_ns, spans, self.base, self.attempt, self.dirty, self.promise,
         self.tries, self.error, self.synced, self.synced_spans) = claim  # fmt: skip
        self.spans.become(spans)

    def now(self) -> OnDisk:
        """What a sync that begins now puts on the disk."""
        return OnDisk(self.size, None if self.spans.covers(0, self.size) else self.spans.copy())

    def on_disk(self, more: OnDisk) -> None:
        """A sync that began with this has ended."""
        spans = SpanSet([Span(0, more.size)]) if more.spans is None else more.spans.copy()
        for span in self.synced_spans if self.synced_spans is not None else [Span(0, self.synced)]:
            spans.add(span)
        self.synced = max(self.synced, more.size)
        self.synced_spans = None if spans.covers(0, self.synced) else spans

    def nothing_synced(self) -> None:
        """What is here is not what was synced."""
        self.synced, self.synced_spans = 0, None


@final
@dataclass(frozen=True, slots=True)
class Move:
    """A rename or removal that the remote is asked for, where changes are here of what it is done to, or replaces."""

    old: str
    new: str
    """"" where it is to be gone."""
    versions: tuple[Version, ...] = ()
    """What the remote may have of it; of a directory nothing; of what is to be gone, what is here of it."""
    item: ItemId | None = None
    replaced: ItemId | None = None
    """What was changed of the file that had the new name. Whatever else is found of a name came later."""


class OnDisk(NamedTuple):
    """So many bytes of a file, or those of them, are on the disk itself."""

    size: int
    spans: SpanSet | None

    def up_to(self, size: int) -> OnDisk:
        """The same of what is left of a file that was cut."""
        if size >= self.size:
            return self
        spans = None if self.spans is None else self.spans.copy()
        if spans is not None:
            spans.clip(size)
        return OnDisk(size, spans)


class Unreadable(Exception):
    """An entry makes no sense; ``item`` is its id, ``dirty`` whether it may hold what is nowhere else."""

    def __init__(self, item: ItemId, dirty: bool) -> None:
        super().__init__(item)
        self.item = item
        self.dirty = dirty


COLUMNS = (
    "id, path, size, mtime_ns, spans, held, base, attempt, dirty, promise, atime, tries, error, synced, sum, named"
)
DIRTY_TOO = 1 << 32
"""Set in the checksum of dirty rows."""


def name_bytes(name: str) -> bytes:
    """A name as ``CAST(? AS TEXT)`` takes it: one of the kernel's need not be UTF-8, and is kept all the same."""
    return name.encode("utf-8", "surrogateescape")


def path_bytes(path: str | None) -> bytes | None:
    return None if path is None else name_bytes(path)


def name_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def pack(version: Version | None) -> str | None:
    if version is None:
        return None
    return json.dumps([version.size, version.mtime_ns, version.resolution_ns, version.tag])


def unpack(text: str | None) -> Version | None:
    return None if text is None else Version(*json.loads(text))


def _pack_synced(row: Row) -> int | str:
    """A number, where that says all; SQLite keeps a text in a column of numbers as it is."""
    return row.synced if row.synced_spans is None else f"{row.synced};{row.synced_spans.encode()}"


def _unpack_synced(value: int | str) -> tuple[int, SpanSet | None]:
    if isinstance(value, int):
        return value, None
    size, _, spans = value.partition(";")
    return int(size), SpanSet.decode(spans)


def checksum(ident: int, facts: tuple[Any, ...], dirty: bool) -> int:
    """The checksum of a row: ``facts`` as they are stored, from the size to the error, without the access time."""
    text = repr((ident, facts)).encode()
    return zlib.crc32(text) | (DIRTY_TOO if dirty else 0)


def name_checksum(ident: int, path: bytes | None) -> int:
    """The checksum of a row's name, which alone changes in a rename."""
    return zlib.crc32(b"" if path is None else path, zlib.crc32(b"%d %d" % (ident, path is not None)))


def read_row(values: tuple[Any, ...]) -> Row:
    """A row as read; raises `Unreadable` where it is not what was written."""
    ident, path, size, mtime_ns, spans, held, base, attempt, dirty, promise, atime, tries, error, synced, *sums = values
    facts = (size, mtime_ns, spans, held, base, attempt, dirty, promise, tries, error, synced)
    total, named = sums
    try:
        if total != checksum(ident, facts, dirty == 1) or named != name_checksum(ident, path_bytes(path)):
            raise ValueError("checksum")
        return Row(
            ItemId(ident), path, size, mtime_ns, SpanSet.decode(spans), unpack(base), unpack(attempt),
            bool(dirty), promise, float(atime), tries, error, *_unpack_synced(synced),
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError):
        clean = dirty == 0 and isinstance(total, int) and not total & DIRTY_TOO
        raise Unreadable(ItemId(ident), not clean) from None


_FACTS = "size, mtime_ns, spans, held, base, attempt, dirty, promise, tries, error, synced"
INSERT = (
    f"INSERT INTO items (id, path, {_FACTS}, atime, sum, named)"  # noqa: S608
    " VALUES (?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE items SET size=?, mtime_ns=?, spans=?, held=?, base=?, attempt=?, dirty=?, promise=?, tries=?,"
    " error=CAST(? AS TEXT), synced=?, atime=?, sum=? WHERE id=?"
)
_UPDATE_WITH_PATH = _UPDATE.replace(" WHERE", ", path=CAST(? AS TEXT), named=? WHERE")


def facts_of(row: Row) -> tuple[Any, ...]:
    return (
        row.size, row.mtime_ns, row.spans.encode(), row.spans.total, pack(row.base), pack(row.attempt),
        int(row.dirty), row.promise, row.tries, _printable(row.error), _pack_synced(row),
    )  # fmt: skip


def _printable(text: str) -> str:
    """Text that is the same when it is read again."""
    return text.encode("utf-8", "replace").decode()


def insert(row: Row, ident: int) -> Statement:
    """Add a row under a new id."""
    path, facts = path_bytes(row.path), facts_of(row)
    return INSERT, (ident, path, *facts, row.atime, checksum(ident, facts, row.dirty), name_checksum(ident, path))


def below(directory: str) -> tuple[bytes, bytes]:
    """The half-open range of all names below a directory: "0" is the character after "/"."""
    return name_bytes(directory + "/"), name_bytes(directory + "0")


def update(row: Row, *, with_path: bool = False) -> Statement:
    facts = facts_of(row)
    values = (*facts, row.atime, checksum(row.id, facts, row.dirty))
    if with_path:
        path = path_bytes(row.path)
        return _UPDATE_WITH_PATH, (*values, path, name_checksum(row.id, path), row.id)
    return _UPDATE, (*values, row.id)


def end_move(old: str) -> Statement:
    return "DELETE FROM renames WHERE old = CAST(? AS TEXT)", (name_bytes(old),)


def link(item: ItemId, path: str | None) -> list[Statement]:
    name = path_bytes(path)
    take: list[Statement] = [
        ("UPDATE items SET path = CAST(? AS TEXT), named = ? WHERE id = ?", (name, name_checksum(item, name), item))
    ]
    if path is not None:
        taken = (
            "UPDATE items SET path = NULL, named = named(id, NULL) WHERE path = CAST(? AS TEXT) AND id <> ?",
            (name_bytes(path), item),
        )
        take.insert(0, taken)
    return take

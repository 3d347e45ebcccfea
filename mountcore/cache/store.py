"""The cache directory of one remote: the index, the data files, and the items in memory.

Used by fetch, write-back, eviction and the Vfs. One process owns the directory (``lock``). Layout::

    <cache-dir>/<name of the remote>-<hash>/
        lock  index.sqlite  data/<last two hex digits of the id>/<id>  lost+found/

Start-up reads what is dirty, not what is clean. Whatever cannot be understood is set aside in
``lost+found`` with a warning and never deleted. Opened by :mod:`.opening`. All methods but those that say so
run on the trio thread and are not checkpoints.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import logging
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import final

from ..errors import NoSpace, StorageError
from ..remotes.protocol import Version
from ..spans import Ledger, Span
from ..splicing import Piece
from .graves import Graves
from .index import Index
from .item import TOUCHED, UNTOUCHED, Data, Item
from .lending import sever, tells_of_writes
from .pins import Pins
from .retired import Retired
from .rows import ItemId, OnDisk, Row, Unreadable

log = logging.getLogger(__name__)

IDLE_ITEMS = 8192
"""Clean items that stay in memory after their last use: finding one in the index again costs 40 µs."""
IDLE_FILES = 512
"""Descriptors that stay open after their last use, of clean and dirty items; opening a file again costs 5 µs."""
DROPPED = 256
"""Items that leave memory at a time."""
_ZEROS = bytes(1 << 20)


@final
class Store:
    """Items by name and by id, and the bytes that they hold."""

    def __init__(self, directory: Path, index: Index, lock: int) -> None:
        self.directory = directory
        self.index = index
        self._lock = lock
        self._data = str(directory / "data")
        self._folders: set[int] = set()
        self.graves = Graves(index, self._file)
        self._items: dict[ItemId, Item] = {}
        self._by_path: dict[str, Item] = {}
        self._marked: dict[ItemId, Item] = {}
        """All that are dirty, and some that were."""
        self._marked_most = 1000
        """When to drop those that were."""
        self._idle: OrderedDict[ItemId, Item] = OrderedDict()
        """Clean items that nobody uses, least recently used first."""
        self._idle_files: OrderedDict[ItemId, Item] = OrderedDict()
        """Items that nobody uses and whose file is open."""
        self._unsaved: dict[ItemId, Item] = {}
        """Items of which the index does not know the access time, or what was fetched, yet."""
        self.ledger = Ledger()
        """Bytes held by all items, in memory or not, clean and dirty: the spans of those in memory count themselves."""
        self.on_dropped: Callable[[Item], None] = lambda item: None
        """Told of every item that leaves memory: nobody may use it any more."""
        self.unclean_stop = False
        self.strays = False
        """There may be data files that the index does not know."""
        self.power_lost = False
        self.retired = Retired(index)
        self.pins = Pins(index)

    @property
    def held(self) -> int:
        """Bytes held by all items, clean and dirty."""
        return self.ledger.total

    # finding and making items

    def get(self, path: str) -> Item | None:
        """The item of that name, if something of it is cached."""
        item = self._by_path.get(path)
        if item is None:
            try:
                row = self.index.by_path(path)
            except Unreadable as problem:
                if problem.dirty:
                    self.set_aside(problem.item, f"the entry of {path} is damaged, and may be of a changed file")
                else:
                    log.warning("the cache's entry of %s is damaged; it is fetched again", path)
                    self.delete([problem.item])
                self.recount()
                return None
            if row is not None:
                item = self.adopt(row)
        return item

    def recount(self, resting: int | None = None) -> None:
        """Count what is held anew; ``resting``: what the index says, if that is known."""
        ahead = sum(item.ahead for item in self._items.values())
        self.ledger.total = (self.index.held() if resting is None else resting) + ahead

    def peek(self, path: str) -> Item | None:
        """Like `get`, but only what is in memory; every dirty item is."""
        return self._by_path.get(path)

    def new(self, path: str | None, *, base: Version | None, dirty: bool) -> Item:
        """Make an item: clean with nothing held yet (``base`` given), or dirty and empty."""
        row = Row(
            ItemId(0), path, base.size if base and not dirty else 0,
            base.mtime_ns if base and not dirty else time.time_ns(),
            base=base, dirty=dirty, atime=time.time(),
        )  # fmt: skip
        try:
            row.id = self.index.insert(row)
        except sqlite3.IntegrityError:  # somebody has the name: he loses it
            row.path = None
            row.id = self.index.insert(row)
        item = self.adopt(row)
        if path is not None and row.path is None:
            self.link(item, path)
        return item

    def stage(self) -> Item:
        """Make an item that is dirty, empty and unknown to the index until `publish`."""
        row = Row(self.index.stage(), None, 0, time.time_ns(), dirty=True, atime=time.time())
        return self.adopt(row)

    def dirty_items(self) -> list[Item]:
        """Every named item that the remote does not have yet."""
        if not self._marked:
            return []
        self._marked = {ident: item for ident, item in self._marked.items() if item.dirty and ident in self._items}
        return [item for item in self._marked.values() if item.row.path is not None]

    def _mark(self, item: Item) -> None:
        """`dirty_items` has it from now on, for as long as it is dirty."""
        self._marked[item.id] = item
        if len(self._marked) > self._marked_most:
            self._marked_most = 2 * len(self.dirty_items()) + 1000

    def loaded_below(self, directory: str) -> list[Item]:
        """Items in memory whose names lie below a directory."""
        return [item for path, item in self._by_path.items() if path.startswith(directory + "/")]

    def adopt(self, row: Row) -> Item:
        """A row of the index as an item in memory."""
        item = Item(row, self._file(row.id))
        row.spans.enter(self.ledger)
        self._items[row.id] = item
        if row.path is not None:
            self._by_path[row.path] = item
        if row.dirty:
            self._mark(item)
        else:
            self._rest(item)
        return item

    def lay_over(self, item: Item, stage: ItemId, start: int, size: int) -> None:
        """Write the first ``size`` bytes of another file into a dirty item, and sync both. Blocking."""
        self.acquire(item)
        try:
            with open(self._file(stage), "rb") as source:
                while size > 0 and (piece := source.read(min(size, 1 << 20))):
                    start, size = start + self.write(item, start, piece), size - len(piece)
            synced = item.row.now()
            self.sync(item)
            self.promise(item, 2, synced)
            self.index.sync()
        finally:
            self.release(item)

    def holds(self, ident: ItemId) -> bool:
        """Whether there is a file of that id."""
        return os.path.exists(self._file(ident))

    def has_file(self, item: Item) -> bool:
        """Whether there is as much of its file as the index claims; what is empty needs none."""
        if not item.spans:
            return True
        try:
            return os.stat(self._file(item.id)).st_size >= (item.row.synced if item.row.promise == 2 else 1)
        except FileNotFoundError:
            return False

    def cut_to_synced(self, item: Item) -> None:
        """After a loss of power: what was added since the last fsync, or came into gaps, may be anything."""
        row = item.row
        item.cut(row.synced)
        for gap in row.synced_spans.gaps(0, row.size) if row.synced_spans is not None else ():
            row.spans.remove(gap)
        self.save(item)
        os.truncate(self._file(item.id), item.size)

    def cut_to_file(self, item: Item) -> None:
        """After a loss of power: the disk may not have got all that the index knows of."""
        held = os.stat(self._file(item.id)).st_size if item.spans else 0
        if held < item.spans.stop:
            item.cut(held)
            self.save(item)

    def claim_file(self, item: Item) -> None:
        """Whatever its file has beyond what the index was told is part of a dirty, complete item, too."""
        with contextlib.suppress(FileNotFoundError):
            held = os.stat(self._file(item.id)).st_size
            if held > item.size:
                item.spans.add(Span(0, held))
                item.row.size = held

    # use

    def acquire(self, item: Item) -> int:
        """One more user of the item's file; answers the descriptor. Touches the access time."""
        self._idle.pop(item.id, None)
        self._idle_files.pop(item.id, None)
        item.row.atime = time.time()
        with _disk_errors(item.path):
            if item.fd < 0 and item.id & 0xFF not in self._folders:
                os.makedirs(os.path.dirname(self._file(item.id)), 0o700, exist_ok=True)
                self._folders.add(item.id & 0xFF)
            return item.acquire()

    def release(self, item: Item) -> None:
        """One user less; the last one of an item without a name deletes it."""
        item.release()
        if item.opens:
            return
        if item.row.path is None:
            self._forget_nameless(item)
            return
        self._idle_files[item.id] = item
        if len(self._idle_files) > IDLE_FILES:
            self._idle_files.popitem(last=False)[1].close_file()
        if not item.dirty:
            self._unsaved[item.id] = item
            self._rest(item)

    @contextlib.contextmanager
    def kept(self, *items: Item | None) -> Iterator[None]:
        """None of these is evicted, or dropped from memory, while the block runs: who goes on with one that was would
        be writing into a file that the index does not know."""
        held = [item for item in items if item is not None]
        for item in held:
            item.keeps += 1
        try:
            yield
        finally:
            for item in held:
                item.keeps -= 1

    def _rest(self, item: Item) -> None:
        self._idle[item.id] = item
        self._idle.move_to_end(item.id)
        if len(self._idle) > IDLE_ITEMS:
            try:
                self.save_resting()
            except OSError as problem:  # what was fetched is fetched again
                log.info("the cache index cannot be brought up to date: %s", problem)
            for item in [item for item in itertools.islice(self._idle.values(), DROPPED) if not item.keeps]:
                self._drop_from_memory(item)

    def save_resting(self) -> None:
        """Write access times, and what was fetched, of the items that rest in memory; eviction goes by them."""
        resting = list(self._unsaved.values())
        changed = [item for item in resting if item.ahead]
        self.index.save(*[item.row for item in changed], used=[item.row for item in resting if not item.ahead])
        self._unsaved.clear()
        for item in changed:
            item.saved = item.spans.total

    def _drop_from_memory(self, item: Item) -> None:
        """The index knows it, and all that it knows counts on: what it was not told is forgotten."""
        self.on_dropped(item)
        self.ledger.total -= item.ahead
        item.spans.leave()
        for resting in (self._idle, self._idle_files, self._unsaved):
            resting.pop(item.id, None)
        item.close_file()
        self._items.pop(item.id, None)
        if self._by_path.get(item.path) is item:
            del self._by_path[item.path]

    # lending

    def lend(self, item: Item) -> None:
        """Somebody is going to write into an acquired, complete item without telling: the index knows before."""
        if not item.lent:
            clean = not item.dirty
            item.mark(UNTOUCHED if clean else TOUCHED)
            if clean:
                self.mark_dirty(item)
                item.marked = item.generation
        item.lent += 1

    def take_back(self, item: Item) -> None:
        """One borrower less; what he wrote is counted."""
        self.look(item)
        item.lent -= 1

    def look(self, item: Item) -> None:
        """Find out what borrowers wrote, if there are any."""
        if item.lent:
            item.look()

    def unmark(self, item: Item) -> None:
        """It was dirty because it was lent, and nobody wrote: clean again."""
        with self._changing(item) as row:
            row.dirty, row.promise = False, 0
        item.marked = None

    def left_untouched(self, item: Item) -> bool:
        """Whether a former process that was killed had lent the file and nobody wrote into it."""
        if self.power_lost or item.row.base is None or not item.complete:
            return False
        facts = os.stat(self._file(item.id))
        return facts.st_mtime_ns == UNTOUCHED and facts.st_size == item.row.size

    def sever(self, item: Item) -> None:
        """Give an acquired item a file of its own if somebody outside still has it open. Blocking; in a thread.

        A borrower cannot be made to return what he has when the mount has ended, or was killed.
        """
        descriptor = item.fd
        if descriptor >= 0:  # else the store is closed, and the next start does it
            sever(descriptor, self._file(item.id))

    def sever_left(self, item: Item) -> None:
        """`sever` what a former process, which was killed, had lent. Blocking."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self._file(item.id), os.O_RDWR | os.O_CLOEXEC)
            try:
                if sever(descriptor, self._file(item.id)):
                    log.warning("%s is still open through the mount that was killed; a copy is used here", item.path)
            finally:
                os.close(descriptor)

    @functools.cached_property
    def can_lend(self) -> bool:
        """Whether the disk tells of every write by the modification time (tmpfs does not of mapped pages)."""
        return tells_of_writes(str(self.directory / ".lent"))

    # changes

    def save(self, item: Item) -> None:
        """Write the item's claim to the index."""
        if self._items.get(item.id) is not item:
            raise StorageError(item.path, "the cache has given this up already")
        self.index.save(item.row)
        item.saved = item.row.spans.total

    @contextlib.contextmanager
    def _changing(self, item: Item) -> Iterator[Row]:
        """Change what is claimed of an item, and `save` it; where the index refuses, nothing has changed."""
        before = item.row.claim()
        try:
            yield item.row
            self.save(item)
        except OSError:
            item.row.restore(before)
            raise

    def mark_dirty(self, item: Item) -> None:
        """Before the first local byte: the index says that there is something to upload."""
        if not item.dirty:
            with self._changing(item) as row:
                row.dirty, row.promise = True, 0
                row.nothing_synced()
            self._idle.pop(item.id, None)
            self._mark(item)
            item.marked = None

    def promise(self, item: Item, level: int, synced: OnDisk | None = None) -> None:
        """What has been written so far survives ``kill -9`` from here on (level 1), or that is on the disk itself (2),
        which `Row.now` said before the sync."""
        new = synced is not None and (synced.size > item.row.synced or item.row.synced_spans is not None)
        if item.dirty and (item.promised != item.generation or item.row.promise < level or new):
            with self._changing(item) as row:
                row.promise = max(level, row.promise)
                if synced is not None:
                    row.on_disk(synced)
            item.claimed |= item.row.promise == 2
            item.promised = item.generation

    def set_mtime(self, item: Item, mtime_ns: int) -> None:
        """A dirty item is to be stored with this time."""
        with self._changing(item) as row:
            row.mtime_ns = mtime_ns

    def attempt(self, item: Item, version: Version) -> None:
        """The remote is about to be sent this: should that not be heard to end, it may be what is found there."""
        with self._changing(item) as row:
            row.attempt = version

    def settle(self, item: Item, stored: Version) -> None:
        """The remote has exactly what is here: clean, unless it is lent and so may change without our being told."""
        try:
            with self._changing(item) as row:
                row.dirty, row.promise = item.lent > 0, 0
                row.nothing_synced()
                row.base, row.attempt, row.mtime_ns = stored, None, stored.mtime_ns
                row.tries, row.error = 0, ""
        except OSError:
            item.row.base = stored  # which is what the next try replaces
            raise
        item.marked = item.generation if item.lent else None
        if not item.opens:
            self._rest(item)

    def rebase(self, item: Item, base: Version | None) -> bool:
        """An item belongs to another remote version now: what was held, or changed, goes, and it is clean.

        Answers False where its file could not be emptied: it is of no use any more.
        """
        with self._changing(item) as row:
            row.spans.clear()
            row.base = base
            row.size, row.mtime_ns = (base.size, base.mtime_ns) if base else (0, None)
            row.dirty, row.promise = False, 0
            row.nothing_synced()
            row.tries, row.error = 0, ""
        try:
            if item.fd >= 0:
                os.ftruncate(item.fd, 0)
                os.ftruncate(item.fd, item.size)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.truncate(self._file(item.id), 0)
        except OSError as problem:
            log.warning("the cache file of %s cannot be emptied: %s", item.path, problem)
            return False
        return True

    def shorten(self, item: Item, size: int) -> None:
        """Claim no more than ``size`` bytes of a dirty item, and none of them as synced; `truncate` follows."""
        with self._changing(item) as row:
            item.cut(size)
            row.promise = min(row.promise, 1)
            row.nothing_synced()

    def truncate(self, item: Item, size: int) -> None:
        """Change the length of a dirty item: a shorter claim is saved before the bytes go."""
        self.look(item)
        before = item.row.claim()
        if size < item.size:
            with self._changing(item):
                item.cut(size)
        try:
            with _disk_errors(item.path):
                item.resize(size)
        except OSError:
            item.row.restore(before)
            self.index.save(item.row, owed=True)
            raise

    def zero(self, item: Item, offset: int, length: int) -> None:
        """Write zeros into a dirty item, as a hole where the disk can."""
        self.look(item)
        span = Span(offset, offset + length)
        if span.stop > item.size:
            self.truncate(item, span.stop)
        with _disk_errors(item.path):
            if not _punch(item.fd, span):
                for start in range(span.start, span.stop, len(_ZEROS)):
                    os.pwrite(item.fd, _ZEROS[: span.stop - start], start)
        item.overwritten(span)

    def reserve(self, item: Item, offset: int, length: int) -> None:
        """Have the disk keep room for bytes within a dirty item."""
        with _disk_errors(item.path):
            os.posix_fallocate(item.fd, offset, length)

    def write(self, item: Item, offset: int, data: Data) -> int:
        """Write local bytes into a dirty item."""
        self.look(item)
        if self.index.starved and not self.index.make_reserve():
            raise NoSpace(item.path, "the disk of the cache is full")
        try:
            return item.write(offset, data)
        except OSError as problem:
            raise _as_ours(problem, item.path) from problem

    def fill(self, item: Item, offset: int, data: Piece, limit: int) -> int:
        """Put fetched bytes into the gaps."""
        if self.index.starved and not self.index.make_reserve():
            raise NoSpace(item.path, "the disk of the cache is full")
        with _disk_errors(item.path):
            return item.fill(offset, data, limit)

    def staged(self, item: Item, span: Span) -> None:
        """A foreign thread wrote these bytes into the file of an unpublished item."""
        item.spans.add(span)
        item.row.size = max(item.row.size, span.stop)

    def received(self, item: Item, size: int) -> None:
        """An unpublished item is these first bytes of its file, all written by a foreign thread, and no more."""
        self.staged(item, Span(0, size))
        if item.size != size or os.fstat(item.fd).st_size != size:
            self.truncate(item, size)
        else:
            item.touched()

    def discard_clean(self, item: Item, span: Span) -> int:
        """Give back clean bytes that nobody needs (eviction inside a file); answers how many."""
        gone = item.spans.remove(span)
        self.save(item)
        if item.fd >= 0 and gone:
            with contextlib.suppress(OSError):  # the claim is given up; the blocks are a matter of room
                _punch(item.fd, span)
        return gone

    # names

    def link(self, item: Item, path: str) -> None:
        """Give the item this name; whoever had it before has none now."""
        self.index.link(item.id, path)
        self._rename_in_memory(item, path)

    def publish(self, item: Item, path: str, *, moved: str | None = None, owed: bool = False) -> None:
        """`link` and `save` as one step of the index: the moment at which a staged file exists.

        ``moved``: of a rename from there, which the remote has done, that is the end. ``owed``: it is so, whether or
        not the index can be written now.
        """
        if self._items.get(item.id) is not item:
            raise StorageError(path, "the cache has given this up already")
        item.row.path, old = path, item.row.path
        try:
            self.index.publish(item.row, moved=moved, owed=owed)
        finally:
            item.row.path = old
        self._rename_in_memory(item, path)
        item.promised, item.saved = item.generation, item.spans.total

    def unlink(self, item: Item, *, gone: str | None = None, owed: bool = False) -> None:
        """Take the item's name away; it is deleted when its last user is gone.

        ``gone``: of a removal of that name, which the remote has done, that is the end. ``owed``: as in `publish`.
        """
        if item.opens:
            self.index.link(item.id, None, gone=gone, owed=owed)
            self._rename_in_memory(item, None)
        else:
            self.forget(item, gone=gone, owed=owed)
            item.row.path = None

    def rename_tree(self, old: str, new: str) -> None:
        """A directory was renamed."""
        self.index.rename_tree(old, new)
        for path, item in list(self._by_path.items()):
            if path.startswith(new + "/"):
                self._rename_in_memory(item, None)
        for path, item in list(self._by_path.items()):
            if path.startswith(old + "/"):
                self._rename_in_memory(item, new + path[len(old) :])

    def _rename_in_memory(self, item: Item, path: str | None) -> None:
        if item.row.path is not None and self._by_path.get(item.row.path) is item:
            del self._by_path[item.row.path]
        item.row.path = path
        if path is not None:
            loser = self._by_path.get(path)
            if loser is not None and loser is not item:
                loser.row.path = None
                if not loser.opens:
                    self._forget_nameless(loser)
            self._by_path[path] = item

    def forget(self, item: Item, *, gone: str | None = None, owed: bool = False) -> None:
        """Delete an item that nobody uses: the index first, then the file."""
        self.index.delete([item.id], gone=gone, owed=owed)
        self._drop_from_memory(item)
        self.ledger.total -= item.saved
        if item.row.promise == 2 or self.index.owes:
            self.graves.doom(item.id, item.spans.total)
        else:
            self.graves.unlink_soon(item.id)

    def _forget_nameless(self, item: Item) -> None:
        """Nothing has its name any more, in the index either: whoever is told of an error could do nothing about it."""
        self.forget(item, owed=True)

    def delete(self, items: list[ItemId]) -> None:
        """Delete items that are not in memory. Their room is free when it returns."""
        self.index.delete(items)
        self.graves.unlink(items)

    def in_use(self, ident: ItemId) -> Item | None:
        """The item if it is in memory, and acquired or kept."""
        item = self._items.get(ident)
        return item if item is not None and (item.opens or item.keeps) else None

    def open_clean(self) -> list[Item]:
        """Clean items in use whose bytes no foreign thread relies on, the largest first."""
        found = [i for i in self._items.values() if i.opens and not i.dirty and not i.leases and i.spans]
        return sorted(found, key=lambda item: -item.spans.total)

    def evict(self, victims: Iterable[tuple[ItemId, int]]) -> int:
        """Delete clean items nobody uses; answers the bytes given back."""
        gone, loaded, resting = [], [], 0
        for ident, held in victims:
            item = self._items.get(ident)
            if item is None:
                resting += held
            elif item.opens or item.keeps or item.dirty:
                continue
            else:
                loaded.append(item)
            gone.append(ident)
        before = self.held
        if gone:
            self.index.delete(gone)
            for item in loaded:
                self._drop_from_memory(item)
                resting += item.saved
            self.ledger.total -= resting
            self.graves.unlink(gone)
        return before - self.held

    # saved listings

    def shown_as(self, what: str) -> None:
        """How names are shown in this run; listings saved by one that showed them differently are not believed.

        ``""`` is how they are shown unless something else was asked for.
        """
        if (self.index.fact("shown") or "") != what:
            self.index.set_fact("shown", what or None)
            self.retired.retire("")

    # the directory

    def _file(self, ident: ItemId) -> str:
        return f"{self._data}/{ident & 0xFF:02x}/{ident}"

    def abandon(self, item: Item, why: str) -> None:
        """Nobody can use what was written into this item any more; it is kept in ``lost+found``."""
        self.set_aside(item.id, why)
        self._drop_from_memory(item)
        self.ledger.total -= item.saved
        item.row.dirty, item.row.path = False, None

    def set_aside(self, ident: ItemId, why: str) -> None:
        """Keep a data file that nobody can place in ``lost+found``, and forget its entry."""
        folder = self.directory / "lost+found"
        folder.mkdir(0o700, exist_ok=True)
        aside = unused(folder / str(ident))  # an index that was lost may have had that id, too
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._file(ident), aside)
            log.warning("a cache file was set aside as %s: %s", aside, why)
        self.index.delete([ident], owed=True)
        self.index.trash_emptied([ident], owed=True)

    def sync(self, item: Item) -> None:
        """Put the bytes of an acquired item on the disk itself. Blocking; in a worker thread."""
        os.fsync(item.fd)
        folder = os.open(os.path.dirname(self._file(item.id)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def sync_everything(self) -> None:
        """Put all that was written on the disk of the cache on it: syncfs(2). Blocking; in a worker thread."""
        import ctypes

        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(folder)

    def open_files(self) -> int:
        """Items that somebody uses."""
        return sum(1 for item in self._items.values() if item.opens)

    def close(self) -> None:
        """Close everything; whatever is dirty stays in the journal."""
        self.graves.finish()
        try:
            self.index.save(*[i.row for i in self._items.values() if i.row.path is not None or i.dirty])
            self.index.sync()
            self.graves.bury(self.graves.waiting)
            self.graves.empty_trash()
            self.index.set_fact("held", str(self.held))
            if not self.retired.forgetful:
                self.index.set_fact("running", None)
            os.ftruncate(self._lock, 0)
        except OSError as problem:
            log.warning("the cache index could not be brought up to date, the next start will look: %s", problem)
        finally:
            for item in self._items.values():
                item.close_file()
            with contextlib.suppress(StorageError):  # it said so already
                self.index.close()
            os.close(self._lock)


def unused(path: Path) -> Path:
    """That name, with a number behind it if there is something of that name already."""
    free, again = path, 0
    while free.exists():
        again += 1
        free = path.with_name(f"{path.name}.{again}")
    return free


def _punch(descriptor: int, span: Span) -> bool:
    """Give the disk blocks of a span back; Linux fallocate(2) FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.

    Answers False where the disk cannot.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if not libc.fallocate(descriptor, 0x03, span.start, span.length):
        return True
    if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _as_ours(problem: OSError, path: str) -> OSError:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(path, "the disk of the cache is full")
    return problem


@contextlib.contextmanager
def _disk_errors(path: str):  # type: ignore[no-untyped-def]
    """Errors of the cache's own disk, as ours; a full disk is NoSpace, everything else stays an OSError."""
    try:
        yield
    except OSError as problem:
        raise _as_ours(problem, path) from problem

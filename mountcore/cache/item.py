"""One cached file: which of its bytes are here, and which version they belong to. A leaf: knows no service.

Invariants, each with a test of its name in ``tests/model/test_invariants.py``:

1. The index may forget, never lie: bytes before the claim, the dirty mark before the first dirty byte.
2. Clean spans belong to exactly one remote version (``base``).
3. Dirty is dropped only by a settled upload or an explicit discard.
4. Cache files are named by item id, never by path: a rename is an index update.
5. After an unclean stop with a changed boot id, clean spans are forgotten (their pages may not have been
   synced); dirty data is kept and reported.
6. What ``close`` returned on survives ``kill -9``; what ``fsync`` returned on survives power loss.
7. One process owns a cache directory (a lock; the second gets an error that names the first).
8. A transfer that did not complete is never published under its final name.

A file can be *lent*: somebody (the kernel, for a mount) reads and writes it without telling. Who only reads holds a
lease. Where it is lent for writing, the item is marked dirty before, stays so until the last borrower has returned it,
and `look` finds out what was done, by size and modification time: that was set to a time in 1970 before, since two
writes within one tick of the clock would have the same. It is never lent in part: every byte is here.

All methods run on the trio thread and are not checkpoints: between a test of the spans and the read or
write that follows, nothing else can happen. Reads and writes of the cache file are inline: a thread hop
costs 70–100 µs, the call itself 2–200 µs.
"""

from __future__ import annotations

import os
import time
from typing import NewType, final

from ..errors import Corrupt
from ..spans import Span, SpanSet
from ..splicing import Piece, Pipe
from .rows import ItemId, Row

Data = bytes | bytearray | memoryview
Generation = NewType("Generation", int)

UNTOUCHED = 1_000_000_000
"""Modification time of a file, in ns, that was lent while clean and not changed since."""
TOUCHED = 2_000_000_000
"""The same for one that may have been changed before that time was set."""


@final
class Item:
    """A cached file. ``row`` is what the index is to know; `Store.save` writes it there."""

    __slots__ = ("_file", "claimed", "fd", "generation", "handles", "keeps", "leases", "lent", "marked",
                 "opens", "promised", "row", "saved", "seen", "streams", "writers")  # fmt: skip

    def __init__(self, row: Row, file: str) -> None:
        self.row = row
        self._file = file
        self.fd = -1
        self.claimed = row.promise == 2
        """The index on the disk may say that what is in the file was synced, also where it is uploaded since."""
        self.generation = Generation(0)
        self.promised = Generation(0)
        self.saved = row.spans.total
        """Bytes that the index knows to be here."""
        self.opens = 0
        """Handles, leases and uploads that need the file."""
        self.handles = 0
        self.writers = 0
        """Handles, and among them those that may write."""
        self.keeps = 0
        """Who has it in hand across checkpoints without using its file; see `Store.kept`."""
        self.leases = 0
        """Handles whose held bytes are used by foreign threads: not one may be given back."""
        self.lent = 0
        """Handles through which somebody writes without telling."""
        self.seen = 0
        """The file's modification time when it was last looked at, while lent."""
        self.marked: Generation | None = None
        """Dirty for no other reason than being lent since this generation."""
        self.streams: list[object] = []
        """Downloads into this item; owned by the fetcher, looked at by readers to see whether there are any."""

    @property
    def id(self) -> ItemId:
        """The id that names the cache file."""
        return self.row.id

    @property
    def path(self) -> str:
        """Its name at the remote; "" once it has none."""
        return self.row.path or ""

    @property
    def size(self) -> int:
        """Length of the file, held or not."""
        if self.lent:
            self.look()
        return self.row.size

    @property
    def spans(self) -> SpanSet:
        """The bytes that are here."""
        return self.row.spans

    @property
    def dirty(self) -> bool:
        """Whether some bytes, or the length, are only here."""
        return self.row.dirty

    @property
    def ahead(self) -> int:
        """Bytes that are here and that the index does not know of; negative where it knows of more."""
        return self.row.spans.total - self.saved

    @property
    def complete(self) -> bool:
        """Whether every byte is here."""
        return self.row.spans.covers(0, self.row.size)

    @property
    def untouched(self) -> bool:
        """Whether it is dirty only because it is, or was, lent, and nothing was written."""
        if self.lent:
            self.look()
        return self.marked is not None and self.marked == self.generation

    # lending

    def mark(self, when: int) -> None:
        """Set the file's modification time to one of 1970: any other that is found later means a write."""
        os.utime(self.fd, ns=(time.time_ns(), when))
        self.seen = when

    def look(self) -> None:
        """Find out what borrowers did to the file."""
        facts, row = os.fstat(self.fd), self.row
        if facts.st_mtime_ns == self.seen and facts.st_size == row.size:
            return
        self.seen = facts.st_mtime_ns
        row.size, row.mtime_ns = facts.st_size, facts.st_mtime_ns if facts.st_mtime_ns > TOUCHED else time.time_ns()
        row.spans.clip(row.size)
        row.spans.add(Span(0, row.size))
        self.generation = Generation(self.generation + 1)

    # use

    def acquire(self) -> int:
        """One more user of the cache file; opens it if need be. Every `acquire` has its `release`."""
        if self.fd < 0:
            self.fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._fit()
            except OSError:
                self.close_file()
                raise
        self.opens += 1
        return self.fd

    def _fit(self) -> None:
        """Make the file as long as it is claimed to be."""
        row, held = self.row, os.fstat(self.fd).st_size
        if held < row.spans.stop:
            if row.dirty:
                raise Corrupt(self.path, "the cache file is shorter than it was written; was it changed by hand?")
            row.spans.clip(held)
        if held != row.size:  # longer: a crash between the index and the file; that must not come back as data
            os.ftruncate(self.fd, row.size)

    def release(self) -> None:
        """One user less. The descriptor stays until `close_file`, so that opening again is cheap."""
        self.opens -= 1

    def close_file(self) -> None:
        """Let go of the descriptor; only while nobody has the item acquired."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, offset: int, length: int) -> bytes | None:
        """The bytes, short only at the end of the file; None if some of them are not here."""
        stop = min(offset + length, self.size)
        if offset >= stop:
            return b""
        if not self.row.spans.covers(offset, stop):
            return None
        data = os.pread(self.fd, stop - offset, offset)
        if len(data) != stop - offset:
            data = self._read_slowly(offset, stop, data)
        return data

    def _read_slowly(self, offset: int, stop: int, data: bytes) -> bytes:
        while offset + len(data) < stop:
            more = os.pread(self.fd, stop - offset - len(data), offset + len(data))
            if not more:
                raise Corrupt(self.path, "the cache file is shorter than it was written; was it changed by hand?")
            data += more
        return data

    def fill(self, offset: int, data: Piece, limit: int) -> int:
        """Put fetched bytes where nothing is yet, below ``limit``; answers how many were new.

        Bytes written locally in the meantime stay: only gaps are filled (bytes first, then the claim). After an error
        the same may be filled in again.
        """
        new = 0
        gaps = self.row.spans.gaps(offset, min(offset + len(data), limit, self.row.size))
        if isinstance(data, Pipe):
            for gap in gaps:
                new += self._pour(data, offset, gap)
            data.skip(len(data) - data.taken)
            return new
        view = memoryview(data)
        for gap in gaps:
            self._pwrite(view[gap.start - offset : gap.stop - offset], gap.start)
            new += self.row.spans.add(gap)
        return new

    def _pour(self, pipe: Pipe, offset: int, gap: Span) -> int:
        pipe.skip(max(0, gap.start - offset - pipe.taken))
        new = 0
        while (start := offset + pipe.taken) < gap.stop:
            count = pipe.put(self.fd, start, gap.stop - start)
            new += self.row.spans.add(Span(start, start + count))
        return new

    def write(self, offset: int, data: Data) -> int:
        """Write local bytes; a gap between the old end and ``offset`` becomes zeros. The item is dirty already."""
        row = self.row
        view = memoryview(data).cast("B")
        length = len(view)
        if not length:
            return 0
        if self.lent:
            self.look()
        self._pwrite(view, offset)
        if offset > row.size:
            row.spans.add(Span(row.size, offset))
        row.spans.add(Span(offset, offset + length))
        if offset + length > row.size:
            row.size = offset + length
        row.mtime_ns = time.time_ns()
        self.generation = Generation(self.generation + 1)
        return length

    def overwritten(self, span: Span) -> None:
        """The file holds other bytes there than it did; the item is dirty already."""
        self.row.spans.add(span)
        self.row.mtime_ns = time.time_ns()
        self.generation = Generation(self.generation + 1)

    def cut(self, size: int) -> None:
        """Forget what is from ``size`` on, in the claim only; `resize` follows once the claim is saved."""
        self.row.spans.clip(size)
        self.row.size = min(self.row.size, size)

    def resize(self, size: int) -> None:
        """Make the file ``size`` bytes long; what is new is zeros. The item is dirty already."""
        row = self.row
        os.ftruncate(self.fd, size)
        if size > row.size:
            row.spans.add(Span(row.size, size))
        else:
            row.spans.clip(size)
        row.size = size
        self.touched()

    def touched(self) -> None:
        """Its content is new."""
        self.row.mtime_ns = time.time_ns()
        self.generation = Generation(self.generation + 1)

    def _pwrite(self, view: memoryview, offset: int) -> None:
        while view:
            done = os.pwrite(self.fd, view, offset)
            view = view[done:]
            offset += done

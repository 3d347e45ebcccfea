"""Half-open byte ranges and sets of them. Pure; used by the cache to know which bytes of a file it holds.

:class:`SpanSet` keeps its spans sorted, disjoint and not adjacent, in one flat list of numbers
``[start, stop, start, stop, …]``, so that a lookup is one bisection and a file that is whole costs two
integers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, final


class Span(NamedTuple):
    """Bytes ``start`` up to but not including ``stop``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes; never negative."""
        return self.stop - self.start if self.stop > self.start else 0


@final
class Ledger:
    """How many bytes the sets that are entered in it hold together, and whatever else is counted in."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0


_NOBODYS = Ledger()


@final
class SpanSet:
    """A set of bytes, kept as sorted disjoint spans."""

    __slots__ = ("_edges", "_ledger", "_total")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._edges: list[int] = []
        self._total = 0
        self._ledger = _NOBODYS
        for span in spans:
            self.add(span)

    def __iter__(self) -> Iterator[Span]:
        edges = self._edges
        return (Span(edges[i], edges[i + 1]) for i in range(0, len(edges), 2))

    def __bool__(self) -> bool:
        return bool(self._edges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpanSet) and self._edges == other._edges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SpanSet([{', '.join(f'{s.start}:{s.stop}' for s in self)}])"

    @property
    def total(self) -> int:
        """Bytes in the set."""
        return self._total

    @property
    def stop(self) -> int:
        """Where the last span ends; 0 without any."""
        return self._edges[-1] if self._edges else 0

    def enter(self, ledger: Ledger) -> None:
        """From here on every change of this set is counted there; what it holds now is there already."""
        self._ledger = ledger

    def leave(self) -> None:
        """Changes are counted no more."""
        self._ledger = _NOBODYS

    def count(self) -> int:
        """Number of disjoint spans."""
        return len(self._edges) // 2

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of ``[start, stop)`` is in the set; true for an empty range."""
        if start >= stop:
            return True
        edges = self._edges
        i = bisect_right(edges, start)
        return i % 2 == 1 and edges[i] >= stop

    def run_from(self, start: int) -> int:
        """The end of the unbroken run that contains ``start``, or ``start`` itself where it is missing."""
        edges = self._edges
        i = bisect_right(edges, start)
        return edges[i] if i % 2 == 1 else start

    def gaps(self, start: int, stop: int) -> list[Span]:
        """The parts of ``[start, stop)`` that are not in the set, in order."""
        found: list[Span] = []
        edges = self._edges
        i = bisect_right(edges, start)
        if i % 2 == 1:
            start = edges[i]
            i += 1
        while start < stop:
            nearest = edges[i] if i < len(edges) else stop
            if nearest >= stop:
                found.append(Span(start, stop))
                break
            if nearest > start:
                found.append(Span(start, nearest))
            start = edges[i + 1]
            i += 2
        return found

    def add(self, span: Span) -> int:
        """Put a span in; answers how many of its bytes are new."""
        start, stop = span
        if start >= stop:
            return 0
        edges = self._edges
        # the common case by far: the span continues, or repeats a part of, the last one
        if edges and edges[-2] <= start <= edges[-1]:
            new = stop - edges[-1]
            if new <= 0:
                return 0
            edges[-1] = stop
            self._total += new
            self._ledger.total += new
            return new
        i = bisect_left(edges, start)
        j = bisect_right(edges, stop)
        middle: list[int] = []
        if i % 2 == 0:
            middle.append(start)
        if j % 2 == 0:
            middle.append(stop)
        edges[i:j] = middle
        return self._recount()

    def remove(self, span: Span) -> int:
        """Take a span out; answers how many bytes that were there are gone."""
        start, stop = span
        if start >= stop:
            return 0
        edges = self._edges
        i = bisect_left(edges, start)
        j = bisect_right(edges, stop)
        middle: list[int] = []
        if i % 2 == 1:
            middle.append(start)
        if j % 2 == 1:
            middle.append(stop)
        edges[i:j] = middle
        return -self._recount()

    def clip(self, size: int) -> int:
        """Drop everything from ``size`` on; answers how many bytes are gone."""
        edges = self._edges
        if not edges or edges[-1] <= size:
            return 0
        return self.remove(Span(size, edges[-1]))

    def clear(self) -> int:
        """Drop everything; answers how many bytes are gone."""
        gone = self._total
        self._edges.clear()
        self._recount()
        return gone

    def become(self, other: SpanSet) -> None:
        """Hold exactly what another set holds."""
        self._edges[:] = other._edges
        self._recount()

    def copy(self) -> SpanSet:
        """An independent copy."""
        twin = SpanSet()
        twin._edges = self._edges.copy()
        twin._total = self._total
        return twin

    def encode(self) -> str:
        """Text for the index: ``0-4096,8192-9000``."""
        return ",".join(f"{s.start}-{s.stop}" for s in self)

    @classmethod
    def decode(cls, text: str) -> SpanSet:
        """Read :meth:`encode` back. Raises ``ValueError`` on anything that it cannot have written."""
        made = cls()
        last = -1
        for part in text.split(",") if text else ():
            start, _, stop = part.partition("-")
            span = Span(int(start), int(stop))
            if not last < span.start < span.stop:
                raise ValueError(f"spans out of order: {text[:80]!r}")
            last = span.stop
            made._edges += span
        made._recount()
        return made

    def _recount(self) -> int:
        edges = self._edges
        before, self._total = self._total, sum(edges[1::2]) - sum(edges[::2])
        self._ledger.total += self._total - before
        return self._total - before

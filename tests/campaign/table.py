"""Rows of the campaign's table, and how they are printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

PARTS = ("process", "remote", "disk", "power", "concurrency", "ftp", "proxy", "fuse", "soak")


@dataclass
class Row:
    """What came of one fault. ``notes`` name whatever is wrong; a row with notes fails the campaign."""

    part: str
    fault: str
    injected: int = 0
    checked: int = 0
    lost: int = 0
    """Promised, and not there, or not as promised."""
    torn: int = 0
    """Half of something, under a name that nobody promised it for."""
    hung: int = 0
    """Took longer than its bound."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Nothing lost, torn, hung or otherwise wrong, and something was really tried."""
        return not self.wrong and self.injected > 0 and self.checked > 0

    @property
    def wrong(self) -> bool:
        """Something lost, torn, hung or otherwise wrong so far."""
        return bool(self.lost or self.torn or self.hung or self.notes)

    def fail(self, note: str) -> None:
        """Something is wrong that is neither lost, torn nor hung."""
        self.notes.append(note)

    def lose(self, note: str) -> None:
        self.lost += 1
        self.notes.append(note)

    def tear(self, note: str) -> None:
        self.torn += 1
        self.notes.append(note)

    def hang(self, note: str) -> None:
        self.hung += 1
        self.notes.append(note)

    def within(self, seconds: float, what: str, work: Callable[[], object]) -> object:
        """Do it, and say so if it takes longer than it may. What it raises is its answer."""
        began = time.monotonic()
        try:
            return work()
        finally:
            took = time.monotonic() - began
            self.checked += 1
            if took > seconds:
                self.hang(f"{what} took {took:.1f} s, and may take {seconds:.0f} s")


HEAD = f"{'part':<12}{'fault':<52}{'injected':>9}{'checked':>9}{'lost':>6}{'torn':>6}{'hung':>6}{'s':>7}"


def line(row: Row) -> str:
    """One row, with what is wrong below it."""
    numbers = f"{row.injected:>9}{row.checked:>9}{row.lost:>6}{row.torn:>6}{row.hung:>6}{row.seconds:>7.1f}"
    wrong = "" if row.good else "  WRONG" if row.notes else "  NOTHING TRIED"
    return f"{row.part:<12}{row.fault:<52}{numbers}{wrong}" + "".join(f"\n    {note}" for note in row.notes[:8])


def total(rows: Iterable[Row]) -> str:
    """The last line."""
    all_rows = list(rows)
    whole = Row("all", f"{len(all_rows)} faults")
    for row in all_rows:
        whole.injected += row.injected
        whole.checked += row.checked
        whole.lost += row.lost
        whole.torn += row.torn
        whole.hung += row.hung
        whole.seconds += row.seconds
        if not row.good:
            whole.notes.append(f"{row.part}: {row.fault}")
    return line(whole)

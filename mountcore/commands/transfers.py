"""How a running transfer is shown: a bar on a terminal, plain lines elsewhere. Used by `copy` and its like."""

from __future__ import annotations

import sys
import time
from typing import Any, final

import trio

from ..files.tally import Tally
from ..quantity import format_duration, format_size
from .logs import printable, say

FRAME = 0.2
PLAIN_INTERVAL = 5.0


def summary(tally: Tally) -> str:
    """One line for people."""
    seconds = max(0.001, time.monotonic() - tally.began)
    parts = [
        f"{tally.copied} of {tally.total} files copied" if tally.total else "nothing to copy",
        f"{format_size(tally.sent)} of {format_size(tally.size)}" if tally.size else "",
        f"{format_size(tally.sent / seconds)}/s" if tally.sent else "",
        f"{tally.renamed} renamed" if tally.renamed else "",
        f"{tally.checked} checked" if tally.checked else "",
        f"{tally.deleted} deleted" if tally.deleted else "",
        f"{tally.errors} errors" if tally.errors else "",
        format_duration(round(seconds, 1)),
    ]
    return ", ".join(part for part in parts if part)


@final
class Display:
    """Shows a tally for as long as `run` runs."""

    def __init__(self, tally: Tally, *, progress: bool, stats: float | None) -> None:
        self._tally = tally
        self._progress = progress
        self._stats = stats
        self._bar: Any = None
        self._task: Any = None
        self._last = ""

    @property
    def wanted(self) -> bool:
        """Whether anything is to be shown."""
        return self._progress or bool(self._stats)

    async def run(self) -> None:
        """Show until cancelled, and the final state then."""
        drawn = self._progress and sys.stderr.isatty()
        interval = FRAME if drawn else PLAIN_INTERVAL if self._progress else self._stats or PLAIN_INTERVAL
        try:
            while True:
                await trio.sleep(interval)
                self._draw() if drawn else self._line()
        finally:
            if drawn:
                self._draw()
                self._bar.stop()
            else:
                self._line()

    def _line(self) -> None:
        text = summary(self._tally)
        if text != self._last:
            self._last = text
            say(text)

    def _draw(self) -> None:
        tally = self._tally
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=False)
            self._task = self._bar.add_task("copying")
            self._bar.start()
        name = next(iter(tally.under_way), "")
        text = f"{tally.copied + tally.renamed}/{tally.total} files"
        if tally.errors:
            text += f", {tally.errors} errors"
        if name:
            text += f": {printable(name)[-40:]}"
        self._bar.update(self._task, description=text.replace("[", r"\["), total=tally.size, completed=tally.sent)

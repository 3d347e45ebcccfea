"""How uploads are shown while something waits for them: a bar on a terminal, plain lines elsewhere.

Used by the ending of a process, and by ``portside umount`` in another process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self, final

from ..accounting import VfsSnapshot
from ..quantity import format_size
from .logs import printable, say

PLAIN_INTERVAL = 5.0


@dataclass(frozen=True, slots=True)
class Pending:
    """What is still to be uploaded."""

    files: int = 0
    size: int = 0
    """Bytes of these files."""
    sent: int = 0
    """Of these, bytes handed to the remote so far."""
    path: str = ""
    """One that is being uploaded, or failed last."""
    error: str = ""

    @classmethod
    def of(cls, snapshots: Iterable[VfsSnapshot]) -> Pending:
        """Sum of several views."""
        uploads = [upload for snapshot in snapshots for upload in snapshot.uploads]
        telling = next((u for u in uploads if u.error), None) or next((u for u in uploads if u.sent), None)
        telling = telling or (uploads[0] if uploads else None)
        return cls(
            len(uploads), sum(u.size for u in uploads), sum(min(u.sent, u.size) for u in uploads),
            telling.path if telling else "", telling.error if telling else "",
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)

    def __str__(self) -> str:
        trouble = f"; {self.path}: {self.error}" if self.error else ""
        return f"{self.files} file{'s' * (self.files != 1)}, {format_size(self.size - self.sent)} to upload{trouble}"


@final
class Progress:
    """A display of :class:`Pending` that gets smaller. Nothing is shown where nothing is pending."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._most = 0
        self._shown: tuple[float, Pending] = (float("-inf"), Pending())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, pending: Pending) -> None:
        """Show the state; call it as often as you like."""
        self._most = max(self._most, pending.size)
        if self._quiet or (not pending.files and not self._most):
            return
        if sys.stderr.isatty():
            self._draw(pending)
        else:
            then, before = self._shown
            changed = pending != before and (time.monotonic() - then >= PLAIN_INTERVAL or not pending.files)
            if changed:
                self._shown = (time.monotonic(), pending)
                say(f"uploading: {pending}" if pending.files else "uploading: all stored")

    def _draw(self, pending: Pending) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=False)
            self._task = self._bar.add_task("uploading")
            self._bar.start()
        what = pending.error or pending.path.rpartition("/")[2]
        text = f"uploading, {pending.files} left" + (f": {what[:40]}" if what else "") if pending.files else "uploaded"
        text = printable(text)
        # file names are not markup
        text = text.replace("[", r"\[")
        self._bar.update(
            self._task, description=text, total=self._most, completed=self._most - pending.size + pending.sent
        )

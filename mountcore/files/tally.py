"""What a command has done so far: for its progress display, its summary and its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from ..errors import StorageError


@final
@dataclass(slots=True)
class Tally:
    """Counters; all are changed on the trio thread only."""

    say: Callable[[str], None]
    """Tells the user what went wrong, or would be done; one line each."""
    note: Callable[[str], None] = lambda text: None
    """Tells what was done, where the user wants to know (``-v``)."""
    checked: int = 0
    listed: int = 0
    copied: int = 0
    """Files whose content was transferred, by us or by the storage itself."""
    size: int = 0
    """Bytes of the files in `total`."""
    sent: int = 0
    """Bytes transferred so far."""
    total: int = 0
    """Files to transfer, as far as is known."""
    deleted: int = 0
    renamed: int = 0
    under_way: dict[str, int] = field(default_factory=dict)
    """Bytes of each file that is being transferred."""
    problems: list[BaseException] = field(default_factory=list)
    """What went wrong; the last one decides the exit code."""
    listing_failed: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def errors(self) -> int:
        return len(self.problems)

    def failed(self, what: str, problem: BaseException) -> None:
        """Count and tell a problem with one file or directory."""
        self.problems.append(problem)
        said = problem.said or problem.strerror if isinstance(problem, StorageError) else str(problem)
        self.say(f"{what}: {said}")

    def skipped(self, what: str, action: str, size: int | None = None) -> None:
        """Tell what a trial run does not do."""
        tail = "" if size is None else f" (size {size})"
        self.say(f"{what}: Skipped {action} as --dry-run is set{tail}")

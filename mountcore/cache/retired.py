"""Which saved listings are not to be believed any more. Used by the tree, the store's opening and polling.

Trio thread only.
"""

from __future__ import annotations

import logging
import time
from typing import final

from .index import Index

log = logging.getLogger(__name__)

MOST = 10_000
"""Directories that are remembered one by one; with more, all saved listings are retired."""


@final
class Retired:
    """Directories, and since when a listing of them must have been saved to be believed."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._since = index.retired()
        self.forgetful = False
        """Something that the next start should know could not be written."""

    def __len__(self) -> int:
        """Directories of which something is remembered."""
        return len(self._since)

    def retire(self, directory: str) -> None:
        """Saved listings of a directory and all below it are of something else, or behind what was changed here."""
        now = time.time()
        try:
            if directory and len(self._since) < MOST:
                self._since[directory] = now
                self._index.retire(directory, now)
            else:
                self._since = {"": now}
                self._index.retire_all(now)
        except OSError as problem:  # nobody may be stopped half-way for this; the next start believes no listing
            log.warning("the cache index cannot be written: %s", problem)
            self.forgetful = True

    def since(self, directory: str) -> float:
        """When a listing of the directory must have been saved to be believed."""
        since, parts = self._since.get("", 0.0), directory.split("/")
        for depth in range(1, len(parts) + 1):
            since = max(since, self._since.get("/".join(parts[:depth]), 0.0))
        return since

"""Keeps the one link of a remote: made when first needed, made anew when it is dead, closed when it is idle."""

from __future__ import annotations

import threading
import time
from typing import final

from ...errors import StorageError, Unreachable
from .link import Link
from .options import SmbOptions


@final
class Keeper:
    """Used by worker threads; :meth:`close` by anybody, and it does not wait."""

    def __init__(self, options: SmbOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._timer: threading.Timer | None = None
        self._failure: tuple[float, StorageError] | None = None
        self._closed = False

    def link(self) -> Link:
        """A usable link; who has waited while connecting failed for another fails likewise, instead of trying next."""
        asked = time.monotonic()
        with self._lock:
            if self._link is not None and self._link.usable:
                return self._link
            if self._failure is not None and self._failure[0] >= asked:
                raise type(self._failure[1])("", self._failure[1].said)
            if self._link is not None:
                self._link.close()
            self._link = None
            try:
                link = Link(self._options)
            except StorageError as problem:
                self._failure = time.monotonic(), problem
                raise
            if self._closed:
                link.close()
                raise Unreachable("", "the remote is closed")
            self._link = link
            self._watch(link)
            return link

    def close(self) -> None:
        """Hang up. Takes no lock: whoever is connecting sees it afterwards."""
        self._closed = True
        link, timer = self._link, self._timer
        if timer is not None:
            timer.cancel()
        if link is not None:
            link.close()

    def _watch(self, link: Link) -> None:
        """Look again when the link may have been idle for long enough. With the lock held."""
        if self._timer is not None:
            self._timer.cancel()
        if self._options.idle_timeout is not None:
            left = self._options.idle_timeout - (time.monotonic() - link.used)
            self._timer = threading.Timer(max(left, 0.05), self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        assert self._options.idle_timeout is not None
        with self._lock:
            link = self._link
            if link is None or self._closed:
                return
            if link.usable and link.busy:
                link.used = time.monotonic()
            if link.usable and time.monotonic() - link.used < self._options.idle_timeout:
                self._watch(link)
                return
            self._link = None
        link.close()

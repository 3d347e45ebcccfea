"""Listing a local folder in worker threads. Used by :mod:`.local` and :mod:`.local_files`.

Attributes are asked for relative to the open folder: that takes half as long as by whole paths, which the kernel walks
for every name.
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Generator
from contextlib import closing, nullcontext, suppress
from itertools import islice
from typing import final

from .partials import is_ours
from .paths import join
from .protocol import Entry, Kind

BATCH = 1000
"""Entries per thread hop of a listing."""
_IDENTS = (1 << 63) - 1
_FILE = Kind.FILE


def entry_of(name: str, status: os.stat_result, real: str, folder: int | None = None) -> Entry | None:
    """What `os.lstat` said of ``real`` (relative to an open ``folder``); None for what is not shown."""
    bits = status.st_mode
    size, target = status.st_size, ""
    if st.S_ISREG(bits):
        kind = _FILE
    elif st.S_ISDIR(bits):
        kind, size = Kind.DIRECTORY, 0
    elif st.S_ISLNK(bits):
        kind, target = Kind.SYMLINK, os.readlink(real, dir_fd=folder)
    else:
        return None
    # without the detour of its constructor: it is done for every name
    return tuple.__new__(Entry, (
        name, kind, size, status.st_mtime_ns, 1, "", st.S_IMODE(bits), target, (status.st_uid, status.st_gid),
        hash((status.st_dev, status.st_ino)) & _IDENTS, status.st_atime_ns,
    ))  # fmt: skip


@final
class Scan:
    """A listing under way; to be closed."""

    def __init__(self, real: str) -> None:
        self._folder = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._names = os.scandir(self._folder)
        except BaseException:
            os.close(self._folder)
            raise
        try:
            self.first = self.batch()
            """Most directories are listed in one hop to a thread."""
        except BaseException:
            self.close()
            raise

    def batch(self) -> list[Entry | None]:
        """The next entries, None for what is not shown; fewer than `BATCH` at the end only."""
        found: list[Entry | None] = []
        for item in islice(self._names, BATCH):
            entry, name = None, item.name
            if not is_ours(name):
                try:  # noqa: SIM105 - costs nothing for each name, and `suppress` 0.5 µs
                    entry = entry_of(name, item.stat(follow_symlinks=False), name, self._folder)
                except FileNotFoundError:
                    pass  # deleted since the directory was read
            found.append(entry)
        return found

    def close(self) -> None:
        """Let go of the folder."""
        self._names.close()
        os.close(self._folder)


def walk(real: str) -> Generator[list[tuple[str, Entry]], None, None]:
    """Everything below, as (path of its directory, entry), some at a time."""
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        with (
            suppress(FileNotFoundError) if directory else nullcontext(),
            closing(Scan(os.path.join(real, directory))) as scan,
        ):
            found = scan.first
            while found:
                entries = [entry for entry in found if entry is not None]
                waiting += [join(directory, entry.name) for entry in entries if entry.kind is Kind.DIRECTORY]
                yield [(directory, entry) for entry in entries]
                found = scan.batch()

"""What is to be published: the files of a folder with their checksums, and the order in which they go.

A page goes after what it refers to, as far as the kind of a file tells: pictures and the like first, then styles and
scripts, then pages that are new, then pages that others may link from already, the front page last. So whoever looks
while a site is published sees the old pages or the new ones, and both with what belongs to them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..errors import Stale
from ..remotes.protocol import file_stamp

PIECE = 1 << 20
PAGES = frozenset({".html", ".htm", ".xhtml", ".php", ".xml", ".json", ".txt", ".webmanifest", ".rss", ".atom"})
REFERRING = frozenset({".css", ".js", ".mjs", ".map"})
LEFT_OUT = frozenset({"thumbs.db", "desktop.ini"})
DOTFILES_TAKEN = frozenset({".htaccess", ".htpasswd"})
STAGES = ("pictures and other files", "styles and scripts", "new pages", "changed pages", "the front page")


@final
@dataclass(frozen=True, slots=True)
class SiteFile:
    """One file: ``path`` below the folder, where it really is, and its SHA-1."""

    path: str
    real: str
    size: int
    mtime_ns: int
    digest: str

    def stage(self, *, new: bool) -> int:
        """Which of `STAGES` it belongs to."""
        suffix = os.path.splitext(self.path)[1].lower()
        if self.path in ("index.html", "index.htm", "index.php"):
            return 4
        if suffix in PAGES or (not suffix and self.path.rpartition("/")[2].startswith(".ht")):
            return 2 if new else 3
        return 1 if suffix in REFERRING else 0


def takes(name: str, *, hidden: bool) -> bool:
    """Whether a file or folder of this name is published."""
    if name.lower() in LEFT_OUT:
        return False
    return hidden or not name.startswith(".") or name in DOTFILES_TAKEN


def scan(folder: Path, *, hidden: bool = False) -> Iterator[SiteFile]:
    """Every file to be published. Blocking: reads all of them. Raises OSError for what cannot be read."""

    def give_up(problem: OSError) -> None:
        raise problem

    for directory, folders, files in os.walk(folder, onerror=give_up, followlinks=False):
        folders[:] = sorted(name for name in folders if takes(name, hidden=hidden))
        for name in sorted(files):
            real = os.path.join(directory, name)
            if not takes(name, hidden=hidden) or not os.path.isfile(real):
                continue
            with open(real, "rb") as file:
                digest = hashlib.file_digest(file, "sha1").hexdigest()
                facts = os.fstat(file.fileno())
            path = os.path.relpath(real, folder).replace(os.sep, "/")
            yield SiteFile(path, real, facts.st_size, facts.st_mtime_ns, digest)


@final
class Content:
    """A file as a source for `Remote.put`, which notices when it is not what was scanned."""

    def __init__(self, file: SiteFile) -> None:
        self._file = file
        self._descriptor = os.open(file.real, os.O_RDONLY | os.O_CLOEXEC)
        self._hash = hashlib.sha1(usedforsecurity=False)
        self._hashed = 0

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def stamp(self) -> str:
        """By what the content is known again, if it still is what was scanned."""
        facts = os.fstat(self._descriptor)
        same = (facts.st_size, facts.st_mtime_ns) == (self._file.size, self._file.mtime_ns)
        return file_stamp(self._descriptor) if same else ""

    def pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if offset == self._hashed:
            self._hash.update(data)
            self._hashed += len(data)
        if self._hashed == self.size and self._hash.hexdigest() != self._file.digest:
            raise Stale(self._file.path, "the file was changed while it was published; publish again")
        return data

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

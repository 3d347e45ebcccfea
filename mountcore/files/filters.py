"""Which files and directories a command is about: rclone's filter rules, ages and sizes. Pure.

Rules are tried in order and the first that matches decides; what none matches is taken. Include rules come
first, then exclude rules, then filter rules, each kind in the order given; with any include rule, what nothing
matched is left out. From the rules about files follows which directories are worth listing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from ..errors import Refused
from ..remotes.paths import parent
from ..remotes.protocol import Entry, Kind
from .globs import compile_glob, directory_globs


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """What the user says about filtering. ``rules`` are ``+ pattern`` and ``- pattern``, in order."""

    include: tuple[str, ...] = ()
    include_from: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_from: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    rules_from: tuple[str, ...] = ()
    files_from: tuple[str, ...] = ()
    files_from_raw: tuple[str, ...] = ()
    exclude_if_present: tuple[str, ...] = ()
    ignore_case: bool = False
    min_size: int | None = None
    max_size: int | None = None
    newest_ns: int | None = None
    """Files younger than this are left out (``--min-age``)."""
    oldest_ns: int | None = None
    """Files older than this are left out (``--max-age``)."""
    max_depth: int | None = None


@dataclass(slots=True)
class _Rules:
    """Patterns in order, each with what it decides."""

    patterns: list[tuple[bool, re.Pattern[str]]] = field(default_factory=list)
    seen: set[tuple[bool, str]] = field(default_factory=set)

    def add(self, take: bool, pattern: re.Pattern[str]) -> None:
        if (take, pattern.pattern) not in self.seen:
            self.seen.add((take, pattern.pattern))
            self.patterns.append((take, pattern))

    def take(self, path: str) -> bool:
        return next((take for take, pattern in self.patterns if pattern.search(path)), True)


@final
class Filter:
    """Decides about paths relative to the root of a command, and about entries."""

    def __init__(self, settings: FilterSettings | None = None) -> None:
        """Raises :class:`Refused` for a pattern or a file of patterns that makes no sense."""
        self.settings = settings = settings or FilterSettings()
        self._files, self._directories = _Rules(), _Rules()
        self._listed: frozenset[str] | None = None
        self._listed_directories: frozenset[str] = frozenset()
        implicit = False
        for glob in (*settings.include, *_lines_of(settings.include_from)):
            self._add(True, glob)
            implicit = True
        for glob in (*settings.exclude, *_lines_of(settings.exclude_from)):
            self._add(False, glob)
        for rule in (*settings.rules, *_lines_of(settings.rules_from)):
            self._add_rule(rule)
        if implicit:
            self._add(False, "/**")
        if settings.files_from or settings.files_from_raw:
            names = [*_lines_of(settings.files_from), *_lines_of(settings.files_from_raw, raw=True)]
            self._list(names)

    @property
    def active(self) -> bool:
        """Whether anything can be left out."""
        return self.settings != FilterSettings(max_depth=self.settings.max_depth)

    @property
    def by_name(self) -> bool:
        """Whether names decide anything, so that some directories need not be looked into."""
        patterns = self._files.patterns or self._directories.patterns or self.settings.exclude_if_present
        return bool(patterns) or self._listed is not None

    @property
    def listed(self) -> frozenset[str] | None:
        """The files that are named one by one (``--files-from``), if they are."""
        return self._listed

    def takes_path(self, path: str) -> bool:
        """Whether a file of that name is taken, whatever its size and age."""
        if self._listed is not None:
            return path in self._listed
        return self._files.take(path)

    def takes(self, path: str, entry: Entry) -> bool:
        """Whether a file is taken."""
        s = self.settings
        if entry.kind is not Kind.DIRECTORY:
            if s.min_size is not None and entry.size < s.min_size:
                return False
            if s.max_size is not None and entry.size > s.max_size:
                return False
        when = entry.mtime_ns
        if when is not None and s.newest_ns is not None and when > s.newest_ns:
            return False
        if when is not None and s.oldest_ns is not None and when < s.oldest_ns:
            return False
        return self.takes_path(path)

    def enters(self, path: str) -> bool:
        """Whether a directory is looked into, and shown."""
        if self._listed is not None:
            return path in self._listed_directories
        return self._directories.take(path.strip("/") + "/")

    def deep(self, depth: int) -> bool:
        """Whether directories at ``depth`` (0: the root) are looked into."""
        return self.settings.max_depth is None or depth < self.settings.max_depth

    def _add(self, take: bool, glob: str) -> None:
        settings = self.settings
        about_directories = glob.endswith("/")
        about_files = not about_directories
        if about_directories and not take:
            glob += "**"  # without a directory there is nothing of what lies in it
        if "**" in glob:
            about_directories = about_files = True
        pattern = compile_glob(glob, ignore_case=settings.ignore_case)
        if about_files:
            self._files.add(take, pattern)
            if take or glob == "*":
                for wanted in directory_globs(glob):
                    self._directories.add(take, compile_glob(wanted, ignore_case=settings.ignore_case))
        if about_directories:
            self._directories.add(take, pattern)

    def _add_rule(self, rule: str) -> None:
        if rule == "!":
            self._files, self._directories = _Rules(), _Rules()
        elif rule.startswith(("- ", "+ ")):
            self._add(rule[0] == "+", rule[2:])
        else:
            raise Refused(f"{rule!r} is not a filter rule; write '+ pattern', '- pattern' or '!'")

    def _list(self, names: Iterable[str]) -> None:
        files = {name.strip("/") for name in names}
        directories: set[str] = {""}
        for name in files:
            while name := parent(name):
                directories.add(name)
        self._listed, self._listed_directories = frozenset(files), frozenset(directories)


def age_limit_ns(seconds: float | None) -> int | None:
    """The moment so many seconds ago, on the storage's clock as far as anybody knows."""
    return None if seconds is None else time.time_ns() - round(seconds * 1e9)


def _lines_of(files: Iterable[str], *, raw: bool = False) -> Iterator[str]:
    """Lines without comments (``#``, ``;``) and blanks around them; raw: as they are. ``-`` is standard input."""
    for name in files:
        try:
            with open("/dev/stdin" if name == "-" else Path(name).expanduser(), encoding="utf-8-sig") as file:
                text = file.read()
        except UnicodeDecodeError:
            raise Refused(f"{name}: not a text file in UTF-8") from None
        except OSError as problem:
            raise Refused(f"{name}: {problem.strerror}") from None
        for line in text.splitlines():
            if not raw:
                line = line.strip()
                if line.startswith(("#", ";")):
                    continue
            if line:
                yield line

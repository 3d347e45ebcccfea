"""Configuration files in rclone's INI form: where they are, reading them, and changing portside's own.

A change keeps what it does not touch, comments too. It is written beside the file, with mode 0600, synced and
renamed over it, under a lock that a second writer waits for; so a reader sees the old file or the new one, and of two
changes none is lost.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from ..errors import Refused
from .sealed import is_sealed, opened

LOCK_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Section:
    """One remote as a file describes it, with secrets still obscured."""

    values: Mapping[str, str] = field(repr=False)
    place: str
    """``file:line`` of its head, for messages."""
    foreign: bool = False
    """From rclone's file: may have options that we do not know."""


def own_file(environ: Mapping[str, str]) -> Path:
    """Portside's configuration file: ``$PORTSIDE_CONFIG``, else ``$XDG_CONFIG_HOME/portside/portside.conf``."""
    if chosen := environ.get("PORTSIDE_CONFIG"):
        return Path(chosen).expanduser()
    return _config_home(environ) / "portside" / "portside.conf"


def rclone_file(environ: Mapping[str, str]) -> Path:
    """An rclone.conf: ``$RCLONE_CONFIG``, else rclone's default places."""
    if chosen := environ.get("RCLONE_CONFIG"):
        return Path(chosen).expanduser()
    usual = _config_home(environ) / "rclone" / "rclone.conf"
    old = Path(environ.get("HOME", "/")) / ".rclone.conf"
    return old if old.exists() and not usual.exists() else usual


def _config_home(environ: Mapping[str, str]) -> Path:
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base)
    return Path(environ["HOME"]) / ".config" if environ.get("HOME") else Path("/etc")


def read_text(path: Path) -> str:
    """What a file says, as it is; "" if there is none. Raises :class:`Refused`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError:
        raise Refused(f"{path}: not a text file in UTF-8; a configuration file is expected there") from None
    except OSError as problem:
        raise Refused(f"{path}: {problem.strerror}; make it readable or name another file") from None


def read_file(path: Path, *, foreign: bool = False, environ: Mapping[str, str] | None = None) -> dict[str, Section]:
    """The remotes that a configuration file describes; none if there is no such file.

    An encrypted file is opened with the passphrase that ``environ`` has. Raises :class:`Refused` with file and line
    for what cannot be read or understood.
    """
    text = read_text(path)
    if is_sealed(text):
        text = opened(text, path, os.environ if environ is None else environ)
    sections: dict[str, dict[str, str]] = {}
    places: dict[str, str] = {}
    current: dict[str, str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            if line[-1] != "]" or not line[1:-1].strip():
                raise Refused(f"{path}:{number}: the name of a remote must stand in [brackets] on a line of its own")
            name = line[1:-1].strip()
            current = sections.setdefault(name, {})
            places.setdefault(name, f"{path}:{number}")
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise Refused(f"{path}:{number}: neither '[name]' nor 'option = value'")
        if current is None:
            raise Refused(f"{path}:{number}: an option before the first [name]")
        current[key.strip()] = value.strip()
    return {name: Section(values, places[name], foreign) for name, values in sections.items()}


@final
class Draft:
    """The text of a file while it is changed."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def text(self) -> str:
        """The file as it is to be."""
        return "".join(f"{line}\n" for line in self._lines)

    def set(self, name: str, values: Mapping[str, str]) -> None:
        """Give a remote these options, beside those that it has; an empty value takes an option away."""
        for key, value in values.items():
            if any(c in key + value for c in "\r\n\0"):
                raise Refused(f"option {key!r} of {name!r} has a line break in it")
        start, stop = self._bounds(name)
        if start < 0:
            if self._lines and self._lines[-1].strip():
                self._lines.append("")
            self._lines.append(f"[{name}]")
            start, stop = len(self._lines) - 1, len(self._lines)
        for key, value in values.items():
            at = [i for i in range(start + 1, stop) if self._key(i) == key]
            for i in reversed(at[1:] if value else at):
                del self._lines[i]
                stop -= 1
            if value and at:
                self._lines[at[0]] = f"{key} = {value}"
            elif value:
                end = stop
                while end > start + 1 and not self._lines[end - 1].strip():
                    end -= 1
                self._lines.insert(end, f"{key} = {value}")
                stop += 1

    def delete(self, name: str) -> None:
        """Take a remote out, wherever the file has it."""
        while True:
            start, stop = self._bounds(name)
            if start < 0:
                return
            del self._lines[start:stop]

    def _bounds(self, name: str) -> tuple[int, int]:
        """The lines of a section, its head included; -1 if there is none."""
        start = next((i for i, line in enumerate(self._lines) if line.strip() == f"[{name}]"), -1)
        stop = next(
            (i for i in range(start + 1, len(self._lines)) if self._lines[i].lstrip().startswith("[")),
            len(self._lines),
        )
        return start, stop

    def _key(self, index: int) -> str:
        line = self._lines[index].strip()
        return "" if not line or line[0] in "#;" else line.partition("=")[0].strip()


def change_file(path: Path, change: Callable[[Draft], None]) -> None:
    """Change a configuration file, making it if there is none. Raises :class:`Refused`."""
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise Refused(f"{problem.filename or path}: {problem.strerror}; the configuration cannot be written") from None
    try:
        _lock(lock, path)
        text = read_text(path)
        if is_sealed(text):
            raise Refused(f"{path}: is encrypted; portside reads such files and does not write them")
        draft = Draft(text)
        change(draft)
        try:
            _replace(path, draft.text())
        except OSError as problem:
            raise Refused(f"{path}: {problem.strerror}; nothing was changed") from None
    finally:
        os.close(lock)


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_WITHIN
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Refused(f"{path}: another process is changing it; try again") from None
            time.sleep(0.05)
        else:
            return


def _replace(path: Path, text: str) -> None:
    fresh = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

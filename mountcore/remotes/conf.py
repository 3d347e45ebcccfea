"""Configuration: from a user's words to an open remote. Used by the commands; :mod:`.conffile` reads and writes files.

What is known about a remote named ``photos`` comes from, first found wins, option by option:

1. the words themselves (``photos,concurrency=2:2024``),
2. the environment, ``PORTSIDE_CONFIG_PHOTOS_<OPTION>``, then ``RCLONE_CONFIG_PHOTOS_<OPTION>``,
3. the environment for all remotes of its type, ``PORTSIDE_FTP_<OPTION>``, then ``RCLONE_FTP_<OPTION>``,
4. its section in portside's own file, or where that has none, in an existing rclone.conf,
5. the type's defaults; for the password of an FTP server, before that, ``~/.netrc``.

Both files are in rclone's INI form. Secrets are obscured in files, environment and connection strings, as with
rclone, or ``keyring:SERVICE/NAME``; in URLs as typed. An ``alias`` is followed here; it is a name, not a storage.
"""

from __future__ import annotations

import copy
import difflib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from ..errors import Refused
from .address import Address, parse_address
from .conffile import Section, own_file, rclone_file, read_file
from .keeping import KEYRING, from_keyring, from_netrc
from .obscure import reveal
from .protocol import Remote
from .registry import RemoteType, open_remote, types, unknown

log = logging.getLogger(__name__)

PREFIXES = ("PORTSIDE_", "RCLONE_")
ALIASES_DEEP = 10
_NOT_STORAGE_OPTIONS = frozenset({"type", "description"})


@dataclass(frozen=True, slots=True)
class Located:
    """A remote found: its storage type, its option values with secrets revealed, and the path on it."""

    kind: str
    options: Mapping[str, str] = field(repr=False)
    root: str
    inner: Located | None = None
    """What it stands around, where it does."""


def open_located(located: Located) -> Remote:
    """The remote; no network. Raises :class:`Refused` naming what is wrong."""
    inner = None if located.inner is None else open_located(located.inner)
    return open_remote(located.kind, dict(located.options), located.root, inner)


@final
class Config:
    """All that is configured for this user, read once. See the module for what wins."""

    def __init__(self, own: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        """``own`` overrides where portside's own file is; then, and with ``$PORTSIDE_CONFIG``, it must exist."""
        self._environ = os.environ if environ is None else environ
        path = own or own_file(self._environ)
        self._given = own
        self.defaults: dict[str, dict[str, str]] = {}
        """By storage type, options that count where nobody says otherwise."""
        if (own or self._environ.get("PORTSIDE_CONFIG")) and not path.exists():
            raise Refused(f"{path}: there is no such configuration file")
        self._path = path
        self._own = read_file(path, environ=self._environ)
        self._rclone = rclone_file(self._environ)
        self._foreign: dict[str, Section] | None = None

    def again(self) -> Config:
        """The same files, read anew."""
        return Config(self._given, self._environ)

    @property
    def path(self) -> Path:
        """Portside's own file, whether it is there or not."""
        return self._path

    @property
    def rclone_path(self) -> Path:
        """The rclone.conf that is read too."""
        return self._rclone

    def own(self) -> Mapping[str, Section]:
        """The remotes of portside's own file."""
        return self._own

    def section(self, name: str) -> Section | None:
        """A remote as portside's own file, else rclone's, describes it."""
        return self._section(name)

    def trial(self, name: str, values: Mapping[str, str]) -> Config:
        """This configuration with a remote as it might be, to try it before it is saved."""
        other = copy.copy(self)
        other._own = {**self._own, name: Section(dict(values), f"remote {name!r}")}
        return other

    def names(self) -> list[str]:
        """The configured remotes, sorted."""
        names = {*self._own, *self._from_rclone()}
        for key in self._environ:
            if match := re.fullmatch(r"(?:PORTSIDE|RCLONE)_CONFIG_(\w+)_TYPE", key):
                upper = match[1]
                if not any(_upper(name) == upper for name in names):
                    names.add(upper.lower())
        return sorted(names)

    def open(self, words: str) -> Remote:
        """The remote that a user's words mean. No network; raises :class:`Refused` naming what is wrong."""
        return open_located(self.locate(words))

    def label(self, words: str) -> str:
        """How to call this remote in messages and mount tables: as the user named it, without options or secrets."""
        return str(parse_address(words))

    def locate(self, words: str, deep: int = 0) -> Located:
        """Find storage type, options and path, following aliases, and what the remote stands around."""
        if deep > ALIASES_DEEP:
            raise Refused(f"{words.partition(':')[0]}: remotes stand around each other in a circle")
        address = parse_address(words)
        for _ in range(ALIASES_DEEP):
            if address.kind == "local" and not address.options:
                self._check_folder(address)
            kind, options = self._describe(address)
            if kind != "alias":
                return Located(kind, options, address.path, self._inner(kind, options, address, deep))
            target = options.get("remote", "")
            if not target:
                raise Refused(f"{address}: an alias needs 'remote', what it stands for")
            aim = parse_address(target)
            address = replace(aim, path=_join(aim.path, address.path))
        raise Refused(f"{words.partition(':')[0]}: aliases point at each other in a circle")

    def _inner(self, kind: str, options: Mapping[str, str], address: Address, deep: int) -> Located | None:
        """What a remote of a type that wraps stands around."""
        option = types()[kind].wraps
        if not option:
            return None
        aim = options.get(option, "")
        if not aim:
            raise Refused(f"{address}: storage type {kind!r} needs option {option!r}, what it stands around")
        return self.locate(aim, deep + 1)

    def _check_folder(self, address: Address) -> None:
        """A folder that is not there but has a remote's name: most likely the colon was forgotten."""
        if not os.path.exists(os.path.expanduser(address.path)) and address.path in self.names():
            raise Refused(f"there is no folder {address.path!r}; for the remote of that name write {address.path}:")

    def _describe(self, address: Address) -> tuple[str, dict[str, str]]:
        """Storage type and option values of one address, secrets revealed."""
        section = self._section(address.name) if address.name else None
        kind = address.kind
        if address.name:
            kind = self._environment(address.name, "type") or (section.values.get("type", "") if section else "")
            if section is None and not kind:
                raise self._unknown(address.name)
            if not kind:
                assert section is not None
                raise Refused(f"{section.place}: remote {address.name!r} has no 'type'")
        if kind == "alias":
            given = dict(section.values) if section else {}
            given["remote"] = self._environment(address.name, "remote") or given.get("remote", "")
            return kind, given | dict(address.options)
        known = types()
        facts = known.get(kind)
        if facts is None:
            place = f"{section.place}: " if section else ""
            raise Refused(f"{place}{unknown(kind, [*known, 'alias'])}")
        values = {**self.defaults.get(kind, {}), **address.fallback, **self._stored(address.name, facts, section)}
        for name, text in address.options.items():
            option = facts.option(name)
            values[name] = self._revealed(option.secret and not address.plain, text, f"option {name!r} of {address}")
        if kind == "ftp" and values.get("host") and not values.get("pass"):
            found = from_netrc(values["host"], values.get("user", ""), self._environ)
            if found is not None:
                values["user"], values["pass"] = found
        return kind, values

    def _stored(self, name: str, facts: RemoteType, section: Section | None) -> dict[str, str]:
        """Options from the file's section and, over them, from the environment."""
        values: dict[str, str] = {}
        secret = False
        for key, text in section.values.items() if section else ():
            if key in _NOT_STORAGE_OPTIONS:
                continue
            assert section is not None
            try:
                option = facts.option(key)
            except Refused as problem:
                if not section.foreign or key in facts.refused:
                    raise Refused(f"{section.place}: {problem}") from None
                log.info("%s: option %r is not known here and has no effect", section.place, key)
                continue
            values[key] = self._revealed(option.secret, text, f"{section.place}: option {key!r} of remote {name!r}")
            secret = secret or ((option.secret or option.sensitive) and bool(text))
        if secret and section is not None:
            _warn_if_open(self._rclone if section.foreign else self._path)
        for option in facts.options:
            text = self._environment(name, option.name) if name else ""
            text = text or _from_prefixes(self._environ, f"{facts.name}_{option.name}")
            if text:
                values[option.name] = self._revealed(option.secret, text, f"option {option.name!r} in the environment")
        return values

    def _revealed(self, secret: bool, text: str, what: str) -> str:
        if not secret or not text:
            return text
        if text.startswith(KEYRING):
            return from_keyring(text, what)
        try:
            return reveal(text)
        except Refused as problem:
            raise Refused(f"{what}: {problem}") from None

    def _environment(self, name: str, option: str) -> str:
        return _from_prefixes(self._environ, f"CONFIG_{_upper(name)}_{option}")

    def _section(self, name: str) -> Section | None:
        own = self._own.get(name)
        return own if own is not None else self._from_rclone().get(name)

    def _from_rclone(self) -> Mapping[str, Section]:
        if self._foreign is None:
            self._foreign = read_file(self._rclone, foreign=True, environ=self._environ)
        return self._foreign

    def _unknown(self, name: str) -> Refused:
        names = self.names()
        near = difflib.get_close_matches(name, names, 3)
        if near:
            hint = f"did you mean {' or '.join(repr(other + ':') for other in near)}?"
        elif names:
            hint = f"known are {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"
        else:
            hint = "none is configured"
        return Refused(
            f"there is no remote {name!r} in {self._path}, {self._rclone} or the environment; {hint} "
            f"(a folder with a colon in its name: ./{name}:)"
        )


def _upper(name: str) -> str:
    """A remote's name as it stands in environment variables."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


def _from_prefixes(environ: Mapping[str, str], name: str) -> str:
    return next((text for prefix in PREFIXES if (text := environ.get(prefix + name.upper()))), "")


def _join(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{path.lstrip('/')}" if base and path else base or path


def _warn_if_open(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & 0o077:
        log.warning("%s holds passwords and others may read it; run: chmod 600 %s", path, path)

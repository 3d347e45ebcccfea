"""What a user writes where a remote is wanted, taken apart. Pure; :mod:`.conf` looks up what it names.

Five spellings, told apart like this (the first that fits):

- a URL, ``scheme://user:password@host:port/path?option=value``; a ``?`` of the path is ``%3F``;
- an on-the-fly remote, ``:type,option=value,flag:path``;
- a configured remote, ``name:path`` or ``name,option=value:path``;
- anything else, and whatever has a ``/`` before the first ``:``, is a folder of this machine.

Quoting in the options is rclone's: a value with ``,`` or ``:`` in it stands in single or double quotes, and a
quote of the same kind inside is doubled; an option without a value means ``true``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from ..errors import Refused
from .parameters import parse_query

NAME = re.compile(r"[\w.+@](?:[\w.+@ -]*[\w.+@-])?")
"""The names that rclone lets remotes have: words, also with blanks inside, not beginning with a dash."""
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)(/?.*)", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"[A-Za-z0-9_]+")
_QUOTED = {quote: re.compile(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}(?=[,:])", re.DOTALL) for quote in "'\""}
_BARE = re.compile(r"[^,:]*(?=[,:])", re.DOTALL)

#: URL scheme → storage type and the options that the scheme stands for
SCHEMES: dict[str, tuple[str, dict[str, str]]] = {
    "ftp": ("ftp", {}),
    "ftps": ("ftp", {"encryption": "implicit"}),
    "ftpes": ("ftp", {"encryption": "explicit"}),
    "aftp": ("ftp", {"absolute_path": "true"}),
    "sftp": ("sftp", {}),
    "smb": ("smb", {}),
    "webdav": ("webdav", {"url": "http"}),
    "webdavs": ("webdav", {"url": "https"}),
    "dav": ("webdav", {"url": "http"}),
    "davs": ("webdav", {"url": "https"}),
    "http": ("http", {"url": "http"}),
    "https": ("http", {"url": "https"}),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A remote as the user named it: by the ``name`` of a configured one, or by its ``kind`` and options."""

    name: str = ""
    kind: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Given on the spot; may hold secrets."""
    fallback: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Options that hold where neither these nor the environment say something else."""
    path: str = ""
    plain: bool = False
    """Secrets among the options are as typed (a URL's), not obscured."""
    scheme: str = ""
    """Of a URL."""

    def __str__(self) -> str:
        """For messages and logs: of the options, which may hold secrets, only host and user."""
        host, user = self.options.get("host", ""), self.options.get("user", "")
        if self.name:
            return f"{self.name}:{self.path}"
        if self.scheme and "url" in self.options:
            place = self.options["url"].partition("://")[2]
            return f"{self.scheme}://{f'{user}@' if user else ''}{place}/{self.path}"
        if self.scheme:
            port = f":{self.options['port']}" if "port" in self.options else ""
            login = f"{user}@" if user else ""
            return f"{self.scheme}://{login}{f'[{host}]' if ':' in host else host}{port}/{self.path}"
        if self.kind == "local" and not self.options:
            return self.path
        return f":{self.kind}{f',host={host}' if host else ''}:{self.path}"


def parse_address(words: str) -> Address:
    """Take a user's words apart; raises :class:`Refused` that says what was expected, without quoting options."""
    if not words:
        raise Refused("a remote is needed, like name:path, ftp://user@host/path or /a/folder; got an empty word")
    if "\0" in words or "\n" in words:
        raise Refused("a remote cannot have a line break or NUL in it")
    if match := _URL.fullmatch(words):
        return _from_url(match[1].lower(), match[2], match[3])
    head = re.match(r"[^:,/]*", words.removeprefix(":"))
    assert head is not None
    named, on_the_fly = head[0], words.startswith(":")
    rest = words[len(named) + on_the_fly :]
    if rest[:1] not in (":", ",") or ":" not in rest:
        if on_the_fly:
            raise Refused(f"after {':' + named!r} a ':' is missing: write :type,option=value:path")
        return Address(kind="local", path=words)
    if not NAME.fullmatch(named):
        hint = "; for a folder whose name has a colon, write ./ before it" if not on_the_fly else ""
        raise Refused(f"{named!r} cannot be the name of a {'storage type' if on_the_fly else 'remote'}{hint}")
    options, path = _options(rest, named)
    return Address("" if on_the_fly else named, named if on_the_fly else "", options, path=path)


def _options(rest: str, named: str) -> tuple[dict[str, str], str]:
    """From ``,key=value,flag:path`` the options and the path."""
    options: dict[str, str] = {}
    at = 0
    while rest[at] == ",":
        key = _KEY.match(rest, at + 1)
        if key is None:
            raise Refused(f"in the options of {named!r} a name is missing after a comma; names are letters, digits, _")
        at = key.end()
        after = rest[at : at + 1]
        if after in (",", ":"):
            options[key[0]] = "true"
            continue
        value = None
        if after == "=":
            quote = rest[at + 1 : at + 2]
            value = _QUOTED.get(quote, _BARE).match(rest, at + 1)
        if value is None:
            raise Refused(
                f"option {key[0]!r} of {named!r} does not end in ',' or ':'; write {key[0]}=value, or {key[0]}='value' "
                "with quotes doubled inside"
            )
        text = value[1].replace(quote * 2, quote) if quote in _QUOTED else value[0]
        options[key[0]] = text
        at = value.end()
    return options, rest[at + 1 :]


def _from_url(scheme: str, authority: str, path: str) -> Address:
    """RFC 1738 §3.2: the path is relative to the login directory; ``%2F`` or ``//`` in front makes it absolute."""
    if scheme == "file":
        if authority not in ("", "localhost"):
            raise Refused(f"file://{authority}/… is on another machine; only file:///path works")
        return Address(kind="local", path=_decode(path or "/"))
    if scheme not in SCHEMES:
        raise Refused(f"URLs of scheme {scheme!r} are not known; known are {', '.join(sorted(SCHEMES))} and file")
    kind, extra = SCHEMES[scheme]
    login, _, place = authority.rpartition("@")
    host, port = _host_and_port(scheme, place)
    path, _, query = path.partition("?")
    options = {**extra, **parse_query(scheme, query)}
    if "url" in extra:
        options["url"] = f"{extra['url']}://{place}"
    else:
        options["host"] = _decode(host)
        if port:
            options["port"] = port
    user, has_password, password = login.partition(":")
    if user:
        options["user"] = _decode(user)
    if has_password:
        options["pass"] = _decode(password)
    path = re.sub(r";type=[aid]$", "", path.removeprefix("/"), flags=re.IGNORECASE)
    # without a name, as every other program reads such a URL
    fallback = {"user": "anonymous"} if kind == "ftp" else {}
    return Address(kind=kind, options=options, fallback=fallback, path=_decode(path), plain=True, scheme=scheme)


def _host_and_port(scheme: str, place: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]+)(?::(\d*))?", place)
    if match is None:
        raise Refused(f"the {scheme}:// URL needs a host, like {scheme}://user@host:port/path")
    port = match[2] or ""
    if port and not 1 <= int(port) <= 65535:
        raise Refused(f"the port {port} of the {scheme}:// URL is not from 1 to 65535")
    return match[1].strip("[]"), port


def _decode(text: str) -> str:
    decoded = unquote(text, errors="surrogateescape")
    if any(c in decoded for c in "\r\n\0"):
        raise Refused("the URL has a line break or NUL in it")
    return decoded

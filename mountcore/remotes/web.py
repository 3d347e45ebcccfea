"""One web site and how to log in to it: requests with credentials, redirects within the site, statuses as our errors.

Used by the storage types that are plain HTTP (`http`, `webdav`). Credentials go only to the site of the ``url`` that
the user gave: a redirect to another one is an error that names it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import secrets
import shlex
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import final
from urllib.parse import quote, unquote, urljoin, urlsplit

import trio

from ..errors import (
    Busy,
    Denied,
    Exists,
    NoSpace,
    NotFound,
    Quota,
    ReadOnly,
    Refused,
    StorageError,
    TooLarge,
    Unreachable,
    Unsupported,
)
from .objects.http import Body, Held, Http, HttpSettings, Origin, Response
from .protocol import Source
from .sources import piece_of
from .words import Words

PIECE = 1 << 19
COMMAND_WITHIN = 60.0
REDIRECTS = 5
SECOND = 1_000_000_000
_SAFE = "~-._"  # RFC 3986 §2.3; servers trip over some of what §3.3 would allow as well


@dataclass(frozen=True, slots=True)
class Site:
    """Where and as whom. Secrets are in no repr."""

    origin: Origin
    path: str
    """Of the root, percent-encoded, without a slash at its end."""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    token_command: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    settings: HttpSettings = field(default_factory=HttpSettings)

    @classmethod
    def parse(cls, words: Words, kind: str, values: Mapping[str, str]) -> Site:
        """From the options ``url``, ``user``, ``pass``, ``bearer_token``, ``headers`` and those of patience."""
        text = words.text("url")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise Refused(f"{kind}: url {text!r} is not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(f"{kind}: url is http://host/path or https://host/path, not {text.rpartition('@')[2]!r}")
        if parts.query or parts.fragment:
            raise Refused(f"{kind}: url cannot have a '?' or '#' in it; in names write them as %3F and %23")
        origin = Origin(parts.scheme, parts.hostname, port or {"http": 80, "https": 443}[parts.scheme])
        user = words.text("user") or unquote(parts.username or "")
        password = values.get("pass", "") or unquote(parts.password or "")
        token, command = values.get("bearer_token", "").strip(), words.text("bearer_token_command")
        if token and command:
            raise Refused(f"{kind}: bearer_token and bearer_token_command exclude each other")
        if (token or command) and user:
            raise Refused(f"{kind}: a bearer token and user exclude each other")
        if "\n" in password or "\r" in password or "\n" in token:
            raise Refused(f"{kind}: a password or token cannot have a line break in it")
        path = "/".join(quote(unquote(part, errors="surrogateescape"), safe=_SAFE, errors="surrogateescape")
                        for part in parts.path.strip("/").split("/"))  # fmt: skip
        return cls(origin, f"/{path}" if path else "", user, password, token, command, _headers(words, kind),
                   HttpSettings(words.duration("connect_timeout", 60.0), words.duration("timeout", 60.0),
                                words.number("connections", 1, 256, 8), not words.flag("no_check_certificate"),
                                words.text("ca_cert")))  # fmt: skip

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"{self.origin.scheme}://{user}{self.origin.authority}{self.path}"


def _headers(words: Words, kind: str) -> tuple[tuple[str, str], ...]:
    """rclone's form: ``name,value,name,value``; a value with a comma in it in double quotes."""
    text = words.text("headers")
    if not text:
        return ()
    fields = next(csv.reader([text], skipinitialspace=True))
    if len(fields) % 2 or not all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) for name in fields[::2]):
        raise Refused(f"{kind}: headers is name,value,name,value")
    return tuple(zip(fields[::2], (value.strip() for value in fields[1::2]), strict=True))


def segment(name: str) -> str:
    """A name as a part of a URL's path."""
    return quote(name, safe=_SAFE, errors="surrogateescape")


def time_of(text: str) -> int | None:
    """Nanoseconds of a Last-Modified header (RFC 9110 §5.6.7); None if it makes no sense."""
    try:
        return int(parsedate_to_datetime(text).timestamp()) * SECOND
    except (TypeError, ValueError, OverflowError):
        return None


def tag_of(text: str) -> str:
    """An etag's value. Weak or not, it tells versions apart: Apache's are weak for a second, then the same strong."""
    return text.strip().removeprefix("W/").strip('"')


@final
class SourceBody(Body):
    """The content of a source. Read in threads: a disk may be busy, or a limit hold it back."""

    def __init__(self, path: str, source: Source) -> None:
        self._path = path
        self._source = source

    @property
    def size(self) -> int:
        return self._source.size

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        offset, size = 0, self._source.size
        while offset < size:
            piece = await trio.to_thread.run_sync(piece_of, self._source, PIECE, offset, self._path)
            offset += len(piece)
            yield piece


@final
class Web:
    """Requests to one site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.http = Http(site.settings)
        self._token = site.token
        self._digest: dict[str, str] | None = None
        self._count = 0

    def target(self, path: str, *, directory: bool = False) -> str:
        """The path of a URL for a path below the root (already as the server spells it)."""
        parts = "".join(f"/{segment(part)}" for part in path.split("/")) if path else ""
        return (self.site.path + parts + ("/" if directory else "")) or "/"

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: Body | None = None,
        *,
        accept: frozenset[int] = frozenset(),
        path: str = "",
    ) -> AsyncIterator[Response]:
        """An answer with a status of ``accept`` (or 2xx); else the error that it stands for, about ``path``."""
        for turn in range(REDIRECTS + 3):
            try:
                context = self.http.request(
                    method, self.site.origin, target, await self._lines(method, target, headers), body
                )
                async with context as response:
                    if response.status == 401 and turn < 2 and await self._again(response):
                        continue
                    if response.status in (301, 302, 307, 308) and body_can_move(method):
                        if turn >= REDIRECTS:
                            raise Unsupported(path, f"{self.site.origin}: it redirects in a circle")
                        target = self._redirected(response, path)
                        continue
                    if response.status // 100 != 2 and response.status not in accept:
                        raise await self._error(response, path)
                    yield response
                    return
            except StorageError as problem:
                if problem.path or not path:
                    raise
                raise type(problem)(path, problem.said) from problem
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Drop all connections."""
        self.http.close()

    def _redirected(self, response: Response, path: str) -> str:
        to = urlsplit(urljoin(response.url, response.headers.get("location", "")))
        origin = self.site.origin
        port = to.port or {"http": 80, "https": 443}.get(to.scheme, 0)
        if (to.scheme, to.hostname, port) != (origin.scheme, origin.host, origin.port):
            elsewhere = f"{to.scheme}://{to.hostname}{f':{to.port}' if to.port else ''}"
            raise Unsupported(path, f"{origin} redirects to {elsewhere}; name that as url")
        return to.path + (f"?{to.query}" if to.query else "")

    # logging in

    async def _lines(self, method: str, target: str, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        lines = [("User-Agent", "portside"), ("Accept-Encoding", "identity"), *headers, *self.site.headers]
        if self.site.token_command and not self._token:
            self._token = await self._ask_command()
        if self._token:
            lines.append(("Authorization", f"Bearer {self._token}"))
        elif self._digest is not None:
            lines.append(("Authorization", self._digest_answer(method, target)))
        elif self.site.user or self.site.password:
            pair = f"{self.site.user}:{self.site.password}".encode()
            lines.append(("Authorization", f"Basic {base64.b64encode(pair).decode('ascii')}"))
        return lines

    async def _ask_command(self) -> str:
        """The token that a program prints; bounded."""
        with trio.move_on_after(COMMAND_WITHIN) as waiting:
            try:
                command = shlex.split(self.site.token_command)
                done = await trio.run_process(
                    command, stdin=b"", capture_stdout=True, stderr=subprocess.DEVNULL, check=False
                )
            except (OSError, ValueError) as problem:
                raise Denied("", f"bearer_token_command cannot be run: {problem}") from None
        if waiting.cancelled_caught:
            raise Denied("", f"bearer_token_command did not end within {COMMAND_WITHIN:g} s")
        token = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode or not token or "\n" in token:
            raise Denied("", f"bearer_token_command failed (exit {done.returncode}), or did not print one line")
        return token

    async def _again(self, response: Response) -> bool:
        """After a 401: whether there is another way to try. RFC 7616 for Digest."""
        challenge = response.headers.get("www-authenticate", "")
        if self.site.token_command:
            self._token = ""  # it may have run out
            return True
        match = re.search(r"\bDigest\s+(.*)", challenge, re.IGNORECASE | re.DOTALL)
        if match is None or not self.site.user:
            return False
        fields = re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', match[1])
        found = {name.lower(): quoted or plain for name, quoted, plain in fields}
        fresh = self._digest is None or found.get("stale", "").lower() == "true"
        self._digest, self._count = found, 0
        return fresh and "nonce" in found and found.get("algorithm", "MD5").upper() in ("MD5", "SHA-256")

    def _digest_answer(self, method: str, target: str) -> str:
        assert self._digest is not None
        told = self._digest
        algorithm = told.get("algorithm", "MD5")

        def made(text: str) -> str:
            kind = hashlib.sha256 if algorithm.upper() == "SHA-256" else hashlib.md5
            return kind(text.encode(), usedforsecurity=False).hexdigest()

        self._count += 1
        count, client = f"{self._count:08x}", secrets.token_hex(8)
        realm, nonce = told.get("realm", ""), told["nonce"]
        one = made(f"{self.site.user}:{realm}:{self.site.password}")
        two = made(f"{method}:{target}")
        quality = "auth" if "auth" in re.split(r"[\s,]+", told.get("qop", "")) else ""
        answer = made(f"{one}:{nonce}:{count}:{client}:auth:{two}" if quality else f"{one}:{nonce}:{two}")
        parts = [f'username="{self.site.user}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{target}"',
                 f'response="{answer}"', f"algorithm={algorithm}"]  # fmt: skip
        if "opaque" in told:
            parts.append(f'opaque="{told["opaque"]}"')
        if quality:
            parts += ["qop=auth", f"nc={count}", f'cnonce="{client}"']
        return "Digest " + ", ".join(parts)

    async def _error(self, response: Response, path: str) -> StorageError:
        """What a status means (RFC 9110 §15, RFC 4918 §11)."""
        said = f"{self.site.origin} says {response.status}"
        match response.status:
            case 401:
                who = f" of {self.site.user!r}" if self.site.user else ""
                return Denied(path, f"{self.site.origin}: the login{who} was refused")
            case 403:
                return Denied(path, said)
            case 404 | 410:
                return NotFound(path)
            case 405 | 501:
                return Unsupported(path, said)
            case 409:
                return NotFound(path, "its directory does not exist")
            case 412:
                return Exists(path, said)
            case 413:
                return TooLarge(path, said)
            case 423 | 429:
                return Busy(path, f"{said}: {'locked' if response.status == 423 else 'too many requests'}")
            case 507:
                words = (await response.content())[:2000].decode("utf-8", "replace").lower()
                return Quota(path, said) if "quota" in words else NoSpace(path, said)
            case 502 | 503 | 504:
                return Unreachable(path, said)
            case _:
                return ReadOnly(path, said) if response.status == 451 else StorageError(path, said)


def body_can_move(method: str) -> bool:
    """Which requests may follow a redirect."""
    return method in ("GET", "HEAD", "PROPFIND", "OPTIONS")


__all__ = ["Held", "Site", "SourceBody", "Web", "body_can_move", "segment", "tag_of", "time_of"]

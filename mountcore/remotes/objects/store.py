"""What an object store can do, whoever makes it: flat keys in buckets, whole objects, pages of listings.

`remote` turns this into the port; `s3` and `through_obstore` implement it. Keys are the storage's own: no leading
slash, and a trailing one only where a directory is marked. Errors are those of :mod:`mountcore.errors`, without a
path (the caller knows which one it asked about); ``NotFound`` only if the store said so.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ..protocol import Absent, Source

MTIME = "mtime"
"""The key of the user metadata in which rclone keeps a file's time, and so do we."""
NOTHING: Mapping[str, str] = {}


class TimeForm(enum.Enum):
    """How rclone writes ``mtime`` into the metadata of this kind of store."""

    SECONDS = "seconds since 1970 with a fraction"
    RFC3339 = "2026-01-02T03:04:05.123456789Z"


@dataclass(frozen=True, slots=True)
class Key:
    """Where an object is; ``key`` "" is the bucket itself."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Found:
    """An object as the store describes it."""

    key: str
    size: int
    tag: str = ""
    """Its etag, without quotes."""
    modified_ns: int | None = None
    """When it was stored."""
    metadata: Mapping[str, str] | None = None
    """By lower-case name; None where a listing does not tell."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What else must not be lost when the metadata is replaced; the store's own matter."""
    md5: str = ""
    """In hex, where the store keeps it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing."""

    objects: Sequence[Found]
    prefixes: Sequence[str]
    more: str = ""
    """Ask with this for the next page; "" at the end."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What differs between stores."""

    time_form: TimeForm
    conditional_put: bool = False
    """As far as is known by now."""
    replaces_metadata: bool = False
    """`copy` can give the copy other metadata."""
    markers: bool = False
    """Keys may end in "/"."""
    buckets: bool = False
    """`buckets`, `make_bucket` and `remove_bucket` work."""
    raw_names: bool = False
    """Names that are not UTF-8 are written as rclone writes them; elsewhere the store has encoded names already."""
    links: bool = False
    hashes: frozenset[str] = frozenset()
    longest_key: int = 1024
    max_size: int | None = None


Condition = Absent | str | None
"""Nothing may be there; an object with this tag must be; no matter."""


class Store(Protocol):
    """An object store. All methods are checkpoints and bounded in time."""

    @property
    def identity(self) -> str:
        """Which store this is, without secrets, as the beginning of a URL."""

    @property
    def facts(self) -> StoreFacts:
        """What it can do."""

    def spelled(self, at: Key) -> str:
        """The key as the service gets it; ``InvalidName`` where that could not be read back. Not a checkpoint."""

    async def head(self, at: Key) -> Found:
        """An object with its metadata."""

    def get(
        self, at: Key, start: int, stop: int | None, tag: str
    ) -> AbstractAsyncContextManager[tuple[Found, AsyncGenerator[bytes, None]]]:
        """Bytes of an object, fewer only at its end, in pieces of 1 MiB or less; ``Stale`` if its tag is another."""

    async def put(
        self, at: Key, source: Source, metadata: Mapping[str, str], content_type: str, condition: Condition
    ) -> Found:
        """Store an object, in parts if it is large; ``Stale`` where the condition does not hold."""

    async def delete(self, at: Key) -> None:
        """Delete an object. That there is none is no error."""

    async def copy(self, source: Key, target: Key, found: Found, metadata: Mapping[str, str] | None) -> str:
        """Copy an object that is still as ``found``, at the store; with other metadata unless None. Its tag, or ""."""

    async def page(self, at: Key, *, delimited: bool, more: str = "", limit: int | None = None) -> Page:
        """What begins with ``at.key``; ``delimited``: what has another "/" behind it only as a prefix."""

    async def buckets(self) -> Sequence[tuple[str, int | None]]:
        """Names of buckets, and when each was made."""

    async def make_bucket(self, name: str) -> None:
        """Make a bucket."""

    async def remove_bucket(self, name: str) -> None:
        """Remove an empty bucket."""

    async def link(self, at: Key, lifetime: float) -> str:
        """A URL that reads an object without a login."""

    async def aclose(self) -> None:
        """Let go of connections and threads."""

"""Google Cloud Storage and Azure Blob Storage through obstore, as an object store.

Calls run in threads: obstore releases the GIL, and its waits are bounded by its client's time-outs. Not abandoned when
cancelled: an upload that nobody waits for could still be published; its source stops it instead.

What obstore cannot do, this store says it cannot (`facts`): keys that end in "/" (no markers), other metadata for what
is stored (no setting of times), conditions on uploads in parts. A file above `upload_cutoff` is therefore looked at
just before it is stored; a smaller one is stored with the condition. Names are encoded as rclone encodes them here.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar, final

import obstore
import trio
from obstore import exceptions as failures

from ...errors import (
    Corrupt,
    Denied,
    InvalidName,
    NoSpace,
    NotFound,
    Quota,
    Stale,
    StorageError,
    TimedOut,
    Unreachable,
    Unsupported,
)
from ..encoding import NameEncoding
from ..protocol import Absent, Source
from ..sources import PIECE, pieces_of
from .store import Condition, Found, Key, Page, StoreFacts, TimeForm
from .times import SECOND

T = TypeVar("T")
log = logging.getLogger(__name__)
THREADS = 64
LISTINGS = 64
"""Listings under way; an older one that nobody goes on with is forgotten."""


@dataclass(frozen=True, slots=True)
class Place:
    """One bucket or container, opened."""

    store: Any
    identity: str
    names: NameEncoding
    storage_class: str = ""
    upload_cutoff: int = 16 << 20
    chunk_size: int = 5 << 20
    concurrency: int = 4
    remedy: str = ""
    """What to check when the service does not let us in."""


@final
class ThroughObstore:
    """One bucket or container; see the module."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = place.store
        self._limit = trio.CapacityLimiter(THREADS)
        self._listings: OrderedDict[str, Iterator[Sequence[Any]]] = OrderedDict()
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<ThroughObstore {self.identity}>"

    @property
    def identity(self) -> str:
        return self._place.identity

    @property
    def facts(self) -> StoreFacts:
        return StoreFacts(time_form=TimeForm.RFC3339, links=True)

    async def head(self, at: Key) -> Found:
        got = await self._run(obstore.get, self._store, self.spelled(at), options={"head": True})
        return self._found(got.meta, got.attributes)

    @asynccontextmanager
    async def get(
        self, at: Key, start: int, stop: int | None, tag: str
    ) -> AsyncIterator[tuple[Found, AsyncGenerator[bytes, None]]]:
        options: dict[str, Any] = {"range": (start, stop) if stop is not None else {"offset": start}}
        if not start and stop is None:
            del options["range"]
        if tag:
            options["if_match"] = f'"{tag}"'
        try:
            got = await self._run(obstore.get, self._store, self.spelled(at), options=options)
        except _PastTheEnd:
            found = await self.head(at)
            if tag and found.tag != tag:
                raise Stale("", "the file has changed") from None
            async with aclosing(self._pieces(iter(()))) as pieces:
                yield found, pieces
            return
        found = self._found(got.meta, got.attributes)
        if tag and found.tag != tag:
            raise Stale("", "the file has changed")
        async with aclosing(self._pieces(iter(got.stream(min_chunk_size=PIECE)))) as pieces:
            yield found, pieces

    async def put(
        self, at: Key, source: Source, metadata: Mapping[str, str], content_type: str, condition: Condition
    ) -> Found:
        attributes = {**metadata, "Content-Type": content_type}
        if self._place.storage_class:
            attributes["Storage-Class"] = self._place.storage_class
        in_parts = source.size > self._place.upload_cutoff
        mode: Any = "overwrite"
        if isinstance(condition, Absent):
            mode = "create"
            if in_parts and await self._there(at):
                raise Stale("", "the name is taken")
        elif condition is not None:
            mode = await self._expected(at, condition)
        result = await self._run(
            obstore.put, self._store, self.spelled(at), pieces_of(source), attributes=attributes,
            mode="overwrite" if in_parts else mode, use_multipart=in_parts,
            chunk_size=max(self._place.chunk_size, -(-source.size // 10_000)), max_concurrency=self._place.concurrency,
        )  # fmt: skip
        return Found(at.key, source.size, _tag(result["e_tag"]))

    async def delete(self, at: Key) -> None:
        with suppress(NotFound):
            await self._run(obstore.delete, self._store, self.spelled(at))

    async def copy(self, source: Key, target: Key, found: Found, metadata: Mapping[str, str] | None) -> str:
        if metadata is not None:
            raise Unsupported("", "the metadata of what is stored cannot be changed here")
        await self._expected(source, found.tag)
        await self._run(obstore.copy, self._store, self.spelled(source), self.spelled(target))
        return ""

    async def page(self, at: Key, *, delimited: bool, more: str = "", limit: int | None = None) -> Page:
        prefix = self.spelled(Key(at.bucket, at.key.removesuffix("/"))) or None
        if delimited and limit is None:
            found = await self._run(obstore.list_with_delimiter, self._store, prefix)
            prefixes = [self._plain(one) + "/" for one in found["common_prefixes"]]
            return Page([self._found(meta, None) for meta in found["objects"]], prefixes)
        if more:
            listing = self._listings.pop(more, None)
            if listing is None:
                raise Corrupt("", "too many listings at once")
        else:
            listing = iter(await self._run(obstore.list, self._store, prefix, chunk_size=limit or 1000))
        chunk = await self._run(next, listing, None)
        if chunk is None:
            return Page([], [])
        again = ""
        if limit is None:
            again = str(next(self._numbers))
            self._listings[again] = listing
            if len(self._listings) > LISTINGS:
                self._listings.popitem(last=False)
        return Page([self._found(meta, None) for meta in chunk], [], again)

    async def buckets(self) -> Sequence[tuple[str, int | None]]:
        raise Unsupported("", "name the bucket: remote:bucket/path")

    async def make_bucket(self, name: str) -> None:
        raise Unsupported("", "buckets are not made here")

    async def remove_bucket(self, name: str) -> None:
        raise Unsupported("", "buckets are not removed here")

    async def link(self, at: Key, lifetime: float) -> str:
        span = timedelta(seconds=max(1, min(int(lifetime), 7 * 86_400)))
        return str(await self._run(obstore.sign, self._store, "GET", self.spelled(at), span))

    async def aclose(self) -> None:
        """obstore closes its connections when the store is forgotten."""
        self._listings.clear()

    async def _expected(self, at: Key, tag: str) -> dict[str, str]:
        """What identifies the version with this tag to the service; Stale if it is another."""
        try:
            meta = await self._run(obstore.head, self._store, self.spelled(at))
        except NotFound:
            raise Stale("", "the file is gone") from None
        if tag and _tag(meta["e_tag"]) != tag:
            raise Stale("", "the file has changed")
        parts = {"e_tag": meta["e_tag"], "version": meta["version"]}
        return {name: value for name, value in parts.items() if value}

    async def _there(self, at: Key) -> bool:
        try:
            await self._run(obstore.head, self._store, self.spelled(at))
        except NotFound:
            return False
        return True

    def spelled(self, at: Key) -> str:
        return "/".join(self._place.names.encode(part) if part else "" for part in at.key.split("/"))

    def _plain(self, key: str) -> str:
        """The key by its encoded form; one that could not be asked for again stays as it is."""
        parts = [self._place.names.decode(part) for part in key.split("/")]
        return key if None in parts else "/".join(part or "" for part in parts)

    def _found(self, meta: Mapping[str, Any], attributes: Mapping[str, str] | None) -> Found:
        modified = int(meta["last_modified"].timestamp()) * SECOND
        key = self._plain(str(meta["path"]))
        metadata = None if attributes is None else {name.lower(): value for name, value in attributes.items()}
        return Found(key, int(meta["size"]), _tag(meta["e_tag"]), modified, metadata)

    async def _pieces(self, stream: Iterator[Any]) -> AsyncGenerator[bytes, None]:
        while (chunk := await self._run(next, stream, None)) is not None:
            view = memoryview(chunk)
            for start in range(0, len(view), PIECE):
                yield bytes(view[start : start + PIECE])

    async def _run(self, call: Callable[..., T], *args: object, **options: object) -> T:
        def work() -> T:
            return call(*args, **options)

        try:
            return await trio.to_thread.run_sync(work, limiter=self._limit)
        except StorageError:
            raise
        except (failures.BaseError, OSError, ValueError) as problem:
            raise self._ours(problem) from problem

    def _ours(self, problem: Exception) -> BaseException:
        """obstore's error as ours. Its text begins with what failed; an answer's document follows."""
        text, _, details = str(problem).partition("\n\nDebug source:")
        code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", text)) else ""
        status = int(found[1]) if (found := re.search(r"status code: (\d{3})", text)) else 0
        reasons = re.findall(r'(?:message|error): "([^"]+)"', details) or [_shortened(text)]
        said = f"{self.identity}: " + (code or (f"HTTP {status}" if status else reasons[-1]))
        match problem:
            case FileNotFoundError():
                return NotFound("", said)
            case failures.AlreadyExistsError() | failures.PreconditionError() | failures.NotModifiedError():
                return Stale("", said)
            case failures.PermissionDeniedError() | failures.UnauthenticatedError():
                return Denied("", f"{said}; {self._place.remedy}")
            case failures.InvalidPathError():
                return InvalidName("", said)
            case failures.NotSupportedError():
                return Unsupported("", said)
            case OSError() if not isinstance(problem, failures.BaseError):
                return problem  # the source's
            case ValueError() if "path" in text.lower():
                return InvalidName("", "the storage cannot hold this name")
        if status == 416 or code == "InvalidRange" or "Wanted range starting at" in text:
            return _PastTheEnd("", said)
        if code in _CODES:
            kind, remedy = _CODES[code]
            return kind("", f"{said}; {remedy}")
        if status in (400, 401, 403) or "token request" in text or "decode" in text.lower():
            return Denied("", f"{said}; {self._place.remedy}")
        if status == 404:
            return NotFound("", said)
        if "timed out" in text or "TimedOut" in details or "kind: Timeout" in details:
            return TimedOut("", f"{self.identity}: no answer in time")
        if wrong := re.search(r"InvalidCertificate\(\s*(\w+)", details):
            return Denied("", f"{self.identity}: bad certificate: {wrong[1]}; ca_cert names a file of some to trust")
        if not status or status >= 500 or status in (408, 429):
            return Unreachable("", said)
        return StorageError("", said)


class _PastTheEnd(StorageError):
    """A range begins behind an object's end."""


_CODES: dict[str, tuple[type[StorageError], str]] = {
    "ContainerNotFound": (NotFound, "there is no such container"),
    "NoSuchBucket": (NotFound, "there is no such bucket"),
    "ContainerBeingDeleted": (NotFound, "the container is being deleted"),
    "AccountIsDisabled": (Denied, "the account is disabled"),
    "BlobArchived": (Denied, "the file is archived; rehydrate it first"),
    "AccountBeingCreated": (Unreachable, "the account is being made"),
    "InsufficientAccountPermissions": (Denied, "the account does not allow it"),
    "RequestTimeTooSkewed": (Denied, "this machine's clock is wrong"),
    "BlobQuotaExceeded": (Quota, "the quota is used up"),
    "InsufficientStorage": (NoSpace, "the storage is full"),
}


def _tag(etag: object) -> str:
    return str(etag).strip('"') if etag else ""


def _shortened(text: str) -> str:
    """Without addresses' queries, which may hold a signature."""
    line = re.sub(r"\?[^\s)]*", "", " ".join(text.split()))
    return line[:300]

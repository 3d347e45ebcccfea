"""An S3 server as an object store. See :class:`~mountcore.remotes.objects.store.Store`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import final
from xml.sax.saxutils import escape

from ....errors import Corrupt, Stale
from ...protocol import Source
from ..http import Held, Response
from ..store import Condition, Found, Key, Page, StoreFacts, TimeForm
from ..times import SECOND
from .copying import copy, copy_in_parts
from .documents import bucket_list, is_md5, page
from .errors import PastTheEnd
from .options import LARGEST, S3Options
from .requests import Requests
from .upload import MD5_KEY, Uploads

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_META = "x-amz-meta-"
_KEPT = ("content-type", "content-encoding", "content-language", "content-disposition", "cache-control")


@final
class S3:
    """An S3 server; see the module."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._requests = Requests(options)
        self._uploads = Uploads(options, self._requests, self.head)

    def __repr__(self) -> str:
        return f"<S3 {self.identity}>"

    @property
    def identity(self) -> str:
        return self._options.identity

    def spelled(self, at: Key) -> str:
        return at.key

    @property
    def facts(self) -> StoreFacts:
        return StoreFacts(
            time_form=TimeForm.SECONDS,
            conditional_put=bool(self._uploads.conditional),
            replaces_metadata=True,
            markers=True,
            raw_names=True,
            buckets=True,
            links=True,
            hashes=frozenset({"md5"}),
            max_size=LARGEST,
        )

    async def head(self, at: Key) -> Found:
        customer = dict(self._options.encryption.customer)
        async with self._requests.ask("HEAD", at, headers=customer) as answer:
            return self._found(at, answer.headers, int(answer.headers.get("content-length", "0")))

    @asynccontextmanager
    async def get(
        self, at: Key, start: int, stop: int | None, tag: str
    ) -> AsyncIterator[tuple[Found, AsyncGenerator[bytes, None]]]:
        headers = dict(self._options.encryption.customer)
        if tag:
            headers["if-match"] = f'"{tag}"'
        if start or stop is not None:
            headers["range"] = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
        try:
            async with self._requests.ask("GET", at, headers=headers) as answer:
                found, skip = self._ranged(at, answer, start)
                if tag and found.tag and found.tag != tag:
                    raise Stale("", "the file has changed")
                wanted = max(0, min(found.size, found.size if stop is None else stop) - start)
                async with aclosing(_cut(answer, skip, wanted)) as pieces:
                    yield found, pieces
        except PastTheEnd:
            found = await self.head(at)
            if tag and found.tag != tag:
                raise Stale("", "the file has changed") from None
            async with aclosing(_none()) as pieces:
                yield found, pieces

    async def put(
        self, at: Key, source: Source, metadata: Mapping[str, str], content_type: str, condition: Condition
    ) -> Found:
        return await self._uploads.put(at, source, metadata, content_type, condition)

    async def delete(self, at: Key) -> None:
        async with self._requests.ask("DELETE", at):
            pass

    async def copy(self, source: Key, target: Key, found: Found, metadata: Mapping[str, str] | None) -> str:
        if found.size > self._options.copy_cutoff:
            described = found if found.metadata is not None else await self.head(source)
            return await copy_in_parts(self._options, self._requests, source, target, described, metadata)
        return await copy(self._options, self._requests, source, target, found, metadata)

    async def page(self, at: Key, *, delimited: bool, more: str = "", limit: int | None = None) -> Page:
        second = self._options.list_version == 2
        query = {"prefix": at.key, "max-keys": str(min(limit or self._options.list_chunk, self._options.list_chunk))}
        if second:
            query["list-type"] = "2"
        if delimited:
            query["delimiter"] = "/"
        if self._options.url_encode:
            query["encoding-type"] = "url"
        if more:
            query["continuation-token" if second else "marker"] = more
        async with self._requests.ask("GET", Key(at.bucket, ""), query) as answer:
            return page(await answer.content(), second)

    async def buckets(self) -> Sequence[tuple[str, int | None]]:
        async with self._requests.ask("GET", Key("", "")) as answer:
            return bucket_list(await answer.content())

    async def make_bucket(self, name: str) -> None:
        options = self._options
        place = options.location or (options.region if options.region_given else "")
        document = (
            f"<CreateBucketConfiguration><LocationConstraint>{escape(place)}</LocationConstraint>"
            "</CreateBucketConfiguration>"
        )
        body = Held(document.encode()) if place and place != "us-east-1" else None
        async with self._requests.ask("PUT", Key(name, ""), body=body):
            pass

    async def remove_bucket(self, name: str) -> None:
        async with self._requests.ask("DELETE", Key(name, "")):
            pass

    async def link(self, at: Key, lifetime: float) -> str:
        return await self._requests.presigned(at, lifetime)

    async def aclose(self) -> None:
        self._requests.close()

    def _found(self, at: Key, headers: Mapping[str, str], size: int) -> Found:
        metadata = {name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)}
        tag = headers.get("etag", "").strip('"')
        opaque = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        opaque = opaque or "x-amz-server-side-encryption-customer-algorithm" in headers
        md5 = tag.lower() if is_md5(tag) and not opaque else ""
        if kept := metadata.get(MD5_KEY, ""):
            try:
                md5 = base64.b64decode(kept, validate=True).hex()
            except binascii.Error:
                md5 = ""
        stored = headers.get("last-modified", "")
        try:
            modified = int(parsedate_to_datetime(stored).timestamp()) * SECOND if stored else None
        except ValueError:
            modified = None
        kept_headers = {name: headers[name] for name in _KEPT if name in headers}
        if storage_class := headers.get("x-amz-storage-class", ""):
            kept_headers["x-amz-storage-class"] = storage_class
        return Found(at.key, size, tag, modified, metadata, kept_headers, md5 if len(md5) == 32 else "")

    def _ranged(self, at: Key, answer: Response, start: int) -> tuple[Found, int]:
        """What is being read, and how many bytes come before what was asked for: a server may send all of it.

        ``rclone serve s3`` sends the range with status 200; its Content-Range tells.
        """
        if answer.status == 206 or "content-range" in answer.headers:
            match = _RANGE.fullmatch(answer.headers.get("content-range", "").strip())
            if match is None or int(match[1]) > start:
                raise Corrupt("", "the server sent another range than it was asked for")
            size = int(match[3]) if match[3] != "*" else int(match[2]) + 1
            return self._found(at, answer.headers, size), start - int(match[1])
        length = answer.headers.get("content-length", "")
        if not length.isdecimal():
            raise Corrupt("", "the server did not say how much it sends")
        return self._found(at, answer.headers, int(length)), start


async def _none() -> AsyncGenerator[bytes, None]:
    return
    yield b""


async def _cut(answer: Response, skip: int, wanted: int) -> AsyncGenerator[bytes, None]:
    """``wanted`` bytes behind ``skip`` others."""
    left = skip + wanted
    async with aclosing(answer.pieces(left if left else 0)) as pieces:
        async for piece in pieces:
            left -= len(piece)
            if skip >= len(piece):
                skip -= len(piece)
                continue
            yield piece[skip:] if skip else piece
            skip = 0
    if left > 0:
        raise Corrupt("", f"the answer ended {left} bytes too soon")

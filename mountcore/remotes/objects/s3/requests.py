"""One request to an S3 server: addressed, signed, sent, its refusal understood.

A bucket in another region than was thought is asked again there, once, and remembered. A refused HEAD has no
body; it is asked again as a GET of one byte, to hear why.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import final

import trio

from ....errors import Corrupt
from ...protocol import Source
from ..http import PIECE, Body, Http, Origin, Response
from ..store import Key
from .credentials import Credentials
from .errors import Refusal, error, parse
from .options import S3Options
from .sigv4 import EMPTY, UNSIGNED, Scope, encode, presigned_query, query_string, signed_headers

log = logging.getLogger(__name__)
AGENT = "portside"


@final
class Part:
    """Bytes of a source as a body, read in threads; ``md5`` is of what was sent last."""

    def __init__(self, source: Source, start: int, stop: int, *, checksum: bool) -> None:
        self._source = source
        self._start = start
        self.size = stop - start
        self._checksum = checksum
        self.md5 = ""

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        digest = hashlib.md5(usedforsecurity=False)
        done = 0

        def read() -> bytes:
            piece = self._source.pread(min(PIECE, self.size - done), self._start + done)
            if self._checksum:
                digest.update(piece)
            return piece

        while done < self.size:
            piece = await trio.to_thread.run_sync(read)
            if not piece:
                raise Corrupt("", f"the source ended at {self._start + done} bytes, {self.size - done} too soon")
            done += len(piece)
            yield piece
        self.md5 = digest.hexdigest() if self._checksum else ""

    async def sha256(self) -> str:
        """Of all of it; reads it once more."""
        return await trio.to_thread.run_sync(self._hash)

    def _hash(self) -> str:
        digest, done = hashlib.sha256(), 0
        while done < self.size:
            trio.from_thread.check_cancelled()
            piece = self._source.pread(min(PIECE, self.size - done), self._start + done)
            if not piece:
                raise Corrupt("", f"the source ended at {self._start + done} bytes, {self.size - done} too soon")
            digest.update(piece)
            done += len(piece)
        return digest.hexdigest()


@final
class Requests:
    """Sends requests to one server."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._http = Http(options.http)
        self._credentials = Credentials(options, self._http)
        self._regions: dict[str, str] = {}

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        at: Key,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> AsyncIterator[Response]:
        """The answer, which is a success; otherwise raises what the refusal means."""
        for _ in range(2):
            async with self._send(method, at, query or {}, headers or {}, body) as answer:
                if 200 <= answer.status < 300:
                    yield answer
                    return
                words = b"" if method == "HEAD" else await answer.content()
                refusal = parse(answer.status, dict(answer.headers), words)
            if not self._elsewhere(at, refusal):
                break
        if method == "HEAD" and refusal.status in (301, 307, 400, 401, 403) and not refusal.code:
            refusal = await self._reason(at, query or {}, headers or {}, refusal)
        raise error(refusal, f"{self._options.origin}{f', bucket {at.bucket}' if at.bucket else ''}")

    async def presigned(self, at: Key, lifetime: float) -> str:
        """A URL that reads an object."""
        keys = await self._credentials.current()
        origin, path = self._address(at)
        if keys is None:
            return f"{origin}{path}"
        seconds = max(1, min(int(lifetime), 7 * 86_400))
        scope = Scope(self._region(at.bucket), datetime.now(UTC))
        return f"{origin}{path}?{presigned_query('GET', path, origin.authority, seconds, keys, scope)}"

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    @asynccontextmanager
    async def _send(
        self, method: str, at: Key, query: Mapping[str, str], headers: Mapping[str, str], body: Body | None
    ) -> AsyncIterator[Response]:
        keys = await self._credentials.current()
        origin, path = self._address(at)
        given = {"host": origin.authority, **headers}
        if self._options.requester_pays:
            given["x-amz-request-payer"] = "requester"
        hashed = await self._payload(body)
        if keys is not None:
            scope = Scope(self._region(at.bucket), datetime.now(UTC))
            given = signed_headers(method, path, query, given, hashed, keys, scope)
        del given["host"]
        target = path + (f"?{query_string(query)}" if query else "")
        lines = [("User-Agent", AGENT), ("Accept-Encoding", "identity"), *given.items()]
        async with self._http.request(method, origin, target, lines, body) as answer:
            yield answer

    async def _payload(self, body: Body | None) -> str:
        if body is None or not body.size:
            return EMPTY
        if isinstance(body, Part):
            return await body.sha256() if self._options.sign_payload else UNSIGNED
        digest = hashlib.sha256()
        async for piece in body.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def _address(self, at: Key) -> tuple[Origin, str]:
        options = self._options
        origin = options.origin
        if options.amazon and (region := self._region(at.bucket)) != options.region:
            origin = Origin(origin.scheme, origin.host.replace(f".{options.region}.", f".{region}."), origin.port)
        key = encode(at.key, "/")
        if not at.bucket:
            return origin, f"{options.prefix}/"
        dotted = "." in at.bucket and origin.scheme == "https"  # no certificate is for a.b.s3.example.com
        if options.path_style or dotted:
            return origin, f"{options.prefix}/{encode(at.bucket)}" + (f"/{key}" if key else "")
        return Origin(origin.scheme, f"{at.bucket}.{origin.host}", origin.port), f"{options.prefix}/{key}"

    def _region(self, bucket: str) -> str:
        return self._regions.get(bucket, self._options.region)

    def _elsewhere(self, at: Key, refusal: Refusal) -> bool:
        """Whether the bucket is in a region that we did not ask, and we do now."""
        if refusal.status not in (301, 307, 400, 403) or not refusal.region or not at.bucket:
            return False
        if refusal.region == self._region(at.bucket):
            return False
        log.info("bucket %s is in region %s", at.bucket, refusal.region)
        self._regions[at.bucket] = refusal.region
        return True

    async def _reason(self, at: Key, query: Mapping[str, str], headers: Mapping[str, str], first: Refusal) -> Refusal:
        async with self._send("GET", at, query, {**headers, "range": "bytes=0-0"}, None) as answer:
            if answer.status < 300:
                return first
            return parse(answer.status, dict(answer.headers), await answer.content())

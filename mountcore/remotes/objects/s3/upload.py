"""Storing objects: whole, or in parts sent at once, each streamed from its source with a megabyte in memory.

Whether the server honours conditions (``If-None-Match: *``, ``If-Match``) is tried once, before the first upload
that has one, on an object of our own that listings hide; for the end of an upload in parts separately. Where it does
not, the object is looked at just before it is stored.

What was stored is compared with what was sent by the MD5 that the server answers as etag, unless it is
encrypted with keys of its own. Parts of an upload that failed are deleted.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import final
from xml.sax.saxutils import escape

import trio

from ....errors import Corrupt, NotFound, Stale, StorageError, Unsupported
from ...limits import unmetered
from ...partials import partial_name
from ...protocol import Absent, Source
from ...sources import pieces_of
from ..http import PIECE, Held
from ..store import Condition, Found, Key
from .documents import is_md5, text
from .errors import Refusal, error
from .options import S3Options
from .requests import Part, Requests

log = logging.getLogger(__name__)
MD5_KEY = "md5chksum"
"""The MD5 of a file in parts, in base64, in rclone's metadata."""
_ABORT_WITHIN = 20.0
OTHER = "0123456789abcdef0123456789abcdef"
"""An etag that nothing has."""


@final
class Uploads:
    """Stores objects on one server."""

    def __init__(self, options: S3Options, requests: Requests, head: Callable[[Key], Awaitable[Found]]) -> None:
        self._options = options
        self._requests = requests
        self._head = head
        self.conditional = options.conditional
        """None: not tried yet."""
        self._conditional_parts: bool | None = options.conditional
        self._trying = trio.Lock()

    async def put(
        self, at: Key, source: Source, metadata: Mapping[str, str], content_type: str, condition: Condition
    ) -> Found:
        """Store an object; see `Store.put`."""
        in_parts = source.size > self._options.upload_cutoff
        if condition is not None and not await self._is_conditional(at, in_parts):
            await self._check(at, condition)
        headers = self._headers(metadata, content_type)
        if in_parts:
            return await self._in_parts(at, source, headers, condition)
        body = Part(source, 0, source.size, checksum=self._options.compares)
        if self.conditional:
            headers |= _conditions(condition)
        try:
            async with self._requests.ask("PUT", at, headers=headers, body=body) as answer:
                tag = answer.headers.get("etag", "").strip('"')
                opaque = self._opaque(answer.headers)
                await answer.content()
        except NotFound as problem:
            raise self._gone(problem, condition) from None
        if body.md5 and not opaque and is_md5(tag) and tag.lower() != body.md5:
            raise Corrupt("", "what the server stored is not what was sent: the MD5 differs")
        return Found(at.key, source.size, tag, md5=tag.lower() if is_md5(tag) and not opaque else "")

    def _headers(self, metadata: Mapping[str, str], content_type: str) -> dict[str, str]:
        headers = {"content-type": content_type, **dict(self._options.stored)}
        headers |= dict(self._options.encryption.stored) | dict(self._options.encryption.customer)
        return headers | {f"x-amz-meta-{name}": value for name, value in metadata.items()}

    def _opaque(self, headers: Mapping[str, str]) -> bool:
        kms = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        return kms or self._options.encryption.opaque_tags

    def _gone(self, problem: NotFound, condition: Condition) -> StorageError:
        """If-Match on what is not there is answered with 404; so is a bucket that does not exist."""
        if isinstance(condition, str) and "NoSuchBucket" not in problem.said:
            return Stale("", "the file is gone")
        return problem

    # in parts

    async def _in_parts(self, at: Key, source: Source, headers: dict[str, str], condition: Condition) -> Found:
        size, options = source.size, self._options
        part = max(options.chunk_size, -(-size // options.max_parts // PIECE) * PIECE)
        if options.checksum:
            headers[f"x-amz-meta-{MD5_KEY}"] = await trio.to_thread.run_sync(_md5, unmetered(source))
        async with self._requests.ask("POST", at, {"uploads": ""}, headers) as answer:
            upload = text(await answer.content(), "UploadId")
        if not upload:
            raise Corrupt("", "the server began an upload in parts without naming it")
        tags: dict[int, str] = {}
        numbers = iter(range(1, -(-size // part) + 1))
        failed: list[OSError] = []

        async def send(scope: trio.CancelScope) -> None:
            for number in numbers:
                try:
                    start = (number - 1) * part
                    tags[number] = await self._part(at, upload, number, source, start, min(start + part, size))
                except OSError as problem:
                    failed.append(problem)
                    scope.cancel()
                    return

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(options.concurrency):
                    nursery.start_soon(send, nursery.cancel_scope)
            if failed:
                raise failed[0]
            if condition is not None and not self._conditional_parts:
                await self._check(at, condition)
            await self._complete(at, upload, tags, condition)
        except BaseException:
            await self._abort(at, upload)
            raise
        return await self._head(at)  # some servers give it another etag than they answer here

    async def _part(self, at: Key, upload: str, number: int, source: Source, start: int, stop: int) -> str:
        body = Part(source, start, stop, checksum=self._options.compares)
        query = {"partNumber": str(number), "uploadId": upload}
        async with self._requests.ask("PUT", at, query, dict(self._options.encryption.customer), body) as answer:
            tag = answer.headers.get("etag", "").strip('"')
            opaque = self._opaque(answer.headers)
            await answer.content()
        if not tag:
            raise Corrupt("", f"the server stored part {number} without an etag")
        if body.md5 and not opaque and is_md5(tag) and tag.lower() != body.md5:
            raise Corrupt("", f"what the server stored of part {number} is not what was sent: the MD5 differs")
        return tag

    async def _complete(
        self, at: Key, upload: str, tags: Mapping[int, str], condition: Condition, *, asked: bool = False
    ) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(tags[number])}&quot;</ETag></Part>"
            for number in sorted(tags)
        )
        body = Held(f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode())
        headers = _conditions(condition) if asked or self._conditional_parts else {}
        headers |= dict(self._options.encryption.customer)
        try:
            async with self._requests.ask("POST", at, {"uploadId": upload}, headers, body) as answer:
                document = await answer.content()  # 200 comes at once; whether it worked, with the body
        except NotFound as problem:
            raise self._gone(problem, condition) from None
        if code := text(document, "Code"):
            raise error(Refusal(500, code, text(document, "Message")), f"{self._options.origin}, bucket {at.bucket}")
        if not text(document, "ETag"):
            raise Corrupt("", "the server did not say that the upload was finished")

    async def _abort(self, at: Key, upload: str) -> None:
        if self._options.leave_parts:
            return
        with trio.move_on_after(_ABORT_WITHIN, shield=True):
            try:
                async with self._requests.ask("DELETE", at, {"uploadId": upload}):
                    pass
            except StorageError as problem:
                log.info("the parts of an upload that failed may be left in bucket %s: %s", at.bucket, problem.said)

    # conditions

    async def _check(self, at: Key, condition: Condition) -> None:
        """By looking; somebody may still be faster."""
        try:
            found = await self._head(at)
        except NotFound:
            if isinstance(condition, str):
                raise Stale("", "the file is gone") from None
            return
        if isinstance(condition, Absent):
            raise Stale("", "the name is taken")
        if found.tag != condition:
            raise Stale("", "the file has changed")

    async def _is_conditional(self, at: Key, in_parts: bool) -> bool:
        async with self._trying:
            if self.conditional is None:
                self.conditional = await self._try(at, self._try_whole)
            if not self.conditional or not in_parts:
                return self.conditional
            if self._conditional_parts is None:
                self._conditional_parts = await self._try(at, self._try_parts)
            return self._conditional_parts

    async def _try(self, at: Key, attempt: Callable[[Key], Awaitable[bool]]) -> bool:
        """Whether conditions are honoured, seen on an object of our own beside ``at``."""
        folder, slash, _ = at.key.rpartition("/")
        trial = Key(at.bucket, f"{folder}{slash}{partial_name(f'trial-{secrets.token_hex(4)}')}")
        try:
            async with self._requests.ask("PUT", trial, headers=self._headers({}, "text/plain"), body=Held(b"1")):
                pass
            return await attempt(trial)
        finally:
            with trio.move_on_after(_ABORT_WITHIN, shield=True):
                try:
                    async with self._requests.ask("DELETE", trial):
                        pass
                except StorageError as problem:
                    log.info("a trial object may be left in bucket %s: %s", at.bucket, problem.said)

    async def _try_whole(self, trial: Key) -> bool:
        for condition in (Absent.ABSENT, OTHER):
            headers = self._headers({}, "text/plain") | _conditions(condition)
            if not await self._is_refused(self._requests.ask("PUT", trial, headers=headers, body=Held(b"2"))):
                return False
        return True

    async def _try_parts(self, trial: Key) -> bool:
        async with self._requests.ask("POST", trial, {"uploads": ""}, self._headers({}, "text/plain")) as answer:
            upload = text(await answer.content(), "UploadId")
        query = {"partNumber": "1", "uploadId": upload}
        customer = dict(self._options.encryption.customer)
        async with self._requests.ask("PUT", trial, query, customer, Held(b"3")) as answer:
            tag = answer.headers.get("etag", "").strip('"')
        try:
            for condition in (Absent.ABSENT, OTHER):
                try:
                    await self._complete(trial, upload, {1: tag}, condition, asked=True)
                except Stale:
                    continue
                except Unsupported:
                    pass
                return False
            return True
        finally:
            await self._abort(trial, upload)

    async def _is_refused(self, asked: object) -> bool:
        try:
            async with asked:  # type: ignore[attr-defined]
                return False
        except Stale:
            return True
        except Unsupported:
            return False


def _conditions(condition: Condition) -> dict[str, str]:
    match condition:
        case None:
            return {}
        case Absent():
            return {"if-none-match": "*"}
        case str():
            return {"if-match": f'"{condition}"'}


def _md5(source: Source) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces_of(source):
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()

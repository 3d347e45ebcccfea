"""Copying objects at the server: in one request, or in parts above its limit."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from ....errors import Corrupt, StorageError
from ..http import PIECE, Held
from ..store import NOTHING, Found, Key
from .documents import text
from .errors import Refusal, error
from .options import GIB, S3Options
from .requests import Requests
from .sigv4 import encode

PART = GIB
AT_ONCE = 4


async def copy(
    options: S3Options, requests: Requests, source: Key, target: Key, found: Found, metadata: Mapping[str, str] | None
) -> str:
    """Up to 5 GiB; answers the copy's etag."""
    headers = _source(options, source, found) | _stored(options, found)
    if metadata is not None:
        headers["x-amz-metadata-directive"] = "REPLACE"
        headers |= {name: value for name, value in found.headers.items() if name != "x-amz-storage-class"}
        headers |= {f"x-amz-meta-{name}": value for name, value in metadata.items()}
    async with requests.ask("PUT", target, headers=headers) as answer:
        document = await answer.content()  # 200 comes at once; whether it worked, with the body
    if code := text(document, "Code"):
        raise error(Refusal(500, code, text(document, "Message")), f"{options.origin}, bucket {target.bucket}")
    return text(document, "ETag").strip('"')


async def copy_in_parts(
    options: S3Options, requests: Requests, source: Key, target: Key, found: Found, metadata: Mapping[str, str] | None
) -> str:
    """Any size; ``found`` with its metadata."""
    kept = dict(found.metadata or NOTHING) if metadata is None else dict(metadata)
    headers = _stored(options, found) | dict(options.stored) | dict(found.headers)
    headers |= {f"x-amz-meta-{name}": value for name, value in kept.items()}
    async with requests.ask("POST", target, {"uploads": ""}, headers) as answer:
        upload = text(await answer.content(), "UploadId")
    part = max(min(PART, options.copy_cutoff), -(-found.size // options.max_parts // PIECE) * PIECE)
    tags: dict[int, str] = {}
    numbers = iter(range(1, -(-found.size // part) + 1))
    failed: list[StorageError] = []

    async def send(scope: trio.CancelScope) -> None:
        for number in numbers:
            start, stop = (number - 1) * part, min(number * part, found.size)
            given = _source(options, source, found) | dict(options.encryption.customer)
            given["x-amz-copy-source-range"] = f"bytes={start}-{stop - 1}"
            query = {"partNumber": str(number), "uploadId": upload}
            try:
                async with requests.ask("PUT", target, query, given) as answer:
                    tags[number] = text(await answer.content(), "ETag")
            except StorageError as problem:
                failed.append(problem)
                scope.cancel()
                return

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(send, nursery.cancel_scope)
        if failed:
            raise failed[0]
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tags[number]}</ETag></Part>" for number in sorted(tags)
        )
        body = Held(f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode())
        async with requests.ask(
            "POST", target, {"uploadId": upload}, dict(options.encryption.customer), body
        ) as answer:
            document = await answer.content()
        if not (tag := text(document, "ETag")):
            raise Corrupt("", f"the copy was not finished ({text(document, 'Code') or 'no etag'})")
        return tag.strip('"')
    except BaseException:
        with trio.move_on_after(20, shield=True):
            try:
                async with requests.ask("DELETE", target, {"uploadId": upload}):
                    pass
            except StorageError:
                pass  # the reason of the failure is raised
        raise


def _source(options: S3Options, source: Key, found: Found) -> dict[str, str]:
    headers = {"x-amz-copy-source": encode(f"/{source.bucket}/{source.key}", "/")}
    if found.tag:
        headers["x-amz-copy-source-if-match"] = f'"{found.tag}"'
    for name, value in options.encryption.customer:
        headers[name.replace("x-amz-server", "x-amz-copy-source-server")] = value
    return headers


def _stored(options: S3Options, found: Found) -> dict[str, str]:
    """Class, ACL and encryption are not copied by themselves."""
    stored = dict(options.stored)
    if "x-amz-storage-class" in found.headers:
        stored["x-amz-storage-class"] = found.headers["x-amz-storage-class"]
    return stored | dict(options.encryption.stored) | dict(options.encryption.customer)

"""What S3 servers answer in XML: listings, names of uploads, lists of buckets. Pure.

A listing that cannot be right is ``Corrupt``: nothing may look deleted because of it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

from ....errors import Corrupt
from ..store import Found, Page
from ..times import SECOND


def _parsed(document: bytes) -> ET.Element:
    try:
        return ET.fromstring(document)  # noqa: S314 - expat bounds entities
    except ET.ParseError as problem:
        raise Corrupt("", f"the server's answer is not XML ({problem}); is this an S3 endpoint?") from problem


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def page(document: bytes, second: bool) -> Page:
    """A listing; ``second``: of version 2."""
    root = _parsed(document)
    if _tag(root) != "ListBucketResult":
        raise Corrupt("", f"the server answered {_tag(root)!r} for a listing; is this an S3 endpoint?")
    objects: list[Found] = []
    prefixes: list[str] = []
    said: dict[str, str] = {}
    for element in root:
        match _tag(element):
            case "Contents":
                values = {_tag(child): child.text or "" for child in element}
                if not values.get("Size", "").isdecimal():
                    raise Corrupt("", f"the listing has no size for {values.get('Key')!r}")
                tag, stored = values.get("ETag", "").strip('"'), _moment(values.get("LastModified", ""))
                objects.append(Found(values.get("Key", ""), int(values["Size"]), tag, stored))
            case "CommonPrefixes":
                prefixes += [child.text or "" for child in element if _tag(child) == "Prefix"]
            case other:
                said[other] = element.text or ""
    last = max([one.key for one in objects] + prefixes, default="")
    more = ""
    if said.get("IsTruncated", "").lower() == "true":
        more = said.get("NextContinuationToken", "") if second else said.get("NextMarker", "") or last
        if not more:
            raise Corrupt("", "the listing goes on, and the server does not say where")
    if said.get("EncodingType", "") == "url":
        objects = [replace(one, key=_decoded(one.key)) for one in objects]
        prefixes = [_decoded(prefix) for prefix in prefixes]
        more = more if second else _decoded(more)
    return Page(objects, prefixes, more)


def _decoded(text: str) -> str:
    """As AWS encodes: a blank is "+"."""
    return unquote(text.replace("+", "%20"))


def _moment(words: str) -> int | None:
    try:
        moment = datetime.fromisoformat(words.replace("Z", "+00:00"))
    except ValueError:
        return None
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * SECOND


def is_md5(tag: str) -> bool:
    return len(tag) == 32 and all(c in "0123456789abcdefABCDEF" for c in tag)


def text(document: bytes, name: str) -> str:
    """The text of an element; "" if it or the document is none."""
    try:
        for element in ET.fromstring(document).iter() if document.strip() else ():  # noqa: S314 - expat bounds entities
            if element.tag.rpartition("}")[2] == name:
                return (element.text or "").strip()
    except ET.ParseError:
        pass
    return ""


def bucket_list(document: bytes) -> Sequence[tuple[str, int | None]]:
    """Names of buckets, and when each was made."""
    found: list[tuple[str, int | None]] = []
    for bucket in _parsed(document).iter():
        if _tag(bucket) == "Bucket":
            values = {_tag(child): child.text or "" for child in bucket}
            if values.get("Name"):
                found.append((values["Name"], _moment(values.get("CreationDate", ""))))
    return found

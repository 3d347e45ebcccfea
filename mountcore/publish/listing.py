"""The listing of checksums that a published place keeps of itself, in the form that Lektor gave it. Pure.

UTF-8 lines ``name|sha1``; a later line of a name wins, so that a line appended after each upload is all that an
interrupted run needs. Lines that have not exactly two fields are passed over, by Lektor as by us, with one exception:
names with ``|`` or a line break in them, or that are no UTF-8, stand percent-encoded in lines of three fields, the
last of which is ``portside``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

DEFAULT = ".lektor/listing"
_DIGEST = re.compile(r"[0-9a-f]{40}")
_OURS = "portside"


def parse(data: bytes) -> dict[str, str]:
    """Checksums by name; what makes no sense is passed over, and those files are uploaded again."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        match line.strip().split("|"):
            case [name, digest] if name and _DIGEST.fullmatch(digest):
                found[name] = digest
            case [name, digest, "portside"] if name and _DIGEST.fullmatch(digest):
                found[unquote(name, errors="surrogateescape")] = digest
    return found


def line(name: str, digest: str) -> bytes:
    """The line of one file."""
    try:
        plain = name.encode()
    except UnicodeEncodeError:
        plain = b"\n"
    if name == name.strip() and not re.search(rb"[|\r\n]", plain):
        return plain + f"|{digest}\n".encode()
    return f"{quote(name, safe='/', errors='surrogateescape')}|{digest}|{_OURS}\n".encode()


def whole(files: Mapping[str, str]) -> bytes:
    """The listing as it is left behind: sorted, a line for each file."""
    return b"".join(line(name, files[name]) for name in sorted(files))

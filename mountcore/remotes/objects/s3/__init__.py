"""S3, spoken over `..http` and signed here.

`options` is what the user says, `sigv4` and `errors` are pure, `credentials` finds keys, `requests` sends one request,
`upload` stores objects, `client` is the store. Why not a library: DESIGN.md.
"""

from __future__ import annotations

from ...guard import Guard
from ...protocol import Remote
from ...words import Words
from ..remote import Objects
from .client import S3
from .options import parse


def open(options: dict[str, str], root: str) -> Remote:
    """A bucket, a folder of one, or (root "") all buckets."""
    words = Words("s3", options)
    parsed = parse(words)
    return Guard(
        Objects(
            S3(parsed), root, markers=words.flag("directory_markers"), server_times=words.flag("use_server_modtime")
        )
    )

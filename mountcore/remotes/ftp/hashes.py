"""Digests that the server computes: the X commands that many have, and HASH (draft-ietf-ftpext2-hash). Pure.

Names of algorithms are those of :mod:`hashlib`.
"""

from __future__ import annotations

import re

from .server import Server

_COMMANDS = {
    "XMD5": "md5", "XSHA": "sha1", "XSHA1": "sha1", "XSHA256": "sha256", "XSHA512": "sha512", "MD5": "md5",
}  # fmt: skip
_NAMES = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha512": "SHA-512"}
_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}


def offered(server: Server) -> frozenset[str]:
    """What the server says it can compute."""
    listed = server.features.get("HASH", "").upper().replace("*", "").replace(" ", ";").split(";")
    by_hash = {name for name, theirs in _NAMES.items() if theirs in listed}
    return frozenset(by_hash | {name for command, name in _COMMANDS.items() if server.has(command)})


def commands(server: Server, algorithm: str, wire: str) -> list[tuple[str, str]]:
    """What to send for the digest of a file; the last one's reply has it."""
    for command, name in _COMMANDS.items():
        if name == algorithm and server.has(command):
            return [(command, wire)]
    return [("OPTS", f"HASH {_NAMES[algorithm]}"), ("HASH", wire)]


def digest_in(text: str, algorithm: str) -> str | None:
    """The digest in a reply: ``213 SHA-256 0-6 85ca… name``, ``250 XMD5 85ca…``, ``250 85CA…``."""
    found = re.search(rf"(?<![0-9A-Za-z])[0-9A-Fa-f]{{{_DIGITS[algorithm]}}}(?![0-9A-Za-z])", text)
    return found[0].lower() if found else None

"""The keys of a crypt remote, made from its passwords."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

_SALT = bytes.fromhex("a80df43a8fbd0308a7cab83e581f86b1")
"""Rclone's, for those who give no second password."""


@dataclass(frozen=True, slots=True)
class Keys:
    """One key for content, one for names, and the tweak for names."""

    content: bytes = field(repr=False)
    names: bytes = field(repr=False)
    tweak: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and nothing about them."""
        return hashlib.sha256(b"portside crypt" + self.content + self.names + self.tweak).hexdigest()[:12]


def make_keys(password: str, salt: str) -> Keys:
    """scrypt (N 16384, r 8, p 1), as rclone; takes about 50 ms. No password: keys of zeros, as rclone."""
    if password:
        stream = hashlib.scrypt(
            password.encode(), salt=salt.encode() or _SALT, n=16384, r=8, p=1, maxmem=64 << 20, dklen=80
        )
    else:
        stream = bytes(80)
    return Keys(stream[:32], stream[32:64], stream[64:])

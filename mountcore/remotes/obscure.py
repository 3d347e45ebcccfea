"""Passwords in configuration files, unreadable at a glance: rclone's scheme, both directions. Not a protection.

AES-256 in counter mode with a key that everybody knows (rclone's, so that files can be copied either way), a
random 16-byte counter block in front, base64url without padding around it. Who can read the file can reveal it;
what protects the file is its mode.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from ..errors import Refused

KEY = bytes.fromhex("9c935b48730a554d6bfd7c63c886a92bd390198eb8128afbf4de162b8b95f638")
BLOCK = 16


def obscure(password: str) -> str:
    """The password as it stands in a configuration file; another text each time."""
    start = secrets.token_bytes(BLOCK)
    sealed = start + _counter_mode(start, password.encode())
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def reveal(text: str) -> str:
    """The password that was obscured; raises :class:`Refused` (never with the text in it) if it was not."""
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if len(sealed) < BLOCK:
            raise ValueError
        return _counter_mode(sealed[:BLOCK], sealed[BLOCK:]).decode()
    except (binascii.Error, ValueError):
        raise Refused("it is not an obscured password; make one with: portside obscure") from None


def looks_obscured(text: str) -> bool:
    """Whether a text can only be an obscured password: it reveals to something that can be typed."""
    try:
        return len(text) > 22 and reveal(text).isprintable()
    except Refused:
        return False


def _counter_mode(start: bytes, data: bytes) -> bytes:
    # imported here: the library takes 50 ms to load, and most runs have no obscured password
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    stream = Cipher(algorithms.AES(KEY), modes.CTR(start)).encryptor()
    return stream.update(data) + stream.finalize()

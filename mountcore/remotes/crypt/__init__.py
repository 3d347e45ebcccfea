"""Files encrypted by rclone's ``crypt``, in its format, around any other remote.

``keys`` makes the keys from the passwords; ``names`` and ``eme`` (pure) encrypt names; ``content`` encrypts and
decrypts blocks; ``remote`` implements the port on top. Existing data can be read, and what is written here can be
read by rclone.
"""

from __future__ import annotations

from .remote import Crypt, open

__all__ = ["Crypt", "open"]

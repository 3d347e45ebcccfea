"""Names of encrypted files: encrypted, rotated, or plain with a suffix, as rclone has them. Pure."""

from __future__ import annotations

import base64
import binascii
import enum
from dataclasses import dataclass, field
from typing import final

from ...errors import InvalidName
from ..encoding import NameEncoding
from .eme import BLOCK, Eme
from .keys import Keys

_QUOTE = "!"
_PICTURES = NameEncoding(last=frozenset())
"""Control characters: as their pictures (tab: ``␉``) in what is hidden, because rclone has them so."""


class NameMode(enum.Enum):
    """How names are hidden."""

    STANDARD = "standard"
    OBFUSCATE = "obfuscate"
    OFF = "off"


class Encoding(enum.Enum):
    """How encrypted names are spelled."""

    BASE32 = "base32"
    BASE64 = "base64"


class NotOurs(Exception):
    """A name that was not made with these keys, or not by us at all."""


@final
@dataclass(slots=True)
class Names:
    """Paths as the user knows them, and as the storage does."""

    keys: Keys
    mode: NameMode = NameMode.STANDARD
    encoding: Encoding = Encoding.BASE32
    directories: bool = True
    """Directory names are hidden, too."""
    suffix: str = ".bin"
    """Of files whose names are plain."""
    _eme: Eme = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._eme = Eme(self.keys.names, self.keys.tweak)

    @property
    def alike(self) -> bool:
        """Whether a file and a directory of one name have one name at the storage."""
        return self.mode is not NameMode.OFF and self.directories

    def file(self, path: str) -> str:
        """A file's path at the storage."""
        head, slash, name = path.rpartition("/")
        hidden = name + self.suffix if self.mode is NameMode.OFF else self._hide(name)
        return f"{self.directory(head)}{slash}{hidden}"

    def directory(self, path: str) -> str:
        """A directory's path at the storage."""
        if self.mode is NameMode.OFF or not self.directories or not path:
            return path
        return "/".join(map(self._hide, path.split("/")))

    def file_name(self, name: str) -> str:
        """The name of a file that the storage shows as ``name``; raises `NotOurs`."""
        if self.mode is NameMode.OFF:
            if not name.endswith(self.suffix) or len(name) == len(self.suffix):
                raise NotOurs(name)
            return name.removesuffix(self.suffix) if self.suffix else name
        return self._show(name)

    def directory_name(self, name: str) -> str:
        """The name of a directory that the storage shows as ``name``; raises `NotOurs`."""
        return name if self.mode is NameMode.OFF or not self.directories else self._show(name)

    def directory_path(self, path: str) -> str:
        """The path of a directory at the storage as the user knows it; raises `NotOurs`."""
        return "/".join(map(self.directory_name, path.split("/"))) if path else ""

    def _hide(self, name: str) -> str:
        try:
            name = _PICTURES.encode(name)
        except InvalidName:
            raise InvalidName(name, "this mix of control characters, their pictures and ‛ cannot be stored") from None
        return self._rotated(name) if self.mode is NameMode.OBFUSCATE else self._encrypted(name)

    def _show(self, name: str) -> str:
        hidden = self._rotated_back(name) if self.mode is NameMode.OBFUSCATE else self._decrypted(name)
        shown = _PICTURES.decode(hidden)
        if shown is None:
            raise NotOurs(name)
        return shown

    # encrypted

    def _encrypted(self, name: str) -> str:
        text = name.encode("utf-8", "surrogateescape")
        padding = BLOCK - len(text) % BLOCK
        sealed = self._eme.encrypt(text + bytes([padding]) * padding)
        if self.encoding is Encoding.BASE64:
            return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
        return base64.b32hexencode(sealed).rstrip(b"=").decode().lower()

    def _decrypted(self, name: str) -> str:
        try:
            if "=" in name:
                raise ValueError
            if self.encoding is Encoding.BASE64:
                sealed = base64.b64decode(name + "=" * (-len(name) % 4), altchars=b"-_", validate=True)
            else:
                sealed = base64.b32hexdecode((name + "=" * (-len(name) % 8)).upper())
            text = self._eme.decrypt(sealed)
        except (ValueError, binascii.Error):
            raise NotOurs(name) from None
        padding = text[-1]
        if not 0 < padding <= BLOCK or text[-padding:] != bytes([padding]) * padding or padding == len(text):
            raise NotOurs(name)
        plain = text[:-padding].decode("utf-8", "surrogateescape")
        if "/" in plain or "\0" in plain or plain in (".", ".."):
            raise NotOurs(name)
        return plain

    # rotated

    def _rotated(self, name: str) -> str:
        if any("\ud800" <= char <= "\udfff" for char in name):
            return f"{_QUOTE}.{name}"
        turn = sum(map(ord, name)) % 256
        key = turn + sum(self.keys.names)
        return f"{turn}." + "".join(_turned(char, key) for char in name)

    def _rotated_back(self, name: str) -> str:
        turn, dot, rest = name.partition(".")
        if not dot:
            raise NotOurs(name)
        if turn == _QUOTE:
            return rest
        if not turn.isascii() or not turn.isdecimal():
            raise NotOurs(name)
        key = int(turn) + sum(self.keys.names)
        out: list[str] = []
        quoted = False
        for char in rest:
            if quoted:
                out.append(char)
                quoted = False
            elif char == _QUOTE:
                quoted = True
            else:
                out.append(_turned_back(char, key))
        return "".join(out)


def _turned(char: str, key: int) -> str:
    code = ord(char)
    if char == _QUOTE:
        return _QUOTE * 2
    if "0" <= char <= "9":
        return chr(ord("0") + (code - ord("0") + key % 9 + 1) % 10)
    if "A" <= char <= "Z" or "a" <= char <= "z":
        return _letter((_place(code) + key % 25 + 1) % 52)
    if 0xA0 <= code <= 0xFF:
        return chr(0xA0 + (code - 0xA0 + key % 95 + 1) % 96)
    if code >= 0x100:
        base = code - code % 256
        turned = base + (code - base + key % 127 + 1) % 256
        return _QUOTE + char if 0xD800 <= turned <= 0xDFFF or turned > 0x10FFFF else chr(turned)
    return char


def _turned_back(char: str, key: int) -> str:
    code = ord(char)
    if "0" <= char <= "9":
        return chr(ord("0") + (code - ord("0") - (key % 9 + 1)) % 10)
    if "A" <= char <= "Z" or "a" <= char <= "z":
        return _letter((_place(code) - (key % 25 + 1)) % 52)
    if 0xA0 <= code <= 0xFF:
        return chr(0xA0 + (code - 0xA0 - (key % 95 + 1)) % 96)
    if code >= 0x100:
        base = code - code % 256
        return chr(base + (code - base - (key % 127 + 1)) % 256)
    return char


def _place(code: int) -> int:
    """Where a letter stands in A-Za-z."""
    place = code - ord("A")
    return place - 6 if place >= 26 else place


def _letter(place: int) -> str:
    return chr(ord("A") + (place + 6 if place >= 26 else place))

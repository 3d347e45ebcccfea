"""EME: a block cipher made as wide as a name (Halevi and Rogaway, "A Parallelizable Enciphering Mode", 2003).

Every bit of the ciphertext depends on every bit of the name, so that names with a common beginning do not look alike.
For up to 128 blocks of 16 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16
MOST = 128
_MASK = (1 << 128) - 1


@final
class Eme:
    """AES in EME with one key and one tweak."""

    def __init__(self, key: bytes, tweak: bytes) -> None:
        # single blocks only: EME is what chains them
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        self._tweak = int.from_bytes(tweak, "little")
        first = int.from_bytes(self._cipher.encryptor().update(bytes(BLOCK)), "little")
        self._offsets: list[int] = [_doubled(first)]

    def encrypt(self, text: bytes) -> bytes:
        """The ciphertext of whole blocks."""
        return self._transform(text, self._cipher.encryptor().update)

    def decrypt(self, text: bytes) -> bytes:
        """The plaintext of whole blocks."""
        return self._transform(text, self._cipher.decryptor().update)

    def _transform(self, text: bytes, cipher: Callable[[bytes], bytes]) -> bytes:
        blocks = _numbers(text)
        count = len(blocks)
        if not 0 < count <= MOST or len(text) % BLOCK:
            raise ValueError(f"{len(text)} bytes are not from 1 to {MOST} blocks")
        while len(self._offsets) < count:
            self._offsets.append(_doubled(self._offsets[-1]))
        inner = _numbers(cipher(_bytes([b ^ o for b, o in zip(blocks, self._offsets, strict=False)])))
        mixed = self._tweak
        for number in inner:
            mixed ^= number
        mask = int.from_bytes(cipher(mixed.to_bytes(BLOCK, "little")), "little")
        spread = mixed ^ mask
        first = mask ^ self._tweak
        for index in range(1, count):
            spread = _doubled(spread)
            inner[index] ^= spread
            first ^= inner[index]
        inner[0] = first
        outer = _numbers(cipher(_bytes(inner)))
        return _bytes([b ^ o for b, o in zip(outer, self._offsets, strict=False)])


def _doubled(number: int) -> int:
    """Multiplied by 2 in GF(2^128), lowest byte first."""
    number <<= 1
    return (number & _MASK) ^ 0x87 if number >> 128 else number


def _numbers(text: bytes) -> list[int]:
    return [int.from_bytes(text[at : at + BLOCK], "little") for at in range(0, len(text), BLOCK)]


def _bytes(numbers: list[int]) -> bytes:
    return b"".join(number.to_bytes(BLOCK, "little") for number in numbers)

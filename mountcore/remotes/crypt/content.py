"""Content of encrypted files: a head, then blocks that are sealed one by one, so that any range can be read.

    "RCLONE" 00 00 | nonce, 24 bytes | block | block | …

A block is 64 KiB of content, the last one less, sealed with XSalsa20 and Poly1305: 16 bytes more. Its nonce is the
file's plus its number, lowest byte first. An empty file is a head alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import final

from nacl import bindings
from nacl.exceptions import CryptoError

from ...errors import Corrupt
from ..protocol import Source, Span

MAGIC = b"RCLONE\0\0"
NONCE = 24
HEAD = len(MAGIC) + NONCE
PLAIN = 64 << 10
SEAL = 16
SEALED = PLAIN + SEAL
_WRAP = 1 << (8 * NONCE)


def sealed_size(size: int) -> int:
    """How large a file of so many bytes is at the storage."""
    blocks, rest = divmod(size, PLAIN)
    return HEAD + blocks * SEALED + (rest + SEAL if rest else 0)


def plain_size(size: int) -> int | None:
    """How large the content of a file of so many bytes is; None if no encrypted file has that size."""
    blocks, rest = divmod(size - HEAD, SEALED)
    if size < HEAD or 0 < rest <= SEAL:
        return None
    return blocks * PLAIN + (rest - SEAL if rest else 0)


def sealed_span(span: Span) -> Span:
    """Which bytes of the storage's file hold a span of the content, whole blocks."""
    first, last = span.start // PLAIN, -(-span.stop // PLAIN)
    return Span(HEAD + first * SEALED, HEAD + last * SEALED)


def nonce_of(head: bytes, path: str) -> int:
    """The file's nonce; raises :class:`Corrupt` for what is no head."""
    if len(head) < HEAD or not head.startswith(MAGIC):
        raise Corrupt(path, "not an encrypted file: its head is not rclone's")
    return int.from_bytes(head[len(MAGIC) : HEAD], "little")


def _nonce(number: int) -> bytes:
    return (number % _WRAP).to_bytes(NONCE, "little")


@final
class SealedSource:
    """A source whose bytes are those of the encrypted file. Can be read in any order, and again."""

    def __init__(self, source: Source, key: bytes, nonce: bytes) -> None:
        self.size = sealed_size(source.size)
        self._source = source
        self._key = key
        self._head = MAGIC + nonce
        self._first = int.from_bytes(nonce, "little")
        self._kept: tuple[int, bytes] = (-1, b"")
        """The last block: where a piece ends within one, the next begins there."""

    def pread(self, length: int, offset: int) -> bytes:
        parts: list[bytes] = []
        end = min(offset + length, self.size)
        while offset < end:
            if offset < HEAD:
                part = self._head[offset : min(HEAD, end)]
            else:
                number, inside = divmod(offset - HEAD, SEALED)
                part = self._block(number)[inside : inside + end - offset]
            if not part:
                break  # the source ended too soon; whoever asks notices
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        kept, block = self._kept
        if kept == number:
            return block
        plain = self._plain(number * PLAIN)
        block = bindings.crypto_secretbox(plain, _nonce(self._first + number), self._key) if plain else b""
        self._kept = (number, block)
        return block

    def _plain(self, offset: int) -> bytes:
        wanted = min(PLAIN, self._source.size - offset)
        parts: list[bytes] = []
        while wanted > 0:
            piece = self._source.pread(wanted, offset)
            if not piece:
                return b""
            parts.append(bytes(piece))
            offset += len(piece)
            wanted -= len(piece)
        return b"".join(parts)


async def unsealed(
    pieces: AsyncIterator[bytes], span: Span, key: bytes, nonce: int, path: str, *, pass_bad: bool = False
) -> AsyncGenerator[bytes, None]:
    """The bytes of ``span`` from the blocks that hold it. ``pieces`` begin with the first of these blocks.

    Raises :class:`Corrupt` for a block that is not authentic; with ``pass_bad`` that is zeros.
    """
    number = span.start // PLAIN
    held = bytearray()
    async for piece in pieces:
        held += piece
        while len(held) >= SEALED:
            yield _cut(_open(bytes(held[:SEALED]), key, nonce, number, path, pass_bad), number, span)
            del held[:SEALED]
            number += 1
    if held:
        part = _cut(_open(bytes(held), key, nonce, number, path, pass_bad), number, span)
        if part:
            yield part


def _open(block: bytes, key: bytes, nonce: int, number: int, path: str, pass_bad: bool) -> bytes:
    try:
        return bindings.crypto_secretbox_open(block, _nonce(nonce + number), key)
    except (CryptoError, ValueError):
        if pass_bad:
            return bytes(max(0, len(block) - SEAL))
        raise Corrupt(path, f"block {number} cannot be decrypted: it is damaged, or the password is another") from None


def _cut(plain: bytes, number: int, span: Span) -> bytes:
    start = number * PLAIN
    return plain[max(0, span.start - start) : max(0, span.stop - start)]

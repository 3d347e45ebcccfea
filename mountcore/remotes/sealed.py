"""An rclone.conf that is encrypted with a passphrase: reading it. Portside writes no encrypted files.

The form: a line ``RCLONE_ENCRYPT_V0:``, then base64 of a nonce of 24 bytes and a NaCl secret box (XSalsa20 and
Poly1305) whose key is the SHA-256 of ``[passphrase][rclone-config]``.

The passphrase comes, first found wins, from ``$PORTSIDE_CONFIG_PASS``, ``$RCLONE_CONFIG_PASS``, a program
(``--password-command``, ``$PORTSIDE_PASSWORD_COMMAND``, ``$RCLONE_PASSWORD_COMMAND``) or the terminal.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from ..errors import Refused

HEAD = "RCLONE_ENCRYPT_"
VERSION = "RCLONE_ENCRYPT_V0:"
PROGRAM_WITHIN = 60.0
_NONCE = 24


def is_sealed(text: str) -> bool:
    """Whether a configuration file is encrypted."""
    first = next((line for line in map(str.strip, text.splitlines()) if line and line[0] not in "#;"), "")
    return first.startswith(HEAD)


def opened(text: str, path: Path, environ: Mapping[str, str]) -> str:
    """What the file says; raises :class:`Refused` that names the file and the remedy, never the passphrase."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;"]
    if lines[0] != VERSION:
        raise Refused(f"{path}: is encrypted in a way that is not known here ({lines[0][:40]!r})")
    try:
        box = base64.b64decode("".join(lines[1:]), validate=True)
    except binascii.Error:
        raise Refused(f"{path}: is encrypted and damaged: what follows {VERSION} is not base64") from None
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ModuleNotFoundError:
        raise Refused(f"{path}: is encrypted, which needs PyNaCl; run: pip install 'portside[crypt]'") from None
    key = hashlib.sha256(f"[{_passphrase(path, environ)}][rclone-config]".encode()).digest()
    try:
        return SecretBox(key).decrypt(box[_NONCE:], box[:_NONCE]).decode("utf-8-sig")
    except (CryptoError, ValueError):
        raise Refused(f"{path}: is encrypted, and the passphrase does not open it") from None


def _passphrase(path: Path, environ: Mapping[str, str]) -> str:
    for name in ("PORTSIDE_CONFIG_PASS", "RCLONE_CONFIG_PASS"):
        if given := environ.get(name):
            return _normal(given)
    for name in ("PORTSIDE_PASSWORD_COMMAND", "RCLONE_PASSWORD_COMMAND"):
        if command := environ.get(name):
            return _normal(_from_program(path, command, name))
    if not sys.stdin.isatty():
        raise Refused(
            f"{path}: is encrypted; give the passphrase in RCLONE_CONFIG_PASS, or a program that prints it with "
            "--password-command or RCLONE_PASSWORD_COMMAND"
        )
    return _normal(getpass.getpass(f"Passphrase of {path}: "))


def _from_program(path: Path, command: str, name: str) -> str:
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=PROGRAM_WITHIN)
        text = done.stdout.decode().rstrip("\r\n")
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as problem:
        raise Refused(f"{path}: is encrypted, and {name} {command!r} failed: {problem}") from None
    if not text:
        raise Refused(f"{path}: is encrypted, and {name} {command!r} printed nothing")
    return text


def _normal(passphrase: str) -> str:
    return unicodedata.normalize("NFKC", passphrase)

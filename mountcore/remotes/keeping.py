"""Secrets that are kept elsewhere than in a configuration file: the desktop's keyring, and ``~/.netrc``."""

from __future__ import annotations

import netrc
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import Refused

KEYRING = "keyring:"


def from_keyring(text: str, what: str) -> str:
    """The secret behind ``keyring:SERVICE/NAME``; raises :class:`Refused` that says ``what`` it was for."""
    service, slash, name = text.removeprefix(KEYRING).rpartition("/")
    if not slash or not service or not name:
        raise Refused(f"{what}: write keyring:SERVICE/NAME")
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError:
        raise Refused(f"{what}: needs the package 'keyring'; run: pip install 'portside[keyring]'") from None
    try:
        secret = keyring.get_password(service, name)
    except keyring.errors.KeyringError as problem:
        raise Refused(f"{what}: the keyring cannot be used: {problem}") from None
    if not secret:
        raise Refused(f"{what}: the keyring has nothing there; run: keyring set {service} {name}")
    return str(secret)


def from_netrc(host: str, user: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Login and password that ``$NETRC`` or ``~/.netrc`` has for a host (and a user, where one is known).

    A file that others may read is refused, if it has what is looked for. The entry ``default`` is not used.
    """
    path = Path(environ.get("NETRC") or Path(environ.get("HOME", "/")) / ".netrc")
    try:
        mode = path.stat().st_mode
        found = netrc.netrc(str(path)).hosts.get(host)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError) as problem:
        raise Refused(f"{path}: {problem}") from None
    if found is None or not found[2] or (user and found[0] and user != found[0]):
        return None
    if stat.S_IMODE(mode) & 0o077:
        raise Refused(f"{path}: has the password for {host} and others may read it; run: chmod 600 {path}")
    return found[0] or user, found[2]

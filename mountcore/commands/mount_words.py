"""The words of ``mount -o`` and fstab(5), as options. Used by ``portside mount -o`` and the helper of mount(8). Pure.

Words are separated by commas. A value may stand in single or double quotes, and then has commas in it; the quote
itself is doubled. ``vfs_cache_mode=full`` is the option ``--vfs-cache-mode``; a word without a value is a flag.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..options import Option
from .failures import UsageError

OTHERS = frozenset(
    {"rw", "defaults", "_netdev", "_rnetdev", "nofail", "user", "users", "nouser", "owner", "noowner", "group",
     "nogroup", "auto", "noauto", "dev", "suid", "exec", "async", "atime", "diratime", "relatime", "norelatime",
     "strictatime", "nostrictatime", "lazytime", "nolazytime", "loud", "silent", "iversion", "noiversion", "mand",
     "nomand", "args2env", "comment", "uhelper", "helper", "subtype"}
)  # fmt: skip
"""What is meant for mount(8), systemd or rclone, or is so anyway."""
FOR_KERNEL = frozenset({"nodev", "nosuid", "noexec", "noatime", "nodiratime", "sync", "dirsync"})
OTHER_NAMES = {"ro": "read-only", "fsname": "devname", "nonempty": "allow-non-empty"}
"""Words of mount(8) and mount.fuse3(8) for our options."""


@dataclass(slots=True)
class MountWords:
    """What ``-o`` says."""

    texts: dict[str, str] = field(default_factory=dict)
    """Option texts by name, with dashes."""
    environ: dict[str, str] = field(default_factory=dict)
    remount: bool = False
    verbose: int = 0


def mount_words(text: str, known: Iterable[Option], *, sloppy: bool = False) -> MountWords:
    """Parse; raises :class:`UsageError` for a word that means nothing, unless ``sloppy``."""
    options = {option.name: option for option in known}
    found = MountWords()
    flags: list[str] = []
    for key, value in _split(text):
        name = OTHER_NAMES.get(key, key).replace("_", "-")
        if key.startswith("env.") and len(key) > 4 and value is not None:
            found.environ[key[4:]] = value
        elif key == "remount":
            found.remount = True
        elif re.fullmatch("v+", key):
            found.verbose = len(key)
        elif name in options and name != "option" and (value is not None or options[name].flag):
            text = "true" if value is None else value
            many = options[name].many and name in found.texts
            found.texts[name] = f"{found.texts[name]},{text}" if many else text
        elif key in FOR_KERNEL and value is None:
            flags.append(key)
        elif key == "rw":
            found.texts.pop("read-only", None)
        elif not (key in OTHERS or key.startswith(("x-", "X-")) or sloppy):
            raise UsageError(_unknown(key, value, options))
    if flags:
        found.texts["fuse-flag"] = ",".join([*flags, *filter(None, [found.texts.get("fuse-flag")])])
    return found


def _unknown(key: str, value: str | None, options: dict[str, Option]) -> str:
    name = key.replace("_", "-")
    if name in options:
        return f"-o {key}: needs a value: {key}={options[name].metavar}"
    near = difflib.get_close_matches(name, [*options, *FOR_KERNEL, *OTHERS, *OTHER_NAMES], 1)
    hint = f", did you mean {near[0].replace('-', '_')}?" if near else "; options are those of: portside mount --help"
    return f"-o {key}: there is no such option{hint}"


def _split(text: str) -> Iterator[tuple[str, str | None]]:
    """Keys and values; None for a word without a value."""
    place = 0
    while place < len(text):
        end = re.compile("[=,]|$").search(text, place)
        assert end is not None
        key, place = text[place : end.start()].strip(), end.end()
        value: str | None = None
        if end[0] == "=":
            value, place = _value(key, text, place)
        if key:
            yield key, value
        elif value is not None:
            raise UsageError(f"-o: {'=' + value!r} has no name in front")


def _value(key: str, text: str, place: int) -> tuple[str, int]:
    quote = text[place : place + 1]
    if quote not in ("'", '"') or not quote:
        end = text.find(",", place)
        end = len(text) if end < 0 else end
        return text[place:end], end + 1
    match = re.compile(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}(,|$)").match(text, place)
    if match is None:
        raise UsageError(f"-o {key}: a value that begins with {quote} must end with it; double it inside")
    return match[1].replace(quote * 2, quote), match.end()

"""The options that users see: one table of facts for the command line, gateway files, ``mount -o`` and docs.

Names, units and meanings are rclone's. An :class:`Option` parses one value; :func:`vfs_settings` composes
the parsed values into :class:`~mountcore.settings.VfsSettings` and refuses nonsense, naming the option and
what it accepts. Front ends keep tables of the same kind for their own options.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import Refused
from .quantity import parse_duration, parse_size
from .settings import (
    CacheMode,
    CacheSettings,
    OnConflict,
    OwnerSettings,
    ReadSettings,
    TreeSettings,
    VfsSettings,
    default_cache_dir,
)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``--name VALUE``, or ``--name`` alone for a flag. ``default`` is in the user's grammar."""

    name: str
    default: str
    help: str
    parse: Callable[[str], object]
    metavar: str = "VALUE"
    flag: bool = False
    many: bool = False
    """May be given several times; the texts are joined with commas."""
    short: str = ""
    """One letter, for ``-n`` beside ``--dry-run``."""
    repeats: bool = False
    """May be given several times; ``parse`` gets the texts with NUL between them."""

    @property
    def key(self) -> str:
        """The name as in environment variables, TOML and ``-o``: ``vfs_cache_mode``."""
        return self.name.replace("-", "_")

    def value(self, text: str) -> object:
        """Parse one value; raises :class:`Refused` that names the option."""
        try:
            return self.parse(text)
        except Refused as problem:
            raise Refused(f"--{self.name}: {problem}") from None


def boolean(text: str) -> bool:
    """``true``/``false`` and their usual spellings; an option given without a value arrives as ``true``."""
    word = text.strip().lower()
    if word in ("true", "yes", "on", "1", ""):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise Refused(f"{text!r} is neither true nor false")


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise Refused(f"{text!r} is not a whole number from {low} to {high}")
        return number

    return parse


def octal(text: str) -> int:
    """Permission bits such as 0755."""
    try:
        bits = int(text.removeprefix("0o"), 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o7777:
        raise Refused(f"{text!r} is not permission bits in octal, like 0755")
    return bits


def choice(kind: type[CacheMode] | type[OnConflict]) -> Callable[[str], CacheMode | OnConflict]:
    """One of an enum's words."""

    def parse(text: str) -> CacheMode | OnConflict:
        for member in kind:
            if member.value == text.strip().lower():
                return member
        raise Refused(f"{text!r} is not one of {', '.join(m.value for m in kind)}")

    return parse


def seconds(text: str) -> float:
    """A duration that cannot be off."""
    value = parse_duration(text)
    if value is None:
        raise Refused("a duration is needed here; off has no meaning")
    return value


def _patience(text: str) -> float:
    """A duration of which both 0 and off mean that there is no end."""
    return parse_duration(text) or math.inf


def _size(text: str) -> int:
    return parse_size(text) or 0


def _bound(text: str) -> int | None:
    """A size of which both 0 and off mean that there is no bound."""
    return parse_size(text) or None


def _directory(text: str) -> str:
    if not text or "\0" in text:
        raise Refused("the path of a directory is needed")
    return text


def _extension(text: str) -> str:
    if "/" in text or "\0" in text or len(text.encode()) > 100:
        raise Refused(f"{text!r} cannot be the end of a file's name, like .metadata can")
    return text


def bandwidth(text: str) -> tuple[int | None, int | None]:
    """``RATE`` or ``UP:DOWN``, bytes per second; both 0 and off mean no limit."""
    up, colon, down = text.partition(":")
    if "," in text:
        raise Refused(f"{text!r} is a timetable; one rate is needed, or UP:DOWN")
    return _bound(up), _bound(down if colon else up)


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate < 1e9:
        raise Refused(f"{text!r} is not a number of requests per second, like 10 or 0.5")
    return rate or None


def _current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


VFS_OPTIONS: tuple[Option, ...] = (
    Option("cache-dir", str(default_cache_dir()), "Where cached files and the upload journal live", _directory, "DIR"),
    Option("vfs-cache-mode", "full", "off, minimal, writes or full", choice(CacheMode), "MODE"),
    Option("vfs-cache-max-age", "1h", "Drop clean cached files not used for this long", parse_duration, "DURATION"),
    Option("vfs-cache-max-size", "off", "Upper bound of the cache; 0: none", _bound, "SIZE"),
    Option("vfs-cache-min-free-space", "off", "Keep this much of the cache's disk free", _bound, "SIZE"),
    Option("vfs-cache-poll-interval", "1m", "How often the cache is tidied", parse_duration, "DURATION"),
    Option("vfs-write-back", "5s", "Upload a file this long after its last close; 0: in close", seconds, "DURATION"),
    Option("transfers", "4", "Uploads at once", integer(1, 256), "N"),
    Option("on-conflict", "keep-both", "When a file changed here and there: keep-both, local or remote",
           choice(OnConflict), "WHICH"),
    Option("no-checksum", "false", "Do not compare hashes after an upload", boolean, flag=True),
    Option("vfs-read-chunk-size", "128Mi", "First ranged request of a read; off: no ranges", parse_size, "SIZE"),
    Option("vfs-read-chunk-size-limit", "off", "Requests double up to this size", parse_size, "SIZE"),
    Option("vfs-read-chunk-streams", "0", "Fetch this many chunks of a sequential read at once", integer(0, 64), "N"),
    Option("buffer-size", "16Mi", "Read this far ahead of a sequential reader", _size, "SIZE"),
    Option("vfs-read-ahead", "0", "Read further ahead than --buffer-size, into the cache", _size, "SIZE"),
    Option("vfs-read-wait", "20ms", "Uncached reads out of order wait this long before a seek", seconds, "DURATION"),
    Option("vfs-write-wait", "1s", "Uncached writes out of order wait this long", seconds, "DURATION"),
    Option("no-seek", "false", "Uncached files are read in order only", boolean, flag=True),
    Option("vfs-handle-caching", "5s", "A download waits this long for its reader to come back", seconds, "DURATION"),
    Option("timeout", "1m", "Give up on a remote that sends nothing for this long; 0: never", _patience,
           "DURATION"),
    Option("dir-cache-time", "5m", "Believe a directory listing for this long", parse_duration, "DURATION"),
    Option("poll-interval", "1m", "Ask a remote that can tell what changed this often; 0: never", parse_duration,
           "DURATION"),
    Option("vfs-refresh", "false", "Read the whole tree at the start, in the background", boolean, flag=True),
    Option("vfs-case-insensitive", "false", "Find a file whatever the case of its name", boolean, flag=True),
    Option("no-unicode-normalization", "false", "Names in different Unicode normal forms are different files",
           boolean, flag=True),
    Option("vfs-block-norm-dupes", "false", "Hide names that differ only in their Unicode normal form (or case)",
           boolean, flag=True),
    Option("links", "false", "Files that end in .rclonelink are symbolic links, and new links become such files "
           "where the remote has none of its own", boolean, flag=True),
    Option("vfs-links", "false", "The same as --links", boolean, flag=True),
    Option("vfs-metadata-extension", "", "Show what is known of a file as JSON in a file with this at its end, "
           "which no listing has", _extension, "TEXT"),
    Option("vfs-fast-fingerprint", "false", "Accepted, and always so: no more is asked than a listing tells",
           boolean, flag=True),
    Option("use-server-modtime", "false", "Accepted, and always so: times are those of the listing",
           boolean, flag=True),
    Option("no-modtime", "false", "Neither read nor set modification times", boolean, flag=True),
    Option("bwlimit", "off", "Bytes per second to and from the remote, or UP:DOWN", bandwidth, "RATE"),
    Option("tpslimit", "0", "Requests per second to the remote; 0: no limit", _rate, "N"),
    Option("read-only", "false", "Refuse every change", boolean, flag=True),
    Option("vfs-used-is-size", "false", "Used space is the sum of the files' sizes", boolean, flag=True),
    Option("vfs-disk-space-total-size", "off", "Show this as the total space", parse_size, "SIZE"),
    Option("uid", str(os.getuid()), "Owner of all files; default: what the storage says, else your own",
           integer(0, 2**32 - 2), "N"),
    Option("gid", str(os.getgid()), "Group of all files; default: what the storage says, else your own",
           integer(0, 2**32 - 2), "N"),
    Option("umask", f"{_current_umask():04o}", "Permission bits to take away", octal, "OCTAL"),
    Option("dir-perms", "0777", "Permission bits of directories, before --umask", octal, "OCTAL"),
    Option("file-perms", "0666", "Permission bits of files, before --umask", octal, "OCTAL"),
    Option("link-perms", "0666", "Permission bits of symbolic links, before --umask", octal, "OCTAL"),
)  # fmt: skip


def parse_values(options: Iterable[Option], given: Mapping[str, str]) -> dict[str, Any]:
    """Every option's parsed value by its name (dashes), from ``given`` (dashes or underscores) or its default.

    Raises :class:`Refused` for an unknown name, with the nearest known one, or a bad value.
    """
    known = {option.name: option for option in options}
    texts = {name: option.default for name, option in known.items()}
    for name, text in given.items():
        name = name.replace("_", "-")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean --{near[0]}?" if near else ""
            raise Refused(f"unknown option --{name}{hint}")
        texts[name] = text
    return {name: known[name].value(text) for name, text in texts.items()}


def vfs_settings(given: Mapping[str, str]) -> VfsSettings:
    """Compose settings from option texts, keyed by option name; what is not given has its default."""
    v = parse_values(VFS_OPTIONS, given)
    chunk, limit = v["vfs-read-chunk-size"], v["vfs-read-chunk-size-limit"]
    if isinstance(chunk, int) and isinstance(limit, int) and 0 < limit < chunk:
        raise Refused(
            "--vfs-read-chunk-size-limit must be at least --vfs-read-chunk-size, or off;"
            f" {given.get('vfs-read-chunk-size-limit', limit)} is smaller"
        )
    return VfsSettings(
        cache=CacheSettings(
            directory=Path(str(v["cache-dir"])).expanduser().absolute(),
            mode=v["vfs-cache-mode"],
            max_age=v["vfs-cache-max-age"],
            max_size=v["vfs-cache-max-size"],
            min_free_space=v["vfs-cache-min-free-space"],
            poll_interval=v["vfs-cache-poll-interval"] or None,
            write_back=v["vfs-write-back"],
            transfers=v["transfers"],
            on_conflict=v["on-conflict"],
            checksum=not v["no-checksum"],
        ),
        read=ReadSettings(
            chunk_size=chunk or None,
            chunk_limit=limit or None,
            parallel=v["vfs-read-chunk-streams"],
            streams=max(4, v["vfs-read-chunk-streams"] + 1),
            buffer_size=v["buffer-size"],
            read_ahead=v["vfs-read-ahead"],
            read_wait=v["vfs-read-wait"],
            write_wait=v["vfs-write-wait"],
            no_seek=v["no-seek"],
            handle_caching=v["vfs-handle-caching"],
            timeout=v["timeout"],
        ),
        tree=TreeSettings(
            cache_time=v["dir-cache-time"],
            poll_interval=v["poll-interval"] or None,
            refresh=v["vfs-refresh"],
            case_insensitive=v["vfs-case-insensitive"],
            normalize=not v["no-unicode-normalization"],
            block_dupes=v["vfs-block-norm-dupes"],
        ),
        owner=OwnerSettings(
            uid=v["uid"],
            gid=v["gid"],
            umask=v["umask"],
            dir_perms=v["dir-perms"],
            file_perms=v["file-perms"],
            link_perms=v["link-perms"],
            explicit=bool({"uid", "gid"} & given.keys()),
        ),
        read_only=v["read-only"],
        no_modtime=v["no-modtime"],
        upload_limit=v["bwlimit"][0],
        download_limit=v["bwlimit"][1],
        request_limit=v["tpslimit"],
        links=v["links"] or v["vfs-links"],
        metadata_extension=v["vfs-metadata-extension"],
        used_is_size=v["vfs-used-is-size"],
        total_size=v["vfs-disk-space-total-size"],
    )

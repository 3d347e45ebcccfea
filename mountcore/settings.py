"""What the core can be told, as frozen values: one class per subsystem, composed once in the command. Pure.

Units are bytes and seconds. ``None`` means "off": no limit, or never. The table that users see (names,
grammar, defaults, help) is :mod:`mountcore.options`.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from pathlib import Path


class CacheMode(enum.Enum):
    """How much goes through the cache on disk; the same words and meanings as rclone's."""

    OFF = "off"
    MINIMAL = "minimal"
    WRITES = "writes"
    FULL = "full"


class OnConflict(enum.Enum):
    """What happens when a file was edited both here and at the storage."""

    KEEP_BOTH = "keep-both"
    LOCAL = "local"
    REMOTE = "remote"


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/portside``, else ``~/.cache/portside``; root without HOME: /var/cache/portside."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "portside"
    home = os.environ.get("HOME")
    return Path(home) / ".cache" / "portside" if home else Path("/var/cache/portside")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The cache on disk, write-back and eviction."""

    directory: Path = field(default_factory=default_cache_dir)
    mode: CacheMode = CacheMode.FULL
    max_age: float | None = 3600.0
    max_size: int | None = None
    min_free_space: int | None = None
    poll_interval: float | None = 60.0
    write_back: float = 5.0
    transfers: int = 4
    on_conflict: OnConflict = OnConflict.KEEP_BOTH
    checksum: bool = True
    """Compare hashes after an upload, where the remote has them."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How bytes are fetched."""

    chunk_size: int | None = 128 << 20
    """First ranged request; None: ask for everything at once."""
    chunk_limit: int | None = None
    """Where doubling stops; None: never."""
    buffer_size: int = 16 << 20
    read_ahead: int = 0
    parallel: int = 0
    """From 2 on: a sequential reader's chunks are fetched by this many streams at once, without doubling."""
    streams: int = 4
    """Streams per file at once."""
    read_wait: float = 0.02
    """Uncached reads: how long one that is out of order waits for its turn before it seeks."""
    write_wait: float = 1.0
    """Uncached writes: how long one that is out of order waits for its turn before it is refused."""
    no_seek: bool = False
    handle_caching: float = 5.0
    """How long a download waits for its reader to come back."""
    timeout: float = 60.0
    """A read gives up with TimedOut when nothing arrives for this long."""


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """The directory cache."""

    cache_time: float | None = 300.0
    """How long a listing is believed; None: for ever."""
    poll_interval: float | None = 60.0
    """How often a remote that can tell is asked what changed; None: never."""
    refresh: bool = False
    """Read the whole tree at the start, in the background."""
    case_insensitive: bool = False
    normalize: bool = True
    """A name that differs only in its Unicode normal form is the same name."""
    block_dupes: bool = False
    """Hide names that are equal after normalisation to one that is shown."""


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """Who owns what, where the storage does not say."""

    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = 0o022
    dir_perms: int = 0o777
    file_perms: int = 0o666
    link_perms: int = 0o666
    explicit: bool = False
    """User and group were asked for: they are everybody's, whatever the storage says."""


@dataclass(frozen=True, slots=True)
class VfsSettings:
    """Everything about one view of one remote."""

    cache: CacheSettings = field(default_factory=CacheSettings)
    read: ReadSettings = field(default_factory=ReadSettings)
    tree: TreeSettings = field(default_factory=TreeSettings)
    owner: OwnerSettings = field(default_factory=OwnerSettings)
    read_only: bool = False
    no_modtime: bool = False
    """Show a file's directory's time as its own, and set none."""
    upload_limit: int | None = None
    download_limit: int | None = None
    """Bytes per second."""
    request_limit: float | None = None
    """Requests per second."""
    links: bool = False
    """Files that end in ``.rclonelink`` are symbolic links."""
    metadata_extension: str = ""
    used_is_size: bool = False
    total_size: int | None = None

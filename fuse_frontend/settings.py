"""The options of a mount, as users see them; names and meanings are rclone's. Imports no library of the mount."""

from __future__ import annotations

from mountcore.errors import Refused
from mountcore.options import Option, boolean, integer
from mountcore.quantity import parse_duration, parse_size

SESSIONS = ("auto", "pyfuse3", "direct")
FLAGS = frozenset(
    {"suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime", "sync", "async",
     "dirsync", "ro", "rw"}
)  # fmt: skip
"""What ``-o`` may hand to the kernel besides options that have a name of their own."""


def _session(text: str) -> str:
    if text not in SESSIONS:
        raise Refused(f"{text!r} is not one of {', '.join(SESSIONS)}")
    return text


def _fsync(text: str) -> str:
    if text not in ("local", "remote"):
        raise Refused(f"{text!r} is not one of local, remote")
    return text


def _passthrough(text: str) -> bool:
    if text not in ("auto", "off"):
        raise Refused(f"{text!r} is not one of auto, off")
    return text == "auto"


def _timeout(text: str) -> float | None:
    """``auto`` is None: as long as a directory listing is believed."""
    if text.strip().lower() == "auto":
        return None
    value = parse_duration(text)
    return 1e9 if value is None else value


def _tasks(text: str) -> int | None:
    """``auto`` is None: what suits the session."""
    return None if text.strip().lower() == "auto" else integer(1, 65535)(text)


def _flags(text: str) -> tuple[str, ...]:
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in FLAGS:
            raise Refused(f"{word!r} is not a mount flag that is handed on; known: {', '.join(sorted(FLAGS))}")
    return words


def _unlimited(text: str) -> float | None:
    """A duration of which 0 and off are None."""
    return parse_duration(text) or None


def _ignored(name: str, what: str, metavar: str = "") -> Option:
    """An option of rclone's for other systems: accepted, and said to do nothing. Its value is the text."""
    return Option(name, "", f"Accepted for rclone's sake, does nothing on Linux ({what})", str, metavar, not metavar)


IGNORED: tuple[Option, ...] = (
    _ignored("noappledouble", "macOS"),
    _ignored("noapplexattr", "macOS"),
    _ignored("network-mode", "Windows"),
    _ignored("mount-case-insensitive", "Windows; --vfs-case-insensitive is what finds names", "TRISTATE"),
    _ignored("allow-idmap", "rclone's other mount"),
)

OPTIONS: tuple[Option, ...] = (
    Option("allow-other", "false", "Let other users use the mount", boolean, flag=True),
    Option("allow-root", "false", "Let root use the mount of an ordinary user (implies --allow-other)", boolean,
           flag=True),
    Option("allow-non-empty", "false", "Mount over a directory that is not empty", boolean, flag=True),
    Option("default-permissions", "true", "The kernel checks owner and mode bits", boolean, flag=True),
    Option("attr-timeout", "auto", "How long the kernel believes names and attributes; auto: --dir-cache-time",
           _timeout, "DURATION"),
    Option("max-read-ahead", "1Mi", "How far the kernel reads ahead (raising it over 128Ki needs root)",
           lambda text: parse_size(text) or 0, "SIZE"),
    Option("async-read", "true", "The kernel asks for several parts of a file at once", boolean, flag=True),
    Option("direct-io", "false", "The kernel keeps no file content", boolean, flag=True),
    Option("write-back-cache", "false", "The kernel gathers small writes", boolean, flag=True),
    Option("devname", "", "What df and mount show as the source; default: the remote", str, "NAME"),
    Option("volname", "", "What df and mount show as the source where --devname does not say", str, "NAME"),
    Option("fuse-flag", "", "Flags for the kernel, separated by commas, like noatime,nosuid", _flags, "FLAGS",
           many=True),
    Option("daemon-timeout", "0", "A request of the kernel's that takes longer fails with ETIMEDOUT; 0: never",
           _unlimited, "DURATION"),
    Option("debug-fuse", "false", "Log every request of the kernel; with -v", boolean, flag=True),
    Option("xattr", "false", "Show state, and what the storage keeps, as extended attributes; ls -l takes longer",
           boolean, flag=True),
    Option("fsync", "local", "When fsync returns: when the file is on the cache's disk (local), or stored (remote)",
           _fsync, "WHERE"),
    Option("fuse-session", "auto", "How to talk to the kernel: direct, pyfuse3 (through libfuse), auto: direct",
           _session, "WHICH"),
    Option("passthrough", "auto", "Files that are whole in the cache are read and written at the disk's own speed, past"
           " portside: auto: as root on Linux 6.9, not with --fuse-session pyfuse3; off", _passthrough, "WHICH"),
    Option("fuse-tasks", "auto", "Requests that wait at once; auto: 1024, with pyfuse3, where each may hold 1 MiB, 256",
           _tasks, "N"),
    *IGNORED,
)  # fmt: skip

"""``mount.portside``: what mount(8) runs for ``mount -t portside REMOTE:PATH MOUNTPOINT``, and for lines of fstab(5).

    mount.portside SPEC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o WORDS]

It is the command ``portside`` under that name (a link in /sbin; argv[0] decides). It mounts in the background, in an
environment that may be empty: what is missing is as after a login. ``umount.portside``, which umount(8) runs where
there is a link of the name ``umount.fuse.portside``, uploads what is left before it unmounts.

Exit codes are mount(8)'s: 0 done, 1 wrong words, 2 the system fails, 32 it could not be mounted.
"""

from __future__ import annotations

import ctypes
import getopt
import os
import pwd
from collections.abc import Callable, MutableMapping

from ..control import mounted_type, real_path
from ..errors import Refused
from ..options import VFS_OPTIONS
from .arguments import PROCESS_OPTIONS, front_end_options
from .failures import EXIT_USAGE, UsageError, describe, exit_code
from .logs import say
from .mount_words import FOR_KERNEL, MountWords, mount_words

EX_USAGE, EX_SYSTEM, EX_FAIL = 1, 2, 32
"""mount(8), EXIT STATUS"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MS_REMOUNT, _MS_RDONLY = 32, 1
_MS = {"nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "dirsync": 128, "noatime": 1024, "nodiratime": 2048}


def mount(argv: list[str]) -> int:
    """The helper of mount(8)."""
    return _in_its_codes(_mount, argv)


def umount(argv: list[str]) -> int:
    """The helper of umount(8)."""
    return _in_its_codes(_umount, argv)


def _in_its_codes(work: Callable[[list[str]], int], argv: list[str]) -> int:
    _furnish(os.environ)
    try:
        code = work(argv)
    except (Refused, getopt.GetoptError) as problem:
        say(describe(problem))
        code = EXIT_USAGE if isinstance(problem, getopt.GetoptError) else exit_code(problem)
    except OSError as problem:
        say(describe(problem))
        return EX_SYSTEM
    return {0: 0, EXIT_USAGE: EX_USAGE}.get(code, EX_FAIL)


def _furnish(environ: MutableMapping[str, str]) -> None:
    """What a login would have set: systemd and mount(8) may give nothing at all."""
    if not environ.get("PATH"):
        environ["PATH"] = PATH
    if not environ.get("HOME"):
        try:
            environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            environ["HOME"] = "/"


def _mount(argv: list[str]) -> int:
    given, places = getopt.gnu_getopt(argv, "sfnvwrN:t:o:h", ["help"])
    flags = {name for name, _ in given}
    if flags & {"-h", "--help"}:
        print("usage: mount -t portside REMOTE:PATH MOUNTPOINT [-o WORDS]; see: portside mount --help")
        return 0
    if len(places) != 2:
        raise UsageError("mount.portside needs a remote and a mount point; mount(8) runs it as: mount -t portside")
    if "-N" in flags:
        raise UsageError("-N: other mount namespaces cannot be reached; run it inside: nsenter --mount=FILE mount …")
    spec, place = places
    spec = spec.removeprefix("portside#")
    from .mount import DAEMON_OPTIONS, run

    known = (*front_end_options("mount"), *DAEMON_OPTIONS, *VFS_OPTIONS, *PROCESS_OPTIONS)
    text = ",".join(value for name, value in given if name == "-o")
    # remount comes with all that fstab and the kernel say of the mount
    words = mount_words(text, known, sloppy="-s" in flags or "remount" in text.split(","))
    if "-r" in flags:
        words.texts["read-only"] = "true"
    if words.remount:
        return _remount(place, words)
    os.environ.update(words.environ)
    texts = {"daemon": "true", "quiet": "true"} | words.texts
    if "-f" in flags:
        return 0
    verbose = ["-v"] * (words.verbose + ("-v" in flags))
    return run([*(f"--{name}={text}" for name, text in texts.items()), *verbose, "--", spec, place])


def _remount(place: str, words: MountWords) -> int:
    """Change whether it can be written to, which the kernel does by itself; the other words are as they were."""
    real = real_path(place)
    if mounted_type(real) not in ("fuse.portside", "fuse"):
        raise Refused(f"{place}: nothing of portside's is mounted there, so it cannot be mounted anew")
    flags = _MS_REMOUNT | _MS["nosuid"] | _MS["nodev"]
    if words.texts.get("read-only") == "true":
        flags |= _MS_RDONLY
    for word in words.texts.get("fuse-flag", "").split(","):
        flags |= _MS[word] if word in FOR_KERNEL else 0
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, os.fsencode(real), None, flags, None):
        raise Refused(f"{place}: {os.strerror(ctypes.get_errno())}; remounting is root's")
    return 0


def _umount(argv: list[str]) -> int:
    given, places = getopt.gnu_getopt(argv, "flnrvN:t:")
    if len(places) != 1:
        raise UsageError("umount.portside needs a mount point")
    flags = {name for name, _ in given}
    from .umount import run

    options = [option for flag, option in (("-f", "--force"), ("-l", "--lazy")) if flag in flags]
    return run([*options, "--", places[0]])

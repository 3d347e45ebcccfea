"""The place where a mount goes: what must be true of it before, and what is cleared away after a crash."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from mountcore.errors import Refused

FSTYPE = "fuse.portside"
DEVICE = "/dev/fuse"
MNT_DETACH = 2
ANSWERS_WITHIN = 5.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """What is mounted at a place."""

    kind: str
    device: str
    """Major and minor number, ``0:57``."""


def mounted_at(mountpoint: str) -> Mounted | None:
    """The file system that is mounted exactly there, the topmost one, or None (proc(5), mountinfo)."""
    found = None
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            fields, _, rest = line.partition(b" - ")
            _, _, device, _, place = fields.split(b" ")[:5]
            place = re.sub(rb"\\([0-7]{3})", lambda m: bytes((int(m[1], 8),)), place)
            if place == os.fsencode(mountpoint):
                found = Mounted(rest.split(b" ")[0].decode(), device.decode())
    return found


def unmount(mountpoint: str, *, lazily: bool) -> str:
    """Take a mount away, with ``lazily`` whoever uses it (umount(2), MNT_DETACH); answers why not, "" if it is gone.

    Blocking: the kernel first writes what it still holds.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), MNT_DETACH if lazily else 0) == 0:
            return ""
        return os.strerror(ctypes.get_errno())
    tool = ["fusermount3", "-u", *(["-z"] if lazily else []), "--", mountpoint]
    # descriptors are closed by exec and not before: closing a file on the mount would wait for this process, which
    # cannot answer while it starts another one
    done = subprocess.run(tool, check=False, stdin=subprocess.DEVNULL, capture_output=True, close_fds=False)
    return " ".join(done.stderr.decode(errors="replace").split()) or "failed" if done.returncode else ""


def write_out(mountpoint: str) -> None:
    """Have the kernel hand over every page of the mount that it has not yet: syncfs(2). Blocking."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ctypes.CDLL(None, use_errno=True).syncfs(directory)
    finally:
        os.close(directory)


def prepare(mountpoint: str, *, allow_non_empty: bool, allow_other: bool) -> str:
    """Check everything that can be checked; answers the absolute path. Clears a dead mount of ours.

    Raises :class:`Refused`, naming the thing and the remedy.
    """
    path = os.path.abspath(mountpoint)
    if _is_dead(path):
        dead = mounted_at(path)
        if dead is not None and dead.kind != FSTYPE:
            raise Refused(f"{mountpoint}: a dead mount of another program is there; unmount it: fusermount3 -uz {path}")
        unmount(path, lazily=True)
    _check_directory(path, mountpoint)
    there = mounted_at(os.path.realpath(path))
    if there is not None and there.kind.startswith("fuse"):
        remedy = f"run: portside umount {path}" if there.kind == FSTYPE else f"unmount it first: umount {path}"
        raise Refused(f"{mountpoint}: a {there.kind} file system is mounted there already; {remedy}")
    if not allow_non_empty and os.listdir(path):
        raise Refused(f"{mountpoint}: the directory is not empty; choose an empty one or give --allow-non-empty")
    _check_fuse(allow_other)
    return os.path.realpath(path)


def _is_dead(path: str) -> bool:
    """Whether nobody serves what is mounted there. The kernel may know the root's attributes for minutes; it asks
    anew how much room there is. A mount whose process is alive and does not answer is not dead."""
    dead: list[bool] = []

    def ask() -> None:
        try:
            os.statvfs(path)
        except OSError as problem:
            dead.append(problem.errno in (errno.ENOTCONN, errno.ECONNABORTED))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWERS_WITHIN)
    return dead == [True]


def _check_directory(path: str, shown: str) -> None:
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        raise Refused(f"{shown}: the mount point does not exist; make it: mkdir -p {shown}") from None
    except OSError as problem:
        raise Refused(f"{shown}: the mount point cannot be used: {problem.strerror}") from problem
    if not stat.S_ISDIR(facts.st_mode):
        raise Refused(f"{shown}: the mount point is not a directory; name a directory")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise Refused(f"{shown}: you may not write to the mount point; choose a directory of your own")


def _check_fuse(allow_other: bool) -> None:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise Refused(f"{DEVICE} does not exist; load it with 'modprobe fuse', in a container add the device") from None
    except OSError as problem:
        raise Refused(
            f"{DEVICE} cannot be opened: {problem.strerror}; go on as root, or let everybody use it, as Debian does: "
            f"sudo chmod 666 {DEVICE}"
        ) from problem
    if os.geteuid() != 0:
        if shutil.which("fusermount3") is None:
            raise Refused("fusermount3 is not installed, and only root can mount without it; run: apt install fuse3")
        if allow_other and not _user_allow_other():
            raise Refused("--allow-other needs the line 'user_allow_other' in /etc/fuse.conf")


def _user_allow_other() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text().splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)

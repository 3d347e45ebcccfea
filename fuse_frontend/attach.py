"""Getting a /dev/fuse descriptor that is mounted somewhere, without libfuse: mount(2) as root, else fusermount3."""

from __future__ import annotations

import array
import ctypes
import os
import socket
import subprocess

from mountcore.errors import Refused

from .mountpoint import DEVICE, FSTYPE
from .session import SessionSettings

_MS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "dirsync": 128, "noatime": 1024, "nodiratime": 2048,
}  # fmt: skip
"""Flags of mount(2) by their names in mount(8); their opposites clear them."""
_OPPOSITES = {"rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "async": "sync", "atime": "noatime",
              "diratime": "nodiratime"}  # fmt: skip


def attach(settings: SessionSettings) -> int:
    """Mount; answers the descriptor, non-blocking. Raises Refused with what the kernel or fusermount3 said."""
    descriptor = _mount(settings) if os.geteuid() == 0 else _fusermount(settings)
    os.set_blocking(descriptor, False)
    return descriptor


def _kernel_options(settings: SessionSettings) -> list[str]:
    options = []
    if settings.default_permissions:
        options.append("default_permissions")
    if settings.allow_other or settings.allow_root:
        options.append("allow_other")
    return options


def _mount(settings: SessionSettings) -> int:
    flags = _MS["nosuid"] | _MS["nodev"] | (_MS["ro"] if settings.read_only else 0)
    for word in settings.flags:
        flags = flags | _MS[word] if word in _MS else flags & ~_MS[_OPPOSITES[word]]
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    root_mode = os.stat(settings.mountpoint).st_mode & 0o170000
    data = [f"fd={descriptor}", f"rootmode={root_mode:o}", "user_id=0", "group_id=0", *_kernel_options(settings)]
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.fsencode(settings.mountpoint)
    if libc.mount(os.fsencode(settings.source), place, FSTYPE.encode(), flags, ",".join(data).encode()):
        problem = os.strerror(ctypes.get_errno())
        os.close(descriptor)
        raise Refused(f"{settings.mountpoint}: mounting is not possible: {problem}; a container needs SYS_ADMIN")
    return descriptor


def _fusermount(settings: SessionSettings) -> int:
    source = settings.source.replace(",", "\\,")
    options = [f"fsname={source}", "subtype=portside", *_kernel_options(settings), *settings.flags]
    if settings.read_only:
        options.append("ro")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            result = subprocess.run(
                ["fusermount3", "-o", ",".join(options), "--", settings.mountpoint],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, capture_output=True, check=False,
            )  # fmt: skip
        if result.returncode:
            said = " ".join(result.stderr.decode(errors="replace").split())
            raise Refused(f"{settings.mountpoint}: mounting is not possible: {said}")
        size = array.array("i").itemsize
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(size))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return array.array("i", data[:size])[0]
    raise Refused(f"{settings.mountpoint}: fusermount3 mounted but handed over no descriptor; is it another version?")

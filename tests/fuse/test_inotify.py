"""What inotify(7) on a mount tells: everything that programs do through the mount, and nothing that comes by another
door, for the kernel has no way by which a file system could tell it of that. What comes is seen by who looks."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path

from mountcore.vfs import OpenFlags

from .mounting import Mount

IN_MODIFY, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MOVED_TO = 0x2, 0x8, 0x100, 0x200, 0x80
_EVENT = struct.Struct("iIII")


class Watch:
    """An inotify instance on one directory."""

    def __init__(self, directory: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_TO
        assert self._libc.inotify_add_watch(self.descriptor, os.fsencode(directory), mask) >= 0

    def told(self, patience: float = 0.0) -> set[tuple[int, str]]:
        """Events since the last call; waits for the first one up to ``patience`` seconds."""
        found: set[tuple[int, str]] = set()
        while select.select([self.descriptor], [], [], patience)[0]:
            patience, data = 0.0, os.read(self.descriptor, 65536)
            while data:
                _, mask, _, length = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
                found.add((mask & 0xFFFF, name))
                data = data[_EVENT.size + length :]
        return found


def test_what_programs_do_through_the_mount_is_told(mount: Mount) -> None:
    (mount.path / "there").write_text("before")
    watch = Watch(mount.path)
    (mount.path / "new").write_text("content")
    os.rename(mount.path / "new", mount.path / "moved")
    os.unlink(mount.path / "there")
    told = watch.told(5)
    assert told >= {
        (IN_CREATE, "new"), (IN_MODIFY, "new"), (IN_CLOSE_WRITE, "new"), (IN_MOVED_TO, "moved"), (IN_DELETE, "there")
    }  # fmt: skip


def test_what_comes_by_another_door_is_seen_and_not_told(mount: Mount) -> None:
    watch = Watch(mount.path)
    assert os.listdir(mount.path) == []

    async def put() -> None:
        handle = await mount.vfs.create(mount.vfs.root, "by another door", OpenFlags.WRITE, exclusive=True)
        await handle.write(0, b"content")
        await handle.close()

    mount.run(put)
    assert (mount.path / "by another door").read_bytes() == b"content"
    assert watch.told() == set()
    (mount.path / "own").touch()  # and not because nothing is told any more
    assert (IN_CREATE, "own") in watch.told(5)

"""The doors into one file system, behind one small synchronous face: what the behaviour suite is written against.

A door says in ``lacks`` what its protocol cannot express; tests that need it are deselected for that door.
Paths are relative to the door's ``base``, a directory of the test's own.
"""

from __future__ import annotations

import calendar
import enum
import errno
import ftplib
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest
from model import live
from model.live import LiveCore
from model.storage import Content

from mountcore.errors import REPLIES
from mountcore.remotes.protocol import Kind
from mountcore.vfs import Handle, OpenFlags, Vfs


class Ability(enum.Enum):
    """What not every protocol can express, in words for the summary."""

    TRUNCATE = "set the length of a file"
    ANY_OFFSET = "write from the first byte on, or from beyond the end, and keep the rest"
    HANDLES = "keep a file open across other operations"
    LINE_BREAKS = "carry a CR or LF in a name"
    RAW_NAMES = "carry a name that is not UTF-8"
    RESPELLING = "rename a file to another spelling of its own name (the kernel sees one file and does nothing)"
    TIMES = "set a modification time"
    ANY_NAME = "carry every character in a name"
    EMPTY_DIRECTORIES = "keep a directory that has nothing in it"
    CASE = "tell names apart that differ in case alone"
    RENAMED_CHANGES = "go on changing a file whose directory was renamed before its upload (both are kept)"
    TREES = "rename a directory (programs copy instead)"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a door shows of one name."""

    directory: bool
    size: int
    mtime: float


class DoorFile(Protocol):
    """A file that stays open."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes, short only at the end."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it."""

    def close(self) -> None:
        """Let go."""


class Door(Protocol):
    """One way into the file system."""

    lacks: frozenset[Ability]
    base: str

    def write(self, path: str, data: bytes) -> None:
        """Save a file: make it, or replace its content."""

    def read(self, path: str) -> bytes:
        """The whole content."""

    def append(self, path: str, data: bytes) -> None:
        """Add to the end; makes the file if there is none."""

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Change a part in place; what lies behind it stays."""

    def truncate(self, path: str, size: int) -> None:
        """Set the length."""

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing a file of the new name."""

    def remove(self, path: str) -> None:
        """Delete a file."""

    def mkdir(self, path: str) -> None:
        """Make a directory."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, in any order."""

    def stat(self, path: str) -> Facts:
        """Kind, size and time."""

    def set_mtime(self, path: str, mtime: int) -> None:
        """Set the modification time, in seconds."""

    def open(self, path: str, *, write: bool = False) -> DoorFile:
        """Open an existing file."""

    def refused(self, code: int) -> AbstractContextManager[None]:
        """The block must fail, with this errno or what stands for it at this door."""

    def forget(self) -> None:
        """Believe no listing and hold no clean byte any more: what is shown next comes from the storage."""

    def drain(self) -> None:
        """Upload everything; fails if anything is left."""

    def stored(self) -> Content:
        """What the storage holds below ``base``, not asked through this door."""


async def forget_everything(vfs: Vfs) -> None:
    """No listing is believed, and nothing that can be fetched again is kept."""
    await vfs.refresh()
    vfs.evictor.make_room(1 << 60)


def walk(door: Door, directory: str = "") -> Content:
    """Everything that a door shows below its base, byte for byte, sizes checked against contents."""
    found: Content = {}
    listed = door.listdir(directory)
    assert len(listed) == len(set(listed)), f"a name is listed twice: {sorted(listed)}"
    for name in listed:
        path = f"{directory}/{name}" if directory else name
        facts = door.stat(path)
        if facts.directory:
            found[path] = None
            found.update(walk(door, path))
        else:
            data = door.read(path)
            assert facts.size == len(data), f"{path!r}: {facts.size} bytes shown, {len(data)} read"
            found[path] = data
    return found


class VfsDoor:
    """The core's own face, called from a foreign thread."""

    lacks: frozenset[Ability] = frozenset()

    def __init__(self, core: LiveCore, vfs: Vfs, look: Callable[[str], Content]) -> None:
        self.core = core
        self.vfs = vfs
        self.base = ""
        self._look = look

    def _at(self, path: str) -> str:
        return "/".join(part for part in (self.base, path) if part)

    def write(self, path: str, data: bytes) -> None:
        self.core.call(live.write_file, self.vfs, self._at(path), data)

    def read(self, path: str) -> bytes:
        return self.core.call(live.read_file, self.vfs, self._at(path))

    def append(self, path: str, data: bytes) -> None:
        self.core.call(live.append, self.vfs, self._at(path), data)

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        self.core.call(live.overwrite, self.vfs, self._at(path), offset, data)

    def truncate(self, path: str, size: int) -> None:
        async def run() -> None:
            await self.vfs.truncate(await self.vfs.resolve(self._at(path)), size)

        self.core.call(run)

    def rename(self, old: str, new: str) -> None:
        self.core.call(live.rename, self.vfs, self._at(old), self._at(new))

    def remove(self, path: str) -> None:
        self.core.call(live.remove, self.vfs, self._at(path))

    def mkdir(self, path: str) -> None:
        self.core.call(live.mkdir, self.vfs, self._at(path))

    def rmdir(self, path: str) -> None:
        self.core.call(live.rmdir, self.vfs, self._at(path))

    def listdir(self, path: str) -> list[str]:
        async def run() -> list[str]:
            return [node.name for node in await self.vfs.children(await self.vfs.resolve(self._at(path)))]

        return self.core.call(run)

    def stat(self, path: str) -> Facts:
        async def run() -> Facts:
            shown = self.vfs.attributes(await self.vfs.resolve(self._at(path)))
            return Facts(shown.kind is Kind.DIRECTORY, shown.size, shown.mtime_ns / 1e9)

        return self.core.call(run)

    def set_mtime(self, path: str, mtime: int) -> None:
        async def run() -> None:
            await self.vfs.set_mtime(await self.vfs.resolve(self._at(path)), mtime * 10**9)

        self.core.call(run)

    def open(self, path: str, *, write: bool = False) -> DoorFile:
        flags = OpenFlags.READ | OpenFlags.WRITE if write else OpenFlags.READ

        async def run() -> Handle:
            return await self.vfs.open(await self.vfs.resolve(self._at(path)), flags)

        return _VfsFile(self.core, self.core.call(run))

    @contextmanager
    def refused(self, code: int) -> Iterator[None]:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            yield
        assert caught.value.errno == code, f"{caught.value!r} instead of {errno.errorcode[code]}"

    def forget(self) -> None:
        self.core.call(forget_everything, self.vfs)

    def drain(self) -> None:
        left = self.core.call(self.vfs.drain)
        assert not left, f"not uploaded: {left}"

    def stored(self) -> Content:
        return self._look(self.base)


class _VfsFile:
    def __init__(self, core: LiveCore, handle: Handle) -> None:
        self._core = core
        self._handle = handle

    def read(self, offset: int, length: int) -> bytes:
        return self._core.call(self._handle.read, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        assert self._core.call(self._handle.write, offset, data) == len(data)

    def close(self) -> None:
        self._core.call(self._handle.close)


class MountDoor:
    """A kernel mount: ordinary system calls. The core behind it may live in this process or in another."""

    lacks = frozenset({Ability.RESPELLING})

    def __init__(
        self, mountpoint: str, look: Callable[[str], Content], drain: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        self.mountpoint = mountpoint
        self.base = ""
        self._look = look
        self.drain = drain
        self.forget = forget

    def _at(self, path: str) -> str:
        return os.path.join(self.mountpoint, *[part for part in (self.base, path) if part])

    def write(self, path: str, data: bytes) -> None:
        with open(self._at(path), "wb") as file:
            file.write(data)

    def read(self, path: str) -> bytes:
        with open(self._at(path), "rb") as file:
            return file.read()

    def append(self, path: str, data: bytes) -> None:
        with open(self._at(path), "ab") as file:
            file.write(data)

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        with open(self._at(path), "r+b") as file:
            file.seek(offset)
            file.write(data)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def remove(self, path: str) -> None:
        os.unlink(self._at(path))

    def mkdir(self, path: str) -> None:
        os.mkdir(self._at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def listdir(self, path: str) -> list[str]:
        return os.listdir(self._at(path))

    def stat(self, path: str) -> Facts:
        shown = os.lstat(self._at(path))
        return Facts(os.path.isdir(self._at(path)), shown.st_size, shown.st_mtime)

    def set_mtime(self, path: str, mtime: int) -> None:
        os.utime(self._at(path), (mtime, mtime))

    def open(self, path: str, *, write: bool = False) -> DoorFile:
        return _OsFile(os.open(self._at(path), os.O_RDWR if write else os.O_RDONLY))

    refused = VfsDoor.refused

    def stored(self) -> Content:
        return self._look(self.base)


class _OsFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        assert os.pwrite(self._descriptor, data, offset) == len(data)

    def close(self) -> None:
        os.close(self._descriptor)


class FtpDoor:
    """An FTP server, with the client of the standard library."""

    lacks = frozenset({Ability.TRUNCATE, Ability.ANY_OFFSET, Ability.HANDLES, Ability.LINE_BREAKS, Ability.RAW_NAMES})

    def __init__(
        self,
        client: ftplib.FTP,
        look: Callable[[str], Content],
        drain: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        self.client = client
        self.base = ""
        self._look = look
        self.drain = drain
        self.forget = forget

    def _at(self, path: str) -> str:
        return "/" + "/".join(part for part in (self.base, path) if part)

    def write(self, path: str, data: bytes) -> None:
        self.client.storbinary(f"STOR {self._at(path)}", io.BytesIO(data))

    def read(self, path: str) -> bytes:
        parts: list[bytes] = []
        self.client.retrbinary(f"RETR {self._at(path)}", parts.append)
        return b"".join(parts)

    def append(self, path: str, data: bytes) -> None:
        self.client.storbinary(f"APPE {self._at(path)}", io.BytesIO(data))

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        self.client.storbinary(f"STOR {self._at(path)}", io.BytesIO(data), rest=offset)

    def rename(self, old: str, new: str) -> None:
        self.client.rename(self._at(old), self._at(new))

    def remove(self, path: str) -> None:
        self.client.delete(self._at(path))

    def mkdir(self, path: str) -> None:
        self.client.mkd(self._at(path))

    def rmdir(self, path: str) -> None:
        self.client.rmd(self._at(path))

    def listdir(self, path: str) -> list[str]:
        return [name for name, facts in self.client.mlsd(self._at(path)) if facts["type"] in ("file", "dir")]

    def stat(self, path: str) -> Facts:
        _, line, _ = self.client.sendcmd(f"MLST {self._at(path)}").split("\n")
        facts = dict(part.split("=") for part in line.strip(" ").partition(" ")[0].lower().split(";") if part)
        when = calendar.timegm(time.strptime(facts["modify"][:14], "%Y%m%d%H%M%S"))
        return Facts(facts["type"] == "dir", int(facts.get("size", 0)), when)

    def set_mtime(self, path: str, mtime: int) -> None:
        self.client.sendcmd(f"MFMT {time.strftime('%Y%m%d%H%M%S', time.gmtime(mtime))} {self._at(path)}")

    def truncate(self, path: str, size: int) -> None:
        raise NotImplementedError

    def open(self, path: str, *, write: bool = False) -> DoorFile:
        raise NotImplementedError

    @contextmanager
    def refused(self, code: int) -> Iterator[None]:
        # 550 is the only reply of this kind that RFC 959 §5.4 has for some commands
        allowed = {str(dict(REPLIES.values())[code]), "550"}
        with pytest.raises(ftplib.Error) as caught:
            yield
        assert str(caught.value)[:3] in allowed, f"{caught.value!r} for {errno.errorcode[code]}"

    def stored(self) -> Content:
        return self._look(self.base)

"""System call by system call: what docs/SEMANTICS.md promises of each, on a real mount, through both sessions."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import gc
import mmap
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuse_frontend.operations import Operations
from mountcore.remotes.around import Around
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Capabilities, Remote
from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings
from tests.servers import SSH_SERVERS, samba, vsftpd

from .failing import Failing
from .mounting import Mount, in_a_process, mounted, spoken

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE = 1, 2, 8, 16
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Plain(Around):
    """A storage that keeps content and time, and nothing else."""

    def __init__(self) -> None:
        super().__init__(Memory())

    @property
    def caps(self) -> Capabilities:
        return dataclasses.replace(
            super().caps, attributes=False, hard_links=False, owners=False, modes=False, symlinks=False
        )


@pytest.fixture
def plain(tmp_path: Path, session: str) -> Iterator[Mount]:
    with mounted(Plain(), tmp_path, options=spoken(session)) as mount:
        yield mount


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=re.escape(f"[Errno {number}]")):
        yield


def renameat2(old: Path, new: Path, flags: int) -> None:
    if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    if LIBC.fallocate(file, mode, offset, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# names


def test_rename_with_flags(mount: Mount) -> None:
    a, b = mount.path / "a", mount.path / "b"
    a.write_text("a")
    b.write_text("b")
    with refused(errno.EEXIST):
        renameat2(a, b, RENAME_NOREPLACE)
    assert (a.read_text(), b.read_text()) == ("a", "b")
    renameat2(a, mount.path / "c", RENAME_NOREPLACE)
    assert (mount.path / "c").read_text() == "a"
    with refused(errno.EINVAL):
        renameat2(mount.path / "c", b, RENAME_NOREPLACE | RENAME_EXCHANGE)


def test_names_are_exchanged(mount: Mount, store: Path) -> None:
    a, b, d = mount.path / "a", mount.path / "b", mount.path / "d"
    a.write_text("a")
    b.write_text("bb")
    d.mkdir()
    (d / "below").write_text("below")
    numbers = a.stat().st_ino, b.stat().st_ino
    with a.open() as reader:
        renameat2(a, b, RENAME_EXCHANGE)
        assert (a.read_text(), b.read_text(), reader.read()) == ("bb", "a", "a")
    assert (b.stat().st_ino, a.stat().st_ino) == numbers
    renameat2(a, d, RENAME_EXCHANGE)
    assert (d.read_text(), (a / "below").read_text()) == ("bb", "below")
    renameat2(d, a / "below", RENAME_EXCHANGE)
    assert (d.read_text(), (a / "below").read_text()) == ("below", "bb")
    with refused(errno.EINVAL):
        renameat2(a, a / "below", RENAME_EXCHANGE)
    with refused(errno.ENOENT):
        renameat2(b, mount.path / "absent", RENAME_EXCHANGE)
    assert sorted(os.listdir(mount.path)) == ["a", "b", "d"]
    assert mount.run(mount.vfs.drain) == ()
    assert {name: (store / name).read_text() for name in ("b", "d", "a/below")} == {
        "b": "a", "d": "below", "a/below": "bb",
    }  # fmt: skip
    assert sorted(os.listdir(store)) == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("start", "kind"), [(vsftpd, "ftp"), (samba, "smb"), (SSH_SERVERS["sshd"], "sftp")], ids=["vsftpd", "samba", "sshd"]
)
def test_names_are_exchanged_at_a_server(tmp_path: Path, start: Callable[[], Any], kind: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start())
        root = getattr(server, "prefix", "")
        mount = stack.enter_context(mounted(open_remote(kind, server.options, root), tmp_path / "m"))
        a, d = mount.path / "a", mount.path / "d"
        a.write_text("a")
        d.mkdir()
        (d / "b").write_text("bb")
        assert mount.run(mount.vfs.drain) == ()
        a.write_text("changed")  # and not stored when the names are exchanged
        renameat2(a, d / "b", RENAME_EXCHANGE)
        renameat2(a, d, RENAME_EXCHANGE)
        assert mount.run(mount.vfs.drain) == ()
        mount.run(mount.vfs.refresh)
        assert {place: place.read_text() for place in (d, a / "b")} == {d: "bb", a / "b": "changed"}
        assert sorted(os.listdir(mount.path)) == ["a", "d"]


def test_there_are_no_hard_links(mount: Mount) -> None:
    """Also where the storage has them; see `Operations.link`."""
    (mount.path / "f").write_text("x")
    with refused(errno.EPERM):
        os.link(mount.path / "f", mount.path / "g")
    assert os.listdir(mount.path) == ["f"]


def test_what_plain_storage_does_not_have(plain: Mount) -> None:
    (plain.path / "f").write_text("x")
    with refused(errno.EPERM):
        os.symlink("f", plain.path / "l")
    os.utime(plain.path / "f", ns=(10**18, 10**18 + 7))
    assert (plain.path / "f").stat().st_atime_ns == 10**18
    shown = (plain.path / "f").stat()
    os.chmod(plain.path / "f", 0o600)
    os.chown(plain.path / "f", 12, 34)
    after = (plain.path / "f").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (shown.st_mode, shown.st_uid, shown.st_gid)


def test_symlink_and_readlink(mount: Mount, store: Path) -> None:
    os.symlink("some/where ünd", mount.path / "l")
    assert os.readlink(mount.path / "l") == "some/where ünd"
    assert os.readlink(store / "l") == "some/where ünd"
    assert stat.S_ISLNK((mount.path / "l").lstat().st_mode)
    with refused(errno.EEXIST):
        os.symlink("x", mount.path / "l")
    with refused(errno.EINVAL):
        os.readlink(mount.path)


def test_mknod_makes_regular_files_alone(mount: Mount, store: Path) -> None:
    os.mknod(mount.path / "f", stat.S_IFREG | 0o640)
    assert stat.S_ISREG((mount.path / "f").stat().st_mode)
    assert (mount.path / "f").stat().st_mode & 0o777 == 0o640
    with refused(errno.EEXIST):
        os.mknod(mount.path / "f", stat.S_IFREG)
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR):
        with refused(errno.ENOTSUP):
            os.mknod(mount.path / "n", kind, os.makedev(1, 3))
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "f").read_bytes() == b""


# inodes and attributes


def test_inode_numbers_are_the_same_in_the_next_run(tmp_path: Path, store: Path, session: str) -> None:
    (store / "d").mkdir()
    for number in range(20):
        (store / f"d/f{number}").touch()

    def numbers() -> dict[str, int]:
        remote = open_remote("local", {}, str(store))
        with mounted(remote, tmp_path, options=spoken(session)) as mount:
            return {str(path): path.stat().st_ino for path in (mount.path / "d", *(mount.path / "d").iterdir())}

    first = numbers()
    assert len(set(first.values())) == 21
    for name in ("f3", "f4"):
        (store / f"d/{name}").rename(store / f"d/{name}-renamed")
    os.utime(store / "d")
    second = numbers()
    assert {path: number for path, number in second.items() if path in first} == {
        path: number for path, number in first.items() if path in second
    }


def test_two_names_of_one_file_are_two_files(mount: Mount, store: Path) -> None:
    (store / "one").write_text("x")
    os.link(store / "one", store / "two")
    mount.run(mount.vfs.refresh)
    assert len({entry.inode() for entry in os.scandir(mount.path)}) == 2
    (mount.path / "two").write_text("changed")
    assert mount.run(mount.vfs.drain) == ()
    assert ((store / "one").read_text(), (store / "two").read_text()) == ("x", "changed")
    assert (mount.path / "one").read_text() == "x"


def test_an_inode_number_stays_while_names_change(mount: Mount) -> None:
    path = mount.path / "f"
    path.write_text("x")
    number = path.stat().st_ino
    assert mount.run(mount.vfs.drain) == ()
    path.rename(mount.path / "g")
    path = mount.path / "g"
    path.write_text("y")
    mount.run(mount.vfs.refresh)
    assert path.stat().st_ino == number
    with path.open() as file:
        path.unlink()
        assert os.fstat(file.fileno()).st_ino == number
        assert os.fstat(file.fileno()).st_nlink == 0


def test_owner_and_mode_are_the_storages(mount: Mount, store: Path) -> None:
    (store / "f").touch()
    os.chown(store / "f", 12, 34)
    os.chmod(store / "f", 0o604)
    facts = (mount.path / "f").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (12, 34, 0o604)
    os.chown(mount.path / "f", 56, -1)
    os.chown(mount.path / "f", -1, 78)
    os.chmod(mount.path / "f", 0o4711)
    facts = (store / "f").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (56, 78, 0o4711)
    (mount.path / "f").write_text("changed")
    os.chown(mount.path / "f", 90, 12)
    assert ((mount.path / "f").stat().st_uid, (mount.path / "f").stat().st_gid) == (90, 12)
    assert mount.run(mount.vfs.drain) == ()
    assert ((store / "f").stat().st_uid, (store / "f").stat().st_gid) == (90, 12)


def test_uid_and_gid_that_are_given_win(mount_here: Callable[..., Mount], tmp_path: Path, store: Path) -> None:
    from mountcore.options import vfs_settings

    (store / "f").touch()
    os.chown(store / "f", 12, 34)
    mount = mount_here(vfs_settings({"uid": "5", "cache-dir": str(tmp_path / "cache")}))
    facts = (mount.path / "f").stat()
    assert (facts.st_uid, facts.st_gid) == (5, os.getgid())


AS_SOMEBODY = """
import os, sys
os.umask(0o027)
os.setgroups([]); os.setgid(1234); os.setuid(1234)
place = sys.argv[1]
with open(place + "/file", "w") as file:
    file.write("mine")
os.mkdir(place + "/dir")
os.mknod(place + "/node", 0o100666)
"""


def test_who_makes_a_file_owns_it(mount_here: Callable[..., Mount], store: Path, tmp_path: Path) -> None:
    mount = mount_here(allow_other="true")
    os.chmod(mount.path, 0o777)
    for place in (tmp_path, *tmp_path.parents):
        if place.is_relative_to("/tmp") and place != Path("/tmp"):
            place.chmod(place.stat().st_mode | 0o011)
    in_a_process(AS_SOMEBODY, mount.path)
    for name in ("file", "dir", "node"):
        assert (mount.path / name).stat().st_uid == 1234
    assert mount.run(mount.vfs.drain) == ()
    for name, mode in (("file", 0o640), ("dir", 0o750), ("node", 0o640)):
        facts = (store / name).stat()
        assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (1234, 1234, mode)


def test_the_kernel_checks_permissions(mount_here: Callable[..., Mount], store: Path, tmp_path: Path) -> None:
    (store / "secret").write_text("x")
    os.chmod(store / "secret", 0o600)
    for place in (tmp_path, *tmp_path.parents):
        if place.is_relative_to("/tmp") and place != Path("/tmp"):
            place.chmod(place.stat().st_mode | 0o011)
    mount = mount_here(allow_other="true")
    os.chmod(mount.path, 0o755)
    script = """
import errno, os, sys
os.setgroups([]); os.setgid(1234); os.setuid(1234)
assert not os.access(sys.argv[1], os.R_OK)
try:
    open(sys.argv[1])
except OSError as problem:
    assert problem.errno == errno.EACCES
else:
    sys.exit("it opened")
"""
    in_a_process(script, mount.path / "secret")


def test_statfs(mount: Mount, store: Path) -> None:
    shown, real = os.statvfs(mount.path), os.statvfs(store)
    assert shown.f_namemax == 255
    assert abs(shown.f_blocks * shown.f_frsize - real.f_blocks * real.f_frsize) < 1 << 20


# open flags


def test_append_writes_at_the_end_whatever_was_sought(mount: Mount) -> None:
    path = mount.path / "f"
    path.write_bytes(b"start")
    file = os.open(path, os.O_RDWR | os.O_APPEND)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, b"+1")
    os.pwrite(file, b"+2", 0)  # Linux appends here, too: pwrite(2), BUGS
    os.close(file)
    assert path.read_bytes() == b"start+1+2"


@pytest.mark.parametrize("stored", [False, True])
def test_open_with_truncation(mount: Mount, store: Path, stored: bool) -> None:
    path = mount.path / "f"
    path.write_bytes(b"x" * 10_000)
    if stored:
        assert mount.run(mount.vfs.drain) == ()
    with path.open("rb") as reader:
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        assert os.fstat(file).st_size == 0
        assert reader.read() == b""
        os.write(file, b"new")
        os.close(file)
    assert path.read_bytes() == b"new"
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))
    assert path.stat().st_size == 0
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "f").read_bytes() == b""


def test_direct_reads_and_writes_see_what_the_others_do(mount: Mount) -> None:
    path = mount.path / "f"
    path.write_bytes(b"a" * 8192)
    script = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
assert os.preadv(file, [buffer], 4096) == 4096
assert bytes(buffer) == b"a" * 4096
buffer[:] = b"b" * 4096
assert os.pwritev(file, [buffer], 0) == 4096
os.close(file)
"""
    in_a_process(script, path)
    assert path.read_bytes() == b"b" * 4096 + b"a" * 4096


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_a_synchronous_write_is_synced_when_it_returns(mount: Mount, flag: int) -> None:
    file = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT | flag)
    try:
        os.write(file, b"x")
        (item,) = mount.vfs.store.dirty_items()
        assert item.row.promise == 2, "fsync returned on it"
    finally:
        os.close(file)


def test_exclusive_creation_is_won_once(mount: Mount) -> None:
    won: list[int] = []

    def make(number: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(mount.path / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_errors_of_open(mount: Mount) -> None:
    (mount.path / "d").mkdir()
    (mount.path / "f").touch()
    with refused(errno.EISDIR):
        os.open(mount.path / "d", os.O_WRONLY)
    with refused(errno.ENOTDIR):
        os.open(mount.path / "f", os.O_DIRECTORY)
    with refused(errno.ENOTDIR):
        os.open(mount.path / "f/below", os.O_RDONLY)
    with refused(errno.ENOENT):
        os.open(mount.path / "no", os.O_RDONLY)
    with refused(errno.EBADF):
        os.write(os.open(mount.path / "f", os.O_RDONLY), b"x")


# locks


LOCKER = """
import fcntl, os, sys
kind, path = sys.argv[1:]
file = os.open(path, os.O_RDWR)
try:
    if kind == "flock":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
except BlockingIOError:
    print("locked")
else:
    print("free")
"""


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
def test_locks_hold_between_processes(mount: Mount, kind: str) -> None:
    path = mount.path / "f"
    path.write_bytes(b"x" * 100)
    with path.open("r+b") as file:
        if kind == "flock":
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
        assert in_a_process(LOCKER, kind, path) == "locked\n"
        fcntl.lockf(file, fcntl.LOCK_UN) if kind == "fcntl" else fcntl.flock(file, fcntl.LOCK_UN)
        assert in_a_process(LOCKER, kind, path) == "free\n"


def test_record_locks_are_of_ranges(mount: Mount) -> None:
    path = mount.path / "f"
    path.write_bytes(b"x" * 100)
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 5, 0)
        assert in_a_process(LOCKER, "fcntl", path) == "free\n", "bytes 5 to 14 are not locked"


# room and holes


def test_fallocate(mount: Mount, store: Path, session: str) -> None:
    path = mount.path / "f"
    path.write_bytes(b"x" * 100_000)
    file = os.open(path, os.O_RDWR)
    try:
        if session == "pyfuse3":
            with refused(errno.EOPNOTSUPP):
                fallocate(file, 0, 0, 200_000)
            os.posix_fallocate(file, 0, 200_000)  # glibc writes then
            assert os.fstat(file).st_size == 200_000
            return
        fallocate(file, 0, 50_000, 150_000)
        assert os.fstat(file).st_size == 200_000
        assert os.pread(file, 200_000, 0) == b"x" * 100_000 + bytes(100_000)
        fallocate(file, PUNCH_HOLE | KEEP_SIZE, 10_000, 20_000)
        fallocate(file, PUNCH_HOLE | KEEP_SIZE, 190_000, 1_000_000)
        fallocate(file, ZERO_RANGE, 90_000, 5_000)
        fallocate(file, ZERO_RANGE, 199_000, 2_000)
        expected = bytearray(b"x" * 100_000 + bytes(101_000))
        expected[10_000:30_000] = bytes(20_000)
        expected[90_000:95_000] = bytes(5_000)
        assert os.pread(file, 300_000, 0) == expected
        for mode in (KEEP_SIZE, COLLAPSE_RANGE):
            with refused(errno.EOPNOTSUPP):
                fallocate(file, mode, 0, 4096)
    finally:
        os.close(file)
    assert path.read_bytes() == expected
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "f").read_bytes() == expected


def test_a_hole_in_a_file_that_is_only_at_the_remote(mount: Mount, store: Path, session: str) -> None:
    if session == "pyfuse3":
        pytest.skip("pyfuse3 has no fallocate")
    (store / "f").write_bytes(b"x" * 3_000_000)
    file = os.open(mount.path / "f", os.O_RDWR)
    fallocate(file, PUNCH_HOLE | KEEP_SIZE, 1_000_000, 1_000_000)
    os.close(file)
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "f").read_bytes() == b"x" * 1_000_000 + bytes(1_000_000) + b"x" * 1_000_000


def test_seeking_data_and_holes(mount: Mount, store: Path, session: str) -> None:
    path = mount.path / "f"
    with path.open("wb") as file:
        file.truncate(10 << 20)
        file.seek(4 << 20)
        file.write(b"x" * (1 << 20))
    with path.open("rb") as file:
        if session != "pyfuse3":
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 4 << 20
            assert os.lseek(file.fileno(), 4 << 20, os.SEEK_HOLE) == 5 << 20
            with refused(errno.ENXIO):
                os.lseek(file.fileno(), 6 << 20, os.SEEK_DATA)
        else:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 6 << 20, os.SEEK_HOLE) in (6 << 20, 10 << 20)
        with refused(errno.ENXIO):
            os.lseek(file.fileno(), 10 << 20, os.SEEK_HOLE)
    (store / "remote").write_bytes(bytes(1 << 20))
    mount.run(mount.vfs.refresh)
    with (mount.path / "remote").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0, "what is not here may be data"
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 1 << 20


def test_copy_file_range(mount: Mount, store: Path) -> None:
    content = os.urandom(3_000_000)
    (store / "from").write_bytes(content)
    (mount.path / "to").write_bytes(b"y" * 100)
    with (mount.path / "from").open("rb") as source, (mount.path / "to").open("r+b") as target:
        copied = 0
        while copied < 2_000_000:
            copied += os.copy_file_range(
                source.fileno(), target.fileno(), 2_000_000 - copied, 500 + copied, 50 + copied
            )
        assert os.copy_file_range(source.fileno(), target.fileno(), 100, 3_000_000, 0) == 0, "the end of the file"
        assert target.read() == b"y" * 50 + content[500:2_000_500]
    assert mount.run(mount.vfs.drain) == ()
    assert (store / "to").read_bytes() == b"y" * 50 + content[500:2_000_500]


# directories


def test_a_listing_under_change_shows_what_stays_once(mount: Mount, store: Path) -> None:
    for number in range(1500):
        (store / f"stays {number:04}").touch()
    stop = threading.Event()

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = mount.path / f"comes {number}"
            path.touch()
            path.rename(mount.path / f"goes {number}")
            (mount.path / f"goes {number}").unlink()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(15):
            names = os.listdir(mount.path)
            assert len(names) == len(set(names))
            assert sum(name.startswith("stays") for name in names) == 1500
    finally:
        stop.set()
        thread.join()


def test_seeking_in_a_directory(mount: Mount, store: Path) -> None:
    for number in range(1000):
        (store / f"{number:04}").touch()
    script = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.argtypes = libc.readdir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
def name(entry):
    return ctypes.string_at(entry + 19).decode()
directory = libc.opendir(sys.argv[1].encode())
seen = []
while True:
    place = libc.telldir(directory)
    entry = libc.readdir(directory)
    if not entry:
        break
    seen.append((place, name(entry)))
for place, expected in seen[::97]:
    libc.seekdir(directory, place)
    assert name(libc.readdir(directory)) == expected, expected
print(len(seen))
"""
    assert int(in_a_process(script, mount.path)) == 1002, "with . and .."


# counts


def test_lookups_and_forgets_balance(mount: Mount, store: Path, session: str) -> None:
    for number in range(300):
        (store / f"f{number}").touch()
    (store / "d").mkdir()
    for _ in range(3):
        for entry in os.scandir(mount.path):
            entry.stat()
        (mount.path / "new").write_text("x")
        os.symlink("new", mount.path / "link")
        (mount.path / "new").rename(mount.path / "d/moved")
        (mount.path / "d/moved").unlink()
        (mount.path / "link").unlink()
    subprocess.run([sys.executable, "-c", "open('/proc/sys/vm/drop_caches', 'w').write('2')"], check=True)
    pause = threading.Event()
    (operations,) = [o for o in gc.get_objects() if type(o) is Operations and o.vfs is mount.vfs]
    for _ in range(500):
        if len(operations.inodes) == 0:
            break
        pause.wait(0.01)
        Path("/proc/sys/vm/drop_caches").write_text("2")
    assert len(operations.inodes) == 0, "every name that the kernel was told of was given back"
    assert (mount.path / "f7").exists()


def test_mapping_a_file_of_which_the_end_is_cut(mount: Mount) -> None:
    """What a mapping shows past the end after a truncation is zeros, never old bytes."""
    path = mount.path / "f"
    path.write_bytes(b"x" * 10_000)
    script = """
import mmap, os, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 10_000)
    assert mapped[9_999] == ord("x")
    file.truncate(5_000)
    file.truncate(10_000)
    assert mapped[5_000:] == bytes(5_000)
    mapped[9_000:9_003] = b"new"
    mapped.flush()
"""
    in_a_process(script, path)
    expected = b"x" * 5_000 + bytes(4_000) + b"new" + bytes(997)
    assert path.read_bytes() == expected
    assert mmap.PAGESIZE == 4096


def test_write_back_zero_reports_the_error_of_the_upload_in_close(tmp_path: Path, session: str) -> None:
    settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=0))
    remote = Failing()
    with mounted(remote, tmp_path, settings, spoken(session)) as mount:
        remote.problem = PermissionError(errno.EACCES, "no")
        file = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(file, b"x")
        with refused(errno.EACCES):
            os.close(file)
        remote.problem = None
        assert mount.run(mount.vfs.drain) == ()


# names that the storage cannot hold


def encrypted(tmp_path: Path) -> Remote:
    folder = tmp_path / "encrypted"
    folder.mkdir(exist_ok=True)
    words = {"remote": "x:", "password": "one", "password2": "two"}
    return open_remote("crypt", words, "", open_remote("local", {}, str(folder)))


def test_a_name_that_the_storage_cannot_hold_is_refused_when_it_is_made(tmp_path: Path, session: str) -> None:
    """Encrypted, a name of 150 bytes is longer than any disk takes."""
    long = "x" * 150
    with mounted(encrypted(tmp_path), tmp_path, options=spoken(session)) as mount:
        (mount.path / "d").mkdir()
        (mount.path / "d" / "short").write_text("content")
        with refused(errno.ENAMETOOLONG):
            os.open(mount.path / long, os.O_CREAT | os.O_WRONLY)
        with refused(errno.ENAMETOOLONG):
            os.mknod(mount.path / long, stat.S_IFREG | 0o600)
        with refused(errno.ENAMETOOLONG):
            (mount.path / long).mkdir()
        with refused(errno.ENAMETOOLONG):
            (mount.path / "d" / "short").rename(mount.path / long)
        with refused(errno.EINVAL):
            (mount.path / ".mine.portside-01234567.partial").write_text("would be hidden")
        assert sorted(os.listdir(mount.path)) == ["d"]
        assert (mount.path / "d" / "short").read_text() == "content"
        assert mount.run(mount.vfs.drain) == ()


@pytest.mark.parametrize(
    ("start", "kind", "name", "number"),
    [(vsftpd, "ftp", "\x01" * 100, errno.ENAMETOOLONG), (samba, "smb", "nul.txt", errno.EINVAL)],
    ids=["vsftpd", "samba"],
)
def test_servers_are_not_sent_what_they_cannot_hold(
    tmp_path: Path, start: Callable[[], Any], kind: str, name: str, number: int
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start())
        root = getattr(server, "prefix", "")
        mount = stack.enter_context(mounted(open_remote(kind, server.options, root), tmp_path / "m"))
        (mount.path / "a").write_text("content")
        with refused(number):
            os.open(mount.path / name, os.O_CREAT | os.O_WRONLY)
        with refused(number):
            (mount.path / "a").rename(mount.path / name)
        assert os.listdir(mount.path) == ["a"]
        assert mount.run(mount.vfs.drain) == ()

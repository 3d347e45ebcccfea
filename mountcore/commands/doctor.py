"""``portside doctor``: looks at this machine, and at a remote, for what would be in the way, and says what helps."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import resource
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import trio

from ..errors import NotFound, StorageError
from ..files.content import InMemory
from ..files.places import Place
from ..options import Option, boolean
from ..quantity import format_size
from ..remotes.conffile import own_file, rclone_file
from ..remotes.paths import join
from ..remotes.protocol import ABSENT, ANYTHING, Kind, Remote, RenameScope, Span
from ..settings import default_cache_dir
from .failures import EXIT_FAILED, describe
from .filing import Desk, make_parser, run

DOCTOR_OPTIONS: tuple[Option, ...] = (
    Option("cache-dir", str(default_cache_dir()), "The cache directory to look at", str, "DIR"),
    Option("write", "false", "Try what the remote can do, in a folder of the doctor's own that is removed", boolean,
           flag=True),
)  # fmt: skip
ROOMY = 1 << 30
FILES = 4096
CLOCK_SINCE = 1_735_689_600  # 2025: before this program


@final
class Findings:
    """What was looked at, printed as it is found."""

    def __init__(self) -> None:
        self.wrong = 0

    def good(self, what: str) -> None:
        print(f"  ✓ {what}", flush=True)

    def note(self, what: str) -> None:
        """Neither good nor bad."""
        print(f"  · {what}", flush=True)

    def bad(self, what: str, remedy: str) -> None:
        self.wrong += 1
        print(f"  ✗ {what}\n      {remedy}", flush=True)

    def check(self, good: bool, what: str, remedy: str) -> None:
        """One or the other."""
        self.good(what) if good else self.bad(what, remedy)


def doctor(argv: list[str]) -> int:
    """Look, and say what helps."""
    parser = make_parser(
        "doctor",
        "Look at this machine, and at a remote if one is named, for what would be in the way, and say what helps.\n"
        "Changes nothing, unless --write is given.",
        remote_="a remote to look at, too",
    )
    return run(parser, argv, _doctor, DOCTOR_OPTIONS)


async def _doctor(desk: Desk) -> int | None:
    findings = Findings()
    print("this machine:")
    _machine(findings)
    print("mounting:")
    _fuse(findings)
    print("configuration:")
    _configuration(findings)
    print("the cache:")
    _cache(findings, str(desk.values["cache-dir"]))
    if desk.args.remote_:
        print(f"{desk.config.label(desk.args.remote_)}:")
        await _remote(findings, desk, desk.args.remote_)
    if findings.wrong:
        print(f"{findings.wrong} {'thing' if findings.wrong == 1 else 'things'} to see to")
        return EXIT_FAILED
    print("all is well")
    return None


def _machine(findings: Findings) -> None:
    findings.good(f"Linux {platform.release()}, Python {platform.python_version()}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    findings.check(
        hard >= FILES, f"{hard} open files are allowed ({soft} at the start; portside takes all it may)",
        "every file in use has one: raise the limit, with ulimit -n or LimitNOFILE= in the unit",
    )  # fmt: skip
    findings.check(time.time() > CLOCK_SINCE, f"the clock says {time.strftime('%Y-%m-%d %H:%M:%S %Z')}",
                   "set the clock: versions of files are told apart by times, certificates have dates")  # fmt: skip


def _fuse(findings: Findings) -> None:
    if importlib.util.find_spec("pyfuse3") is None:
        findings.note("pyfuse3 is not installed: with the direct session mounting works without it")
    else:
        findings.good("pyfuse3 is installed")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        findings.bad("/dev/fuse does not exist", "load it with 'modprobe fuse'; in a container add the device")
    except OSError as problem:
        findings.bad(f"/dev/fuse cannot be opened: {problem.strerror}", "go on as root, or: sudo chmod 666 /dev/fuse")
    else:
        findings.good("/dev/fuse can be opened")
    findings.check(shutil.which("fusermount3") is not None, "fusermount3 is installed", "run: apt install fuse3")
    if os.geteuid() != 0:
        findings.note("you are not root: reading cached files at the disk's own speed (passthrough) is root's alone")


def _configuration(findings: Findings) -> None:
    for path in (own_file(os.environ), rclone_file(os.environ)):
        if not path.exists():
            findings.note(f"{path}: there is none")
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        findings.check(not mode & 0o077, f"{path} has mode {mode:04o}",
                       f"it may hold passwords that others can read; run: chmod 600 {path}")  # fmt: skip


def _cache(findings: Findings, words: str) -> None:
    directory = place = Path(words).expanduser()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        findings.bad(f"{place} cannot be written to", "choose another place with --cache-dir")
        return
    room = os.statvfs(place)
    free = room.f_bavail * room.f_frsize
    findings.check(free >= ROOMY, f"{directory}: {format_size(free)} free",
                   "make room, or give --vfs-cache-max-size, or another place with --cache-dir")  # fmt: skip
    kind = _file_system(place)
    findings.check(kind not in ("tmpfs", "ramfs", "devtmpfs"), f"its file system is {kind}",
                   "what is in memory is gone with the power; choose another place with --cache-dir")  # fmt: skip
    probe = place / f".portside-{secrets.token_hex(4)}"
    try:
        with probe.open("xb") as file:
            file.truncate(16 << 20)
            sparse = os.fstat(file.fileno()).st_blocks * 512 < 8 << 20
            began = time.perf_counter()
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            took = time.perf_counter() - began
    except OSError as problem:
        findings.bad(f"{place}: {problem.strerror}", "choose another place with --cache-dir")
        return
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    findings.check(sparse, "it holds sparse files", "choose a place on ext4, xfs or btrfs with --cache-dir")
    findings.check(took < 0.5, f"it syncs in {took * 1000:.1f} ms",
                   "every FTP upload waits for that: choose a faster disk, or --ftp-upload-ack memory")  # fmt: skip
    for lost in sorted(directory.glob("*/lost+found")):
        if any(lost.iterdir()):
            findings.bad(
                f"{lost} is not empty", "look at what could not be placed, keep what you need, delete the rest"
            )


def _file_system(place: Path) -> str:
    best, kind = "", "unknown"
    real = os.path.realpath(place)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split(" ")
        if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, found
    return kind


async def _remote(findings: Findings, desk: Desk, words: str) -> None:
    began = time.perf_counter()
    try:
        place = await desk.places.one(words)
        if place.entry is None:
            raise NotFound("", "there is no such directory")
        place.require_directory()
        names = await _count(place)
    except StorageError as problem:
        findings.bad(describe(problem), "see to that first; everything else needs it")
        return
    took = time.perf_counter() - began
    findings.good(f"it answers: {names} names in the directory, {took * 1000:.0f} ms with logging in")
    caps = place.remote.caps
    can = {
        "ranges are read": caps.ranged_read, "empty directories exist": caps.real_directories,
        "times are kept": caps.set_mtime, "uploads are atomic": caps.atomic_put,
        "uploads are conditional": caps.conditional_put, "files are renamed": caps.rename is not RenameScope.NONE,
        "directories are renamed": caps.rename is RenameScope.TREE, "symbolic links": caps.symlinks,
        "modes": caps.modes, "room is told": caps.usage, "copies at the storage": caps.copy,
    }  # fmt: skip
    findings.note("it says it can: " + ", ".join(name for name, yes in can.items() if yes))
    findings.note("it cannot: " + (", ".join(name for name, yes in can.items() if not yes) or "nothing of that"))
    if caps.hashes:
        findings.note(f"it compares by {', '.join(sorted(caps.hashes))}")
    if desk.values["write"]:
        await _try(findings, place)
    else:
        findings.note("with --write the doctor tries that, too")


async def _count(place: Place) -> int:
    count = 0
    stream = place.remote.list(place.path(""))
    async for _ in stream:
        count += 1
    return count


async def _try(findings: Findings, place: Place) -> None:
    """Each thing once, for real."""
    remote, folder = place.remote, place.path(f"portside-doctor-{secrets.token_hex(4)}")
    caps = remote.caps
    async with _scratch(findings, remote, folder) as made:
        if not made:
            return

        async def attempt(what: str, remedy: str, work: Callable[[], Awaitable[object]]) -> None:
            try:
                good = await work()
            except StorageError as problem:
                findings.bad(f"{what}: {describe(problem)}", remedy)
            else:
                findings.check(good is not False, what, remedy)

        data, name = secrets.token_bytes(300_000), join(folder, "file")

        async def store() -> bool:
            entry = await remote.put(name, InMemory(data), expect=ABSENT, mtime_ns=1_700_000_000 * 10**9)
            return entry.size == len(data)

        async def read() -> bool:
            async with remote.read(name, Span(1000, 250_000), None) as pieces:
                return b"".join([piece async for piece in pieces]) == data[1000:250_000]

        async def kept_time() -> bool:
            entry = await remote.stat(name)
            return entry.mtime_ns is not None and abs(entry.mtime_ns - 1_700_000_000 * 10**9) < 2 * 10**9

        async def replaced() -> bool:
            await remote.put(name, InMemory(b"new"), expect=ANYTHING, mtime_ns=None)
            return (await remote.stat(name)).size == 3

        async def renamed() -> bool:
            await remote.rename(name, join(folder, "renamed"))
            await remote.rename(join(folder, "renamed"), name)
            return True

        async def odd_name() -> bool:
            odd = join(folder, "ünïcode (1) [x] & y")
            await remote.put(odd, InMemory(b"odd"), expect=ANYTHING, mtime_ns=None)
            found = [entry.name async for entry in remote.list(folder)]
            await remote.remove(odd)
            return "ünïcode (1) [x] & y" in found

        uploads = "without that nothing written here can be stored; look at the account's rights and its room"
        await attempt("a file is stored whole", uploads, store)
        await attempt("a part of it is read", "files are fetched whole, from their beginning", read)
        if caps.set_mtime:
            await attempt("its time is kept", "turn setting times off with --no-modtime", kept_time)
        await attempt("it is replaced", uploads, replaced)
        if caps.rename is not RenameScope.NONE:
            await attempt("it is renamed", "programs that save through another name will copy instead", renamed)
        await attempt("names are kept as they are", "look at the option 'encoding' of the remote", odd_name)


@asynccontextmanager
async def _scratch(findings: Findings, remote: Remote, folder: str) -> AsyncIterator[bool]:
    """A folder of our own, with everything in it removed in the end."""
    try:
        await remote.mkdir(folder)
    except StorageError as problem:
        findings.bad(f"no folder can be made: {describe(problem)}", "look at the account's rights")
        yield False
        return
    try:
        yield True
    finally:
        with trio.move_on_after(30) as bound:
            bound.shield = True
            try:
                for entry in [entry async for entry in remote.list(folder)]:
                    if entry.kind is not Kind.DIRECTORY:
                        await remote.remove(join(folder, entry.name))
                await remote.rmdir(folder)
            except StorageError as problem:
                findings.bad(f"{folder} is left behind: {describe(problem)}", "remove it yourself")

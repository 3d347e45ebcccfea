"""portside's FTP remote beside rclone's, against the same server, in one run.

``python -m benchmarks.ftp_remote [--server vsftpd] [--tls explicit] [--rounds 3] [--only big,small,tree]``

A file of 1 GiB down and up, 5,000 files of 4 KiB down and up, a tree of 20,000 files listed (``--size``, ``--files``,
``--tree``). Each round runs both, one after the other, on fresh copies, in turn the one or the other first; the table
shows medians and their ratio (over 1: portside is faster), of time on the clock and of processor time, which says
more on a busy machine. rclone runs as its own process and pays its start (about 0.1 s), as its users do; it is given
the same number of connections.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import cast

import trio

from mountcore.commands.process import prepare_machine
from mountcore.remotes.protocol import ANYTHING, Entry, Remote, Span, for_a_file
from mountcore.remotes.registry import open_remote
from mountcore.remotes.sources import FileSource
from mountcore.splicing import Piece, Pipe
from tests.servers import FtpServer, Tls, proftpd, pure_ftpd, pyftpdlib, vsftpd
from tests.servers.ftp import ACCOUNT
from tests.servers.process import find_program

STARTERS = {"vsftpd": vsftpd, "proftpd": proftpd, "pure-ftpd": pure_ftpd, "pyftpdlib": pyftpdlib}
CONNECTIONS = 4
MIB = 1 << 20
LARGE = 256 * MIB


async def _in_parallel(jobs: list[Callable[[], Awaitable[None]]]) -> None:
    queue = iter(jobs)

    async def work() -> None:
        for job in queue:
            await job()

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(work)


def _put(piece: Piece, sink: int, offset: int) -> None:
    if isinstance(piece, Pipe):
        piece.put_all(sink, offset)
        return
    view = memoryview(piece)
    while view:
        done = os.pwrite(sink, view, offset)
        view, offset = view[done:], offset + done


async def download(remote: Remote, folder: str, target: Path) -> None:
    """All files of a remote folder; a large one in several ranges at once, as rclone does."""

    async def span(entry: Entry, wanted: Span, sink: int) -> None:
        async with remote.read(f"{folder}/{entry.name}", wanted, entry.version) as pieces:
            at = wanted.start
            async for piece in for_a_file(pieces):
                _put(piece, sink, at)
                at += len(piece)

    async def one(entry: Entry) -> None:
        sink = os.open(target / entry.name, os.O_CREAT | os.O_WRONLY)
        os.ftruncate(sink, entry.size)  # as a cache file is
        try:
            if entry.size < LARGE:
                await span(entry, Span(0, entry.size), sink)
                return
            step = -(-entry.size // CONNECTIONS)
            async with trio.open_nursery() as nursery:
                for start in range(0, entry.size, step):
                    nursery.start_soon(span, entry, Span(start, min(start + step, entry.size)), sink)
        finally:
            os.close(sink)

    found = [entry async for entry in remote.list(folder)]
    await _in_parallel([lambda e=entry: one(e) for entry in found])  # type: ignore[misc]


async def upload(remote: Remote, source: Path, folder: str) -> None:
    """All files of a local folder, with their times."""

    async def one(name: str, path: str) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            facts = os.fstat(file)
            content = FileSource(file, facts.st_size)
            await remote.put(f"{folder}/{name}", content, expect=ANYTHING, mtime_ns=facts.st_mtime_ns)
        finally:
            os.close(file)

    await _in_parallel([lambda e=entry: one(e.name, e.path) for entry in os.scandir(source)])  # type: ignore[misc]


async def count(remote: Remote) -> int:
    """All entries of a deep tree."""
    total = 0
    async with aclosing(cast(AsyncGenerator[tuple[str, Entry], None], remote.list_tree("tree"))) as found:
        async for _ in found:
            total += 1
    return total


def rclone(server: FtpServer, config: Path, *arguments: str) -> None:
    """Run rclone with a remote called ``srv``."""
    subprocess.run(
        [find_program("rclone"), "--config", str(config), f"--transfers={CONNECTIONS}", f"--checkers={CONNECTIONS}",
         "--ignore-times", *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _rclone_config(server: FtpServer, path: Path) -> Path:
    obscured = subprocess.run(
        [find_program("rclone"), "obscure", "-"], input=server.password.encode(), capture_output=True, check=True
    )
    lines = ["[srv]", "type = ftp", f"host = {server.host}", f"port = {server.port}", f"user = {server.user}",
             f"pass = {obscured.stdout.decode().strip()}", "no_check_certificate = true"]  # fmt: skip
    if server.tls is not Tls.NONE:
        lines.append("explicit_tls = true" if server.tls is Tls.EXPLICIT else "tls = true")
    path.write_text("\n".join(lines) + "\n")
    return path


def _prepare(server: FtpServer, size: int, files: int, tree: int) -> None:
    (server.root / "big").mkdir()
    with (server.root / "big/file").open("wb") as sink:
        block = os.urandom(MIB)
        for _ in range(size):
            sink.write(block)
    (server.root / "small").mkdir()
    for number in range(files):
        (server.root / f"small/file{number}").write_bytes(os.urandom(4096))
    (server.root / "tree").mkdir()
    for number in range(tree):
        folder = server.root / f"tree/{number // 2000}/{number // 100}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"file number {number}.txt").touch()
    shutil.chown(server.root, ACCOUNT, ACCOUNT)
    for path in server.root.rglob("*"):
        shutil.chown(path, ACCOUNT, ACCOUNT)


def _touch_memory(size: int) -> None:
    """Have so much memory been used once: a virtual machine gets it from its host at the first use, which takes longer
    than all that is measured here."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with mmap.mmap(-1, min(size, free * 3 // 4)) as memory:
        for offset in range(0, len(memory), mmap.PAGESIZE):
            memory[offset] = 1


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of processors, for this process and its children that ended."""
    os.sync()  # what was written before is not for this run to write out
    start, before = time.perf_counter(), os.times()
    run()
    return time.perf_counter() - start, sum(os.times()[:4]) - sum(before[:4])


Seconds = dict[str, list[tuple[tuple[float, float], tuple[float, float]]]]


def measure(server: FtpServer, given: argparse.Namespace, scratch: Path) -> Seconds:
    """Seconds of portside and rclone by task, one pair a round."""
    only = set(given.only.split(","))
    _prepare(
        server,
        given.size if "big" in only else 1,
        given.files if "small" in only else 1,
        given.tree if "tree" in only else 1,
    )
    config = _rclone_config(server, scratch / "rclone.conf")
    found: Seconds = {}

    async def with_remote(task: Callable[[Remote], Awaitable[object]]) -> None:
        remote = open_remote("ftp", server.options | {"concurrency": str(CONNECTIONS + 1)}, "")
        await task(remote)
        await remote.aclose()

    def pair(name: str, first: bool, ours: Callable[[Remote], Awaitable[object]], theirs: list[str]) -> None:
        both = [lambda: trio.run(with_remote, ours), lambda: rclone(server, config, *theirs)]
        took = [_timed(one) for one in (both if first else both[::-1])]
        found.setdefault(name, []).append((took[0], took[1]) if first else (took[1], took[0]))

    for number in range(given.rounds):
        first = number % 2 == 0
        for kind, label in (("big", f"{given.size} MiB file"), ("small", f"{given.files} files of 4 KiB")):
            if kind not in only:
                continue
            mine, others = scratch / f"mine-{kind}-{number}", scratch / f"others-{kind}-{number}"
            for folder in (mine, others, server.root / mine.name, server.root / others.name):
                folder.mkdir()  # rclone starts over if the folder that it uploads to is missing
                shutil.chown(folder, ACCOUNT, ACCOUNT)
            pair(f"{label}, down", first, lambda r, k=kind, t=mine: download(r, k, t),  # type: ignore[misc]
                 ["copy", f"srv:{kind}", str(others)])  # fmt: skip
            pair(f"{label}, up", first,
                 lambda r, k=kind, t=mine, n=number: upload(r, t, f"mine-{k}-{n}"),  # type: ignore[misc]
                 ["copy", str(others), f"srv:others-{kind}-{number}"])  # fmt: skip
            same = sorted(p.name for p in mine.iterdir()) == sorted(p.name for p in others.iterdir())
            assert same, "the two did different work"
            shutil.rmtree(mine)
            shutil.rmtree(others)
            for folder in server.root.glob(f"*-{kind}-{number}"):
                shutil.rmtree(folder)
        if "tree" in only:
            pair(f"a tree of {given.tree} files, listed", first, count, ["lsf", "-R", "srv:tree"])
    return found


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=STARTERS, default="vsftpd")
    parser.add_argument("--tls", choices=[tls.value for tls in Tls], default="none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="big,small,tree")
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--tree", type=int, default=20000)
    given = parser.parse_args()
    if "big" in given.only:
        _touch_memory(5 * given.size * MIB)
    prepare_machine()  # as in a mount and a server
    with STARTERS[given.server](tls=Tls(given.tls)) as server:
        scratch = server.root.parent / "scratch"
        scratch.mkdir()
        found = measure(server, given, scratch)
    print(f"{given.server}, TLS {given.tls}, medians of {given.rounds}, load {os.getloadavg()[0]:.1f}")
    for name, pairs in found.items():
        wall = [statistics.median(side[0] for side in both) for both in zip(*pairs, strict=True)]
        cpu = [statistics.median(side[1] for side in both) for both in zip(*pairs, strict=True)]
        print(
            f"{name:32} portside {wall[0]:6.2f} s, CPU {cpu[0]:5.2f}   rclone {wall[1]:6.2f} s, CPU {cpu[1]:5.2f}   "
            f"ratio {wall[1] / wall[0]:5.2f}, CPU {cpu[1] / cpu[0]:5.2f}"
        )


if __name__ == "__main__":
    main()

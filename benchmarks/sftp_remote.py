"""portside's SFTP remote beside rclone's, against the same OpenSSH server, in one run.

``python -m benchmarks.sftp_remote [--rounds 3] [--size 512] [--files 2000] [--option sync=false …]``

Each round runs both, one after the other, on fresh copies; the table shows medians and their ratio (over 1:
portside is faster). rclone runs as its own process and pays its start (about 0.1 s), as its users do; both copy as
many files at once. portside asks the server to sync each upload to its disk, which rclone does not; ``--option
sync=false`` compares without. rclone is told not to compare hashes: it would run a program on the server for each file,
which takes it thirty times as long.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from mountcore.remotes.protocol import Kind, Remote
from mountcore.remotes.registry import open_remote
from tests.servers.process import find_program
from tests.servers.ssh import SshServer, sshd

from .ftp_remote import MIB, download, upload

TRANSFERS = 4
Seconds = dict[str, list[tuple[float, float]]]


async def count(remote: Remote) -> int:
    """All entries of a deep tree, a few directories at once."""
    total, level = 0, ["tree"]

    async def work(waiting: list[str], below: list[str]) -> None:
        nonlocal total
        while waiting:
            directory = waiting.pop()
            async for entry in remote.list(directory):
                total += 1
                if entry.kind is Kind.DIRECTORY:
                    below.append(f"{directory}/{entry.name}")

    while level:
        waiting, level = level, []
        async with trio.open_nursery() as nursery:
            for _ in range(TRANSFERS):
                nursery.start_soon(work, waiting, level)
    return total


def rclone(config: Path, *arguments: str) -> None:
    """Run rclone with a remote called ``srv``."""
    subprocess.run(
        [find_program("rclone"), "--config", str(config), f"--transfers={TRANSFERS}", f"--checkers={TRANSFERS}",
         "--ignore-times", *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _rclone_config(server: SshServer, path: Path) -> Path:
    options = server.options
    lines = ["[srv]", "type = sftp"]
    lines += [f"{name} = {options[name]}" for name in ("host", "port", "user", "key_file", "known_hosts_file")]
    path.write_text("\n".join([*lines, "disable_hashcheck = true"]) + "\n")
    return path


def _prepare(root: Path, size: int, files: int) -> None:
    (root / "big").mkdir()
    with (root / "big/file").open("wb") as sink:
        block = os.urandom(MIB)
        for _ in range(size):
            sink.write(block)
    (root / "small").mkdir()
    for number in range(files):
        (root / f"small/file{number}").write_bytes(os.urandom(4096))
    for a in range(6):
        for b in range(6):
            folder = root / f"tree/{a}/{b}"
            folder.mkdir(parents=True)
            for c in range(100):
                (folder / f"f{c}").write_bytes(b"x")


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(server: SshServer, options: dict[str, str], rounds: int, size: int, files: int, scratch: Path) -> Seconds:
    """Seconds of portside and rclone by task, one pair a round."""
    _prepare(server.root, size, files)
    config = _rclone_config(server, scratch / "rclone.conf")
    found: Seconds = {}

    async def with_remote(task: Callable[[Remote], Awaitable[object]]) -> None:
        remote = open_remote("sftp", server.options | options, str(server.root))
        await task(remote)
        await remote.aclose()

    def pair(name: str, ours: Callable[[Remote], Awaitable[object]], theirs: list[str], turn: int) -> None:
        runs = [lambda: trio.run(with_remote, ours), lambda: rclone(config, *theirs)]
        first = _timed(runs[turn % 2])
        second = _timed(runs[1 - turn % 2])
        found.setdefault(name, []).append((first, second) if turn % 2 == 0 else (second, first))

    for number in range(rounds):
        for kind, label in (("big", f"{size} MiB file"), ("small", f"{files} files of 4 KiB")):
            mine, others = scratch / f"mine-{kind}-{number}", scratch / f"others-{kind}-{number}"
            for folder in (mine, others, server.root / mine.name, server.root / others.name):
                folder.mkdir()
            pair(f"{label}, down", lambda r, k=kind, t=mine: download(r, k, t),  # type: ignore[misc]
                 ["copy", f"srv:{server.root}/{kind}", str(others)], number)  # fmt: skip
            pair(f"{label}, up", lambda r, k=kind, t=mine, n=number: upload(r, t, f"mine-{k}-{n}"),  # type: ignore[misc]
                 ["copy", str(others), f"srv:{server.root}/others-{kind}-{number}"], number)  # fmt: skip
            same = sorted(p.name for p in mine.iterdir()) == sorted(p.name for p in others.iterdir())
            assert same, "the two did different work"
            shutil.rmtree(mine)
            shutil.rmtree(others)
            for folder in server.root.glob(f"*-{kind}-{number}"):
                shutil.rmtree(folder)
        pair("listing 3642 entries in 43 folders", count, ["lsf", "-R", f"srv:{server.root}/tree"], number)
    return found


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="MiB")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE for portside's remote")
    given = parser.parse_args()
    options = dict(pair.split("=", 1) for pair in given.option)
    with sshd() as server:
        scratch = server.scratch / "scratch"
        scratch.mkdir()
        found = measure(server, options, given.rounds, given.size, given.files, scratch)
    print(f"OpenSSH, {options or 'defaults'}, medians of {given.rounds}, load {os.getloadavg()[0]:.1f}")
    for name, pairs in found.items():
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"{name:36} portside {ours:7.2f} s   rclone {theirs:7.2f} s   ratio {theirs / ours:5.2f}")


if __name__ == "__main__":
    main()

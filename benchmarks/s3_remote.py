"""portside's mount of an S3 bucket beside rclone's, against the same server on loopback (``rclone serve s3``).

``python -m benchmarks.s3_remote [--rounds 3] [--size 1024] [--files 2000] [--entries 10000] [--only WORDS]``

Every round measures both, in an order that alternates, each with a fresh mount and an empty cache, both with
``--vfs-cache-mode full``. Printed: medians, the median of the rounds' ratios (over 1: portside is faster, or uses
less), processor seconds and peak memory of the mounting process. Needs root, to mount. The server's own work
is on the same machine and slows both alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.servers.objects import KEY, SECRET, rclone_s3
from tests.servers.process import find_program

MIB = 1 << 20
PATIENCE = 30.0


@dataclass(frozen=True)
class Cost:
    """Of one measurement."""

    seconds: float
    cpu: float
    peak: float


class Mount:
    """One of the two, mounted on a folder of its own with an empty cache."""

    def __init__(self, name: str, url: str, bucket: str, scratch: Path) -> None:
        self.name = name
        self.place, self.cache = scratch / f"{name}-mnt", scratch / f"{name}-cache"
        remote = f":s3,provider=Other,endpoint='{url}',access_key_id={KEY},secret_access_key='{SECRET}':{bucket}"
        options = ["--vfs-cache-mode", "full", "--vfs-write-back", "0", "--cache-dir", str(self.cache)]
        if name == "portside":
            self.command = [sys.executable, "-m", "mountcore.cli", "mount", remote, str(self.place), *options]
        else:
            self.command = [find_program("rclone"), "--config", "/nowhere/none.conf", "mount", remote, str(self.place)]
            self.command += options

    def measure(self, run: Callable[[Path], None], stored: Callable[[], bool]) -> Cost:
        """Mount, run until all of it is ``stored``, and take it down."""
        shutil.rmtree(self.cache, ignore_errors=True)
        self.place.mkdir(exist_ok=True)
        before = os.stat(self.place).st_dev
        process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            began = time.perf_counter()
            while os.stat(self.place).st_dev == before:
                if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                    raise SystemExit(f"{self.name} does not mount")
                time.sleep(0.01)
            cpu, began = _cpu(process.pid), time.perf_counter()
            run(self.place)
            while not stored():
                time.sleep(0.01)
            return Cost(time.perf_counter() - began, _cpu(process.pid) - cpu, _peak(process.pid))
        finally:
            subprocess.run(["umount", "-l", self.place], check=False, stderr=subprocess.DEVNULL)
            process.send_signal(signal.SIGKILL)
            process.wait()


def _size(path: Path) -> int:
    """Of a file at the server; it appears there whole."""
    return path.stat().st_size if path.exists() else -1


def _count(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.exists() else 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def read_all(path: Path) -> None:
    """In order, as ``dd`` does."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def write_all(path: Path, size: int) -> None:
    """One file; uploaded when it is closed."""
    block = os.urandom(MIB)
    with path.open("wb", buffering=0) as file:
        for _ in range(size):
            file.write(block)


def read_small(folder: Path) -> None:
    """Every file, eight at once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: path.read_bytes(), sorted(folder.iterdir())))


def write_small(folder: Path, count: int) -> None:
    """As many files, eight at once; each is uploaded when it is closed."""
    folder.mkdir(exist_ok=True)
    content = os.urandom(4096)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (folder / f"f{number}").write_bytes(content), range(count)))


def list_long(folder: Path) -> None:
    """``ls -l``"""
    subprocess.run(["ls", "-l", folder], check=True, stdout=subprocess.DEVNULL)


def prepare(folder: Path, size: int, files: int, entries: int) -> None:
    """What is read, put into the bucket's folder directly."""
    folder.mkdir(parents=True)
    write_all(folder / "big", size)
    for name, count, length in (("small", files, 10_000), ("many", entries, 10)):
        (folder / name).mkdir()
        content = os.urandom(length)
        for number in range(count):
            (folder / name / f"f{number}").write_bytes(content)


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--only", default="", help="tasks whose names have this in them")
    given = parser.parse_args()
    with rclone_s3() as server, tempfile.TemporaryDirectory(prefix="portside-s3-") as scratch:
        bucket = "bench"
        folder = server.files / bucket
        prepare(folder, given.size, given.files, given.entries)
        mounts = [Mount(name, server.url, bucket, Path(scratch)) for name in ("portside", "rclone")]
        tasks: dict[str, Callable[[Path], None]] = {
            f"read {given.size} MiB, cold": lambda place: read_all(place / "big"),
            f"write {given.size} MiB": lambda place: write_all(place / "new", given.size),
            f"read {given.files} files of 10 KB": lambda place: read_small(place / "small"),
            f"write {given.files} files of 4 KiB": lambda place: write_small(place / "made", given.files),
            f"ls -l of {given.entries} files": lambda place: list_long(place / "many"),
        }
        done: dict[str, Callable[[], bool]] = {
            f"write {given.size} MiB": lambda: _size(folder / "new") == given.size * MIB,
            f"write {given.files} files of 4 KiB": lambda: _count(folder / "made") == given.files,
        }
        print(f"load {os.getloadavg()[0]:.1f}; seconds, CPU seconds, peak MiB; ratios over 1: portside is better")
        for task, run in tasks.items():
            if given.only not in task:
                continue
            found: dict[str, list[Cost]] = {mount.name: [] for mount in mounts}
            for number in range(given.rounds):
                for mount in mounts if number % 2 == 0 else reversed(mounts):
                    found[mount.name].append(mount.measure(run, done.get(task, lambda: True)))
                    shutil.rmtree(folder / "made", ignore_errors=True)
                    (folder / "new").unlink(missing_ok=True)
            ours, theirs = found["portside"], found["rclone"]
            print(f"{task:32}{_row(ours)}   rclone{_row(theirs)}   ratios {_ratios(ours, theirs)}", flush=True)


def _row(costs: list[Cost]) -> str:
    seconds, cpu, peak = (statistics.median(getattr(c, n) for c in costs) for n in ("seconds", "cpu", "peak"))
    return f"{seconds:8.2f} s {cpu:6.2f} s {peak:5.0f}"


def _ratios(ours: list[Cost], theirs: list[Cost]) -> str:
    def ratio(name: str) -> float:
        pairs = zip(ours, theirs, strict=True)
        return statistics.median(getattr(b, name) / max(getattr(a, name), 0.01) for a, b in pairs)

    return f"time {ratio('seconds'):.2f}  CPU {ratio('cpu'):.2f}  memory {ratio('peak'):.2f}"


if __name__ == "__main__":
    main()

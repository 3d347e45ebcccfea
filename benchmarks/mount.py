"""portside beside ``rclone mount --vfs-cache-mode full`` and a plain directory, in one run.

    python -m benchmarks.mount [--quick] [--rounds N] [--scale 0.1] [--only WORDS] [--sessions pyfuse3,direct]

Needs root (to mount, and to drop the kernel's caches) and rclone. Every round measures every system, in an order
that rotates; what is printed is the median of each system, and the median of the rounds' ratios to rclone (above 1:
portside is faster; ``!`` where that is less than the goal). Storage is a local folder, for some rows an FTP server
(vsftpd) or an S3 server (``rclone serve s3``) on this machine. Uploads are put off on both sides, so that they are
not measured. The sessions are those of ``--fuse-session``; "passthrough" is direct with ``--passthrough``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import vsftpd
from tests.servers.process import find_program, free_port

MIB = 1 << 20
PATIENCE = 30.0
SESSIONS = {
    "pyfuse3": ["--fuse-session", "pyfuse3"],
    "direct": ["--fuse-session", "direct", "--passthrough", "off"],
    "passthrough": ["--fuse-session", "direct"],
}


@dataclass
class System:
    """One of those that are compared."""

    name: str
    place: Path
    """The mount point, or the plain directory."""
    command: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds until the mount answers."""
        if not self.command:
            return 0.0
        began = time.perf_counter()
        before = os.stat(self.place).st_dev
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while os.stat(self.place).st_dev == before:
            if self.process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise SystemExit(f"{self.name} does not mount: {' '.join(self.command)}")
            time.sleep(0.005)
        return time.perf_counter() - began

    def stop(self) -> None:
        """End without uploading."""
        if self.process is None:
            return
        subprocess.run(["umount", "-l", self.place], check=False, stderr=subprocess.DEVNULL)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def processor(self) -> float:
        """Milliseconds of processor time."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def resident(self, field: str = "VmRSS") -> float:
        """MiB of memory."""
        if self.process is None:
            return 0.0
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        return 0.0


@dataclass(frozen=True)
class Workload:
    """Something to measure: ``run`` answers a rate (more is better) or, for seconds and MiB, a cost."""

    name: str
    unit: str
    goal: float
    run: Callable[[System, int], float]
    prepare: Callable[[Path], None] | None = None
    fresh: bool = False
    """Mounted anew, with an empty cache, for each measurement."""
    storage: str = "local"

    @property
    def costs(self) -> bool:
        """Less is better."""
        return self.unit in ("s", "MiB", "ms")


class Bench:
    """The workloads, in sizes that fit."""

    def __init__(self, scale: float) -> None:
        self.big = max(8, int(256 * scale)) * MIB
        self.small_files = max(100, int(2000 * scale))
        self.random_reads = max(500, int(20_000 * scale))
        self.wide = 10_000
        self.entries = max(500, int(50_000 * scale))
        self.tree = max(200, int(5000 * scale))
        self.many = max(1000, int(100_000 * scale))

    def workloads(self) -> list[Workload]:
        """In the order of the table."""
        return [
            Workload("read again", "MiB/s", 8, self.read_again, self.make_big),
            Workload("first read of a cached file", "MiB/s", 2, self.read_dropped, self.make_big),
            Workload("random 4 KiB reads", "/s", 1.5, self.read_random, self.make_big),
            Workload("write 1 MiB", "MiB/s", 1.5, lambda s, r: self.write(s, r, MIB)),
            Workload("write 128 KiB", "MiB/s", 1.2, lambda s, r: self.write(s, r, 128 << 10)),
            Workload("write 4 KiB", "/s", 1.5, lambda s, r: self.write(s, r, 4096, self.big // 8) * 256),
            Workload("first ls -lR", "s", 5, self.list_first, self.make_entries, fresh=True),
            Workload("ls -lR again", "s", 10, self.list_again, self.make_entries, fresh=True),
            Workload("names that do not exist", "/s", 50, self.absent, self.make_wide),
            Workload("open, read, close small", "/s", 2, self.open_read_close, self.make_small),
            Workload("create, write 1 KiB, close", "/s", 1.5, self.create),
            Workload("unlink", "/s", 1, self.unlink),
            Workload("untar", "s", 1.3, self.untar),
            Workload("git status again", "s", 3, self.git_status),
            Workload("cold sequential read", "MiB/s", 1, self.cold_sequential, self.make_big, fresh=True),
            Workload("cold sequential read, FTP", "MiB/s", 1, self.cold_sequential, self.make_big, True, "ftp"),
            Workload("  processor", "ms", 1, self.cold_processor, self.make_big, True, "ftp"),
            Workload("  memory", "MiB", 1, self.cold_memory, self.make_big, True, "ftp"),
            Workload("cold sequential read, S3", "MiB/s", 1.4, self.cold_sequential, self.make_big, True, "s3"),
            Workload("  processor", "ms", 1, self.cold_processor, self.make_big, True, "s3"),
            Workload("  memory", "MiB", 1, self.cold_memory, self.make_big, True, "s3"),
            Workload("first byte of a cold random read", "ms", 1, self.cold_random, self.make_big, fresh=True),
            Workload("start to usable", "s", 1, self.start_up, fresh=True),
            Workload("memory, many entries known", "MiB", 1, self.memory, self.make_many, fresh=True),
        ]

    # what is there before

    def make_big(self, store: Path) -> None:
        if not (store / "big").exists():
            with (store / "big").open("wb") as file:
                for _ in range(self.big // MIB):
                    file.write(os.urandom(MIB))

    def make_small(self, store: Path) -> None:
        self._make_files(store / "small", self.small_files, b"x" * 4096)

    def make_entries(self, store: Path) -> None:
        for number in range(0, self.entries, 100):
            self._make_files(store / "entries" / f"d{number:06}", 99, b"")

    def make_wide(self, store: Path) -> None:
        self._make_files(store / "wide", self.wide, b"")

    def make_many(self, store: Path) -> None:
        for number in range(0, self.many, 1000):
            self._make_files(store / "many" / f"d{number:06}", 999, b"")

    def _make_files(self, directory: Path, count: int, content: bytes) -> None:
        if directory.exists():
            return
        directory.mkdir(parents=True)
        for number in range(count):
            (directory / f"file{number:05}").write_bytes(content)

    # data

    def read_again(self, system: System, turn: int) -> float:
        self._read(system.place / "big", MIB)
        return self._read(system.place / "big", MIB)

    def read_dropped(self, system: System, turn: int) -> float:
        self._read(system.place / "big", MIB)
        _drop(system.place / "big")
        return self._read(system.place / "big", 128 << 10)

    def cold_sequential(self, system: System, turn: int) -> float:
        return self._read(system.place / "big", 128 << 10)

    def cold_processor(self, system: System, turn: int) -> float:
        before = system.processor()
        self._read(system.place / "big", 128 << 10)
        return system.processor() - before

    def cold_memory(self, system: System, turn: int) -> float:
        self._read(system.place / "big", 128 << 10)
        return system.resident("VmHWM")

    def _read(self, path: Path, block: int) -> float:
        buffer = bytearray(block)
        began = time.perf_counter()
        file = os.open(path, os.O_RDONLY)
        while os.readv(file, (buffer,)):
            pass
        os.close(file)
        return self.big / MIB / (time.perf_counter() - began)

    def read_random(self, system: System, turn: int) -> float:
        self._read(system.place / "big", MIB)
        _drop(system.place / "big")
        places = random.Random(turn).sample(range(self.big // 4096), min(self.random_reads, self.big // 4096))
        file = os.open(system.place / "big", os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        began = time.perf_counter()
        for place in places:
            os.pread(file, 4096, place * 4096)
        took = time.perf_counter() - began
        os.close(file)
        return len(places) / took

    def cold_random(self, system: System, turn: int) -> float:
        file = os.open(system.place / "big", os.O_RDONLY)
        place = random.Random(turn).randrange(self.big - 4096)
        began = time.perf_counter()
        os.pread(file, 4096, place)
        took = time.perf_counter() - began
        os.close(file)
        return took * 1000

    def write(self, system: System, turn: int, block: int, size: int = 0) -> float:
        size = size or self.big
        data, path = os.urandom(block), system.place / f"written{block}"
        began = time.perf_counter()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for _ in range(size // block):
            os.write(file, data)
        os.close(file)
        took = time.perf_counter() - began
        os.unlink(path)
        return size / MIB / took

    # names

    def list_first(self, system: System, turn: int) -> float:
        return _timed(lambda: _run("ls", "-lR", system.place / "entries"))

    def list_again(self, system: System, turn: int) -> float:
        _run("ls", "-lR", system.place / "entries")
        time.sleep(1.1)  # rclone's default attribute timeout is a second
        return _timed(lambda: _run("ls", "-lR", system.place / "entries"))

    def absent(self, system: System, turn: int) -> float:
        directory = system.place / "wide"
        os.listdir(directory)
        names = [f"{directory}/absent{number % 500}" for number in range(5000)]

        def look() -> None:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.stat(name)

        return len(names) / _timed(look)

    def open_read_close(self, system: System, turn: int) -> float:
        paths = [str(path) for path in sorted((system.place / "small").iterdir())]

        def read() -> None:
            for path in paths:
                file = os.open(path, os.O_RDONLY)
                os.read(file, 4096)
                os.close(file)

        read()
        return len(paths) / _timed(read)

    def create(self, system: System, turn: int) -> float:
        directory = system.place / f"created{turn}"
        directory.mkdir()
        data = b"x" * 1024

        def make() -> None:
            for number in range(self.small_files):
                file = os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(file, data)
                os.close(file)

        return self.small_files / _timed(make)

    def unlink(self, system: System, turn: int) -> float:
        directory = system.place / f"created{turn}"
        if not directory.exists():
            self.create(system, turn)
        paths = [str(path) for path in directory.iterdir()]

        def remove() -> None:
            for path in paths:
                os.unlink(path)

        return len(paths) / _timed(remove)

    def untar(self, system: System, turn: int) -> float:
        archive = Path(tempfile.gettempdir()) / f"portside-bench-{os.getpid()}.tar"
        if not archive.exists():
            with tempfile.TemporaryDirectory() as place:
                for number in range(0, self.tree, 50):
                    self._make_files(Path(place) / "tree" / f"d{number}", 50, os.urandom(2000))
                with tarfile.open(archive, "w") as tar:
                    tar.add(f"{place}/tree", "tree")
        target = system.place / f"untarred{turn}"
        target.mkdir()
        return _timed(lambda: _run("tar", "-xf", archive, "-C", target))

    def git_status(self, system: System, turn: int) -> float:
        work = system.place / "repository"
        if not work.exists():
            work.mkdir()
            for number in range(0, self.tree, 50):
                self._make_files(work / f"d{number}", 50, b"content\n")
            _run("git", "-C", work, "-c", "init.defaultBranch=main", "init", "-q")
            _run("git", "-C", work, "-c", "gc.auto=0", "add", "-A")
        _run("git", "-C", work, "status", "--short")
        time.sleep(1.1)
        return _timed(lambda: _run("git", "-C", work, "status", "--short"))

    # the process

    def start_up(self, system: System, turn: int) -> float:
        system.stop()
        return system.start()

    def memory(self, system: System, turn: int) -> float:
        _run("ls", "-lR", system.place / "many")
        return system.resident()


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def _drop(path: Path) -> None:
    """Have the kernel forget what it holds of one file."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


@contextlib.contextmanager
def served(top: Path, kind: str) -> Iterator[tuple[Path, list[str]]]:
    """A server on this machine: the folder behind it, and how both programs name it."""
    config = top / "servers.conf"
    if kind == "ftp":
        with vsftpd() as server:
            hidden = subprocess.run(
                [find_program("rclone"), "obscure", "-"],
                input=server.password.encode(),
                capture_output=True,
                check=True,
            ).stdout.decode()
            config.write_text(
                f"[srv]\ntype = ftp\nhost = {server.host}\nport = {server.port}\nuser = {server.user}\npass = {hidden}"
            )
            yield server.root, ["srv:", "--config", str(config)]
        return
    folder, port = top / "buckets", free_port()
    (folder / "bucket").mkdir(parents=True)
    command = [
        find_program("rclone"),
        "serve",
        "s3",
        str(folder),
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        "benchmark,secret",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        config.write_text(
            f"[srv]\ntype = s3\nprovider = Rclone\nendpoint = http://127.0.0.1:{port}\naccess_key_id = benchmark\n"
            "secret_access_key = secret\nforce_path_style = true\n"
        )
        time.sleep(1)
        yield folder / "bucket", ["srv:bucket", "--config", str(config)]
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def systems(top: Path, sessions: list[str], remote: list[str] | None = None) -> Iterator[list[System]]:
    """All of them, not started; stopped at the end. ``remote`` is what they mount, a folder for each if not given."""
    rclone = shutil.which("rclone") or str(Path(sys.executable).with_name("rclone"))
    found = [System("local", top / "store-local")]
    (top / "store-local").mkdir()
    for name in ("rclone", *sessions):
        place, store, cache = top / f"mnt-{name}", top / f"store-{name}", top / f"cache-{name}"
        place.mkdir()
        store.mkdir()
        common = ["--vfs-cache-mode", "full", "--vfs-write-back", "1h", "--cache-dir", str(cache)]
        words = remote or [str(store), "--config", "/dev/null"]
        words = [words[0], str(place), *words[1:], *common]
        if name == "rclone":
            command = [rclone, "mount", *words]
        else:
            command = [sys.executable, "-m", "mountcore.cli", "mount", *words]
            command += SESSIONS[name]
        found.append(System(name, place, command))
    try:
        yield found
    finally:
        for system in found:
            system.stop()


def measure(top: Path, bench: Bench, rounds: int, only: str, sessions: list[str]) -> None:
    """Measure and print, row by row."""
    names = ["rclone", *sessions]
    print(
        f"{'':34}{'':>7}{'local':>10}{'rclone':>10}"
        + "".join(f"{s[:10]:>11}{'ratio':>7}" for s in sessions)
        + "   goal"
    )
    for workload in bench.workloads():
        if only and only not in workload.name:
            continue
        with contextlib.ExitStack() as stack:
            area = Path(tempfile.mkdtemp(dir=top))
            stack.callback(shutil.rmtree, area, ignore_errors=True)
            remote = None
            if workload.storage != "local":
                folder, remote = stack.enter_context(served(area, workload.storage))
                if workload.prepare is not None:
                    workload.prepare(folder)
            compared = stack.enter_context(systems(area, sessions, remote))
            results = _rounds(workload, compared, rounds)
        medians = {name: statistics.median(values) for name, values in results.items() if values}
        line = (
            f"{workload.name:34}{workload.unit:>7}{_number(medians.get('local')):>10}{_number(medians['rclone']):>10}"
        )
        for name in names[1:]:
            pairs = zip(results[name], results["rclone"], strict=True)
            ratio = statistics.median(theirs / ours if workload.costs else ours / theirs for ours, theirs in pairs)
            line += f"{_number(medians[name]):>11}{ratio:>6.1f}{'x' if ratio >= workload.goal else '!'}"
        print(f"{line}   {workload.goal:g}x", flush=True)


def _rounds(workload: Workload, compared: list[System], rounds: int) -> dict[str, list[float]]:
    results: dict[str, list[float]] = {system.name: [] for system in compared}
    for system in compared:
        if workload.prepare is not None and workload.storage == "local":
            store = system.place if not system.command else system.place.with_name(f"store-{system.name}")
            workload.prepare(store)
        if not workload.fresh:
            system.start()
    for turn in range(rounds):
        for system in compared[turn % len(compared) :] + compared[: turn % len(compared)]:
            if workload.fresh:
                if not system.command:
                    continue
                shutil.rmtree(system.place.with_name(f"cache-{system.name}"), ignore_errors=True)
                system.start()
            results[system.name].append(workload.run(system, turn))
            if workload.fresh:
                system.stop()
    return results


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Print a table; nothing is asserted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="size of everything")
    parser.add_argument("--only", default="", help="workloads whose names contain this")
    parser.add_argument("--sessions", default=",".join(SESSIONS))
    parser.add_argument(
        "--place", type=Path, help="where storage, caches and mounts go; default: a temporary directory"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of a tenth")
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled, as what is installed
    if args.quick:
        args.rounds, args.scale = 3, 0.1
    with tempfile.TemporaryDirectory(prefix="portside-bench-", dir=args.place) as top:
        measure(Path(top), Bench(args.scale), args.rounds, args.only, args.sessions.split(","))
    (Path(tempfile.gettempdir()) / f"portside-bench-{os.getpid()}.tar").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

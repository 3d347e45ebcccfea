"""Our FTP server beside ``rclone serve ftp``, vsftpd and bare pyftpdlib: the same files, clients and machine.

Run from the checkout, with the test extra installed::

    python -m benchmarks.ftp_server --quick        # a minute or two
    python -m benchmarks.ftp_server                # some minutes
    python -m benchmarks.ftp_server --whole        # 1 GiB, 5,000 files, 10,000 entries, 1,000 idle sessions

Rounds are interleaved (every server once, then again), and what is compared are the medians of the rounds' ratios,
since what else the machine does changes by the minute. "cached" means that the file was read once before: with ours
and rclone from the cache, with the others from the page cache. Ours answers an upload when it is synced to the disk,
the others before; "unsynced" is ours with ``--ftp-upload-ack memory``, which promises no more than they do.
Uploads to the storage behind are put off, with ours and with rclone: those of one would be measured with another.
"""

from __future__ import annotations

import argparse
import contextlib
import ftplib
import os
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import FtpServer, Tls, free_port, make_certificate, pyftpdlib, rclone, vsftpd
from tests.servers.ftp import PASSWORD, USER
from tests.servers.process import ServerProcess

RCLONE = ("--vfs-cache-mode", "full", "--vfs-write-back", "1h", "--dir-cache-time", "5m")
UNSYNCED = "unsynced"
"""Ours, told to answer an upload as the others do: before it is on the disk."""
LFTP = "set net:timeout 30; set net:max-retries 1; set ftp:use-mode-z no; set mirror:use-pget-n 1; "


@contextlib.contextmanager
def portside(*more: str, tls: Tls = Tls.NONE) -> Iterator[FtpServer]:
    """Ours, serving a local folder as the others do, with ``more`` options."""
    with tempfile.TemporaryDirectory(prefix="portside-bench-") as scratch_name:
        scratch = Path(scratch_name)
        root = scratch / "root"
        root.mkdir()
        port = free_port()
        certificate = make_certificate(scratch) if tls is not Tls.NONE else None
        command = [
            sys.executable, "-m", "mountcore.cli", "serve", "ftp", str(root), "--addr", f"127.0.0.1:{port}",
            "--cache-dir", str(scratch / "cache"), "--user", USER, "--max-connections", "2000",
            "--vfs-write-back", "1h", *more,
        ]  # fmt: skip
        if certificate is not None:
            command += ["--cert", str(certificate.certificate), "--key", str(certificate.key), "--tls", tls.value]
        os.environ["PORTSIDE_PASS"] = PASSWORD
        process = ServerProcess(command, port, scratch / "log", greets=tls is not Tls.IMPLICIT)
        process.start()
        try:
            yield FtpServer("portside", "127.0.0.1", port, USER, PASSWORD, root, tls, certificate, process)
        finally:
            process.stop()


def peers(tls: Tls) -> dict[str, Callable[[], contextlib.AbstractContextManager[FtpServer]]]:
    """Server names and how to start each; rclone knows implicit TLS only."""
    if tls is Tls.NONE:
        return {
            "portside": portside,
            UNSYNCED: lambda: portside("--ftp-upload-ack", "memory"),
            "rclone": lambda: rclone(arguments=RCLONE),
            "vsftpd": lambda: vsftpd(config={"max_clients": "0", "max_per_ip": "0"}),
            "pyftpdlib": pyftpdlib,
        }
    return {
        "portside": lambda: portside(tls=Tls.IMPLICIT),
        UNSYNCED: lambda: portside("--ftp-upload-ack", "memory", tls=Tls.IMPLICIT),
        "rclone": lambda: rclone(tls=Tls.IMPLICIT, arguments=RCLONE),
        "vsftpd": lambda: vsftpd(tls=Tls.IMPLICIT),
    }


@dataclass
class Sizes:
    """How much of everything."""

    big: int
    files: int
    entries: int
    idle: int
    rounds: int


def timed(action: Callable[[], object]) -> float:
    """Seconds. What the other servers left unwritten is on the disk before: who syncs would wait for it."""
    os.sync()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def connect(server: FtpServer) -> ftplib.FTP:
    client = ftplib.FTP(timeout=120, encoding="utf-8")
    client.connect(server.host, server.port)
    client.login(server.user, server.password)
    client.voidcmd("TYPE I")
    return client


def curl(server: FtpServer, *words: str, path: str = "") -> None:
    scheme = "ftps" if server.tls is Tls.IMPLICIT else "ftp"
    subprocess.run(
        ["curl", "-sS", "-k", "-u", f"{server.user}:{server.password}", *words,
         f"{scheme}://{server.host}:{server.port}/{path}"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def lftp(server: FtpServer, script: str) -> None:
    login = f"open -u '{server.user}','{server.password}' ftp://{server.host}:{server.port}; "
    subprocess.run(["lftp", "--norc", "-c", LFTP + login + script], check=True, stdout=subprocess.DEVNULL)


def memory(server: FtpServer) -> tuple[int, int]:
    """Resident bytes and descriptors of the server with all its processes."""
    pids = [server.process.pid]
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        if children.exists():
            pids += [int(child) for child in children.read_text().split()]
    resident = descriptors = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        resident += sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return resident, descriptors


class Bench:
    """The measurements of one server; each method answers a number."""

    def __init__(self, server: FtpServer, sizes: Sizes, scratch: Path) -> None:
        self.server = server
        self.sizes = sizes
        self.scratch = scratch

    def retr(self) -> float:
        """MiB/s of a cached file."""
        return self.sizes.big / 2**20 / timed(lambda: curl(self.server, "-o", "/dev/null", path="big"))

    def stor(self) -> float:
        """MiB/s."""
        return self.sizes.big / 2**20 / timed(lambda: curl(self.server, "-T", str(self.scratch / "big"), path="big"))

    def get(self, parallel: int) -> float:
        """Files per second, lftp mirror."""
        target = self.scratch / "got"
        shutil.rmtree(target, ignore_errors=True)
        seconds = timed(lambda: lftp(self.server, f"mirror -P{parallel} small '{target}'"))
        assert len(list(target.iterdir())) == self.sizes.files
        return self.sizes.files / seconds

    def put(self, parallel: int) -> float:
        """Files per second, lftp mirror -R; each time into a new folder."""
        name = f"put-{time.monotonic_ns()}"
        source = self.scratch / "small"
        return self.sizes.files / timed(lambda: lftp(self.server, f"mirror -R -P{parallel} '{source}' {name}"))

    def listing(self, command: str) -> float:
        """Entries per second."""
        with connect(self.server) as client:
            lines: list[str] = []
            try:
                seconds = timed(lambda: client.retrlines(f"{command} many", lines.append))
            except ftplib.error_perm:  # vsftpd has no MLSD
                return float("nan")
        assert len([line for line in lines if "entry" in line]) == self.sizes.entries
        return self.sizes.entries / seconds

    def logins(self) -> float:
        """Logins per second, one after the other."""

        def work() -> None:
            for _ in range(100):
                connect(self.server).close()

        return 100 / timed(work)

    def idle(self) -> tuple[float, float]:
        """KiB and descriptors of each idle session."""
        before = memory(self.server)
        clients = []
        try:
            for _ in range(self.sizes.idle):
                clients.append(connect(self.server))
            after = memory(self.server)
        except ftplib.error_temp:  # bare pyftpdlib takes 512
            return float("nan"), float("nan")
        finally:
            for client in clients:
                client.close()
        return (after[0] - before[0]) / 1024 / self.sizes.idle, (after[1] - before[1]) / self.sizes.idle

    def at_once(self) -> float:
        """Seconds for 200 curls at once, each fetching a file."""

        def work() -> None:
            running = [
                subprocess.Popen(
                    ["curl", "-sS", "-u", f"{self.server.user}:{self.server.password}",
                     f"ftp://127.0.0.1:{self.server.port}/small/f{number % self.sizes.files}"],
                    stdout=subprocess.DEVNULL,
                )
                for number in range(200)
            ]  # fmt: skip
            codes = [process.wait() for process in running]
            assert not any(codes), codes

        return timed(work)


def prepare(server: FtpServer, sizes: Sizes, scratch: Path) -> None:
    """The same files in every server's folder, and everything read once."""
    shutil.copy(scratch / "big", server.root / "big")
    shutil.copytree(scratch / "small", server.root / "small")
    (server.root / "many").mkdir()
    for number in range(sizes.entries):
        (server.root / "many" / f"entry{number:06d}").touch()
    owner = server.root.stat()
    for path in [server.root / "big", *server.root.glob("*/**/*"), server.root / "small", server.root / "many"]:
        os.chown(path, owner.st_uid, owner.st_gid)
    if server.tls is Tls.NONE:
        Bench(server, sizes, scratch).get(4)
    curl(server, "-o", "/dev/null", path="big")


def measure(tls: Tls, sizes: Sizes, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """What was measured, by measurement and server."""
    results: dict[str, dict[str, list[float]]] = {}

    def note(what: str, name: str, value: float) -> None:
        results.setdefault(what, {}).setdefault(name, []).append(value)
        print(f"  {what:28} {name:10} {value:10.1f}", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        benches: dict[str, Bench] = {}
        for name, start in peers(tls).items():
            server = stack.enter_context(start())
            prepare(server, sizes, scratch)
            benches[name] = Bench(server, sizes, scratch)
        for _ in range(sizes.rounds):
            for name, bench in benches.items():
                note("RETR MiB/s", name, bench.retr())
                note("STOR MiB/s", name, bench.stor())
                if tls is Tls.NONE:
                    for parallel in (4, 1):
                        note(f"get -P{parallel} files/s", name, bench.get(parallel))
                        note(f"put -P{parallel} files/s", name, bench.put(parallel))
                    for command in ("LIST", "MLSD"):
                        note(f"{command} entries/s", name, bench.listing(command))
                    note("logins/s", name, bench.logins())
        if tls is Tls.NONE:
            for name, bench in benches.items():
                kib, descriptors = bench.idle()
                note("idle session, KiB", name, kib)
                note("idle session, descriptors", name, descriptors)
                note("200 sessions, seconds", name, bench.at_once())
    return results


@dataclass(frozen=True)
class Goal:
    """Ours in relation to a peer's, at least (or, where less is better, at most)."""

    what: str
    peer: str
    ratio: float
    at_most: bool = False


UPLOADS = ("STOR MiB/s", "put -P4 files/s", "put -P1 files/s")
PLAIN_GOALS = (
    Goal("RETR MiB/s", "rclone", 3.0), Goal("RETR MiB/s", "vsftpd", 0.8), Goal("STOR MiB/s", "rclone", 3.0),
    Goal("STOR MiB/s", "vsftpd", 0.8), Goal("get -P4 files/s", "rclone", 1.2), Goal("get -P1 files/s", "rclone", 5.0),
    Goal("put -P4 files/s", "rclone", 1.0), Goal("put -P1 files/s", "rclone", 1.0),
    Goal("idle session, KiB", "rclone", 1.0, at_most=True),
)  # fmt: skip
TLS_GOALS = (
    Goal("RETR MiB/s", "rclone", 1.0), Goal("RETR MiB/s", "vsftpd", 1.0), Goal("STOR MiB/s", "rclone", 1.0),
    Goal("STOR MiB/s", "vsftpd", 1.0),
)  # fmt: skip


def report(goals: tuple[Goal, ...], results: dict[str, dict[str, list[float]]]) -> None:
    """Each goal, met or not: the median of the rounds' ratios."""
    print(f"\n{'ours to theirs':28}{'':>10}{'goal':>8}{'median':>9}")
    for goal in goals:
        ratio = _ratio(results[goal.what], "portside", goal.peer)
        met = ratio <= goal.ratio if goal.at_most else ratio >= goal.ratio
        also = f", unsynced {_ratio(results[goal.what], UNSYNCED, goal.peer):.2f}" if goal.what in UPLOADS else ""
        print(f"{goal.what:28}{goal.peer:>10}{goal.ratio:8.1f}{ratio:9.2f}  {'met' if met else 'NOT MET'}{also}")


def _ratio(rounds: dict[str, list[float]], ours: str, theirs: str) -> float:
    return statistics.median(a / b if b else float("inf") for a, b in zip(rounds[ours], rounds[theirs], strict=True))


def table(title: str, results: dict[str, dict[str, list[float]]]) -> None:
    """Medians."""
    names = list(next(iter(results.values())))
    print(f"\n{title}\n{'':28}" + "".join(f"{name:>12}" for name in names))
    for what, by_name in results.items():
        print(f"{what:28}" + "".join(f"{statistics.median(by_name[n]):12.1f}" for n in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--whole", action="store_true", help="the sizes that the figures in the documents are for")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round: whether it works at all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-tls", action="store_true")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sizes = Sizes(1 << 30, 5000, 10_000, 1000, args.rounds) if args.whole else Sizes(
        256 << 20, 500, 10_000, 100, args.rounds
    )  # fmt: skip
    if args.quick:
        sizes = Sizes(32 << 20, 50, 1000, 20, 1)
    with tempfile.TemporaryDirectory(prefix="ftp-bench-") as name:
        scratch = Path(name)
        (scratch / "big").write_bytes(os.urandom(1 << 20) * (sizes.big >> 20))
        (scratch / "small").mkdir()
        for number in range(sizes.files):
            (scratch / "small" / f"f{number}").write_bytes(os.urandom(200 + number * 37 % 20_000))
        results = measure(Tls.NONE, sizes, scratch)
        table("plain", results)
        report(PLAIN_GOALS, results)
        if not args.no_tls:
            results = measure(Tls.IMPLICIT, sizes, scratch)
            table(f"TLS ({ssl.OPENSSL_VERSION})", results)
            report(TLS_GOALS, results)


if __name__ == "__main__":
    main()

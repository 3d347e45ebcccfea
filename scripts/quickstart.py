"""The main job, end to end, on real files; run by scripts/quickstart, which installs what it needs.

Every step is printed with what it proves, and every claim is checked against the storage's own folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

BIN = Path(sys.executable).parent
PASSWORD = "a pass word: with, 'odd' characters"  # noqa: S105 - of a server that lives for a minute on loopback
PATIENCE = 30.0


class Checks:
    """What was claimed and whether it held."""

    def __init__(self) -> None:
        self.held = 0
        self.failed: list[str] = []

    def that(self, holds: bool, claim: str) -> None:
        """Print a claim with a mark."""
        print(f"   {'✓' if holds else '✗ FAILED:'} {claim}", flush=True)
        if holds:
            self.held += 1
        else:
            self.failed.append(claim)

    def soon(self, test: Callable[[], bool], claim: str) -> None:
        """A claim that becomes true within PATIENCE seconds."""
        began = time.monotonic()
        while not test() and time.monotonic() - began < PATIENCE:
            time.sleep(0.05)
        self.that(test(), f"{claim} ({time.monotonic() - began:.1f} s)")


def step(text: str) -> None:
    """The headline of a step."""
    print(f"\n── {text}", flush=True)


def shell(command: str, cwd: Path, *, show: int = 4) -> str:
    """Run a command line as a person would, print its first lines, answer its output; it must succeed."""
    print(f"   $ {command}", flush=True)
    done = subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    for line in lines[:show]:
        print(f"     {line}")
    if len(lines) > show:
        print(f"     … {len(lines) - show} more lines")
    if done.returncode:
        raise SystemExit(f"quickstart: {command!r} failed with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its relative path, with its checksum."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def make_content(folder: Path) -> None:
    """A few MB of what people keep: text, a picture, a database, a nested tree, a large file."""
    dice = random.Random(7)  # noqa: S311 - the same files every time
    words = ["harbour", "quay", "crane", "barge", "tide", "lock", "anchor", "mast", "cargo", "bollard"]
    folder.mkdir()
    (folder / "letters").mkdir()
    for month in range(1, 13):
        lines = [" ".join(dice.choices(words, k=12)) for _ in range(200)]
        (folder / "letters" / f"letter {month:02}.txt").write_text("\n".join(lines) + "\n")
    (folder / "notes.txt").write_text("colour: grey\nship: Aurora\n")
    width, height = 640, 480
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, y * 255 // height, (x ^ y) & 255)) for x in range(width))
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / "harbour.png").write_bytes(picture)
    database = sqlite3.connect(folder / "ships.db")
    with database:
        database.execute("create table ship (name text, tons int)")
        database.executemany("insert into ship values (?, ?)", [(f"ship {n}", n * 37 % 9000) for n in range(2000)])
    database.close()
    deep = folder / "archive"
    for part in ("2023", "quarter 2", "Größe & Straße", "日本"):
        deep = deep / part
        deep.mkdir(parents=True)
        for number in range(5):
            (deep / f"item {number}.bin").write_bytes(dice.randbytes(2000 * number))
    (folder / "large.bin").write_bytes(dice.randbytes(4 << 20))


class Quickstart:
    """The whole job; `run` does it in order."""

    def __init__(self, home: Path, keep: bool) -> None:
        self.home = home
        self.keep = keep
        self.checks = Checks()
        self.storage, self.mount, self.work = home / "storage", home / "mnt", home / "work"
        self.portside = BIN / "portside"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports = {"storage": free_port(), "gateway": free_port()}
        self.environment = os.environ | {
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "RCLONE_CONFIG": str(home / "no-rclone.conf"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        os.environ.update(self.environment)

    def start(self, *argv: str | Path, log: str) -> subprocess.Popen[bytes]:
        """A process in the background, its output in a file of the work folder."""
        with (self.home / log).open("ab") as out:
            # in a session of its own: what is kept outlives this terminal
            process = subprocess.Popen(
                [str(a) for a in argv], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        """What a process has said so far."""
        return (self.home / name).read_text(errors="replace")

    def wait_for(self, process: subprocess.Popen[bytes], ready: Callable[[], bool], log: str) -> None:
        """Until a process that was started is ready; a process that ends first ends the run with what it said."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"quickstart: {process.args!r} did not start:\n{self.log(log)}")
            time.sleep(0.05)

    def run(self) -> None:
        """All steps."""
        self.make_storage()
        self.mount_and_work()
        self.unmount_waits()
        self.one_process_both_ways()

    def make_storage(self) -> None:
        step("A folder with real content, on a storage that only speaks FTP")
        make_content(self.storage)
        self.mount.mkdir()
        self.work.mkdir()
        files = tree(self.storage)
        size = sum((self.storage / name).stat().st_size for name in files)
        print(f"   {len(files)} files, {size / 1e6:.1f} MB in {self.storage}")
        port = self.ports["storage"]
        server = self.start(
            sys.executable, "-m", "pyftpdlib", "-i", "127.0.0.1", "-p", str(port), "-u", "harbour", "-P", PASSWORD,
            "-w", "-d", self.storage, log="storage.log",
        )  # fmt: skip

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.wait_for(server, answers, "storage.log")
        obscured = subprocess.run(
            [self.portside, "obscure"], input=PASSWORD, capture_output=True, text=True, check=True
        )
        config = self.home / "config" / "portside" / "portside.conf"
        config.parent.mkdir(parents=True)
        config.touch(0o600)
        config.write_text(
            f"[harbour]\ntype = ftp\nhost = 127.0.0.1\nport = {port}\nuser = harbour\npass = {obscured.stdout}"
        )
        self.checks.that(PASSWORD not in config.read_text(), "portside.conf has the password obscured")

    def mount_and_work(self) -> None:
        step("portside mount: the FTP server's files as a folder, ordinary tools on it")
        self.mounted = self.start(
            self.portside, "mount", "harbour:", self.mount, "--vfs-cache-mode", "full", "--vfs-write-back", "1s",
            "--dir-cache-time", "1m", log="mount.log",
        )  # fmt: skip
        print("   $ portside mount harbour: mnt --vfs-cache-mode full --vfs-write-back 1s")
        self.wait_for(self.mounted, self.mount.is_mount, "mount.log")
        check, mnt = self.checks, self.mount
        listing = shell("ls -lR mnt", self.home)
        check.that("item 4.bin" in listing and "日本" in listing, "ls -lR shows the whole tree")
        shell("df -h mnt", self.home)
        before = tree(self.storage)
        check.that(tree(mnt) == before, f"all {len(before)} files read through the mount have the storage's checksums")
        shell("sha256sum mnt/large.bin mnt/harbour.png", self.home)
        shell("cp -r mnt/archive work/ && diff -r work/archive storage/archive", self.home)
        check.that(True, "cp -r out of the mount: diff finds no difference")
        (self.work / "new").mkdir()
        (self.work / "new" / "report.txt").write_text("all well\n" * 1000)
        (self.work / "new" / "scan.bin").write_bytes(random.Random(8).randbytes(3_000_000))  # noqa: S311
        shell("cp -r work/new mnt/ && cat mnt/new/report.txt | wc -l", self.home)
        shell("sed -i s/Aurora/Borealis/ mnt/notes.txt && cat mnt/notes.txt", self.home)
        rows = shell(
            "sqlite3 mnt/ships.db \"insert into ship values ('Borealis', 4711); select count(*) from ship\"", self.home
        )
        check.that(rows.strip() == "2001", "sqlite3 inserts and selects in the mount")
        shell("mv 'mnt/letters/letter 01.txt' mnt/letters/january.txt && mv mnt/letters mnt/post", self.home)
        shell("rm 'mnt/post/letter 02.txt' && rm -r 'mnt/archive/2023/quarter 2/Größe & Straße/日本'", self.home)
        shell("echo one >> mnt/notes.txt && truncate -s 1000000 mnt/large.bin", self.home)
        check.that(
            (mnt / "notes.txt").read_text() == "colour: grey\nship: Borealis\none\n", "the mount shows its own changes"
        )
        wanted = tree(mnt)
        check.soon(
            lambda: tree(self.storage) == wanted, "after the write-back delay the storage is equal, byte for byte"
        )
        count = (
            sqlite3.connect(self.storage / "ships.db").execute("select tons from ship where name='Borealis'").fetchone()
        )
        check.that(count == (4711,), "the database in the storage's own folder has the new row")
        shell("portside status mnt", self.home, show=8)

    def unmount_waits(self) -> None:
        step("portside umount: waits for what is still to be uploaded")
        names = [f"late {number}.bin" for number in range(8)]
        for name in names:
            (self.mount / name).write_bytes(random.Random(name).randbytes(500_000))  # noqa: S311
        wanted = tree(self.mount)
        missing = [name for name in names if not (self.storage / name).exists()]
        print("   $ portside umount mnt")
        done = subprocess.run([self.portside, "umount", self.mount], capture_output=True, text=True, check=False)
        for line in done.stderr.splitlines():
            print(f"     {line}")
        self.checks.that(
            done.returncode == 0, f"it ended cleanly, with {len(missing)} of 8 files not uploaded when it began"
        )
        self.checks.that(tree(self.storage) == wanted, "when it returns, the storage has everything, byte for byte")
        self.checks.that(not self.mount.is_mount(), "nothing is mounted any more")
        self.checks.that(self.mounted.wait(PATIENCE) == 0, "the process that served the mount ended with exit code 0")

    def one_process_both_ways(self) -> None:
        step("portside gateway: a mount and an FTP server of the same remote, in one process, over one core")
        gateway_file = self.home / "gateway.toml"
        gateway_file.write_text(
            f"""[vfs]
vfs-cache-mode = "full"
vfs-write-back = "1h"      # so that nothing here can come from the storage

[[mount]]
remote = "harbour:"
mountpoint = "{self.mount}"

[[ftp]]
remote = "harbour:"
addr = "127.0.0.1:{self.ports["gateway"]}"
user = "guest"
pass = "quay side"
"""
        )
        gateway_file.chmod(0o600)
        netrc = self.home / "netrc"
        netrc.write_text('machine 127.0.0.1 login guest password "quay side"\n')
        netrc.chmod(0o600)
        shell("cat gateway.toml", self.home, show=15)
        print("   $ portside gateway gateway.toml")
        gateway = self.start(self.portside, "gateway", gateway_file, log="gateway.log")
        self.wait_for(gateway, lambda: self.log("gateway.log").count("portside: ") >= 2, "gateway.log")
        check, mnt = self.checks, self.mount
        curl = f"curl -sS --netrc-file netrc ftp://127.0.0.1:{self.ports['gateway']}"
        shell("seq 1 200000 > mnt/numbers.txt", self.home)
        check.that(
            not (self.storage / "numbers.txt").exists(), "a file written through the mount is not in the storage yet"
        )
        shell(f"{curl}/numbers.txt -o work/fetched.txt", self.home)
        check.that(
            sha256(self.work / "fetched.txt") == sha256(mnt / "numbers.txt"), "…and is fetched whole over FTP at once"
        )
        listing = shell(f"{curl}/post/", self.home)
        check.that("january.txt" in listing, "the FTP listing shows the tree")
        (self.work / "upload.bin").write_bytes(random.Random(9).randbytes(2_500_000))  # noqa: S311
        shell(f"{curl}/from%20ftp/upload.bin --ftp-create-dirs -T work/upload.bin", self.home)
        put = mnt / "from ftp" / "upload.bin"
        check.that(
            put.exists() and sha256(put) == sha256(self.work / "upload.bin"),
            "what is put over FTP is on the mount at once",
        )
        check.that(not (self.storage / "from ftp" / "upload.bin").exists(), "…before it is in the storage")
        shell("echo changed > mnt/notes.txt", self.home)
        check.that(
            shell(f"{curl}/notes.txt", self.home) == "changed\n",
            "a file changed on the mount is the changed one over FTP",
        )
        wanted = tree(mnt)
        if self.keep:
            self.say_how_to_play()
            return
        print(f"   $ kill -TERM {gateway.pid}")
        gateway.send_signal(signal.SIGTERM)
        code = gateway.wait(PATIENCE * 2)
        for line in self.log("gateway.log").splitlines()[2:][-4:]:
            print(f"     {line}")
        check.that(code == 0, "SIGTERM: it uploads what is left, unmounts and ends with exit code 0")
        check.that(not mnt.is_mount(), "nothing is mounted any more")
        check.that(tree(self.storage) == wanted, "the storage has everything, byte for byte")

    def say_how_to_play(self) -> None:
        port, gateway, storage = self.ports["gateway"], self.processes[-1].pid, self.processes[0].pid
        print(f"""
   Left running:
     the storage's own folder   {self.storage}
     the mount                  {self.mount}
     the FTP server             ftp://guest:quay%20side@127.0.0.1:{port}/
     what it says               {self.home}/gateway.log
   To end it, the storage last:
     kill {gateway} && tail --pid={gateway} -f /dev/null; kill {storage}; rm -r {self.home}""")

    def clean_up(self) -> None:
        """End what still runs, the storage last, and take the mount down."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if self.mount.is_mount():
            subprocess.run(["fusermount3", "-uz", self.mount], check=False)


def main() -> int:
    """Run it; the exit code says whether every check held."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave mount and FTP server running")
    keep = parser.parse_args().keep
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="portside-quickstart-"))
    job = Quickstart(home, keep)
    finished = False
    try:
        job.run()
        finished = True
    finally:
        if not (keep and finished):
            job.clean_up()
        if not finished or job.checks.failed:
            for log in sorted(home.glob("*.log")):
                print(f"\n{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:]))
            print(f"\neverything is kept in {home}")
        elif not keep:
            shutil.rmtree(home)
    checks = job.checks
    for claim in checks.failed:
        print(f"FAILED: {claim}")
    total = checks.held + len(checks.failed)
    verdict = "every check held" if not checks.failed else f"{len(checks.failed)} CHECKS FAILED"
    print(f"\nquickstart: {verdict}: {checks.held} of {total}, in {time.monotonic() - began:.0f} s")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())

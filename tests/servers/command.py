"""The command ``portside`` in processes of its own, with a home of its own, and an FTP server over a folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mountcore.control import mounted_type
from mountcore.remotes.obscure import obscure

from .process import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
PASSWORD = "s3cret, 'quoted': word"


def until(test: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll until true; fails with ``what`` after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not test():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.02)


class Running:
    """A portside process in the background."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def said(self) -> str:
        return self.log.read_text()

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def ended(self, patience: float = PATIENCE) -> int:
        return self.process.wait(patience)

    def wait_until_says(self, pattern: str) -> re.Match[str]:
        def seen() -> re.Match[str] | None:
            assert self.process.poll() is None or re.search(pattern, self.said()), self.said()
            return re.search(pattern, self.said())

        until(seen, f"{pattern!r} in {self.said()!r}")
        match = seen()
        assert match is not None
        return match


class Portside:
    """Runs the command with its own home, cache and configuration below one directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config" / "portside" / "portside.conf"
        self.config.parent.mkdir(parents=True)
        self.environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("PORTSIDE_", "RCLONE_", "XDG_"))
        } | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        self.running: list[Running] = []

    def configure(self, text: str) -> None:
        self.config.touch(0o600)
        self.config.write_text(text)

    def argv(self, *argv: object) -> list[str]:
        return [sys.executable, "-m", "mountcore.cli", *map(str, argv)]

    def run(
        self, *argv: object, stdin: str = "", prefix: tuple[str, ...] = (), patience: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, *self.argv(*argv)], input=stdin, capture_output=True, text=True, env=self.environ, check=False,
            timeout=patience, cwd=self.home,
        )  # fmt: skip

    def start(self, *argv: object, **environ: str) -> Running:
        log = self.home / f"log-{len(self.running)}.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.argv(*argv),
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
            )
        self.running.append(Running(process, log))
        return self.running[-1]

    def mount(self, remote: object, mountpoint: Path, *options: object) -> Running:
        mountpoint.mkdir(exist_ok=True)
        running = self.start("mount", remote, mountpoint, *options)
        running.wait_until_says(r"portside: mounted ")
        return running

    def refusal(self, *argv: object, prefix: tuple[str, ...] = (), code: int | None = None) -> str:
        """Run what must be refused: one line on standard error, an exit code, no traceback, nothing mounted."""
        before = self.mounts()
        done = self.run(*argv, prefix=prefix)
        assert done.returncode != 0, done.stderr
        if code is not None:
            assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert PASSWORD not in done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("portside: "), done.stderr
        assert not done.stdout
        assert self.mounts() == before
        return lines[0]

    def end_all(self) -> None:
        for running in self.running:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()
        for line in self.mounts():
            subprocess.run(["fusermount3", "-u", "-z", line.split()[4]], check=False, capture_output=True)

    def mounts(self) -> list[str]:
        """What is mounted below this home."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if f" {self.home}/" in line]


def is_mounted(point: Path) -> bool:
    return mounted_type(os.path.realpath(point.parent) + "/" + point.name) is not None


class FtpStorage:
    """A real FTP server (pyftpdlib's own command) over a folder; can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.password = PASSWORD

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyftpdlib", "-i", "127.0.0.1", "-p", str(self.port), "-u", "me", "-P",
             self.password, "-w", "-d", str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(answers, "the FTP server listens")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def end(self) -> None:
        """For good."""
        self.stop()

    def section(self, name: str, port: int | None = None, password: str | None = None) -> str:
        hidden = obscure(self.password if password is None else password)
        return (
            f"[{name}]\ntype = ftp\nhost = 127.0.0.1\nport = {port or self.port}\nuser = me\npass = {hidden}\n"
            "connect_timeout = 5s\n"
        )

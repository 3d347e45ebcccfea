"""Part 7, the auth proxy: whatever the program does, logins fail closed in time, and others go on."""

from __future__ import annotations

import contextlib
import ftplib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .ground import Ground
from .table import Row

GOOD = "good user", "the secret of the good user"
BAD_SECRET = "the secret of the bad user"
PROGRAM = """\
#!{python}
import json, os, sys, time
question = json.loads(sys.stdin.readline())
if question["user"] == "good user":
    print(json.dumps({{"type": "local", "_root": {root!r}}}))
    sys.exit()
{fault}
"""
FAULTS = {
    "hangs": "time.sleep(3600)",
    "floods its output": 'while True: sys.stdout.write("x" * 65536)',
    "floods its errors": 'while True: sys.stderr.write(question["pass"] * 1000)',
    "dies": "os.kill(os.getpid(), 9)",
    "says no, and why": 'sys.exit("no: " + question["pass"])',
    "prints no JSON": 'print("welcome")',
    "prints huge JSON": 'print(json.dumps({"type": "local", "_root": "/" * 50_000_000}))',
    "prints a list": "print(json.dumps([question]))",
    "prints wrong types": 'print(json.dumps({"type": ["local"], "_root": {"a": 1}}))',
    "prints extra keys": 'print(json.dumps({"type": "local", "_root": "/tmp", "rm": "-rf", "pass": question["pass"]}))',
    "names an unknown storage": 'print(json.dumps({"type": "floppy", "_root": ""}))',
    "takes its time": 'time.sleep(30); print(json.dumps({"type": "local", "_root": "/"}))',
}


def log_in(ground: Ground, user: str, password: str, timeout: float = 40.0) -> ftplib.FTP:
    session = ftplib.FTP(timeout=timeout)
    session.connect("127.0.0.1", ground.port)
    session.login(user, password)
    return session


def start(ground: Ground, row: Row, program: Path) -> None:
    ground.gateway = ground.command.start(
        "serve", "ftp", "--auth-proxy", program, "--addr", f"127.0.0.1:{ground.port}", "--auth-proxy-timeout", "3s",
        "--passive-port", "any", "--login-delay", "0s", "--ban-after", "0", "-vv",
    )  # fmt: skip
    ground.gateway.wait_until_says(rf"127\.0\.0\.1:{ground.port}")


def refused(ground: Ground, row: Row) -> None:
    """A login that must fail, in time."""

    def attempt() -> None:
        try:
            log_in(ground, "bad user", BAD_SECRET).close()
        except ftplib.error_perm as answer:
            if not str(answer).startswith("530"):
                row.fail(f"the login was answered with {answer}")
        except (ftplib.Error, OSError, EOFError) as answer:
            if not str(answer).startswith("421"):
                row.fail(f"the login was answered with {answer!r}")
        else:
            row.fail("the bad user was let in")

    row.within(15, "the bad login", attempt)


def works(ground: Ground, row: Row, worst: float) -> None:
    """The good user meanwhile."""

    def work() -> None:
        try:
            with contextlib.closing(log_in(ground, *GOOD)) as session:
                if session.nlst() != ["here"]:
                    row.fail("the good user sees something else")
        except (ftplib.Error, OSError, EOFError) as problem:
            row.fail(f"the good user: {problem!r}")

    row.within(worst, "the good user's work", work)


def misbehaving(fault: str) -> Callable[[Ground, Row], None]:
    """Several bad logins at once, and a good user who works all the while."""

    def scenario(ground: Ground, row: Row) -> None:
        root = ground.home / "root"
        root.mkdir()
        (root / "here").write_text("here")
        program = ground.home / "proxy.py"
        program.write_text(PROGRAM.format(python=sys.executable, root=str(root), fault=fault))
        program.chmod(0o755)
        start(ground, row, program)
        threads = [threading.Thread(target=refused, args=(ground, row)) for _ in range(ground.scaled(3, 20))]
        for thread in threads:
            thread.start()
            row.injected += 1
        while any(thread.is_alive() for thread in threads):
            works(ground, row, 8.0)
            time.sleep(0.1)
        works(ground, row, 8.0)
        ground.drain()
        if BAD_SECRET in ground.said() or GOOD[1] in ground.said():
            row.fail("a secret is in the log")

    return scenario


def not_there(ground: Ground, row: Row) -> None:
    """The program is deleted, or loses its right to run, while the server runs."""
    root = ground.home / "root"
    root.mkdir()
    (root / "here").write_text("here")
    program = ground.home / "proxy.py"
    program.write_text(PROGRAM.format(python=sys.executable, root=str(root), fault="sys.exit(1)"))
    program.chmod(0o755)
    start(ground, row, program)
    works(ground, row, 8.0)
    for change in (lambda: os.chmod(program, 0o644), program.unlink):
        change()
        row.injected += 1
        refused(ground, row)
        works(ground, row, 8.0)  # who was let in is remembered
    ground.drain()
    for words in ("/nonexistent/proxy", str(root / "here")):
        row.injected += 1
        row.checked += 1
        done = ground.command.run("serve", "ftp", "--auth-proxy", words, "--addr", f"127.0.0.1:{ground.port}")
        if done.returncode == 0 or "Traceback" in done.stderr or words not in done.stderr:
            row.fail(f"a program that cannot run is taken: {done.stderr}")


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    short = ("hangs", "floods its output", "prints huge JSON", "prints wrong types")
    chosen = FAULTS if long else {name: FAULTS[name] for name in short}
    return {f"the auth proxy {name}": misbehaving(fault) for name, fault in chosen.items()} | {
        "the auth proxy is not there": not_there
    }

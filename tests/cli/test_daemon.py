"""``--daemon`` and where the log goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import FtpStorage, Portside, free_port, is_mounted, until


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "portside.log"


def pid_of(portside: Portside, mountpoint: Path) -> int:
    return int(json.loads(portside.run("status", "--json", mountpoint).stdout)["pid"])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_returns_when_the_mount_answers(portside: Portside, mountpoint: Path, tmp_path: Path, log: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a\n")
    done = portside.run("mount", "./files", "mnt", "--daemon", "--log-file", "portside.log")
    assert done.returncode == 0, done.stderr
    assert (mountpoint / "a").read_text() == "a\n"
    pid = pid_of(portside, mountpoint)
    assert os.getsid(pid) == pid, "it has no terminal"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    assert "mounted" in log.read_text()
    (mountpoint / "late").write_text("late\n")
    os.kill(pid, signal.SIGTERM)
    until(lambda: gone(pid), "it ends")
    assert not is_mounted(mountpoint)
    assert (tmp_path / "files/late").read_text() == "late\n"


def test_what_goes_wrong_is_said_where_it_was_started(portside: Portside, mountpoint: Path) -> None:
    port = free_port()
    text = portside.refusal("mount", f"ftp://me@127.0.0.1:{port}/", mountpoint, "--daemon", code=5)
    assert f"127.0.0.1:{port}" in text
    assert "nosuch" in portside.refusal("mount", "nosuch:", mountpoint, "--daemon", code=1)


def test_it_does_not_wait_for_ever(portside: Portside, storage: FtpStorage, mountpoint: Path) -> None:
    portside.configure(storage.section("box"))
    assert storage.process is not None
    storage.process.send_signal(signal.SIGSTOP)
    text = portside.refusal("mount", "box:", mountpoint, "--daemon", "--daemon-wait", "0.5s", code=1)
    assert "0.5 s" in text
    assert "--daemon-wait" in text


def test_it_does_not_wait_at_all(portside: Portside, mountpoint: Path) -> None:
    began = time.monotonic()
    assert portside.run("mount", ":memory:", mountpoint, "--daemon", "--daemon-wait", "0").returncode == 0
    assert time.monotonic() - began < 30
    until(lambda: is_mounted(mountpoint), "it is mounted a little later")
    until(lambda: portside.run("umount", mountpoint).returncode == 0, "and answers")


def test_a_log_file_of_json(portside: Portside, mountpoint: Path, log: Path) -> None:
    running = portside.mount(":memory:", mountpoint, "--log-file", log, "--log-format", "json", "-v")
    running.signal(signal.SIGUSR1)
    until(lambda: "everything is stored" in log.read_text(), "SIGUSR1 logs what it is doing")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(records[0])
    assert any(record["message"].startswith("mounted") for record in records)


def test_a_log_file_that_is_moved_away_is_made_anew(portside: Portside, mountpoint: Path, log: Path) -> None:
    running = portside.mount(":memory:", mountpoint, "--log-file", log, "-v")
    log.rename(log.with_suffix(".old"))
    running.signal(signal.SIGHUP)
    until(lambda: log.exists() and "SIGHUP" in log.read_text(), "the new file has what came later")


def test_a_log_file_that_cannot_be_written(portside: Portside, mountpoint: Path) -> None:
    text = portside.refusal("mount", ":memory:", mountpoint, "--log-file", "/nowhere/at/all")
    assert "--log-file" in text
    assert "/nowhere/at/all" in text
    assert "--log-format" in portside.refusal("mount", ":memory:", mountpoint, "--log-format", "xml")


def test_a_dead_mount_of_ours_is_cleared_at_the_start(portside: Portside, mountpoint: Path) -> None:
    running = portside.mount(":memory:", mountpoint)
    running.process.kill()
    running.process.wait()
    assert is_mounted(mountpoint)
    portside.mount(":memory:", mountpoint)
    (mountpoint / "a").write_text("a")
    assert portside.run("umount", mountpoint).returncode == 0
    assert not is_mounted(mountpoint)


def test_a_hangup_reads_a_new_password(portside: Portside, storage: FtpStorage, mountpoint: Path) -> None:
    portside.configure(storage.section("box"))
    running = portside.mount("box:", mountpoint, "--vfs-write-back", "0.1s", "-v")
    storage.stop()
    storage.password = "another one"
    storage.start()
    portside.configure(storage.section("box"))
    running.signal(signal.SIGHUP)
    running.wait_until_says("options that the configuration has now are used")
    (mountpoint / "a").write_text("with the new password\n")
    until(lambda: (storage.folder / "a").exists(), "it is stored")
    assert "another one" not in running.said()


def test_a_hangup_does_not_change_the_storage(portside: Portside, storage: FtpStorage, mountpoint: Path) -> None:
    portside.configure(storage.section("box"))
    running = portside.mount("box:", mountpoint, "-v")
    portside.configure(storage.section("box").replace("user = me", "user = you"))
    running.signal(signal.SIGHUP)
    running.wait_until_says("names another storage now")
    assert os.listdir(mountpoint) == []


def test_ending_while_a_program_uses_the_mount(portside: Portside, storage: FtpStorage, mountpoint: Path) -> None:
    """Drained first, then detached: no dead mount point is left, and the program gets errors."""
    portside.configure(storage.section("box"))
    running = portside.mount("box:", mountpoint, "--vfs-write-back", "1h")
    (mountpoint / "late").write_text("late")
    user = subprocess.Popen(["sleep", "60"], cwd=mountpoint)
    try:
        running.signal(signal.SIGTERM)
        assert running.ended(60) == 0
        assert (storage.folder / "late").read_text() == "late"
        assert not is_mounted(mountpoint)
        assert os.listdir(mountpoint) == []
    finally:
        user.kill()
        user.wait()

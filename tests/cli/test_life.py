"""How a serving process lives and ends: signals, draining, umount, what is said and the exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from ftplib import FTP
from pathlib import Path

import pytest

from .conftest import PASSWORD, PATIENCE, FtpStorage, Portside, Running, free_port, is_mounted, until

NEVER = ("--vfs-write-back", "1h")


@pytest.fixture
def box(portside: Portside, storage: FtpStorage) -> FtpStorage:
    """A configured FTP storage named box."""
    portside.configure(storage.section("box"))
    return storage


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ending_uploads_what_is_left_and_unmounts(
    portside: Portside, box: FtpStorage, mountpoint: Path, signum: signal.Signals
) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "late.txt").write_text("in the end\n")
    assert not (box.folder / "late.txt").exists()
    running.signal(signum)
    assert running.ended() == 0
    assert (box.folder / "late.txt").read_text() == "in the end\n"
    assert not is_mounted(mountpoint)
    assert "all stored" in running.said()


def test_umount_uploads_what_is_left_first(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "late.bin").write_bytes(os.urandom(300_000))
    content = (mountpoint / "late.bin").read_bytes()
    done = portside.run("umount", mountpoint)
    assert done.returncode == 0, done.stderr
    assert (box.folder / "late.bin").read_bytes() == content
    assert not is_mounted(mountpoint)
    assert running.ended() == 0


def test_umount_by_a_symbolic_link_and_a_relative_path(portside: Portside, mountpoint: Path, tmp_path: Path) -> None:
    portside.mount(":memory:", mountpoint)
    (tmp_path / "link").symlink_to(mountpoint)
    assert portside.run("status", "link").returncode == 0
    assert portside.run("umount", "link").returncode == 0
    assert not is_mounted(mountpoint)


def test_a_mount_point_with_odd_characters(portside: Portside, mountpoint: Path) -> None:
    odd = mountpoint / "a b\tc\\d Größe"
    portside.mount(":memory:", odd)
    assert is_mounted(odd)
    assert portside.run("umount", odd).returncode == 0
    assert not is_mounted(odd)


def test_umount_of_a_mount_in_use_leaves_it_and_says_so(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "a.txt").write_text("x")
    user = subprocess.Popen(["sleep", "60"], cwd=mountpoint)
    try:
        text = portside.refusal("umount", "--quiet", mountpoint)
        assert "in use" in text
        assert is_mounted(mountpoint)
        assert (box.folder / "a.txt").exists(), "what could be stored is stored all the same"
        assert running.process.poll() is None
        assert portside.run("umount", "--lazy", mountpoint).returncode == 0
        assert not is_mounted(mountpoint)
    finally:
        user.kill()
        user.wait()
    assert running.ended() == 0


def test_unmounted_from_outside(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "late.txt").write_text("x")
    subprocess.run(["fusermount3", "-u", mountpoint], check=True)
    assert running.ended() == 0
    assert (box.folder / "late.txt").exists()


def test_storage_down_at_the_end(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "kept.txt").write_text("kept\n")
    box.stop()
    asked = portside.run("umount", mountpoint)
    assert asked.returncode == 5
    assert "kept.txt" in asked.stderr
    assert "still mounted" in asked.stderr
    assert is_mounted(mountpoint)
    running.signal(signal.SIGTERM)
    assert running.ended(60) == 5
    assert "kept.txt" in running.said()
    assert not is_mounted(mountpoint)
    box.start()
    again = portside.mount("box:", mountpoint)
    until(lambda: (box.folder / "kept.txt").exists(), "the next start uploads what was kept")
    assert (box.folder / "kept.txt").read_text() == "kept\n"
    again.signal(signal.SIGTERM)
    assert again.ended() == 0


def test_umount_by_force_with_the_storage_down(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "kept.txt").write_text("kept\n")
    box.stop()
    asked = portside.run("umount", "--force", mountpoint)
    assert asked.returncode == 5
    assert "kept.txt" in asked.stderr
    assert not is_mounted(mountpoint)
    assert running.ended(60) == 5


def test_drain_timeout(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER, "--drain-timeout", "0.001s")
    for number in range(20):
        (mountpoint / f"{number}.bin").write_bytes(os.urandom(200_000))
    running.signal(signal.SIGTERM)
    assert running.ended() == 5
    assert "not stored yet" in running.said()
    assert not is_mounted(mountpoint)


def test_a_second_signal_ends_at_once_and_loses_nothing(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "kept.bin").write_bytes(b"k" * 1000)
    assert box.process is not None
    box.process.send_signal(signal.SIGSTOP)  # the upload hangs
    running.signal(signal.SIGTERM)
    running.wait_until_says("uploading: 1 file")
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    assert running.ended() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 15
    assert not is_mounted(mountpoint)
    box.process.send_signal(signal.SIGCONT)
    again = portside.mount("box:", mountpoint)
    until(lambda: (box.folder / "kept.bin").exists(), "the next start uploads what was kept")
    assert (box.folder / "kept.bin").read_bytes() == b"k" * 1000
    again.signal(signal.SIGTERM)
    assert again.ended() == 0


def test_a_signal_while_starting_ends_at_once(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    assert box.process is not None
    box.process.send_signal(signal.SIGSTOP)
    running = portside.start("mount", "box:", mountpoint, "-v")
    running.wait_until_says("opening box:")
    running.signal(signal.SIGINT)
    assert running.ended() == 128 + signal.SIGINT
    assert "Traceback" not in running.said()
    assert not is_mounted(mountpoint)


def test_a_dead_mount_of_ours_is_cleared(portside: Portside, mountpoint: Path) -> None:
    running = portside.mount(":memory:", mountpoint)
    running.process.kill()
    running.process.wait()
    assert is_mounted(mountpoint)
    done = portside.run("umount", mountpoint)
    assert done.returncode == 0, done.stderr
    assert "had ended" in done.stderr
    assert not is_mounted(mountpoint)
    portside.mount(":memory:", mountpoint).signal(signal.SIGTERM)


def test_a_hangup_reads_directories_anew(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, "--dir-cache-time", "1h", "-v")
    assert os.listdir(mountpoint) == []
    (box.folder / "new.txt").touch()
    running.signal(signal.SIGHUP)
    until(lambda: os.listdir(mountpoint) == ["new.txt"], "the new file is listed")
    assert running.process.poll() is None


def test_progress_is_a_bar_on_a_terminal(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "odd [red]name\n\x1b[2J.bin").write_bytes(os.urandom(2_000_000))
    terminal, end = pty.openpty()
    with open(terminal, "rb", buffering=0) as screen:
        umount = subprocess.Popen(
            portside.argv("umount", mountpoint),
            env=portside.environ | {"TERM": "xterm"},
            stdin=end,
            stdout=end,
            stderr=end,
        )
        os.close(end)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the last one has closed the terminal
            while part := screen.read(65536):
                seen += part
    assert umount.wait(PATIENCE) == 0
    assert "━".encode() in seen
    assert b"uploaded" in seen
    assert b"2.0/2.0 MB" in seen or b"1.9/1.9 Mi" in seen, seen
    assert b"\x1b[2J" not in seen, "a file name does not command the terminal"


def test_names_are_shown_and_not_obeyed(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "two\nlines\x1b[2J \udcff").write_text("x")
    done = portside.run("status", mountpoint)
    assert done.returncode == 0, done.stderr
    assert r"two\nlines\x1b[2J \udcff" in done.stdout
    assert json.loads(portside.run("status", "--json", mountpoint).stdout)["uploads"][0]["path"].startswith(
        "two\nlines"
    )


def test_status(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    running = portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "late.txt").write_text("x" * 5000)
    done = portside.run("status", "--json", mountpoint)
    status = json.loads(done.stdout)
    assert status["pid"] == running.process.pid
    assert status["remote"] == "box:"
    assert [(u["path"], u["size"]) for u in status["uploads"]] == [("late.txt", 5000)]
    text = portside.run("status", mountpoint).stdout
    assert "late.txt" in text
    assert "4.9 KiB" in text


def test_control_socket_is_private(portside: Portside, mountpoint: Path) -> None:
    from mountcore.control import directories, real_path, socket_name

    portside.mount(":memory:", mountpoint)
    name = socket_name(real_path(str(mountpoint)))
    (path,) = [place / name for place in directories() if (place / name).exists()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert portside.run("umount", mountpoint).returncode == 0
    until(lambda: not path.exists(), "the socket is gone with the process")


def gateway(portside: Portside, mountpoint: Path, port: int) -> Running:
    file = portside.home / "gateway.toml"
    file.write_text(
        f'[vfs]\nvfs-write-back = "1h"\n[[mount]]\nremote = "box:"\nmountpoint = "{mountpoint}"\n'
        f'[[ftp]]\nremote = "box:"\naddr = "127.0.0.1:{port}"\nuser = "guest"\npass = "pw"\n'
    )
    running = portside.start("gateway", file)
    running.wait_until_says(r"mounted box: at ")
    running.wait_until_says(r"serving box: over FTP at ")
    return running


def test_gateway_shows_at_once_on_both_sides_what_was_written_on_one(
    portside: Portside, box: FtpStorage, mountpoint: Path
) -> None:
    port = free_port()
    running = gateway(portside, mountpoint, port)
    (mountpoint / "from mount.txt").write_text("mount\n")
    with FTP() as ftp:
        ftp.connect("127.0.0.1", port, timeout=30)
        ftp.login("guest", "pw")
        got: list[bytes] = []
        ftp.retrbinary("RETR from mount.txt", got.append)
        assert b"".join(got) == b"mount\n"
        with (portside.home / "source.txt").open("w+b") as source:
            source.write(b"ftp\n")
            source.seek(0)
            ftp.storbinary("STOR from ftp.txt", source)
        assert (mountpoint / "from ftp.txt").read_text() == "ftp\n"
    assert list(box.folder.iterdir()) == []
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert sorted(path.name for path in box.folder.iterdir()) == ["from ftp.txt", "from mount.txt"]
    assert not is_mounted(mountpoint)


def test_umount_of_one_part_leaves_the_others(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    port = free_port()
    running = gateway(portside, mountpoint, port)
    assert portside.run("umount", mountpoint).returncode == 0
    assert not is_mounted(mountpoint)
    with FTP() as ftp:
        ftp.connect("127.0.0.1", port, timeout=30)
        ftp.login("guest", "pw")
        assert ftp.nlst() == []
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_nothing_secret_is_said_or_in_the_list_of_processes(
    portside: Portside, box: FtpStorage, mountpoint: Path
) -> None:
    running = portside.mount("box:", mountpoint, "-vv")
    (mountpoint / "a.txt").write_text("x")
    argv = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert PASSWORD not in running.said()
    assert PASSWORD.encode() not in argv

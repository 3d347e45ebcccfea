"""A large file through the mount of a real process, there and back: its memory stays where it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import FtpStorage, Portside

SIZE = 2 << 30
BOUND = 64 << 20


def resident(pid: int, field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of a process, in bytes (proc(5), status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


@pytest.mark.fuse
@pytest.mark.timeout(300)
def test_two_gibibytes_read_from_ftp_and_written_back_take_no_memory(
    portside: Portside, storage: FtpStorage, mountpoint: Path
) -> None:
    portside.configure(storage.section("box"))
    with (storage.folder / "large").open("wb") as file:
        file.truncate(SIZE)
    running = portside.mount("box:", mountpoint)
    assert (mountpoint / "large").stat().st_size == SIZE
    before = resident(running.process.pid, "VmRSS")
    copy = mountpoint / "copy"
    subprocess.run(["dd", f"if={mountpoint / 'large'}", f"of={copy}", "bs=1M"], check=True, capture_output=True)
    assert copy.stat().st_size == SIZE
    grown = resident(running.process.pid, "VmHWM") - before
    assert grown < BOUND, f"{grown >> 20} MiB more"
    done = portside.run("umount", mountpoint, patience=110)
    assert done.returncode == 0, done.stderr
    assert (storage.folder / "copy").stat().st_size == SIZE
    assert running.ended() == 0

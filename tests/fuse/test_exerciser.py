"""Random work on files, by seeds that can be given again; ``PORTSIDE_EXERCISE`` sets how much."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mountcore.settings import CacheSettings, ReadSettings, VfsSettings

from .exerciser import Exerciser, Mismatch
from .mounting import Mount

OPERATIONS = int(os.environ.get("PORTSIDE_EXERCISE", "1500"))
PROGRAM = Path(__file__).with_name("exerciser.py")


def exercise(path: Path, seed: int, operations: int = OPERATIONS) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, path, "--seed", str(seed), "--operations", str(operations)],
        capture_output=True, text=True, timeout=100 + operations / 100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def stored_as_shown(mount: Mount, store: Path, name: str) -> bool:
    shown = hashlib.sha256((mount.path / name).read_bytes()).digest()
    assert mount.run(mount.vfs.drain) == ()
    return hashlib.sha256((store / name).read_bytes()).digest() == shown


@pytest.mark.parametrize("seed", [1, 2])
def test_random_work_while_it_is_uploaded(mount: Mount, store: Path, seed: int) -> None:
    exercise(mount.path / "file", seed)
    assert stored_as_shown(mount, store, "file")


def test_random_work_with_write_back_cache(mount_here: Callable[..., Mount], store: Path) -> None:
    mount = mount_here(write_back_cache="true")
    exercise(mount.path / "file", 3)
    assert stored_as_shown(mount, store, "file")


def test_random_work_with_uploads_in_close_and_small_requests(
    mount_here: Callable[..., Mount], tmp_path: Path, store: Path
) -> None:
    settings = VfsSettings(
        cache=CacheSettings(directory=tmp_path / "cache", write_back=0), read=ReadSettings(chunk_size=64 << 10)
    )
    mount = mount_here(settings)
    exercise(mount.path / "file", 4, OPERATIONS // 3)
    assert stored_as_shown(mount, store, "file")


def test_random_work_on_three_files_at_once(mount: Mount, store: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda seed: exercise(mount.path / f"f{seed}", seed, OPERATIONS // 3), (5, 6, 7)))
    for seed in (5, 6, 7):
        assert stored_as_shown(mount, store, f"f{seed}")


def test_the_exerciser_finds_a_wrong_byte(tmp_path: Path) -> None:
    work = Exerciser(str(tmp_path / "file"), 1, 1 << 16)
    work.run(50)
    work = Exerciser(str(tmp_path / "file"), 1, 1 << 16)
    work._write()
    with (tmp_path / "file").open("r+b") as file:
        file.seek(os.path.getsize(tmp_path / "file") - 1)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(Mismatch, match="byte"):
        work.run(0)

"""`check` finds what rclone's finds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.servers.command import FtpStorage, Portside

from .conftest import Here, rclone


@pytest.fixture
def other(tree: Path, tmp_path: Path) -> Path:
    """A copy with something of another size, of other content and equal size and time, missing, and too much."""
    copy = tmp_path / "dst"
    shutil.copytree(tree, copy)
    (copy / "a.txt").write_bytes(b"other size")
    (copy / "d1/b.bin").write_bytes(b"1" * 3000)
    when = (tree / "d1/b.bin").stat().st_mtime_ns
    os.utime(copy / "d1/b.bin", ns=(when, when))
    (copy / "zero").unlink()
    (copy / "new/deeper").mkdir(parents=True)
    (copy / "new/deeper/x").write_bytes(b"x")
    return copy


@pytest.mark.parametrize("words", ["", "--one-way", "--download", "--size-only", "--include *.txt", "--exclude d1/**"])
def test_findings_are_rclones(here: Here, tree: Path, other: Path, words: str) -> None:
    argv = ("check", tree, other, "--combined", "-", *words.split())
    theirs, ours = rclone(*argv), here.run(*argv)
    assert ours.returncode == theirs.returncode
    assert sorted(ours.stdout.splitlines()) == sorted(theirs.stdout.splitlines())
    assert ours.stdout


def test_reports_go_into_files(here: Here, tree: Path, other: Path, tmp_path: Path) -> None:
    found = {}
    for who, run in (("theirs", rclone), ("ours", here.run)):
        options = []
        for name in ("match", "differ", "missing-on-dst", "missing-on-src", "error", "combined"):
            options += [f"--{name}", tmp_path / f"{who}-{name}"]
        assert run("check", tree, other, *options).returncode == 1  # type: ignore[operator]
        found[who] = {
            path.name.partition("-")[2]: sorted(path.read_bytes().splitlines()) for path in tmp_path.glob(f"{who}-*")
        }
    assert found["ours"] == found["theirs"]


@pytest.mark.parametrize(("words", "code"), [("src src", 0), ("nope src", 3), ("src nope", 1), ("src/a.txt dst", 1),
                                             ("src/a.txt src", 0), ("src src/a.txt", 1)])  # fmt: skip
def test_exit_codes(here: Here, tree: Path, other: Path, words: str, code: int) -> None:
    assert rclone("check", *words.split(), cwd=tree.parent).returncode == code
    assert here.run("check", *words.split()).returncode == code


def test_against_storage_without_hashes(portside: Portside, storage: FtpStorage, tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, storage.folder, dirs_exist_ok=True)
    portside.configure(storage.section("box"))
    assert portside.run("check", tree, "box:").returncode == 0
    (storage.folder / "d1/b.bin").write_bytes(b"1" * 3000)
    assert portside.run("check", tree, "box:").returncode == 0
    done = portside.run("check", "--download", tree, "box:")
    assert done.returncode == 1
    assert "d1/b.bin: contents differ" in done.stderr
    assert "1 differences found" in done.stderr

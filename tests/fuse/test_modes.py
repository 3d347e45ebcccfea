"""The other cache modes on a mount, to the extent that docs/SEMANTICS.md says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mountcore.settings import CacheMode, CacheSettings, VfsSettings

from .mounting import Mount
from .test_exerciser import exercise, stored_as_shown
from .test_programs import tree

MODES = [mode for mode in CacheMode if mode is not CacheMode.FULL]
CACHES_EDITS = {CacheMode.MINIMAL, CacheMode.WRITES}


@pytest.fixture(params=MODES, ids=lambda mode: str(mode.value))
def mode(request: pytest.FixtureRequest) -> CacheMode:
    assert isinstance(request.param, CacheMode)
    return request.param


@pytest.fixture
def session() -> str:
    """One is enough: what differs is in the core."""
    return "direct"


@pytest.fixture
def mount(mount_here: Callable[..., Mount], tmp_path: Path, mode: CacheMode) -> Mount:
    return mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=0.05, mode=mode)))


def test_trees_are_copied_in_and_out(mount: Mount, store: Path, tmp_path: Path) -> None:
    source = (tree(tmp_path) / "deep").rename(tmp_path / "trees")
    subprocess.run(["cp", "-r", source, mount.path], check=True)
    assert mount.run(mount.vfs.drain) == ()
    subprocess.run(["diff", "-r", source, store / "trees"], check=True)
    subprocess.run(["diff", "-r", source, mount.path / "trees"], check=True)
    subprocess.run(["tar", "-C", mount.path, "-cf", tmp_path / "a.tar", "trees"], check=True)
    subprocess.run(["tar", "-C", mount.path, "--overwrite", "-xf", tmp_path / "a.tar"], check=True)
    assert mount.run(mount.vfs.drain) == ()
    subprocess.run(["diff", "-r", source, store / "trees"], check=True)


def test_large_files_are_read_at_any_offset(mount: Mount, store: Path) -> None:
    content = os.urandom(5 << 20)
    (store / "f").write_bytes(content)
    with (mount.path / "f").open("rb", buffering=0) as file:
        for offset in (4 << 20, 0, 3 << 20, 100, (5 << 20) - 10):
            assert os.pread(file.fileno(), 5000, offset) == content[offset : offset + 5000]
    assert (mount.path / "f").read_bytes() == content


def test_files_are_replaced_renamed_and_removed(mount: Mount, store: Path) -> None:
    for turn in range(5):
        (mount.path / "new").write_text(f"version {turn}")
        (mount.path / "new").rename(mount.path / "file")
        assert (mount.path / "file").read_text() == f"version {turn}"
    (mount.path / "other").write_text("x")
    (mount.path / "other").unlink()
    assert mount.run(mount.vfs.drain) == ()
    assert {path.name: path.read_text() for path in store.iterdir()} == {"file": "version 4"}


def test_edits_in_place(mount: Mount, store: Path, mode: CacheMode) -> None:
    (store / "f").write_bytes(b"x" * 100_000)
    path = mount.path / "f"
    if mode in CACHES_EDITS:
        with path.open("r+b") as file:
            file.seek(50_000)
            file.write(b"here")
        assert mount.run(mount.vfs.drain) == ()
        assert (store / "f").read_bytes() == b"x" * 50_000 + b"here" + b"x" * 49_996
    else:
        with pytest.raises(PermissionError):
            path.open("r+b")
        assert (store / "f").read_bytes() == b"x" * 100_000


def test_appending(mount: Mount, store: Path, mode: CacheMode) -> None:
    (store / "f").write_text("first\n")
    if mode is CacheMode.WRITES:
        with (mount.path / "f").open("a") as file:
            file.write("second\n")
        assert mount.run(mount.vfs.drain) == ()
        assert (store / "f").read_text() == "first\nsecond\n"
    else:
        with pytest.raises(PermissionError):
            (mount.path / "f").open("a")
        assert (store / "f").read_text() == "first\n"


def test_random_work_where_edits_are_cached(mount_here: Callable[..., Mount], tmp_path: Path, store: Path) -> None:
    mode = CacheMode.WRITES
    mount = mount_here(VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=0.05, mode=mode)))
    exercise(mount.path / "file", 8, 500)
    assert stored_as_shown(mount, store, "file")

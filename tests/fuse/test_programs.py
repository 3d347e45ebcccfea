"""Ordinary programs on a mount; each skips, and in CI fails, where the program is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .mounting import Mount

ROOT = Path(__file__).resolve().parent.parent.parent


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: object, check: bool = True) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=100, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def tree(place: Path) -> Path:
    """A source tree of a few hundred files."""
    source = place / "source"
    shutil.copytree(ROOT / "mountcore", source / "mountcore", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "deep/er/still").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "deep/er/still/big").write_bytes(os.urandom(2_000_000))
    for number in range(200):
        (source / "deep" / f"small file {number}").write_bytes(os.urandom(number))
    return source


def stored_as_in(mount: Mount, store: Path, name: str, source: Path) -> None:
    run("diff", "-r", source, mount.path / name)
    assert mount.run(mount.vfs.drain) == ()
    run("diff", "-r", source, store / name)


def test_cp_and_diff(mount: Mount, store: Path, tmp_path: Path) -> None:
    source = tree(tmp_path)
    run("cp", "-a", source, mount.path / "copy")
    stored_as_in(mount, store, "copy", source)
    for place in (mount.path, store):
        assert (place / "copy/deep/small file 9").stat().st_mtime == (source / "deep/small file 9").stat().st_mtime


def test_tar_in_and_out(mount: Mount, store: Path, tmp_path: Path) -> None:
    source = tree(tmp_path)
    run("tar", "-C", tmp_path, "-cf", mount.path / "a.tar", "source")
    run("tar", "-C", mount.path, "-xf", mount.path / "a.tar")
    stored_as_in(mount, store, "source", source)


def test_rsync_a_second_time_transfers_nothing(mount: Mount, store: Path, tmp_path: Path) -> None:
    rsync = need("rsync")
    source = tree(tmp_path)
    assert "small file 7" in run(rsync, "-rtv", f"{source}/", mount.path / "copy/")
    for _ in range(2):
        again = run(rsync, "-rtv", "--itemize-changes", f"{source}/", mount.path / "copy/")
        assert "f+++" not in again
        assert ">f" not in again
        assert mount.run(mount.vfs.drain) == ()
    stored_as_in(mount, store, "copy", source)


def test_git_keeps_a_repository(mount: Mount, store: Path, tmp_path: Path) -> None:
    git = [need("git"), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    source = tree(tmp_path)
    work = mount.path / "work"
    run(*git, "init", "-q", "-b", "main", work)
    run("cp", "-r", source, work)
    run(*git, "-C", work, "add", "-A")
    run(*git, "-C", work, "commit", "-qm", "one")
    (work / "source/deep/small file 5").write_text("changed")
    run(*git, "-C", work, "commit", "-qam", "two")
    run(*git, "-C", work, "mv", "source/deep", "source/renamed")
    run(*git, "-C", work, "commit", "-qm", "three")
    run(*git, "-C", work, "gc", "-q")
    run(*git, "-C", work, "fsck", "--full", "--strict")
    assert run(*git, "-C", work, "status", "--short") == ""
    run(*git, "clone", "-q", work, mount.path / "clone")
    run(*git, "-C", mount.path / "clone", "fsck", "--full")
    assert mount.run(mount.vfs.drain) == ()
    run(*git, "clone", "-q", store / "work", tmp_path / "elsewhere")
    run("diff", "-r", "-x", ".git", work, tmp_path / "elsewhere", "-x", "empty")


MAKEFILE = """
OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
\t$(CC) -o $@ $^
"""


def test_a_c_project_is_built(mount: Mount) -> None:
    make, _ = need("make"), need("cc")
    work = mount.path / "project"
    work.mkdir()
    (work / "Makefile").write_text(MAKEFILE)
    calls = "".join(f"int f{number}(void);" for number in range(12))
    total = "+".join(f"f{number}()" for number in range(12))
    (work / "main.c").write_text(f"{calls} int main(void) {{ return {total}; }}\n")
    for number in range(12):
        (work / f"f{number}.c").write_text(f"int f{number}(void) {{ return {number}; }}\n")
    run(make, "-s", "-j2", "-C", work)
    assert subprocess.run([work / "program"], check=False).returncode == 66
    assert "up to date" in run(make, "-C", work)


def test_pip_installs_into_a_folder(mount: Mount, tmp_path: Path) -> None:
    wheel = tmp_path / "harbour-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("harbour/__init__.py", "depth = 12\n")
        archive.writestr("harbour-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: harbour\nVersion: 1.0\n")
        archive.writestr(
            "harbour-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("harbour-1.0.dist-info/RECORD", "")
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not installed")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--target", mount.path / "site", wheel)
    script = f"import sys; sys.path.insert(0, {str(mount.path / 'site')!r}); import harbour; print(harbour.depth)"
    assert run(sys.executable, "-c", script) == "12\n"


def test_editors_save_by_renaming(mount: Mount, store: Path) -> None:
    path = mount.path / "text"
    for turn in range(30):
        scratch = mount.path / f".text.{turn}.swp"
        scratch.write_text(f"version {turn}\n")
        with scratch.open("r+b") as file:
            os.fsync(file.fileno())
        if path.exists():
            path.rename(mount.path / "text~")
        scratch.rename(path)
        assert path.read_text() == f"version {turn}\n"
    assert mount.run(mount.vfs.drain) == ()
    assert {place.name: place.read_text() for place in store.iterdir()} == {
        "text": "version 29\n",
        "text~": "version 28\n",
    }


def test_a_log_is_read_while_it_is_written(mount: Mount) -> None:
    path = mount.path / "log"
    with path.open("ab", buffering=0) as writer, path.open("rb") as reader:
        for number in range(500):
            writer.write(f"line {number}\n".encode())
            assert reader.read() == f"line {number}\n".encode()


def test_locks_between_processes(mount: Mount) -> None:
    (mount.path / "lock").touch()
    code = subprocess.run(
        ["flock", "-n", mount.path / "lock", "flock", "-n", "-E", "9", mount.path / "lock", "true"], check=False
    ).returncode
    assert code == 9


def test_a_sparse_file_of_five_gibibytes(mount: Mount, store: Path) -> None:
    size = 5 << 30
    path = mount.path / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
        for place in (0, 4 << 30, size - 4):
            file.seek(place)
            file.write(b"here")
    with path.open("rb") as file:
        for place in (0, 4 << 30, size - 4):
            file.seek(place)
            assert file.read(4) == b"here"
        file.seek(3 << 30)
        assert file.read(8192) == bytes(8192)
    assert path.stat().st_size == size

"""Ordinary programs on a mount; each skips, and in CI fails, where the program is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .mounting import Mount, in_a_process

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
    # through a shell: this process answers for the mount, and stands still while its child is between vfork and exec
    assert subprocess.run(["sh", "-c", 'exec "$0"', work / "program"], check=False).returncode == 66
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


def test_cp_and_diff_agree(mount: Mount, store: Path, tmp_path: Path) -> None:
    source = tree(tmp_path)
    (source / "link").symlink_to("deep/er")
    (source / "deep/small file 3").chmod(0o750)
    os.utime(source / "deep/small file 3", ns=(10**18, 10**18 + 123_456_789))
    run("cp", "-a", source, mount.path)
    run("diff", "-r", "--no-dereference", source, mount.path / "source")
    facts = (mount.path / "source/deep/small file 3").stat()
    assert (facts.st_mode & 0o777, facts.st_mtime_ns) == (0o750, 10**18 + 123_456_789)
    stored_as_in(mount, store, "source", source)
    facts = (store / "source/deep/small file 3").stat()
    assert (facts.st_mode & 0o777, facts.st_mtime_ns) == (0o750, 10**18 + 123_456_789)


FIO = """
[global]
directory={place}
size=4M
verify=crc32c
verify_fatal=1
do_verify=1
verify_state_save=0
bsrange=512-64k

[psync]
ioengine=psync
rw=randrw
fsync=16

[mmap]
ioengine=mmap
rw=randwrite

[libaio]
ioengine=libaio
direct=1
bsrange=4k-64k
iodepth=8
rw=randrw
"""


def test_fio_finds_what_it_wrote(mount: Mount, store: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.fio"
    job.write_text(FIO.format(place=mount.path))
    said = run(need("fio"), "--output-format=terse", job)
    assert "verify: bad" not in said
    assert mount.run(mount.vfs.drain) == ()
    for path in mount.path.iterdir():
        assert path.read_bytes() == (store / path.name).read_bytes()


STRESSORS = (
    "access", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dup", "fallocate", "filename", "flock",
    "fpunch", "fstat", "getdent", "hdd", "iomix", "lockf", "lockofd", "open", "readahead", "rename", "revio", "seek",
    "sendfile", "symlink", "sync-file", "touch", "utime",
)  # fmt: skip
"""Of stress-ng's, those about a file system. Not ``link`` and ``mknod``: there are neither hard links nor devices."""


def test_stress_at_once(mount: Mount, store: Path) -> None:
    each = [word for name in STRESSORS for word in (f"--{name}", "1")]
    place = ("--temp-path", mount.path, "--hdd-bytes", "8M", "--iomix-bytes", "8M", "--timeout", "3", "--verify")
    said = run(need("stress-ng"), *place, *each)
    assert "fail:" not in said
    assert os.listdir(mount.path) == []
    assert mount.run(mount.vfs.drain) == ()
    assert os.listdir(store) == []


MANY = int(os.environ.get("PORTSIDE_MANY_FILES", "500"))


def test_a_directory_of_many_files(mount: Mount, store: Path) -> None:
    script = """
import os, sys
place, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    with open(f"{place}/{number:06}", "wb") as file:
        file.write(b"%d" % number)
assert sorted(os.listdir(place)) == [f"{number:06}" for number in range(count)]
sizes = {entry.name: entry.stat().st_size for entry in os.scandir(place)}
assert all(sizes[f"{number:06}"] == len(str(number)) for number in range(count))
for number in range(0, count, 3):
    os.unlink(f"{place}/{number:06}")
assert len(os.listdir(place)) == count - len(range(0, count, 3))
"""
    in_a_process(script, mount.path, MANY, timeout=500)
    assert mount.run(mount.vfs.drain) == ()
    assert sorted(os.listdir(store)) == [f"{number:06}" for number in range(MANY) if number % 3]
    assert all((store / name).read_bytes() == b"%d" % int(name) for name in os.listdir(store)[:100])


def test_names_that_move_between_directories_are_never_lost(mount: Mount, store: Path) -> None:
    script = """
import os, random, sys
place, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
for turn in range(150):
    name = f"{seed} {chance.randrange(10)}"
    found = [d for d in "abc" if os.path.exists(f"{place}/{d}/{name}")]
    assert len(found) == 1, (name, found)
    os.rename(f"{place}/{found[0]}/{name}", f"{place}/{chance.choice('abc')}/{name}")
    for d in "abc":
        names = os.listdir(f"{place}/{d}")
        assert len(names) == len(set(names))
"""
    for directory in "abc":
        (mount.path / directory).mkdir()
    for seed in range(4):
        for number in range(10):
            (mount.path / "a" / f"{seed} {number}").write_text(f"{seed} {number}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: in_a_process(script, mount.path, seed), range(4)))
    assert mount.run(mount.vfs.drain) == ()
    for place in (mount.path, store):
        found = {path.name: path.read_text() for path in place.glob("[abc]/*")}
        assert len(found) == 40
        assert all(name == text for name, text in found.items())

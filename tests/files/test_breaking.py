"""What goes wrong in the middle: nothing half is published, nothing is deleted, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from mountcore.remotes.partials import is_ours
from tests.servers.command import FtpStorage, Portside, until

BIG = 48 << 20


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_nothing_is_deleted_when_a_source_directory_cannot_be_listed(portside: Portside, tmp_path: Path) -> None:
    """The listing fails half-way down: a folder that its owner has locked, read as somebody else."""
    if os.geteuid() != 0:
        pytest.skip("in a chroot: needs root to become somebody else")
    source, target = tmp_path / "src", tmp_path / "dst"
    for folder in (source, target):
        for name in ("locked/kept", "open/kept"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")
    (target / "extra").write_bytes(b"only here")
    (source / "new").write_bytes(b"new")
    (source / "locked").chmod(0o000)
    weak = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    done = portside.run("sync", source, target, prefix=weak)
    assert done.returncode != 0
    assert "locked" in done.stderr
    assert "not deleting files" in done.stderr
    assert names(target) == ["extra", "locked/kept", "new", "open/kept"]
    ignoring = portside.run("sync", source, target, "--ignore-errors", prefix=weak)
    assert ignoring.returncode != 0
    assert "extra" in names(target)
    (source / "locked").chmod(0o755)
    assert portside.run("sync", source, target).returncode == 0
    assert names(target) == ["locked/kept", "new", "open/kept"]


def test_nothing_is_deleted_when_the_storage_goes_away(portside: Portside, storage: FtpStorage, tmp_path: Path) -> None:
    portside.configure(storage.section("box"))
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst/only here").write_bytes(b"x")
    storage.stop()
    done = portside.run("sync", "box:", tmp_path / "dst")
    assert done.returncode == 5
    assert names(tmp_path / "dst") == ["only here"]


def test_interrupted_and_run_again(portside: Portside, storage: FtpStorage, tmp_path: Path) -> None:
    """Ctrl-C in the middle of large files: no part is seen, no partial is left, and the next run completes."""
    portside.configure(storage.section("box"))
    source = tmp_path / "src"
    source.mkdir()
    for number in range(3):
        (source / f"f{number}").write_bytes(os.urandom(BIG))
    running = portside.start("copy", source, "box:in", "--bwlimit", "20M")

    def under_way() -> bool:
        return any(is_ours(p.name) and p.stat().st_size for p in storage.folder.rglob("*"))

    until(under_way, "an upload is under way")
    running.signal(signal.SIGINT)
    assert running.ended() == 130
    assert "interrupted" in running.said()
    assert "Traceback" not in running.said()
    assert [name for name in names(storage.folder) if is_ours(name.rpartition("/")[2])] == []
    for name in names(storage.folder):
        assert (storage.folder / name).stat().st_size == BIG
    assert portside.run("copy", source, "box:in").returncode == 0
    assert names(storage.folder) == ["in/f0", "in/f1", "in/f2"]
    for name in ("f0", "f1", "f2"):
        assert (storage.folder / "in" / name).read_bytes() == (source / name).read_bytes()


def test_killed_and_run_again(portside: Portside, storage: FtpStorage, tmp_path: Path) -> None:
    portside.configure(storage.section("box"))
    source = tmp_path / "src"
    source.mkdir()
    (source / "f").write_bytes(os.urandom(BIG))
    running = portside.start("copy", source, "box:in", "--bwlimit", "20M")
    until(lambda: any(p.is_file() and p.stat().st_size for p in storage.folder.rglob("*")), "an upload is under way")
    running.signal(signal.SIGKILL)
    running.ended()
    assert "in/f" not in names(storage.folder)
    assert portside.run("copy", source, "box:in").returncode == 0
    assert (storage.folder / "in/f").read_bytes() == (source / "f").read_bytes()


def test_a_file_that_grows_while_it_is_copied_is_no_copy(
    portside: Portside, storage: FtpStorage, tmp_path: Path
) -> None:
    portside.configure(storage.section("box"))
    source = tmp_path / "src"
    source.mkdir()
    (source / "log").write_bytes(bytes(BIG))
    (source / "other").write_bytes(b"fine")
    stop = threading.Event()

    def grow() -> None:
        with (source / "log").open("ab") as file:
            while not stop.is_set():
                file.write(b"x")
                file.flush()
                time.sleep(0.01)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        done = portside.run("copy", source, "box:in", "--bwlimit", "40M")
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 1, done.stderr
    assert "log: " in done.stderr
    assert names(storage.folder) == ["in/other"], "neither the file nor a partial"


def test_the_source_of_a_move_is_kept_until_its_copy_is_stored(
    portside: Portside, storage: FtpStorage, tmp_path: Path
) -> None:
    portside.configure(storage.section("box"))
    source = tmp_path / "src"
    source.mkdir()
    (source / "f").write_bytes(os.urandom(BIG))
    running = portside.start("move", source, "box:in", "--bwlimit", "20M")
    until(lambda: any(p.is_file() and p.stat().st_size for p in storage.folder.rglob("*")), "an upload is under way")
    assert names(source) == ["f"]
    storage.stop()
    assert running.ended(120) != 0
    assert names(source) == ["f"]
    storage.start()
    assert portside.run("move", source, "box:in").returncode == 0
    assert names(source) == []
    assert (storage.folder / "in/f").stat().st_size == BIG


def test_what_cannot_be_replaced_is_told(portside: Portside, tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "dst"
    (source / "a").mkdir(parents=True)
    (source / "a/x").write_bytes(b"x")
    (source / "b").write_bytes(b"b")
    (target / "b").mkdir(parents=True)
    (target / "a").write_bytes(b"a file")
    done = portside.run("sync", source, target)
    assert done.returncode == 1
    assert "a: a directory cannot replace a file" in done.stderr
    assert "b: a file cannot replace a directory" in done.stderr
    assert names(target) == ["a"]


@pytest.mark.parametrize(
    ("words", "mentions"),
    [("sync src src/inner", "overlap"), ("copy src dst --size-only --checksum", "contradict"),
     ("sync src dst --backup-dir dst/bak", "lies in the destination"), ("copy src dst --suffix a/b", "slash"),
     ("copy src dst --transfers 0", "--transfers"), ("copy src dst --bwlimit fast", "--bwlimit"),
     ("copy src dst --inculde x", "did you mean --include?"), ("copy src :ftpp,host=x:", "did you mean 'ftp'?"),
     ("copy src", "DESTINATION"), ("cat src/f --head 1 --tail 1", "--head"), ("hashsum md6 src", "'md5'"),
     ("lsf src -F q", "--format"), ("tree src --level -1", "--level"), ("coyp src dst", "did you mean 'copy'?")],
)  # fmt: skip
def test_bad_words(portside: Portside, tmp_path: Path, words: str, mentions: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_bytes(b"x")
    assert mentions in portside.refusal(*words.split())


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(portside: Portside, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_bytes(os.urandom(8 << 20))
    plain = portside.run("copy", tmp_path / "src", tmp_path / "dst", "--progress")
    assert "1 of 1 files copied" in plain.stderr
    assert "\x1b" not in plain.stderr
    command = " ".join(portside.argv("copy", tmp_path / "src", tmp_path / "dst2", "--progress"))
    shown = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, env=portside.environ, check=True,
        timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "1/1 files" in shown.stdout
    assert "\x1b" in shown.stdout

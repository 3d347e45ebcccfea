"""Copying, moving and syncing leave what rclone leaves, and what SEMANTICS promises."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from mountcore.files.content import InMemory
from mountcore.remotes.local import Local
from mountcore.remotes.protocol import ANYTHING
from tests.servers.command import FtpStorage, Portside

from .conftest import FIRST, Here, content, make_tree, rclone


def scene(root: Path) -> tuple[Path, Path]:
    """A source, and a target with something missing, older, newer, of another size, and too much."""
    source, target = make_tree(root / "src"), root / "dst"
    shutil.copytree(source, target, copy_function=shutil.copy2)
    os.utime(source / "a.txt", ns=(FIRST, FIRST))
    os.utime(target / "a.txt", ns=(FIRST, FIRST))
    (target / "d1/b.bin").write_bytes(b"another size")
    os.utime(target / "d1/b.bin", ns=(FIRST, FIRST + 2_000_000_000))
    (target / "big.bin").unlink()
    os.utime(target / "d4/one.TXT", ns=(FIRST, FIRST - 5_000_000_000))
    (target / "d4/two.tar.gz").write_bytes(b"XX")
    newer = (source / "d4/two.tar.gz").stat().st_mtime_ns + 9_000_000_000
    os.utime(target / "d4/two.tar.gz", ns=(newer, newer))
    for extra in ("extra.txt", "gone/deeper/x.jpg", "d1/extra.tmp"):
        (target / extra).parent.mkdir(parents=True, exist_ok=True)
        (target / extra).write_bytes(b"extra")
        os.utime(target / extra, ns=(FIRST, FIRST))
    return source, target


Files = dict[str, tuple[bytes, int]]


def assert_same(theirs: tuple[int, Files, set[str]], ours: tuple[int, Files, set[str]]) -> None:
    """Exit code, files with content and time, directories."""
    assert ours[0] == theirs[0]
    assert {name for name in {*ours[1], *theirs[1]} if ours[1].get(name) != theirs[1].get(name)} == set()
    assert ours[2] == theirs[2]


def everything(root: Path) -> tuple[Files, set[str]]:
    return content(root), {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}


@pytest.mark.parametrize(
    "words",
    ["copy", "sync", "sync --exclude *.jpg", "sync --delete-excluded --exclude *.jpg", "copy --size-only",
     "copy --checksum", "copy --update", "sync --update", "copy --ignore-existing",
     "copy -I --include *.{txt,gz}", "move", "move --delete-empty-src-dirs", "copy --create-empty-src-dirs",
     "sync --delete-before", "copy --no-traverse --check-first",
     "sync --backup-dir bak", "sync --backup-dir bak --suffix .old", "copy --suffix .old",
     "copy --suffix .old --suffix-keep-extension", "sync --max-size 10B", "copy --max-depth 1", "sync --dry-run",
     "move --include *.bin", "copy --max-age 2020-01-05", "copy --files-from list", "copy --immutable",
     "copy --no-update-modtime", "sync --ignore-size"],
)  # fmt: skip
def test_both_sides_are_left_as_rclone_leaves_them(here: Here, tmp_path: Path, words: str) -> None:
    left: list[tuple[int, Files, set[str]]] = []
    for who in ("theirs", "ours"):
        root = tmp_path / who
        source, target = scene(root)
        (root / "list").write_text("a.txt\nd1/b.bin\nd4/one.TXT\n")
        os.utime(root / "list", ns=(FIRST, FIRST))
        argv = [str(root / word) if word in ("bak", "list") else word for word in words.split()]
        done = rclone(*argv, source, target) if who == "theirs" else here.run(*argv, source, target)
        files, folders = everything(root)
        left.append((done.returncode, files, folders))
    assert_same(*left)


@pytest.mark.parametrize("words", ["copy", "copyto", "move", "moveto"])
@pytest.mark.parametrize("target", ["new", "new/deeper", "there"])
def test_a_single_file(here: Here, tmp_path: Path, words: str, target: str) -> None:
    left = []
    for who in ("theirs", "ours"):
        root = tmp_path / who
        make_tree(root / "src")
        if words in ("copy", "move"):
            (root / "there").mkdir()
        else:
            (root / "there").write_bytes(b"old")
            os.utime(root / "there", ns=(FIRST, FIRST))
        argv = (words, root / "src/a.txt", root / target)
        done = rclone(*argv) if who == "theirs" else here.run(*argv)
        assert done.returncode == 0, done.stderr
        left.append(everything(root))
    assert left[1] == left[0]


@pytest.mark.parametrize(
    ("words", "code"),
    [("copy nope dst", 3), ("sync nope dst", 3), ("move nope dst", 3), ("copyto nope dst/x", 3), ("ls nope", 3),
     ("cat nope", 3), ("deletefile nope", 4), ("deletefile src", 4), ("rmdir src", 1), ("mkdir src/a.txt", 1),
     ("ls", 2), ("ls src dst", 2), ("lsx src", 2), ("ls --bad src", 2), ("link src/a.txt", 1), ("ls nobody:", 1),
     ("size nope", 3), ("delete nope", 3), ("copy src dst --max-transfer 1B", 8),
     ("copy src src --error-on-no-transfer", 9), ("sync src dst --max-delete 1", 7), ("about nope", 3),
     ("purge src/a.txt", 1), ("rmdirs src/a.txt", 1), ("touch nope/dir/", 3), ("rcat dst/x/", 1), ("rcat src", 1),
     ("copy src dst --min-age soon", 2), ("copy src dst --bwlimit soon", 2), ("move src/d1 src/d1", 0),
     ("hashsum nosuchhash src", 2), ("sync src/d1 src", 7)],
)  # fmt: skip
def test_exit_codes_are_rclones(here: Here, tmp_path: Path, words: str, code: int) -> None:
    scene(tmp_path)
    theirs = rclone(*words.split(), cwd=tmp_path)
    ours = here.run(*words.split())
    assert ours.returncode == code, ours.stderr
    assert theirs.returncode == code, theirs.stderr
    assert b"Traceback" not in ours.stderr
    assert ours.stderr or code == 9


@pytest.mark.parametrize(
    "words",
    ["mkdir new/a/b", "rmdir dst/empty", "rmdirs dst", "rmdirs dst --leave-root", "delete dst", "touch dst/none -C",
     "delete dst --include *.jpg", "delete dst --rmdirs", "deletefile dst/a.txt", "purge dst/gone", "delete dst -n",
     "touch dst/new/file -t 2021-02-03T04:05:06", "touch dst/a.txt -t 2021-02-03T04:05:06", "purge dst --dry-run",
     "delete dst --min-size 1k", "touch -R dst -t 2021-02-03T04:05:06"],
)  # fmt: skip
def test_changes_are_rclones(here: Here, tmp_path: Path, words: str) -> None:
    left = []
    for who in ("theirs", "ours"):
        scene(tmp_path / who)
        if words.startswith("rmdirs"):
            for path in (tmp_path / who / "dst").rglob("*"):
                if path.is_file() and "d1" not in str(path):
                    path.unlink()
        os.chdir(tmp_path / who)
        done = rclone(*words.split(), cwd=tmp_path / who) if who == "theirs" else here.run(*words.split())
        assert done.returncode == 0, done.stderr
        left.append(everything(tmp_path / who))
    assert left[1] == left[0]


def test_there_and_back_by_ftp(portside: Portside, storage: FtpStorage, tree: Path, tmp_path: Path) -> None:
    """Copied by portside, found the same by rclone, and copied back; a second run copies nothing."""
    portside.configure(storage.section("box"))
    done = portside.run("copy", tree, "box:in/deep", "-v")
    assert done.returncode == 0, done.stderr
    assert "12 of 12 files copied" in done.stderr
    again = portside.run("copy", tree, "box:in/deep", "-v", "--error-on-no-transfer")
    assert again.returncode == 9, again.stderr
    assert rclone("check", "--download", tree, storage.folder / "in/deep").returncode == 0
    back = portside.run("sync", "box:in/deep", tmp_path / "back")
    assert back.returncode == 0, back.stderr
    assert {n: d for n, (d, _) in content(tmp_path / "back").items()} == {n: d for n, (d, _) in content(tree).items()}
    assert portside.run("move", "box:in/deep", "box:out", "-v").stderr.count("server-side") == 1
    assert rclone("check", "--download", tree, storage.folder / "out").returncode == 0
    assert not (storage.folder / "in/deep").exists()


def test_standard_input_becomes_a_file(portside: Portside, storage: FtpStorage) -> None:
    portside.configure(storage.section("box"))
    text = "line\n" * 1_000_000
    assert portside.run("rcat", "box:new/place/log.txt", stdin=text).returncode == 0
    assert (storage.folder / "new/place/log.txt").read_text() == text
    assert portside.run("cat", "box:new/place/log.txt", "--tail", "5").stdout == "line\n"


def test_folders_are_the_same_storage_however_they_are_named(here: Here, tmp_path: Path) -> None:
    """Relative and absolute: the backup directory is found to be beside the target, and files are renamed."""
    source, _ = scene(tmp_path)
    done = here.run("sync", source, "dst/", "--backup-dir", tmp_path / "bak", "-v")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bak/extra.txt").read_bytes() == b"extra"
    assert here.run("move", "dst", tmp_path / "moved", "-v").stderr.count(b"server-side") == 1
    assert here.run("check", "src/", tmp_path / "moved").returncode == 0
    assert here.run("lsf", "moved/.").stdout == here.run("lsf", tmp_path / "moved").stdout != b""


def test_old_files_arriving_together_are_not_swept_away(tmp_path: Path) -> None:
    """A partial has its file's time, years ago, before it has its name; that makes it no abandoned one."""
    remote = Local(str(tmp_path))
    (tmp_path / "d").mkdir()

    async def put(name: str) -> None:
        await remote.put(f"d/{name}", InMemory(b"x"), expect=ANYTHING, mtime_ns=FIRST)

    async def many() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(put, str(number))
                if number % 8 == 7:
                    remote._swept.clear()  # another process would sweep, too
                    await trio.lowlevel.checkpoint()

    for _ in range(5):
        trio.run(many)
    assert len(list((tmp_path / "d").iterdir())) == 40

"""What the listing commands print is what rclone prints."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.servers.command import FtpStorage, Portside

from .conftest import Here, rclone

#: rclone shows the file system's own size of a local directory; nobody else's directories have one
DIRECTORY_SIZE = re.compile(rb'^ +4096 (?=.* -1 )|"Size":4096(?=.*"IsDir":true)', re.MULTILINE)


def comparable(text: bytes) -> list[bytes]:
    """The order of directories is nobody's promise."""
    plain = DIRECTORY_SIZE.sub(lambda m: b"          -1 " if m[0].startswith(b" ") else b'"Size":-1', text)
    return sorted(line.removesuffix(b",") for line in plain.splitlines())


@pytest.mark.parametrize(
    "words",
    ["ls", "lsl", "lsd", "lsd -R", "lsf", "lsf -R", "lsf -F pst --csv", "lsf -R --format sthp", "lsf -R --files-only",
     "lsf --dirs-only -d=false", "lsf -F tp --separator | --time-format RFC3339", "lsf -F tp -t unixnano",
     "lsf -F tp -t max", "lsf -R --absolute", "lsf -F mp -R", "lsjson", "lsjson -R", "lsjson --no-mimetype -R",
     "lsjson --no-modtime --files-only", "lsjson -R --hash-type md5 --hash-type sha1", "tree", "tree -s", "tree -a",
     "tree --level 1", "tree -Q --full-path", "tree -a --dirsfirst", "tree -r", "tree -D", "lsf -F pi -R",
     "hashsum sha512", "size", "size --json", "md5sum",
     "sha1sum", "hashsum sha256", "md5sum --base64", "ls --max-depth 2", "lsl --min-size 100B", "ls --max-size 10B",
     "ls --include *.txt", "ls --exclude d1/**", "ls --max-age 2020-01-05", "ls --min-age 2020-01-05",
     "lsf -R --exclude-if-present .hidden", "ls --include *.txt --ignore-case"],
)  # fmt: skip
def test_output_is_rclones(here: Here, tree: Path, words: str) -> None:
    theirs, ours = rclone(*words.split(), tree), here.run(*words.split(), tree)
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    assert comparable(ours.stdout) == comparable(theirs.stdout)
    assert ours.stdout
    assert ours.stderr == b""


@pytest.mark.parametrize("words", ["lsjson", "lsf -F tp -t max", "lsf -F tp -t RFC3339Nano", "lsl"])
def test_whole_seconds_have_their_digits(here: Here, tree: Path, words: str) -> None:
    for number, name in enumerate(("a.txt", "zero")):
        os.utime(tree / name, ns=(0, 1_577_836_800_000_000_000 + number * 500_000_000))
    theirs, ours = rclone(*words.split(), tree), here.run(*words.split(), tree)
    assert comparable(ours.stdout) == comparable(theirs.stdout)


@pytest.mark.parametrize(
    "words", ["", "--head 3", "--tail 2", "--separator X", "--offset 1 --count 2", "--offset -3", "--discard"]
)
def test_cat_prints_what_rclone_prints(here: Here, tree: Path, words: str) -> None:
    """rclone prints the files of a directory in any order; so do we."""
    for name in ("a.txt", "big.bin", "zero", "d1/b.bin"):
        theirs, ours = rclone("cat", *words.split(), tree / name), here.run("cat", *words.split(), tree / name)
        assert ours.stdout == theirs.stdout
        assert ours.returncode == theirs.returncode == 0
    theirs, ours = rclone("cat", *words.split(), tree), here.run("cat", *words.split(), tree)
    assert sorted(ours.stdout) == sorted(theirs.stdout)


@pytest.mark.parametrize("words", ["ls", "lsl", "lsf", "lsjson", "cat", "md5sum", "size", "lsd"])
def test_a_single_file(here: Here, tree: Path, words: str) -> None:
    theirs, ours = rclone(*words.split(), tree / "a.txt"), here.run(*words.split(), tree / "a.txt")
    assert comparable(ours.stdout) == comparable(theirs.stdout)
    assert ours.returncode == theirs.returncode == 0


def test_json_is_json(portside: Portside, tree: Path) -> None:
    listed = json.loads(portside.run("lsjson", "-R", tree).stdout)
    assert {"d1/d2/c", "empty", "quote'\"s/a,b;c.html"} <= {entry["Path"] for entry in listed}
    one = json.loads(portside.run("lsjson", "--stat", tree / "a.txt").stdout)
    assert (one["Path"], one["Size"], one["IsDir"]) == ("a.txt", 6, False)
    (tree.parent / "nothing").mkdir()
    assert json.loads(portside.run("lsjson", tree.parent / "nothing").stdout) == []


def test_a_remote_that_tells_no_hash(portside: Portside, storage: FtpStorage) -> None:
    (storage.folder / "f").write_bytes(b"hello\n")
    portside.configure(storage.section("box"))
    refused = portside.run("md5sum", "box:")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--download" in refused.stderr
    assert "Hashes" not in json.loads(portside.run("lsjson", "--hash", "box:").stdout)[0]
    assert portside.run("md5sum", "--download", "box:").stdout == "b1946ac92492d2347c6235b4d2611184  f\n"


@pytest.mark.parametrize("words", ["", "--download", "--include *.txt", "--exclude zero"])
def test_findings_beside_a_file_of_hashes_are_rclones(here: Here, tree: Path, tmp_path: Path, words: str) -> None:
    sums = tmp_path / "sums"
    sums.write_text("b1946ac92492d2347c6235b4d2611184  a.txt\n" + "0" * 32 + "  zero\n" + "1" * 32 + "  gone\n")
    argv = ("md5sum", tree, "--checkfile", sums, *words.split())
    theirs, ours = rclone(*argv), here.run(*argv)
    assert sorted(ours.stdout.splitlines()) == sorted(theirs.stdout.splitlines())
    assert ours.returncode == theirs.returncode == 1


def test_hashes_are_compared_with_a_file_of_them(portside: Portside, tree: Path, tmp_path: Path) -> None:
    sums = tmp_path / "sums"
    assert portside.run("md5sum", tree, "--output-file", sums).stdout == ""
    assert portside.run("md5sum", tree, "-C", sums).returncode == 0
    (tree / "a.txt").write_bytes(b"other\n")
    (tree / "zero").unlink()
    done = portside.run("md5sum", tree, "-C", sums)
    assert done.returncode == 1
    assert "a.txt: md5 differs" in done.stderr
    assert "zero: file not found" in done.stderr


def test_a_symbolic_link_is_passed_over_and_told(portside: Portside, tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    done = portside.run("lsf", tree)
    assert "link" not in done.stdout
    assert "link: Can't follow symlink" in done.stderr
    assert done.returncode == 0


def test_a_directory_that_cannot_be_read(portside: Portside, storage: FtpStorage) -> None:
    """The rest is shown, and the exit code tells."""
    for name in ("a", "b/c", "b/d/e"):
        (storage.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (storage.folder / name).write_bytes(b"x")
    portside.configure(storage.section("box"))
    whole = portside.run("lsf", "-R", "--files-only", "box:")
    assert sorted(whole.stdout.split()) == ["a", "b/c", "b/d/e"]
    storage.stop()
    gone = portside.run("lsf", "-R", "box:")
    assert gone.returncode == 5
    assert gone.stdout == ""
    assert len(gone.stderr.splitlines()) == 1

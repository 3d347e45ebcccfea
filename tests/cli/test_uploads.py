"""``portside uploads``: a say in when a file is uploaded, and whether."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import FtpStorage, Portside, until

NEVER = ("--vfs-write-back", "1h")


@pytest.fixture
def box(storage: FtpStorage, portside: Portside) -> FtpStorage:
    """A configured FTP storage named box."""
    portside.configure(storage.section("box"))
    return storage


def states(portside: Portside, mountpoint: Path) -> dict[str, str]:
    done = portside.run("uploads", mountpoint, "--json")
    assert done.returncode == 0, done.stderr
    return {upload["path"]: upload["state"] for upload in json.loads(done.stdout)["uploads"]}


@pytest.mark.parametrize("named", ["relative", "as seen"])
def test_one_upload_is_hurried_held_released_and_discarded(
    portside: Portside, box: FtpStorage, mountpoint: Path, named: str
) -> None:
    (box.folder / "old").write_text("at the remote")
    portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "d").mkdir()
    for name in ("d/a", "d/b", "c", "old"):
        (mountpoint / name).write_text("written here")
    assert states(portside, mountpoint) == dict.fromkeys(["d/a", "d/b", "c", "old"], "waiting")

    def do(action: str, name: str, *more: str) -> str:
        path = name if named == "relative" else str(mountpoint / name)
        done = portside.run("uploads", mountpoint, f"--{action}", path, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert do("hold", "d") == "held: d/a\nheld: d/b\n"
    assert do("now", "c") == "uploading: c\n"
    until(lambda: (box.folder / "c").exists() and "c" not in states(portside, mountpoint), "c is stored")
    assert states(portside, mountpoint) == {"d/a": "held", "d/b": "held", "old": "waiting"}
    assert do("release", "d/a") == "released: d/a\n"
    until(lambda: (box.folder / "d" / "a").exists(), "a is stored")
    assert not (box.folder / "d" / "b").exists()
    assert json.loads(do("discard", "old", "--yes", "--json")) == {"discarded": ["old"]}
    assert (mountpoint / "old").read_text() == "at the remote"
    do("discard", "d/b", "--yes")
    assert not (mountpoint / "d" / "b").exists()
    until(lambda: not states(portside, mountpoint), "nothing is left")
    assert "everything is stored" in portside.run("uploads", mountpoint).stdout
    assert (box.folder / "old").read_text() == "at the remote"


def test_words_that_make_no_sense_change_nothing(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    portside.mount("box:", mountpoint, *NEVER)
    (mountpoint / "f").write_text("x")
    for words, said in [
        (["--discard", "f"], "--yes"),
        (["--now", "absent"], "nothing of it is to be uploaded"),
        (["--now", "/etc/passwd"], "not below"),
        (["--now", "../f"], "not below"),
        (["--now", ""], "which file"),
        (["--now", "f", "--hold", "f"], "at once make no sense"),
    ]:
        done = portside.run("uploads", mountpoint, *words)
        assert done.returncode == 1, words
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = portside.run("uploads", mountpoint / "..")
    assert done.returncode == 1
    assert states(portside, mountpoint) == {"f": "waiting"}


def test_status_shows_what_moves(portside: Portside, box: FtpStorage, mountpoint: Path) -> None:
    (box.folder / "big").write_bytes(bytes(3 << 20))
    portside.mount(
        "box:", mountpoint, *NEVER, "--vfs-cache-max-size", "1Gi", "--bwlimit", "1Mi", "--buffer-size", "1Mi"
    )
    (mountpoint / "late").write_bytes(bytes(2 << 20))
    with (mountpoint / "big").open("rb") as file:
        file.read(1000)
        status = json.loads(portside.run("status", mountpoint, "--json").stdout)
        text = portside.run("status", mountpoint).stdout
    assert status["cache_bound"] == 1 << 30
    assert status["dirty_bytes"] == 2 << 20
    assert status["cached_bytes"] > 2 << 20
    assert status["users"] == 1
    assert status["misses"] > 0
    (download,) = status["downloads"]
    assert download["path"] == "big"
    assert download["size"] == 3 << 20
    assert download["position"] >= 1000
    assert download["speed"] > 0
    assert status["streams"] == 1 <= status["streams_per_file"] <= status["streams_at_once"]
    assert status["bytes_ahead"] == download["ahead"]
    assert "big" in text
    portside.run("uploads", mountpoint, "--now", "late")

    def uploading() -> bool:
        uploads = json.loads(portside.run("status", mountpoint, "--json").stdout)["uploads"]
        return any(u["state"] == "uploading" and 0 < u["percent"] <= 100 and u["speed"] > 0 for u in uploads)

    until(uploading, "the upload shows how far it is")

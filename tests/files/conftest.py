"""The file commands as users run them, beside rclone's on the same files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountcore.cli import main
from tests.servers.command import FtpStorage, Portside

FIRST = 1_577_934_245_123_456_789
"""2020-01-02 03:04:05.123456789 UTC"""


def rclone(*argv: object, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """The real rclone, with no configuration but what ``environ`` gives."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PORTSIDE_", "RCLONE_"))}
    return subprocess.run(
        ["rclone", *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60, cwd=cwd,
        env={"RCLONE_CONFIG": "/dev/null", "RCLONE_RETRIES": "1", **clean, **environ},
    )  # fmt: skip


class Here:
    """The command in this process, which is quicker; what it prints goes through the file descriptors."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture
        self.home = home

    def run(self, *argv: object) -> subprocess.CompletedProcess[bytes]:
        self._capture.readouterr()
        code = main([str(word) for word in argv])
        said = self._capture.readouterr()
        return subprocess.CompletedProcess(argv, code, said.out, said.err)


@pytest.fixture
def here(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Here:
    for key in os.environ:
        if key.startswith(("PORTSIDE_", "RCLONE_")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capfdbinary)


def make_tree(root: Path) -> Path:
    """Names, sizes and times of many kinds; the same every time."""
    files = {
        "a.txt": b"hello\n", "zero": b"", "big.bin": bytes(range(256)) * 8192, "d1/b.bin": bytes(3000),
        "d1/d2/c": b"x\n", "sp ace/ü.txt": "ü\n".encode(), "d1/.hidden": b"h", "d1/d2/d3/deep.jpg": b"jpg" * 100,
        "we[ird/{n}*.md": b"# x\n", "quote'\"s/a,b;c.html": b"<p>", "d4/one.TXT": b"1", "d4/two.tar.gz": b"22",
    }  # fmt: skip
    for number, (name, data) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(FIRST, FIRST + number * 86_400_000_000_000))
    (root / "empty").mkdir()
    for folder, _, _ in os.walk(root, topdown=False):
        os.utime(folder, ns=(FIRST, FIRST))
    return root


def content(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: content and time."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "src")


@pytest.fixture
def portside(tmp_path: Path) -> Iterator[Portside]:
    command = Portside(tmp_path)
    yield command
    command.end_all()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FtpStorage]:
    folder = tmp_path / "storage"
    folder.mkdir()
    server = FtpStorage(folder)
    server.start()
    yield server
    server.stop()

"""What 226 means: what has been synced to the disk by the time that it is said.

Power loss cannot be had in a test. Seen instead is which files were synced, and that the index had been told by then.
"""

from __future__ import annotations

import ftplib
import io
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mountcore.remotes.memory import Memory

from .conftest import store
from .serving import Served, serving

LARGE = 3 << 20


class Watch:
    """The files of a server that are synced, in order, and what the index said of the upload when its log was."""

    def __init__(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        assert served.vfs is not None
        self._directory = f"{served.vfs.store.directory}/"  # other servers of this process sync theirs when they like
        self.synced: list[str] = []
        self.known: list[bool] = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def watched(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if not path.startswith(self._directory):
                sync(descriptor)
                return
            if path.endswith("-wal"):
                with sqlite3.connect(path.removesuffix("-wal")) as index:
                    self.known.append(bool(index.execute("SELECT 1 FROM items WHERE path = 'f'").fetchone()))
            sync(descriptor)
            self.synced.append(path)

        return watched


def data_file(served: Served) -> str:
    assert served.vfs is not None
    item = served.vfs.store.peek("f")
    assert item is not None
    return str(served.vfs.store.directory / "data" / f"{item.id & 0xFF:02x}" / str(item.id))


@pytest.mark.parametrize("size", [1000, LARGE])
def test_by_default_226_means_synced_bytes_and_then_index(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: Memory(""), {"vfs-write-back": "1h"}) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        watch = Watch(served, monkeypatch)
        assert store(ftp, "f", b"x" * size).startswith("226")
        data = data_file(served)
        assert data in watch.synced
        assert str(Path(data).parent) in watch.synced
        assert watch.synced[-1].endswith("index.sqlite-wal")
        assert watch.known[-1]


@pytest.mark.parametrize("command", ["APPE", "REST"])
def test_so_it_does_for_changes_of_a_file(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: Memory(""), {"vfs-write-back": "1h"}) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        store(ftp, "f", b"0123456789")
        watch = Watch(served, monkeypatch)
        if command == "APPE":
            store(ftp, "f", b"more", "APPE")
        else:
            store(ftp, "f", b"more", rest=3)
        assert data_file(served) in watch.synced
        assert watch.synced[-1].endswith("index.sqlite-wal")


def test_memory_syncs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(lambda: Memory(""), {"vfs-write-back": "1h"}, {"ftp-upload-ack": "memory"}) as served,
        served.connect() as ftp,
    ):
        ftp.voidcmd("TYPE I")
        watch = Watch(served, monkeypatch)
        assert store(ftp, "f", b"x" * 1000).startswith("226")
        assert watch.synced == []
        assert served.vfs is not None
        item = served.vfs.store.peek("f")
        assert item is not None
        assert (item.dirty, item.row.promise) == (True, 1), "it is journalled, as what was closed and not synced"


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_disk_that_cannot_be_synced_is_no_226(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: Memory(""), {"vfs-write-back": "1h"}) as served, served.connect() as ftp:
        ftp.voidcmd("TYPE I")
        store(ftp, "f", b"old")

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(ftplib.Error, match=r"^4"):
                ftp.storbinary("STOR f", io.BytesIO(b"x" * size))
        got: list[bytes] = []
        ftp.retrbinary("RETR f", got.append)
        assert b"".join(got) == b"old"

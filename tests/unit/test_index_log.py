"""The index's log is longer than what is in it, so that syncing it does not grow it; nothing is lost by that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mountcore.cache import indexlog
from mountcore.cache.index import Index

NAME = "index.sqlite"


def log_of(directory: Path) -> Path:
    return directory / f"{NAME}-wal"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / NAME)


def test_a_log_that_is_synced_grows_ahead_and_then_not_for_long(index: Index, tmp_path: Path) -> None:
    index.set_fact("first", "1")
    before = log_of(tmp_path).stat().st_size
    index.sync()
    index.set_fact("second", "2")
    ahead = log_of(tmp_path).stat().st_size
    assert ahead >= before + indexlog.AHEAD
    for number in range(50):
        index.set_fact("more", str(number))
        assert log_of(tmp_path).stat().st_size == ahead
    for number in range(500):
        index.set_fact("more", "x" * 4000 + str(number))
        index.sync()
    grown = log_of(tmp_path).stat().st_size
    assert grown > ahead
    assert grown - ahead >= indexlog.AHEAD
    index.close()


def test_a_log_that_nobody_syncs_is_as_long_as_what_is_in_it(index: Index, tmp_path: Path) -> None:
    for number in range(20):
        index.set_fact("more", str(number))
    assert log_of(tmp_path).stat().st_size < indexlog.AHEAD
    index.close()


@pytest.mark.parametrize("shared", [True, False], ids=["killed", "power lost"])
def test_what_was_written_before_and_after_it_grew_is_there(index: Index, tmp_path: Path, *, shared: bool) -> None:
    index.sync()
    for number in range(700):
        index.set_fact(f"fact {number}", "x" * 1000)
        if number % 100 == 0:
            index.sync()
    later = tmp_path / "later"
    later.mkdir()
    for end in ("", "-wal", "-shm") if shared else ("", "-wal"):
        shutil.copy(tmp_path / f"{NAME}{end}", later / f"{NAME}{end}")
    again = Index(later / NAME)
    assert all(again.fact(f"fact {number}") == "x" * 1000 for number in range(700))
    again.close()
    index.close()


def test_a_disk_without_room_for_more_is_no_error(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync()

    def refuses(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuses)
    index.set_fact("one", "1")
    monkeypatch.undo()
    assert index.fact("one") == "1"
    assert log_of(tmp_path).stat().st_size < indexlog.AHEAD
    index.close()

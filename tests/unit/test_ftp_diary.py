"""The diary of an FTP remote tells the next process what this one had under way, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountcore.remotes.ftp.deeds import MOVE, SLOT, UPLOAD, Deed, Diary

UPLOADED = Deed(UPLOAD, "a/\udcff\n", "a/.part", 7, "stamp")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def dies(diary: Diary) -> None:
    assert diary._file is not None
    os.close(diary._file)
    diary._file = None


def inherited() -> list[Deed]:
    heir = Diary("here")
    found = [deed._replace(began=0.0) for deed in heir.inherit()]
    heir.close()
    return found


def test_what_was_under_way_is_inherited_with_how_far_it_had_come() -> None:
    dead = Diary("here")
    dead.note(UPLOADED)
    dead.will_name(dead.note(UPLOADED._replace(path="b")))
    moved = dead.change(dead.note(Deed(MOVE, "c", "d")), Deed(MOVE, "c", "e"))
    dead.forget(dead.note(Deed(MOVE, "f", "g")))
    dies(dead)
    assert moved == Deed(MOVE, "c", "e")
    assert inherited() == [UPLOADED, UPLOADED._replace(path="b", naming=True), moved]


def test_what_is_forgotten_does_not_come_back_in_its_slot() -> None:
    """Not even with a change that is too long to be written down."""
    dead = Diary("here")
    dead.forget(dead.note(UPLOADED))
    dead.will_name(dead.note(UPLOADED._replace(path="x" * SLOT)))
    dies(dead)
    assert inherited() == []


@pytest.mark.parametrize(
    "slot",
    [b"", b"\0", b"-", b"!", b"-{}", b"-[]", b'-{"kind": 1}', b"{}", b'!{"kind": "move", "path": 3}', b"\xff" * SLOT,
     b'-{"kind": "move", "path": "a", "naming": true}'],
)  # fmt: skip
def test_what_makes_no_sense_is_passed_over(slot: bytes) -> None:
    dead = Diary("here")
    for name in "ab":
        dead.note(Deed(MOVE, name))
    assert dead._file is not None
    os.pwrite(dead._file, slot.ljust(SLOT, b"\0"), 0)
    dies(dead)
    assert inherited() == [Deed(MOVE, "b")]

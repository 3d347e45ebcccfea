"""Comparing what is there with what was promised."""

from __future__ import annotations

from collections.abc import Sequence

from .ground import Ground
from .table import Row
from .writers import MountWriter, Writer


def compare(row: Row, where: str, found: dict[str, bytes], writers: Sequence[Writer]) -> None:
    """Each writer's files; what is found is what is promised from here on."""
    for writer in writers:
        for complaint in writer.ledger.complaints(found):
            row.lose(f"{where}: {complaint}")
        row.checked += len(writer.ledger.files)


def strangers(row: Row, where: str, found: dict[str, bytes], writers: Sequence[Writer]) -> list[str]:
    """Files that nobody made: those that say "interrupted" are answered, and there is one a program at the most."""
    known = {path for writer in writers for path in writer.ledger.files}
    others = sorted(path for path in found if path not in known)
    interrupted = [path for path in others if "(interrupted " in path]
    for path in others:
        if path not in interrupted:
            row.tear(f"{where}: {path} ({len(found[path])} bytes) is nobody's")
    if len(interrupted) > sum(isinstance(writer, MountWriter) for writer in writers):
        row.tear(f"{where}: more files interrupted than were being written: {interrupted}")
    return interrupted


def settle(row: Row, ground: Ground, writers: Sequence[Writer]) -> None:
    """After the fault: start again, look through the mount, upload what is left, look at the storage."""
    ground.start()
    shown = ground.shown()
    compare(row, "mount", shown, writers)
    for path in strangers(row, "mount", shown, writers):
        (ground.mountpoint / path).unlink()
    code = ground.drain()
    if code != 0:
        row.fail(f"draining ended with exit code {code}: {ground.said()[-300:]}")
    stored = ground.stored()
    compare(row, "storage", stored, writers)
    for path in strangers(row, "storage", stored, writers):
        row.tear(f"storage: {path} was deleted, and is there")

"""A kill at every write of the index and of the cache's files, and a disk that fails at each of them.

A plain day of work is done once while the cache directory is copied before and after each write, together with what
the storage holds at that moment: each copy is what a kill there would have left. Each is then started from, and what
it stores is judged. The index and the file layer are the real ones, with something in front of them.
"""

from __future__ import annotations

import copy
import errno
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mountcore.cache.index import Index
from mountcore.remotes.memory import Memory
from mountcore.stage import Publish
from mountcore.vfs import Vfs

from . import live
from .faulty import Faulty
from .scene import NEVER, edit, opened, settings
from .storage import Content, content_of_remote

pytestmark = pytest.mark.trio
KIB = 1 << 10
OLD, NEW = b"old" * 50 * KIB, b"new" * 40 * KIB
CUT, CHANGED = OLD[:1000], NEW[:7] + b"X" + NEW[8:]
GOING = CUT[:7] + b"Y" + CUT[8:]


@dataclass(frozen=True)
class Step:
    """One thing that a program does, and what there is afterwards. Half of ``written`` was promised to nobody."""

    what: str
    do: Callable[[Vfs], Awaitable[object]]
    change: dict[str, bytes | str | None] = field(default_factory=dict)
    """Path → content now; None: gone."""
    written: str | None = None
    half: dict[str, bytes | str | None] | None = None
    """The change instead, where the storage did its part and then the cache's disk failed, and the program was told:
    changes keep the old name, and the new one has what the storage moved. Of a conflict, the name up to the time."""


async def truncate(vfs: Vfs, path: str, size: int) -> None:
    await vfs.truncate(await vfs.resolve(path), size)


async def discard(vfs: Vfs, path: str) -> None:
    await vfs.discard_changes(await vfs.resolve(path))


STEPS = [
    Step("write a new file", lambda v: live.write_file(v, "new", NEW), {"new": NEW}, "new"),
    Step("read", lambda v: live.read_file(v, "stored"), {}),
    Step("write over a stored file", lambda v: live.write_file(v, "stored", NEW), {"stored": NEW}, "stored"),
    Step("change a part", lambda v: live.overwrite(v, "part", 7, b"X"), {"part": OLD[:7] + b"X" + OLD[8:]}, "part"),
    Step("truncate", lambda v: truncate(v, "cut", 1000), {"cut": CUT}, "cut"),
    Step("rename what is not stored", lambda v: live.rename(v, "new", "renamed"), {"new": None, "renamed": NEW}),
    Step("upload", lambda v: v.drain()),
    Step("rename what is stored", lambda v: live.rename(v, "renamed", "again"), {"renamed": None, "again": NEW}),
    Step("write a temporary file", lambda v: live.write_file(v, "tmp", b"saved"), {"tmp": b"saved"}, "tmp"),
    Step("rename it over", lambda v: live.rename(v, "tmp", "stored"), {"tmp": None, "stored": b"saved"}),
    Step("write in a directory", lambda v: live.write_file(v, "d/f", NEW), {"d/f": NEW}, "d/f"),
    Step("rename the directory", lambda v: live.rename(v, "d", "e"), {"d/f": None, "e/f": NEW}),
    Step("change what is stored", lambda v: live.overwrite(v, "again", 7, b"X"), {"again": CHANGED}, "again"),
    Step(
        "rename what was changed", lambda v: live.rename(v, "again", "third"), {"again": None, "third": CHANGED},
        half={"again": CHANGED, "third": NEW},
    ),
    Step("change what is to go", lambda v: live.overwrite(v, "cut", 7, b"Y"), {"cut": GOING}, "cut"),
    Step(
        "rename over it", lambda v: live.rename(v, "third", "cut"), {"third": None, "cut": CHANGED},
        half={"third": CHANGED, "cut": NEW, "cut (conflict": GOING},
    ),
    Step("remove", lambda v: live.remove(v, "cut"), {"cut": None}),
    Step("write it anew", lambda v: live.write_file(v, "cut", CUT), {"cut": CUT}, "cut"),
    Step("upload that", lambda v: v.drain()),
    Step("receive", lambda v: live.stage(v, "received", OLD), {"received": OLD}),
    Step("receive over", lambda v: live.stage(v, "part", NEW), {"part": NEW}),
    Step("append to it", lambda v: live.stage(v, "received", b"+", Publish.APPEND), {"received": OLD + b"+"}),
    Step("write once more", lambda v: live.write_file(v, "cut", b"not this"), {"cut": b"not this"}, "cut"),
    Step("discard", lambda v: discard(v, "cut"), {"cut": CUT}),
    Step("upload again", lambda v: v.drain()),
]  # fmt: skip


async def begin() -> Faulty:
    """A storage with some files."""
    remote = Faulty(Memory())
    await remote.inner.mkdir("d")
    for name in ("stored", "part", "cut"):
        await edit(remote, name, OLD)
    return remote


def states() -> list[Content]:
    """What there is before each step, and after the last."""
    now: Content = {"stored": OLD, "part": OLD, "cut": OLD}
    found = [dict(now)]
    for step in STEPS:
        now |= step.change  # type: ignore[arg-type]
        now = {path: data for path, data in now.items() if data is not None}
        found.append(dict(now))
    return found


@dataclass
class Image:
    """What a kill left."""

    place: Path
    storage: Any
    step: int
    at: str


def copy_what_is_there(source: str, target: str) -> None:
    """A thread deletes what the index has forgotten: a kill may come before that, or after."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


class Camera:
    """Copies the cache before and after each write."""

    def __init__(self, cache: Path, images: Path, remote: Faulty) -> None:
        self.cache, self.images, self.remote = cache, images, remote
        self.step = 0
        self.taken: list[Image] = []
        self._busy = False
        self._thread = threading.get_ident()

    def look(self, at: str) -> None:
        """Take one."""
        if self._busy or threading.get_ident() != self._thread or not self.cache.exists():
            return
        self._busy = True
        place = self.images / str(len(self.taken))
        shutil.copytree(
            self.cache, place, ignore=shutil.ignore_patterns("listings", "reserve"), copy_function=copy_what_is_there
        )
        assert isinstance(self.remote.inner, Memory)
        self.taken.append(Image(place, copy.deepcopy(self.remote.inner._root), self.step, at))
        self._busy = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """In front of the index and the files for as long as the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            self._around(patch, Index, "_transact", "the index")
            for name in ("pwrite", "ftruncate", "unlink", "rename"):
                self._around(patch, os, name, name)
            yield

    def _around(self, patch: pytest.MonkeyPatch, where: Any, name: str, what: str) -> None:
        original = getattr(where, name)

        def call(*args: Any, **more: Any) -> Any:
            self.look(f"before {what}")
            done = original(*args, **more)
            self.look(f"after {what}")
            return done

        patch.setattr(where, name, call)


def allowed(found: Content, before: Content, after: Content, step: Step, *, told: bool = False) -> bool:
    """Whether what is stored is one of the two states. Half of a written file may be there, or not; if the program was
    ``told`` that it failed, also what it had left of it when it gave up."""
    shown = {path: data for path, data in found.items() if data is not None and "(interrupted" not in path}
    if shown in (before, after):
        return True
    if told and step.half is not None:
        return {re.sub(r" \(conflict .*", " (conflict", path): data for path, data in shown.items()} == {
            path: data for path, data in {**before, **step.half}.items() if data is not None
        }
    if step.written is None:
        return False
    rest = [{path: data for path, data in tree.items() if path != step.written} for tree in (shown, before)]
    fine = [None, before.get(step.written), after.get(step.written), *([b""] if told else [])]
    return rest[0] == rest[1] and shown.get(step.written) in fine


async def test_a_kill_at_every_write_leaves_one_of_two_states(tmp_path: Path) -> None:
    remote = await begin()
    camera = Camera(tmp_path / "cache", tmp_path / "images", remote)
    with camera.running():
        async with opened(remote, settings(tmp_path / "cache", write_back=NEVER), 120) as vfs:
            for number, step in enumerate(STEPS):
                camera.step = number
                await step.do(vfs)
            camera.step = len(STEPS) - 1
    expected = states()
    final = await content_of_remote(remote.inner)
    assert {path: data for path, data in final.items() if data is not None} == expected[-1]
    assert len(camera.taken) > 4 * len(STEPS)
    for image in camera.taken:
        again = Faulty(Memory())
        again.inner._identity, again.inner._root = remote.inner.identity, image.storage  # type: ignore[attr-defined]
        async with opened(again, settings(image.place), 60) as vfs:
            assert await vfs.drain() == ()
            shown = {name: await live.read_file(vfs, name) for name in await live.names(vfs) - {"d", "e"}}
        found = await content_of_remote(again.inner)
        step = STEPS[image.step]
        where = f"killed at {step.what!r}, {image.at}: {sorted(found)}"
        assert allowed(found, expected[image.step], expected[image.step + 1], step), where
        assert all(found[name] == data for name, data in shown.items()), where
        shutil.rmtree(image.place)


class Faults:
    """Lets the write number ``failing`` of a layer fail, once."""

    def __init__(self, layer: str, failing: int) -> None:
        self.layer, self.failing, self.count = layer, failing, 0
        self._thread = threading.get_ident()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """In front of the layer for as long as the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            if self.layer == "index":
                problem: OSError | sqlite3.OperationalError = sqlite3.OperationalError("disk I/O error")
                problem.sqlite_errorcode = sqlite3.SQLITE_IOERR  # type: ignore[union-attr]
                self._around(patch, Index, "_transact", problem)
            else:
                for name in ("pwrite", "ftruncate"):
                    self._around(patch, os, name, OSError(errno.EIO, "the disk broke"))
            yield

    def _around(self, patch: pytest.MonkeyPatch, where: Any, name: str, problem: Exception) -> None:
        original = getattr(where, name)

        def call(*args: Any, **more: Any) -> Any:
            if threading.get_ident() == self._thread:
                self.count += 1
                if self.count == self.failing + 1:
                    raise problem
            return original(*args, **more)

        patch.setattr(where, name, call)


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[step.what for step in STEPS])
@pytest.mark.parametrize("layer", ["index", "files"])
async def test_a_disk_that_fails_once_loses_nothing(tmp_path: Path, number: int, layer: str) -> None:
    """Each write of one step fails in turn: the step is done or an error, and nothing else changes."""
    expected = states()
    for failing in range(60):
        remote = await begin()
        faults = Faults(layer, failing)
        async with opened(remote, settings(tmp_path / str(failing), write_back=NEVER), 60) as vfs:
            for step in STEPS[:number]:
                await step.do(vfs)
            with faults.waiting(), suppress(OSError):
                await STEPS[number].do(vfs)
            assert await vfs.drain() == ()
            found = await content_of_remote(remote.inner)
            where = f"write {failing} of {STEPS[number].what!r} failed: {sorted(found)}"
            assert allowed(found, expected[number], expected[number + 1], STEPS[number], told=True), where
            for path, data in found.items():
                if data is not None:
                    assert await live.read_file(vfs, path) == data, where
        if faults.count <= failing:
            return
    raise AssertionError("it never stops writing")

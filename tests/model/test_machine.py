"""A Hypothesis state machine drives the Vfs from a foreign thread against a model that is a dict: writes, reads,
renames, removals, open files, eviction, a storage that fails before or after it did what it was asked, that sends
too little or too much or slowly, or gets an upload changed on its way, an index that fails, clean restarts and
crashes. Time passes fifty times as fast as outside.

Whatever happens: a read gives the model's bytes or an error, and an error only after a fault; after a fault a change
has happened or not, and nothing else; nothing is ever in conflict, since nobody else changes the storage.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mountcore.errors import Corrupt, NoSpace, StorageError, TimedOut, Unreachable
from mountcore.handle import Handle, OpenFlags
from mountcore.settings import CacheMode, CacheSettings, ReadSettings, TreeSettings, VfsSettings
from mountcore.vfs import Vfs

from . import live, scene
from .faulty import Faulty
from .live import LiveCore
from .storage import Content, content_of_remote

EXAMPLES = int(os.environ.get("PORTSIDE_MACHINE_EXAMPLES", "100"))
STEPS = 50
RATE = 50.0
KIB = 1 << 10

DIRECTORIES = ("d", "e", "d/s")
NAMES = ("a", "b", "c")
PATHS = tuple(f"{directory}/{name}" if directory else name for directory in ("", *DIRECTORIES) for name in NAMES)

paths = st.sampled_from(PATHS)
sizes = st.sampled_from([0, 1, 100, 5 * KIB, 130 * KIB, 300 * KIB])
offsets = st.sampled_from([0, 1, 4 * KIB, 128 * KIB, 200 * KIB, 700 * KIB, 1100 * KIB])
chances = st.integers(0, 1 << 30)


class File:
    """A file of the model; open handles know it, whatever its name is now."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Open:
    """A handle of the Vfs and what it should be about."""

    def __init__(self, handle: Handle, file: File, *, writes: bool) -> None:
        self.handle = handle
        self.file = file
        self.writes = writes


Tree = dict[str, File | None]


def overwritten(data: bytes, offset: int, new: bytes) -> bytes:
    """What pwrite(2) makes of it."""
    if not new:
        return data
    return data[:offset].ljust(offset, b"\0") + new + data[offset + len(new) :]


class CoreMachine(RuleBasedStateMachine):
    """The Vfs and its model."""

    @initialize(
        kind=st.sampled_from(["memory", "folder"]),
        write_back=st.sampled_from([0.0, 0.3, 5.0, 3600.0]),
        max_size=st.sampled_from([None, None, 3 << 20]),
        cache_time=st.sampled_from([0.0, 5.0, 300.0]),
        chunk=st.sampled_from([64 * KIB, None]),
        mode=st.sampled_from([CacheMode.FULL, CacheMode.FULL, CacheMode.WRITES]),
    )
    def begin(
        self, kind: str, write_back: float, max_size: int | None, cache_time: float, chunk: int | None, mode: CacheMode
    ) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="machine-"))
        self.caches = 0
        self.remote: Faulty = scene.memory() if kind == "memory" else scene.folder(self.place / "store")
        self.chosen = (write_back, max_size, cache_time, chunk)
        self.mode = mode
        self.tight = max_size is not None
        self.faulted = False
        self.counter = 0
        self.tree: Tree = {}
        self.open: list[Open] = []
        self.tree = {"d": None, "e": None, "d/s": None}
        for path in ("a", "d/b", "d/s/c"):
            self.tree[path] = File(self.bytes(1300 * KIB))
        trio.run(self.fill_the_storage)
        self.start()

    async def fill_the_storage(self) -> None:
        """Before any core looks at it."""
        for path, file in self.tree.items():
            if file is None:
                await self.remote.inner.mkdir(path)
            else:
                await scene.edit(self.remote, path, file.data)

    # machinery

    def start(self) -> None:
        """Open a core; only uploads and downloads go wrong meanwhile: without its root, no Vfs is attached."""
        self.remote.rules = [rule for rule in self.remote.rules if rule.operation in ("put", "read")]
        write_back, max_size, cache_time, chunk = self.chosen
        self.core = LiveCore(rate=RATE)
        self.vfs: Vfs = self.core.attach(
            self.remote,
            VfsSettings(
                cache=CacheSettings(
                    directory=self.place / f"cache{self.caches}", write_back=write_back, max_size=max_size,
                    poll_interval=30.0, max_age=200.0, mode=self.mode,
                ),
                read=ReadSettings(chunk_size=chunk, buffer_size=128 * KIB, timeout=200.0),
                tree=TreeSettings(cache_time=cache_time),
            ),
        )  # fmt: skip

    def bytes(self, size: int) -> bytes:
        """Bytes that are nowhere else, and say where they belong."""
        self.counter += 1
        unit = f"<{self.counter}>".encode()
        return (unit * (size // len(unit) + 1))[:size]

    def data(self, path: str) -> bytes:
        """Content of a file of the model."""
        file = self.tree[path]
        assert file is not None
        return file.data

    def is_file(self, path: str) -> bool:
        return isinstance(self.tree.get(path), File)

    def parent_is_there(self, path: str) -> bool:
        parent = path.rpartition("/")[0]
        return not parent or (parent in self.tree and self.tree[parent] is None)

    def calm(self) -> None:
        """The storage is well again, and so is the disk of the cache."""
        self.core.sync(self.remote.rules.clear)
        self.core.sync(self.calm_index)

    def excused(self, problem: StorageError) -> None:
        """An error needs a reason."""
        if not (self.faulted or (self.tight and isinstance(problem, NoSpace))):
            raise AssertionError(f"an error without a fault: {problem!r}") from problem
        event(f"error: {type(problem).__name__}")

    @staticmethod
    def check(fine: bool, what: str) -> None:
        """An assertion about an error."""
        assert fine, what

    async def walk(self, directory: str = "") -> Content:
        found: Content = {}
        for node in await self.vfs.children(await self.vfs.resolve(directory)):
            path = f"{directory}/{node.name}" if directory else node.name
            if self.vfs.attributes(node).mode & 0o40000:
                found[path] = None
                found.update(await self.walk(path))
            else:
                data = await live.read_file(self.vfs, path)
                assert self.vfs.attributes(node).size == len(data)
                found[path] = data
        return found

    def shown(self) -> Content:
        return self.core.call(self.walk)

    def compare(self, when: str) -> None:
        """What is shown is what the model has."""
        shown, wanted = self.shown(), self.content(self.tree)
        assert shown == wanted, f"{when}: {summary(shown)}, not {summary(wanted)}"

    @staticmethod
    def content(tree: Tree) -> Content:
        return {path: None if file is None else file.data for path, file in tree.items()}

    def recovered(self) -> Content:
        """What is shown when the storage and the disk are well again, and it has told what it did."""
        self.calm()

        async def known() -> None:
            with trio.fail_after(200.0):
                while self.vfs.snapshot().doubts:  # noqa: ASYNC110 - it has no event
                    await trio.sleep(0.1)

        self.core.call(known)
        self.core.call(self.vfs.refresh)
        return self.shown()

    def save_again(self, file: File | None) -> None:
        """Who was told that his file could not be saved saves it again; else a crash makes an interrupted one of it."""
        for path in [path for path, found in self.tree.items() if found is file and file is not None]:
            with suppress(StorageError):  # of an upload that was under way when the storage recovered
                self.core.call(live.save, self.vfs, path)
                return
            self.core.call(live.save, self.vfs, path)

    def settle(self, *allowed: Tree) -> None:
        """After an error: the storage recovers, and what there is must be one of these."""
        shown = self.recovered()
        for tree in allowed:
            if self.content(tree) == shown:
                self.tree = tree
                return
        raise AssertionError(
            f"neither before nor after: {summary(shown)}, not {[summary(self.content(t)) for t in allowed]}"
        )

    def change_names(self, after: Tree, also: Tree | None, operation: Any, *arguments: object) -> None:
        """A change of names that happens or does not; ``also`` is what may come of it only after a fault."""
        try:
            self.core.call(operation, self.vfs, *arguments)
        except StorageError as problem:
            self.excused(problem)
            self.settle(*[tree for tree in (self.tree, after, also) if tree is not None])
        else:
            self.tree = after

    def change_content(self, path: str, new: bytes, *between: bytes, operation: Any) -> None:
        """A change of one file's content; ``between`` is what it may be when an error came half-way."""
        old = self.tree.get(path)
        try:
            self.core.call(operation)
        except StorageError as problem:
            self.excused(problem)
            shown = self.recovered()
            now = shown.get(path)
            self.check(now in (old.data if old else None, new, *between), f"{path} is torn after {problem!r}")
            if now is None:
                self.tree.pop(path, None)
            elif old is not None:
                old.data = now
            else:
                self.tree[path] = File(now)
            self.check(
                shown == self.content(self.tree),
                f"something else changed after {problem!r}: {summary(shown)}, not {summary(self.content(self.tree))}",
            )
            self.save_again(self.tree.get(path))
        else:
            if old is not None:
                old.data = new
            else:
                self.tree[path] = File(new)

    # content

    @rule(path=paths, size=sizes)
    def write(self, path: str, size: int) -> None:
        if self.parent_is_there(path) and not (path in self.tree and self.tree[path] is None):
            data = self.bytes(size)
            self.change_content(path, data, b"", operation=lambda: live.write_file(self.vfs, path, data))

    @rule(path=paths, size=sizes)
    def append(self, path: str, size: int) -> None:
        if self.is_file(path):
            data = self.bytes(size)
            new = self.data(path) + data
            self.change_content(path, new, operation=lambda: live.append(self.vfs, path, data))

    @rule(path=paths, offset=offsets, size=sizes)
    def overwrite(self, path: str, offset: int, size: int) -> None:
        if self.is_file(path):
            data = self.bytes(size)
            new = overwritten(self.data(path), offset, data)
            self.change_content(path, new, operation=lambda: live.overwrite(self.vfs, path, offset, data))

    @rule(path=paths, size=offsets)
    def truncate(self, path: str, size: int) -> None:
        if self.is_file(path):

            async def run() -> None:
                await self.vfs.truncate(await self.vfs.resolve(path), size)

            self.change_content(path, self.data(path)[:size].ljust(size, b"\0"), operation=run)

    @rule(path=paths)
    def read(self, path: str) -> None:
        if self.is_file(path):
            try:
                data = self.core.call(live.read_file, self.vfs, path)
            except StorageError as problem:
                self.excused(problem)
            else:
                assert data == self.data(path)

    @rule(path=paths, offset=offsets, size=sizes)
    def read_a_part(self, path: str, offset: int, size: int) -> None:
        if self.is_file(path):

            async def run() -> bytes:
                handle = await self.vfs.open(await self.vfs.resolve(path), OpenFlags.READ)
                try:
                    return await handle.read(offset, size)
                finally:
                    await handle.close()

            try:
                data = self.core.call(run)
            except StorageError as problem:
                self.excused(problem)
            else:
                assert data == self.data(path)[offset : offset + size]

    # open files

    # no preconditions: what is open depends on faults and time, and a run that is repeated would draw differently

    @rule(path=paths, writes=st.booleans())
    def open_a_file(self, path: str, writes: bool) -> None:
        file = self.tree.get(path)
        if file is None or len(self.open) >= 3:
            return
        if not writes and self.mode is not CacheMode.FULL:
            return  # whoever reads past the cache reads the version that he opened, or an error
        flags = OpenFlags.READ | OpenFlags.WRITE if writes else OpenFlags.READ

        async def run() -> Handle:
            return await self.vfs.open(await self.vfs.resolve(path), flags)

        try:
            self.open.append(Open(self.core.call(run), file, writes=writes))
        except StorageError as problem:
            self.excused(problem)

    @rule(which=chances, offset=offsets, size=sizes)
    def write_into_an_open_file(self, which: int, offset: int, size: int) -> None:
        if not self.open:
            return
        opened = self.open[which % len(self.open)]
        if opened.writes:
            data = self.bytes(size)
            try:
                self.core.call(opened.handle.write, offset, data)
            except StorageError as problem:
                self.excused(problem)
            else:
                opened.file.data = overwritten(opened.file.data, offset, data)

    @rule(which=chances, offset=offsets, size=sizes)
    def read_an_open_file(self, which: int, offset: int, size: int) -> None:
        if not self.open:
            return
        opened = self.open[which % len(self.open)]
        assert opened.handle.size == len(opened.file.data)
        try:
            data = self.core.call(opened.handle.read, offset, size)
        except StorageError as problem:
            self.excused(problem)
        else:
            assert data == opened.file.data[offset : offset + size]

    @rule(which=chances)
    def close_a_file(self, which: int) -> None:
        if not self.open:
            return
        opened = self.open.pop(which % len(self.open))
        for step in (opened.handle.flush, opened.handle.close):
            try:
                self.core.call(step)
            except StorageError as problem:
                self.excused(problem)
                self.calm()
                if step == opened.handle.close:
                    self.save_again(opened.file)

    # names

    @rule(path=paths)
    def remove(self, path: str) -> None:
        if self.is_file(path):
            after = {other: file for other, file in self.tree.items() if other != path}
            self.change_names(after, None, live.remove, path)

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        taken = new in self.tree and self.tree[new] is None
        if self.is_file(old) and old != new and self.parent_is_there(new) and not taken:
            after = {**{path: file for path, file in self.tree.items() if path != old}, new: self.tree[old]}
            self.change_names(after, None, live.rename, old, new)

    @rule(path=st.sampled_from(DIRECTORIES))
    def make_a_directory(self, path: str) -> None:
        if path not in self.tree and self.parent_is_there(path):
            self.change_names({**self.tree, path: None}, None, live.mkdir, path)

    @rule(path=st.sampled_from(DIRECTORIES))
    def remove_a_directory(self, path: str) -> None:
        if path in self.tree and not any(other.startswith(path + "/") for other in self.tree):
            after = {other: file for other, file in self.tree.items() if other != path}
            self.change_names(after, None, live.rmdir, path)

    @rule(old=st.sampled_from(DIRECTORIES), new=st.sampled_from(DIRECTORIES))
    def rename_a_directory(self, old: str, new: str) -> None:
        below = new.startswith(old + "/")
        empty = not any(path.startswith(new + "/") for path in self.tree)
        if old in self.tree and old != new and not below and empty and self.parent_is_there(new):
            if new.rpartition("/")[0] == old or old.rpartition("/")[0] == new:
                return
            after: Tree = {}
            for path, file in self.tree.items():
                inside = path == old or path.startswith(old + "/")
                after[new + path[len(old) :] if inside else path] = file
            replaced = {path: file for path, file in self.tree.items() if path != new}
            self.change_names(after, replaced, live.rename, old, new)

    # what happens to a core

    @rule()
    def evict(self) -> None:
        try:
            self.core.sync(self.vfs.evictor.make_room, 1 << 40)
        except StorageError as problem:
            self.excused(problem)
            self.calm()
        self.check_what_is_held()

    @rule()
    def forget_listings(self) -> None:
        self.core.call(self.vfs.refresh)
        self.check_what_is_held()

    @rule(
        operation=st.sampled_from(
            ["put", "put", "put", "read", "read", "list", "stat", "remove", "rename", "mkdir", "rmdir"]
        ),
        after=st.booleans(),
        problem=st.sampled_from([Unreachable, TimedOut, Corrupt]),
        times=st.integers(1, 3),
    )
    def fail_at_the_storage(self, operation: str, after: bool, problem: type[StorageError], times: int) -> None:
        self.faulted = True
        how = {"after" if after and operation not in ("read", "list") else "before": problem("", "injected")}
        self.core.sync(lambda: self.remote.rule(operation, times=times, **how))

    @rule(problem=st.sampled_from([Unreachable, TimedOut]), upto=st.sampled_from([0, 1, 70 * KIB, 200 * KIB]))
    def break_a_transfer(self, problem: type[StorageError], upto: int) -> None:
        self.faulted = True
        for operation in ("read", "put"):
            self.core.sync(lambda op=operation: self.remote.rule(op, dies=upto, before=problem("", "broke off")))

    @rule(how=st.sampled_from(["short", "nothing", "long"]))
    def lie_about_content(self, how: str) -> None:
        self.faulted = True
        match how:
            case "short":
                self.core.sync(lambda: self.remote.rule("read", cut=50 * KIB))
            case "nothing":
                self.core.sync(lambda: self.remote.rule("read", cut=0))
            case "long":
                self.core.sync(lambda: self.remote.rule("read", extra=b"TOO MUCH"))

    @rule(operation=st.sampled_from(["put", "read", "list", "rename"]), delay=st.sampled_from([0.5, 5.0, 20.0]))
    def be_slow(self, operation: str, delay: float) -> None:
        self.core.sync(lambda: self.remote.rule(operation, delay=delay))

    @rule(
        operation=st.sampled_from(["put", "list", "stat", "remove", "rename", "rename", "mkdir", "rmdir"]),
        what=st.sampled_from(["evict", "evict", "forget", "hurry"]),
    )
    def have_something_happen_meanwhile(self, operation: str, what: str) -> None:
        """While the storage is asked for something, the cache is tidied, say."""

        def happen() -> None:
            match what:
                case "evict":
                    with suppress(StorageError):  # an index that fails
                        self.vfs.evictor.make_room(1 << 40)
                case "forget":
                    self.vfs.tree.forget(self.vfs.root)
                case "hurry":
                    self.vfs.writeback.hurry()

        self.core.sync(lambda: self.remote.rule(operation, meanwhile=happen))

    @rule(at=st.sampled_from([0, 4 * KIB]))
    def change_an_upload_on_its_way(self, at: int) -> None:
        self.faulted = True
        self.core.sync(lambda: self.remote.rule("put", flip=at))

    @rule(after=st.integers(0, 3), times=st.sampled_from([1, 1, 2, 5, 1000]))
    def fail_at_the_index(self, after: int, times: int) -> None:
        """Writes of the index after so many others fail, as on a bad disk."""
        self.faulted = True
        index, before = self.vfs.store.index, after

        def fail(statements: Any) -> None:
            nonlocal before
            before -= 1
            if before < 0:
                if before <= -times:
                    self.calm_index()
                problem = sqlite3.OperationalError("disk I/O error")
                problem.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise problem
            type(index)._transact(index, statements)

        self.core.sync(lambda: setattr(index, "_transact", fail))

    def calm_index(self) -> None:
        """The disk is well again."""
        vars(self.vfs.store.index).pop("_transact", None)

    @rule()
    def drain(self) -> None:
        self.calm()
        left = self.core.call(self.vfs.drain)
        if not any(opened.writes for opened in self.open):
            assert not left, left
            stored = self.core.call(content_of_remote, self.remote.inner)
            assert stored == self.content(self.tree), f"{summary(stored)} is not {summary(self.content(self.tree))}"
            self.faulted = False

    def close_all(self) -> None:
        while self.open:
            self.close_a_file(0)

    @rule()
    def restart(self) -> None:
        self.close_all()
        self.core.close()
        self.start()

    @rule(calm=st.booleans())
    def crash(self, calm: bool) -> None:
        self.close_all()
        if calm:
            self.calm()
        old = self.place / f"cache{self.caches}"
        self.caches += 1

        def die() -> None:  # what the storage was asked for before may still happen, and nothing after
            shutil.copytree(old, self.place / f"cache{self.caches}")
            self.remote.down = Unreachable()

        self.core.sync(die)
        self.core.close()
        self.remote.down = None
        shutil.rmtree(old)
        self.start()

    # always

    def check_what_is_held(self) -> None:
        """The count that eviction goes by is right."""

        def check() -> None:
            store = self.vfs.store
            loaded = {ident: item.spans.total for ident, item in store._items.items()}
            resting = store.index._db.execute("SELECT id, held FROM items").fetchall()
            held = sum(loaded.values()) + sum(size for ident, size in resting if ident not in loaded)
            assert store.held == held, f"{store.held} counted, {held} held"

        self.core.sync(check)

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        try:
            if sys.exception() is not None:
                return  # it failed already, and said why
            self.close_all()
            self.drain()
            self.core.call(self.vfs.refresh)
            self.compare("in the end")
            self.restart()
            self.compare("after a restart")
            assert self.core.call(self.vfs.statfs).free >= 0
            files = {int(path.name) for path in (self.place / f"cache{self.caches}").glob("*/data/*/*")}
            known = {
                i
                for (i,) in self.core.sync(
                    lambda: self.vfs.store.index._db.execute(
                        "SELECT id FROM items UNION SELECT id FROM trash"
                    ).fetchall()
                )
            }
            assert files <= known, f"cache files that nobody knows: {files - known}"
        finally:
            self.core.close()
            shutil.rmtree(self.place, ignore_errors=True)


def summary(content: Content) -> dict[str, object]:
    """Short enough to read."""
    return {path: data if data is None else (len(data), data[:12], data[-6:]) for path, data in sorted(content.items())}


TestCore = CoreMachine.TestCase
TestCore.pytestmark = [pytest.mark.timeout(600)]  # a minute on a machine that is not busy
# threads and time make a run hard to repeat to the letter, so failures are not shrunk: the steps are printed instead
TestCore.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, print_blob=True, phases=[Phase.generate]
)

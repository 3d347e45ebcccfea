"""Write-back: files that the remote does not have yet, and their way there. Used by handles and the Vfs.

States of an upload, kept until the item is clean:

============  ======================================  ==============================================
state         meaning                                 left by
============  ======================================  ==============================================
``OPEN``      dirty, and somebody may still write     last writer closes → WAITING
``WAITING``   the idle delay runs, or no free place   due and a place → UPLOADING; write → OPEN
``UPLOADING`` the remote is receiving a snapshot      stored → clean; write, rename, remove → withdrawn,
                                                      then OPEN or WAITING; failure → RETRYING
``RETRYING``  the last try failed; back-off runs      due → UPLOADING; `hurry` → at once
``HELD``      a user said: not now                    `release` → WAITING
============  ======================================  ==============================================

What happens to each of them (every cell is a case of ``tests/model/test_writeback.py``):

=====================  ==================  =============================  ==================  ==================
event                  OPEN                WAITING, RETRYING              UPLOADING           HELD
=====================  ==================  =============================  ==================  ==================
write, truncate,       stays               → OPEN; the delay begins       withdrawn, settles  stays; the new
open to write          OPEN                anew with the last close       first; then OPEN    content is held
set a time             with the upload     the delay begins anew          withdrawn, anew     with the upload
rename, also of its    the name follows    the name follows, the delay    withdrawn; to the   the name follows,
directory              at once             begins anew                    new name            stays
renamed over           goes with its last  discarded; what takes the      withdrawn, then     discarded
                       handle              name is uploaded over it       discarded
remove                 goes with its last  discarded; removed at the      withdrawn, then     discarded, and
                       handle              remote if it may be there      the same            the same
open to read, read     nothing             nothing                        nothing             nothing
=====================  ==================  =============================  ==================  ==================

An item is clean if and only if the upload that ended stored the generation that is here. `withdraw` ends a
running upload and waits until it has settled: after it, nobody reads the file for an upload, and the remote
holds either the old content or the complete new one. An upload whose end was not heard is remembered as
``attempt``, so that finding our own bytes at the remote is not taken for somebody else's edit. What the remote
stored is compared by hash where it has one (:mod:`.verify`): what differs is sent again, and is not clean.

Failures are retried for ever with exponential back-off up to ``MAX_DELAY``; tries and the last error are
in the journal. Uploads carry the version they replace; a remote edit makes `Conflict` handling run
(``on_conflict``), never a silent overwrite.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import final

import trio

from ..accounting import Counters, Upload, UploadState
from ..errors import Corrupt, NotFound, Stale, StorageError
from ..remotes.protocol import ABSENT, Entry, Expect, Remote, Version
from ..remotes.sources import FileSource
from ..settings import CacheSettings
from . import verify
from .fetch import Fetcher
from .item import TOUCHED, Generation, Item
from .rows import ItemId
from .store import Store

log = logging.getLogger(__name__)

MAX_DELAY = 300.0
LOOK_AGAIN = 0.5
MANY = 100
MIN_DELAY = 1.0
FREEZES = 3
"""Times that a file which is lent and written is looked at for a moment of rest before it is uploaded."""


@final
class Snapshot(FileSource):
    """The content of an item as the remote is to store it; nobody writes while it is read."""

    def __init__(self, item: Item) -> None:
        super().__init__(item.fd, item.size)


@final
class _Task:
    """One item that has to be uploaded."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.state = UploadState.OPEN
        self.due = 0.0
        self.scope: trio.CancelScope | None = None
        self.withdrawals = 0
        """Callers of `withdraw` that have not returned; nothing starts meanwhile."""
        self.settled = trio.Event()
        self.snapshot: Snapshot | None = None
        self.began = 0.0
        self.problem: OSError | None = None
        """What the last try ended with."""


@final
class _Pause:
    """Items that are not to be uploaded now: ``items``, to which those below ``prefix`` are added as they show up."""

    def __init__(self, items: set[ItemId], prefix: str | None) -> None:
        self.items = items
        self._prefix = prefix

    def covers(self, item: Item) -> bool:
        if self._prefix is not None and item.path.startswith(self._prefix):
            self.items.add(item.id)
        return item.id in self.items


@final
class WriteBack:
    """The queue of uploads of one remote."""

    def __init__(
        self,
        remote: Remote,
        store: Store,
        fetcher: Fetcher,
        settings: CacheSettings,
        counters: Counters,
        nursery: trio.Nursery,
        on_stored: Callable[[Item, Entry], None],
        on_conflict: Callable[[Item], Awaitable[None]],
        settled: Callable[[str], Awaitable[None]],
    ) -> None:
        self._remote = remote
        self._store = store
        self._fetcher = fetcher
        self._settings = settings
        self._counters = counters
        self._nursery = nursery
        self._on_stored = on_stored
        self._on_conflict = on_conflict
        self._settled = settled
        self._tasks: dict[int, _Task] = {}
        self._pauses: list[_Pause] = []
        self._uploading = 0
        self._agenda: list[tuple[float, int, _Task]] = []
        """Heap of when to look at which task; entries that do not agree with their task any more are passed over."""
        self._order = itertools.count()
        self._soonest = float("inf")
        self._kick = trio.Event()
        self._changed = trio.Event()
        self._stopping = False

    # what handles and the Vfs say

    def opened(self, item: Item) -> None:
        """The item became dirty: from now on it is in the queue, until it is clean or discarded."""
        if item.id not in self._tasks:
            self._tasks[item.id] = _Task(item)

    def knows(self, item: Item) -> bool:
        """Whether the item is in the queue."""
        return item.id in self._tasks

    def schedule(self, item: Item, delay: float | None = None) -> None:
        """The last writer is gone: upload after ``delay`` (the write-back delay unless given)."""
        self.opened(item)
        task = self._tasks[item.id]
        if task.state in (UploadState.UPLOADING, UploadState.HELD):
            return
        self._plan(task, UploadState.WAITING, self._settings.write_back if delay is None else delay)

    async def withdraw(self, item: Item) -> None:
        """End a running upload of this item and wait until it has settled; the task is OPEN afterwards."""
        task = self._tasks.get(item.id)
        if task is None:
            return
        task.withdrawals += 1
        try:
            while task.scope is not None:
                task.scope.cancel()
                await task.settled.wait()
        finally:
            task.withdrawals -= 1
        if item.id in self._tasks and task.state is not UploadState.HELD:
            task.state = UploadState.OPEN

    def hold_back(self, item: Item) -> bool:
        """`withdraw`, of an upload that has not begun; answers False where it has, and does nothing."""
        task = self._tasks.get(item.id)
        if task is not None:
            if task.scope is not None:
                return False
            if task.state is not UploadState.HELD:
                task.state = UploadState.OPEN
        return True

    @asynccontextmanager
    async def paused(self, *items: Item | None, below: str | None = None) -> AsyncIterator[None]:
        """`withdraw` these, and all below a directory, and start none of them before the block is left.

        Holds for what becomes dirty meanwhile, too: their names are about to change. None of these is evicted.
        """
        pause = _Pause({item.id for item in items if item is not None}, None if below is None else below + "/")
        self._pauses.append(pause)
        try:
            with self._store.kept(*items):
                if below is None:  # by id: the queue may be long
                    tasks = [task for ident in pause.items if (task := self._tasks.get(ident)) is not None]
                else:
                    tasks = [task for task in self._tasks.values() if pause.covers(task.item)]
                for dirty in [task.item for task in tasks]:
                    await self.withdraw(dirty)
                yield
        finally:
            self._pauses.remove(pause)
            for ident in pause.items:
                task = self._tasks.get(ident)
                if task is not None and task.state is UploadState.OPEN and task.item.dirty and not task.item.writers:
                    self.schedule(task.item)

    def busy(self, item: Item) -> bool:
        """Whether a write has to `withdraw` first: an upload runs, or the delay does."""
        task = self._tasks.get(item.id)
        return task is not None and task.state is not UploadState.OPEN

    def discard(self, item: Item) -> None:
        """The item is gone: nothing is uploaded. After `withdraw`."""
        self._tasks.pop(item.id, None)
        self._announce()

    async def hold(self, item: Item) -> None:
        """Do not upload this until `unhold`; a running upload is withdrawn."""
        await self.withdraw(item)
        if item.id in self._tasks:
            self._tasks[item.id].state = UploadState.HELD
            self._announce()

    def held(self, item: Item) -> bool:
        """Whether somebody said: not now."""
        task = self._tasks.get(item.id)
        return task is not None and task.state is UploadState.HELD

    def unhold(self, item: Item) -> None:
        """Upload it after all."""
        task = self._tasks.get(item.id)
        if task is not None and task.state is UploadState.HELD:
            task.state = UploadState.OPEN
            if not item.writers:
                self.schedule(item, 0.0)

    def hurry(self, item: Item | None = None, *, failed: bool = True) -> None:
        """Upload everything that waits, or one file, now; what failed before only if ``failed``."""
        if item is None:
            for task in self._tasks.values():
                if failed or task.state is UploadState.WAITING:
                    self._hurry(task)
        elif item.id in self._tasks:
            self._hurry(self._tasks[item.id])

    def _hurry(self, task: _Task) -> None:
        if task.state in (UploadState.WAITING, UploadState.RETRYING) and task.due > trio.current_time():
            self._plan(task, task.state, 0.0)

    async def upload_now(self, item: Item) -> None:
        """Upload one item and return when the remote has it; raises what the remote answered."""
        while item.dirty and item.id in self._tasks:
            task = self._tasks[item.id]
            if task.state is not UploadState.UPLOADING:
                self._plan(task, UploadState.WAITING, 0.0)
                item.row.error = ""
            tries = item.row.tries
            while item.dirty and item.id in self._tasks and item.row.tries == tries:
                if task.state is UploadState.OPEN:
                    return  # somebody writes again: his close uploads
                await self._changed.wait()
            if item.dirty and item.row.tries > tries:
                if isinstance(task.problem, StorageError):  # each program that waits gets an error of its own
                    raise type(task.problem)(item.path, task.problem.said)
                raise StorageError(item.path, item.row.error)

    async def drain(self, attempts: int = 3, *, as_now: bool = False) -> tuple[Upload, ...]:
        """Hurry until nothing is left, or what is left has failed ``attempts`` more times; answers what is left.

        Files that are open for writing are uploaded as they are, if they were ever closed or synced. With ``as_now``
        only what is there now counts, and not what is written meanwhile: else writers could keep this from ending.
        """
        limit = {ident: task.item.row.tries + attempts for ident, task in self._tasks.items()}
        there = {ident: task.item.generation for ident, task in self._tasks.items()}
        while True:
            left = []
            for ident, task in self._tasks.items():
                if as_now and there.get(ident) != task.item.generation:
                    continue
                if task.state is UploadState.OPEN and task.item.row.promise:
                    self._plan(task, UploadState.WAITING, 0.0)
                if task.state in (UploadState.OPEN, UploadState.HELD):
                    continue
                if task.item.row.tries >= limit.setdefault(ident, attempts):
                    continue
                left.append(task)
            if not left:
                return self.uploads()
            for task in left:  # and not what has failed often enough: it would be tried without a pause
                self._hurry(task)
            with trio.move_on_after(LOOK_AGAIN):  # a writer who comes back to a file does not announce it
                await self._changed.wait()
            if len(left) > MANY:  # looking through thousands at each change would take longer than uploading them
                await trio.sleep(LOOK_AGAIN)

    def uploads(self) -> tuple[Upload, ...]:
        """Everything in the queue, as values."""
        return tuple(_value(task) for task in self._tasks.values() if _counts(task))

    def upload(self, item: Item) -> Upload | None:
        """One file in the queue, as a value; None if it is not."""
        task = self._tasks.get(item.id)
        return _value(task) if task is not None and _counts(task) else None

    @property
    def idle(self) -> bool:
        """Whether nothing is in the queue; `uploads` would look at all of it."""
        return not any(_counts(task) for task in self._tasks.values())

    async def changed(self) -> None:
        """Return at the next change of the queue."""
        await self._changed.wait()

    # the machine

    async def run(self) -> None:
        """Start what is due, for ever."""
        while True:
            self._kick = trio.Event()
            self._soonest = float("inf")
            while self._agenda and self._uploading < self._settings.transfers:
                due, order, task = self._agenda[0]
                current = self._current(due, order, task)
                if current and due > trio.current_time():
                    self._soonest = due
                    break
                heapq.heappop(self._agenda)
                if not current:
                    continue
                if task.withdrawals or [pause for pause in self._pauses if pause.covers(task.item)]:
                    task.state = UploadState.OPEN  # who withdraws it plans it again
                    continue
                self._start(task)
            with trio.move_on_at(self._soonest):
                await self._kick.wait()

    def _current(self, due: float, _order: int, task: _Task) -> bool:
        """Whether an entry of the agenda still says what is planned."""
        waits = task.state in (UploadState.WAITING, UploadState.RETRYING)
        return task.due == due and waits and self._tasks.get(task.item.id) is task

    def _plan(self, task: _Task, state: UploadState, delay: float) -> None:
        task.state, task.due = state, trio.current_time() + delay
        if len(self._agenda) > 2 * len(self._tasks) + MANY:  # what was closed or removed again before it was due
            self._agenda = [entry for entry in self._agenda if self._current(*entry)]
            heapq.heapify(self._agenda)
        heapq.heappush(self._agenda, (task.due, next(self._order), task))
        if task.due < self._soonest:
            self._kick.set()

    def _start(self, task: _Task) -> None:
        try:
            self._store.acquire(task.item)
        except OSError as problem:  # no descriptor left, say: this upload's trouble, and not the queue's
            self._failed(task, problem)
            self._announce()
            return
        task.state = UploadState.UPLOADING
        task.scope = trio.CancelScope()
        task.began = trio.current_time()
        task.settled = trio.Event()
        self._uploading += 1
        self._nursery.start_soon(self._attempt, task)
        self._announce()

    async def _attempt(self, task: _Task) -> None:
        item, scope = task.item, task.scope
        assert scope is not None
        problem: OSError | None = None
        try:
            with scope:
                try:
                    await self._upload_or_resolve(task)
                except OSError as error:
                    problem = error
                except Exception:  # a defect of an adapter: this upload's, and not the end of everything else
                    log.exception("uploading %s failed in a way that nobody foresaw", item.path)
                    problem = Corrupt(item.path, "the storage's adapter failed; see the log")
        finally:
            # settled, whatever happened: no checkpoint from here to the end
            task.scope, task.snapshot = None, None
            self._uploading -= 1
            if not item.dirty:
                self._tasks.pop(item.id, None)
            elif problem is not None:
                self._failed(task, problem)
            elif task.state is UploadState.UPLOADING:
                task.state = UploadState.OPEN
                if not item.writers and not task.withdrawals:
                    self._plan(task, UploadState.WAITING, self._settings.write_back)
            self._store.release(item)
            task.settled.set()
            self._announce()
            self._kick.set()

    async def _upload_or_resolve(self, task: _Task) -> None:
        before = task.item.row.attempt
        try:
            await self._upload(task)
        except Stale as conflict:
            task.item.row.attempt = before  # this one was refused: it stored nothing
            await self._resolve(task.item, conflict)

    async def _upload(self, task: _Task) -> None:
        item = task.item
        await self._settled(item.path)
        await self._fetcher.ensure(item, 0, item.size, must=True)
        if item.row.attempt is not None:
            await self._recall(item)
        generation = await self._freeze(item)
        expect: Expect = ABSENT if item.row.base is None else item.row.base
        task.snapshot = Snapshot(item)
        self._store.attempt(item, Version(task.snapshot.size, item.row.mtime_ns, self._remote.caps.mtime_resolution_ns))
        if item.row.promise == 2:  # it comes back after a loss of power: then this must be known of it, too
            await trio.to_thread.run_sync(self._store.index.sync)
        try:
            stored = await self._put(item, task.snapshot, expect)
        except NotFound:
            await self._make_parents(item.path)
            stored = await self._put(item, task.snapshot, expect)
        self._counters.uploaded_files += 1
        self._counters.uploaded_bytes += task.snapshot.size
        self._store.look(item)
        if item.generation == generation:
            self._store.settle(item, stored.version)
        else:  # withdrawn too late: the remote has the older content, which is what we now replace
            item.row.base, item.row.attempt = stored.version, None
            self._store.save(item)
        self._on_stored(item, stored)

    async def _freeze(self, item: Item) -> Generation:
        """Which content is about to be uploaded. Of a file that is lent, every later write shows: pages that a
        borrower has mapped are protected anew when they are written out, so that the next store into them does."""
        for _ in range(FREEZES if item.lent else 0):
            item.mark(TOUCHED)
            await trio.to_thread.run_sync(os.fdatasync, item.fd)
            generation = item.generation
            self._store.look(item)
            if item.generation == generation:
                return generation
        return Generation(-1) if item.lent else item.generation  # written without a pause: not clean, whatever comes

    async def _put(self, item: Item, snapshot: Snapshot, expect: Expect) -> Entry:
        def stored(entry: Entry) -> None:
            """Not verified yet, and so not clean; but what the next try replaces is this."""
            item.row.base = entry.version
            self._store.save(item)

        return await verify.put(
            self._remote, item.path, snapshot, expect=expect, mtime_ns=item.row.mtime_ns,
            checksum=self._settings.checksum, stored=stored,
        )  # fmt: skip

    async def _recall(self, item: Item) -> None:
        """An earlier upload was not heard to end: see whether it did, before another makes us forget it."""
        try:
            found = (await self._remote.stat(item.path)).version
        except NotFound:
            return
        if self._is_ours(item, found):
            item.row.base = found

    def _is_ours(self, item: Item, found: Version) -> bool:
        ours = item.row.attempt
        return ours is not None and found.size == ours.size and _same_time(found, ours)

    async def _make_parents(self, path: str) -> None:
        """The directory was deleted underneath: what was written here is not lost for that."""
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            try:
                await self._remote.mkdir("/".join(parts[:depth]))
            except FileExistsError:
                continue

    async def _resolve(self, item: Item, conflict: Stale) -> None:
        """The remote does not have what we started from. Ours after all, deleted there, or a real conflict."""
        try:
            found = (await self._remote.stat(item.path)).version
        except NotFound:
            log.warning("%s was deleted at the remote while it was changed here; it is uploaded anew", item.path)
            found = None
        if found is None and not item.complete:
            raise Corrupt(item.path, "changed here in part, and deleted at the remote: the rest of it is gone")
        if found is None or self._is_ours(item, found):
            item.row.base = found
            self._store.save(item)
            return
        log.warning("%s changed at the remote while it was changed here (%s)", item.path, conflict.said)
        await self._on_conflict(item)

    def _failed(self, task: _Task, problem: OSError) -> None:
        row = task.item.row
        task.problem = problem
        row.tries += 1
        row.error = problem.strerror or str(problem)
        delay = min(MAX_DELAY, max(MIN_DELAY, self._settings.write_back) * 2 ** min(row.tries - 1, 20))
        self._plan(task, UploadState.RETRYING, delay)
        self._counters.errors += 1
        try:
            self._store.save(task.item)
        except OSError as trouble:  # the journal only forgets how often it was tried
            log.warning("the journal cannot be written: %s", trouble)
        log.warning("%s could not be uploaded (%s); next try in %.0f s", row.path, row.error, delay)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _counts(task: _Task) -> bool:
    return task.item.row.path is not None and not task.item.untouched


def _value(task: _Task) -> Upload:
    item, snapshot = task.item, task.snapshot
    sent, passed = (snapshot.sent, max(trio.current_time() - task.began, 1e-3)) if snapshot else (0, 1.0)
    return Upload(
        path=item.path, size=item.size, state=task.state, sent=sent, tries=item.row.tries, error=item.row.error,
        speed=sent / passed,
    )  # fmt: skip


def _same_time(found: Version, ours: Version) -> bool:
    if found.mtime_ns is None or ours.mtime_ns is None:
        return False
    return found._replace(tag="").matches(ours._replace(tag=""))

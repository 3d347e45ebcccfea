"""A session that speaks the kernel's protocol itself: no libfuse, any number of mounts in a process.

Besides that it reaches what pyfuse3 does not: parallel lookups in one directory (PARALLEL_DIROPS), requests
of 1 MiB, interrupted waits, and a device read that never blocks the thread.

One task at a time leads: it reads requests and answers each where it stands, as long as nothing has to be waited
for. When a request waits, its task steps down at that moment and another one leads, so a slow remote delays nobody
else, and what is cached costs no new task. At most ``--fuse-tasks`` requests wait at once; then nobody leads
until one of them is answered. A request is answered exactly once. When the kernel does not want an answer any
more (ENOENT: the caller was killed), what the answer promised is taken back.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, final

import trio

from . import kernel as k
from .attach import attach
from .mountpoint import mounted_at, unmount
from .operations import Operations
from .requests import Reply, Requests
from .session import SessionSettings

log = logging.getLogger(__name__)

BATCH = 64
"""Requests that are answered before other tasks get a turn."""
SPIN = 30_000 if len(os.sched_getaffinity(0)) > 1 else 0
"""Nanoseconds for which the next request is looked for before sleeping: a program that works through many files asks
again within that time, and waking up takes longer. Measured with open-read-close of small files: 12,000 per second
become 20,000, for the same processor time."""
SPARES = 4
"""Tasks that are kept for the next request that waits."""
TASKS = 1024
"""Requests that wait at once, unless the settings say."""
PATIENCE = 0.2
"""Seconds after which the kernel's wish to interrupt a request is looked at again."""
_CALM = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})
_ENDED = frozenset({errno.ENODEV, errno.EBADF, errno.ECONNABORTED})
"""The mount is gone; ECONNABORTED: just while the request was read."""
_GIVEN_UP = frozenset(
    {k.Op.LOOKUP, k.Op.OPEN, k.Op.READ, k.Op.OPENDIR, k.Op.READDIR, k.Op.READDIRPLUS, k.Op.STATFS, k.Op.READLINK}
)
"""Requests that change nothing, so that waiting for them can end when the caller is told to end."""
_ENDING = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 14
"""HUP, INT, QUIT, KILL and TERM in the masks of proc(5). A program that is waiting for a disk does not expect
EINTR because of any other signal."""


@final
class DirectSession:
    """A mount of our own. See :class:`~fuse_frontend.session.Session`."""

    def __init__(self, operations: Operations, settings: SessionSettings) -> None:
        self._requests = Requests(operations, settings)
        self._settings = settings
        self._owner = os.geteuid()
        self._fd = attach(settings)
        self._requests.device(self._fd)
        self._closed = False
        there = mounted_at(settings.mountpoint)
        self._device = there.device if there else ""
        self._buffer = bytearray(k.BUFFER)
        self._led = False
        """Whether some task leads, or is on its way to."""
        self._spares = trio.lowlevel.ParkingLot()
        self._waiting = 0
        self._most = settings.tasks or TASKS
        self._scopes: dict[int, tuple[trio.CancelScope, int]] = {}
        """Requests that can be given up, with the thread that asked."""

    # the seam

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._serve)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        there = mounted_at(self._settings.mountpoint)
        if there is not None and there.device == self._device:
            unmount(self._settings.mountpoint, lazily=True)
        # the number stays taken: a notification may be about to use it in its thread
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, self._fd, inheritable=False)
        os.close(nothing)

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        self._notify(k.NOTIFY_INVAL_INODE, k.INVAL_INODE.pack(inode, -1 if attributes_only else 0, 0))

    def invalidate_entry(self, parent: int, name: str) -> None:
        raw = name.encode("utf-8", "surrogateescape")
        self._notify(k.NOTIFY_INVAL_ENTRY, k.INVAL_ENTRY.pack(parent, len(raw), 0) + raw + b"\0")

    def _notify(self, code: int, body: bytes) -> None:
        os.writev(self._fd, (k.OUT_HEADER.pack(k.OUT_HEADER.size + len(body), code, 0), body))

    # who reads

    async def _serve(self, called: bool = False) -> None:
        """One task's life: lead, wait for an answer, be a spare. ``called`` to lead by one that stepped down."""
        while True:
            if called or not self._led:
                self._led = True
                called = False
                await self._lead()
            elif len(self._spares) >= SPARES:
                return
            else:
                await self._spares.park()
                called = True

    def _step_down(self) -> None:
        """The leader's request waits from here on."""
        self._waiting += 1
        if self._waiting >= self._most:
            self._led = False
        elif self._spares:
            self._spares.unpark()
        else:
            self._nursery.start_soon(self._serve, True)

    async def _lead(self) -> None:
        """Read and answer until a request waited; returns after its answer."""
        view = memoryview(self._buffer)
        turns = 0
        until = 0
        """When to stop looking; 0: did not begin."""
        while True:
            try:
                length = os.readv(self._fd, (self._buffer,))
            except BlockingIOError:
                if turns and SPIN and not self._requests.others_work:
                    now = time.perf_counter_ns()
                    until = until or now + SPIN
                    if now < until:
                        continue
                until = 0
                await trio.lowlevel.wait_readable(self._fd)
                turns = 0
                continue
            except OSError as problem:
                if problem.errno in _CALM:
                    continue
                if problem.errno in _ENDED:
                    self._nursery.cancel_scope.cancel()
                    await trio.sleep_forever()
                raise
            until = 0
            work = self._take(view[:length])
            if work is not None and await _Watched(work, self._step_down):
                self._waiting -= 1
                return
            turns += 1
            if turns == BATCH:
                turns = 0
                await trio.lowlevel.checkpoint()

    # requests and replies

    def _take(self, request: memoryview) -> Coroutine[Any, Any, None] | None:
        """Answer at once and say None, or say what remains to be done."""
        _, code, unique, inode, uid, gid, thread, *_ = k.IN_HEADER.unpack_from(request)
        body = request[k.BODY :]
        if code in (k.Op.FORGET, k.Op.BATCH_FORGET):
            self._requests.forget(code, inode, body)
            return None
        if code == k.Op.INTERRUPT:
            self._interrupt(unique, k.INTERRUPT_IN.unpack_from(body)[0])
            return None
        if self._settings.allow_root and uid not in (0, self._owner) and code not in k.AFTER_OPEN:
            self._refuse(unique, errno.EACCES)
            return None
        quick = self._requests.quick.get(code)
        if quick is not None:
            try:
                reply = quick(inode, body)
            except OSError as problem:
                self._refuse(unique, problem.errno or errno.EIO)
                return None
            except Exception:
                self._defect(code, unique)
                return None
            if reply is not None:
                return None if self._answer(unique, reply) else self._requests.take_back(code, reply)
        if code not in self._requests.handlers:
            self._refuse(unique, errno.ENOSYS)
            return None
        self._requests.caller = uid, gid
        return self._work(code, unique, inode, body, thread)

    async def _work(self, code: int, unique: int, inode: int, body: memoryview, thread: int) -> None:
        """Answer a request that may have to wait."""
        handler = self._requests.handlers[code]
        reply: Reply | None = None
        try:
            if code in _GIVEN_UP:
                with trio.CancelScope() as scope:
                    self._scopes[unique] = scope, thread
                    try:
                        reply = await self._bounded(code, handler(inode, body))
                    finally:
                        del self._scopes[unique]
            else:
                reply = await self._bounded(code, handler(inode, body))
        except OSError as problem:
            self._refuse(unique, problem.errno or errno.EIO)
            return
        except trio.Cancelled:
            self._refuse(unique, errno.EINTR)  # the session ends: nobody else would answer
            raise
        except Exception:
            self._defect(code, unique)
            return
        if reply is None:
            self._refuse(unique, errno.EINTR)
        elif not self._answer(unique, reply):
            await self._requests.take_back(code, reply)

    async def _bounded(self, code: int, work: Awaitable[Reply]) -> Reply:
        if self._settings.patience is None or code == k.Op.RELEASE:
            return await work
        with trio.move_on_after(self._settings.patience):
            return await work
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _defect(self, code: int, unique: int) -> None:
        log.exception("a request of the kernel (code %d) failed in a way that nobody foresaw", code)
        self._refuse(unique, errno.EIO)

    def _answer(self, unique: int, reply: Reply) -> bool:
        """Whether the kernel took it."""
        length = k.OUT_HEADER.size + sum(map(len, reply))
        return self._send((k.OUT_HEADER.pack(length, 0, unique), *reply))

    def _refuse(self, unique: int, number: int) -> None:
        self._send((k.OUT_HEADER.pack(k.OUT_HEADER.size, -number, unique),))

    def _send(self, parts: Reply) -> bool:
        try:
            os.writev(self._fd, parts)
        except OSError as problem:
            if problem.errno == errno.ENOENT or problem.errno in _ENDED:
                return False
            raise
        return True

    # interrupts

    def _interrupt(self, unique: int, target: int) -> None:
        """The kernel tells of a signal once, whichever it is; EAGAIN has it tell again (fuse(4), linux/fuse.h)."""
        if target not in self._scopes:
            return
        scope, thread = self._scopes[target]
        if _is_ending(thread):
            scope.cancel()
        else:
            self._nursery.start_soon(self._look_again, unique, target)

    async def _look_again(self, unique: int, target: int) -> None:
        await trio.sleep(PATIENCE)
        if target in self._scopes:
            self._refuse(unique, errno.EAGAIN)


@final
class _Watched:
    """Awaits a coroutine and answers whether it waited; tells at the moment when it first does, once."""

    __slots__ = ("_coroutine", "_waits")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, bool]:
        coroutine = self._coroutine
        try:
            trap = coroutine.send(None)
        except StopIteration:
            return False
        self._waits()
        while True:
            try:
                value = yield trap
            except BaseException as problem:  # what trio throws is meant for the coroutine
                resume = functools.partial(coroutine.throw, problem)
            else:
                resume = functools.partial(coroutine.send, value)
            try:
                trap = resume()
            except StopIteration:
                return True


def _is_ending(thread: int) -> bool:
    """Whether a signal is pending that people end programs with."""
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return True
    masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(int(mask, 16) & _ENDING for mask in masks)

"""A serving process from its first signal handler to its exit code. Used by ``mount``, ``serve`` and ``gateway``.

    starting ──▶ serving ──▶ ending ──▶ ended
        │           │           │
        └─ signal   ├─ SIGINT, SIGTERM: FTP servers stop; uploads are drained; mounts are taken down; what
           ends     │  their last closes left is drained; exit 0, or 5 with the list of what is not stored
           at once  ├─ the last mount was unmounted from outside: the same
                    ├─ SIGHUP: listings are forgotten, the configuration is read anew, and stays serving
                    ├─ SIGUSR1: what it is doing goes to the log
                    └─ a second SIGINT or SIGTERM: everything is cancelled at once; the journal keeps what
                       is not uploaded, and the next start takes it up

Everything runs on the trio thread. A part that ends takes nothing else down with it; a part that fails ends
the process with its error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import cast, final

import trio

from ..accounting import Upload, UploadState
from ..control import Answer, Message, listening, real_path, server_name
from ..errors import Refused, StorageError
from ..service import Core, open_core
from ..vfs import Vfs
from .arguments import FRONT_ENDS, missing_library
from .failures import EXIT_TRY_AGAIN, about_remote, describe, leaves
from .logs import say
from .plan import FrontEnd, Plan
from .progress import Pending, Progress
from .status import as_json, lines_of
from .supervisor import Supervisor

log = logging.getLogger(__name__)

HARD_EXIT = 5.0
"""Seconds that a second signal leaves for unmounting before the process is ended whatever it does."""
SHOW_EVERY = 0.2
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
HEAP_MOST = (1 << 20) + (64 << 10)
"""Buffers up to this, which the kernel's largest requests fill, come from the heap: one that is mapped for itself costs
400 µs in page faults, ten times the read. 4 MiB of the heap are kept when they are free, and no more."""
GARBAGE = (50_000, 20, 20)
"""When Python looks for cycles that nobody holds (gc.set_threshold). With its own 700 it looks through all names of a
listing several times while it is made, for a sixth of the time; what was imported it need not look through at all."""
SWITCH = 0.0005
"""Seconds after which a thread that wants to run Python has its turn (sys.setswitchinterval). With Python's own 0.005
an FTP session that serves small files is half as fast while files are uploaded in the background."""
USERS = "the users of the auth proxy"
Show = Callable[[Pending], Awaitable[None]]


def run(plan: Plan) -> int:
    """Serve until told to end; answers the exit code. Raises the one problem there was, not a group of it."""
    prepare_machine()
    process = _Process(plan)
    try:
        trio.run(process.run)
    except BaseExceptionGroup as group:
        problems = [p for p in leaves(group) if not isinstance(p, trio.Cancelled)]
        if len({str(p) for p in problems}) > 1:
            for problem in problems[1:]:
                log.error("%s", describe(problem))
        if problems and all(isinstance(p, Exception) for p in problems):
            raise problems[0] from None
        raise
    return process.code


def prepare_machine() -> None:
    """As many descriptors as allowed (every file in use has one), and large buffers that go back when freed.

    glibc raises its threshold for mapped blocks with every large block that is freed, and then keeps megabyte
    buffers in its heap: 64 MiB more resident after reading 2 GiB, against 5 MiB with the threshold held. And Python
    looks for garbage less often, and lets its threads take turns more often.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc; other libraries have no such habit
        libc.mallopt(M_MMAP_THRESHOLD, HEAP_MOST)
        libc.mallopt(M_TRIM_THRESHOLD, 4 * HEAP_MOST)
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    sys.setswitchinterval(SWITCH)


async def drain(views: Iterable[Vfs], limit: float | None, show: Show, *, as_now: bool = False) -> tuple[Upload, ...]:
    """Upload everything, showing how it goes; answers what could not be stored, or not within ``limit`` seconds.

    ``as_now``: programs go on writing; what they write meanwhile is not waited for.
    """
    views = tuple(views)

    async def watch() -> None:
        while True:
            began = trio.current_time()
            await show(Pending.of(view.snapshot() for view in views))
            # counting a hundred thousand files takes a good part of a second, which the uploads have to wait for
            await trio.sleep(max(SHOW_EVERY, 20 * (trio.current_time() - began)))

    with trio.move_on_after(float("inf") if limit is None else limit) as bound:
        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            async with trio.open_nursery() as draining:
                for view in views:
                    draining.start_soon(partial(view.drain, as_now=as_now))
            watching.cancel_scope.cancel()
    await show(Pending.of(view.snapshot() for view in views))
    uploads = [upload for view in views for upload in view.snapshot().uploads]
    left = [upload for upload in uploads if upload.state not in (UploadState.HELD, UploadState.OPEN)]
    if as_now and not bound.cancelled_caught:  # the others were written meanwhile
        left = [upload for upload in left if upload.error]
    return tuple(left)


@final
class _Part:
    """A front end of the plan, running."""

    def __init__(self, front_end: FrontEnd, vfs: Vfs | None) -> None:
        self.front_end = front_end
        self.vfs = vfs
        self.configured = front_end.configured
        self.scope = trio.CancelScope()
        self.control = trio.CancelScope()
        self.addresses: list[str] = []
        """Of a server, as `server_name` writes them."""
        self.ended = trio.Event()


@final
class _Process:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self.code = 0
        self._plan = plan
        self._parts: list[_Part] = []
        self._serving = False
        self._stop = trio.Event()
        self._requests = 0
        self._unasked = trio.Event()
        self._unasked.set()
        self._core: Core | None = None
        self._supervisor = Supervisor()

    async def run(self) -> None:
        """All of it."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._obey_signals, nursery.cancel_scope)
            nursery.start_soon(self._supervisor.run, lambda: self._pending_in_words("serving"))
            await self._serve()
            nursery.cancel_scope.cancel()

    async def _obey_signals(
        self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        obeyed = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        with trio.open_signal_receiver(*obeyed) as signals:
            task_status.started()
            async for signum in signals:
                if signum == signal.SIGHUP:
                    await self._reload()
                elif signum == signal.SIGUSR1:
                    for part in self._parts:
                        self._log_snapshot(part)
                elif self._serving and not self._stop.is_set():
                    self._stop.set()
                else:
                    self.code = 128 + signum
                    self._end_by_force()
                    everything.cancel()
                    return

    async def _reload(self) -> None:
        """Read directories anew, and the configuration: a new password is used from here on."""
        log.info("SIGHUP: directory listings and the configuration are read anew")
        self._supervisor.reloading()
        for part in self._parts:
            if part.configured is None:
                continue
            try:
                part.configured, changed = await part.configured.reload()
            except Refused as problem:
                log.warning("%s stays as it is: %s", part.front_end.label, problem)
            else:
                if changed:
                    log.info("%s: the options that the configuration has now are used", part.front_end.label)
        for view in self._core.views() if self._core else ():
            await view.refresh()
        self._supervisor.ready()

    def _pending(self) -> Pending:
        return Pending.of(view.snapshot() for view in (self._core.views() if self._core else ()))

    def _pending_in_words(self, doing: str) -> str:
        pending = self._pending()
        return f"{doing}; {pending}" if pending.files else f"{doing}; everything is stored"

    def _log_snapshot(self, part: _Part) -> None:
        if not part.ended.is_set():
            for line in lines_of(self._status(part)):
                log.warning("%s", line)

    def _end_by_force(self) -> None:
        timer = threading.Timer(HARD_EXIT, os._exit, (self.code,))
        timer.daemon = True
        timer.start()

    async def _serve(self) -> None:
        async with open_core() as core, trio.open_nursery() as nursery:
            self._core = core
            for front_end in self._plan.front_ends:
                vfs = None
                log.info("opening %s", front_end.label or "an FTP server whose users bring their own storage")
                if front_end.remote is not None:
                    try:
                        vfs = await core.attach(front_end.remote, front_end.settings)
                    except StorageError as problem:
                        about_remote(problem, front_end.label)
                        raise
                part = _Part(front_end, vfs)
                started = await nursery.start(self._run_part, core, part, nursery)
                self._parts.append(part)
                self._announce(part, started)
            self._serving = True
            self._supervisor.status(self._pending_in_words("serving"))
            self._supervisor.ready()
            self._plan.ready()
            self._stop_if_nothing_is_left()
            await self._stop.wait()
            self._supervisor.stopping()
            await self._finish(core)
            nursery.cancel_scope.cancel()

    def _announce(self, part: _Part, started: object) -> None:
        if self._plan.quiet:
            return
        what = part.front_end
        if what.kind == "mount":
            say(f"mounted {what.label} at {what.mountpoint}")
        else:
            pairs = cast("list[tuple[str, int]]", started or [])
            places = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs)
            say(f"serving {what.label or USERS} over FTP at {places}")

    async def _run_part(
        self, core: Core, part: _Part, nursery: trio.Nursery, *, task_status: trio.TaskStatus[object]
    ) -> None:
        """One front end, with its control socket, until it ends."""
        what = part.front_end
        module = FRONT_ENDS[what.kind][0]
        try:
            front = importlib.import_module(module)
            serve = front.serve_mount if what.kind == "mount" else front.serve_ftp
        except ModuleNotFoundError as problem:
            raise missing_library(what.kind, problem) from None
        try:
            async with trio.open_nursery() as own:
                if what.kind == "mount":
                    real = real_path(what.mountpoint)
                    begin = partial(serve, part.vfs, what.mountpoint, what.values)
                else:
                    begin = partial(serve, core, part.vfs or what.vfs_texts, what.values)
                value = await own.start(self._within, begin, part)
                if what.kind == "mount":
                    await nursery.start(self._listen, part, [real])
                else:
                    part.addresses = [server_name(*address) for address in cast("list[tuple[str, int]]", value)]
                    await nursery.start(self._listen_if_it_can, part, part.addresses)
                task_status.started(value)
        finally:
            part.ended.set()
            if not self._requests:
                part.control.cancel()
        if self._serving and part.vfs is not None and not self._stop.is_set():
            await core.detach(part.vfs)
        self._stop_if_nothing_is_left()

    async def _within(
        self, begin: Callable[..., Awaitable[None]], part: _Part, *, task_status: trio.TaskStatus[object]
    ) -> None:
        with part.scope:
            await begin(task_status=task_status)

    def _stop_if_nothing_is_left(self) -> None:
        if self._serving and not self._requests and all(part.ended.is_set() for part in self._parts):
            self._stop.set()

    async def _finish(self, core: Core) -> None:
        """Bring everything to the storage and end; see the module for the order."""
        with Progress(quiet=self._plan.quiet) as progress:

            async def show(pending: Pending) -> None:
                progress.update(pending)
                if pending.files:
                    self._supervisor.extend()

            await self._end_parts("ftp")
            await drain(core.views(), self._plan.drain_timeout, show, as_now=True)
            await self._end_parts("mount")
            left = await drain(core.views(), self._plan.drain_timeout, show)
        with trio.move_on_after(HARD_EXIT):
            await self._unasked.wait()
        if left:
            self.code = EXIT_TRY_AGAIN
            say(f"{len(left)} files are not stored yet; they are kept, and uploaded when this remote is used again:")
            for upload in left:
                say(f"  {upload.path}{': ' + upload.error if upload.error else ''}")

    async def _end_parts(self, kind: str) -> None:
        for part in self._parts:
            if part.front_end.kind == kind:
                part.scope.cancel()
                await part.ended.wait()

    # the control socket

    async def _listen(self, part: _Part, names: list[str], *, task_status: trio.TaskStatus[None]) -> None:
        with part.control:
            async with contextlib.AsyncExitStack() as stack:
                for name in names:
                    await stack.enter_async_context(listening(name, partial(self._request, part, name)))
                task_status.started()
                await trio.sleep_forever()

    async def _listen_if_it_can(self, part: _Part, names: list[str], *, task_status: trio.TaskStatus[None]) -> None:
        """A server does its work without that."""
        try:
            await self._listen(part, names, task_status=task_status)
        except Refused as problem:
            log.warning("portside status and uploads cannot ask this server: %s", problem)
            task_status.started()

    async def _request(self, part: _Part, real: str, request: Message, answer: Answer) -> None:
        if not self._requests:
            self._unasked = trio.Event()
        self._requests += 1
        try:
            match request.get("do"):
                case "status":
                    await answer({"done": self._status(part)})
                case "upload":
                    await answer(await self._control_uploads(part.vfs, request))
                case "unmount" if part.front_end.kind == "mount":
                    await self._unmount(part, real, request, answer)
                case other:
                    await answer({"error": f"unknown request {other!r}; is this process an older portside?"})
        finally:
            self._requests -= 1
            if not self._requests:
                self._unasked.set()
            if part.ended.is_set():
                part.control.cancel()
            self._stop_if_nothing_is_left()

    def _status(self, part: _Part) -> Message:
        label, place = part.front_end.label, part.front_end.mountpoint or ", ".join(part.addresses)
        if part.vfs is None:
            views = [view.snapshot() for view in (self._core.views() if self._core else ())]
            storages = [{"remote": snapshot.identity, **as_json(snapshot)} for snapshot in views]
            return {"pid": os.getpid(), "remote": USERS, "mountpoint": place, "storages": storages}
        return {"pid": os.getpid(), "remote": label, "mountpoint": place, **as_json(part.vfs.snapshot())}

    async def _control_uploads(self, vfs: Vfs | None, request: Message) -> Message:
        """Hurry, hold, release or discard the upload of a file, or of all below a directory."""
        if vfs is None:
            return {"error": f"{USERS} have storages of their own; what they wait for cannot be changed from here"}
        path, what = str(request.get("path", "")), request.get("what")
        paths = [u.path for u in vfs.snapshot().uploads if path in ("", u.path) or u.path.startswith(path + "/")]
        if not paths:
            return {"error": f"{path or 'the whole of it'}: nothing of it is to be uploaded"}
        try:
            for each in paths:
                match what:
                    case "now":
                        vfs.hurry_upload(each)
                    case "hold" | "release":
                        await vfs.hold_path(each, what == "hold")
                    case "discard":
                        await vfs.discard_changes(await vfs.resolve(each))
                    case _:
                        return {"error": f"unknown request {what!r}; is this process an older portside?"}
        except StorageError as problem:
            return {"error": f"{problem.path}: {problem.strerror}"}
        return {"done": paths}

    async def _unmount(self, part: _Part, real: str, request: Message, answer: Answer) -> None:
        """Drain, then unmount; the mount stays when something could not be stored (unless forced) or it is busy."""
        assert part.vfs is not None

        async def show(pending: Pending) -> None:
            await answer({"progress": pending.to_json()})

        left = await drain([part.vfs], self._plan.drain_timeout, show, as_now=True)
        if left and not request.get("force"):
            await answer({"error": "not everything could be stored", "left": _listed(left)})
            return
        lazy = ["-z"] if request.get("lazy") else []
        command = ["fusermount3", "-u", *lazy, "--", real]
        result = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
        if result.returncode and not part.ended.is_set():
            why = " ".join(result.stderr.decode(errors="replace").split())
            await answer({"error": why or "fusermount3 failed", "busy": "busy" in why.lower()})
            return
        if not lazy:  # else it ends when the last program lets go
            await part.ended.wait()
        left = await drain([part.vfs], self._plan.drain_timeout, show)
        await answer({"done": {"left": _listed(left)}})


def _listed(uploads: Iterable[Upload]) -> list[dict[str, str]]:
    return [{"path": upload.path, "error": upload.error} for upload in uploads]

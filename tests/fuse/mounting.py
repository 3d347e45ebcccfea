"""A real kernel mount in a background thread with a trio loop of its own, for tests that use ordinary system calls.

>>> with mounted(open_remote("memory", {}, ""), tmp_path) as mount:
...     (mount.path / "a").write_text("b")

The mount lives in the test's process, so a test must not hold the interpreter's lock while the kernel waits for
the mount: touching a mapped page does, and so does starting a program while files on the mount are open (the
child closes them before the lock is free). Such things belong into `in_a_process`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from fuse_frontend.command import OPTIONS, serve_mount
from fuse_frontend.mountpoint import unmount
from mountcore.options import parse_values
from mountcore.remotes.protocol import Remote
from mountcore.service import Core, open_core
from mountcore.settings import CacheSettings, VfsSettings
from mountcore.vfs import Vfs

T = TypeVar("T")
SESSIONS = ("pyfuse3", "direct", "passthrough")
"""Ways to talk to the kernel; the last is the direct session with the kernel reading and writing cache files itself."""


def spoken(session: str) -> dict[str, str]:
    """The options that choose one of :data:`SESSIONS`."""
    if session == "pyfuse3":
        return {"fuse-session": session}
    return {"fuse-session": "direct", "passthrough": "auto" if session == "passthrough" else "off"}


def need_fuse() -> None:
    """Fail in CI, skip elsewhere, where nothing can be mounted."""
    missing = None
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing = "/dev/fuse cannot be opened"
    elif os.geteuid() != 0:
        missing = "these tests mount as root; /dev/fuse alone is not enough"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@dataclass(frozen=True)
class Mount:
    """A running mount."""

    path: Path
    vfs: Vfs
    core: Core
    ended: threading.Event
    """Set when `serve_mount` has returned."""
    scope: trio.CancelScope

    def run(self, operation: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        """Run a core operation on the mount's trio thread: another door than the kernel's."""
        return trio.from_thread.run(lambda: operation(*args, **kwargs), trio_token=self.core.token)

    def cancel(self) -> None:
        """End the mount as SIGTERM does."""
        self.core.token.run_sync_soon(self.scope.cancel)


@contextlib.contextmanager
def mounted(
    remote: Remote,
    place: Path,
    settings: VfsSettings | None = None,
    options: Mapping[str, str] | None = None,
    *,
    core: Core | None = None,
) -> Iterator[Mount]:
    """Mount ``remote`` at ``place/mnt``, with a cache at ``place/cache`` unless ``settings`` say otherwise.

    ``options`` are the texts of mount options. With ``core``, the mount joins that core's thread.
    """
    need_fuse()
    point = place / "mnt"
    point.mkdir(parents=True, exist_ok=True)
    settings = settings or VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=0.05))
    values = parse_values(OPTIONS, options or {})
    ready: queue.SimpleQueue[Mount | BaseException] = queue.SimpleQueue()
    ended = threading.Event()

    async def serve(own: Core) -> None:
        vfs = await own.attach(remote, settings)
        scope = trio.CancelScope()
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(_serve, vfs, str(point), values)
                ready.put(Mount(point, vfs, own, ended, scope))
        await own.detach(vfs)

    async def main() -> None:
        async with open_core() as own:
            await serve(own)

    def body() -> None:
        try:
            if core is None:
                trio.run(main)
            else:
                trio.from_thread.run(serve, core, trio_token=core.token)
        except BaseException as problem:
            ready.put(problem)
        finally:
            ended.set()

    thread = threading.Thread(target=body, name="mount", daemon=True)
    thread.start()
    mount = ready.get()
    if isinstance(mount, BaseException):
        thread.join()
        raise single(mount)
    try:
        yield mount
    finally:
        with contextlib.suppress(trio.RunFinishedError):
            mount.cancel()
        thread.join(30)
        if thread.is_alive():
            unmount(str(point), lazily=True)
        assert not thread.is_alive(), "the mount did not end"
        with contextlib.suppress(queue.Empty):
            problem = ready.get_nowait()
            assert isinstance(problem, BaseException)
            raise single(problem)


async def _serve(vfs: Vfs, point: str, values: Mapping[str, Any], *, task_status: trio.TaskStatus[None]) -> None:
    await serve_mount(vfs, point, values, task_status=task_status)


def in_a_process(script: str, *args: object, timeout: float = 60) -> str:
    """Run a Python script elsewhere; ``args`` are its ``sys.argv[1:]``. Answers what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def single(problem: BaseException) -> BaseException:
    """The one problem inside groups of one."""
    while isinstance(problem, BaseExceptionGroup) and len(problem.exceptions) == 1:
        problem = problem.exceptions[0]
    return problem

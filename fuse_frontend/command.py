"""Mounting a Vfs, as the command line asks for it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, final

import trio

from mountcore.errors import Refused

from .settings import IGNORED, OPTIONS

if TYPE_CHECKING:  # loading the options must not load the mount
    from mountcore.vfs import Vfs

    from .invalidation import Invalidation
    from .operations import Operations
    from .session import Session, SessionSettings

__all__ = ["OPTIONS", "serve_mount"]

log = logging.getLogger(__name__)

FOREVER = 1e9
"""Seconds that stand for "off" in a timeout of the kernel's."""
PATIENCE = 10.0
"""Seconds that each step of unmounting may take before the next, harder one."""


async def serve_mount(
    vfs: Vfs,
    mountpoint: str,
    values: Mapping[str, Any],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount and serve until somebody unmounts (returns) or the task is cancelled (unmounts).

    ``values`` are the parsed :data:`OPTIONS`. ``task_status.started()`` comes when the mount answers. Raises
    Refused before anything is mounted if it cannot be. Never leaves a dead mount point behind.
    """
    from mountcore.vfs import ORIGIN

    from .invalidation import Invalidation
    from .mountpoint import mounted_at, prepare, unmount
    from .operations import Operations
    from .session import SessionSettings

    for option in IGNORED:
        if values[option.name]:
            log.warning("--%s does nothing here: %s", option.name, option.help)
    allow_other = bool(values["allow-other"] or values["allow-root"])
    place = await trio.to_thread.run_sync(
        lambda: prepare(mountpoint, allow_non_empty=values["allow-non-empty"], allow_other=allow_other)
    )
    lifetime = vfs.settings.tree.cache_time
    timeout = values["attr-timeout"]
    if timeout is None:
        timeout = FOREVER if lifetime is None else lifetime
    settings = SessionSettings(
        mountpoint=place,
        source=values["devname"] or values["volname"] or vfs.remote.identity,
        timeout=timeout,
        allow_other=allow_other,
        allow_root=values["allow-root"],
        default_permissions=values["default-permissions"],
        direct_io=values["direct-io"],
        writeback=values["write-back-cache"],
        read_only=vfs.settings.read_only,
        max_read_ahead=values["max-read-ahead"],
        flags=values["fuse-flag"],
        tasks=values["fuse-tasks"],
        xattrs=values["xattr"],
        async_read=values["async-read"],
        passthrough=values["passthrough"],
        patience=values["daemon-timeout"],
        debug=values["debug-fuse"],
    )
    operations = Operations(vfs, writeback=settings.writeback, fsync_stores=values["fsync"] == "remote")
    session = _open_session(values["fuse-session"], operations, settings)
    ours = await trio.to_thread.run_sync(mounted_at, place)
    ORIGIN.set(session)
    serving = _Serving(session, Invalidation(operations, session, session))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serving.run)
            try:
                await trio.to_thread.run_sync(_answer_first, settings, abandon_on_cancel=True)
                task_status.started()
                await serving.ended.wait()
            finally:
                with trio.CancelScope(shield=True):
                    if not serving.ended.is_set():
                        await _leave(mountpoint, place, serving.ended)
                serving.scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(session.close)
            if ours is not None and await trio.to_thread.run_sync(mounted_at, place) == ours:
                await trio.to_thread.run_sync(partial(unmount, place, lazily=True))
            await operations.close()
    if serving.problem is not None:
        raise serving.problem


@final
class _Serving:
    """The session at work. Shielded: a mount that is to end is unmounted while its requests are still answered."""

    def __init__(self, session: Session, invalidation: Invalidation) -> None:
        self._session = session
        self._invalidation = invalidation
        self.scope = trio.CancelScope(shield=True)
        self.ended = trio.Event()
        self.problem: Exception | None = None

    async def run(self) -> None:
        """Until unmounted, or until the scope is cancelled."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._invalidation.run)
                    await self._session.run()
                    nursery.cancel_scope.cancel()
        except Exception as problem:  # told by serve_mount, once everything is taken down
            self.problem = problem
        finally:
            self.ended.set()


async def _leave(mountpoint: str, place: str, ended: trio.Event) -> None:
    """Unmount while the session still answers. In use: what the kernel holds is written, then it is detached."""
    from .mountpoint import unmount, write_out

    why = "it takes too long"
    with trio.move_on_after(PATIENCE):
        why = await trio.to_thread.run_sync(partial(unmount, place, lazily=False), abandon_on_cancel=True)
    if why and not ended.is_set():
        log.info("%s: %s; it is detached, and programs that use it get errors from here on", mountpoint, why)
        with trio.move_on_after(PATIENCE):
            await trio.to_thread.run_sync(write_out, place, abandon_on_cancel=True)
        await trio.to_thread.run_sync(partial(unmount, place, lazily=True))
        return
    with trio.move_on_after(PATIENCE):
        await ended.wait()


def _open_session(which: str, operations: Operations, settings: SessionSettings) -> Session:
    if which == "pyfuse3":
        try:
            from . import session_pyfuse3
        except ModuleNotFoundError as problem:
            raise Refused(
                f"--fuse-session pyfuse3 needs the Python package {problem.name!r}; give direct, or install it with: "
                "pip install 'portside[fuse]'"
            ) from None
        if not session_pyfuse3.available():
            raise Refused("pyfuse3 can mount once in a process; give --fuse-session direct, or auto")
        return session_pyfuse3.Pyfuse3Session(operations, settings)
    from .session_direct import DirectSession

    return DirectSession(operations, settings)


def _answer_first(settings: SessionSettings) -> None:
    """Returns when the kernel has had an answer."""
    from .mountpoint import mounted_at

    try:
        os.stat(settings.mountpoint)
        there = mounted_at(settings.mountpoint)
        if there is not None and os.geteuid() == 0:
            # the kernel starts with 128 KiB and takes no more by the protocol; root can tell it by sysfs
            with open(f"/sys/class/bdi/{there.device}/read_ahead_kb", "w") as knob:
                knob.write(str(max(4, settings.max_read_ahead >> 10)))
    except OSError as problem:
        log.debug("read-ahead stays as it is: %s", problem)

"""The core of a process: one `Vfs` per storage, shared by every front end in it. Start order is code order.

Used by the commands. Two logins, a mount and a server that name the same storage get the same Vfs and so see
each other's changes at once; it is closed when its last user is gone and nothing is left to upload.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import final

import trio

from .cache.opening import open_store
from .cache.store import Store
from .door import Door
from .errors import NotDirectory, Refused, TimedOut, Unreachable
from .listings import Listings
from .remotes.limits import LimitedRemote, Limits
from .remotes.links import Links
from .remotes.protocol import Entry, Kind, Remote
from .settings import VfsSettings
from .vfs import Vfs

log = logging.getLogger(__name__)


@final
class _Attached:
    """A Vfs and who uses it."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.users = 0
        self.vfs: Vfs | None = None
        self.store: Store | None = None
        self.scope = trio.CancelScope()
        self.opening = trio.Lock()
        self.closed = trio.Event()


@final
class Core:
    """All storages that this process has open."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.door = Door()
        self._nursery = nursery
        self._attached: dict[str, _Attached] = {}

    async def attach(self, remote: Remote, settings: VfsSettings) -> Vfs:
        """The Vfs of this storage, opened at first use; each `attach` has its `detach`.

        Where the storage is open already, ``remote`` is closed and the settings of the first use stay.
        Raises Refused for a cache directory that cannot be used, or what the remote's root answered.
        """
        key = remote.identity
        while (entry := self._attached.get(key)) is not None and entry.scope.cancel_called:
            await entry.closed.wait()
        if entry is None:
            entry = self._attached[key] = _Attached(remote)
        entry.users += 1
        try:
            async with entry.opening:
                if entry.vfs is None:
                    await self._nursery.start(self._serve, entry, settings)
                elif entry.remote is not remote:
                    await remote.aclose()
        except BaseException:
            entry.users -= 1
            if not entry.users and self._attached.get(key) is entry and entry.vfs is None:
                del self._attached[key]
            raise
        assert entry.vfs is not None
        entry.vfs.users = entry.users
        return entry.vfs

    async def detach(self, vfs: Vfs) -> None:
        """One user less; the last one closes the Vfs, once what it has to upload is stored."""
        for entry in self._attached.values():
            if entry.vfs is vfs:
                entry.users -= 1
                vfs.users = entry.users
                if not entry.users:
                    self._nursery.start_soon(self._close_when_idle, entry)
                return

    def views(self) -> tuple[Vfs, ...]:
        """Every open Vfs."""
        return tuple(entry.vfs for entry in self._attached.values() if entry.vfs is not None)

    async def _close_when_idle(self, entry: _Attached) -> None:
        assert entry.vfs is not None
        entry.vfs.writeback.hurry()  # once: what fails has its own pace
        while not entry.users and not entry.vfs.writeback.idle:
            await entry.vfs.writeback.changed()
        if not entry.users:
            entry.scope.cancel()

    async def _serve(self, entry: _Attached, settings: VfsSettings, *, task_status: trio.TaskStatus[None]) -> None:
        """Hold a Vfs open: cache directory first, then the remote's root, then the tasks; closed in reverse."""
        try:
            store = await trio.to_thread.run_sync(open_store, settings.cache.directory, entry.remote.identity)
        except BaseException:
            with trio.CancelScope(shield=True):
                await entry.remote.aclose()
            raise
        listings = await trio.to_thread.run_sync(Listings, store.directory / "listings")
        try:
            with entry.scope:
                root = await self._reach(entry.remote, listings)
                limits = Limits(settings.upload_limit, settings.download_limit, settings.request_limit)
                remote = LimitedRemote(entry.remote, limits) if limits else entry.remote
                remote = Links(remote) if settings.links else remote
                store.shown_as("links as files" if settings.links else "")
                if not remote.caps.writable:
                    settings = replace(settings, read_only=True)
                async with trio.open_nursery() as nursery:
                    entry.vfs = vfs = Vfs(remote, store, listings, settings, nursery)
                    await vfs.recover(reachable=root is not None)
                    vfs.start(root)
                    task_status.started()
                    await trio.sleep_forever()
        except ExceptionGroup as group:  # opening failed: for one reason, which is the caller's
            if len(group.exceptions) == 1 and isinstance(group.exceptions[0], OSError | Refused):
                raise group.exceptions[0] from None
            raise
        finally:
            if self._attached.get(entry.remote.identity) is entry:
                del self._attached[entry.remote.identity]
            if entry.vfs is not None:
                with suppress(OSError):  # the cache's disk; listings can be fetched again
                    entry.vfs.tree.persist()
            listings.close()
            store.close()
            with trio.CancelScope(shield=True):
                await entry.remote.aclose()
            entry.closed.set()

    async def _reach(self, remote: Remote, listings: Listings) -> Entry | None:
        """The remote's root; None if it cannot be reached now but was once, so that what is cached can be used."""
        try:
            root = await remote.stat("")
        except (Unreachable, TimedOut) as problem:
            if await trio.to_thread.run_sync(listings.load, "") is None:
                raise
            log.warning("starting without the remote, with what is cached: %s", problem)
            return None
        if root.kind is not Kind.DIRECTORY:
            raise NotDirectory("", "the remote's root is a file; name the directory that holds it")
        return root


@asynccontextmanager
async def open_core() -> AsyncIterator[Core]:
    """A core for as long as the block runs. Leaving it closes everything; what is not uploaded stays journalled."""
    problem: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Core(nursery)
        except Exception as error:  # a nursery would wrap it in a group; the caller's error is the caller's
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem

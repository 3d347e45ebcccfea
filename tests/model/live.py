"""A core on a trio thread of its own, driven from the test's thread as foreign threads drive it."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
from trio.testing import MockClock

from mountcore.portal import ThreadPortal
from mountcore.remotes.protocol import Remote
from mountcore.service import Core, open_core
from mountcore.settings import VfsSettings
from mountcore.stage import Publish
from mountcore.vfs import Node, OpenFlags, Vfs

T = TypeVar("T")
PATIENCE = 60.0
PIECE = 128 << 10


class LiveCore:
    """An open core; `close` ends it as the end of a command does. With ``rate``, its time passes that much faster."""

    def __init__(self, rate: float = 1.0) -> None:
        self._clock = None if rate == 1.0 else MockClock(rate=rate)
        self._ready = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE) or self._problem is not None:
            raise RuntimeError("the core did not start") from self._problem

    def _run(self) -> None:
        try:
            trio.run(self._main, clock=self._clock)
        except BaseException as problem:
            self._problem = problem
        finally:
            self._ready.set()

    async def _main(self) -> None:
        async with open_core() as core:
            self.core: Core = core
            self.portal = ThreadPortal(core.token)
            self._stop = trio.Event()
            self._ready.set()
            await self._stop.wait()

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a core operation and wait for it."""
        return self.portal.call(operation, *args)

    def sync(self, function: Callable[..., T], *args: object) -> T:
        """Run a plain function on the trio thread, between the core's steps."""

        async def run() -> T:
            return function(*args)

        return self.portal.call(run)

    def attach(self, remote: Remote, settings: VfsSettings) -> Vfs:
        """The Vfs of a storage."""
        return self.call(self.core.attach, remote, settings)

    def close(self) -> None:
        """End the core and say what went wrong in it, if anything did."""
        if self._thread.is_alive():
            self.core.token.run_sync_soon(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the core does not end"
        if self._problem is not None:
            raise self._problem


@contextmanager
def live_core() -> Iterator[LiveCore]:
    """A core for as long as the block runs."""
    core = LiveCore()
    try:
        yield core
    finally:
        core.close()


async def write_file(vfs: Vfs, path: str, data: bytes) -> None:
    """What a program does that saves a file: open, truncate, write, close."""
    directory, _, name = path.rpartition("/")
    parent = await vfs.resolve(directory)
    handle = await vfs.create(parent, name, OpenFlags.WRITE | OpenFlags.TRUNCATE, exclusive=False)
    try:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            if handle.try_write(start, piece) is None:
                await handle.write(start, piece)
        await handle.flush()
    finally:
        await handle.close()


async def stage(vfs: Vfs, path: str, data: bytes, how: Publish = Publish.REPLACE) -> None:
    """What FTP does with an upload."""
    made = await vfs.stage()
    os.pwrite(made.fileno(), data, 0)
    await made.commit(*await place(vfs, path), size=len(data), how=how)


async def read_file(vfs: Vfs, path: str) -> bytes:
    """The whole file, as a program reads it."""
    handle = await vfs.open(await vfs.resolve(path), OpenFlags.READ)
    try:
        parts: list[bytes] = []
        done = 0
        while piece := handle.try_read(done, PIECE) or await handle.read(done, PIECE):
            parts.append(piece)
            done += len(piece)
        return b"".join(parts)
    finally:
        await handle.close()


async def overwrite(vfs: Vfs, path: str, offset: int, data: bytes) -> None:
    """Change a part of a file in place."""
    handle = await vfs.open(await vfs.resolve(path), OpenFlags.READ | OpenFlags.WRITE)
    try:
        await handle.write(offset, data)
        await handle.flush()
    finally:
        await handle.close()


async def save(vfs: Vfs, path: str) -> None:
    """Close a file anew, as it is."""
    handle = await vfs.open(await vfs.resolve(path), OpenFlags.READ | OpenFlags.WRITE)
    try:
        await handle.flush()
    finally:
        await handle.close()


async def append(vfs: Vfs, path: str, data: bytes) -> None:
    """Add to the end of a file, making it if there is none."""
    directory, _, name = path.rpartition("/")
    parent = await vfs.resolve(directory)
    handle = await vfs.create(parent, name, OpenFlags.WRITE | OpenFlags.APPEND, exclusive=False)
    try:
        await handle.write(0, data)
        await handle.flush()
    finally:
        await handle.close()


async def rename(vfs: Vfs, old: str, new: str) -> None:
    """Rename by path."""
    await vfs.rename(*await place(vfs, old), *await place(vfs, new))


async def remove(vfs: Vfs, path: str) -> None:
    """Delete a file by path."""
    await vfs.unlink(*await place(vfs, path))


async def mkdir(vfs: Vfs, path: str) -> None:
    """Make a directory by path."""
    await vfs.mkdir(*await place(vfs, path))


async def rmdir(vfs: Vfs, path: str) -> None:
    """Remove a directory by path."""
    await vfs.rmdir(*await place(vfs, path))


async def place(vfs: Vfs, path: str) -> tuple[Node, str]:
    """The directory and the name that a path means."""
    directory, _, name = path.rpartition("/")
    return await vfs.resolve(directory), name


async def names(vfs: Vfs, path: str = "") -> set[str]:
    """Names in a directory."""
    return {node.name for node in await vfs.children(await vfs.resolve(path))}

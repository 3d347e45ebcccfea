"""A core over a storage in memory or in a folder, for tests on the trio thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import ANYTHING, Remote
from mountcore.remotes.registry import open_remote
from mountcore.service import Core, open_core
from mountcore.settings import CacheSettings, ReadSettings, TreeSettings, VfsSettings
from mountcore.vfs import Vfs

from .faulty import Faulty

PATIENCE = 6.0
NEVER = 3600.0


class Bytes:
    """Content for `Remote.put`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]


async def edit(remote: Remote, path: str, data: bytes, mtime_ns: int | None = None) -> None:
    """Somebody else stores a file, past the core."""
    inner = remote.inner if isinstance(remote, Faulty) else remote
    await inner.put(path, Bytes(data), expect=ANYTHING, mtime_ns=mtime_ns)


def settings(
    cache: Path,
    *,
    write_back: float = NEVER,
    read: ReadSettings | None = None,
    tree: TreeSettings | None = None,
    **more: object,
) -> VfsSettings:
    """Settings of which a test says what matters to it."""
    return VfsSettings(
        cache=replace(CacheSettings(directory=cache, write_back=write_back), **more),  # type: ignore[arg-type]
        read=read or ReadSettings(),
        tree=tree or TreeSettings(poll_interval=None),
    )


def memory() -> Faulty:
    """An empty storage in memory."""
    return Faulty(Memory())


def folder(root: Path) -> Faulty:
    """A folder as storage."""
    root.mkdir(exist_ok=True)
    return Faulty(open_remote("local", {}, str(root)))


@asynccontextmanager
async def opened(remote: Remote, chosen: VfsSettings, patience: float = 3 * PATIENCE) -> AsyncIterator[Vfs]:
    """A Vfs for as long as the block runs; leaving it ends the core cleanly, without uploading what is left.

    A test that waits for what never comes ends with TooSlowError.
    """
    with trio.fail_after(patience):
        async with open_core() as core:
            yield await _attach(core, remote, chosen)


async def _attach(core: Core, remote: Remote, chosen: VfsSettings) -> Vfs:
    return await core.attach(remote, chosen)


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for something that is about to become true; fails after `PATIENCE` seconds."""
    with trio.move_on_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to await
            await trio.sleep(0.002)
        return
    raise AssertionError(f"it never came to be: {what or condition}")

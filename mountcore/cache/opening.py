"""Opening the cache directory of a remote, and putting it in order after a crash. Used by the service.

The directory must be ours alone, on a file system with sparse files, and used by one process (``lock``).
Start-up reads what is dirty, not what is clean; after an unclean stop, data files that the index does not know
are looked for in the background (`tidy_up`). Whatever cannot be understood is set aside in ``lost+found``, never
deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import sqlite3
import time
from pathlib import Path

import trio

from ..errors import Refused, StorageError
from . import logtail
from .index import Index, is_damage
from .rows import ItemId
from .store import Store, unused

log = logging.getLogger(__name__)

BATCH = 256


def store_directory(cache_dir: Path, identity: str) -> Path:
    """Where the cache of a remote lives; readable, and different for different identities."""
    words = re.sub(r"[^A-Za-z0-9.@_-]+", "_", identity).strip("_")[:60]
    return cache_dir / f"{words}-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]}"


def boot_id() -> str:
    """Changes with every boot of the kernel."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def open_store(cache_dir: Path, identity: str) -> Store:
    """Open, or make, the cache of a remote, and put it in order after a crash. Blocking, short.

    Raises :class:`Refused` when the directory cannot be used: it names the remedy.
    """
    directory = store_directory(cache_dir, identity)
    _prepare(cache_dir, directory)
    lock, left = _take_lock(directory)
    try:
        try:
            return _open(directory, identity, lock, left)
        except (sqlite3.DatabaseError, StorageError, _Damage) as problem:
            if isinstance(problem, sqlite3.DatabaseError) and not is_damage(problem):
                raise Refused(f"the cache index in {directory} cannot be opened: {problem}") from problem
            if isinstance(problem, StorageError) and not (directory / "damaged").exists():
                raise
            aside = _set_aside(directory)
            log.warning("the cache index was damaged (%s); everything it described is kept in %s", problem, aside)
            return _open(directory, identity, lock, left)
    except BaseException:
        os.close(lock)
        raise


class _Damage(Exception):
    """The index cannot be used."""


def _open(directory: Path, identity: str, lock: int, left: str) -> Store:
    index = _open_index(directory, identity, left)
    try:
        store = Store(directory, index, lock)
        _recover(store, left)
    except BaseException:
        with contextlib.suppress(sqlite3.Error, OSError):
            index.close()
        raise
    return store


def _prepare(cache_dir: Path, directory: Path) -> None:
    hint = "choose another place with --cache-dir"
    try:
        os.makedirs(cache_dir, 0o700, exist_ok=True)
        for folder in (directory, directory / "data"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        facts = os.stat(directory)
        if facts.st_uid != os.geteuid():
            raise Refused(f"cache directory {directory} belongs to user {facts.st_uid}, not to you; {hint}")
        if facts.st_mode & 0o077:
            raise Refused(f"cache directory {directory} is open to others; run: chmod 700 {directory}")
        probe = os.open(directory / ".sparse", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(probe, 16 << 20)
            if os.fstat(probe).st_blocks * 512 >= 8 << 20:
                raise Refused(f"the file system of cache directory {directory} cannot hold sparse files; {hint}")
        finally:
            os.close(probe)
            os.unlink(directory / ".sparse")
    except OSError as problem:
        raise Refused(f"cache directory {directory} cannot be used: {problem.strerror}; {hint}") from problem


def _take_lock(directory: Path) -> tuple[int, str]:
    """The lock, and the boot id under which a former process left it behind, "" if that ended well."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = _words_in(lock)[0]
        os.close(lock)
        raise Refused(
            f"cache directory {directory} is in use by process {owner};"
            " stop that process, serve both from one with 'portside gateway', or choose another --cache-dir"
        ) from None
    left = _words_in(lock)[1]
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {boot_id()}\n".encode(), 0)
    return lock, left


def _words_in(lock: int) -> tuple[str, str]:
    owner, _, boot = os.pread(lock, 100, 0).decode(errors="replace").strip().partition(" ")
    return owner or "unknown", boot


def _open_index(directory: Path, identity: str, left: str) -> Index:
    path = directory / "index.sqlite"
    if (directory / "damaged").exists():
        raise _Damage("the last run found that it is")
    known_frames = logtail.frames(path) if left == boot_id() else 0
    index = Index(path)
    try:
        if logtail.frames(path) < known_frames:
            raise _Damage("the end of its log is missing")
        known = index.fact("identity")
        if known not in (None, identity):
            raise _Damage(f"it belongs to {known}")
        if known is None and next((directory / "data").glob("*/*"), None) is not None:
            raise _Damage("it is empty, and there are cached files")
        index.set_fact("identity", identity)
    except BaseException:
        with contextlib.suppress(sqlite3.Error, OSError):
            index.close()
        raise
    return index


def _set_aside(directory: Path) -> Path:
    aside = unused(directory / "lost+found" / time.strftime("%Y%m%dT%H%M%S"))
    aside.mkdir(0o700, parents=True)
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "data", "damaged"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(directory / name, aside / name)
    os.mkdir(directory / "data", 0o700)
    return aside


def _recover(store: Store, left: str) -> None:
    """``left``: see `_take_lock`; the index says the same, unless it has lost what was written last."""
    index = store.index
    before, now = index.fact("running") or left or None, boot_id()
    store.unclean_stop = before is not None
    store.power_lost = before is not None and before != now
    index.set_fact("running", now)
    store.strays = store.unclean_stop or index.fact("strays") is not None
    index.set_fact("strays", "maybe" if store.strays else None)
    if store.unclean_stop:
        store.retired.retire("")
    staged = {stage for stage, _, _, _ in index.overlays()}
    nameless, lost = index.nameless()
    store.delete([row.id for row in nameless if row.id not in staged])
    if store.power_lost:
        # invariant 5: pages of clean spans may never have reached the disk; fetching again is cheap, lying is not
        index.forget_clean()
        log.info("the machine stopped without warning: clean cached files are forgotten")
    rows, unreadable = index.dirty()
    for row in rows:
        if row.id in staged:
            continue
        item = store.adopt(row)
        if not store.power_lost:
            store.sever_left(item)
        if store.power_lost and not store.has_file(item):
            log.warning("%s was deleted when the machine stopped, or had not reached the disk", row.path)
            store.forget(item)
            continue
        if store.power_lost and row.promise == 2 and (row.synced < row.size or row.synced_spans is not None):
            if row.synced < row.size:
                log.warning("%s: what was added since it was synced may not be on the disk, and is cut off", row.path)
            store.cut_to_synced(item)
        if store.power_lost and row.promise < 2:  # closed, perhaps, but not synced: no copy may be replaced by it
            log.warning("%s was not synced when the machine stopped, and may have lost bytes", row.path)
            store.cut_to_file(item)
            row.promise = 0
    for ident in {*unreadable, *lost}:
        store.set_aside(ident, "its entry in the upload journal is damaged")
    _finish_overlays(store)
    counted = index.fact("held") or ""
    sound = counted.isdigit() and not (store.unclean_stop or nameless or lost or unreadable or staged)
    store.recount(int(counted) if sound else None)
    if counted:
        index.set_fact("held", None)
    store.graves.left = index.trash()


def _finish_overlays(store: Store) -> None:
    """Uploads that were being laid over files when the last run ended are laid over them, from the beginning."""
    for stage, ident, start, size in store.index.overlays():
        item = next((item for item in store.dirty_items() if item.id == ident), None)
        if item is not None and store.holds(stage):  # else it was done, and forgotten
            log.info("%s: an upload was being laid over it when the last run ended; it is finished", item.path)
            store.lay_over(item, stage, start, size)
        store.index.end_overlay(stage)
        store.delete([stage])


async def tidy_up(store: Store) -> None:
    """After a start, beside everything else: delete what a former process did not get to, and look for data files
    that the index does not know, after an unclean stop. They are set aside, since nobody knows what they hold.

    Both take as long as the clean cache is large, and so nobody waits for them; the next start goes on with what is
    left.
    """
    began = time.time()
    try:
        while batch := store.graves.left[-BATCH:]:  # and not what this run deletes, which may have to stay a while
            await trio.to_thread.run_sync(store.graves.unlink_files, batch)
            store.index.trash_emptied(batch)
            del store.graves.left[-BATCH:]
        for folder in (store.directory / "data").iterdir() if store.strays else ():
            for path in await trio.to_thread.run_sync(list, folder.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    _look_at(store, path, began)
        store.index.set_fact("strays", None)
    except OSError as problem:
        log.warning("the cache could not be put in order, the next start goes on: %s", problem)


def _look_at(store: Store, path: Path, began: float) -> None:
    facts = path.stat()
    if facts.st_ctime >= began:
        return  # of this run
    if path.suffix == ".copy":
        path.unlink()
    if not path.name.isdigit() or store.index.exists(ItemId(int(path.name))):
        return
    if facts.st_blocks == 0:
        path.unlink()
        return
    store.set_aside(ItemId(int(path.name)), "the index does not know it")

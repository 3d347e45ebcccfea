"""Part 3, the disk of the cache: full, failing, read-only, gone, and an index that is not what was written."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .ground import BOUND, Ground, answers
from .layer import Layer
from .table import Row

SIZE = 700_000


def _storage(ground: Ground, count: int) -> dict[str, bytes]:
    """Files that are in the storage from the start."""
    ground.storage.start()
    contents = {f"there{n}": ground.chance.randbytes(SIZE) for n in range(count)}
    for name, data in contents.items():
        (ground.storage.folder / name).write_bytes(data)
    return contents


def _read(ground: Ground, row: Row, contents: dict[str, bytes]) -> int:
    """Every file gives its bytes, or an error in time; answers how many gave their bytes."""
    good = []

    def one(name: str, data: bytes) -> None:
        with contextlib.suppress(OSError):
            found = (ground.mountpoint / name).read_bytes()
            if found == data:
                good.append(name)
            else:
                row.lose(f"{name}: {len(found)} other bytes were read")

    for name, data in contents.items():
        row.within(BOUND, f"reading {name}", lambda name=name, data=data: one(name, data))  # type: ignore[misc]
    return len(good)


def _drained(ground: Ground, row: Row, contents: dict[str, bytes], may_be: dict[str, list[bytes]]) -> None:
    """Everything is stored in the end: what was promised, and of the rest something that was once whole."""
    if code := ground.drain(120):
        row.fail(f"draining ended with {code}: {ground.said()[-300:]}")
    stored = {path: data for path, data in ground.stored().items() if "(interrupted" not in path}
    for name, data in contents.items():
        row.checked += 1
        if stored.pop(name, None) != data:
            row.lose(f"{name} is not in the storage as promised")
    for name, data in stored.items():
        if data not in may_be.get(name, []):
            row.tear(f"{name}: {len(data)} bytes that nobody promised")


def _write(ground: Ground, contents: dict[str, bytes], may_be: dict[str, list[bytes]], names: list[str]) -> int:
    """Save files; what close returned on is promised. Answers how many were refused."""
    refused = 0
    for name in names:
        data = ground.chance.randbytes(SIZE)
        try:
            (ground.mountpoint / name).write_bytes(data)
        except OSError:
            refused += 1
            may_be.setdefault(name, []).extend(data[:cut] for cut in range(0, SIZE + 1, 4096))
            may_be[name].append(data)
            contents.pop(name, None)
        else:
            contents[name] = data
    return refused


@contextmanager
def _small_disk(ground: Ground, size: int) -> Iterator[Path]:
    """The cache on a tmpfs of ``size`` bytes."""
    place = ground.home / "cache"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        ground.command.end_all()
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def full_disk(ground: Ground, row: Row) -> None:
    """More is read and written than the disk holds, while the storage cannot be reached, and after."""
    contents, may_be = _storage(ground, 12), dict[str, list[bytes]]()
    with _small_disk(ground, 12 << 20):
        ground.configure()
        ground.start()
        _read(ground, row, contents)
        ground.storage.stop()
        refused = _write(ground, contents, may_be, [f"made{n}" for n in range(24)])
        row.injected += refused
        if not refused:
            row.fail("the disk never was full")
        ground.storage.start()
        refused = _write(ground, contents, may_be, [f"later{n}" for n in range(6)])
        _drained(ground, row, contents, may_be)


def write_errors(ground: Ground, row: Row) -> None:
    """ENOSPC from writes at random, as quotas and thin disks give it."""
    contents, may_be = _storage(ground, 4), dict[str, list[bytes]]()
    layer = Layer(ground)
    ground.configure()
    ground.start(environ=layer.environ)
    stop = threading.Event()

    def come_and_go() -> None:
        chance = random.Random(ground.chance.random())
        while not stop.wait(chance.uniform(0.0, 0.1)):
            with layer.order("enospc"):
                stop.wait(chance.uniform(0.0, 0.1))

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        _write(ground, contents, may_be, [f"made{n}" for n in range(ground.scaled(30, 300))])
        _read(ground, row, {name: data for name, data in contents.items() if name.startswith("there")})
    finally:
        stop.set()
        thread.join()
    row.injected += layer.happened("enospc")
    _drained(ground, row, contents, may_be)


def read_errors(ground: Ground, row: Row) -> None:
    """EIO from the cache's files: reads fail or come from the storage, uploads wait until the disk gives them."""
    contents, may_be = _storage(ground, 4), dict[str, list[bytes]]()
    layer = Layer(ground)
    ground.configure(vfs_write_back="1s")
    ground.start("--log-level", "error", environ=layer.environ)
    _read(ground, row, contents)
    with layer.order("eio"):
        _write(ground, contents, may_be, ["made0", "made1"])
        subprocess.run(["sysctl", "-qw", "vm.drop_caches=3"], check=False, capture_output=True)
        _read(ground, row, contents)
        time.sleep(2.5)  # uploads come due
    row.injected += layer.happened("eio")
    _drained(ground, row, contents, may_be)


def read_only(ground: Ground, row: Row) -> None:
    """The disk turns read-only, as ext4 does after an error: nothing is promised any more, nothing served is wrong."""
    contents, may_be = _storage(ground, 4), dict[str, list[bytes]]()
    with _small_disk(ground, 64 << 20) as place:
        ground.configure(vfs_write_back="1h")
        ground.start()
        _read(ground, row, dict(list(contents.items())[:2]))
        _write(ground, contents, may_be, ["made0"])
        # the running process holds files open for writing, so a plain remount is refused
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=False, capture_output=True)
        done = subprocess.run(["mount", "--bind", "-o", "ro", str(place), str(place)], check=False, capture_output=True)
        row.injected += 1
        try:
            _read(ground, row, contents)
            row.injected += _write(ground, contents, may_be, ["made1"])
        finally:
            if not done.returncode:
                subprocess.run(["umount", "-l", str(place)], check=False)
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=False, capture_output=True)
        _drained(ground, row, contents, may_be)


def removed(ground: Ground, row: Row) -> None:
    """Somebody deletes the cache directory of a running gateway."""
    contents = _storage(ground, 4)
    ground.configure(vfs_write_back="300ms")
    ground.start()
    _read(ground, row, dict(list(contents.items())[:2]))
    shutil.rmtree(ground.home / "cache")
    row.injected += 1
    _read(ground, row, contents)
    _write(ground, {}, {}, ["made0", "there0"])
    if not answers(lambda: os.listdir(ground.mountpoint), BOUND):
        row.hang("the mount hangs")
    assert ground.gateway is not None
    ground.gateway.process.terminate()
    row.within(60, "ending", lambda: ground.gateway.ended(60))  # type: ignore[union-attr]
    for name, data in ground.stored().items():
        row.checked += 1
        if name in contents and name != "there0" and data != contents[name]:
            row.lose(f"{name} in the storage has changed")
        if len(data) != SIZE:
            row.tear(f"{name}: {len(data)} bytes in the storage")


def damaged_index(how: str) -> Callable[[Ground, Row], None]:
    """The index is damaged while nobody runs: the next start neither deletes nor serves what is not so."""

    def scenario(ground: Ground, row: Row) -> None:
        contents = _storage(ground, 4)
        for _ in range(ground.scaled(2, 40)):
            ground.configure(vfs_write_back="1h")
            ground.start()
            _read(ground, row, contents)
            promised: dict[str, bytes] = {}
            _write(ground, promised, {}, [f"made{n}" for n in range(3)])
            before = contents["there0"]
            _write(ground, contents, {}, ["there0"])
            ground.kill()
            for path in (ground.home / "cache").glob("portside/*/index.sqlite*"):
                if not path.name.endswith("-shm"):
                    _damage(path, how, ground.chance)
            row.injected += 1
            ground.start()
            _read(ground, row, {name: data for name, data in contents.items() if name != "there0"})
            with contextlib.suppress(OSError):
                if (ground.mountpoint / "there0").read_bytes() not in (before, contents["there0"]):
                    row.tear("there0 shows what nobody wrote")
            if code := ground.drain():
                row.fail(f"draining ended with {code}: {ground.said()[-300:]}")
            stored = ground.stored()
            kept = [path.read_bytes() for path in (ground.home / "cache").glob("portside/*/lost+found/**/*")
                    if path.is_file() and path.stat().st_size == SIZE]  # fmt: skip
            for name, data in {**contents, **promised}.items():
                row.checked += 1
                if stored.get(name) != data and data not in kept:
                    row.lose(f"{name} is neither in the storage nor in lost+found")
            for name, data in stored.items():
                if data in (contents.get(name), promised.get(name)) or "(interrupted" in name:
                    continue
                if name != "there0" or data != before:
                    row.tear(f"{name}: {len(data)} bytes that nobody wrote")
            contents["there0"] = stored["there0"]
            for name in promised:
                (ground.storage.folder / name).unlink(missing_ok=True)
            if not row.good:
                return

    return scenario


def _damage(path: Path, how: str, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    match how:
        case "flipped":
            for _ in range(20):
                if data:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "truncated":
            del data[chance.randrange(len(data) + 1) :]
        case "emptied":
            data.clear()
        case "deleted":
            path.unlink()
            return
    path.write_bytes(data)


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {
        "the cache's disk is full": full_disk,
        "writes to the cache fail now and then": write_errors,
        "the cache cannot be read": read_errors,
        "the cache's disk turns read-only": read_only,
        "the cache directory is removed": removed,
        **{f"the index is {how}": damaged_index(how) for how in ("flipped", "truncated", "emptied", "deleted")},
    }

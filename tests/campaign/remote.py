"""Part 2, the remote: everything that networks and servers do, while files are read and written.

Reads end with the right bytes or an error, in time; what was closed is uploaded once the remote is back; nothing is
seen in part under its final name; and nothing looks deleted because the remote is down.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.servers.command import FtpStorage
from tests.servers.faultproxy import Fault, FaultProxy, fault_proxy

from .depots import S3Depot, SftpDepot
from .ground import BOUND, Ground, until
from .process import few_names, terminate, under_load
from .table import Row

SIZE = 600_000
READ = [f"there{n}" for n in range(3)]
WRITE = [f"made{n}" for n in range(3)]
CHANGED = "changed"


class Watch:
    """Looks at the storage all the while: under a final name there is only what was once whole."""

    def __init__(self, ground: Ground, row: Row) -> None:
        self._ground = ground
        self._row = row
        self.whole: dict[str, list[bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.look()

    def look(self) -> None:
        for path, allowed in list(self.whole.items()):
            with suppress(FileNotFoundError):
                found = (self._ground.storage.folder / path).read_bytes()
                if found not in allowed:
                    self._row.tear(f"{path}: {len(found)} bytes are published, of {[len(a) for a in allowed]}")
                    self.whole.pop(path, None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self.look()


def in_trouble(
    ground: Ground, row: Row, begin: Callable[[FaultProxy], None], end: Callable[[FaultProxy], None],
    *, expect_injection: bool = True, **options: object,
) -> None:  # fmt: skip
    """The scenario that every fault of a remote goes through."""
    ground.storage.start()
    chance = ground.chance
    contents = {name: chance.randbytes(SIZE) for name in (*READ, CHANGED)}
    for name, data in contents.items():
        (ground.storage.folder / name).write_bytes(data)
    watch = Watch(ground, row)
    with fault_proxy(ground.storage.port, ftp=isinstance(ground.storage, FtpStorage)) as proxy:
        ground.configure(proxy.port, **options)
        ground.start()
        names = set(os.listdir(ground.mountpoint))
        if names != set(contents):
            row.fail(f"before the fault the mount shows {sorted(names)}")
        begin(proxy)
        new = {name: chance.randbytes(SIZE) for name in (*WRITE, CHANGED)}
        watch.whole = {name: [data, *([contents[name]] if name in contents else [])] for name, data in new.items()}
        with watch.watching():
            for name, data in new.items():
                save(ground, row, name, data)
            readers = [threading.Thread(target=read, args=(ground, row, name, contents[name])) for name in READ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            look_around(ground, row, set(contents) | set(new))
            fault = proxy.fault
            if fault is not None:
                with suppress(AssertionError):
                    until(lambda: fault.injected, "the fault happens", 15)
                row.injected += fault.injected
            else:
                row.injected += 1
            end(proxy)
            proxy.fault = None
            if expect_injection and fault is not None and not fault.injected:
                row.fail("the fault never happened")
            code = ground.drain(120)
            if code:
                row.fail(f"draining ended with exit code {code}: {ground.said()[-300:]}")
        stored = ground.stored()
        for name, data in {**contents, **new}.items():
            row.checked += 1
            if stored.pop(name, None) != data:
                row.lose(f"{name} is not what was written")
        for name in stored:
            row.tear(f"{name} is nobody's")


def save(ground: Ground, row: Row, name: str, data: bytes) -> None:
    """A program that writes: the storage's troubles are none of its business."""

    def work() -> None:
        try:
            (ground.mountpoint / name).write_bytes(data)
        except OSError as problem:
            row.fail(f"writing {name}: {problem}")

    row.within(BOUND, f"writing {name}", work)


def read(ground: Ground, row: Row, name: str, data: bytes) -> None:
    """A program that reads gets what is stored, or an error."""

    def work() -> None:
        try:
            found = (ground.mountpoint / name).read_bytes()
        except OSError as problem:
            if isinstance(problem, FileNotFoundError):
                row.lose(f"{name} looks deleted: {problem}")
            return
        if found != data:
            row.lose(f"{name}: other bytes ({len(found)} of {len(data)}) were read")

    row.within(BOUND, f"reading {name}", work)


def look_around(ground: Ground, row: Row, names: set[str]) -> None:
    """After the listing has expired: all names, or an error."""
    time.sleep(1.1)  # --dir-cache-time is one second here

    def work() -> None:
        with suppress(OSError):
            found = set(os.listdir(ground.mountpoint))
            if missing := names - found:
                row.lose(f"look deleted: {sorted(missing)}")
        for name in sorted(names):
            try:
                size = os.stat(ground.mountpoint / name).st_size
            except FileNotFoundError:
                row.lose(f"{name} looks deleted")
            except OSError:
                continue
            else:
                if size != SIZE:
                    row.lose(f"{name} looks {size} bytes long")

    row.within(BOUND + 5, "looking around", work)


def _fault(**how: object) -> Callable[[Ground, Row], None]:
    def scenario(ground: Ground, row: Row) -> None:
        def begin(proxy: FaultProxy) -> None:
            proxy.fault = Fault(**how)  # type: ignore[arg-type]

        in_trouble(ground, row, begin, lambda proxy: None)

    return scenario


def _elsewhere(depot: Callable[[], SftpDepot | S3Depot], **how: object) -> Callable[[Ground, Row], None]:
    """The same with another storage than FTP."""

    def scenario(ground: Ground, row: Row) -> None:
        ground.storage = depot()
        _fault(**how)(ground, row)

    return scenario


def _server_killed(ground: Ground, row: Row) -> None:
    in_trouble(ground, row, lambda proxy: ground.storage.stop(), lambda proxy: ground.storage.start())


def _server_restarts(ground: Ground, row: Row) -> None:
    """Killed and started again and again, under the transfers."""
    stop = threading.Event()

    def restart() -> None:
        while not stop.wait(0.3):
            ground.storage.stop()
            ground.storage.start()

    thread = threading.Thread(target=restart)

    def end(proxy: FaultProxy) -> None:
        stop.set()
        thread.join()

    in_trouble(ground, row, lambda proxy: thread.start(), end)


def _directory_deleted(ground: Ground, row: Row) -> None:
    """The directory of files that wait for upload is deleted at the storage: it is made again."""
    ground.storage.start()
    folder = ground.storage.folder / "d"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    ground.configure(vfs_write_back="1h", dir_cache_time="1h")
    ground.start()
    data = ground.chance.randbytes(SIZE)
    (ground.mountpoint / "d" / "new").write_bytes(data)
    shutil.rmtree(folder)
    row.injected += 1
    if ground.drain():
        row.fail("it could not be stored")
    row.checked += 1
    if ground.stored() != {"d/new": data}:
        row.lose(f"the storage has {sorted(ground.stored())}")


def _file_changed(ground: Ground, row: Row) -> None:
    """Edited here and there: both are kept. Edited there alone, while it is cached here: that is read."""
    ground.storage.start()
    both, theirs = ground.storage.folder / "both", ground.storage.folder / "theirs"
    both.write_bytes(b"before")
    theirs.write_bytes(b"before")
    ground.configure(vfs_write_back="1h")
    ground.start()
    assert (ground.mountpoint / "theirs").read_bytes() == b"before"
    (ground.mountpoint / "both").write_bytes(b"edited here")
    for path in (both, theirs):
        path.write_bytes(b"edited there!")
        os.utime(path, (time.time() + 60, time.time() + 60))
    row.injected += 2
    row.checked += 2

    def renewed() -> bool:
        return (ground.mountpoint / "theirs").read_bytes() == b"edited there!"

    try:
        until(renewed, "the other edit is read", 10)
    except AssertionError:
        row.lose("an edit at the storage is not seen")
    if ground.drain():
        row.fail("it could not be stored")
    contents = sorted(data for path, data in ground.stored().items() if path.startswith("both"))
    if contents != [b"edited here", b"edited there!"]:
        row.lose(f"of two edits there is {contents}")


def _cut_under_load(ground: Ground, row: Row) -> None:
    """Connections end at any moment while programs work: what was asked for may be done, or not, and nobody is told."""
    with fault_proxy(ground.storage.port, ftp=True) as proxy:

        def trouble(ground: Ground, row: Row) -> None:
            chance = ground.chance
            proxy.fault = fault = Fault(
                way="reset", where=chance.choice(["control", "data", "any"]), up=chance.random() < 0.3,
                after=chance.randrange(3000), times=chance.randrange(1, 8),
            )  # fmt: skip
            time.sleep(chance.uniform(0.2, 2.0))
            if not fault.injected:  # so much was not sent in that time: the next bytes will do
                proxy.fault = fault = Fault(way="reset", where="any", up=fault.up, times=fault.times)
                deadline = time.monotonic() + 10
                while not fault.injected and time.monotonic() < deadline:
                    time.sleep(0.05)
            proxy.fault = None
            row.injected += fault.injected - 1  # a round counts as one
            terminate(ground, row)

        under_load(ground, row, ground.scaled(4, 100), trouble, few_names, proxy.port)


def _killed_under_load(ground: Ground, row: Row) -> None:
    """The server is away for a moment while programs work."""

    def trouble(ground: Ground, row: Row) -> None:
        ground.storage.stop()
        time.sleep(ground.chance.uniform(0.0, 2.0))
        ground.storage.start()
        time.sleep(ground.chance.uniform(0.0, 1.0))
        terminate(ground, row)

    under_load(ground, row, ground.scaled(2, 50), trouble, few_names)


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name; the short run leaves out what differs only in the moment."""
    half, most = SIZE // 2, SIZE - 1000
    found: dict[str, Callable[[Ground, Row], None]] = {
        "the connection is reset half-way through uploads": _fault(way="reset", after=half, times=4),
        "the connection is reset half-way through downloads": _fault(way="reset", up=False, after=half, times=4),
        "uploads stall": _fault(way="stall", after=half),
        "downloads stall": _fault(way="stall", up=False, after=half),
        "control connections stall": _fault(way="stall", where="control", up=False),
        "uploads lose their end, and the server says 226": _fault(way="truncate", after=half, times=3),
        "downloads lose their end, and the server says 226": _fault(way="truncate", up=False, after=half, times=6),
        "connections are refused": _fault(way="refuse", where="any"),
        "STOR is answered with 452 (no room)": _fault(way="answer", command="STOR", reply="452 no space left"),
        "log-ins are answered with 530 (revoked)": _fault(way="answer", command="PASS|RETR|STOR|LIST|MLSD|MLST",
                                                          where="control", reply="530 not logged in"),
        "everything is answered with 421": _fault(way="answer", command=".*", reply="421 closing"),
        "sizes are wrong": _fault(way="rewrite", pattern=r"(?i)size=\d+", reply="size=7", times=6),
        "the server is killed": _server_killed,
        "a directory is deleted underneath": _directory_deleted,
        "files change underneath": _file_changed,
        "connections are cut under load": _cut_under_load,
        "the server is killed under load": _killed_under_load,
    }  # fmt: skip
    depots: dict[str, Callable[[], SftpDepot | S3Depot]] = {"SFTP": SftpDepot, "S3": S3Depot}
    for kind, depot in depots.items():
        found |= {
            f"{kind}: connections are reset in uploads": _elsewhere(depot, way="reset", after=half, times=4),
            f"{kind}: connections are reset in downloads": _elsewhere(
                depot, way="reset", up=False, after=half, times=4
            ),
            f"{kind}: downloads stall": _elsewhere(depot, way="stall", up=False, after=half),
        }
        if long:
            found |= {
                f"{kind}: uploads stall": _elsewhere(depot, way="stall", after=half),
                f"{kind}: connections are refused": _elsewhere(depot, way="refuse", where="any"),
            }
    if not long:
        return found
    return found | {
        "the connection is reset at the start of uploads": _fault(way="reset", times=4),
        "the connection is reset at the end of uploads": _fault(way="reset", after=most, times=4),
        "the connection is reset at the start of downloads": _fault(way="reset", up=False, times=4),
        "the connection is reset at the end of downloads": _fault(way="reset", up=False, after=most, times=4),
        "control connections are reset": _fault(way="reset", where="control", up=False, after=400, times=8),
        "commands are lost with their connection": _fault(way="reset", where="control", after=60, times=8),
        "the link is slow": _fault(way="slow", where="data", rate=200_000),
        "the link is late": _fault(way="late", where="any", delay=0.1),
        "transfers are answered with 426": _fault(way="answer", command="RETR|STOR", reply="426 broken", times=6),
        "transfers are answered with 550": _fault(way="answer", command="STOR", reply="550 no", times=6),
        "STOR is answered with 552 (quota)": _fault(way="answer", command="STOR", reply="552 quota exceeded"),
        "RNTO is answered with 451": _fault(way="answer", command="RNTO", reply="451 later", times=3),
        "the server is killed and started, again and again": _server_restarts,
    }

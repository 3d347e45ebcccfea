"""Runs every test of this folder through every door; what a door cannot express is deselected and listed."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ftp.serving import serving
from fuse.mounting import mounted, need_fuse, spoken
from model.live import live_core
from model.storage import Content, content_of_folder, content_of_remote

from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Remote
from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings
from tests.servers.places import PLACES, Kind

from .doors import Ability, Door, FtpDoor, MountDoor, VfsDoor, forget_everything, walk

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from guide_capabilities import documented_cells

NEVER = 3600.0
"""Seconds: nothing is uploaded before the test drains."""


def vfs_over_memory(stack: ExitStack, place: Path) -> Door:
    """Everything the test does happens before the first upload."""
    core = stack.enter_context(live_core())
    remote = Memory()
    settings = VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=NEVER))
    vfs = core.attach(remote, settings)
    return VfsDoor(core, vfs, lambda base: core.call(content_of_remote_below, remote, base))


async def content_of_remote_below(remote: Remote, base: str) -> Content:
    """Paths relative to ``base``."""
    return {path[len(base) + 1 :]: data for path, data in (await content_of_remote(remote, base)).items()}


def vfs_over_a_folder(stack: ExitStack, place: Path) -> Door:
    """Every close uploads before it returns."""
    core = stack.enter_context(live_core())
    (place / "store").mkdir()
    remote = open_remote("local", {}, str(place / "store"))
    vfs = core.attach(remote, VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=0)))
    return VfsDoor(core, vfs, lambda base: content_of_folder(place / "store" / base))


def mount_over_a_folder(stack: ExitStack, place: Path) -> Door:
    """The kernel between the test and the core; uploads follow shortly after each close."""
    return _mount(stack, place, "pyfuse3")


def passthrough_over_a_folder(stack: ExitStack, place: Path) -> Door:
    """The same, with the kernel reading and writing cache files itself."""
    return _mount(stack, place, "passthrough")


def _mount(stack: ExitStack, place: Path, session: str) -> Door:
    (place / "store").mkdir()
    return _mounted(stack, place, session, open_remote("local", {}, str(place / "store")), place / "store")


def _mounted(stack: ExitStack, place: Path, session: str, remote: Remote, store: Path) -> Door:
    need_fuse()
    settings = VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=0.05))
    mount = stack.enter_context(mounted(remote, place, settings, spoken(session)))

    def drain() -> None:
        left = mount.run(mount.vfs.drain)
        assert not left, f"not uploaded: {left}"

    return MountDoor(
        str(mount.path),
        lambda base: content_of_folder(store / base),
        drain,
        lambda: mount.run(forget_everything, mount.vfs),
    )


def mount_over(kind: Kind) -> Callable[[ExitStack, Path], Door]:
    """A mount of a storage; what is stored is read by another remote, rooted below, which knows nothing."""

    def door(stack: ExitStack, place: Path) -> Door:
        need_fuse()
        opened = stack.enter_context(kind.start())
        settings = VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=0.05))
        remote = opened("")
        mount = stack.enter_context(mounted(remote, place, settings, spoken("direct")))

        async def stored(base: str) -> Content:
            if kind is PLACES["memory"]:
                return await content_of_remote_below(remote, base)
            other = opened(base)
            try:
                return await content_of_remote(other)
            finally:
                await other.aclose()

        def drain() -> None:
            left = mount.run(mount.vfs.drain)
            assert not left, f"not uploaded: {left}"

        return MountDoor(
            str(mount.path),
            lambda base: mount.run(stored, base),
            drain,
            lambda: mount.run(forget_everything, mount.vfs),
        )

    return door


def ftp_over_a_folder(stack: ExitStack, place: Path) -> Door:
    """The server writes through the same core; uploads follow shortly after."""
    (place / "store").mkdir()
    served = stack.enter_context(
        serving(lambda: open_remote("local", {}, str(place / "store")), {"vfs-write-back": "50ms"})
    )
    client = served.connect()
    stack.callback(client.close)  # without QUIT: the server may have ended an idle session long ago
    assert served.vfs is not None

    def drain() -> None:
        left = served.run(served.vfs.drain)  # type: ignore[union-attr]
        assert not left, f"not uploaded: {left}"

    return FtpDoor(
        client,
        lambda base: content_of_folder(place / "store" / base),
        drain,
        lambda: served.run(forget_everything, served.vfs),
    )


LACKS: dict[str, Ability] = {
    "times": Ability.TIMES,
    "with the upload": Ability.TIMES,
    "empty folders": Ability.EMPTY_DIRECTORIES,
    "UTF-8 only": Ability.RAW_NAMES,
    "no line breaks": Ability.LINE_BREAKS,
    "not every character": Ability.ANY_NAME,
    "case is ignored": Ability.CASE,
    "as new versions": Ability.RENAMED_CHANGES,
}
"""What the guide's words say that a storage cannot; a column that is empty, or a word in the column of names."""


def lacks_of(kind: Kind) -> frozenset[Ability]:
    """What a mount of it cannot, and why: what the guide says, and nothing else."""
    row = documented_cells()[kind.title]
    words = [column for column, cell in row.items() if not cell]
    words += [word for column in ("names", "rename", "times") for word in row[column].split(", ")]
    trees = frozenset[Ability]() if "trees" in words else {Ability.TREES}
    return MountDoor.lacks | trees | {LACKS[word] for word in words if word in LACKS}


DOORS: dict[str, tuple[frozenset[Ability], Callable[[ExitStack, Path], Door]]] = {
    "vfs-memory": (VfsDoor.lacks, vfs_over_memory),
    "vfs-folder": (VfsDoor.lacks, vfs_over_a_folder),
    "fuse-folder": (MountDoor.lacks, mount_over_a_folder),
    "passthrough-folder": (MountDoor.lacks, passthrough_over_a_folder),
    "ftp-folder": (FtpDoor.lacks, ftp_over_a_folder),
    **{f"fuse-{name}": (lacks_of(kind), mount_over(kind)) for name, kind in PLACES.items()},
}
_MORE = "local alias sftp-proftpd webdav-rclone webdav-wsgidav webdav-copyparty s3-plain s3-rclone swift"
MORE = tuple(f"fuse-{name}" for name in _MORE.split())
"""Further servers of a type that has one already, and Swift, which takes minutes: run with ``--all-examples``."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark that says what a test needs."""
    config.addinivalue_line("markers", "needs(*abilities): what a door must be able to express for this test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test, all doors."""
    if "door_name" in metafunc.fixturenames:
        metafunc.parametrize("door_name", list(DOORS), scope="session")


SAMPLED = tuple(name for name in DOORS if name.startswith("fuse-") and name != "fuse-folder")
"""Doors behind which every step is a request: one example of each test, unless ``--all-examples`` is given."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option is known only where this folder is named on the command line."""
    parser.addoption("--all-examples", action="store_true", help="every example, through every door")


def _is_left_out(item: pytest.Item, seen: set[object]) -> bool:
    """Whether another example of the same test is run through this door already."""
    name = getattr(item, "callspec", None) and item.callspec.params.get("door_name")  # type: ignore[attr-defined]
    if name not in SAMPLED or item.config.getoption("--all-examples", False):
        return False
    test = (name, getattr(item, "originalname", item.name))
    if test in seen or name in MORE:
        return True
    seen.add(test)
    return False


LEFT_OUT = pytest.StashKey[dict[str, dict[Ability, list[str]]]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what a door cannot express, and remember why."""
    left_out: dict[str, dict[Ability, list[str]]] = defaultdict(lambda: defaultdict(list))
    gone: list[pytest.Item] = []
    seen: set[object] = set()
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("door_name")  # type: ignore[attr-defined]
        needs = {ability for mark in item.iter_markers("needs") for ability in mark.args}
        if name in DOORS and (missing := needs & DOORS[name][0]):
            gone.append(item)
            for ability in missing:
                left_out[name][ability].append(item.name)
        elif _is_left_out(item, seen):
            gone.append(item)
    if gone:
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=gone)
    config.stash[LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The one place that says which tests a door does not run, and why."""
    for name, reasons in sorted(config.stash.get(LEFT_OUT, {}).items()):
        for ability, tests in reasons.items():
            left_out = ", ".join(sorted({test.partition("[")[0] for test in tests}))
            terminalreporter.write_line(f"door {name} cannot {ability.value}; {len(tests)} left out: {left_out}")


class OpenDoors:
    """Doors by name."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self.stack = ExitStack()
        self._factory = factory
        self._open: dict[str, Door] = {}

    def get(self, name: str) -> Door:
        """The door, opened at first use."""
        if name not in self._open:
            self._open[name] = DOORS[name][1](self.stack, self._factory.mktemp(name))
        return self._open[name]


@pytest.fixture(scope="package")
def open_doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoors]:
    """Doors are opened at first use and closed after the last test here: pyfuse3 mounts once in a process."""
    doors = OpenDoors(tmp_path_factory)
    with doors.stack:
        yield doors


@pytest.fixture
def door(door_name: str, open_doors: OpenDoors, request: pytest.FixtureRequest) -> Iterator[Door]:
    """A door into an empty directory. Afterwards everything is uploaded, and then the storage holds, byte for
    byte, what the door showed before, and the door shows it again when it asks the storage anew."""
    found = open_doors.get(door_name)
    found.base = ""
    place = f"t{abs(hash(request.node.nodeid)):x}"
    found.mkdir(place)
    found.base = place
    failed = request.session.testsfailed
    yield found
    if request.session.testsfailed > failed:
        found.base = ""
        return
    shown = walk(found)
    found.drain()
    assert found.stored() == shown, "the storage does not hold what the door showed"
    found.forget()
    assert walk(found) == shown, "the door shows something else once it asks the storage"
    found.base = ""

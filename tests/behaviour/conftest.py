"""Runs every test of this folder through every door; what a door cannot express is deselected and listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
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
from tests.servers import FtpServer, proftpd, pyftpdlib, vsftpd
from tests.servers.objects import azurite, moto_s3
from tests.servers.ssh import sshd
from tests.servers.web import apache

from .doors import Ability, Door, FtpDoor, MountDoor, VfsDoor, forget_everything, walk

NEVER = 3600.0
"""Seconds: nothing is uploaded before the test drains."""


def vfs_over_memory(stack: ExitStack, place: Path) -> Door:
    """Everything the test does happens before the first upload."""
    core = stack.enter_context(live_core())
    remote = Memory()
    settings = VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=NEVER))
    vfs = core.attach(remote, settings)
    return VfsDoor(core, vfs, lambda base: core.call(content_of_remote_below, remote, base))


async def content_of_remote_below(remote: Memory, base: str) -> Content:
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


def mount_over_sftp(stack: ExitStack, place: Path) -> Door:
    """A mount of a folder on OpenSSH's server."""
    server = stack.enter_context(sshd())
    remote = open_remote("sftp", server.options, server.prefix)
    return _mounted(stack, place, "direct", remote, server.root)


def mount_over_webdav(stack: ExitStack, place: Path) -> Door:
    """A mount of a folder on Apache, which takes any name and sets no times."""
    server = stack.enter_context(apache())
    return _mounted(stack, place, "direct", open_remote("webdav", server.options, ""), server.root)


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


def mount_over_s3(stack: ExitStack, place: Path) -> Door:
    """A bucket that marks its directories."""
    server = stack.enter_context(moto_s3())
    options, bucket = server.options | {"directory_markers": "true"}, server.bucket()
    return _mounted_and_read_anew(stack, place, lambda below: open_remote("s3", options, bucket + below))


def mount_over_azure(stack: ExitStack, place: Path) -> Door:
    """A container of Azurite's."""
    server = stack.enter_context(azurite())
    container = server.bucket()

    def opened(below: str) -> Remote:
        return open_remote(server.kind, server.options, container + below)

    return _mounted_and_read_anew(stack, place, opened)


def mount_over_opendal(stack: ExitStack, place: Path) -> Door:
    """A folder, through OpenDAL."""
    (place / "store").mkdir()
    options = {"service": "fs", "config": f"root='{place / 'store'}'"}
    return _mounted_and_read_anew(stack, place, lambda below: open_remote("opendal", options, below.strip("/")))


def mount_over_crypt(stack: ExitStack, place: Path) -> Door:
    """Encrypted names and contents in a folder."""
    (place / "store").mkdir()
    options = {"remote": str(place / "store"), "password": "between us", "password2": "salt"}

    def opened(below: str) -> Remote:
        inner = open_remote("local", {}, str(place / "store"))
        return open_remote("crypt", options, below.strip("/"), inner)

    return _mounted_and_read_anew(stack, place, opened)


def mount_over_ftp(
    server: Callable[[], AbstractContextManager[FtpServer]],
) -> Callable[[ExitStack, Path], Door]:
    """A mount of a folder on an FTP server."""

    def door(stack: ExitStack, place: Path) -> Door:
        running = stack.enter_context(server())
        return _mounted_and_read_anew(stack, place, lambda below: open_remote("ftp", running.options, below.strip("/")))

    return door


def _mounted_and_read_anew(stack: ExitStack, place: Path, opened: Callable[[str], Remote]) -> Door:
    """A mount; what is stored is read by another remote, rooted ``/below``, which knows nothing."""
    need_fuse()
    settings = VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=0.05))
    mount = stack.enter_context(mounted(opened(""), place, settings, spoken("direct")))

    async def stored(base: str) -> Content:
        other = opened(f"/{base}" if base else "")
        try:
            return await content_of_remote(other)
        finally:
            await other.aclose()

    def drain() -> None:
        left = mount.run(mount.vfs.drain)
        assert not left, f"not uploaded: {left}"

    return MountDoor(
        str(mount.path), lambda base: mount.run(stored, base), drain, lambda: mount.run(forget_everything, mount.vfs)
    )


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


PLAIN_NAMES = frozenset({Ability.RAW_NAMES, Ability.LINE_BREAKS, Ability.TIMES})
DOORS: dict[str, tuple[frozenset[Ability], Callable[[ExitStack, Path], Door]]] = {
    "vfs-memory": (VfsDoor.lacks, vfs_over_memory),
    "vfs-folder": (VfsDoor.lacks, vfs_over_a_folder),
    "fuse-folder": (MountDoor.lacks, mount_over_a_folder),
    "passthrough-folder": (MountDoor.lacks, passthrough_over_a_folder),
    "fuse-s3": (MountDoor.lacks | {Ability.LINE_BREAKS}, mount_over_s3),  # moto's addresses end at a line break
    "ftp-folder": (FtpDoor.lacks, ftp_over_a_folder),
    "fuse-sftp": (MountDoor.lacks, mount_over_sftp),
    "fuse-webdav": (MountDoor.lacks | {Ability.TIMES}, mount_over_webdav),
    "fuse-ftp-pyftpdlib": (MountDoor.lacks | {Ability.RAW_NAMES}, mount_over_ftp(pyftpdlib)),
    "fuse-ftp-vsftpd": (MountDoor.lacks, mount_over_ftp(vsftpd)),
    "fuse-ftp-proftpd": (MountDoor.lacks, mount_over_ftp(proftpd)),
    "fuse-azureblob": (MountDoor.lacks | PLAIN_NAMES | {Ability.EMPTY_DIRECTORIES, Ability.TREES}, mount_over_azure),
    "fuse-opendal": (MountDoor.lacks | PLAIN_NAMES | {Ability.TREES, Ability.ANY_NAME}, mount_over_opendal),
    "fuse-crypt": (MountDoor.lacks, mount_over_crypt),
}


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
    parser.addoption("--all-examples", action="store_true", help="every example through the slow doors too")


def _is_left_out(item: pytest.Item, seen: set[object]) -> bool:
    """Whether another example of the same test is run through this door already."""
    name = getattr(item, "callspec", None) and item.callspec.params.get("door_name")  # type: ignore[attr-defined]
    if name not in SAMPLED or item.config.getoption("--all-examples", False):
        return False
    test = (name, getattr(item, "originalname", item.name))
    if test in seen:
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

"""``mount -t portside`` and fstab, by the real mount(8); and what ``-o`` means."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountcore.commands.failures import UsageError
from mountcore.commands.mount import DAEMON_OPTIONS
from mountcore.commands.mount_words import mount_words
from mountcore.options import VFS_OPTIONS

from .conftest import FtpStorage, Portside, is_mounted, until

KNOWN = (*DAEMON_OPTIONS, *VFS_OPTIONS)
LINKS = ("mount.portside", "mount.fuse.portside", "umount.fuse.portside")


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The command, linked where mount(8) looks; it looks nowhere else."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "CI runs as root"
        pytest.skip("needs root: mount(8) looks for helpers in /sbin alone")
    with open("/tmp/portside-tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = Path(sys.executable).parent / "portside"
        assert target.exists(), "portside is not installed beside this Python"
        made = [Path("/sbin", name) for name in LINKS if not os.path.lexists(f"/sbin/{name}")]
        for place in made:
            place.symlink_to(target)
        try:
            yield
        finally:
            for place in made:
                place.unlink()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    (place / "a").write_text("a\n")
    return place


def with_nothing(*command: object) -> subprocess.CompletedProcess[str]:
    """Run with an empty environment: no HOME, no PATH."""
    return subprocess.run(list(map(str, command)), env={}, capture_output=True, text=True, check=False, timeout=60)


def line_of(point: Path) -> str:
    """What the kernel says of the mount."""
    return next(line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {point} " in line)


@pytest.mark.usefixtures("helper")
class TestMount:
    def test_by_hand(self, portside: Portside, store: Path, mountpoint: Path, tmp_path: Path) -> None:
        words = f"vfs_cache_mode=full,cache_dir={tmp_path}/cache,devname='a, ''b''',_netdev,nofail,noexec,x-a.b"
        done = with_nothing("/bin/mount", "-t", "portside", store, mountpoint, "-o", words)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        line = line_of(mountpoint)
        assert "noexec" in line
        assert "'b'" in line
        (mountpoint / "b").write_text("b\n")
        done = with_nothing("/bin/umount", mountpoint)
        assert done.returncode == 0, done.stderr
        assert not is_mounted(mountpoint)
        assert (store / "b").read_text() == "b\n", "umount(8) uploads first"

    def test_by_a_line_of_fstab(self, portside: Portside, store: Path, mountpoint: Path, tmp_path: Path) -> None:
        portside.configure(f"[photos]\ntype = alias\nremote = {store}\n")
        fstab = tmp_path / "fstab"
        words = f"ro,noauto,user,vfs_cache_mode=writes,cache_dir={tmp_path}/cache,env.XDG_CONFIG_HOME={tmp_path}/config"
        fstab.write_text(f"photos: {mountpoint} portside {words} 0 0\n")
        done = with_nothing("/bin/mount", "--fstab", fstab, mountpoint)
        assert done.returncode == 0, done.stderr
        assert (mountpoint / "a").read_text() == "a\n"
        with pytest.raises(OSError, match="Read-only"):
            (mountpoint / "b").touch()
        assert with_nothing("/bin/umount", mountpoint).returncode == 0

    def test_remount(self, portside: Portside, store: Path, mountpoint: Path, tmp_path: Path) -> None:
        assert with_nothing(
            "/bin/mount", "-t", "portside", store, mountpoint, "-o", f"cache_dir={tmp_path}/cache"
        ).returncode == 0  # fmt: skip
        done = with_nothing("/bin/mount", "-o", "remount,ro", mountpoint)
        assert done.returncode == 0, done.stderr
        with pytest.raises(OSError, match="Read-only"):
            (mountpoint / "b").touch()
        assert with_nothing("/bin/mount", "-o", "remount,rw", mountpoint).returncode == 0
        (mountpoint / "b").touch()
        assert with_nothing("/bin/umount", mountpoint).returncode == 0

    def test_exit_codes(self, portside: Portside, store: Path, mountpoint: Path, tmp_path: Path) -> None:
        def code(*words: object) -> int:
            done = with_nothing("/bin/mount", "-t", "portside", *words)
            assert "Traceback" not in done.stderr
            assert done.stderr.startswith("portside: ")
            return done.returncode

        assert code("nosuch:", mountpoint, "-o", f"cache_dir={tmp_path}/cache") == 32
        assert code(store, mountpoint, "-o", "vfs_cash_mode=full") == 1
        assert code(store, mountpoint, "-o", "vfs_cache_mode=none") == 32
        (mountpoint / "in the way").touch()
        assert code(store, mountpoint, "-o", f"cache_dir={tmp_path}/cache") == 32
        assert not is_mounted(mountpoint)

    def test_umount_says_what_could_not_be_stored(
        self, portside: Portside, storage: FtpStorage, mountpoint: Path, tmp_path: Path
    ) -> None:
        portside.configure(storage.section("box"))
        # without _netdev, umount(8) asks statfs(2) alone, which says "fuse", and runs no helper
        words = f"_netdev,cache_dir={tmp_path}/cache,vfs_write_back=1h,env.XDG_CONFIG_HOME={tmp_path}/config"
        assert with_nothing("/bin/mount", "-t", "portside", "box:", mountpoint, "-o", words).returncode == 0
        (mountpoint / "late").write_text("late")
        storage.stop()
        done = with_nothing("/bin/umount", mountpoint)
        assert done.returncode != 0
        assert "late" in done.stderr
        assert is_mounted(mountpoint)
        storage.start()
        assert with_nothing("/bin/umount", mountpoint).returncode == 0
        assert (storage.folder / "late").read_text() == "late"


def test_option_words_on_the_command_line(portside: Portside, mountpoint: Path, tmp_path: Path) -> None:
    portside.mount(":memory:", mountpoint, "-o", "noatime,devname=dev", "-o", "ro", "--option", "umask=077")
    line = line_of(mountpoint)
    assert line.startswith("dev ")
    assert "noatime" in line
    assert "ro," in line
    assert mountpoint.stat().st_mode & 0o777 == 0o700
    assert portside.run("umount", mountpoint).returncode == 0


def test_the_command_line_wins_over_words(portside: Portside, mountpoint: Path) -> None:
    portside.mount(":memory:", mountpoint, "-o", "devname=one", "--devname", "two")
    assert line_of(mountpoint).startswith("two ")
    until(lambda: portside.run("umount", mountpoint).returncode == 0, "it is unmounted")


WORDS = {
    "vfs_cache_mode=full,read-only": {"vfs-cache-mode": "full", "read-only": "true"},
    "rw,_netdev,nofail,user,users,auto,noauto,dev,suid,exec,x-systemd.requires=a.service,X-mount.mkdir,comment=x": {},
    "ro": {"read-only": "true"},
    "ro,rw": {},
    "nodev,nosuid,noexec": {"fuse-flag": "nodev,nosuid,noexec"},
    "cache_dir='a,b'": {"cache-dir": "a,b"},
    'cache_dir="a ""b"",c"': {"cache-dir": 'a "b",c'},
    "cache_dir='it''s',ro": {"cache-dir": "it's", "read-only": "true"},
    "cache_dir=a'b": {"cache-dir": "a'b"},
    "cache_dir=a=b,": {"cache-dir": "a=b"},
    "": {},
}


@pytest.mark.parametrize("text", WORDS)
def test_words(text: str) -> None:
    flags = {"fuse-flag": mount_words(text, KNOWN).texts.get("fuse-flag")} if "fuse-flag" in WORDS[text] else {}
    assert mount_words(text, KNOWN).texts | flags == WORDS[text]


def test_words_for_the_environment_and_the_log() -> None:
    words = mount_words("env.XDG_CONFIG_HOME=/etc/x,vv,remount", KNOWN)
    assert words.environ == {"XDG_CONFIG_HOME": "/etc/x"}
    assert words.verbose == 2
    assert words.remount


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vfs_cash_mode=full", "did you mean vfs_cache_mode"),
        ("cache_dir='a", "must end with it"),
        ("cache_dir='a'b", "must end with it"),
        ("cache_dir", "needs a value"),
        ("=x", "no name"),
    ],
)
def test_words_that_mean_nothing(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        mount_words(text, KNOWN)
    assert mount_words("nonsense,more=1", KNOWN, sloppy=True).texts == {}

"""Options of a mount that are about the kernel's requests. Those about files are where files are tested."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import trio

from mountcore.remotes.protocol import ANYTHING

from .mounting import Mount, mounted, spoken
from .slow import Slow
from .test_waiting import Bytes, until


def test_a_request_that_takes_too_long_times_out(tmp_path: Path, session: str) -> None:
    remote = Slow()

    async def fill() -> None:
        await remote.inner.put("stuck", Bytes(b"x" * 1000), expect=ANYTHING, mtime_ns=None)
        await remote.inner.put("other", Bytes(b"y" * 1000), expect=ANYTHING, mtime_ns=None)

    trio.run(fill)
    with mounted(remote, tmp_path, options={**spoken(session), "daemon-timeout": "300ms"}) as mount:
        stuck = remote.stuck["stuck"] = trio.Event()
        with pytest.raises(OSError, match="timed out") as caught:
            (mount.path / "stuck").read_bytes()
        assert caught.value.errno == errno.ETIMEDOUT
        assert (mount.path / "other").read_bytes() == b"y" * 1000
        mount.core.token.run_sync_soon(stuck.set)
        assert (mount.path / "stuck").read_bytes() == b"x" * 1000


def test_debug_fuse_says_every_request(mount_here: Callable[..., Mount], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fuse_frontend.trace")
    mount = mount_here(debug_fuse="true", passthrough="off")
    (mount.path / "a file").write_bytes(b"content")
    with pytest.raises(FileNotFoundError):
        os.stat(mount.path / "no such")
    said = [record.getMessage() for record in caplog.records if record.name == "fuse_frontend.trace"]
    for word in ("CREATE", "a file", "WRITE", "content", "FLUSH", "LOOKUP"):
        assert any(word in line for line in said), word
    assert all(" in " in line and line.endswith(" ms") for line in said)


@pytest.mark.parametrize(("option", "value"), [("devname", "this"), ("volname", "that")])
def test_what_df_shows(mount_here: Callable[..., Mount], option: str, value: str) -> None:
    mount = mount_here(**{option: value})
    assert any(line.startswith(f"{value} {mount.path} ") for line in Path("/proc/self/mounts").read_text().splitlines())


def test_devname_wins_over_volname(mount_here: Callable[..., Mount]) -> None:
    mount = mount_here(devname="this", volname="that")
    assert any(line.startswith(f"this {mount.path} ") for line in Path("/proc/self/mounts").read_text().splitlines())


def test_options_of_other_systems_are_taken_with_a_warning(
    mount_here: Callable[..., Mount], caplog: pytest.LogCaptureFixture
) -> None:
    mount_here(noappledouble="true", noapplexattr="true", network_mode="true", mount_case_insensitive="auto")
    said = " ".join(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    for name in ("noappledouble", "noapplexattr", "network-mode", "mount-case-insensitive"):
        assert f"--{name} does nothing here" in said
    assert "allow-idmap" not in said


def test_a_place_that_is_not_empty_is_mounted_over_when_asked(mount_here: Callable[..., Mount], tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt/below").touch()
    mount = mount_here(allow_non_empty="true")
    assert os.listdir(mount.path) == []


def test_the_mount_of_one_is_open_to_root_and_nobody_else(mount_here: Callable[..., Mount], tmp_path: Path) -> None:
    for place in (tmp_path, *tmp_path.parents):
        if place.is_relative_to("/tmp") and place != Path("/tmp"):
            place.chmod(place.stat().st_mode | 0o011)
    mount = mount_here(allow_root="true")
    os.chmod(mount.path, 0o777)
    (mount.path / "file").write_bytes(b"content")
    somebody = subprocess.run(["cat", mount.path / "file"], user=1234, group=1234, extra_groups=[], capture_output=True)
    assert somebody.returncode != 0
    assert somebody.stdout == b""
    assert subprocess.run(["cat", mount.path / "file"], capture_output=True, check=True).stdout == b"content"


@pytest.mark.parametrize(("value", "at_once"), [("true", 4), ("false", 1)])
@pytest.mark.parametrize("session", ["direct"])
def test_how_many_parts_of_a_file_the_kernel_asks_for_at_once(
    tmp_path: Path, session: str, value: str, at_once: int
) -> None:
    remote = Slow()
    size = 4 << 20
    trio.run(partial(remote.inner.put, "stuck", Bytes(b"x" * size), expect=ANYTHING, mtime_ns=None))
    texts = {**spoken(session), "async-read": value, "max-read-ahead": "4Mi", "passthrough": "off"}
    control = tmp_path / "control"
    control.mkdir()
    with mounted(remote, tmp_path, options=texts) as mount:
        stuck = remote.stuck["stuck"] = trio.Event()
        subprocess.run(["mount", "-t", "fusectl", "fusectl", control], check=True)
        waiting = control / str(os.minor(os.stat(mount.path).st_dev)) / "waiting"
        try:
            with ThreadPoolExecutor(1) as pool:
                reader = pool.submit((mount.path / "stuck").read_bytes)
                until(lambda: int(waiting.read_text()) >= at_once)
                time.sleep(0.3)  # what would come all at once has come
                asked = int(waiting.read_text())
                mount.core.token.run_sync_soon(stuck.set)
                assert reader.result(20) == b"x" * size
            assert asked == at_once
        finally:
            subprocess.run(["umount", control], check=True)


def test_so_many_requests_wait_at_once(tmp_path: Path, session: str) -> None:
    remote = Slow()
    names = [f"stuck{number}" for number in range(6)]

    async def fill() -> None:
        for name in names:
            await remote.inner.put(name, Bytes(name.encode()), expect=ANYTHING, mtime_ns=None)

    trio.run(fill)
    with mounted(remote, tmp_path, options={**spoken(session), "fuse-tasks": "3"}) as mount:
        sizes = [(mount.path / name).stat().st_size for name in names]
        stuck = trio.Event()
        remote.stuck.update(dict.fromkeys(names, stuck))
        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit((mount.path / name).read_bytes) for name in names]
            until(lambda: len(remote.reading) >= 2)
            time.sleep(0.3)  # the others would have come by now
            waiting = len(set(remote.reading))
            mount.core.token.run_sync_soon(stuck.set)
            assert [len(reader.result(20)) for reader in readers] == sizes
    assert 2 <= waiting <= 3

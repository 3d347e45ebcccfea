"""Options of a mount that are about the kernel's requests. Those about files are where files are tested."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mountcore.remotes.protocol import ANYTHING

from .mounting import Mount, mounted, spoken
from .slow import Slow
from .test_waiting import Bytes


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

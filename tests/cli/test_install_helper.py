"""Links for mount(8), and unit files for systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Portside

COMMAND = Path(sys.executable).parent / "portside"


def test_links_and_units_are_made_and_taken_away(portside: Portside, tmp_path: Path) -> None:
    done = portside.run("install-helper", "--systemd", "--below", tmp_path / "root")
    assert done.returncode == 0, done.stderr
    for name in ("mount.portside", "mount.fuse.portside", "umount.fuse.portside"):
        assert os.readlink(tmp_path / "root/sbin" / name) == str(COMMAND)
    assert f"ExecStart={COMMAND} mount" in (tmp_path / "root/etc/systemd/system/portside@.service").read_text()
    assert portside.run("install-helper", "--below", tmp_path / "root").returncode == 0, "again"
    assert portside.run("install-helper", "--remove", "--below", tmp_path / "root").returncode == 0
    assert [path for path in (tmp_path / "root").rglob("*") if not path.is_dir()] == []


def test_nothing_of_others_is_touched(portside: Portside, tmp_path: Path) -> None:
    unit = tmp_path / "root/etc/systemd/system/portside@.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/mine\n")
    for more in ("--systemd", "--remove"):
        text = portside.refusal("install-helper", more, "--below", tmp_path / "root")
        assert str(unit) in text
    assert unit.read_text() == "[Service]\nExecStart=/mine\n"
    assert not (tmp_path / "root/sbin").exists(), "all or nothing"


def test_a_unit_for_oneself(portside: Portside, tmp_path: Path) -> None:
    assert portside.run("install-helper", "--user").returncode == 0
    assert "WantedBy=default.target" in (tmp_path / "config/systemd/user/portside@.service").read_text()


def test_systemd_finds_nothing_wrong_with_the_units(portside: Portside, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        assert not os.environ.get("CI"), "CI has systemd"
        pytest.skip("systemd is not installed")
    assert portside.run("install-helper", "--systemd", "--below", tmp_path / "root").returncode == 0
    assert portside.run("install-helper", "--user").returncode == 0
    (tmp_path / "me").mkdir()
    shutil.copy(tmp_path / "config/systemd/user/portside@.service", tmp_path / "me/portside@one.service")
    system = tmp_path / "root/etc/systemd/system"
    for template in system.glob("*@.service"):
        template.rename(template.with_name(template.name.replace("@.", "@one.")))
    for place, who in ((system, "--system"), (tmp_path / "me", "--user")):
        units = sorted(place.glob("*.*"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", who, *units], capture_output=True,
            text=True, check=False, env=portside.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if str(place) in line] == []

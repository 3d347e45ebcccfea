"""Imports point one way (the contracts are in pyproject.toml), and modules stay readable."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mountcore", "fuse_frontend", "ftp_frontend")


def test_import_contracts_hold() -> None:
    # a process of its own: import-linter sets up logging for the whole process
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package: str) -> None:
    modules = [path for path in (ROOT / package).rglob("*.py") if path.read_text().strip()]
    assert modules
    silent = [str(path) for path in modules if not path.read_text().lstrip().startswith('"""')]
    assert not silent

"""Imports point one way (the contracts are in pyproject.toml), and modules stay readable."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mountcore", "fuse_frontend", "ftp_frontend")


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, report.getvalue()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package: str) -> None:
    modules = [path for path in (ROOT / package).rglob("*.py") if path.read_text().strip()]
    assert modules
    silent = [str(path) for path in modules if not path.read_text().lstrip().startswith('"""')]
    assert not silent

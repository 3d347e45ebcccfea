"""The wheel: what is in it, and that it works on its own."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT

PACKAGES = ("mountcore", "fuse_frontend", "ftp_frontend")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert modules <= set(names)
    assert all(name.endswith((".py", "/py.typed")) or "/units/" in name or ".dist-info/" in name for name in names)


def test_its_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = next(name for name in archive.namelist() if name.endswith("/METADATA"))
    facts = email.message_from_bytes(archive.read(info))
    assert facts["Name"] == "portside"
    assert facts["License-Expression"] == "MIT"
    assert facts["Requires-Python"] == ">=3.11"
    needed = {
        re.split(r"[ ;<>=\[]", line)[0] for line in facts.get_all("Requires-Dist") or () if "extra ==" not in line
    }
    assert needed.isdisjoint({"pyfuse3", "pyftpdlib"}), "FTP alone installs without libfuse, and mount without FTP"
    assert {"fuse", "ftp", "all", "test"} <= set(facts.get_all("Provides-Extra") or ())
    entry = next(name for name in archive.namelist() if name.endswith("/entry_points.txt"))
    assert "portside = mountcore.cli:main" in archive.read(entry).decode()
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_it_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=False, symlinks=True)
    python = clean / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    done = subprocess.run([clean / "bin" / "portside", "--version"], capture_output=True, text=True, check=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.stdout == f"portside {version}\n"
    without = subprocess.run(
        [clean / "bin" / "portside", "mount", ":memory:", "x"], capture_output=True, text=True, check=False
    )
    assert without.returncode == 1
    assert re.fullmatch(r"portside: .* pip install 'portside\[fuse\]'\n", without.stderr), without.stderr


def test_constraints_are_bare_versions() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line), line


def test_nothing_names_an_index_or_this_machine() -> None:
    address = re.compile(r"--(extra-)?index-url|--find-links|files\.pythonhosted|pypi\.org/simple|deb\.debian\.org")
    for path in [*ROOT.glob("*.t*"), *(ROOT / "scripts").glob("*"), *(ROOT / ".ci").glob("*")]:
        if path.is_file():
            assert not address.search(path.read_text()), path

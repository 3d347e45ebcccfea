"""pyftpdlib's own functional tests, plain and TLS, against our server.

The tests come from pyftpdlib's source distribution, fetched with pip at test time (or from the folder that
PORTSIDE_PYFTPDLIB_TESTS names) and never copied into the project.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked distribution, without the library itself, and psutil, which its tests need, in ``lib``."""
    given = os.environ.get("PORTSIDE_PYFTPDLIB_TESTS")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("pyftpdlib")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wanted = f"pyftpdlib=={version('pyftpdlib')}"
    for words in (
        ["download", "--no-deps", "--no-binary", ":all:", "-d", folder, wanted],
        ["install", "--target", folder / "lib", "psutil"],
    ):
        done = subprocess.run([*pip, *map(str, words)], capture_output=True, text=True, timeout=110, check=False)
        if done.returncode:
            pytest.skip(f"not to be had without a network: {wanted}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        wanted_members = [m for m in packed.getmembers() if "/tests/" in m.name or m.name.endswith("/README.rst")]
        packed.extractall(folder, wanted_members, filter="data")
    (unpacked,) = folder.glob("pyftpdlib-*/")
    (folder / "lib").rename(unpacked / "lib")
    return unpacked


@pytest.mark.parametrize(("module", "at_least"), [("test_functional.py", 60), ("test_functional_ssl.py", 60)])
def test_pyftpdlibs_tests_pass(sources: Path, module: str, at_least: int) -> None:
    paths = [HERE, REPOSITORY, sources / "lib", sources]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", ".", "-p", "substitute", "-q",
         "--timeout", "20", "--tb=short", "-p", "no:cacheprovider", f"tests/{module}"],
        cwd=sources, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= at_least

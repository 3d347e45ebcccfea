"""The benchmark of the core goes on working: a hundredth of it, for what it prints and not for how long it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_has_a_row_for_everything_that_is_measured(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "core.py", "--scale", "0.01", "--dir", tmp_path],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.partition("  ")[0].partition(",")[0] for line in done.stdout.splitlines()]
    for what in (
        "hit read", "miss read", "write", "lookup and attributes", "listing of 1", "memory per cached node",
        "eviction of 1 MiB among 10", "memory per item in use or not uploaded",
    ):  # fmt: skip
        assert what in rows, done.stdout

"""The table of what each storage type can do, in the guide, is what remotes say of real servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import guide_capabilities


@pytest.mark.parametrize("name", guide_capabilities.ROWS)
def test_a_row_of_the_table_is_current(name: str) -> None:
    assert guide_capabilities.documented().get(name) == guide_capabilities.row(name), (
        "run: python scripts/guide_capabilities.py"
    )

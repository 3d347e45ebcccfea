"""The table of what each storage type can do, in the guide, is what remotes say of real servers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import guide_capabilities

from mountcore.remotes.registry import types


@pytest.mark.parametrize("name", guide_capabilities.ROWS)
def test_a_row_of_the_table_is_current(name: str) -> None:
    assert guide_capabilities.documented().get(name) == guide_capabilities.row(name), (
        "run: python scripts/guide_capabilities.py"
    )


def test_every_type_has_a_row_or_was_never_reached() -> None:
    """And which were not is said in the guide."""
    text = guide_capabilities.GUIDE.read_text()
    never = re.search(r"The other services were never reached:(.*?)\n\n", text, re.DOTALL)
    assert never is not None
    said = set(re.findall(r"`(\w+)`", never[1]))
    rows = {title.split("`")[1] for title in guide_capabilities.ROWS}
    assert {facts.name for facts in types().values()} | {"alias"} == rows | said
    assert not rows & said

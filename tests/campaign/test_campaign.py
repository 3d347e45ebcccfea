"""The short run of the campaign: every fault once or a few times. ``scripts/campaign --long`` does each for longer."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from .__main__ import all_scenarios, run
from .ledger import Ledger
from .table import PARTS, line

SEED = int(os.environ.get("PORTSIDE_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
SCENARIOS = all_scenarios(list(PARTS), long=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("part", "fault", "how"), SCENARIOS, ids=[f"{part}: {fault}" for part, fault, _ in SCENARIOS])
def test_nothing_is_lost(
    part: str, fault: str, how: Callable[..., None], record_property: Callable[[str, object], None]
) -> None:
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        assert not os.environ.get("CI"), "CI has /dev/fuse and root"
        pytest.skip("needs /dev/fuse and root; runs in CI")
    record_property("seed", SEED)
    row = run(part, fault, how, SEED, long=False, keep=False)
    print(f"seed {SEED}\n{line(row)}")
    assert row.good, line(row)


@pytest.mark.parametrize(
    ("found", "good"),
    [(b"old", True), (b"new!", True), (b"ne", True), (b"nxw!", False), (b"new!!", False), (None, False)],
)
def test_the_ledger_can_complain(found: bytes | None, good: bool) -> None:
    ledger = Ledger({"f": b"old"})
    ledger.begin({"f": b"new!"}, mixed=(b"", b"new!"))
    assert (ledger.complaint("f", found) is None) is good
    ledger = Ledger({"f": b"old"})
    ledger.returned({"f": b"new!"})
    assert (ledger.complaint("f", found) is None) is (found == b"new!")


def test_the_ledger_misses_what_a_rename_lost() -> None:
    ledger = Ledger({"a": b"content", "b": b"other"})
    ledger.begin({"a": None, "b": b"content"})
    assert ledger.complaints({"b": b"other"})
    ledger = Ledger({"a": b"content", "b": b"other"})
    ledger.begin({"a": None, "b": b"content"})
    assert not ledger.complaints({"b": b"content"})

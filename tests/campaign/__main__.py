"""``python -m tests.campaign``: run the campaign and print its table."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.util
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .ground import Ground
from .table import HEAD, PARTS, Row, line, total

Scenario = Callable[[Ground, Row], None]


def all_scenarios(parts: list[str], long: bool) -> list[tuple[str, str, Scenario]]:
    """(part, fault, how) of the chosen parts."""
    found: list[tuple[str, str, Scenario]] = []
    for part in parts:
        if importlib.util.find_spec(f"{__package__}.{part}") is None:
            continue
        module = importlib.import_module(f"{__package__}.{part}")
        found += [(part, fault, how) for fault, how in module.scenarios(long).items()]
    return found


def run(part: str, fault: str, how: Scenario, seed: int, long: bool, keep: bool) -> Row:
    """One row. The same seed makes the same choices (not the same timing)."""
    row = Row(part, fault)
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="portside-campaign-"))
    ground = Ground(scratch / "ground", seed, long)
    try:
        how(ground, row)
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        row.fail(f"the scenario broke: {problem!r} at {where.filename}:{where.lineno}")
        traceback.print_exc()
    finally:
        ground.end()
        row.seconds = time.monotonic() - began
        logged = ground.said()
        if "Traceback (most recent call last)" in logged:
            row.fail("a traceback in the log")
        if row.good and not keep:
            shutil.rmtree(scratch, ignore_errors=True)
        elif not row.good:
            row.notes.append(f"its files and logs are in {scratch}")
    return row


def main() -> int:
    """Exit status 1 if anything was lost, torn, hung or otherwise wrong."""
    parser = argparse.ArgumentParser(prog="scripts/campaign", description="Portside under every fault we can make.")
    parser.add_argument("--long", action="store_true", help="the long run: hours; the short one takes minutes")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; can be given several times")
    parser.add_argument("--fault", default="*", help="only faults whose names match this pattern, like '*kill*'")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="choices; printed")
    parser.add_argument("--keep", action="store_true", help="keep the files of scenarios that went well, too")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    args = parser.parse_args()
    chosen = [
        (part, fault, how)
        for part, fault, how in all_scenarios(args.part or list(PARTS), args.long)
        if fnmatch.fnmatch(fault, args.fault)
    ]
    if args.list:
        for part, fault, _ in chosen:
            print(f"{part:<12}{fault}")
        return 0
    if not chosen:
        parser.error(f"no fault is called {args.fault!r}; --list shows all")
    print(f"seed {args.seed}, {'long' if args.long else 'short'}\n{HEAD}", flush=True)
    rows = []
    for part, fault, how in chosen:
        rows.append(run(part, fault, how, args.seed, args.long, args.keep))
        print(line(rows[-1]), flush=True)
    print(total(rows))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

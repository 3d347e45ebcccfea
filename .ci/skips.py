"""Fail if the junit report of a test run has a test that was skipped for want of something CI must have."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET

MISSING = re.compile(
    r"/dev/fuse|fusermount|needs? root|only root|not installed|not found|no such (server|command)", re.IGNORECASE
)


def main(report: str) -> int:
    """Print every such test; the exit code says whether there was one."""
    try:
        cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - as above
    except (OSError, ET.ParseError) as problem:
        print(f"no test report: {problem}", file=sys.stderr)
        return 1
    count = 0
    for case in cases:
        for skipped in case.iter("skipped"):
            reason = skipped.get("message", "")
            if MISSING.search(reason):
                count += 1
                print(f"skipped in CI: {case.get('classname')}::{case.get('name')}: {reason}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

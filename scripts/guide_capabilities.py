"""Rewrite the table of what each storage type can do in docs/GUIDE.md, from what remotes say of real servers.

Run it after changing what a remote can do: python scripts/guide_capabilities.py. It starts the servers of the tests.
A test checks row by row that the table is current.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mountcore.errors import ReadOnly, StorageError, Unsupported  # noqa: E402
from mountcore.remotes.protocol import ANYTHING, Capabilities, Entry, Remote, RenameScope  # noqa: E402
from tests.servers.places import PLACES, READ_ONLY, Kind  # noqa: E402

GUIDE = ROOT / "docs" / "GUIDE.md"
HEAD = (
    "| storage | rename | replaces in one step | times | links | modes | hashes | copies | free space | empty folders "
    "| names |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


ROWS: dict[str, Kind] = {kind.title: kind for kind in (PLACES | READ_ONLY).values()}
PROBES = {"UTF-8 only": "caf\udce9", "no line breaks": "a\nb", "not every character": " a;b?c:d\\e\x01 "}
"""Names by what is said of a storage that does not keep them."""


async def _keeps(remote: Remote, name: str) -> bool:
    """Whether a file of that name is stored and found again."""
    try:
        remote.check_name(name)
        await remote.put(name, _Nothing(), expect=ANYTHING, mtime_ns=None)
        async with aclosing(cast(AsyncGenerator[Entry, None], remote.list(""))) as listing:
            found = name in [entry.name async for entry in listing]
        await remote.remove(name)
    except StorageError:
        return False
    return found


class _Nothing:
    size = 0

    def pread(self, length: int, offset: int) -> bytes:
        return b""


async def _keeps_case(remote: Remote) -> bool:
    for name in ("case", "CASE"):
        await remote.put(name, _Nothing(), expect=ANYTHING, mtime_ns=None)
    async with aclosing(cast(AsyncGenerator[Entry, None], remote.list(""))) as listing:
        found = {entry.name async for entry in listing}
    for name in found & {"case", "CASE"}:
        await remote.remove(name)
    return {"case", "CASE"} <= found


async def _keeps_tag(remote: Remote) -> bool:
    """Whether what is renamed is known by the same etag, where etags tell versions apart."""
    if not remote.caps.tags or remote.caps.rename is RenameScope.NONE:
        return True
    await remote.put("g", _Nothing(), expect=ANYTHING, mtime_ns=None)
    before = await remote.stat("g")
    await remote.rename("g", "h")
    after = await remote.stat("h")
    await remote.remove("h")
    return before.tag == after.tag


async def _times(remote: Remote) -> str:
    """To what times are kept, and since when they can be."""
    step = {1: "ns", 100: "100 ns", 1_000_000: "ms"}
    stored = await remote.put("f", _Nothing(), expect=ANYTHING, mtime_ns=10**18)
    try:
        changed = await remote.set_mtime("f", 2 * 10**18)
    except Unsupported:
        return "with the upload" if stored.mtime_ns == 10**18 else ""
    finally:
        await remote.remove("f")
    return step.get(remote.caps.mtime_resolution_ns, "s") if changed.mtime_ns == 2 * 10**18 else ""


async def _known(remote: Remote) -> tuple[Capabilities, str, str, bool]:
    """What a remote says of itself once it has met its storage; what is said of times, names and renaming there."""
    await remote.stat("")
    try:
        times = await _times(remote)
    except ReadOnly:
        return remote.caps, "", "", True
    lost = [what for what, name in PROBES.items() if not await _keeps(remote, name)]
    if not await _keeps_case(remote):
        lost.append("case is ignored")
    keeps_tag = await _keeps_tag(remote)
    found = remote.caps
    await remote.aclose()
    return found, times, ", ".join(lost) or "any", keeps_tag


def row(name: str) -> str:
    """One row, found out now."""
    with ROWS[name].start() as opens:
        caps, times, names, keeps_tag = trio.run(_known, opens(""))
    links = [word for word, has in (("symbolic", caps.symlinks), ("hard", caps.hard_links)) if has]
    cells = [
        {RenameScope.NONE: "", RenameScope.FILE: "files", RenameScope.TREE: "trees"}[caps.rename]
        + ("" if keeps_tag else ", as new versions"),
        "yes" if caps.atomic_put else "", times, ", ".join(links),
        "yes" if caps.modes else "", ", ".join(sorted(caps.hashes)), "yes" if caps.copy else "",
        "yes" if caps.usage else "", "yes" if caps.real_directories and names else "", names,
    ]  # fmt: skip
    return "| " + " | ".join([name, *cells]) + " |"


def documented() -> dict[str, str]:
    """The rows of the guide by their first cell."""
    block = re.search(r"<!-- capabilities -->\n(.*?)\n<!-- end -->", GUIDE.read_text(), re.DOTALL)
    if block is None:
        raise SystemExit(f"{GUIDE} has no block '<!-- capabilities --> … <!-- end -->'")
    lines = block[1].splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in lines}


def documented_cells() -> dict[str, dict[str, str]]:
    """The same taken apart, by the heads of the columns."""
    heads = [cell.strip() for cell in HEAD.splitlines()[0].split("|")[2:-1]]
    found = {}
    for title, line in documented().items():
        found[title] = dict(zip(heads, [cell.strip() for cell in line.split("|")[2:-1]], strict=True))
    return found


if __name__ == "__main__":
    table = "\n".join([HEAD, *(row(name) for name in ROWS)])
    text = GUIDE.read_text()
    GUIDE.write_text(
        re.sub(r"(<!-- capabilities -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table + m[2], text, flags=re.DOTALL)
    )

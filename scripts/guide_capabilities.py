"""Rewrite the table of what each storage type can do in docs/GUIDE.md, from what remotes say of real servers.

Run it after changing what a remote can do: python scripts/guide_capabilities.py. It starts the servers of the tests.
A test checks row by row that the table is current.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mountcore.errors import StorageError  # noqa: E402
from mountcore.remotes.protocol import ANYTHING, Capabilities, Remote, RenameScope  # noqa: E402
from mountcore.remotes.registry import open_remote  # noqa: E402
from tests.servers import DAV_SERVERS, INDEX_SERVERS, SERVERS, SSH_SERVERS, samba  # noqa: E402

GUIDE = ROOT / "docs" / "GUIDE.md"
HEAD = (
    "| storage | rename | replaces in one step | times | links | modes | hashes | copies | free space |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


Opens = Callable[[], AbstractContextManager[Remote]]


@contextmanager
def _folder() -> Iterator[Remote]:
    with tempfile.TemporaryDirectory() as folder:
        yield open_remote("local", {}, folder)


@contextmanager
def _memory() -> Iterator[Remote]:
    yield open_remote("memory", {}, "")


def _served(kind: str, start: Callable[[], AbstractContextManager[object]]) -> Opens:
    @contextmanager
    def opened() -> Iterator[Remote]:
        with start() as server:
            yield open_remote(kind, server.options, getattr(server, "prefix", ""))  # type: ignore[attr-defined]

    return opened


#: how each row is found out, by its words in the table
ROWS: dict[str, Opens] = {
    "`local`": _folder,
    "`memory`": _memory,
    "`ftp` (proftpd)": _served("ftp", SERVERS["proftpd"]),
    "`sftp` (OpenSSH)": _served("sftp", SSH_SERVERS["sshd"]),
    "`sftp` (proftpd)": _served("sftp", SSH_SERVERS["proftpd-sftp"]),
    "`smb` (Samba)": _served("smb", samba),
    "`webdav` (rclone's server)": _served("webdav", DAV_SERVERS["rclone-webdav"]),
    "`webdav` (Apache)": _served("webdav", DAV_SERVERS["apache"]),
    "`http` (nginx)": _served("http", INDEX_SERVERS["nginx"]),
}


class _Nothing:
    size = 0

    def pread(self, length: int, offset: int) -> bytes:
        return b""


async def _known(remote: Remote) -> Capabilities:
    """What a remote says of itself once it has met its storage."""
    await remote.stat("")
    try:
        await remote.put("f", _Nothing(), expect=ANYTHING, mtime_ns=10**18)
        await remote.remove("f")
    except StorageError:
        pass  # only read from
    found = remote.caps
    await remote.aclose()
    return found


def row(name: str) -> str:
    """One row, found out now."""
    with ROWS[name]() as remote:
        caps = trio.run(_known, remote)
    step = {1: "ns", 100: "100 ns", 1_000_000: "ms", 1_000_000_000: "s"}.get(caps.mtime_resolution_ns, "s")
    links = [word for word, has in (("symbolic", caps.symlinks), ("hard", caps.hard_links)) if has]
    cells = [
        {RenameScope.NONE: "", RenameScope.FILE: "files", RenameScope.TREE: "trees"}[caps.rename],
        "yes" if caps.atomic_put else "", step if caps.set_mtime else "", ", ".join(links),
        "yes" if caps.modes else "", ", ".join(sorted(caps.hashes)), "yes" if caps.copy else "",
        "yes" if caps.usage else "",
    ]  # fmt: skip
    return "| " + " | ".join([name, *cells]) + " |"


def documented() -> dict[str, str]:
    """The rows of the guide by their first cell."""
    block = re.search(r"<!-- capabilities -->\n(.*?)\n<!-- end -->", GUIDE.read_text(), re.DOTALL)
    if block is None:
        raise SystemExit(f"{GUIDE} has no block '<!-- capabilities --> … <!-- end -->'")
    lines = block[1].splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in lines}


if __name__ == "__main__":
    table = "\n".join([HEAD, *(row(name) for name in ROWS)])
    text = GUIDE.read_text()
    GUIDE.write_text(
        re.sub(r"(<!-- capabilities -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table + m[2], text, flags=re.DOTALL)
    )

"""A directory of 100,000 entries: listed whole, in bounded memory, while other sessions go on."""

from __future__ import annotations

import ftplib
import tracemalloc
from collections.abc import AsyncGenerator, Iterator

import pytest

from mountcore.remotes.around import Around
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Entry, Kind

from .conftest import eventually
from .serving import Served, serving

ENTRIES = 100_000


class Crowded(Around):
    """A storage whose directory ``many`` has 100,000 files."""

    def __init__(self) -> None:
        super().__init__(Memory(""))

    @property
    def identity(self) -> str:
        return "crowded-" + self.inner.identity

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        async for entry in self.inner.list(directory):
            yield entry
        if directory == "many":
            for number in range(ENTRIES):
                name = f"entry{number:06d}"
                yield Entry(name, Kind.FILE, size=number, mtime_ns=10**18)


@pytest.fixture(scope="module")
def crowded() -> Iterator[Served]:
    remote = Crowded()
    with serving(lambda: remote) as served:
        served.run(remote.inner.mkdir, "many")
        with served.connect() as ftp:
            ftp.cwd("many")
            ftp.retrlines("LIST", lambda line: None)  # from here on it is in the directory cache
            ftp.retrlines("NLST", lambda line: None)
        yield served


@pytest.mark.parametrize("command", ["LIST", "MLSD"])
def test_every_entry_is_sent_and_little_is_kept(crowded: Served, command: str) -> None:
    with crowded.connect() as ftp:
        ftp.cwd("many")
        ftp.voidcmd("TYPE A")
        tracemalloc.start()
        try:
            seen, last = 0, ""
            with ftp.transfercmd(command) as data, data.makefile("r", encoding="utf-8", newline="\r\n") as lines:
                for line in lines:
                    name = line.rstrip("\r\n").rsplit(" ", 1)[-1]
                    assert name > last, "sorted, and none twice"
                    seen, last = seen + 1, name
            ftp.voidresp()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert seen == ENTRIES
        # names and nodes are the directory cache's; the transfer keeps a reference to each and a piece of the text
        assert peak < 32 << 20, f"{peak >> 20} MiB"


def test_a_client_that_does_not_read_takes_no_memory_either(crowded: Served) -> None:
    tracemalloc.start()
    stuck: list[tuple[ftplib.FTP, object]] = []
    try:
        for _ in range(3):
            ftp = crowded.connect()
            ftp.cwd("many")
            stuck.append((ftp, ftp.transfercmd("MLSD")))
        for ftp, _ in stuck:
            eventually(lambda ftp=ftp: "Total bytes sent: 0" not in ftp.sendcmd("STAT"))  # type: ignore[misc]
        with crowded.connect() as other:
            assert other.pwd() == "/"
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        for ftp, data in stuck:
            ftp.close()
            data.close()  # type: ignore[attr-defined]
    assert held < 3 * (16 << 20), f"{held >> 20} MiB for three"

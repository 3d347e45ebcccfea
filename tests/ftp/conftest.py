"""What the FTP tests share."""

from __future__ import annotations

import ftplib
import io
import logging
import time
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from mountcore.remotes.memory import Memory

from .serving import Served, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """A server of a storage in memory, for tests that use names of their own."""
    with serving(lambda: Memory("")) as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[ftplib.FTP]:
    """A session in a directory of its own, in TYPE I."""
    with server.connect() as ftp:
        directory = f"/test-{time.monotonic_ns()}"
        ftp.mkd(directory)
        ftp.cwd(directory)
        ftp.voidcmd("TYPE I")
        yield ftp


PHASES: tuple[Literal["setup", "call"], ...] = ("setup", "call")


@pytest.fixture(autouse=True)
def no_faults(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test passes while the server logs a fault of its own."""
    yield
    for phase in PHASES:
        faults = [r for r in caplog.get_records(phase) if r.levelno >= logging.ERROR]
        assert not faults, faults[0].getMessage()


def store(ftp: ftplib.FTP, name: str, data: bytes, command: str = "STOR", rest: int | None = None) -> str:
    """Upload; answers the reply."""
    return ftp.storbinary(f"{command} {name}", io.BytesIO(data), rest=rest)


def fetch(ftp: ftplib.FTP, name: str, rest: int | None = None) -> bytes:
    """Download."""
    pieces: list[bytes] = []
    ftp.retrbinary(f"RETR {name}", pieces.append, rest=rest)
    return b"".join(pieces)


def eventually(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Wait until the condition holds; fail when it does not come to."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)

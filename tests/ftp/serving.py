"""Our FTP server in a background thread with a trio loop of its own, for tests that are FTP clients.

>>> with serving(open_remote("memory", {}, ""), {"vfs-write-back": "0"}) as server:
...     client = server.connect()
"""

from __future__ import annotations

import contextlib
import ftplib
import queue
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import trio

from ftp_frontend.command import OPTIONS, serve_ftp
from mountcore.options import parse_values, vfs_settings
from mountcore.remotes.protocol import Remote
from mountcore.service import Core, open_core
from mountcore.vfs import Vfs

T = TypeVar("T")
USER = "harbour"
PASSWORD = "p a:ss/wörd@%"


@dataclass(frozen=True)
class Served:
    """A running server. Iterates as ``(host, port, user, password)``."""

    host: str
    port: int
    user: str
    password: str
    vfs: Vfs | None
    core: Core
    addresses: list[tuple[str, int]]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.host, self.port, self.user, self.password))

    def run(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a core operation on the server's trio thread."""
        return trio.from_thread.run(operation, *args, trio_token=self.core.token)

    def connect(self, *, encoding: str = "utf-8", timeout: float = 20.0) -> ftplib.FTP:
        """A client that has logged in."""
        client = ftplib.FTP(encoding=encoding, timeout=timeout)
        client.connect(self.host, self.port)
        client.login(self.user, self.password)
        return client

    @property
    def url(self) -> str:
        """For curl and lftp, with the password in it."""
        return f"ftp://{self.user}:{quote(self.password, safe='')}@{self.host}:{self.port}/"


@contextlib.contextmanager
def serving(
    remote: Remote | Callable[[], Remote] | None,
    vfs_texts: Mapping[str, str] | None = None,
    ftp_texts: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Serve a remote (or a function that opens it, or None for ``auth-proxy``) with these options, as texts."""
    options = {
        "addr": "127.0.0.1:0", "passive-port": "any", "user": USER, "pass": PASSWORD, "login-delay": "0s",
        **(ftp_texts or {}),
    }  # fmt: skip
    if remote is None:
        options = {k: v for k, v in options.items() if k not in ("user", "pass")}
    ready: queue.SimpleQueue[Served | BaseException] = queue.SimpleQueue()
    scope = trio.CancelScope()

    async def main(cache: str) -> None:
        settings = vfs_settings({"cache-dir": cache, **(vfs_texts or {})})
        async with open_core() as core:
            vfs = None
            if remote is not None:
                vfs = await core.attach(remote() if callable(remote) else remote, settings)
            values = parse_values(OPTIONS, options)
            with scope:
                async with trio.open_nursery() as nursery:
                    provider: Any = vfs if vfs is not None else {"cache-dir": cache, **(vfs_texts or {})}
                    addresses = await nursery.start(serve_ftp, core, provider, values)
                    host, port = addresses[0]
                    ready.put(Served(host, port, options.get("user", USER), options.get("pass", PASSWORD), vfs, core,
                                     addresses))  # fmt: skip

    def body(cache: str) -> None:
        try:
            trio.run(main, cache)
        except BaseException as problem:
            ready.put(problem)

    with tempfile.TemporaryDirectory(prefix="portside-") as cache:
        Path(cache).chmod(0o700)
        thread = threading.Thread(target=body, args=(cache,), name="trio", daemon=True)
        thread.start()
        served = ready.get()
        if isinstance(served, BaseException):
            thread.join()
            while isinstance(served, BaseExceptionGroup) and len(served.exceptions) == 1:
                served = served.exceptions[0]
            raise served
        try:
            yield served
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                served.core.token.run_sync_soon(scope.cancel)
            thread.join(40)
            assert not thread.is_alive(), "the server did not stop"
            with contextlib.suppress(queue.Empty):
                problem = ready.get_nowait()
                assert isinstance(problem, BaseException)
                raise problem

"""The links to one server: as few as serve, dialled when all are busy, dropped when idle. On the asyncio loop.

Requests of many calls share a link, but a server works through the requests of one link in order: a slow one (an
fsync) holds up what came after it. So a call gets an idle link if there is one; while all are busy one more is
dialled in the background, and the least busy one serves meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import final

import asyncssh

from ...errors import Denied, StorageError, Unreachable, Unsupported
from . import shell
from .dial import Dialer, login_error
from .link import Link
from .options import SftpOptions

CHECK_AFTER = 15.0
"""A link that has heard nothing for this many seconds is asked for a sign of life before a call relies on it."""
CHECK_WITHIN = 5.0
FULL_FOR = 60.0
"""Seconds without another try after the server refused one connection more."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server can do, found out on the first connection."""

    replaces: bool = False
    hard_links: bool = False
    usage: bool = False
    copies: bool = False
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Algorithm and command."""


@final
class Pool:
    """Links to one server."""

    def __init__(self, options: SftpOptions, dialer: Dialer) -> None:
        self.facts: Facts | None = None
        self._options = options
        self._dialer = dialer
        self._links: list[Link] = []
        self._dialling: asyncio.Task[Link] | None = None
        self._full_until = 0.0

    @asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        """A link to send requests on."""
        link = await self._pick()
        link.load += 1
        try:
            yield link
        finally:
            link.load -= 1
            link.used_at = asyncio.get_running_loop().time()
            if self._options.idle_timeout:
                asyncio.get_running_loop().call_later(self._options.idle_timeout + 0.1, self._drop_idle)

    def close(self) -> None:
        """Close all links; what waits on them fails."""
        if self._dialling is not None:
            self._dialling.cancel()
        for link in self._links:
            link.abort()
        self._links.clear()

    async def _pick(self) -> Link:
        while True:
            self._links = [link for link in self._links if link.usable]
            now = asyncio.get_running_loop().time()
            if not self._links:
                return await self._first()
            best = min(self._links, key=lambda link: link.load)
            if best.load:
                if len(self._links) < self._options.connections and now >= self._full_until:
                    self._dial()
                return best
            if now - best.heard_at < CHECK_AFTER or await self._alive(best):
                return best

    async def _alive(self, link: Link) -> bool:
        link.load += 1
        try:
            await link.ask("", link.sftp.realpath(b"."), CHECK_WITHIN)
        except StorageError:
            link.abort()
            return False
        finally:
            link.load -= 1
        return True

    async def _first(self) -> Link:
        """The link that is being dialled; all who wait share one login and its failure."""
        dialling = self._dial()
        try:
            return await asyncio.shield(dialling)
        except StorageError as problem:
            raise type(problem)("", problem.said) from problem

    def _dial(self) -> asyncio.Task[Link]:
        if self._dialling is None:
            self._dialling = asyncio.ensure_future(self._connect())
            self._dialling.add_done_callback(self._dialled)
        return self._dialling

    def _dialled(self, task: asyncio.Task[Link]) -> None:
        self._dialling = None
        if not task.cancelled() and task.exception() is not None and self._links:
            self._full_until = asyncio.get_running_loop().time() + FULL_FOR

    async def _connect(self) -> Link:
        link: Link | None = None

        def lost() -> None:
            if link is not None:
                link.lose()

        connection = await self._dialer.connect(lost)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                sftp = await self._session(connection)
                link = Link(connection, sftp, self._options)
                if self.facts is None:
                    self.facts = await self._learn(link)
        except TimeoutError as problem:
            connection.abort()
            raise login_error(problem, self._options) from None
        except BaseException:
            connection.abort()
            raise
        self._links.append(link)
        return link

    async def _session(self, connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
        environment = dict(self._options.environment)
        try:
            return await connection.start_sftp_client(env=environment, path_encoding=None)
        except asyncssh.ChannelOpenError as problem:
            raise Unsupported("", f"{self._options.address} offers no SFTP: {problem.reason}") from None
        except asyncssh.SFTPError as problem:
            # also what a login shell that prints something looks like: its words are read as a message
            raise Unsupported("", f"{self._options.address} does not answer with SFTP: {problem.reason}") from None
        except (asyncssh.Error, OSError, asyncio.IncompleteReadError) as problem:
            raise Unreachable("", f"{self._options.address}: {problem}") from None

    async def _learn(self, link: Link) -> Facts:
        """Which extensions there are, asked for with names that do not exist; and whether there is a shell."""
        home_wire = await link.ask("", link.sftp.realpath(b"."))
        home = bytes(home_wire).decode("utf-8", "surrogateescape")
        nothing, nowhere = b".portside-no-such-file", b".portside-no-such-directory/x"
        replaces, hard_links, usage, hashes = await asyncio.gather(
            _knows(link, link.sftp.posix_rename(nothing, nowhere)),
            _knows(link, link.sftp.link(nothing, nowhere)),
            _knows(link, link.sftp.statvfs(b".")),
            shell.commands(link.connection, self._options, home),
        )
        return Facts(replaces, hard_links, usage, link.sftp.supports_remote_copy, hashes)

    def _drop_idle(self) -> None:
        limit = self._options.idle_timeout or 0.0
        now = asyncio.get_running_loop().time()
        for link in list(self._links):
            if not link.load and now - link.used_at >= limit:
                link.abort()
                self._links.remove(link)


async def _knows(link: Link, request: object) -> bool:
    """Whether the server knows a request: any answer but "unsupported" says so."""
    try:
        await link.ask("", request)  # type: ignore[arg-type]
    except Unsupported:
        return False
    except (Unreachable, Denied):
        return link.usable
    except StorageError:
        return link.usable
    return True

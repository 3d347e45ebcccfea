"""A call's way to the server: a session on a borrowed connection, and what has to be done before and after it.

Before: changes that were not heard of, if they concern the call's paths, are settled. After: what failed uploads left
is deleted. What the server refuses leaves as one of our errors, with the call's path.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import final

import trio

from ...errors import StorageError
from .connection import Connection
from .deeds import UPLOAD, Diary
from .leftovers import Leftovers
from .pool import Pool
from .replies import ReplyError, error_for
from .session import Session
from .settling import settle, take_over


@final
class Contacts:
    """Makes the contacts of one remote, whose paths begin at ``root``."""

    def __init__(self, root: str, pool: Pool, diary: Diary, leftovers: Leftovers) -> None:
        self.pool = pool
        self.leftovers = leftovers
        self._root = root
        self._diary = diary
        self._settling = trio.Lock()
        self._begun = False

    def to(self, path: str, *more: str, stream: bool = False) -> Contact:
        """For a call about these paths; see `Pool.borrow` for ``stream``."""
        return Contact(self, (path, *more), stream)

    async def session(self, connection: Connection, paths: tuple[str, ...]) -> Session:
        """A session about these paths, when nothing that is known of may still happen to them."""
        if not self._begun:
            self._begun = True
            take_over(self._diary, self.leftovers)
        if self._diary.unheard:
            async with self._settling:
                for deed in [*self._diary.unheard]:
                    if deed.kind == UPLOAD or any(deed.concerns(path) for path in paths):
                        await settle(Session(connection, self._root), deed, self._diary, self.leftovers)
        return Session(connection, self._root)


@final
class Contact:
    """``async with`` gives the session. Two steps and no generator: trio keeps a record of each of those."""

    __slots__ = ("_contacts", "_loan", "_paths", "_session", "_stream")

    def __init__(self, contacts: Contacts, paths: tuple[str, ...], stream: bool) -> None:
        self._contacts = contacts
        self._paths = paths
        self._stream = stream

    async def __aenter__(self) -> Session:
        contacts = self._contacts
        try:
            self._loan = await contacts.pool.borrow(stream=self._stream)
            try:
                self._session = await contacts.session(self._loan.connection, self._paths)
            except BaseException:
                contacts.pool.give_back(self._loan)
                raise
        except (ReplyError, StorageError) as problem:
            self._raise_ours(problem)
            raise
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        contacts = self._contacts
        try:
            if problem is None and contacts.leftovers.untidy and self._session.connection.settled:
                with suppress(StorageError):  # what was asked for has been done
                    await contacts.leftovers.tidy(self._session)
        finally:
            contacts.pool.give_back(self._loan)
        self._raise_ours(problem)

    def _raise_ours(self, problem: BaseException | None) -> None:
        path = self._paths[0]
        if isinstance(problem, ReplyError):
            raise error_for(problem.reply, path) from None
        if isinstance(problem, StorageError) and path and not problem.path:
            raise type(problem)(path, problem.said) from problem

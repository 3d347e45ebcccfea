"""A storage in memory whose uploads fail, as long as the test says."""

from __future__ import annotations

from mountcore.errors import Denied
from mountcore.remotes.around import Around
from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import Entry, Expect, Source


class Failing(Around):
    """`put` raises Denied while there is a problem; everything else is Memory's."""

    def __init__(self) -> None:
        super().__init__(Memory())
        self.problem: OSError | None = None

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        if self.problem is not None:
            raise Denied(path, str(self.problem))
        return await super().put(path, source, expect=expect, mtime_ns=mtime_ns)

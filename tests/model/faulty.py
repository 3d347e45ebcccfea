"""A real remote whose answers can be made to go wrong: the storage of bad days. All state on the trio thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from mountcore.errors import StorageError
from mountcore.remotes.around import Around
from mountcore.remotes.protocol import Capabilities, Changes, Entry, Expect, Remote, Source, Span, Usage, Version


@dataclass
class Gate:
    """Holds an operation up: ``entered`` once it is there, goes on when ``release`` is called."""

    entered: trio.Event = field(default_factory=trio.Event)
    opened: trio.Event = field(default_factory=trio.Event)

    def release(self) -> None:
        """Let the operation go on."""
        self.opened.set()


@dataclass
class Rule:
    """What happens to the next ``times`` operations of a kind."""

    operation: str
    path: str | None = None
    times: float = 1
    before: StorageError | None = None
    """Fails without having done anything."""
    after: StorageError | None = None
    """Takes effect, and then the answer is lost."""
    gate: Gate | None = None
    gate_after: Gate | None = None
    extra: bytes = b""
    """Comes after the end of what was asked for, in the same piece."""
    whole: bool = False
    """A body is the whole file, whatever range was asked for."""
    cut: int | None = None
    """A body ends after this many bytes."""
    dies: int | None = None
    """A body breaks with ``before`` after this many bytes, an upload after the source gave this many."""
    delay: float = 0.0
    """Seconds before it begins, and before each piece of a body."""
    meanwhile: Callable[[], object] | None = None
    """What happens elsewhere while it is under way: after it has taken effect, and before the answer."""
    flip: int | None = None
    """An upload arrives with the byte at this offset changed."""
    entry: Callable[[Entry], Entry] | None = None
    """Changes what is answered."""


class Faulty(Around):
    """A remote around a remote."""

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self.rules: list[Rule] = []
        self.log: list[tuple[str, str, Span | None]] = []
        """Every operation that was asked for."""
        self.fetched = 0
        """Bytes handed out by `read`."""
        self.down: StorageError | None = None
        """While set, nothing can be reached."""
        self.caps_changes: dict[str, object] = {}

    # setting up

    def rule(self, operation: str, path: str | None = None, **how: object) -> Rule:
        """Make the next operation (or ``times`` of them) go wrong."""
        made = Rule(operation, path, **how)  # type: ignore[arg-type]
        self.rules.append(made)
        return made

    def gate(self, operation: str, path: str | None = None, *, after: bool = False) -> Gate:
        """Hold the next such operation up, before or after it has taken effect."""
        gate = Gate()
        self.rule(operation, path, **({"gate_after": gate} if after else {"gate": gate}))
        return gate

    def asked(self, operation: str, path: str | None = None) -> int:
        """How often an operation was asked for."""
        return sum(1 for name, at, _ in self.log if name == operation and path in (None, at))

    def _take(self, operation: str, path: str) -> Rule:
        if self.down is not None:
            return Rule(operation, before=type(self.down)(path, "down"))
        for rule in self.rules:
            if rule.operation == operation and rule.path in (None, path):
                rule.times -= 1
                if rule.times <= 0:
                    self.rules.remove(rule)
                return rule
        return Rule(operation)

    @asynccontextmanager
    async def _call(self, operation: str, path: str, span: Span | None = None) -> AsyncIterator[Rule]:
        self.log.append((operation, path, span))
        rule = self._take(operation, path)
        if rule.gate is not None:
            rule.gate.entered.set()
            await rule.gate.opened.wait()
        if rule.delay:
            await trio.sleep(rule.delay)
        if rule.before is not None and rule.dies is None:
            raise rule.before
        yield rule
        if rule.meanwhile is not None:
            rule.meanwhile()
        if rule.gate_after is not None:
            rule.gate_after.entered.set()
            await rule.gate_after.opened.wait()
        if rule.after is not None:
            raise rule.after

    # the port

    @property
    def caps(self) -> Capabilities:
        return replace(self.inner.caps, **self.caps_changes)  # type: ignore[arg-type]

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        async with self._call("list", directory) as rule, aclosing(self.inner.list(directory)) as listing:  # type: ignore[type-var]
            entries = [entry async for entry in listing]
        for number, entry in enumerate(entries):
            if rule.dies is not None and rule.before is not None and number >= rule.dies:
                raise rule.before
            yield rule.entry(entry) if rule.entry else entry

    async def stat(self, path: str) -> Entry:
        async with self._call("stat", path) as rule:
            found = await self.inner.stat(path)
        return rule.entry(found) if rule.entry else found

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._call("read", path, span) as rule:
            asked = Span(0, 1 << 62) if rule.whole else span
            async with self.inner.read(path, asked, version) as body:
                yield self._body(body, rule, span)

    async def _body(self, body: AsyncIterator[bytes], rule: Rule, span: Span) -> AsyncIterator[bytes]:
        done = 0
        async for piece in body:
            if rule.delay:
                await trio.sleep(rule.delay)
            if done + len(piece) >= span.length:
                piece += rule.extra
            for bound in (rule.cut, rule.dies):
                if bound is not None:
                    piece = piece[: max(0, bound - done)]
            done += len(piece)
            self.fetched += len(piece)
            if piece:
                yield piece
            if rule.cut is not None and done >= rule.cut:
                return
            if rule.dies is not None and done >= rule.dies:
                assert rule.before is not None
                raise rule.before

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        async with self._call("put", path) as rule:
            if rule.dies is not None and rule.before is not None:
                source = _Dying(source, rule.dies, rule.before)
            if rule.flip is not None:
                source = _Flipped(source, rule.flip)
            stored = await self.inner.put(path, source, expect=expect, mtime_ns=mtime_ns)
        return rule.entry(stored) if rule.entry else stored

    async def remove(self, path: str) -> None:
        async with self._call("remove", path):
            await self.inner.remove(path)

    async def mkdir(self, path: str) -> None:
        async with self._call("mkdir", path):
            await self.inner.mkdir(path)

    async def rmdir(self, path: str) -> None:
        async with self._call("rmdir", path):
            await self.inner.rmdir(path)

    async def rename(self, source: str, target: str) -> None:
        async with self._call("rename", source):
            await self.inner.rename(source, target)

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        async with self._call("set_mtime", path):
            return await self.inner.set_mtime(path, mtime_ns)

    async def hash(self, path: str, algorithm: str) -> str:
        async with self._call("hash", path):
            return await self.inner.hash(path, algorithm)

    async def changes(self, cursor: str | None) -> Changes:
        async with self._call("changes", ""):
            return await self.inner.changes(cursor)

    async def usage(self) -> Usage:
        async with self._call("usage", ""):
            return await self.inner.usage()

    async def aclose(self) -> None:
        """The inner remote is the test's own, and outlives cores."""


class _Dying:
    """A source on a connection that breaks when so many bytes have gone over it."""

    def __init__(self, source: Source, dies: int, problem: StorageError) -> None:
        self._source = source
        self._dies = dies
        self._problem = problem

    @property
    def size(self) -> int:
        return self._source.size

    def pread(self, length: int, offset: int) -> bytes:
        if offset + length > self._dies:
            raise self._problem
        return self._source.pread(length, offset)


class _Flipped:
    """A source of which one byte is changed on the way."""

    def __init__(self, source: Source, at: int) -> None:
        self._source = source
        self._at = at

    @property
    def size(self) -> int:
        return self._source.size

    def pread(self, length: int, offset: int) -> bytes:
        data = bytearray(self._source.pread(length, offset))
        if offset <= self._at < offset + len(data):
            data[self._at - offset] ^= 1
        return bytes(data)

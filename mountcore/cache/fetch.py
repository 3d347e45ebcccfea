"""Fetching: brings bytes from the remote into the gaps of an item. Used by handles and by write-back.

A *stream* is one reader of the remote that moves forward through a file. A request for missing bytes joins
the stream that is about to reach them, or starts one. The first ranged request of a stream is
``chunk_size``; at each exact end it doubles up to ``chunk_limit``; a jump starts a new stream, and so starts
small again. How far a stream runs ahead of its reader starts at nothing and doubles with every request that
continues where the last ended, up to ``buffer_size + read_ahead``: a reader that jumps about fetches little
more than it asks for, a sequential one soon has a full window.

A stream that is far enough ahead stops reading the connection, waits for its reader, and ends after
``handle_caching`` seconds. Streams are bounded per file and per remote; over the bound, a waiting one makes room.

Concurrency: trio thread only. Bytes enter an item without a checkpoint between the test of its gaps and the
write, and only while the item still belongs to the version that the stream reads.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import final

import trio

from ..accounting import Counters, Download
from ..errors import Corrupt, NoSpace, NotFound, Stale, StorageError, TimedOut
from ..remotes.protocol import Remote, Span, Version, for_a_file
from ..settings import ReadSettings
from ..splicing import Piece
from .item import Item
from .store import Store

log = logging.getLogger(__name__)

FIRST_WINDOW = 1 << 20
ALIGN = 128 << 10
"""What is asked for is rounded up to this, so that small reads side by side are one request."""
TRIES = 3
"""Times in a row that a stream may fail without a byte arriving in between."""


@final
class _Stream:
    """One forward reader of one file."""

    def __init__(self, item: Item, start: int, bound: int | None) -> None:
        self.item = item
        self.bound = bound
        """Where it ends in any case; None: with the file."""
        self.version: Version | None = item.row.base
        self.path = item.path
        self.start = start
        self.began = trio.current_time()
        self.fetched = 0
        self.asked = start
        """Up to where somebody wants it."""
        self.position = start
        self.target = start
        """Read up to here, then wait."""
        self.window = 0
        self.must = False
        """Fetch even beyond the cache's bound."""
        self.alive = True
        self.waiting = False
        self.error: StorageError | None = None
        self.scope = trio.CancelScope()
        self.wanted = trio.Event()
        self.arrived = trio.Event()

    def want(self, stop: int, limit: int) -> None:
        """Somebody needs the bytes up to ``stop``."""
        self.asked = max(self.asked, min(limit, stop))
        target = min(limit, -(-stop // ALIGN) * ALIGN + self.window)
        if target > self.target:
            self.target = target
            self.wanted.set()

    def wake(self) -> None:
        """Tell those who wait that something arrived, or ended."""
        self.arrived.set()
        self.arrived = trio.Event()


@final
class Fetcher:
    """All streams of one remote."""

    def __init__(
        self,
        remote: Remote,
        store: Store,
        settings: ReadSettings,
        counters: Counters,
        nursery: trio.Nursery,
        on_stale: Callable[[Item], Awaitable[bool]],
        make_room: Callable[[int], bool],
        rescue: Callable[[], int],
    ) -> None:
        self._remote = remote
        self._store = store
        self._settings = settings
        self._counters = counters
        self._nursery = nursery
        self._on_stale = on_stale
        self._make_room = make_room
        self._rescue = rescue
        self._streams: list[_Stream] = []
        self._max_window = settings.buffer_size + settings.read_ahead
        self._room = trio.Event()

    @property
    def _bound(self) -> int:
        return max(1, self._remote.caps.parallelism)

    @property
    def most(self) -> int:
        """Streams at once, in all."""
        return self._bound

    def downloads(self) -> tuple[Download, ...]:
        """Streams that exist, reading or waiting, as values."""
        now = trio.current_time()
        return tuple(
            Download(
                path=s.path, size=s.item.size, position=s.position, ahead=max(0, s.position - s.asked),
                speed=s.fetched / max(now - s.began, 1e-3), waiting=s.waiting,
            )
            for s in self._streams
        )  # fmt: skip

    async def ensure(self, item: Item, start: int, stop: int, *, must: bool = False) -> None:
        """Return when every byte of ``[start, stop)`` within the file is held. The item is acquired.

        Raises what the remote answered, TimedOut when nothing arrives for ``settings.timeout``, or NoSpace
        when the cache may hold no more; ``must`` goes over that bound, for what has to be complete.
        """
        renewals = 0
        while True:
            stop = min(stop, item.size)
            gaps = item.spans.gaps(start, stop)
            if not gaps:
                return
            stream = await self._stream_for(item, gaps[0])
            if stream is None:
                continue
            stream.must |= must
            stream.want(gaps[0].stop, self._limit(item))
            try:
                await self._arrival(stream, gaps[0])
            except (Stale, NotFound):
                # another version is there now: a clean item starts anew with it, a dirty one cannot be completed
                renewals += 1
                if renewals > TRIES or not await self._on_stale(item):
                    raise

    async def _arrival(self, stream: _Stream, gap: Span) -> None:
        item = stream.item
        while stream.alive:
            with trio.move_on_after(self._settings.timeout) as patience:
                await stream.arrived.wait()
            if item.spans.covers(gap.start, min(gap.start + 1, gap.stop)) or stream.position > gap.start:
                return  # progress, or given back since, to make room; the caller looks at its gaps again
            if patience.cancelled_caught:
                stream.error = TimedOut(item.path, f"nothing arrived for {self._settings.timeout:g} seconds")
                self._end(stream)
        if stream.error is not None:
            raise stream.error

    def advance(self, item: Item, start: int, stop: int) -> None:
        """A reader was served from the cache: let the stream in front of it run on. Not a checkpoint."""
        for stream in _streams_of(item):
            if stream.alive and stream.start <= start <= stream.position <= stop + stream.window:
                self._widen(stream)
                stream.want(stop, self._limit(item))
                self._spread(stream)
                break

    def stop(self, item: Item) -> None:
        """End the item's streams: its content, name or version is about to change. Not a checkpoint."""
        for stream in _streams_of(item):
            self._end(stream)

    # streams

    def _limit(self, item: Item) -> int:
        return min(item.size, item.row.base.size) if item.row.base else item.size

    async def _stream_for(self, item: Item, gap: Span) -> _Stream | None:
        for stream in _streams_of(item):
            reach = max(stream.target, stream.position + FIRST_WINDOW)
            if stream.alive and stream.position <= gap.start <= reach:
                self._widen(stream)
                return stream
        if item.row.path is None:
            raise Stale("", "the file was replaced while it was read")
        if item.row.base is None or gap.start >= item.row.base.size:
            raise Corrupt(item.path, f"bytes {gap.start} to {gap.stop} are neither here nor at the remote")
        for crowd, most in ((_streams_of(item), self._settings.streams), (self._streams, self._bound)):
            if len(crowd) >= most:
                spare = next((s for s in crowd if s.waiting), None)
                if spare is None:
                    await self._room.wait()
                    return None
                self._end(spare)
        return self._start(item, gap.start, None)

    def _start(self, item: Item, start: int, bound: int | None) -> _Stream:
        stream = _Stream(item, start, bound)
        item.streams.append(stream)
        self._streams.append(stream)
        self._store.acquire(item)
        self._nursery.start_soon(self._run, stream)
        return stream

    def _spread(self, stream: _Stream) -> None:
        """``--vfs-read-chunk-streams``: a sequential reader gets the chunks ahead of it by streams of their own."""
        item, chunk = stream.item, self._settings.chunk_size
        if self._settings.parallel < 2 or chunk is None or stream.window < min(chunk, self._max_window):
            return
        limit = self._limit(item)
        for start in range(stream.start, limit, chunk):
            if start <= stream.position:
                continue
            busy = len(_streams_of(item)) >= self._settings.parallel or len(self._streams) >= self._bound
            if busy or start > stream.position + chunk * self._settings.parallel:
                return
            claimed = any(s.start <= start < (s.bound or limit) for s in _streams_of(item) if s is not stream)
            if not claimed and not item.spans.covers(start, min(start + 1, limit)):
                self._start(item, start, min(limit, start + chunk)).target = min(limit, start + chunk)

    def _make_way(self) -> None:
        """A place may be free: let those who wait for one look."""
        self._room.set()
        self._room = trio.Event()

    def _widen(self, stream: _Stream) -> None:
        if stream.window < self._max_window:
            stream.window = min(self._max_window, max(FIRST_WINDOW, stream.window * 2))

    def _end(self, stream: _Stream) -> None:
        stream.alive = False
        stream.scope.cancel()
        if stream in stream.item.streams:
            stream.item.streams.remove(stream)
        if stream in self._streams:
            self._streams.remove(stream)
            self._make_way()
        stream.wake()

    async def _run(self, stream: _Stream) -> None:
        try:
            with stream.scope:
                await self._follow(stream)
        except Exception:  # a defect of an adapter: this read's, and not the end of everything else
            log.exception("reading %s failed in a way that nobody foresaw", stream.path)
            stream.error = Corrupt(stream.path, "the storage's adapter failed; see the log")
        finally:
            self._end(stream)
            self._store.release(stream.item)

    async def _follow(self, stream: _Stream) -> None:
        chunk = self._settings.chunk_size
        failures = 0
        while stream.alive:
            limit = min(self._limit(stream.item), stream.bound or stream.item.size)
            held_to = stream.item.spans.run_from(stream.position)
            stream.position = min(limit, held_to)
            if stream.position >= limit:
                return
            ahead = [s.position for s in _streams_of(stream.item) if s is not stream and s.position >= stream.position]
            limit = min([limit, *ahead])
            if stream.position >= limit:
                return  # another stream is just here: who waits for these bytes joins that one
            if stream.position >= stream.target and not await self._wait_for_reader(stream):
                return
            stop = limit if chunk is None else min(limit, stream.position + chunk)
            before = stream.position
            try:
                whole = await self._request(stream, Span(stream.position, stop))
            except OSError as error:
                problem = error if isinstance(error, StorageError) else Corrupt(stream.path, f"cache: {error.strerror}")
                failures = 0 if stream.position > before else failures + 1
                if not problem.retriable or failures >= TRIES or isinstance(problem, NoSpace):
                    stream.error = problem
                    self._counters.errors += 1
                    return
                log.info("%s: reading goes on at byte %d after: %s", stream.path, stream.position, problem)
                await trio.sleep(0.1 * 4**failures)
                continue
            failures = 0
            if whole and chunk is not None and self._settings.parallel < 2:
                chunk = min(chunk * 2, self._settings.chunk_limit or chunk * 2)

    async def _request(self, stream: _Stream, span: Span) -> bool:
        """One ranged request; answers whether it was read to its end."""
        item = stream.item
        async with self._remote.read(stream.path, span, stream.version) as body:
            async for piece in for_a_file(body):
                if not stream.alive or item.row.base is not stream.version:
                    self._end(stream)  # not what the item is about any more; who still waits starts anew
                    return False
                if stream.position + len(piece) > span.stop:
                    if not item.dirty:  # perhaps all of it was from elsewhere in the file
                        self._store.discard_clean(item, Span(span.start, stream.position))
                        stream.position = span.start
                    raise Corrupt(stream.path, "the remote sent more than it was asked for")
                if not stream.must and not self._make_room(len(piece)):
                    raise NoSpace(stream.path, "the cache is full of files that are in use or not uploaded yet")
                self._counters.fetched_bytes += self._fill(stream, piece, span.stop)
                stream.position += len(piece)
                stream.fetched += len(piece)
                stream.wake()
                if stream.position >= span.stop:
                    break
                if item.spans.run_from(stream.position) - stream.position >= FIRST_WINDOW:
                    return False  # the rest is here already
                if stream.position >= stream.target and not await self._wait_for_reader(stream):
                    return False
        if stream.position < span.stop:
            raise Corrupt(stream.path, f"the remote's file ends at byte {stream.position}, {span.stop} were promised")
        return True

    def _fill(self, stream: _Stream, piece: Piece, limit: int) -> int:
        try:
            return self._store.fill(stream.item, stream.position, piece, limit)
        except NoSpace:
            if not self._rescue():
                raise
            return self._store.fill(stream.item, stream.position, piece, limit)

    async def _wait_for_reader(self, stream: _Stream) -> bool:
        stream.wanted = trio.Event()
        stream.waiting = True
        self._make_way()
        with trio.move_on_after(self._settings.handle_caching):
            await stream.wanted.wait()
        stream.waiting = False
        return stream.position < stream.target


def _streams_of(item: Item) -> list[_Stream]:
    return [stream for stream in item.streams if isinstance(stream, _Stream)]

"""Plain functions of the core in other threads, while the trio thread sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import trio

from mountcore.door import Closed, Door


async def in_thread(function: Callable[[], object]) -> object:
    return await trio.to_thread.run_sync(function)


def test_it_is_used_at_all() -> None:
    """Where this fails, trio keeps its thread-local elsewhere: everything works, and small files take longer."""

    async def main() -> None:
        door = Door()
        door.open()
        try:
            ran = await in_thread(lambda: [door.try_run(threading.get_ident) for _ in range(50)])
            assert isinstance(ran, list)
            assert sum(not isinstance(one, Closed) for one in ran) > 25
            assert threading.get_ident() not in ran
        finally:
            door.close()

    trio.run(main)


def test_nothing_runs_while_the_trio_thread_does() -> None:
    """A counter that is read, and written a while later, would lose steps."""
    counter, rounds = [0], 300

    def step() -> None:
        seen = counter[0]
        for _ in range(300):
            pass
        counter[0] = seen + 1

    async def main() -> None:
        door = Door()
        door.open()
        done: list[int] = []

        def foreign() -> None:
            ran = 0
            while ran < rounds:
                ran += not isinstance(door.try_run(step), Closed)
            done.append(ran)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(in_thread, foreign)
            for _ in range(rounds):
                step()
                await trio.sleep(0.0001)
        door.close()
        assert counter[0] == sum(done) + rounds

    trio.run(main)


def test_what_it_does_is_seen_at_once_by_who_sleeps() -> None:
    async def main() -> None:
        door = Door()
        door.open()
        woken = trio.Event()

        times: list[float] = []

        def foreign() -> None:
            _until_run(door, lambda: times.append(trio.current_time()))
            _until_run(door, woken.set)

        thread = threading.Thread(target=foreign)
        before = trio.current_time()
        thread.start()
        with trio.fail_after(10):
            await woken.wait()
        thread.join()
        assert before <= times[0] <= trio.current_time()
        door.close()

    trio.run(main)


def _until_run(door: Door, function: Callable[[], object]) -> None:
    while isinstance(door.try_run(function), Closed):
        time.sleep(0.001)


def test_errors_are_the_callers_and_leave_it_open() -> None:
    async def main() -> None:
        door = Door()
        door.open()

        def fail() -> None:
            raise FileNotFoundError("gone")

        def foreign() -> None:
            with pytest.raises(FileNotFoundError, match="gone"):
                _until_run(door, fail)
            _until_run(door, lambda: None)

        await in_thread(foreign)
        door.close()

    trio.run(main)


def test_closed_it_runs_nothing_and_can_be_opened_again() -> None:
    async def main() -> None:
        door = Door()
        assert isinstance(await in_thread(lambda: door.try_run(int)), Closed)
        for _ in range(2):
            door.open()
            door.open()
            door.close()
            await in_thread(lambda: _until_run(door, int))
            door.close()
            assert isinstance(await in_thread(lambda: door.try_run(int)), Closed)

    trio.run(main)

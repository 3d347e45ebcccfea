"""One sync for all who wait for one."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from mountcore.cache.shared import SharedSync


class Disk:
    """Syncs that begin and end when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = threading.Semaphore(0)
        self.problem: OSError | None = None

    def sync(self) -> None:
        self.begun += 1
        assert self.go_on.acquire(timeout=20)
        if self.problem is not None:
            problem, self.problem = self.problem, None
            raise problem


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_those_who_come_while_one_runs_share_the_next() -> None:
    disk = Disk()
    shared = SharedSync(disk.sync)
    threads = [threading.Thread(target=shared)]
    threads[0].start()
    until(lambda: disk.begun == 1)
    late = [threading.Thread(target=shared) for _ in range(20)]
    for thread in late:
        thread.start()
    disk.go_on.release()
    threads[0].join(20)
    until(lambda: disk.begun == 2)
    assert all(thread.is_alive() for thread in late), "one returned on a sync that had begun before it asked"
    disk.go_on.release()
    for thread in late:
        thread.join(20)
    assert disk.begun == 2
    disk.go_on.release()
    shared()
    assert disk.begun == 3


def test_a_sync_that_fails_fails_for_all_who_waited_for_it_and_nobody_else() -> None:
    disk = Disk()
    shared = SharedSync(disk.sync)
    failed: list[int | None] = []

    def wait() -> None:
        try:
            shared()
        except OSError as problem:
            failed.append(problem.errno)

    first = threading.Thread(target=wait)
    first.start()
    until(lambda: disk.begun == 1)
    late = [threading.Thread(target=wait) for _ in range(3)]
    for thread in late:
        thread.start()
    disk.go_on.release()
    first.join(20)
    until(lambda: disk.begun == 2)
    disk.problem = OSError(errno.EIO, "broken")
    disk.go_on.release()
    for thread in late:
        thread.join(20)
    assert failed == [errno.EIO] * 3
    disk.go_on.release()
    shared()


def test_a_fault_is_no_success_for_those_who_wait() -> None:
    def sync() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SharedSync(sync)()

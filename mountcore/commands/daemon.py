"""Going on in the background: ``--daemon``. Used by ``mount`` and the helper of mount(8), before anything is started.

The process forks while it has one thread and nothing open. The first process hands on what the second one says on
standard error until that is ready, and exits 0 then, or with the second one's exit code.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from typing import final

from .failures import EXIT_FAILED
from .logs import detached, say

PATIENCE = 10.0
"""Seconds that a process which was not ready in time has to end before it is killed."""


@final
class Background:
    """The second process's side."""

    def __init__(self, word: int | None) -> None:
        self._word = word

    def ready(self) -> None:
        """Let the first process go; from here on nobody hears standard error."""
        detached()
        _be_silent()
        if self._word is not None:
            with contextlib.suppress(OSError):  # it is gone, and so does not wait
                os.write(self._word, b"+")
            os.close(self._word)
            self._word = None


def go(wait: float | None) -> Background | int:
    """Fork. The second process gets a :class:`Background`; the first one its exit code, after ``wait`` seconds at most.

    ``wait`` None: for as long as it takes; 0: not at all.
    """
    said, saying = os.pipe()
    word, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(said)
        os.close(word)
        os.setsid()
        if wait == 0:
            _be_silent()
        else:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(saying, 1)
            os.dup2(saying, 2)
            os.close(nothing)
        os.close(saying)
        return Background(ready)
    os.close(saying)
    os.close(ready)
    if wait == 0:
        return 0
    try:
        return _listen(child, said, word, wait)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGINT)
        raise


def _be_silent() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)


def _listen(child: int, said: int, word: int, wait: float | None) -> int:
    """Hand on what the child says, until it is ready, or has ended, or it takes too long."""
    deadline = None if wait is None else time.monotonic() + wait
    with selectors.DefaultSelector() as waiting:
        waiting.register(said, selectors.EVENT_READ)
        waiting.register(word, selectors.EVENT_READ)
        while waiting.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return _too_late(child, wait)
            # what was said comes before the word, also where both are there
            for key, _ in sorted(waiting.select(left), key=lambda pair: pair[0].fd == word):
                part = os.read(key.fd, 65536)
                if not part:
                    waiting.unregister(key.fd)
                elif key.fd == word:
                    return 0
                else:
                    _hand_on(part)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code > 0 else 128 - code if code < 0 else EXIT_FAILED


def _hand_on(part: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.buffer.write(part)
        sys.stderr.flush()


def _too_late(child: int, wait: float | None) -> int:
    say(f"not ready within {wait:g} s, and ended; see --daemon-wait")
    for signum in (signal.SIGINT, signal.SIGKILL):
        os.kill(child, signum)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if os.waitpid(child, os.WNOHANG)[0]:
                return EXIT_FAILED
            time.sleep(0.05)
    return EXIT_FAILED

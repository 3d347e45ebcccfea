"""``--debug-fuse``: what the kernel asks, what it is told, and how long that took. Used by the sessions."""

from __future__ import annotations

import errno
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)
SHOWN = 60
"""Characters of an argument that are shown."""


def said(name: str, handler: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """A handler that may wait, and says what it did."""

    @functools.wraps(handler)
    async def handle(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.monotonic()
        asked = _asked(name, args)
        try:
            result = await handler(*args, **kwargs)
        except BaseException as problem:
            _told(asked, _why(problem), began)
            raise
        _told(asked, "ok", began)
        return result

    return handle


def said_at_once(name: str, handler: Callable[P, T | None]) -> Callable[P, T | None]:
    """A handler that answers at once, or says None and leaves it to another one."""

    @functools.wraps(handler)
    def handle(*args: P.args, **kwargs: P.kwargs) -> T | None:
        began = time.monotonic()
        asked = _asked(name, args)
        try:
            result = handler(*args, **kwargs)
        except BaseException as problem:
            _told(asked, _why(problem), began)
            raise
        if result is not None:
            _told(asked, "ok", began)
        return result

    return handle


def _asked(name: str, args: tuple[object, ...]) -> str:
    shown = []
    for value in args:
        if isinstance(value, memoryview | bytes):
            shown.append(repr(bytes(value[:SHOWN])) + (f"… {len(value)} bytes" if len(value) > SHOWN else ""))
        elif isinstance(value, int | str | None):
            shown.append(repr(value))
    return f"{name.upper()} {' '.join(shown)}"


def _told(asked: str, answer: str, began: float) -> None:
    log.info("%s: %s in %.1f ms", asked, answer, 1000 * (time.monotonic() - began))


def _why(problem: BaseException) -> str:
    number = getattr(problem, "errno", None)
    return errno.errorcode.get(number, str(number)) if isinstance(number, int) else type(problem).__name__

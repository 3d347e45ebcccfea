"""Logging and messages of the commands: to standard error, one line each."""

from __future__ import annotations

import logging
import sys
from typing import Any

from ..errors import Refused

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _OneLine(logging.Formatter):
    """A record never takes more than one line, so that logs can be read by lines.

    Of an exception: what it was and where it was raised; the whole traceback (in that line) at debug level.
    """

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def formatException(self, ei: Any) -> str:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            return super().formatException(ei)
        kind, problem, trace = ei
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        return f"{kind.__name__ if kind else 'None'}: {problem}{place}"


def set_up(level: str, verbose: int = 0) -> None:
    """Send what the program logs to standard error from ``level`` on; ``verbose`` 1 means info, 2 debug."""
    if level.lower() not in LEVELS:
        raise Refused(f"--log-level: {level!r} is not one of {', '.join(LEVELS)}")
    wanted = min(LEVELS[level.lower()], {0: logging.ERROR, 1: logging.INFO}.get(verbose, logging.DEBUG))
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(wanted)


def say(text: str) -> None:
    """Tell the user something about the course of things."""
    print(f"portside: {printable(text)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """One line that a terminal shows and does not obey: file names may have line breaks and escape codes in them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)

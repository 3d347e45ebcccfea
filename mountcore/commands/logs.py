"""Logging and messages of the commands: one line each, to standard error, a file, or the system's log.

A process in the background (`--daemon`) has no standard error: there the log, and what is said to the user, goes to
`--log-file`, or to syslog where there is one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from logging.handlers import SysLogHandler, WatchedFileHandler
from pathlib import Path
from typing import Any

from ..errors import Refused

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
SYSLOG = "/dev/log"
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_said = logging.getLogger("portside")
"""What is said to the user, where it also belongs into a log."""


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


class _Journal(_OneLine):
    """For a standard error that is systemd's journal: it has the time, and takes the level from a prefix."""

    _LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def format(self, record: logging.LogRecord) -> str:
        level = next((number for least, number in self._LEVELS if record.levelno >= least), 7)
        return f"<{level}>{super().format(record)}"


class _Json(_OneLine):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["problem"] = self.formatException(record.exc_info)
        return json.dumps(facts)


def set_up(values: Mapping[str, object], verbose: int = 0, *, background: bool = False) -> None:
    """Begin to log as the PROCESS_OPTIONS in ``values`` say; ``verbose`` 1 means info, 2 debug.

    With ``background``, standard error is somebody who listens until all is well: it is told too, until `detached`.
    """
    level = str(values["log-level"]).lower()
    if level not in LEVELS:
        raise Refused(f"--log-level: {values['log-level']!r} is not one of {', '.join(LEVELS)}")
    wanted = min(LEVELS[level], {0: logging.ERROR, 1: logging.INFO}.get(verbose, logging.DEBUG))
    machine = values["log-format"] == "json"
    lasting = _lasting(str(values["log-file"]), machine, background)
    handlers: list[logging.Handler] = [] if lasting is None else [lasting]
    if lasting is None or background:
        console = logging.StreamHandler()
        journal = "JOURNAL_STREAM" in os.environ and not background
        console.setFormatter(_Json() if machine else _Journal("%(name)s: %(message)s") if journal else _OneLine(TEXT))
        if lasting is not None:
            console.addFilter(lambda record: record.name != _said.name)  # `say` has printed it
        handlers.append(console)
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(wanted)
    _said.disabled = lasting is None
    _said.setLevel(min(wanted, logging.INFO))


def _lasting(file: str, machine: bool, background: bool) -> logging.Handler | None:
    """Where the log goes besides, or instead of, standard error."""
    handler: logging.Handler
    if file:
        path = Path(file).expanduser().absolute()
        try:
            handler = WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
        except OSError as problem:
            raise Refused(f"--log-file: {path}: {problem.strerror}; name a file that can be written") from None
        handler.setFormatter(_Json() if machine else _OneLine(TEXT))
        return handler
    if background and os.path.exists(SYSLOG):
        try:
            handler = SysLogHandler(SYSLOG)
        except OSError:
            return None
        handler.ident = f"portside[{os.getpid()}]: "
        handler.setFormatter(_Json() if machine else _OneLine("%(levelname)s %(name)s: %(message)s"))
        return handler
    return None


def detached() -> None:
    """Nobody listens at standard error any more."""
    root = logging.getLogger()
    root.handlers[:] = [h for h in root.handlers if type(h) is not logging.StreamHandler] or [logging.NullHandler()]


def say(text: str) -> None:
    """Tell the user something about the course of things."""
    with contextlib.suppress(BrokenPipeError):  # whoever started it went away; it goes on
        print(f"portside: {printable(text)}", file=sys.stderr, flush=True)
    _said.info("%s", text)


def printable(text: str) -> str:
    """One line that a terminal shows and does not obey: file names may have line breaks and escape codes in them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)

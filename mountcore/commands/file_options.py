"""The options of the file commands, as tables, and what they mean to :mod:`mountcore.files`.

Names and meanings are rclone's. Each command takes the tables that concern it.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Mapping

from ..errors import Refused
from ..files.filters import FilterSettings
from ..options import VFS_OPTIONS, Option, boolean, integer
from ..quantity import parse_duration, parse_size
from ..remotes.limits import Limits
from .arguments import PROCESS_OPTIONS

AGE_GRAMMAR = "a duration like 90s, 1h30m, 2d or 1w, a time like 2026-01-31 or 2026-01-31T12:00:00, or off"


def several(text: str) -> tuple[str, ...]:
    """The values of an option that may be given several times."""
    return tuple(text.split("\0")) if text else ()


def moment_ns(text: str) -> int | None:
    """A moment: that long ago, or as it is written; None for off. Local time where no zone is given."""
    word = text.strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d.*", word):
        try:
            when = dt.datetime.fromisoformat(word.replace("Z", "+00:00"))
        except ValueError:
            raise Refused(f"{text!r} is not {AGE_GRAMMAR}") from None
        return round(when.timestamp() * 1_000_000) * 1000
    try:
        seconds = parse_duration(word)
    except Refused:
        raise Refused(f"{text!r} is not {AGE_GRAMMAR}") from None
    return None if seconds is None else time.time_ns() - round(seconds * 1e9)


def count(text: str) -> int | None:
    """A whole number; negative or off: no limit."""
    if text.strip().lower() == "off":
        return None
    try:
        number = int(text)
    except ValueError:
        raise Refused(f"{text!r} is not a whole number, or off") from None
    return None if number < 0 else number


def _option(name: str) -> Option:
    return next(option for option in (*VFS_OPTIONS, *PROCESS_OPTIONS) if option.name == name)


FILTER_OPTIONS: tuple[Option, ...] = (
    Option("include", "", "Take only files that match", several, "PATTERN", repeats=True),
    Option("include-from", "", "Read include patterns from a file, - for standard input", several, "FILE",
           repeats=True),
    Option("exclude", "", "Leave out files that match", several, "PATTERN", repeats=True),
    Option("exclude-from", "", "Read exclude patterns from a file", several, "FILE", repeats=True),
    Option("filter", "", "A rule, '+ PATTERN' or '- PATTERN'; the first that matches decides", several, "RULE",
           short="f", repeats=True),
    Option("filter-from", "", "Read rules from a file", several, "FILE", repeats=True),
    Option("files-from", "", "Take only the files that a file names, one a line; nothing is listed", several, "FILE",
           repeats=True),
    Option("files-from-raw", "", "The same, lines as they are, without comments", several, "FILE", repeats=True),
    Option("exclude-if-present", "", "Leave out directories that have a file of this name", several, "NAME",
           repeats=True),
    Option("ignore-case", "false", "Patterns match whatever the case", boolean, flag=True),
    Option("min-size", "off", "Leave out files smaller than this", parse_size, "SIZE"),
    Option("max-size", "off", "Leave out files larger than this", parse_size, "SIZE"),
    Option("min-age", "off", "Leave out files younger than this", moment_ns, "AGE"),
    Option("max-age", "off", "Leave out files older than this", moment_ns, "AGE"),
    Option("max-depth", "-1", "Go only so many directories deep", count, "N"),
)  # fmt: skip

COMMON_OPTIONS: tuple[Option, ...] = (
    Option("checkers", "8", "Directories listed, and files compared, at once", integer(1, 256), "N"),
    Option("bwlimit", "off", _option("bwlimit").help, _option("bwlimit").parse, "RATE"),
    Option("tpslimit", "0", _option("tpslimit").help, _option("tpslimit").parse, "N"),
    Option("fast-list", "false", "Accepted and not needed: whole trees are listed at once where that is cheap", boolean,
           flag=True),
    _option("config"),
    _option("password-command"),
    _option("log-level"),
    _option("log-file"),
    _option("log-format"),
    Option("quiet", "false", _option("quiet").help, boolean, flag=True, short="q"),
)  # fmt: skip

CHANGE_OPTIONS: tuple[Option, ...] = (
    Option("dry-run", "false", "Say what would be done, and do nothing", boolean, flag=True, short="n"),
)  # fmt: skip

_NOTHING = "Accepted for rclone's sake, does nothing"
COPY_OPTIONS: tuple[Option, ...] = (
    *CHANGE_OPTIONS,
    Option("transfers", "4", "Files transferred at once", integer(1, 256), "N"),
    Option("checksum", "false", "Files with equal size and hash are equal, whatever their time", boolean, flag=True,
           short="c"),
    Option("size-only", "false", "Files of equal size are equal", boolean, flag=True),
    Option("ignore-times", "false", "No files are equal: copy all", boolean, flag=True, short="I"),
    Option("ignore-size", "false", "Do not compare sizes", boolean, flag=True),
    Option("ignore-checksum", "false", "Do not compare hashes after a copy", boolean, flag=True),
    Option("modify-window", "1ns", "Times nearer than this are equal", parse_duration, "DURATION"),
    Option("update", "false", "Leave files alone that are newer at the destination", boolean, flag=True, short="u"),
    Option("ignore-existing", "false", "Leave files alone that are there already", boolean, flag=True),
    Option("immutable", "false", "A file that is there already and differs is an error", boolean, flag=True),
    Option("backup-dir", "", "What is replaced or deleted is moved into this directory, on the destination's storage",
           str, "REMOTE:PATH"),
    Option("suffix", "", "Added to the name of what is replaced or deleted", str, "SUFFIX"),
    Option("suffix-keep-extension", "false", "Before the extension", boolean, flag=True),
    Option("max-transfer", "off", "Stop before more than this is transferred; exit code 8", parse_size, "SIZE"),
    Option("max-duration", "0", "Stop after this long; exit code 10", parse_duration, "DURATION"),
    Option("error-on-no-transfer", "false", "Exit code 9 if nothing was transferred", boolean, flag=True),
    Option("no-update-modtime", "false", "Leave the time alone where only that differs", boolean, flag=True),
    Option("create-empty-src-dirs", "false", "Copy empty directories too", boolean, flag=True),
    Option("no-unicode-normalization", "false", _option("no-unicode-normalization").help, boolean, flag=True),
    Option("links", "false", "Copy symbolic links as links, where both sides have them", boolean, flag=True, short="l"),
    Option("retries", "3", "Try a file this often where the storage failed", integer(1, 100), "N"),
    Option("check-first", "false", _NOTHING, boolean, flag=True),
    Option("no-traverse", "false", _NOTHING, boolean, flag=True),
    Option("progress", "false", "Show progress", boolean, flag=True, short="P"),
    Option("stats", "1m", "How often -v says how far it is; 0: never", parse_duration, "DURATION"),
)  # fmt: skip

MOVE_OPTIONS: tuple[Option, ...] = (
    Option("delete-empty-src-dirs", "false", "Remove directories that are empty afterwards", boolean, flag=True),
)  # fmt: skip

_LAST = "Accepted for rclone's sake: deletions always come last"
SYNC_OPTIONS: tuple[Option, ...] = (
    Option("max-delete", "-1", "If more files would be deleted than this, delete none and fail", count, "N"),
    Option("delete-after", "false", _LAST, boolean, flag=True),
    Option("delete-before", "false", _LAST, boolean, flag=True),
    Option("delete-during", "false", _LAST, boolean, flag=True),
    Option("delete-excluded", "false", "Delete what the filter leaves out at the destination, too", boolean, flag=True),
    Option("ignore-errors", "false", "Delete although something could not be copied (never if something could not be "
           "listed)", boolean, flag=True),
)  # fmt: skip


def filter_settings(values: Mapping[str, object]) -> FilterSettings:
    """What the filter options say."""
    v = values

    def texts(name: str) -> tuple[str, ...]:
        value = v[name]
        assert isinstance(value, tuple)
        return value

    def number(name: str) -> int | None:
        value = v[name]
        return value if isinstance(value, int) else None

    return FilterSettings(
        include=texts("include"), include_from=texts("include-from"), exclude=texts("exclude"),
        exclude_from=texts("exclude-from"), rules=texts("filter"), rules_from=texts("filter-from"),
        files_from=texts("files-from"), files_from_raw=texts("files-from-raw"),
        exclude_if_present=texts("exclude-if-present"), ignore_case=bool(v["ignore-case"]),
        min_size=number("min-size"), max_size=number("max-size"), newest_ns=number("min-age"),
        oldest_ns=number("max-age"), max_depth=number("max-depth"),
    )  # fmt: skip


def limits(values: Mapping[str, object]) -> Limits:
    """What --bwlimit and --tpslimit say."""
    up, down = values["bwlimit"] if isinstance(values["bwlimit"], tuple) else (None, None)
    rate = values["tpslimit"]
    return Limits(up, down, rate if isinstance(rate, float) else None)

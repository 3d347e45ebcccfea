"""Command lines from option tables: argparse with one-line errors, and values also from the environment.

An option is given, first found wins: on the command line, in ``PORTSIDE_<OPTION>``, in ``RCLONE_<OPTION>`` (so
that scripts carry over), by its default. Only texts pass through here; the tables parse them.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn, cast

from ..errors import Refused
from ..options import VFS_OPTIONS, Option, boolean, parse_values
from ..quantity import parse_duration
from .failures import UsageError

PREFIXES = ("PORTSIDE_", "RCLONE_")


def log_format(text: str) -> str:
    """How log lines look."""
    if text.strip().lower() not in ("text", "json"):
        raise Refused(f"{text!r} is neither text nor json")
    return text.strip().lower()


#: what a long-running command takes besides the options of its front ends
PROCESS_OPTIONS: tuple[Option, ...] = (
    Option("drain-timeout", "off", "When ending, stop uploading after this long; the rest is kept for the next start",
           parse_duration, "DURATION"),
    Option("log-file", "", "Write the log to this file (opened anew when it was moved away) instead of standard error",
           str, "FILE"),
    Option("log-format", "text", "text, or json: one object a line", log_format, "FORMAT"),
    Option("config", "", "Portside's configuration file, instead of the usual one", str, "FILE"),
    Option("password-command", "", "A program that prints the passphrase of an encrypted rclone.conf", str, "COMMAND"),
    Option("log-level", "warning", "debug, info, warning or error; -v is info, -vv debug", str, "LEVEL"),
    Option("quiet", "false", "Say nothing while all is well", boolean, flag=True),
)  # fmt: skip

#: front end → (module that has its OPTIONS, what pip installs it)
FRONT_ENDS = {"mount": ("fuse_frontend.command", "fuse"), "ftp": ("ftp_frontend.command", "ftp")}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are exceptions, and whose options come from tables."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"portside {prog}", description=description, epilog=epilog, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self._flags: set[str] = set()
        self._tables: list[Option] = []
        self.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice: everything")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage and exiting."""
        raise UsageError(f"{message}; see: {self.prog} --help")

    def add_table(self, title: str, options: Iterable[Option]) -> None:
        """Accept every option of a table."""
        group = self.add_argument_group(title)
        for option in options:
            if any(option.name == other.name for other in self._tables):
                continue  # two front ends may know the same option; both are told
            default = "" if option.flag or not option.default else f" (default {option.default})"
            text = f"{option.help}{default}".replace("%", "%%")
            if option.flag:
                self._flags.add(f"--{option.name}")
            metavar = "BOOL" if option.flag else option.metavar
            names = [f"--{option.name}"]
            if option.short and option.flag:
                self._flag_letter(group, option)
            elif option.short:
                names.insert(0, f"-{option.short}")
            action = "append" if option.repeats or option.many else "store"
            group.add_argument(*names, dest=option.name, metavar=metavar, help=text, action=action)
            self._tables.append(option)

    def _flag_letter(self, group: argparse._ArgumentGroup, option: Option) -> None:
        group.add_argument(
            f"-{option.short}", dest=option.name, action="store_const", const="true", help=f"like --{option.name}"
        )

    def _spelled_out(self, word: str) -> str:
        """``--dry-run=false`` for ``-n=false``; any other word as it is."""
        letter, equals, value = word.partition("=")
        if equals and len(letter) == 2 and letter[0] == "-":
            for option in self._tables:
                if option.flag and option.short == letter[1]:
                    return f"--{option.name}={value}"
        return word

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse; a flag alone means true, an unknown option is refused with the nearest known one."""
        words, rest = list(argv), []
        if "--" in words:
            rest = words[words.index("--") :]
            words = words[: words.index("--")]
        words = [f"{word}=true" if word in self._flags else self._spelled_out(word) for word in words]
        known, unknown = self.parse_known_args(words + rest)
        if unknown:
            names = [f"--{option.name}" for option in self._tables]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], names, 1)
            hint = f", did you mean {near[0]}?" if near else f"; see: {self.prog} --help"
            kind = "option" if unknown[0].startswith("-") else "argument"
            raise UsageError(f"unknown {kind} {unknown[0].partition('=')[0]}{hint}")
        return known


def given(args: argparse.Namespace, options: Iterable[Option]) -> dict[str, str]:
    """The texts that the command line has for these options."""
    found: dict[str, str] = {}
    for option in options:
        value = vars(args).get(option.name)
        if value is not None:
            between = "\0" if option.repeats else ","
            found[option.name] = between.join(value) if isinstance(value, list) else value
    return found


def from_environment(
    options: Iterable[Option], environ: Mapping[str, str] | None = None, prefixes: tuple[str, ...] = PREFIXES
) -> dict[str, str]:
    """The texts that the environment has for these options."""
    environ = os.environ if environ is None else environ
    found: dict[str, str] = {}
    for option in options:
        for prefix in prefixes:
            text = environ.get(prefix + option.key.upper())
            if text is not None:
                found[option.name] = text
                break
    return found


def front_end_options(kind: str) -> tuple[Option, ...]:
    """A front end's table; raises :class:`Refused` with the remedy where its library is not installed."""
    module = FRONT_ENDS[kind][0]
    try:
        return cast(tuple[Option, ...], importlib.import_module(module).OPTIONS)
    except ModuleNotFoundError as problem:
        raise missing_library(kind, problem) from None


def missing_library(kind: str, problem: ModuleNotFoundError) -> Refused:
    """What to say when a front end's library is not there."""
    extra = FRONT_ENDS[kind][1]
    return Refused(
        f"{kind} needs the Python package {problem.name!r}; install it with: pip install 'portside[{extra}]'"
    )


def front_end_values(kind: str, texts: Mapping[str, str]) -> dict[str, object]:
    """Parsed values of a front end's options: from ``texts``, else the environment, else the defaults."""
    options = front_end_options(kind)
    return parse_values(options, from_environment(options) | dict(texts))


def process_values(args: argparse.Namespace) -> dict[str, object]:
    """Parsed values of PROCESS_OPTIONS."""
    # rclone's spellings mean other things here: RCLONE_CONFIG is its own file, RCLONE_LOG_LEVEL has other words
    environment = from_environment(PROCESS_OPTIONS, prefixes=("PORTSIDE_",))
    return parse_values(PROCESS_OPTIONS, environment | given(args, PROCESS_OPTIONS))


def vfs_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts for :func:`mountcore.options.vfs_settings`: those given over those of the environment."""
    return from_environment(VFS_OPTIONS) | dict(texts)

"""How every file command runs: options, configuration, places, signals, and an exit code from what happened.

A command's body gets a `Desk` with everything opened from the options. The first SIGINT or SIGTERM calls the body
off: uploads that are under way are withdrawn and leave nothing, and the exit code is 130 or 143; a second one ends
the process at once.
"""

from __future__ import annotations

import argparse
import functools
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn, final

import trio

from ..errors import NotFound, Refused, StorageError
from ..files.filters import Filter
from ..files.places import Place, Places, open_places
from ..files.sync import Immutable
from ..files.tally import Tally
from ..files.walk import Walker
from ..options import Option, parse_values
from ..remotes.conf import Config
from . import logs
from .arguments import Parser, from_environment, given
from .failures import EXIT_NO_RETRY, UsageError, about_remote, exit_code, leaves
from .file_options import COMMON_OPTIONS, FILTER_OPTIONS, filter_settings, limits
from .plan import open_config

#: rclone's spellings of these mean other things, see `arguments.process_values`
_OURS_ALONE = ("config", "password-command", "log-level", "log-file", "log-format")


@final
@dataclass(slots=True)
class Desk:
    """What a command works with."""

    args: argparse.Namespace
    values: dict[str, object]
    config: Config
    places: Places
    tally: Tally
    filter: Filter

    @property
    def dry_run(self) -> bool:
        return bool(self.values.get("dry-run"))

    def number(self, name: str) -> int:
        """A whole number among the options."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def walker(self, **changes: bool) -> Walker:
        """How this command walks trees."""
        return Walker(self.tally, self.filter, self.number("checkers"), **changes)

    async def place(self, words: str, *, prefer_file: bool = False) -> Place:
        """Open what the user named; errors name it."""
        try:
            return await self.places.one(words, prefer_file=prefer_file)
        except StorageError as problem:
            about_remote(problem, self.config.label(words))
            raise

    async def two(self, source: str, target: str) -> tuple[Place, Place]:
        """From where, which must be there, and to where."""
        try:
            places = await self.places.two(source, target)
        except StorageError as problem:
            about_remote(problem, f"{self.config.label(source)} or {self.config.label(target)}")
            raise
        if places[0].entry is None:
            self.no_directory(source)
        return places

    async def directory(self, words: str) -> Place:
        """A directory, or a file, that must be there."""
        place = await self.place(words)
        if place.entry is None:
            self.no_directory(words)
        return place

    def no_directory(self, words: str) -> NoReturn:
        """There is nothing of that name."""
        problem = NotFound("", "directory not found")
        problem.add_note(self.config.label(words))
        raise problem


Body = Callable[[Desk], Awaitable[int | None]]


def make_parser(name: str, description: str, *, epilog: str = "", **positional: str) -> Parser:
    """A parser with the arguments named: their name, and their help; a name that ends in ``_`` is optional."""
    parser = Parser(name, description, epilog)
    for argument, text in positional.items():
        nargs = "?" if argument.endswith("_") else None
        parser.add_argument(argument, metavar=argument.rstrip("_").upper(), nargs=nargs, help=text)
    return parser


def run(parser: Parser, argv: list[str], body: Body, *tables: Iterable[Option]) -> int:
    """Parse, open, do it; answers the exit code. Raises the one problem there was."""
    own = [option for table in tables for option in table]
    parser.add_table("options", own)
    parser.add_table("which files", FILTER_OPTIONS)
    parser.add_table("how", COMMON_OPTIONS)
    args = parser.parse(argv)
    options = (*own, *FILTER_OPTIONS, *COMMON_OPTIONS)
    ours = [option for option in options if option.name in _OURS_ALONE]
    environment = from_environment([option for option in options if option.name not in _OURS_ALONE])
    environment |= from_environment(ours, prefixes=("PORTSIDE_",))
    try:
        values = parse_values(options, environment | given(args, options))
    except Refused as problem:
        raise UsageError(str(problem)) from None
    logs.set_up(values, args.verbose)
    config = open_config(values)
    chosen = Filter(filter_settings(values))
    say = logs.say if not values["quiet"] else _quiet
    note = logs.say if args.verbose else _quiet
    _plain_output()
    outcome = _Outcome()
    try:
        trio.run(functools.partial(_main, outcome, args, values, config, chosen, Tally(say, note), body))
    except BaseExceptionGroup as group:
        problems = [p for p in leaves(group) if not isinstance(p, trio.Cancelled)]
        raise (next((p for p in problems if not isinstance(p, Exception)), None) or problems[0]) from None
    finally:
        sys.stdout.flush()
    return outcome.code


@final
class _Outcome:
    """What the process answers."""

    code = 0


async def _main(
    outcome: _Outcome,
    args: argparse.Namespace,
    values: dict[str, object],
    config: Config,
    chosen: Filter,
    tally: Tally,
    body: Body,
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, outcome, scope)
            async with open_places(config, limits(values)) as places:
                code = await body(Desk(args, values, config, places, tally, chosen))
            outcome.code = code or outcome.code or verdict(tally)
            nursery.cancel_scope.cancel()


async def _watch_signals(outcome: _Outcome, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for signum in signals:
            outcome.code = 128 + signum
            logs.say("interrupted; what was transferred is whole, and running it again goes on from there")
            scope.cancel()  # also ends this: a second signal does what it usually does
            return


def verdict(tally: Tally) -> int:
    """The exit code for what went wrong on the way: that of the last problem."""
    if not tally.problems:
        return 0
    return EXIT_NO_RETRY if isinstance(tally.problems[-1], Immutable) else exit_code(tally.problems[-1])


def _quiet(text: str) -> None:
    """Says nothing."""


def _plain_output() -> None:
    """Names that are no UTF-8 go out as the bytes they are."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="surrogateescape", line_buffering=False)

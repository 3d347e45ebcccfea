"""``portside check``: whether two trees are the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from ..errors import Refused
from ..files.check import Check, Compare, Finding, by_content, by_listing
from ..files.places import Place
from ..options import Option, boolean
from ..remotes.paths import basename
from .failures import EXIT_FAILED
from .filing import Desk, make_parser, run

#: option → which findings are written into its file, and whether with their marks
_REPORTS: dict[str, tuple[Finding, ...]] = {
    "combined": tuple(Finding), "match": (Finding.MATCH,), "differ": (Finding.DIFFER,), "error": (Finding.ERROR,),
    "missing-on-dst": (Finding.NOT_IN_TARGET,), "missing-on-src": (Finding.NOT_IN_SOURCE,),
}  # fmt: skip
OPTIONS = (
    Option("download", "false", "Compare every byte", boolean, flag=True),
    Option("size-only", "false", "Compare sizes alone", boolean, flag=True),
    Option("one-way", "false", "Files that only the destination has are no difference", boolean, flag=True),
    Option("combined", "", "Report all into a file (-: standard output), marked = * + - !", str, "FILE"),
    Option("match", "", "Report files that are the same", str, "FILE"),
    Option("differ", "", "Report files that differ", str, "FILE"),
    Option("missing-on-dst", "", "Report files that only the source has", str, "FILE"),
    Option("missing-on-src", "", "Report files that only the destination has", str, "FILE"),
    Option("error", "", "Report files that could not be compared", str, "FILE"),
)


def check(argv: list[str]) -> int:
    """Compare two trees: sizes, and hashes where both storages tell one."""

    async def body(desk: Desk) -> int | None:
        source, target = await _places(desk)
        with _reports(desk) as files:

            def tell(finding: Finding, path: str) -> None:
                for name, file in files.items():
                    if finding in _REPORTS[name]:
                        print(f"{finding.value} {path}" if name == "combined" else path, file=file)

            one_way = bool(desk.values["one-way"])
            if source.is_file:
                name = basename(source.prefix)
                source = source.beside()
                work = Check(source, target, desk.walker(links=False), tell, _compare(desk, source, target), one_way)
                await _one(work, name)
            else:
                work = Check(source, target, desk.walker(links=False), tell, _compare(desk, source, target), one_way)
                await work.run()
        missing = work.found[Finding.NOT_IN_TARGET]
        if missing:
            desk.tally.say(f"{target.label}: {missing} files missing")
        if work.found[Finding.NOT_IN_SOURCE]:
            desk.tally.say(f"{source.label}: {work.found[Finding.NOT_IN_SOURCE]} files missing")
        desk.tally.say(f"{target.label}: {work.differences} differences found")
        if desk.tally.errors:
            desk.tally.say(f"{target.label}: {desk.tally.errors} errors while checking")
        if work.found[Finding.MATCH]:
            desk.tally.say(f"{target.label}: {work.found[Finding.MATCH]} matching files")
        return EXIT_FAILED if work.differences and not desk.tally.errors else None

    parser = make_parser("check", "Compare two trees: sizes, and hashes where both storages tell one. Changes nothing.",
                         source="a directory or a file", destination="a directory")  # fmt: skip
    return run(parser, argv, body, OPTIONS)


async def _places(desk: Desk) -> tuple[Place, Place]:
    source, target = await desk.two(desk.args.source, desk.args.destination)
    if target.is_file:
        raise Refused(f"{target.label}: is a file, not a directory")
    return source, target


async def _one(work: Check, name: str) -> None:
    entry = await work.source.remote.stat(work.source.path(name))
    try:
        other = await work.target.remote.stat(work.target.path(name))
    except FileNotFoundError:
        await work.one(name, entry, None)
    else:
        await work.one(name, entry, other)


def _compare(desk: Desk, source: Place, target: Place) -> Compare:
    if desk.values["download"]:
        return by_content(source, target)
    return by_listing(source, target, size_only=bool(desk.values["size-only"]))


@contextmanager
def _reports(desk: Desk) -> Iterator[dict[str, IO[str]]]:
    """The files to report into, by option."""
    with ExitStack() as held:
        files: dict[str, IO[str]] = {}
        for name in _REPORTS:
            path = str(desk.values[name])
            if path == "-":
                files[name] = sys.stdout
            elif path:
                try:
                    files[name] = held.enter_context(open(path, "w", errors="surrogateescape"))
                except OSError as problem:
                    raise Refused(f"--{name}: {path}: {problem.strerror}") from None
        yield files

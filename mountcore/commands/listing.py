"""``portside ls``, ``lsl``, ``lsd``, ``lsf`` and ``lsjson``: what is at a place, as rclone prints it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from ..errors import NotFound, Refused, Unsupported
from ..files.formats import digits_of, local_time, mime_type, mtime_of, rfc3339, size_of
from ..files.hashes import algorithm_named, digest_of
from ..files.places import Place
from ..files.walk import Listed, Walker
from ..options import Option, boolean
from ..remotes.paths import basename
from ..remotes.protocol import Entry, Kind
from .file_options import several
from .filing import Desk, make_parser, run

REMOTE = "the remote, a directory or a file on it"
_RECURSE = Option("recursive", "false", "Also what lies in the directories", boolean, flag=True, short="R")
_ONLY = (
    Option("files-only", "false", "Only files", boolean, flag=True),
    Option("dirs-only", "false", "Only directories", boolean, flag=True),
)
_HASH = Option("hash", "md5", "Which hash 'h' shows", str, "NAME")
_LSF_OPTIONS = (
    _RECURSE, *_ONLY, _HASH,
    Option("format", "p", "What to show: p path, s size, t time, h hash, m type, i and o the storage's number, "
           "T tier, e (nothing)", str, "LETTERS", short="F"),
    Option("separator", ";", "Between the items", str, "TEXT", short="s"),
    Option("dir-slash", "true", "A slash after directories", boolean, flag=True, short="d"),
    Option("csv", "false", "As CSV", boolean, flag=True),
    Option("absolute", "false", "A slash before paths", boolean, flag=True),
    Option("time-format", "", "strftime(3), or max for nine digits of a second, or unix, unixnano, RFC3339", str,
           "FORMAT", short="t"),
)  # fmt: skip
_LSJSON_OPTIONS = (
    _RECURSE, *_ONLY,
    Option("hash", "false", "Also the hashes that the storage knows", boolean, flag=True),
    Option("hash-type", "", "Only this hash", several, "NAME", repeats=True),
    Option("no-modtime", "false", "Leave out times", boolean, flag=True),
    Option("no-mimetype", "false", "Leave out types", boolean, flag=True),
    Option("stat", "false", "One object about the place itself", boolean, flag=True),
    Option("metadata", "false", "Also the attributes kept with each", boolean, flag=True, short="M"),
)  # fmt: skip


def ls(argv: list[str]) -> int:
    """Print size and path of every file."""
    return _files("ls", "List files with their sizes.", argv, lambda path, entry: f"{entry.size:9d} {path}")


def lsl(argv: list[str]) -> int:
    """Print size, time and path of every file."""
    return _files(
        "lsl", "List files with their sizes and times.", argv,
        lambda path, entry: f"{entry.size:9d} {local_time(mtime_of(entry), digits=9)} {path}",
    )  # fmt: skip


def _files(name: str, about: str, argv: list[str], line: Callable[[str, Entry], str]) -> int:
    async def body(desk: Desk) -> None:
        place = await desk.directory(desk.args.remote)
        async with desk.walker().walk(place) as directories:
            async for listed in directories:
                for path, entry in listed.items():
                    if entry.kind is not Kind.DIRECTORY:
                        print(line(path, entry))

    return run(make_parser(name, about, remote=REMOTE), argv, body)


def lsd(argv: list[str]) -> int:
    """Print the directories of a place."""

    async def body(desk: Desk) -> None:
        place = await desk.directory(desk.args.remote)
        async with _walk(desk, place) as directories:
            async for listed in directories:
                for path, entry in listed.items():
                    if entry.kind is Kind.DIRECTORY:
                        print(f"{size_of(entry):12d} {local_time(mtime_of(entry))} {-1:9d} {path}")

    return run(make_parser("lsd", "List directories.", remote=REMOTE), argv, body, (_RECURSE,))


def _walk(desk: Desk, place: Place) -> AbstractAsyncContextManager[AsyncIterator[Listed]]:
    """One level, all with -R, or as deep as --max-depth says."""
    recurse = bool(desk.values["recursive"]) or desk.values["max-depth"] not in (None, 1)
    return Walker(desk.tally, desk.filter, desk.number("checkers"), recurse=recurse).walk(place)


def _wanted(desk: Desk, entry: Entry) -> bool:
    if entry.kind is Kind.DIRECTORY:
        return not desk.values["files-only"]
    return not desk.values["dirs-only"]


def lsf(argv: list[str]) -> int:
    """Print names, or what --format says, one entry a line."""

    async def body(desk: Desk) -> None:
        letters = str(desk.values["format"])
        unknown = [letter for letter in letters if letter not in "pstihomTeM"]
        if unknown:
            raise Refused(f"--format: {unknown[0]!r} is none of p, s, t, h, i, o, m, T, e, M")
        place = await desk.directory(desk.args.remote)
        async with _walk(desk, place) as directories:
            async for listed in directories:
                for path, entry in listed.items():
                    if _wanted(desk, entry):
                        items = [await _item(desk, place, letter, path, entry) for letter in letters]
                        print(_row(items) if desk.values["csv"] else str(desk.values["separator"]).join(items))

    return run(make_parser("lsf", "List names, for scripts.", remote=REMOTE), argv, body, _LSF_OPTIONS)


def _row(items: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(items)
    return buffer.getvalue()


async def _item(desk: Desk, place: Place, letter: str, path: str, entry: Entry) -> str:
    directory = entry.kind is Kind.DIRECTORY
    match letter:
        case "p":
            slash = "/" if directory and desk.values["dir-slash"] else ""
            return f"{'/' if desk.values['absolute'] else ''}{path}{slash}"
        case "s":
            return str(size_of(entry))
        case "t":
            return _time(mtime_of(entry), str(desk.values["time-format"]), _digits(place))
        case "h":
            return "" if directory else await _hash(place, path, algorithm_named(str(desk.values["hash"])))
        case "m":
            return mime_type(entry)
        case "i" | "o":
            return ""  # what a service calls a file; inodes and the like are none, for rclone neither
    return ""


def _time(ns: int, form: str, digits: int) -> str:
    match form:
        case "":
            return local_time(ns)
        case "max":
            return local_time(ns, digits=digits)
        case "unix":
            return str(ns // 1_000_000_000)
        case "unixnano":
            return str(ns)
        case "RFC3339":
            return rfc3339(ns, 0)
        case "RFC3339Nano":
            return rfc3339(ns)
    if "%" not in form:
        form = _from_reference_time(form)
    return time.strftime(form, time.localtime(ns // 1_000_000_000))


def _from_reference_time(form: str) -> str:
    """Rclone's formats write 2006-01-02 15:04:05 as it should look."""
    words = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S", "Jan": "%b", "Mon": "%a",
             "MST": "%Z", "-0700": "%z"}  # fmt: skip
    return re.sub("2006|-0700|01|02|15|04|05|Jan|Mon|MST", lambda match: words[match[0]], form)


def _digits(place: Place) -> int:
    return digits_of(place.remote.caps.mtime_resolution_ns)


async def _hash(place: Place, path: str, algorithm: str) -> str:
    try:
        return await digest_of(place.remote, place.path("" if place.is_file else path), algorithm)
    except Unsupported:
        return ""


def lsjson(argv: list[str]) -> int:
    """Print entries as JSON."""

    async def body(desk: Desk) -> None:
        place = await desk.directory(desk.args.remote)
        if desk.values["stat"]:
            await _print_stat(desk, place)
            return
        sys.stdout.write("[\n")
        first = True
        async with _walk(desk, place) as directories:
            async for listed in directories:
                for path, entry in listed.items():
                    if _wanted(desk, entry):
                        sys.stdout.write("" if first else ",\n")
                        first = False
                        sys.stdout.write(json.dumps(await _facts(desk, place, path, entry), ensure_ascii=False,
                                                    separators=(",", ":")))  # fmt: skip
        sys.stdout.write("\n]\n" if not first else "]\n")

    return run(make_parser("lsjson", "List as JSON, for programs.", remote=REMOTE), argv, body, _LSJSON_OPTIONS)


async def _print_stat(desk: Desk, place: Place) -> None:
    if place.entry is None:
        raise NotFound(place.prefix)
    name = basename(place.prefix) if place.is_file else ""
    print(json.dumps(await _facts(desk, place, name, place.entry), ensure_ascii=False, indent="\t"))


async def _facts(desk: Desk, place: Place, path: str, entry: Entry) -> dict[str, object]:
    values = desk.values
    facts: dict[str, object] = {"Path": path, "Name": basename(path), "Size": size_of(entry)}
    if not values["no-mimetype"]:
        facts["MimeType"] = mime_type(entry)
    facts["ModTime"] = "" if values["no-modtime"] else rfc3339(mtime_of(entry), _digits(place))
    facts["IsDir"] = entry.kind is Kind.DIRECTORY
    kinds = values["hash-type"]
    assert isinstance(kinds, tuple)
    if (values["hash"] or kinds) and entry.kind is Kind.FILE:
        names = [algorithm_named(kind) for kind in kinds] or sorted(place.remote.caps.hashes)
        found = {name: await _hash(place, path, name) for name in names}
        if told := {name: digest for name, digest in found.items() if digest}:
            facts["Hashes"] = told
    if values["metadata"] and place.remote.caps.attributes:
        kept = await place.remote.attributes(place.path("" if place.is_file else path))
        facts["Metadata"] = {name: value.decode("utf-8", "replace") for name, value in kept.items()}
    return facts

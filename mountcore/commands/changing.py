"""``portside mkdir``, ``rmdir``, ``rmdirs``, ``delete``, ``deletefile``, ``purge`` and ``touch``."""

from __future__ import annotations

import time
from dataclasses import replace

from ..errors import NotDirectory, Refused, StorageError
from ..files.content import InMemory
from ..files.filters import Filter
from ..files.places import Place
from ..files.remove import Remover
from ..files.walk import Walker
from ..options import Option, boolean
from ..remotes.paths import parent
from ..remotes.protocol import ABSENT, Kind
from .failures import EXIT_NO_FILE, about_remote
from .file_options import CHANGE_OPTIONS, moment_ns
from .filing import Desk, make_parser, run

_LEAVE_ROOT = Option("leave-root", "false", "Keep the directory itself", boolean, flag=True)
_RMDIRS = Option("rmdirs", "false", "Also directories that are empty then, not the place itself", boolean, flag=True)
_TOUCH_OPTIONS = (
    Option("no-create", "false", "Leave alone what is not there", boolean, flag=True, short="C"),
    Option("timestamp", "", "The time to set, like 2026-01-31T12:00:00 (UTC); default: now", str, "TIME", short="t"),
    Option("localtime", "false", "--timestamp is in this machine's zone", boolean, flag=True),
    Option("recursive", "false", "All files in the directory", boolean, flag=True, short="R"),
)


def mkdir(argv: list[str]) -> int:
    """Make a directory, and those it lies in."""

    async def body(desk: Desk) -> None:
        place = await desk.place(desk.args.directory)
        if place.is_file:
            raise Refused(f"{place.label}: a file is there, and cannot become a directory")
        if desk.dry_run:
            desk.tally.skipped(place.label, "make directory")
        elif place.entry is None:
            await place.ensure("")

    return run(make_parser("mkdir", "Make a directory.", directory="the directory"), argv, body, CHANGE_OPTIONS)


def rmdir(argv: list[str]) -> int:
    """Remove an empty directory."""

    async def body(desk: Desk) -> None:
        place = await _directory_from_above(desk, desk.args.directory)
        if desk.dry_run:
            desk.tally.skipped(place.label, "remove directory")
        else:
            await place.remote.rmdir(place.prefix)

    return run(make_parser("rmdir", "Remove an empty directory.", directory="which"), argv, body, CHANGE_OPTIONS)


def rmdirs(argv: list[str]) -> int:
    """Remove all empty directories below a place, and the place itself."""

    async def body(desk: Desk) -> None:
        place = await _directory_from_above(desk, desk.args.directory)
        await _remover(desk, place).empty_directories(root=not desk.values["leave-root"])

    return run(make_parser("rmdirs", "Remove empty directories below a directory, and it too if it is empty then.",
                           directory="the directory"), argv, body, CHANGE_OPTIONS, (_LEAVE_ROOT,))  # fmt: skip


def delete(argv: list[str]) -> int:
    """Delete files; directories stay."""

    async def body(desk: Desk) -> None:
        place = await desk.directory(desk.args.remote)
        remover = _remover(desk, place)
        await remover.files()
        if desk.values["rmdirs"] and place.is_directory:
            await remover.empty_directories(root=False)

    return run(make_parser("delete", "Delete the files that the options choose.", remote="where"), argv, body,
               CHANGE_OPTIONS, (_RMDIRS,))  # fmt: skip


def deletefile(argv: list[str]) -> int:
    """Delete one file, whatever the filter says."""

    async def body(desk: Desk) -> int | None:
        place = await desk.place(desk.args.file, prefer_file=True)
        if not place.is_file:
            desk.tally.say(f"{place.label}: is a directory or doesn't exist: object not found")
            return EXIT_NO_FILE
        if desk.dry_run:
            desk.tally.skipped(place.label, "delete")
        else:
            await place.remote.remove(place.prefix)
        return None

    return run(make_parser("deletefile", "Delete one file.", file="the file"), argv, body, CHANGE_OPTIONS)


def purge(argv: list[str]) -> int:
    """Delete a directory with everything in it."""

    async def body(desk: Desk) -> None:
        place = await _directory_from_above(desk, desk.args.directory)
        walker = Walker(desk.tally, Filter(), desk.number("checkers"), links=True)
        remover = Remover(place, walker, desk.tally, dry_run=desk.dry_run)
        await remover.files()
        if desk.tally.errors:
            desk.tally.say("directories are kept: something could not be deleted")
        else:
            await remover.empty_directories(root=True)

    return run(make_parser("purge", "Delete a directory and everything in it. Filters have no effect.",
                           directory="the directory"), argv, body, CHANGE_OPTIONS)  # fmt: skip


def _remover(desk: Desk, place: Place) -> Remover:
    return Remover(place, desk.walker(links=True), desk.tally, dry_run=desk.dry_run)


async def _directory_from_above(desk: Desk, words: str) -> Place:
    """A directory on the remote that holds it, so that it can itself be removed."""
    place = await desk.place(words, prefer_file=True)
    if place.entry is None:
        desk.no_directory(words)
    if place.is_file:
        problem = NotDirectory(place.prefix)
        about_remote(problem, place.label)
        raise problem
    return place


def touch(argv: list[str]) -> int:
    """Set a file's time, making the file."""

    async def body(desk: Desk) -> int | None:
        place = await desk.place(desk.args.file, prefer_file=not desk.values["recursive"])
        when = _when(desk)
        if place.is_directory:
            if not desk.values["recursive"]:
                return await _touch_directory(desk, place, when)
            async with desk.walker().walk(place) as directories:
                async for listed in directories:
                    for path, entry in listed.items():
                        if entry.kind is Kind.FILE:
                            await _set(desk, place, path, when)
            return None
        if place.is_file:
            await _set(desk, place, "", when)
        elif str(desk.args.file).endswith("/"):
            desk.no_directory(desk.args.file)
        elif desk.dry_run:
            desk.tally.skipped(place.label, "touch")
        elif not desk.values["no-create"]:
            if parent(place.prefix):
                await replace(place, prefix="").ensure(parent(place.prefix))
            await place.remote.put(place.prefix, InMemory(b""), expect=ABSENT, mtime_ns=when)
        return None

    return run(make_parser("touch", "Set a file's time; make it, empty, if it is not there.", file="the file"), argv,
               body, CHANGE_OPTIONS, _TOUCH_OPTIONS)  # fmt: skip


async def _touch_directory(desk: Desk, place: Place, when: int) -> int | None:
    """The files in it, as rclone does; not those further down."""
    walker = replace(desk.walker(), recurse=False)
    async with walker.walk(place) as directories:
        async for listed in directories:
            for path, entry in listed.items():
                if entry.kind is Kind.FILE:
                    await _set(desk, place, path, when)
    return None


def _when(desk: Desk) -> int:
    text = str(desk.values["timestamp"])
    if not text:
        return time.time_ns()
    if text[:1].isdigit() and len(text) == 6:
        text = f"20{text[:2]}-{text[2:4]}-{text[4:]}"
    if "T" not in text:
        text += "T00:00:00"
    zoned = text.endswith("Z") or "+" in text
    found = moment_ns(text if zoned or desk.values["localtime"] else text + "Z")
    assert found is not None
    return found


async def _set(desk: Desk, place: Place, path: str, when: int) -> None:
    if desk.dry_run:
        desk.tally.skipped(path or place.label, "touch")
        return
    try:
        await place.remote.set_mtime(place.path(path), when)
    except StorageError as problem:
        desk.tally.failed(path or place.label, problem)

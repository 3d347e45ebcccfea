"""``portside copy``, ``copyto``, ``move``, ``moveto`` and ``sync``: from place to place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from ..errors import Exists, Refused, StorageError
from ..files.compare import By, Comparison
from ..files.places import Place
from ..files.sync import Act, Enough, Fatal, Sync, SyncSettings
from ..files.transfer import Transfer
from ..options import Option
from ..remotes.paths import basename, is_below, parent
from ..remotes.protocol import RenameScope
from .failures import EXIT_DURATION, EXIT_FATAL, EXIT_LIMIT, EXIT_NOTHING, about_remote
from .file_options import COPY_OPTIONS, MOVE_OPTIONS, SYNC_OPTIONS
from .filing import Desk, make_parser, run
from .transfers import Display, summary

_NOT_GIVEN = {"max-delete": None, "delete-excluded": False, "ignore-errors": False, "delete-empty-src-dirs": False}


def copy(argv: list[str]) -> int:
    """Copy a tree, or a file, into a directory."""
    return _run("copy", "Copy what is new or different; nothing is deleted at the destination.", Act.COPY, argv)


def copyto(argv: list[str]) -> int:
    """Copy to exactly this name."""
    return _run("copyto", "Like copy, but a file becomes exactly the destination.", Act.COPY, argv, exactly=True)


def move(argv: list[str]) -> int:
    """Move a tree, or a file, into a directory."""
    return _run("move", "Move: by renaming where the storage can, else each file is copied, checked and then removed.",
                Act.MOVE, argv, MOVE_OPTIONS)  # fmt: skip


def moveto(argv: list[str]) -> int:
    """Move to exactly this name."""
    return _run("moveto", "Like move, but a file becomes exactly the destination.", Act.MOVE, argv, MOVE_OPTIONS,
                exactly=True)  # fmt: skip


def sync(argv: list[str]) -> int:
    """Make the destination like the source."""
    return _run("sync", "Make the destination like the source. This DELETES there what the source does not have, "
                "unless\nanything could not be listed or copied; try it with --dry-run first.", Act.SYNC, argv,
                SYNC_OPTIONS)  # fmt: skip


def _run(
    name: str, about: str, act: Act, argv: list[str], more: tuple[Option, ...] = (), *, exactly: bool = False
) -> int:
    async def body(desk: Desk) -> int | None:
        return await _copy(desk, act, exactly=exactly)

    parser = make_parser(name, about, source="a directory or a file", destination="where to")
    return run(parser, argv, body, COPY_OPTIONS, more)


async def _copy(desk: Desk, act: Act, *, exactly: bool) -> int | None:
    _check_options(desk)
    source, target = await desk.two(desk.args.source, desk.args.destination)
    transfer = Transfer(source, target, desk.tally, desk.dry_run, desk.number("retries"),
                        verify=not desk.values["ignore-checksum"])  # fmt: skip
    settings = await _settings(desk, source, target)
    code: int | None = None
    async with _shown(desk):
        duration = desk.values["max-duration"]
        with trio.move_on_after(duration if isinstance(duration, float) and duration else float("inf")) as limit:
            try:
                if act is Act.MOVE and source.remote is target.remote and source.prefix == target.prefix:
                    desk.tally.say("nothing to do: source and destination are the same")
                else:
                    _check_overlap(source, target, act)
                    await _act(desk, act, transfer, settings, exactly=exactly)
            except Enough as enough:
                desk.tally.say(str(enough))
                code = EXIT_LIMIT
            except Fatal as fatal:
                desk.tally.say(str(fatal))
                code = EXIT_FATAL
            except StorageError as problem:
                about_remote(problem, source.label)
                raise
        if limit.cancelled_caught:
            desk.tally.say("max transfer duration reached as set by --max-duration")
            code = EXIT_DURATION
    if not desk.values["progress"] and not desk.values["stats"]:
        desk.tally.note(summary(desk.tally))
    moved = desk.tally.copied + desk.tally.renamed
    if code is None and not desk.tally.errors and desk.values["error-on-no-transfer"] and not moved:
        code = EXIT_NOTHING
    return code


async def _act(desk: Desk, act: Act, transfer: Transfer, settings: SyncSettings, *, exactly: bool) -> None:
    source = transfer.source
    if source.is_file:
        await _one_file(desk, act, transfer, settings, exactly=exactly)
        return
    if transfer.target.is_file:
        raise Exists(transfer.target.prefix, "a file is there, and a directory is needed")
    if act is Act.MOVE and await _moved_whole(desk, transfer):
        return
    window = desk.values["modify-window"]
    comparison = Comparison(
        source, transfer.target, _by(desk), ignore_size=bool(desk.values["ignore-size"]),
        window=round(window * 1e9) if isinstance(window, float) else 1,
    )  # fmt: skip
    await Sync(act, transfer, comparison, settings).run()


async def _one_file(desk: Desk, act: Act, transfer: Transfer, settings: SyncSettings, *, exactly: bool) -> None:
    """The source is a file: the same decisions, for it alone."""
    source, target = transfer.source, transfer.target
    entry = source.entry
    assert entry is not None
    name = basename(source.prefix)
    if not desk.filter.takes(name, entry):
        return
    if exactly and target.is_directory:
        raise Exists(target.prefix, "a directory is there, and a file is needed")
    if not exactly and target.is_file:
        raise Exists(target.prefix, "a file is there, and a directory is needed; copyto and moveto replace files")
    goal = target.beside() if exactly else target
    if exactly and target.entry is None:
        goal.entry = None
    to = basename(target.prefix) if exactly else name
    if exactly and not to:
        raise Refused(f"{target.label}: the name of a file is needed")
    alone = replace(transfer, source=source.beside(), target=goal)
    window = desk.values["modify-window"]
    comparison = Comparison(alone.source, goal, _by(desk), ignore_size=bool(desk.values["ignore-size"]),
                            window=round(window * 1e9) if isinstance(window, float) else 1)  # fmt: skip
    await Sync(act, alone, comparison, settings).one(name, entry, to)


async def _moved_whole(desk: Desk, transfer: Transfer) -> bool:
    """A whole directory renamed by the storage, where nothing of it is to be left out or merged."""
    source, target = transfer.source, transfer.target
    can = transfer.together and source.remote.caps.rename is RenameScope.TREE and source.remote.caps.real_directories
    if not can or target.entry is not None or desk.filter.active or desk.filter.settings.max_depth is not None:
        return False
    if not source.prefix or is_below(target.prefix, source.prefix):
        return False
    if desk.dry_run:
        desk.tally.skipped(target.label, "move directory")
        return True
    if parent(target.prefix):
        await replace(target, prefix="").ensure(parent(target.prefix))
    try:
        await source.remote.rename(source.prefix, target.prefix)
    except StorageError as problem:
        desk.tally.note(f"{source.label}: moved file by file: {problem}")
        return False
    desk.tally.renamed += 1
    desk.tally.note(f"{target.label}: Moved (server-side)")
    return True


def _by(desk: Desk) -> By:
    if desk.values["ignore-times"]:
        return By.NOTHING
    if desk.values["size-only"]:
        return By.SIZE
    if desk.values["checksum"]:
        return By.HASH
    return By.TIME


async def _settings(desk: Desk, source: Place, target: Place) -> SyncSettings:
    v = {**_NOT_GIVEN, **desk.values}
    backup = None
    if v["backup-dir"]:
        backup = await _backup_place(desk, source, target)
    limit, most = v["max-delete"], v["max-transfer"]
    return SyncSettings(
        filter=desk.filter, transfers=desk.number("transfers"), checkers=desk.number("checkers"), dry_run=desk.dry_run,
        update=bool(v["update"]), ignore_existing=bool(v["ignore-existing"]),
        immutable=bool(v["immutable"]), backup=backup, suffix=str(v["suffix"]),
        suffix_keeps_extension=bool(v["suffix-keep-extension"]), max_delete=limit if isinstance(limit, int) else None,
        max_transfer=most if isinstance(most, int) else None, delete_excluded=bool(v["delete-excluded"]),
        ignore_errors=bool(v["ignore-errors"]), create_empty=bool(v["create-empty-src-dirs"]),
        delete_empty_sources=bool(v["delete-empty-src-dirs"]), normalize=not v["no-unicode-normalization"],
        set_times=not v["no-update-modtime"],
        links=bool(v["links"]) and source.remote.caps.symlinks and target.remote.caps.symlinks,
    )  # fmt: skip


async def _backup_place(desk: Desk, source: Place, target: Place) -> Place:
    words = str(desk.values["backup-dir"])
    backup = await desk.places.beside(target, desk.args.destination, words)
    if backup is None:
        raise Refused(
            f"--backup-dir {desk.config.label(words)!r} must be on the storage of {target.label!r}, where files can be "
            "renamed into it"
        )
    if backup.is_file:
        raise Refused(f"--backup-dir {backup.label!r} is a file")
    if is_below(backup.prefix, target.prefix) and not desk.filter.active:
        raise Refused(
            f"--backup-dir {backup.label!r} lies in the destination; exclude it with --exclude, or move it out"
        )
    if backup.remote is source.remote and is_below(backup.prefix, source.prefix):
        raise Refused(f"--backup-dir {backup.label!r} lies in the source")
    return backup


def _check_options(desk: Desk) -> None:
    v = desk.values
    exclusive = [name for name in ("size-only", "checksum", "ignore-times") if v[name]]
    if len(exclusive) > 1:
        raise Refused(f"--{exclusive[0]} and --{exclusive[1]} contradict each other; give one")
    if v["ignore-size"] and v["size-only"]:
        raise Refused("--ignore-size and --size-only contradict each other; give one")
    if v["update"] and v["ignore-existing"]:
        raise Refused("--update and --ignore-existing contradict each other; give one")
    if v["suffix"] and "/" in str(v["suffix"]):
        raise Refused(f"--suffix {v['suffix']!r} cannot have a slash in it")


def _check_overlap(source: Place, target: Place, act: Act) -> None:
    if source.remote is not target.remote or act is Act.COPY or source.is_file:
        return
    if is_below(source.prefix, target.prefix) or is_below(target.prefix, source.prefix):
        raise Fatal(f"{source.label!r} and {target.label!r} overlap; {act.value} would destroy what it reads")


@asynccontextmanager
async def _shown(desk: Desk) -> AsyncIterator[None]:
    """Progress, while the block runs."""
    every = desk.values["stats"]
    verbose = bool(desk.args.verbose) and isinstance(every, float) and every > 0
    display = Display(desk.tally, progress=bool(desk.values["progress"]),
                      stats=every if verbose and isinstance(every, float) else None)  # fmt: skip
    if not display.wanted:
        yield
        return
    problem: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(display.run)
        try:
            yield
        except Exception as error:  # a nursery would wrap it in a group
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem

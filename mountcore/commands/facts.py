"""``portside size``, ``about`` and ``link``: facts about a place."""

from __future__ import annotations

import json

from ..errors import NotFound, StorageError
from ..files.formats import iec, short_count
from ..options import Option, boolean
from ..quantity import parse_duration
from ..remotes.paths import basename
from ..remotes.protocol import Kind
from .failures import about_remote
from .filing import Desk, make_parser, run

_JSON = Option("json", "false", "As JSON", boolean, flag=True)
_FULL = Option("full", "false", "Bytes, not rounded", boolean, flag=True)
_EXPIRE = Option("expire", "off", "For this long", parse_duration, "DURATION")


def size(argv: list[str]) -> int:
    """Count files and their bytes."""

    async def body(desk: Desk) -> None:
        place = await desk.directory(desk.args.remote)
        files = total = 0
        async with desk.walker().walk(place) as directories:
            async for listed in directories:
                for entry in listed.entries:
                    if entry.kind is not Kind.DIRECTORY:
                        files += 1
                        total += entry.size
        if desk.values["json"]:
            print(json.dumps({"count": files, "bytes": total, "sizeless": 0}, separators=(",", ":")))
            return
        exact = f" ({files})" if files >= 1000 else ""
        print(f"Total objects: {short_count(files)}{exact}")
        print(f"Total size: {iec(total)} ({total} Byte)")

    return run(make_parser("size", "Count files and bytes.", remote="where"), argv, body, (_JSON,))


def about(argv: list[str]) -> int:
    """Show how much room the storage has."""

    async def body(desk: Desk) -> None:
        place = await desk.directory(desk.args.remote)
        try:
            usage = await place.remote.usage()
        except StorageError as problem:
            about_remote(problem, place.label)
            raise
        facts = {"total": usage.total, "used": usage.used, "free": usage.free}
        known = {name: value for name, value in facts.items() if value is not None}
        if desk.values["json"]:
            print(json.dumps(known, indent="\t"))
            return
        for name, value in known.items():
            print(f"{name.capitalize() + ':':<8} {value if desk.values['full'] else iec(value)}")

    return run(make_parser("about", "Show the room at the storage.", remote="where"), argv, body, (_JSON, _FULL))


def link(argv: list[str]) -> int:
    """Print a public link."""

    async def body(desk: Desk) -> None:
        place = await desk.place(desk.args.remote, prefer_file=True)
        if place.entry is None:
            raise NotFound(basename(place.prefix))
        lifetime = desk.values["expire"]
        try:
            print(await place.remote.public_link(place.prefix, lifetime if isinstance(lifetime, float) else None))
        except StorageError as problem:
            about_remote(problem, place.label)
            raise

    return run(make_parser("link", "Print a link that needs no login.", remote="a file"), argv, body, (_EXPIRE,))

"""``portside uploads PLACE``: what is still to be uploaded, and a say in when, or whether, it is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from ..control import is_server, real_path
from ..errors import Refused
from ..options import Option, boolean, parse_values
from .arguments import Parser, given
from .logs import printable, say
from .status import PLACE_HELP, answer_of, lines_of_uploads

ACTIONS = {"now": "uploading", "hold": "held", "release": "released", "discard": "discarded"}
OPTIONS: tuple[Option, ...] = (
    Option("json", "false", "Print one JSON object for programs to read", boolean, flag=True),
    Option("now", "", "Upload this without waiting", str, "PATH"),
    Option("hold", "", "Do not upload this until it is released, or the mount ends", str, "PATH"),
    Option("release", "", "Upload this after all", str, "PATH"),
    Option("discard", "", "Give up what was changed here; the remote's version shows again", str, "PATH"),
    Option("yes", "false", "Do not ask before discarding", boolean, flag=True),
)  # fmt: skip


def run(argv: list[str]) -> int:
    """List the uploads, or change one."""
    parser = Parser(
        "uploads",
        "Show what is still to be uploaded; upload it now, hold it, or give it up. A PATH is a file, or a directory"
        " for all below it, as seen in the mount or on the server, or relative to that.",
    )
    parser.add_argument("mountpoint", metavar="PLACE", help=PLACE_HELP)
    parser.add_table("options", OPTIONS)
    args = parser.parse(argv)
    texts = given(args, OPTIONS)
    values = parse_values(OPTIONS, texts)
    asked = [action for action in ACTIONS if action in texts]
    if len(asked) > 1:
        raise Refused(f"--{asked[0]} and --{asked[1]} at once make no sense; give one of them")
    if asked:
        path = relative(args.mountpoint, values[asked[0]])
        if asked[0] == "discard" and not values["yes"]:
            confirm(args.mountpoint, path)
        changed = answer_of(args.mountpoint, {"do": "upload", "what": asked[0], "path": path})
        if values["json"]:
            print(json.dumps({ACTIONS[asked[0]]: changed}))
        else:
            for each in changed:
                print(printable(f"{ACTIONS[asked[0]]}: {each}"))
        return 0
    uploads = uploads_of(args.mountpoint)
    print(json.dumps({"uploads": uploads}) if values["json"] else "\n".join(map(printable, lines_of_uploads(uploads))))
    return 0


def uploads_of(mountpoint: str) -> list[Mapping[str, Any]]:
    """What waits, of all storages of the place."""
    status = answer_of(mountpoint, {"do": "status"})
    return [upload for each in status.get("storages", [status]) for upload in each["uploads"]]


def relative(mountpoint: str, path: str) -> str:
    """A path below the mount, or on the server, as the remote knows it; "" for all of it."""
    if not path:
        raise Refused("which file? Give its path, as seen in the mount or relative to it")
    if is_server(mountpoint):
        path = path.lstrip("/") or "."
    elif os.path.isabs(path):
        for base in (os.path.abspath(mountpoint), real_path(mountpoint)):
            if os.path.commonpath([base, path]) == base:
                path = os.path.relpath(path, base)
                break
        else:
            raise Refused(f"{path} is not below {mountpoint}")
    path = os.path.normpath(path)
    if path.startswith("../") or path == "..":
        raise Refused(f"{path} is not below {mountpoint}")
    return "" if path == "." else path


def confirm(mountpoint: str, path: str) -> None:
    """Ask; Refused without a yes."""
    uploads = uploads_of(mountpoint)
    names = [u["path"] for u in uploads if path in ("", u["path"]) or u["path"].startswith(path + "/")]
    if not names:
        raise Refused(f"{mountpoint}: {path or 'the mount'}: nothing of it is to be uploaded")
    if not sys.stdin.isatty():
        raise Refused(f"what was changed in {names[0]} would be gone; say --yes if that is meant")
    for name in names:
        say(printable(f"  {name}"))
    say(f"What was changed here in {len(names)} file{'s' * (len(names) != 1)} is gone then. Type yes to discard it:")
    if sys.stdin.readline().strip().lower() != "yes":
        raise Refused("nothing was discarded")

"""``portside umount MOUNTPOINT``: uploads what is left, then unmounts; by asking the process that serves the mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from ..control import ask, mounted_type, real_path
from ..errors import Refused
from ..options import Option, boolean, parse_values
from .arguments import Parser, given
from .failures import EXIT_TRY_AGAIN
from .logs import say
from .progress import Pending, Progress

OPTIONS: tuple[Option, ...] = (
    Option("force", "false", "Unmount although something could not be uploaded; it is kept for the next mount",
           boolean, flag=True),
    Option("lazy", "false", "Unmount although programs still use it; they lose it when they let go",
           boolean, flag=True),
    Option("quiet", "false", "Show no progress", boolean, flag=True),
)  # fmt: skip


def run(argv: list[str]) -> int:
    """Unmount; 0 when everything is stored and nothing is mounted there any more."""
    parser = Parser("umount", "Upload what is still to be uploaded, showing how far it is, then unmount.")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="where the remote is mounted")
    parser.add_table("options", OPTIONS)
    args = parser.parse(argv)
    values = parse_values(OPTIONS, given(args, OPTIONS))
    real = real_path(args.mountpoint)
    kind = mounted_type(real)
    if kind is None:
        raise Refused(f"{args.mountpoint}: nothing is mounted there")
    if not kind.startswith("fuse"):
        raise Refused(f"{args.mountpoint}: what is mounted there is of type {kind}, not portside's; use umount")
    try:
        return _by_asking(args.mountpoint, real, values)
    except FileNotFoundError:
        return _without_process(args.mountpoint, real, kind)


def _by_asking(shown: str, real: str, values: Mapping[str, object]) -> int:
    request = {"do": "unmount", "force": values["force"], "lazy": values["lazy"]}
    with Progress(quiet=bool(values["quiet"])) as progress:
        for message in ask(real, request):
            if "progress" in message:
                progress.update(Pending(**message["progress"]))
            elif "error" in message:
                return _refused(shown, message)
            else:
                left = message["done"]["left"]
    if left:
        _list(left)
        return EXIT_TRY_AGAIN
    return 0


def _refused(shown: str, message: Mapping[str, Any]) -> int:
    if message.get("left"):
        _list(message["left"])
        say(f"{shown}: still mounted; portside umount --force unmounts it and keeps them for the next mount")
        return EXIT_TRY_AGAIN
    if message.get("busy"):
        raise Refused(
            f"{shown}: in use, so still mounted (everything is stored); end the programs that use it, which "
            f"'fuser -vm {shown}' lists, or use --lazy"
        )
    raise Refused(f"{shown}: {message['error']}")


def _list(left: list[dict[str, str]]) -> None:
    say(f"{len(left)} files are not stored yet; they are kept, and uploaded when this remote is used again:")
    for upload in left:
        say(f"  {upload['path']}{': ' + upload['error'] if upload['error'] else ''}")


def _without_process(shown: str, real: str, kind: str) -> int:
    """Nobody answers for this mount: clear it if its process is gone."""
    if kind not in ("fuse.portside", "fuse"):
        raise Refused(f"{shown}: what is mounted there is of type {kind}, not portside's; use fusermount3 -u or umount")
    try:
        os.statvfs(real)  # always asks the file system; what stat(2) says may come from the kernel's cache
    except OSError:  # ENOTCONN: the process that served it is gone
        result = subprocess.run(["fusermount3", "-u", "-z", "--", real], capture_output=True, text=True, check=False)
        if result.returncode:
            raise Refused(f"{shown}: its process is gone, and {' '.join(result.stderr.split())}") from None
        say(f"{shown}: the process that served it had ended; unmounted. What it had not uploaded is kept for next time")
        return 0
    raise Refused(
        f"{shown}: is mounted, but its process does not answer here (another user's, or another XDG_RUNTIME_DIR); "
        "ask as the user who mounted it, or use fusermount3 -u: the process then uploads what is left and ends"
    )

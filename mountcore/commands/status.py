"""``portside status MOUNTPOINT``: what a mount is doing, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..control import ask, mounted_type, real_path
from ..errors import Refused
from ..options import Option, boolean, parse_values
from ..quantity import format_size
from .arguments import Parser, given
from .logs import printable

OPTIONS: tuple[Option, ...] = (
    Option("json", "false", "Print one JSON object for programs to read", boolean, flag=True),
)  # fmt: skip


def run(argv: list[str]) -> int:
    """Ask the process that serves the mount, and print."""
    parser = Parser("status", "Show what a mount is doing and what is still to be uploaded.")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="where the remote is mounted")
    parser.add_table("options", OPTIONS)
    args = parser.parse(argv)
    real = real_path(args.mountpoint)
    try:
        message = next(ask(real, {"do": "status"}))
    except FileNotFoundError:
        kind = mounted_type(real)
        what = "nothing is mounted there" if kind is None else f"no portside process of yours serves it (type {kind})"
        raise Refused(f"{args.mountpoint}: {what}") from None
    if "error" in message:
        raise Refused(f"{args.mountpoint}: {message['error']}")
    status = message["done"]
    print(
        json.dumps(status)
        if parse_values(OPTIONS, given(args, OPTIONS))["json"]
        else "\n".join(map(printable, lines_of(status)))
    )
    return 0


def lines_of(s: Mapping[str, Any]) -> list[str]:
    """A status for people."""
    reads = s["hits"] + s["misses"]
    lines = [
        f"{s['remote']} at {s['mountpoint']}, process {s['pid']}",
        f"cache:      {format_size(s['cached_bytes'])}, {s['open_files']} files open"
        + (f", {100 * s['hits'] // reads} % of {reads} reads answered from it" if reads else ""),
        f"downloaded: {format_size(s['downloaded_bytes'])}",
        f"uploaded:   {format_size(s['uploaded_bytes'])} in {s['uploaded_files']} files",
    ]
    if not s["uploads"]:
        return [*lines, "to upload:  nothing, everything is stored"]
    lines.append(
        f"to upload:  {len(s['uploads'])} files, {format_size(sum(u['size'] - u['sent'] for u in s['uploads']))}"
    )
    for upload in s["uploads"]:
        percent = f" {100 * upload['sent'] // upload['size']} %" if upload["sent"] and upload["size"] else ""
        trouble = f" (try {upload['tries']}: {upload['error']})" if upload["error"] else ""
        lines.append(f"  {upload['state']}{percent}  {upload['path']}{trouble}")
    return lines

"""``portside status PLACE``: what a mount or an FTP server is doing, for people or as JSON.

The JSON is one object: ``pid``, ``remote``, ``mountpoint`` (of a server its address), counters, and the lists
``uploads`` and ``downloads``. Of a server whose users bring their own storage (``--auth-proxy``) all but the first
three are in ``storages``, a list of such objects.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from ..accounting import VfsSnapshot
from ..control import ask, is_server, mounted_type, names_of
from ..errors import Refused
from ..options import Option, boolean, parse_values
from ..quantity import format_size
from .arguments import Parser, given
from .logs import printable

PLACE_HELP = "where the remote is mounted, or the address of an FTP server here, like ftp://localhost:2121"
OPTIONS: tuple[Option, ...] = (
    Option("json", "false", "Print one JSON object for programs to read", boolean, flag=True),
)  # fmt: skip


def run(argv: list[str]) -> int:
    """Ask the process that serves the mount, and print."""
    parser = Parser("status", "Show what a mount or an FTP server is doing and what is still to be uploaded.")
    parser.add_argument("mountpoint", metavar="PLACE", help=PLACE_HELP)
    parser.add_table("options", OPTIONS)
    args = parser.parse(argv)
    status = answer_of(args.mountpoint, {"do": "status"})
    print(
        json.dumps(status)
        if parse_values(OPTIONS, given(args, OPTIONS))["json"]
        else "\n".join(map(printable, lines_of(status)))
    )
    return 0


def answer_of(mountpoint: str, request: Mapping[str, Any]) -> Any:
    """What the process of a mount or server answers; Refused for what it cannot do, or where there is none."""
    names = names_of(mountpoint)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            message = next(ask(name, request))
            break
    else:
        raise Refused(f"{mountpoint}: {_why_nobody(mountpoint, names[0])}")
    if "error" in message:
        raise Refused(f"{mountpoint}: {message['error']}")
    return message["done"]


def _why_nobody(place: str, name: str) -> str:
    if is_server(place):
        return "no FTP server of yours listens there"
    kind = mounted_type(name)
    return "nothing is mounted there" if kind is None else f"no portside process of yours serves it (type {kind})"


def as_json(s: VfsSnapshot) -> dict[str, Any]:
    """A snapshot for programs to read."""
    return {
        "cached_bytes": s.cached_bytes, "cache_bound": s.cache_bound, "dirty_bytes": s.dirty_bytes,
        "open_files": s.open_files, "users": s.users, "hits": s.hits, "misses": s.misses, "errors": s.errors,
        "downloaded_bytes": s.fetched_bytes, "uploaded_bytes": s.uploaded_bytes, "uploaded_files": s.uploaded_files,
        "streams": s.streams, "streams_at_once": s.streams_at_once, "streams_per_file": s.streams_per_file,
        "bytes_ahead": s.bytes_ahead,
        "uploads": [
            {"path": u.path, "size": u.size, "sent": u.sent, "percent": u.percent, "speed": round(u.speed),
             "state": u.state.value, "tries": u.tries, "error": u.error}
            for u in s.uploads
        ],
        "downloads": [
            {"path": d.path, "size": d.size, "position": d.position, "percent": d.percent, "speed": round(d.speed),
             "ahead": d.ahead, "waiting": d.waiting}
            for d in s.downloads
        ],
    }  # fmt: skip


def lines_of(s: Mapping[str, Any]) -> list[str]:
    """A status for people."""
    if "storages" in s:
        lines = [f"{s['remote']} at {s['mountpoint']}, process {s['pid']}, {_count(len(s['storages']), 'storage')}"]
        for storage in s["storages"]:
            lines += lines_of({"mountpoint": s["mountpoint"], "pid": s["pid"], **storage})
        return lines
    reads = s["hits"] + s["misses"]
    bound = f" of {format_size(s['cache_bound'])}" if s["cache_bound"] is not None else ""
    lines = [
        f"{s['remote']} at {s['mountpoint']}, process {s['pid']}, {_count(s['users'], 'user')}",
        f"cache:      {format_size(s['cached_bytes'])}{bound}, {_count(s['open_files'], 'file')} open"
        + (f", {100 * s['hits'] // reads} % of {reads} reads answered from it" if reads else ""),
        f"downloaded: {format_size(s['downloaded_bytes'])}",
        f"uploaded:   {format_size(s['uploaded_bytes'])} in {_count(s['uploaded_files'], 'file')}",
    ]
    if s["errors"]:
        lines.append(f"errors:     {s['errors']} so far; those of uploads stand beside them")
    if s["downloads"]:
        lines.append(
            f"reading:    {s['streams']} of {s['streams_at_once']} streams, {format_size(s['bytes_ahead'])} ahead"
        )
    for d in s["downloads"]:
        pace = "waits for its reader" if d["waiting"] else f"{format_size(d['speed'])}/s"
        lines.append(f"  {d['percent']} %  {pace}  {d['path']}")
    return [*lines, *lines_of_uploads(s["uploads"])]


def lines_of_uploads(uploads: list[Mapping[str, Any]]) -> list[str]:
    """The queue for people."""
    if not uploads:
        return ["to upload:  nothing, everything is stored"]
    left = sum(u["size"] - min(u["sent"], u["size"]) for u in uploads)
    lines = [f"to upload:  {_count(len(uploads), 'file')}, {format_size(left)}"]
    for u in uploads:
        progress = f" {u['percent']} %, {format_size(u['speed'])}/s" if u["state"] == "uploading" else ""
        trouble = f" (try {u['tries']}: {u['error']})" if u["error"] else ""
        lines.append(f"  {u['state']}{progress}  {u['path']}{trouble}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"

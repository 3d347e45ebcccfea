"""``portside gateway FILE.toml``: several mounts and FTP servers in one process, over one shared core.

    [vfs]                        # for all, unless a table says otherwise
    vfs-write-back = "5s"

    [[mount]]
    remote = "photos:2024"
    mountpoint = "/mnt/photos"
    allow-other = true

    [[ftp]]
    remote = "photos:2024"
    addr = ":2121"

The other keys of a table are the options of ``portside mount`` and ``portside serve ftp``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from ..errors import Refused
from ..options import VFS_OPTIONS
from ..remotes.conf import Config
from .arguments import PROCESS_OPTIONS, Parser, front_end_options, process_values
from .logs import set_up
from .plan import FrontEnd, Plan, as_seconds, check_together, front_end, open_config

KINDS = ("mount", "ftp")
_VFS_NAMES = {option.name for option in VFS_OPTIONS}


def run(argv: list[str]) -> int:
    """Serve what a file says, in the foreground, until told to end."""
    parser = Parser(
        "gateway",
        "Run the mounts and FTP servers that a TOML file describes, in one process over one shared core: what is\n"
        "written through one is seen through the others at once.",
        'The file has tables [[mount]] (remote, mountpoint), [[ftp]] (remote), each with the options of\n"portside '
        'mount" and "portside serve ftp" as further keys, and [vfs] with options for all of them.',
    )
    parser.add_argument("file", metavar="FILE.toml", help="what to run")
    parser.add_table("process options", PROCESS_OPTIONS)
    args = parser.parse(argv)
    values = process_values(args)
    set_up(values, args.verbose)
    parts = GatewayFile(Path(args.file)).parts(open_config(values))
    from .process import run as serve  # after everything is checked: loading the core takes a while

    return serve(Plan(tuple(parts), as_seconds(values["drain-timeout"]), bool(values["quiet"])))


@final
class GatewayFile:
    """A gateway's TOML file. Every complaint names the file, and the line of the table or key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._lines = path.read_text(encoding="utf-8").splitlines()
            self._tables = tomllib.loads("\n".join(self._lines))
        except UnicodeDecodeError:
            raise Refused(f"{path}: not a text file in UTF-8") from None
        except OSError as problem:
            raise Refused(f"{path}: {problem.strerror}; a gateway's TOML file is needed") from None
        except tomllib.TOMLDecodeError as problem:
            match = re.search(r"line (\d+)", str(problem))
            raise Refused(f"{path}:{match[1] if match else len(self._lines)}: {problem}") from None

    def parts(self, config: Config) -> list[FrontEnd]:
        """What the file asks for, checked; remotes are opened, none is contacted."""
        for name in self._tables:
            if name not in (*KINDS, "vfs"):
                raise Refused(f"{self._place(name)}: unknown table {name!r}; known are [vfs], [[mount]] and [[ftp]]")
        common = self._texts(self._table(self._tables.get("vfs", {}), "vfs", 0), "vfs", 0)
        for key in common:
            if key not in _VFS_NAMES:
                raise Refused(f"{self._place('vfs', 0, key)}: {key!r} is not an option of the file system and cache")
        parts: list[FrontEnd] = []
        places: list[str] = []
        opened: dict[str, FrontEnd] = {}
        for kind in KINDS:
            tables = self._tables.get(kind, [])
            if not isinstance(tables, list):
                raise Refused(f"{self._place(kind)}: write [[{kind}]] with two brackets; there can be several")
            for index, raw in enumerate(tables):
                part = self._part(kind, index, self._table(raw, kind, index), common, config, opened)
                parts.append(part)
                places.append(self._place(kind, index))
        if not parts:
            raise Refused(f"{self._path}: has neither a [[mount]] nor an [[ftp]] table, so there is nothing to do")
        return check_together(parts, places)

    def _part(
        self, kind: str, index: int, table: Mapping[str, Any], common: Mapping[str, str], config: Config,
        opened: dict[str, FrontEnd],
    ) -> FrontEnd:  # fmt: skip
        texts = self._texts(table, kind, index)
        words, mountpoint = texts.pop("remote", None), texts.pop("mountpoint", "")
        place = self._place(kind, index)
        if kind == "mount" and (not words or not mountpoint):
            raise Refused(f"{place}: [[mount]] needs {'a remote' if not words else 'a mountpoint'}")
        if kind == "ftp" and not words and "auth-proxy" not in texts:
            raise Refused(f"{place}: [[ftp]] needs a remote, or an auth-proxy")
        if kind == "ftp" and mountpoint:
            raise Refused(f"{self._place(kind, index, 'mountpoint')}: [[ftp]] has no mountpoint; [[mount]] has")
        own_names = {option.name for option in front_end_options(kind)}
        for name in texts:
            if name not in own_names | _VFS_NAMES:
                near = difflib.get_close_matches(name, own_names | _VFS_NAMES, 1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise Refused(f"{self._place(kind, index, name)}: [[{kind}]] has no option {name!r}{hint}")
        own = {name: text for name, text in texts.items() if name in own_names}
        vfs = dict(common) | {name: text for name, text in texts.items() if name in _VFS_NAMES}
        try:
            part = front_end(kind, config, words, own, vfs, mountpoint)
        except Refused as problem:
            option = re.match(r"(?:unknown option )?--([\w-]+)", str(problem))
            where = self._place(kind, index, option[1] if option and option[1] in texts else "remote")
            raise Refused(f"{where}: {problem}") from None
        if words and words in opened:
            # the same words are the same storage, also where each opening would make a new one (:memory:)
            first = opened[words]
            return dataclasses.replace(part, remote=first.remote, configured=first.configured)
        if words:
            opened[words] = part
        return part

    def _table(self, raw: object, kind: str, index: int) -> Mapping[str, Any]:
        if not isinstance(raw, dict):
            raise Refused(f"{self._place(kind, index)}: {kind!r} must be a table")
        return raw

    def _texts(self, table: Mapping[str, Any], kind: str, index: int) -> dict[str, str]:
        """Option texts by name with dashes; TOML's own true, false and numbers are taken as if typed."""
        texts: dict[str, str] = {}
        for key, value in table.items():
            if isinstance(value, bool):
                text = "true" if value else "false"
            elif isinstance(value, (str, int, float)):
                text = str(value)
            else:
                raise Refused(f"{self._place(kind, index, key)}: {key!r} must be a text, a number, true or false")
            texts[key.replace("_", "-")] = text
        return texts

    def _place(self, kind: str, index: int = 0, key: str = "") -> str:
        """``file:line`` of a table or of a key in it."""
        head = re.compile(rf"\s*\[\[?\s*[\"']?{re.escape(kind)}[\"']?\s*\]\]?")
        starts = [number for number, line in enumerate(self._lines, 1) if head.match(line)]
        start = starts[min(index, len(starts) - 1)] if starts else 1
        if key:
            wanted = re.compile(rf"\s*[\"']?{re.escape(key).replace('-', '[-_]')}[\"']?\s*=".replace(r"\[-_]", "[-_]"))
            for number in range(start, len(self._lines)):
                if self._lines[number].lstrip().startswith("["):
                    break
                if wanted.match(self._lines[number]):
                    return f"{self._path}:{number + 1}"
        return f"{self._path}:{start}"

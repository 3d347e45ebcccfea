"""``portside tree``: a tree drawn with lines."""

from __future__ import annotations

import time
from pathlib import Path

from ..files.formats import mtime_of
from ..files.trees import Branch, add_up, count, draw, gather
from ..files.walk import Walker
from ..options import Option, boolean, integer
from ..remotes.protocol import Kind
from .file_options import several
from .filing import Desk, make_parser, run

HALF_A_YEAR = 182.5 * 86_400
OPTIONS = (
    Option("all", "false", "Also names that begin with a dot", boolean, flag=True, short="a"),
    Option("dirs-only", "false", "Only directories", boolean, flag=True, short="d"),
    Option("full-path", "false", "The path before each name", boolean, flag=True),
    Option("level", "0", "Only so many levels; 0: all", integer(0, 1 << 30), "N"),
    Option("noindent", "false", "No lines", boolean, flag=True),
    Option("noreport", "false", "No count at the end", boolean, flag=True),
    Option("quote", "false", "Names in double quotes", boolean, flag=True, short="Q"),
    Option("size", "false", "Sizes before the names", boolean, flag=True, short="s"),
    Option("modtime", "false", "Times before the names", boolean, flag=True, short="D"),
    Option("dirsfirst", "false", "Directories before files", boolean, flag=True),
    Option("sort-modtime", "false", "By time", boolean, flag=True, short="t"),
    Option("sort-reverse", "false", "The other way round", boolean, flag=True, short="r"),
    Option("output", "", "Write to this file", several, "FILE", short="o"),
)  # fmt: skip


def run_tree(argv: list[str]) -> int:
    """Draw the tree at a place."""

    async def body(desk: Desk) -> None:
        v = desk.values
        place = await desk.directory(desk.args.remote)
        root = await gather(Walker(desk.tally, desk.filter, desk.number("checkers")), place)
        _prune(root, hidden=not v["all"], directories_only=bool(v["dirs-only"]), levels=desk.number("level"))
        add_up(root)
        lines = [_label(desk, root, "/")]
        lines += draw(root, lambda branch, path: _label(desk, branch, path), lambda b: _key(desk, b),
                      reverse=bool(v["sort-reverse"]))  # fmt: skip
        if v["noindent"]:
            lines = [line.lstrip("│├└─ \u00a0") for line in lines]
        if not v["noreport"]:
            directories, files = count(root)
            lines += ["", f"{directories} director{'y' if directories == 1 else 'ies'}"]
            if not v["dirs-only"]:
                lines[-1] += f", {files} file{'' if files == 1 else 's'}"
        text = "\n".join(lines)
        outputs = v["output"]
        if isinstance(outputs, tuple) and outputs:
            Path(outputs[0]).write_text(text + "\n", errors="surrogateescape")  # noqa: ASYNC240
        else:
            print(text)

    return run(make_parser("tree", "Draw a tree.", remote="the remote, a directory on it"), argv, body, OPTIONS)


def _prune(root: Branch, *, hidden: bool, directories_only: bool, levels: int) -> None:
    stack = [(root, 1)]
    while stack:
        branch, level = stack.pop()
        if levels and level > levels:
            branch.below = []
        branch.below = [
            each
            for each in branch.below
            if not (hidden and each.entry.name.startswith("."))
            and not (directories_only and each.entry.kind is not Kind.DIRECTORY)
        ]
        stack += [(each, level + 1) for each in branch.below]


def _key(desk: Desk, branch: Branch) -> tuple[object, ...]:
    name = branch.entry.name.encode("utf-8", "surrogateescape")
    first = branch.entry.kind is not Kind.DIRECTORY if desk.values["dirsfirst"] else False
    return first, (mtime_of(branch.entry) if desk.values["sort-modtime"] else 0), name


def _label(desk: Desk, branch: Branch, path: str) -> str:
    v = desk.values
    facts = []
    if v["size"]:
        facts.append(f"{branch.size:11d}")
    if v["modtime"] and branch.entry.kind is not Kind.DIRECTORY:
        seconds = mtime_of(branch.entry) // 1_000_000_000
        recent = abs(time.time() - seconds) < HALF_A_YEAR
        facts.append(time.strftime("%b %d %H:%M" if recent else "%b %d  %Y", time.localtime(seconds)))
    name = path if path == "/" else (f"/{path}" if v["full-path"] else branch.entry.name)
    name = f'"{name}"' if v["quote"] else name
    return f"[{' '.join(facts)}]  {name}" if facts else name

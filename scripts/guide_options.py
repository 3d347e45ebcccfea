"""Rewrite the tables of options in docs/GUIDE.md from the tables that the program uses.

Run it after changing an option: python scripts/guide_options.py. A test checks that it was.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ftp_frontend.command import OPTIONS as FTP_OPTIONS  # noqa: E402
from fuse_frontend.command import OPTIONS as FUSE_OPTIONS  # noqa: E402
from mountcore.commands.arguments import PROCESS_OPTIONS  # noqa: E402
from mountcore.commands.file_options import (  # noqa: E402
    COMMON_OPTIONS,
    COPY_OPTIONS,
    FILTER_OPTIONS,
    MOVE_OPTIONS,
    SYNC_OPTIONS,
)
from mountcore.commands.mount import DAEMON_OPTIONS  # noqa: E402
from mountcore.commands.publish import PUBLISH_OPTIONS  # noqa: E402
from mountcore.options import VFS_OPTIONS, Option  # noqa: E402
from mountcore.remotes.registry import types  # noqa: E402

GUIDE = ROOT / "docs" / "GUIDE.md"
#: defaults that depend on who asks, in words
IN_WORDS = {
    "cache-dir": "`~/.cache/portside`", "uid": "your own", "gid": "your own", "umask": "your own",
}  # fmt: skip


def table(options: Iterable[Option]) -> str:
    """Options as a Markdown table."""
    rows = ["| option | default | |", "|---|---|---|"]
    for option in options:
        value = "" if option.flag else f" {option.metavar}"
        value += f"`, `-{option.short}" if option.short else ""
        default = IN_WORDS.get(option.name, f"`{option.default}`" if option.default else "")
        rows.append(f"| `--{option.name}{value}` | {default} | {_cell(option.help)} |")
    return "\n".join(rows)


def remote_table(kind: str) -> str:
    """A storage type's options as a Markdown table."""
    rows = ["| option | default | |", "|---|---|---|"]
    for option in types()[kind].options:
        marks = [word for word, given in (("needed", option.required), ("obscured", option.secret)) if given]
        text = _cell(option.help) + (f" ({', '.join(marks)})" if marks else "")
        rows.append(f"| `{option.name}` | {f'`{option.default}`' if option.default else ''} | {text} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def blocks() -> dict[str, str]:
    """Every generated block by its name."""
    return {
        "mount": table((*FUSE_OPTIONS, *DAEMON_OPTIONS)), "ftp": table(FTP_OPTIONS), "vfs": table(VFS_OPTIONS),
        "process": table(PROCESS_OPTIONS), "files filter": table(FILTER_OPTIONS), "files copy": table(COPY_OPTIONS),
        "files move": table(MOVE_OPTIONS), "files sync": table(SYNC_OPTIONS), "files common": table(COMMON_OPTIONS),
        "publish": table(PUBLISH_OPTIONS),
    } | {f"remote {kind.name}": remote_table(kind.name) for kind in types().values() if kind.options}  # fmt: skip


def rewritten(text: str) -> str:
    """The guide with its blocks as they should be."""
    for name, block in blocks().items():
        pattern = re.compile(rf"(<!-- options: {name} -->\n)(?:[^<].*?\n)?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{GUIDE} has no block '<!-- options: {name} --> … <!-- end -->'")
        text = pattern.sub(lambda match, block=block: match[1] + block + "\n" + match[2], text)
    return text


if __name__ == "__main__":
    GUIDE.write_text(rewritten(GUIDE.read_text()))

"""The command ``portside``: finds the subcommand, runs it, turns what goes wrong into one line and an exit code.

Composition root: front ends and storage adapters are named only as strings, in :mod:`.commands` and
:mod:`.remotes.facts`, and imported when used, so that help is quick and FTP runs where there is no libfuse.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys

from .commands.failures import EXIT_FAILED, EXIT_USAGE, UsageError, describe, exit_code
from .commands.logs import say
from .commands.table import COMMANDS, command
from .errors import Refused

#: names under which mount(8) and umount(8) run this program → function in commands.mount_helper
HELPERS = {
    "mount.portside": "mount", "mount.fuse.portside": "mount",
    "umount.portside": "umount", "umount.fuse.portside": "umount",
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command line; answers the exit code. Never a traceback for what a user or a storage did."""
    words = sys.argv[1:] if argv is None else argv
    name = os.path.basename(sys.argv[0]) if argv is None else ""
    try:
        if name in HELPERS:
            return _helper(HELPERS[name], words)
        return _dispatch(words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (Refused, OSError) as problem:
        say(describe(problem))
        return exit_code(problem)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else EXIT_USAGE
    if words[0] in ("--version", "-V"):
        words = ["version"]
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command {words[0]!r}; {hint}")
    return command(words[0])(words[1:])


def _helper(function: str, argv: list[str]) -> int:
    from .commands import mount_helper

    return mount_helper.mount(argv) if function == "mount" else mount_helper.umount(argv)


def usage() -> str:
    """What ``portside --help`` prints."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return f"""\
usage: portside COMMAND …

Mount remote storage as a file system and serve it over FTP, through one caching core.

commands:
{commands}

A remote is name:path (from portside.conf or rclone.conf), :type,option=value:path,
ftp://user:password@host/path, or a folder.

  portside mount photos:2024 /mnt/photos
  portside serve ftp photos: --addr :2121

portside COMMAND --help has the options of each."""


if __name__ == "__main__":
    sys.exit(main())

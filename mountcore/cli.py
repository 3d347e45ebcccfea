"""The command ``portside``: finds the subcommand, runs it, turns what goes wrong into one line and an exit code.

Composition root: front ends and storage adapters are named only as strings, in :mod:`.commands` and
:mod:`.remotes.facts`, and imported when used, so that help is quick and FTP runs where there is no libfuse.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from typing import Protocol, cast

from .commands.failures import EXIT_FAILED, EXIT_USAGE, UsageError, describe, exit_code
from .commands.logs import say
from .errors import Refused

#: subcommand → (module in mountcore.commands, and its function where that is not `run`; what it does)
COMMANDS: dict[str, tuple[str, str]] = {
    "mount": ("mount", "Mount a remote as a file system"),
    "umount": ("umount", "Upload what is still to be uploaded, then unmount"),
    "serve": ("serve", "Serve a remote over FTP"),
    "gateway": ("gateway", "Run several mounts and FTP servers over one shared core"),
    "status": ("status", "Show what a mount is doing and what is still to be uploaded"),
    "uploads": ("uploads", "Show what is still to be uploaded; hurry it, hold it or give it up"),
    "ls": ("listing:ls", "List files with their sizes"),
    "lsl": ("listing:lsl", "List files with their sizes and times"),
    "lsd": ("listing:lsd", "List directories"),
    "lsf": ("listing:lsf", "List names, for scripts"),
    "lsjson": ("listing:lsjson", "List as JSON, for programs"),
    "tree": ("tree:run_tree", "Draw a tree"),
    "cat": ("content:cat", "Print files"),
    "rcat": ("content:rcat", "Store standard input as a file"),
    "copy": ("copying:copy", "Copy what is new or different"),
    "copyto": ("copying:copyto", "Copy a file to exactly this name"),
    "move": ("copying:move", "Move a tree or a file"),
    "moveto": ("copying:moveto", "Move a file to exactly this name"),
    "sync": ("copying:sync", "Make the destination like the source, deleting what the source does not have"),
    "check": ("check:check", "Compare two trees"),
    "mkdir": ("changing:mkdir", "Make a directory"),
    "rmdir": ("changing:rmdir", "Remove an empty directory"),
    "rmdirs": ("changing:rmdirs", "Remove empty directories below a directory"),
    "delete": ("changing:delete", "Delete files; directories stay"),
    "deletefile": ("changing:deletefile", "Delete one file"),
    "purge": ("changing:purge", "Delete a directory and everything in it"),
    "touch": ("changing:touch", "Set a file's time, making the file"),
    "size": ("facts:size", "Count files and bytes"),
    "about": ("facts:about", "Show the room at the storage"),
    "link": ("facts:link", "Print a link that needs no login"),
    "hashsum": ("content:hashsum", "Print hashes of files"),
    "md5sum": ("content:md5sum", "Print MD5 hashes of files"),
    "sha1sum": ("content:sha1sum", "Print SHA-1 hashes of files"),
    "config": ("config", "Look at and change the configuration: wizard, create, update, show, delete …"),
    "obscure": ("obscure", "Obscure a password for a configuration file"),
    "install-helper": ("install_helper", "Let mount(8), fstab and systemd find portside"),
    "version": ("version", "Show the version"),
}


#: names under which mount(8) and umount(8) run this program → function in commands.mount_helper
HELPERS = {
    "mount.portside": "mount", "mount.fuse.portside": "mount",
    "umount.portside": "umount", "umount.fuse.portside": "umount",
}  # fmt: skip


class _Command(Protocol):
    def __call__(self, argv: list[str]) -> int: ...


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
    place, _, function = COMMANDS[words[0]][0].partition(":")
    module = importlib.import_module(f"{__package__}.commands.{place}")
    return cast(_Command, getattr(module, function or "run"))(words[1:])


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

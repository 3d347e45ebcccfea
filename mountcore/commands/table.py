"""The table of subcommands: which module does what. Each is imported when it is run."""

from __future__ import annotations

import importlib
from typing import Protocol, cast


class Command(Protocol):
    """Parses its own words and answers the exit code."""

    def __call__(self, argv: list[str]) -> int: ...


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
    "publish": ("publish:publish", "Publish a folder, as static site generators deploy"),
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
    "doctor": ("doctor:doctor", "Look for what would be in the way, and say what helps"),
    "config": ("config", "Look at and change the configuration: wizard, create, update, show, delete …"),
    "completion": ("completion", "Print a completion script for a shell"),
    "obscure": ("obscure", "Obscure a password for a configuration file"),
    "install-helper": ("install_helper", "Let mount(8), fstab and systemd find portside"),
    "version": ("version", "Show the version"),
}


def command(name: str) -> Command:
    """What runs a subcommand of `COMMANDS`."""
    place, _, function = COMMANDS[name][0].partition(":")
    return cast(Command, getattr(importlib.import_module(f"{__package__}.{place}"), function or "run"))

"""``portside mount REMOTE:PATH MOUNTPOINT``."""

from __future__ import annotations

import argparse
import os

from ..options import VFS_OPTIONS, Option, boolean, parse_values
from ..quantity import parse_duration
from . import daemon
from .arguments import PROCESS_OPTIONS, Parser, from_environment, front_end_options, given, process_values
from .logs import set_up
from .mount_words import mount_words
from .plan import Plan, as_seconds, front_end, open_config

#: what a mount takes that is about its process
DAEMON_OPTIONS: tuple[Option, ...] = (
    Option("daemon", "false", "Go on in the background once the mount answers", boolean, flag=True),
    Option("daemon-wait", "1m", "With --daemon: give up when the mount does not answer for this long; 0: do not wait",
           parse_duration, "DURATION"),
    Option("option", "", "Options as mount(8) has them: vfs_cache_mode=full,ro,noatime; also -o", str, "WORDS",
           many=True),
)  # fmt: skip


def run(argv: list[str]) -> int:
    """Mount until unmounted or told to end; in the foreground, unless --daemon."""
    options = front_end_options("mount")
    parser = Parser(
        "mount",
        "Mount a remote as a file system, until it is unmounted or gets SIGINT or SIGTERM. Ending uploads what is\n"
        "still to be uploaded, then unmounts. SIGHUP reads directories and the configuration anew, SIGUSR1 logs what\n"
        "it is doing.",
        "Every option can also be given in the environment: --dir-cache-time as PORTSIDE_DIR_CACHE_TIME.",
    )
    parser.add_argument("remote", metavar="REMOTE:PATH", help="what to mount")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument("-o", dest="option", action="append", metavar="WORDS", help="the same as --option")
    parser.add_table("mount options", options)
    parser.add_table("background", DAEMON_OPTIONS)
    parser.add_table("file system and cache options", VFS_OPTIONS)
    parser.add_table("process options", PROCESS_OPTIONS)
    known = (*options, *DAEMON_OPTIONS, *VFS_OPTIONS, *PROCESS_OPTIONS)
    args = parser.parse(argv)
    words = mount_words(",".join(args.option or ()), known)
    os.environ.update(words.environ)
    for name, text in words.texts.items():
        if vars(args).get(name) is None:
            setattr(args, name, text)
    args.verbose = max(args.verbose, words.verbose)
    values = process_values(args) | _daemon_values(args)
    background = daemon.go(as_seconds(values["daemon-wait"])) if values["daemon"] else None
    if isinstance(background, int):
        return background
    set_up(values, args.verbose, background=bool(values["daemon"]))
    mountpoint = os.path.abspath(args.mountpoint) if values["daemon"] else args.mountpoint
    part = front_end(
        "mount", open_config(values), args.remote, given(args, options), given(args, VFS_OPTIONS), mountpoint
    )
    from .process import run as serve  # after everything is checked: loading the core takes a while

    if values["daemon"]:
        os.chdir("/")
    return serve(
        Plan(
            (part,),
            as_seconds(values["drain-timeout"]),
            bool(values["quiet"]),
            background.ready if background else _nothing,
        )
    )


def _daemon_values(args: argparse.Namespace) -> dict[str, object]:
    return parse_values(DAEMON_OPTIONS, from_environment(DAEMON_OPTIONS) | given(args, DAEMON_OPTIONS))


def _nothing() -> None:
    """Nobody waits for the mount."""

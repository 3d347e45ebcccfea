"""``portside mount REMOTE:PATH MOUNTPOINT``."""

from __future__ import annotations

from ..options import VFS_OPTIONS
from .arguments import PROCESS_OPTIONS, Parser, front_end_options, given, process_values
from .logs import set_up
from .plan import Plan, as_seconds, front_end, open_config


def run(argv: list[str]) -> int:
    """Mount in the foreground until unmounted or told to end."""
    options = front_end_options("mount")
    parser = Parser(
        "mount",
        "Mount a remote as a file system, in the foreground, until it is unmounted or gets SIGINT or SIGTERM.\n"
        "Ending uploads what is still to be uploaded, then unmounts. SIGHUP reads directories anew.",
        "Every option can also be given in the environment: --dir-cache-time as PORTSIDE_DIR_CACHE_TIME.",
    )
    parser.add_argument("remote", metavar="REMOTE:PATH", help="what to mount")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_table("mount options", options)
    parser.add_table("file system and cache options", VFS_OPTIONS)
    parser.add_table("process options", PROCESS_OPTIONS)
    args = parser.parse(argv)
    values = process_values(args)
    set_up(str(values["log-level"]), args.verbose)
    part = front_end(
        "mount", open_config(values), args.remote, given(args, options), given(args, VFS_OPTIONS), args.mountpoint
    )
    from .process import run as serve  # after everything is checked: loading the core takes a while

    return serve(Plan((part,), as_seconds(values["drain-timeout"]), bool(values["quiet"])))

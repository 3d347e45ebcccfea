"""``portside serve ftp [REMOTE:PATH]``."""

from __future__ import annotations

from ..errors import Refused
from ..options import VFS_OPTIONS
from .arguments import PROCESS_OPTIONS, Parser, front_end_options, given, process_values
from .failures import UsageError
from .logs import set_up
from .plan import Plan, as_seconds, front_end, open_config

USAGE = """\
usage: portside serve ftp [REMOTE:PATH] [OPTIONS]

Serve a remote over a protocol: ftp is the one there is. See: portside serve ftp --help"""


def run(argv: list[str]) -> int:
    """Serve in the foreground until told to end."""
    if not argv or argv[0] in ("-h", "--help"):
        if not argv:
            raise UsageError("what to serve over is missing, like: portside serve ftp photos: --addr :2121")
        print(USAGE)
        return 0
    if argv[0] != "ftp":
        raise UsageError(f"cannot serve {argv[0]!r}; ftp is the protocol there is")
    options = front_end_options("ftp")
    parser = Parser(
        "serve ftp",
        "Serve a remote over FTP, in the foreground, until SIGINT or SIGTERM. Ending uploads what is still to be\n"
        "uploaded. SIGHUP reads directories anew.",
        "Every option can also be given in the environment, and a password is better there, where the list of\n"
        "processes does not show it: --pass as PORTSIDE_PASS.",
    )
    parser.add_argument("remote", metavar="REMOTE:PATH", nargs="?", help="what to serve")
    parser.add_table("FTP options", options)
    parser.add_table("file system and cache options", VFS_OPTIONS)
    parser.add_table("process options", PROCESS_OPTIONS)
    args = parser.parse(argv[1:])
    values = process_values(args)
    set_up(values, args.verbose)
    part = front_end("ftp", open_config(values), args.remote, given(args, options), given(args, VFS_OPTIONS))
    if part.remote is None and not part.values.get("auth-proxy"):
        raise Refused("what to serve is missing: name a remote, like photos: or /a/folder")
    from .process import run as serve  # after everything is checked: loading the core takes a while

    return serve(Plan((part,), as_seconds(values["drain-timeout"]), bool(values["quiet"])))

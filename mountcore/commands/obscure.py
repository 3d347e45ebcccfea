"""``portside obscure``: a password as it stands in a configuration file; read from the terminal or a pipe."""

from __future__ import annotations

import getpass
import sys

from ..errors import Refused
from ..remotes.obscure import obscure
from .arguments import Parser


def run(argv: list[str]) -> int:
    """Ask for the password (never an argument: the list of processes would show it) and print it obscured."""
    parser = Parser(
        "obscure",
        "Print a password as it stands in portside.conf or rclone.conf. It is read from the terminal, or from\n"
        "standard input. Obscured is not encrypted: who can read the file can reveal it.",
    )
    parser.add_argument("dash", metavar="-", nargs="?", choices=["-"], help="read standard input, also on a terminal")
    args = parser.parse(argv)
    if sys.stdin.isatty() and args.dash is None:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise Refused("the two passwords differ; nothing was printed")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Refused("the password is empty; write nothing at all for no password")
    print(obscure(password))
    return 0

"""``portside version`` and ``portside --version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from .arguments import Parser


def run(argv: list[str]) -> int:
    """Print portside's version, and with -v those of what it stands on."""
    args = Parser("version", "Show the version; with -v also what portside runs on.").parse(argv)
    print(f"portside {_version('portside')}")
    if args.verbose:
        print(f"Python {platform.python_version()}, Linux {platform.release()}")
        for name in ("trio", "pyfuse3", "pyftpdlib"):
            print(f"{name} {_version(name)}")
    return 0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

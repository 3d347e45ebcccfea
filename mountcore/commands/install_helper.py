"""``portside install-helper``: links for mount(8), and unit files for systemd, that know where portside is.

Writes nothing over a file that is not its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import Refused
from ..options import Option, boolean, parse_values
from .arguments import Parser, given

LINKS = ("mount.portside", "mount.fuse.portside", "umount.fuse.portside")
UNITS = Path(__file__).resolve().parent.parent / "units"
MARK = "# Made by: portside install-helper"
"""How every unit file of ours begins."""
OPTIONS: tuple[Option, ...] = (
    Option("systemd", "false", "Also unit files: portside@.service and others, into /etc/systemd/system", boolean,
           flag=True),
    Option("user", "false", "Only a unit file for yourself, into ~/.config/systemd/user", boolean, flag=True),
    Option("below", "/", "Install below this directory", str, "DIR"),
    Option("remove", "false", "Take away what it made", boolean, flag=True),
)  # fmt: skip


def run(argv: list[str]) -> int:
    """Make the links and files, and print their names."""
    parser = Parser(
        "install-helper",
        "Let mount(8), umount(8) and lines of fstab find portside: links in /sbin to this command. Needs root,\n"
        "except with --user.",
    )
    parser.add_table("options", OPTIONS)
    values = parse_values(OPTIONS, given(parser.parse(argv), OPTIONS))
    below, remove = Path(str(values["below"])), bool(values["remove"])
    command = _command()
    links = [] if values["user"] else [below / "sbin" / name for name in LINKS]
    units: dict[Path, Path] = {}
    if values["user"]:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        units = {Path(home, "systemd/user", unit.name): unit for unit in _units("user")}
    elif values["systemd"] or remove:
        units = {below / "etc/systemd/system" / unit.name: unit for unit in _units("")}
    for place in (*links, *units):
        _check(place)
    try:
        for place in (*links, *units):
            _put(place, units.get(place), command, remove=remove)
    except OSError as problem:
        raise Refused(f"{problem.filename}: {problem.strerror}; installing is root's, except with --user") from None
    return 0


def _units(folder: str) -> list[Path]:
    return sorted(path for path in (UNITS / folder).iterdir() if path.is_file() and path.suffix != ".py")


def _command() -> Path:
    """The installed command that runs now."""
    for place in (Path(sys.argv[0]).absolute(), Path(sys.executable).parent / "portside"):
        if place.name == "portside" and os.access(place, os.X_OK):
            return place
    raise Refused("there is no command 'portside' beside this Python; install portside with pip")


def _check(place: Path) -> None:
    """Whether it is ours to write, or to take away."""
    if not os.path.lexists(place):
        return
    if place.is_symlink():
        if "portside" in os.readlink(place):
            return
    elif place.is_file() and place.read_text(errors="replace").startswith(MARK):
        return
    raise Refused(f"{place}: is there already and not of portside's making; move it away")


def _put(place: Path, unit: Path | None, command: Path, *, remove: bool) -> None:
    if os.path.lexists(place):
        place.unlink()
        if remove:
            print(f"removed {place}")
    if remove:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if unit is None:
        place.symlink_to(command)
        print(f"{place} -> {command}")
    else:
        place.write_text(unit.read_text().replace("@PORTSIDE@", os.fspath(command)))
        print(place)

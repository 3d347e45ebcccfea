"""``portside publish DIR TARGET``: bring a place up to date with a folder that was built."""

from __future__ import annotations

from pathlib import Path

import trio

from ..errors import Refused, StorageError
from ..options import Option, boolean, integer
from ..publish.listing import DEFAULT
from ..publish.publishing import TEMPORARY, Publishing, PublishSettings
from ..publish.site import SiteFile, scan
from ..publish.target import project_near, target_of_project, target_words
from .failures import EXIT_FAILED, UsageError, about_remote
from .file_options import CHANGE_OPTIONS
from .filing import Desk, make_parser, run
from .transfers import Display, summary

PUBLISH_OPTIONS: tuple[Option, ...] = (
    Option("username", "", "Log in as this user; also PORTSIDE_PUBLISH_USERNAME, LEKTOR_DEPLOY_USERNAME", str, "NAME"),
    Option("password", "", "With this password; better PORTSIDE_PUBLISH_PASSWORD, LEKTOR_DEPLOY_PASSWORD or netrc", str,
           "TEXT"),
    Option("server", "", "The target of this server in the .lektorproject of the folder", str, "NAME"),
    Option("listing-file", DEFAULT, "Where the listing of checksums is kept at the target", str, "PATH"),
    Option("transfers", "4", "Files stored at once", integer(1, 64), "N"),
    Option("hidden", "false", "Publish dotfiles, too (.htaccess and .htpasswd always are)", boolean, flag=True),
    Option("no-delete", "false", "Leave what is no longer built", boolean, flag=True),
    Option("verify", "false", "Look at every file of the target; heals a listing that is wrong", boolean, flag=True),
    Option("insecure", "false", "Accept any certificate of the server", boolean, flag=True),
    Option("progress", "false", "Show how far it is", boolean, flag=True, short="P"),
)  # fmt: skip
ABOUT = """\
Publish a folder: store what is new or different, delete what is no longer built, and keep a listing of checksums at
the target, as FTP cannot compare files. The listing is Lektor's: what `lektor deploy` published goes on from there,
and the other way round."""
EPILOG = """\
TARGET is ftp://user@host/path, ftps:// or sftp:// (in this command, as in Lektor, both mean FTP with TLS: AUTH TLS on
the plain port, certificates are checked), ssh+sftp:// for SFTP, or any remote or folder that portside knows. A path
after the host begins at the server's root; ?passive=no is for active FTP. Without TARGET it is that of the
.lektorproject beside or above the folder (--server chooses among several)."""


def publish(argv: list[str]) -> int:
    """Publish a folder."""
    parser = make_parser("publish", ABOUT, epilog=EPILOG, dir="the folder that was built", target_="where it goes")
    return run(parser, argv, _publish, PUBLISH_OPTIONS, CHANGE_OPTIONS)


async def _publish(desk: Desk) -> int | None:
    folder = _folder(desk.args.dir)
    values = desk.values
    words = target_words(
        _target(desk, folder), username=str(values["username"]), password=str(values["password"]),
        insecure=bool(values["insecure"]),
    )  # fmt: skip
    files: list[SiteFile] = await trio.to_thread.run_sync(
        lambda: list(scan(folder, hidden=bool(values["hidden"]))), abandon_on_cancel=True
    )
    if not any(file.path.endswith(".tmp") for file in files):
        desk.config.defaults["ftp"] = {"temporary_name": TEMPORARY}
    try:
        place = await desk.places.one(words)
    except StorageError as problem:
        about_remote(problem, desk.config.label(words))
        raise
    if place.entry is None:
        label = desk.config.label(words)
        raise Refused(f"{label}: there is no such directory; make it first, with another program or portside mkdir")
    settings = PublishSettings(
        listing_file=_listing_file(str(values["listing-file"])),
        transfers=desk.number("transfers"),
        dry_run=desk.dry_run,
        verify=bool(values["verify"]),
        delete=not values["no-delete"],
    )
    publishing = Publishing(place.require_directory(), files, settings, desk.tally)
    display = Display(desk.tally, progress=bool(values["progress"]), stats=None)
    async with trio.open_nursery() as nursery:
        if display.wanted:
            nursery.start_soon(display.run)
        good = await publishing.run()
        nursery.cancel_scope.cancel()
    if not values["quiet"] and not desk.dry_run:
        desk.tally.say(_summary(desk) if good else f"not all of it is published: {_summary(desk)}")
    return None if good else EXIT_FAILED


def _folder(words: str) -> Path:
    folder = Path(words).expanduser()
    if not folder.is_dir():
        raise Refused(f"{words}: there is no such folder; name the one that was built")
    return folder


def _summary(desk: Desk) -> str:
    tally = desk.tally
    if not (tally.total or tally.deleted or tally.errors):
        return f"nothing to publish: {tally.checked} files are there already"
    return summary(tally)


def _target(desk: Desk, folder: Path) -> str:
    server = str(desk.values["server"])
    if desk.args.target_ and server:
        raise UsageError("give a TARGET or --server, not both")
    if desk.args.target_:
        return str(desk.args.target_)
    project = project_near(folder.resolve())
    if project is None:
        raise UsageError("a TARGET is needed, like ftp://user@host/path; there is no .lektorproject above the folder")
    return target_of_project(project, server)


def _listing_file(text: str) -> str:
    parts = text.split("/")
    if text.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in text:
        raise Refused(f"--listing-file: {text!r} is not a path below the target, like {DEFAULT}")
    return text

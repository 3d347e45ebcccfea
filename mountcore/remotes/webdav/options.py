"""What a user can say about a WebDAV server, as in rclone.conf; parsed and checked once. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import Refused
from ..encoding import NameEncoding
from ..web import Site
from ..words import Words

VENDORS = ("fastmail", "nextcloud", "owncloud", "infinitescale", "rclone", "other")
WITH_CHECKSUMS = ("nextcloud", "owncloud", "infinitescale", "fastmail")


@dataclass(frozen=True, slots=True)
class DavOptions:
    """One WebDAV folder."""

    site: Site
    vendor: str
    """Empty: whatever the server says it is."""
    names: NameEncoding | None
    """None: names as they are, also with line breaks."""

    def identity(self, root: str) -> str:
        """Which files these are, without secrets."""
        return f"webdav:{self.site}/{root}"


def parse(values: dict[str, str]) -> DavOptions:
    """Typed options; raises :class:`Refused` naming the option and what it accepts."""
    words = Words("webdav", values)
    vendor = words.text("vendor").lower()
    if vendor.startswith("sharepoint"):
        raise Refused("webdav: vendor sharepoint logs in through Microsoft's web forms or NTLM, which is not supported")
    if vendor and vendor not in VENDORS:
        raise Refused(f"webdav: vendor is one of {', '.join(VENDORS)}, or empty to find out, not {vendor!r}")
    encoding, names = words.text("encoding"), words.encoding("encoding", "None")
    return DavOptions(Site.parse(words, "webdav", values), vendor, None if encoding in ("", "None", "Raw") else names)

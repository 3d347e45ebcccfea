"""What a user can say about an SMB server, as in rclone.conf; parsed and checked once. Pure."""

from __future__ import annotations

import getpass
from dataclasses import dataclass, field
from urllib.parse import quote

from ...errors import Refused
from ..encoding import NameEncoding
from ..paths import check_path
from ..words import Words

PORT = 445
ENCODING = "Slash,LtGt,DoubleQuote,Colon,Question,Asterisk,Pipe,BackSlash,Ctl,RightSpace,RightPeriod,InvalidUtf8,Dot"


@dataclass(frozen=True, slots=True)
class SmbOptions:
    """One server, a share of it and how to talk to it. Secrets are in no repr."""

    host: str
    share: str
    root: str
    """Below the share."""
    port: int
    user: str
    domain: str
    password: str = field(repr=False)
    case_insensitive: bool
    encoding: NameEncoding
    connect_timeout: float
    timeout: float
    idle_timeout: float | None

    @property
    def identity(self) -> str:
        """Which files these are, without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        login = quote(f"{self.domain};{self.user}" if self.domain else self.user, safe=";")
        return f"smb://{login}@{host.lower()}:{self.port}/{self.share}/{self.root}"


def parse(values: dict[str, str], root: str) -> SmbOptions:
    """Typed options; raises :class:`Refused` naming the option and what it accepts."""
    words = Words("smb", values)
    host = words.text("host").removeprefix("[").removesuffix("]")
    if not host or any(c in host for c in "/\\@ ") or host.count(":") == 1:
        raise Refused(f"smb: host {host!r} is not a host name or address (the port is an option of its own)")
    share, _, below = root.strip("/").partition("/")
    if not share:
        raise Refused("smb: the path begins with the name of a share, like remote:share/folder; shares are not listed")
    if any(c in share for c in '\\:*?"<>|\0') or share in (".", ".."):
        raise Refused(f"smb: {share!r} cannot be the name of a share")
    below = "/".join(part for part in below.split("/") if part)
    try:
        check_path(below)
    except OSError:
        raise Refused(f"smb: {root!r} cannot be a root: it leaves the share, or has a NUL in it") from None
    domain, backslash, user = words.text("user").rpartition("\\")
    idle = 0.0 if words.text("idle_timeout") in ("0", "0s") else words.duration("idle_timeout", 60.0)
    password = values.get("pass", "")
    if "\0" in password or "\n" in password:
        raise Refused("smb: pass cannot have a line break or NUL in it")
    return SmbOptions(
        host=host,
        share=share,
        root=below,
        port=words.number("port", 1, 65535, PORT),
        user=user or getpass.getuser(),
        domain=domain if backslash else words.text("domain"),
        password=password,
        case_insensitive=words.flag("case_insensitive", True),
        encoding=words.encoding("encoding", ENCODING),
        connect_timeout=words.duration("connect_timeout", 60.0),
        timeout=words.duration("timeout", 60.0),
        idle_timeout=idle or None,
    )

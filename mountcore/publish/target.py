"""Where a site goes, in the words of Lektor's documents: URLs, credentials, and ``.lektorproject`` files. Pure.

``ftp://`` and, as in Lektor, ``ftps://`` and ``sftp://`` for FTP with TLS on the plain port (AUTH TLS, PROT P); the
path of these is the server's, from its root. ``ssh+sftp://`` is SFTP. Everything else is what it is elsewhere.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from ..errors import Refused

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(?:([^/?#@]*)@)?([^/?#@]*)([^?#]*)(?:\?(.*))?", re.IGNORECASE)
SCHEMES = {"ftp": "ftp", "ftps": "ftpes", "sftp": "ftpes", "ftpes": "ftpes", "ssh+sftp": "sftp"}
_USERS = ("PORTSIDE_PUBLISH_USERNAME", "LEKTOR_DEPLOY_USERNAME")
_PASSWORDS = ("PORTSIDE_PUBLISH_PASSWORD", "LEKTOR_DEPLOY_PASSWORD")


def target_words(
    words: str,
    *,
    username: str = "",
    password: str = "",
    insecure: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """The words that the rest of portside understands. Credentials from options, then the environment, then the URL."""
    username = username or next((environ[name] for name in _USERS if environ.get(name)), "")
    password = password or next((environ[name] for name in _PASSWORDS if environ.get(name)), "")
    match = _URL.fullmatch(words)
    if match is None or match[1].lower() not in SCHEMES:
        if username or password:
            raise Refused("a user name and a password are for ftp://, ftps://, sftp:// and ssh+sftp:// targets; "
                          "others have theirs in the configuration")  # fmt: skip
        return words
    scheme = SCHEMES[match[1].lower()]
    login, place, path, query = match[2] or "", match[3], match[4], match[5] or ""
    user, _, secret = login.partition(":")
    user = quote(username, safe="") if username else user
    secret = quote(password, safe="") if password else secret
    more = [query] if query else []
    if scheme != "sftp":
        if path.startswith("/"):
            more.append("absolute_path=true")
        if insecure:
            more.append("no_check_certificate=true")
    elif insecure:
        raise Refused("--insecure is for FTP over TLS; for SFTP there are the known_hosts options of a remote")
    at = f"{user}{':' if secret else ''}{secret}@" if user or secret else ""
    return f"{scheme}://{at}{place}{path}{'?' if more else ''}{'&'.join(more)}"


def project_near(folder: Path) -> Path | None:
    """The ``.lektorproject`` of the folder, or of one that it lies in."""
    for place in (folder, *folder.parents):
        found = sorted(place.glob("*.lektorproject"))
        if found:
            return found[0]
    return None


def _yes(text: str) -> bool:
    return text.strip().lower() in ("yes", "true", "1", "on")


def target_of_project(project: Path, server: str = "") -> str:
    """The target of a server in a project file; without a name the default one, or the only one."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(project.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error) as problem:
        raise Refused(f"{project}: {str(problem).splitlines()[0]}") from problem
    servers = {
        name.partition(".")[2]: parser[name]
        for name in parser.sections()
        if name.startswith("servers.") and _yes(parser[name].get("enabled", "yes"))
    }
    if server and server not in servers:
        raise Refused(f"{project} has no server {server!r}; it has {', '.join(sorted(servers)) or 'none'}")
    if not server:
        chosen = [name for name, section in servers.items() if _yes(section.get("default", "no"))]
        if len(chosen or servers) != 1:
            raise Refused(f"{project} has {len(servers)} servers and no default; name one with --server")
        server = next(iter(chosen or servers))
    target = servers[server].get("target", "").strip()
    if not target:
        raise Refused(f"{project}: server {server!r} has no target")
    return target

"""From a long-tail type's options and root to OpenDAL's configuration of a service. Pure.

Where the service has buckets (containers, libraries), the first part of the root names it, as with rclone.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from ...errors import Refused
from ..oauth import Token
from ..words import Words


@dataclass(frozen=True, slots=True)
class Service:
    """A service, configured; secrets in no repr."""

    scheme: str
    config: Mapping[str, str] = field(repr=False)
    place: str
    """Which account, bucket or server: for the identity, without secrets."""
    root: str
    """Folder in it."""
    address: str = ""
    """As a URI, for services that OpenDAL cannot be told of otherwise."""


def service_of(kind: str, words: Words, root: str) -> Service:
    """Raises :class:`Refused` naming the option and what it accepts."""
    return _MAKERS[kind](kind, words, root.strip("/"))


def _oauth(scheme: str) -> Callable[[str, Words, str], Service]:
    def make(kind: str, words: Words, root: str) -> Service:
        text = words.text("token")
        if not text:
            raise Refused(f"{kind}: token is missing; rclone authorize {kind} makes one")
        token = Token.parse(kind, text)
        client, secret = words.text("client_id"), words.text("client_secret")
        if kind == "drive" and words.text("team_drive"):
            raise Refused("drive: team_drive is not supported: only My Drive is shown")
        if kind == "onedrive" and words.choice("drive_type", ("personal", "business"), "personal") == "business":
            pass  # the same endpoint answers for both
        if kind == "onedrive" and words.text("region") not in ("", "global"):
            raise Refused("onedrive: region is global; other clouds are not reached")
        config = {"access_token": token.access}
        if token.refresh and client:
            config = {"refresh_token": token.refresh, "client_id": client, "client_secret": secret}
        elif not token.fresh:
            raise Refused(
                f"{kind}: the token has expired, and it can be renewed only with the client_id and client_secret that "
                "it was made with; make a new one with your own (rclone config reconnect)"
            )
        return Service(scheme, config, client or "default", root)

    return make


def _bucket(kind: str, root: str) -> tuple[str, str]:
    bucket, _, rest = root.partition("/")
    if not bucket:
        raise Refused(f"{kind}: name the bucket: remote:bucket or remote:bucket/path")
    return bucket, rest


def _b2(kind: str, words: Words, root: str) -> Service:
    bucket, rest = _bucket(kind, root)
    config = {
        "bucket": bucket, "bucket_id": words.text("bucket_id"),
        "application_key_id": words.text("account"), "application_key": words.text("key"),
    }  # fmt: skip
    return Service("b2", config, bucket, rest)


def _swift(kind: str, words: Words, root: str) -> Service:
    container, rest = _bucket(kind, root)
    url = _url(kind, words, "storage_url")
    return Service(
        "swift", {"endpoint": url, "container": container, "token": words.text("auth_token")},
        f"{_host(url)}/{container}", rest,
    )  # fmt: skip


def _keyed(scheme: str, key: str, secret: str) -> Callable[[str, Words, str], Service]:
    def make(kind: str, words: Words, root: str) -> Service:
        bucket, rest = _bucket(kind, root)
        url = _url(kind, words, "endpoint")
        config = {"bucket": bucket, "endpoint": url}
        config |= {key: words.text("access_key_id"), secret: words.text("secret_access_key")}
        return Service(scheme, {k: v for k, v in config.items() if v}, f"{_host(url)}/{bucket}", rest)

    return make


def _yandex(kind: str, words: Words, root: str) -> Service:
    text = words.text("token")
    token = Token.parse(kind, text).access if text.startswith("{") else text
    return Service("yandex-disk", {"access_token": token}, "disk", root)


def _koofr(kind: str, words: Words, root: str) -> Service:
    if words.text("provider") not in ("", "koofr") and not words.text("endpoint"):
        raise Refused("koofr: endpoint is missing for a provider that is not koofr")
    url = _url(kind, words, "endpoint") if words.text("endpoint") else "https://app.koofr.net"
    user = words.text("user")
    config = {"endpoint": url, "password": words.text("password")}
    address = f"koofr://{_host(url)}/{quote(user, safe='')}/{quote(root)}"
    return Service("koofr", config, f"{user}@{_host(url)}", root, address)


def _azurefiles(kind: str, words: Words, root: str) -> Service:
    account, share = words.text("account"), words.text("share_name")
    given = words.text("endpoint")
    endpoint = _url(kind, words, "endpoint") if given else f"https://{account}.file.core.windows.net"
    config = {"account_name": account, "share_name": share, "endpoint": endpoint, "account_key": words.text("key")}
    if sas := words.text("sas_url"):
        config["sas_token"] = urlsplit(sas).query or sas
    if not config["account_key"] and "sas_token" not in config:
        raise Refused("azurefiles: key or sas_url is missing")
    place = f"{_host(endpoint)}/{account}/{share}" if given else f"{account}/{share}"
    return Service("azfile", {k: v for k, v in config.items() if v}, place, root)


def _seafile(kind: str, words: Words, root: str) -> Service:
    library, rest = words.text("library"), root
    if not library:
        library, _, rest = root.partition("/")
    if not library:
        raise Refused("seafile: library is missing; set it, or name it before the path")
    url, user = _url(kind, words, "url"), words.text("user")
    config = {"endpoint": url, "username": user, "password": words.text("pass"), "repo_name": library}
    return Service("seafile", config, f"{user}@{_host(url)}/{library}", rest)


def _webhdfs(kind: str, words: Words, root: str) -> Service:
    url, user = _url(kind, words, "endpoint"), words.text("user_name")
    config = {"endpoint": url, "user_name": user, "delegation": words.text("delegation")}
    return Service("webhdfs", {k: v for k, v in config.items() if v}, f"{user}@{_host(url)}", root)


def _any(kind: str, words: Words, root: str) -> Service:
    try:
        pairs = [word.partition("=") for word in shlex.split(words.text("config"))]
    except ValueError as problem:
        raise Refused(f"opendal: config: {problem}") from None
    if any(not name or not equals for name, equals, _ in pairs):
        raise Refused("opendal: config is NAME=value with blanks between, quoted as in a shell")
    config = {name: value for name, _, value in pairs}
    shown = ",".join(f"{k}={_shown(config[k])}" for k in ("bucket", "container", "endpoint") if k in config)
    base = config.pop("root", "").rstrip("/")
    return Service(words.text("service").lower(), config, shown, f"{base}/{root}".rstrip("/") if base else root)


def _shown(value: str) -> str:
    """Without a login in an address."""
    return value.rpartition("@")[2]


def _url(kind: str, words: Words, name: str) -> str:
    text = words.text(name).rstrip("/")
    url = text if "://" in text else f"https://{text}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise Refused(f"{kind}: {name} is http://HOST[:PORT] or https://HOST[:PORT], without user and password")
    return url


def _host(url: str) -> str:
    return urlsplit(url).netloc


_MAKERS: dict[str, Callable[[str, Words, str], Service]] = {
    "b2": _b2,
    "dropbox": _oauth("dropbox"),
    "drive": _oauth("gdrive"),
    "onedrive": _oauth("onedrive"),
    "swift": _swift,
    "yandex": _yandex,
    "koofr": _koofr,
    "azurefiles": _azurefiles,
    "seafile": _seafile,
    "webhdfs": _webhdfs,
    "oss": _keyed("oss", "access_key_id", "access_key_secret"),
    "cos": _keyed("cos", "secret_id", "secret_key"),
    "obs": _keyed("obs", "access_key_id", "secret_access_key"),
    "opendal": _any,
}

"""Google Cloud Storage: what a user says about it, for obstore. See `through_obstore`."""

from __future__ import annotations

from typing import Any

from obstore.store import GCSStore

from ...errors import Refused
from ..guard import Guard
from ..oauth import Tokens
from ..protocol import Remote
from ..words import Words
from .obstores import RETRIES, client_options, container_of, finished, finished_remote
from .through_obstore import Place

_REMEDY = "check service_account_file, token or what the account may do (Storage Object Admin)"
_READ_ONLY = "anonymous = true can only read, and what everybody may read; writing needs a login"
_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


def open(options: dict[str, str], root: str) -> Remote:
    """A bucket, or a folder of one."""
    words = Words("gcs", options)
    bucket = container_of("gcs", root)
    endpoint = words.text("endpoint").rstrip("/").removesuffix("/storage/v1")  # rclone's is of the JSON interface
    config, provider = _login(words)
    if endpoint:
        config["base_url"] = endpoint if "://" in endpoint else f"https://{endpoint}"
    client = client_options(words, endpoint)
    if provider is not None:
        config["credential_provider"] = provider
    place = Place(
        store=finished("gcs", lambda: GCSStore(bucket, client_options=client, retry_config=RETRIES, **config)),
        identity=f"gcs://{(endpoint.partition('://')[2] or endpoint) or 'storage.googleapis.com'}",
        names=words.encoding("encoding", "Slash,CrLf,Ctl,Del,InvalidUtf8,Dot"),
        storage_class=words.text("storage_class"),
        upload_cutoff=words.size("upload_cutoff", 0, 256 << 20, 16 << 20),
        chunk_size=words.size("chunk_size", 5 << 20, 4000 << 20, 8 << 20),
        concurrency=words.number("upload_concurrency", 1, 64, 4),
        remedy=_READ_ONLY if words.flag("anonymous") else _REMEDY,
    )
    return Guard(finished_remote(place, root, words))


def _login(words: Words) -> tuple[dict[str, Any], Any]:
    file, content = words.text("service_account_file"), words.text("service_account_credentials")
    if file and content:
        raise Refused("gcs: service_account_file and service_account_credentials exclude each other")
    if words.flag("anonymous"):
        return {"skip_signature": True}, None
    if content:
        return {"service_account_key": content}, None
    if file:
        return {"service_account": file}, None
    if token := words.text("access_token"):
        return {"bearer_token": token}, None
    if words.text("token"):
        return {}, Tokens.parse("gcs", words, _TOKEN_URL)
    if words.flag("env_auth"):
        return {}, None
    raise Refused(
        "gcs: a login is missing: service_account_file, token, access_token, env_auth = true, or anonymous = true"
    )

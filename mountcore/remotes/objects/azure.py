"""Azure Blob Storage: what a user says about it, for obstore. See `through_obstore`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from obstore.store import AzureStore

from ...errors import Refused
from ..guard import Guard
from ..protocol import Remote
from ..words import Words
from .obstores import RETRIES, client_options, container_of, finished, finished_remote
from .through_obstore import Place

_EMULATOR = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "http://127.0.0.1:10000/devstoreaccount1",
)
"""Known to everybody: the emulator's account."""
_REMEDY = "check account, key, sas_url, or what the identity may do (Storage Blob Data Contributor)"


def open(options: dict[str, str], root: str) -> Remote:
    """A container, or a folder of one."""
    words = Words("azureblob", options)
    container = container_of("azureblob", root)
    account, config = _login(words)
    endpoint = config.get("endpoint", "") or f"https://{account}.blob.core.windows.net"
    client, host = client_options(words, endpoint), urlsplit(endpoint).netloc
    place = Place(
        store=finished(
            "azureblob", lambda: AzureStore(container, client_options=client, retry_config=RETRIES, **config)
        ),
        identity=f"azureblob://{account}" if "blob.core" in endpoint else f"azureblob://{host}/{account}",
        names=words.encoding("encoding", "Slash,BackSlash,Del,Ctl,RightPeriod,InvalidUtf8"),
        storage_class=words.choice("access_tier", ("Hot", "Cool", "Cold", "Archive"), ""),
        upload_cutoff=words.size("upload_cutoff", 0, 256 << 20, 16 << 20),
        chunk_size=words.size("chunk_size", 1 << 18, 4000 << 20, 4 << 20),
        concurrency=words.number("upload_concurrency", 1, 64, 4),
        remedy=_REMEDY,
    )
    return Guard(finished_remote(place, root, words))


def _login(words: Words) -> tuple[str, dict[str, Any]]:
    account, key, endpoint = words.text("account"), words.text("key"), words.text("endpoint")
    config: dict[str, Any] = {}
    if text := words.text("connection_string"):
        parts = dict(part.partition("=")[::2] for part in text.split(";") if part)
        account, key = parts.get("AccountName", account), parts.get("AccountKey", key)
        endpoint = parts.get("BlobEndpoint", endpoint)
        if sas := parts.get("SharedAccessSignature", ""):
            config["sas_key"] = sas
        if not account and not endpoint:
            raise Refused("azureblob: connection_string has neither AccountName nor BlobEndpoint")
    if words.flag("use_emulator"):
        account, key, endpoint = account or _EMULATOR[0], key or _EMULATOR[1], endpoint or _EMULATOR[2]
    if text := words.text("sas_url"):
        url = urlsplit(text)
        if not url.query or not url.hostname:
            raise Refused("azureblob: sas_url is https://ACCOUNT.blob.core.windows.net/[CONTAINER]?sv=…")
        config["sas_key"] = url.query
        account = account or url.hostname.partition(".")[0]
        if "blob.core.windows.net" not in url.hostname:
            endpoint = f"{url.scheme}://{url.netloc}"
    if not account:
        raise Refused("azureblob: account is missing: the name of the storage account")
    config |= {"account_name": account}
    if endpoint:
        config["endpoint"] = endpoint if "://" in endpoint else f"https://{endpoint}"
    ways = {
        "key": bool(key),
        "sas_url": "sas_key" in config,
        "client_secret": bool(words.text("client_secret")),
        "use_msi": words.flag("use_msi"),
        "use_az": words.flag("use_az"),
        "env_auth": words.flag("env_auth"),
    }
    if key:
        config["account_key"] = key
    if ways["client_secret"]:
        if not words.text("tenant") or not words.text("client_id"):
            raise Refused("azureblob: client_secret needs tenant and client_id")
        config |= {
            "tenant_id": words.text("tenant"), "client_id": words.text("client_id"),
            "client_secret": words.text("client_secret"),
        }  # fmt: skip
    elif ways["use_msi"]:
        names = {"msi_object_id": "object_id", "msi_client_id": "client_id", "msi_mi_res_id": "msi_resource_id"}
        config |= {ours: words.text(theirs) for theirs, ours in names.items() if words.text(theirs)}
    elif ways["use_az"]:
        config["use_azure_cli"] = True
    elif not any(ways.values()):
        config["skip_signature"] = True  # a public container
    return account, config

"""What users say about Azure's and Google's storage, and what is made of it, without a network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mountcore.errors import Denied, Refused
from mountcore.remotes.oauth import Token, Tokens
from mountcore.remotes.registry import open_remote, types

SECRET = "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="


@pytest.mark.parametrize(
    ("options", "identity"),
    [
        ({"account": "me", "key": SECRET}, "azureblob://me/box/in"),
        ({"use_emulator": "true"}, "azureblob://127.0.0.1:10000/devstoreaccount1/box/in"),
        ({"connection_string": f"AccountName=me;AccountKey={SECRET};"}, "azureblob://me/box/in"),
        ({"sas_url": "https://me.blob.core.windows.net/box?sv=1&sig=SECRETSIG"}, "azureblob://me/box/in"),
    ],
)
def test_ways_into_azure(options: dict[str, str], identity: str) -> None:
    remote = open_remote("azureblob", options, "box/in")
    assert remote.identity == identity
    assert SECRET not in repr(remote)
    assert "SECRETSIG" not in repr(remote) + remote.identity


@pytest.mark.parametrize(
    ("kind", "options", "root", "words"),
    [
        ("azureblob", {}, "box", "account is missing"),
        ("azureblob", {"account": "me", "key": SECRET}, "", "name the bucket"),
        ("azureblob", {"account": "me", "client_secret": "x"}, "box", "tenant"),
        ("azureblob", {"account": "me", "access_tier": "Warm"}, "box", "Hot, Cool"),
        ("azureblob", {"account": "me", "sas_url": "nonsense"}, "box", "sas_url"),
        ("azureblob", {"account": "me", "password": "x"}, "box", "client_secret"),
        ("azureblob", {"account": "me", "encoding": "Slosh"}, "box", "azureblob: encoding"),
        ("gcs", {}, "box", "a login is missing"),
        ("gcs", {"service_account_file": "/nowhere.json"}, "box", "gcs: "),
        ("gcs", {"token": "{"}, "box", "JSON that rclone writes"),
        ("gcs", {"token": "{}"}, "box", "neither"),
        ("gcs", {"anonymous": "true", "ca_cert": "/nowhere"}, "box", "ca_cert"),
        ("gcs", {"object_acl": "private"}, "box", "uniform"),
    ],
)
def test_options_that_make_no_sense(kind: str, options: dict[str, str], root: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        open_remote(kind, options, root)


def test_rclones_name_of_google_cloud_storage() -> None:
    assert types()["google cloud storage"] is types()["gcs"]
    remote = open_remote("google cloud storage", {"anonymous": "true"}, "box")
    assert remote.identity == "gcs://storage.googleapis.com/box"


def test_a_token_of_rclones() -> None:
    expiry = "2020-01-02T03:04:05.123456789+01:00"
    text = f'{{"access_token":"at","token_type":"Bearer","refresh_token":"rt","expiry":"{expiry}"}}'
    token = Token.parse("gcs", text)
    assert (token.access, token.refresh) == ("at", "rt")
    assert token.expires_at == datetime(2020, 1, 2, 2, 4, 5, 123456, UTC)
    assert "at" not in repr(token).replace("expires_at", "").replace("datetime", "")
    assert not token.fresh
    with pytest.raises(Denied, match="client_id"):
        Tokens("gcs", token, "http://127.0.0.1:1/", "", "")()
    fresh = Token("at", "", datetime.now(UTC) + timedelta(hours=1))
    assert Tokens("gcs", fresh, "http://127.0.0.1:1/", "", "")()["token"] == "at"

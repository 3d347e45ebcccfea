"""What users say about the long tail of storage, and what OpenDAL is told, without a network."""

from __future__ import annotations

import pytest

from mountcore.errors import Refused
from mountcore.remotes.conf import Config
from mountcore.remotes.protocol import RenameScope
from mountcore.remotes.registry import open_remote, types

FRESH = '{"access_token":"SECRET","token_type":"Bearer","refresh_token":"SECRET2","expiry":"2099-01-02T03:04:05Z"}'
EXPIRED = '{"access_token":"SECRET","refresh_token":"SECRET2","expiry":"2020-01-02T03:04:05Z"}'
CLIENT = {"client_id": "me", "client_secret": "SECRET3"}
KEYS = {"access_key_id": "SECRET", "secret_access_key": "SECRET2"}


@pytest.mark.parametrize(
    ("kind", "options", "root", "identity"),
    [
        ("b2", {"account": "SECRET", "key": "SECRET2", "bucket_id": "i"}, "box/in", "b2://box/in"),
        ("dropbox", {"token": FRESH}, "in", "dropbox://default/in"),
        ("dropbox", {"token": EXPIRED} | CLIENT, "in", "dropbox://me/in"),
        ("drive", {"token": FRESH}, "", "drive://default/"),
        ("onedrive", {"token": EXPIRED, "drive_type": "business"} | CLIENT, "", "onedrive://me/"),
        ("swift", {"storage_url": "https://h/v1/a", "auth_token": "SECRET"}, "box/in", "swift://h/box/in"),
        ("yandex", {"token": "SECRET"}, "in", "yandex://disk/in"),
        ("yandex", {"token": FRESH}, "in", "yandex://disk/in"),
        ("koofr", {"user": "me@h", "password": "SECRET"}, "", "koofr://me@h@app.koofr.net/"),
        ("azurefiles", {"account": "me", "key": "U0VDUkVU", "share_name": "s"}, "in", "azurefiles://me/s/in"),
        ("seafile", {"url": "https://h", "user": "me", "pass": "SECRET"}, "lib/in", "seafile://me@h/lib/in"),
        ("webhdfs", {"endpoint": "http://h:9870", "user_name": "me"}, "in", "webhdfs://me@h:9870/in"),
        ("oss", {"endpoint": "https://oss.h"} | KEYS, "box/in", "oss://oss.h/box/in"),
        ("cos", {"endpoint": "https://cos.h"} | KEYS, "box", "cos://cos.h/box/"),
        ("obs", {"endpoint": "https://obs.h"} | KEYS, "box", "obs://obs.h/box/"),
        ("opendal", {"service": "memory"}, "in", "opendal+memory:///in"),
    ],
)
def test_services_are_set_up(kind: str, options: dict[str, str], root: str, identity: str) -> None:
    remote = open_remote(kind, options, root)
    assert remote.identity == identity
    assert "SECRET" not in repr(remote) + remote.identity
    assert "U0VDUkVU" not in repr(remote)


@pytest.mark.parametrize(
    ("kind", "options", "root", "words"),
    [
        ("dropbox", {}, "", "rclone authorize dropbox"),
        ("dropbox", {"token": EXPIRED}, "", "expired.*client_id"),
        ("dropbox", {"token": "nonsense"}, "", "JSON that rclone writes"),
        ("drive", {"token": FRESH, "team_drive": "x"}, "", "team_drive"),
        ("drive", {"token": FRESH, "service_account_file": "/f"}, "", "OAuth tokens only"),
        ("onedrive", {"token": FRESH, "drive_type": "documentLibrary"}, "", "personal, business"),
        ("b2", {"account": "a", "key": "k"}, "box", "bucket_id"),
        ("b2", {"account": "a", "key": "k", "bucket_id": "i"}, "", "name the bucket"),
        ("swift", {"user": "me"}, "box", "Keystone"),
        ("seafile", {"url": "https://me:pw@h", "user": "me", "pass": "x"}, "lib", "without user"),
        ("seafile", {"url": "https://h", "user": "me", "pass": "x"}, "", "library is missing"),
        ("azurefiles", {"account": "me", "share_name": "s"}, "", "key or sas_url"),
        ("opendal", {"service": "nonsense"}, "", "nonsense"),
        ("opendal", {"service": "fs", "config": "root"}, "", "NAME=value"),
        ("opendal", {"service": "s3"}, "", "bucket"),
    ],
)
def test_options_that_make_no_sense(kind: str, options: dict[str, str], root: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        open_remote(kind, options, root)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("hubic", "ended hubiC"), ("amazon cloud drive", "ended Amazon Drive"), ("pcloud", "webdav"), ("hdfs", "webhdfs")],
)
def test_types_that_nobody_can_serve(kind: str, words: str) -> None:
    assert kind not in types()
    with pytest.raises(Refused, match=words):
        open_remote(kind, {}, "")
    with pytest.raises(Refused, match=words):
        Config(environ={"PORTSIDE_CONFIG_OLD_TYPE": kind, "HOME": "/nowhere"}).open("old:")


def test_capabilities_are_what_opendal_reports() -> None:
    yandex = open_remote("yandex", {"token": "t"}, "").caps
    assert (yandex.rename, yandex.rename_replaces, yandex.copy) == (RenameScope.FILE, False, True)
    hdfs = open_remote("webhdfs", {"endpoint": "http://h"}, "").caps
    assert (hdfs.rename, hdfs.copy, hdfs.atomic_put) == (RenameScope.NONE, False, False)
    oss = open_remote("oss", {"endpoint": "https://h"} | KEYS, "box").caps
    assert (oss.rename, oss.rename_replaces, oss.max_size) == (RenameScope.FILE, True, None)
    onedrive = open_remote("onedrive", {"token": FRESH, "largest_upload": "1Mi"}, "").caps
    assert onedrive.max_size == 1 << 20
    files = {"account": "me", "key": "U0VDUkVU", "share_name": "s"}
    assert open_remote("azurefiles", files, "").caps.max_size == 4 << 20

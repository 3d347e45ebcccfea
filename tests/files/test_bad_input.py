"""What goes wrong between a user and storage: one line that names it and the remedy, an exit code, and an end."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from mountcore.remotes.obscure import obscure
from mountcore.remotes.registry import types
from tests.servers import SERVERS, FtpServer, SmbServer, samba
from tests.servers.command import Portside
from tests.servers.objects import OBJECT_SERVERS
from tests.servers.web import apache

from .conftest import Here

KEY = "U0VDUkVUIFNFQ1JFVA=="
AT: dict[str, tuple[dict[str, str], str]] = {
    "ftp": ({"host": "{host}", "port": "{port}", "user": "me", "pass": KEY}, ""),
    "sftp": ({"host": "{host}", "port": "{port}", "user": "me", "pass": KEY}, ""),
    "smb": ({"host": "{host}", "port": "{port}", "user": "me", "pass": KEY}, "share"),
    "webdav": ({"url": "{scheme}://{host}:{port}", "user": "me", "pass": KEY}, ""),
    "http": ({"url": "{scheme}://{host}:{port}"}, ""),
    "s3": (
        {"endpoint": "{scheme}://{host}:{port}", "access_key_id": "me", "secret_access_key": KEY, "region": "here"},
        "bucket",
    ),
    "azureblob": ({"endpoint": "{scheme}://{host}:{port}", "account": "me", "key": KEY}, "container"),
    "gcs": ({"endpoint": "{scheme}://{host}:{port}", "access_token": KEY}, "bucket"),
    "swift": ({"storage_url": "{scheme}://{host}:{port}/v1/a", "auth_token": KEY}, "container"),
    "webhdfs": ({"endpoint": "{scheme}://{host}:{port}", "user_name": "me"}, ""),
    "azurefiles": ({"endpoint": "{scheme}://{host}:{port}", "account": "me", "key": KEY, "share_name": "share"}, ""),
    "seafile": ({"url": "{scheme}://{host}:{port}", "user": "me", "pass": KEY, "library": "all"}, ""),
    "koofr": ({"endpoint": "{scheme}://{host}:{port}", "user": "me@here", "password": KEY}, ""),
}
"""Every type that can be told where its server is, and the words for it."""
OVER_TLS = [kind for kind, (options, _) in AT.items() if "scheme" in str(options)]
ADAPTERS = [kind for kind in AT if kind not in ("webhdfs", "azurefiles", "seafile", "koofr")]
"""Without those that are asked by the same code as swift."""
BOUND = 30.0
"""Seconds: the longest that a command may take, with time-outs of one."""


def refusal(here: Here, patch: pytest.MonkeyPatch, kind: str, **at: object) -> str:
    """What `lsf` says of a server that is not there, in one line, in time, without the secret."""
    options, root = AT[kind]
    names = {option.name for option in types()[kind].options}
    patience = {name: "1s" for name in ("timeout", "connect_timeout", "contimeout") if name in names}
    patch.setenv("PORTSIDE_CONFIG_BOX_TYPE", kind)
    for name, value in (options | patience).items():
        text = value.format(**{"scheme": "http", **at})
        secret = types()[kind].option(name).secret
        patch.setenv(f"PORTSIDE_CONFIG_BOX_{name.upper()}", obscure(text) if secret else text)
    before = time.monotonic()
    done = here.run("lsf", f"box:{root}")
    took = time.monotonic() - before
    said = done.stderr.decode()
    assert 1 <= done.returncode <= 10, said
    assert said.startswith("portside: "), said
    assert said.count("\n") == 1, said
    assert KEY not in said
    assert took < BOUND, f"{took:.1f} s"
    return said


@pytest.mark.parametrize("kind", AT)
def test_a_host_that_is_not_there(here: Here, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    said = refusal(here, monkeypatch, kind, host="no-such-host.invalid", port=4)
    assert "check the" in said
    assert "no-such-host.invalid" in said


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_port_that_is_closed(here: Here, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        said = refusal(here, monkeypatch, kind, host="127.0.0.1", port=taken.getsockname()[1])
    assert "that the server runs" in said


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_server_that_says_nothing(here: Here, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        refusal(here, monkeypatch, kind, host="127.0.0.1", port=silent.getsockname()[1])


@pytest.fixture(scope="module")
def untrusted() -> Iterator[int]:
    with apache(tls=True) as server:
        yield server.port


@pytest.mark.parametrize("kind", OVER_TLS)
def test_a_certificate_that_is_not_trusted(
    here: Here, monkeypatch: pytest.MonkeyPatch, kind: str, untrusted: int
) -> None:
    said = refusal(here, monkeypatch, kind, host="127.0.0.1", port=untrusted, scheme="https")
    assert "certificate" in said
    assert "password" not in said, "that is not what is wrong"
    if any(option.name == "ca_cert" for option in types()[kind].options):
        assert "ca_cert" in said


def configured(patch: pytest.MonkeyPatch, kind: str, options: dict[str, str]) -> None:
    """The remote ``box:``."""
    patch.setenv("PORTSIDE_CONFIG_BOX_TYPE", kind)
    for name, value in options.items():
        patch.setenv(
            f"PORTSIDE_CONFIG_BOX_{name.upper()}", obscure(value) if types()[kind].option(name).secret else value
        )


def told(here: Here, *argv: object, code: int) -> str:
    """What a command that must fail says: lines of ours alone."""
    done = here.run(*argv)
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert all(line.startswith("portside: ") for line in said.splitlines()), said
    return said


@pytest.mark.parametrize("kind", sorted(types()))
def test_an_unknown_option_and_a_missing_one(here: Here, kind: str) -> None:
    facts = types()[kind]
    if facts.options:
        name = facts.options[0].name
        assert f"did you mean {name!r}" in told(here, "lsf", f":{kind},{name}x=1:", code=1)
    wanted = [option.name for option in facts.options if option.required]
    if wanted:
        assert any(name in told(here, "lsf", f":{kind}:", code=1) for name in wanted)


@pytest.mark.parametrize(("word", "meant"), [("webdaf", "webdav"), ("sfpt", "sftp"), ("azure", "azureblob")])
def test_an_unknown_type(here: Here, monkeypatch: pytest.MonkeyPatch, word: str, meant: str) -> None:
    monkeypatch.setenv("PORTSIDE_CONFIG_BOX_TYPE", word)
    assert f"did you mean {meant!r}" in told(here, "lsf", "box:", code=1)


def sas(key: str, account: str, until: dt.datetime) -> str:
    """A shared access signature of an account (Azure's documentation, version 2018-11-09)."""
    expiry = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = (account, "rwdlac", "b", "sco", "", expiry, "", "", "2018-11-09", "")
    digest = hmac.new(base64.b64decode(key), "\n".join(parts).encode(), hashlib.sha256).digest()
    words = {"sv": "2018-11-09", "ss": "b", "srt": "sco", "sp": "rwdlac", "se": expiry}
    return urlencode(words | {"sig": base64.b64encode(digest).decode()})


def test_an_expired_signature(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from mountcore.remotes.objects.azure import _EMULATOR

    account, key, _ = _EMULATOR
    now = dt.datetime.now(dt.UTC)
    with OBJECT_SERVERS["azurite"]() as store:
        container = store.bucket()
        for until, code in ((now + dt.timedelta(hours=1), 0), (now - dt.timedelta(hours=1), 7)):
            words = f"BlobEndpoint={store.url};SharedAccessSignature={sas(key, account, until)};AccountName={account}"
            configured(monkeypatch, "azureblob", {"connection_string": words})
            said = told(here, "lsf", f"box:{container}", code=code)
            assert ("sas_url" in said) == bool(code)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="not installed: faketime; scripts/test installs it")
@pytest.mark.parametrize("shift", ["-2 hours", "+2 hours"])
def test_a_clock_that_is_wrong(portside: Portside, shift: str) -> None:
    with OBJECT_SERVERS["rclone-s3"]() as store:
        bucket = store.bucket()
        portside.configure("[box]\ntype = s3\n" + "".join(f"{k} = {v}\n" for k, v in store.options.items()))
        assert portside.run("lsf", f"box:{bucket}").returncode == 0
        said = portside.refusal("lsf", f"box:{bucket}", prefix=("faketime", shift), code=7)
    assert "clock" in said
    assert "timedatectl" in said


def test_a_quota(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    (tmp_path / "small").write_bytes(b"x")
    with OBJECT_SERVERS["swift"]() as store:
        container = store.bucket()
        headers = {"X-Auth-Token": store.options["auth_token"], "X-Container-Meta-Quota-Bytes": "1000"}
        asked = urllib.request.Request(f"{store.url}/{container}", b"", headers, method="POST")
        urllib.request.urlopen(asked, timeout=10).close()
        configured(monkeypatch, "swift", store.options)
        before = time.monotonic()
        said = told(here, "copyto", tmp_path / "large", f"box:{container}/large", code=5)
        assert time.monotonic() - before < BOUND
        assert "exceeds quota" in said
        assert here.run("copyto", tmp_path / "small", f"box:{container}/small").returncode == 0
        assert here.run("lsf", f"box:{container}").stdout == b"small\n"


LOCKED: dict[str, tuple[str, Callable[[], AbstractContextManager[FtpServer | SmbServer]], str]] = {
    "vsftpd": ("ftp", SERVERS["vsftpd"], "Could not create"),  # which is all that it says
    "proftpd": ("ftp", SERVERS["proftpd"], "ermission denied"),
    "samba": ("smb", samba, "the server does not allow it"),
}
"""Servers that work as somebody who may not everything, and their words for it."""


@pytest.mark.parametrize("name", LOCKED)
def test_a_folder_that_may_not_be_written_to(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    kind, start, words = LOCKED[name]
    (tmp_path / "file").write_bytes(b"x")
    with start() as server:
        locked = server.root / "locked"
        locked.mkdir()
        (locked / "there").write_bytes(b"kept")
        for path in (locked / "there", locked):
            shutil.chown(path, "root")
            path.chmod(0o555)
        configured(monkeypatch, kind, dict(server.options))
        place = f"box:{server.prefix}/locked" if isinstance(server, SmbServer) else "box:locked"
        for argv in (("copy", tmp_path / "file", place), ("deletefile", f"{place}/there"), ("mkdir", f"{place}/new")):
            before = time.monotonic()
            done = here.run(*argv)
            assert done.returncode in (1, 7)
            assert done.stderr.startswith(b"portside: ")
            assert argv[0] != "copy" or words in done.stderr.decode()
            assert time.monotonic() - before < BOUND
        assert {path.name for path in locked.iterdir()} == {"there"}

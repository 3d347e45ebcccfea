"""What goes wrong between a user and storage: one line that names it and the remedy, an exit code, and an end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from mountcore.remotes.obscure import obscure
from mountcore.remotes.registry import types
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

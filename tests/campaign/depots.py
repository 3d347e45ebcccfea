"""Other storages than FTP for the scenarios: each with a folder to look into, and a section that names it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import final

from mountcore.remotes.obscure import obscure
from tests.servers import objects, ssh


@final
class SftpDepot:
    """OpenSSH's server."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._server = self._held.enter_context(ssh.sshd())
        self.folder = self._server.root / "depot"
        self.folder.mkdir()
        self.port = self._server.port

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        self._server.stop()

    def end(self) -> None:
        self._held.close()

    def section(self, name: str, port: int | None = None) -> str:
        options = {**self._server.options, "port": str(port or self.port), "strict_host_key_checking": "no"}
        path = f"{self._server.prefix}/depot"
        return _sections(name, "sftp", options, path, {"pass", "key_file_pass"})


@final
class S3Depot:
    """``rclone serve s3`` over a folder."""

    def __init__(self) -> None:
        self._held = ExitStack()
        running: AbstractContextManager[objects.ObjectServer] = objects.rclone_s3()
        self._server = self._held.enter_context(running)
        assert self._server.files.is_dir()
        self.folder: Path = self._server.files / "depot"
        self.folder.mkdir()
        self.port = int(self._server.options["endpoint"].rpartition(":")[2])

    def start(self) -> None:
        """It runs."""

    def stop(self) -> None:
        """It runs to the end."""

    def end(self) -> None:
        self._held.close()

    def section(self, name: str, port: int | None = None) -> str:
        endpoint = f"http://127.0.0.1:{port or self.port}"
        return _sections(name, "s3", {**self._server.options, "endpoint": endpoint}, "depot", set())


def _sections(name: str, kind: str, options: dict[str, str], path: str, secret: set[str]) -> str:
    """The storage, and an alias of this name that is rooted in its folder."""
    options = {**options, "timeout": "4s", "connect_timeout": "5s"}
    lines = [f"{key} = {obscure(value) if key in secret else value}" for key, value in options.items()]
    return "\n".join([f"[{name}-server]", f"type = {kind}", *lines, f"[{name}]", "type = alias",
                      f"remote = {name}-server:{path}", ""])  # fmt: skip

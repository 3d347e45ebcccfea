"""A pyftpdlib server as a process: ``python pyftpdlib_main.py '{"port": …, "root": …, …}'``."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer


class _Filesystem(AbstractedFS):  # type: ignore[misc]
    def chdir(self, path: str) -> None:
        """Without changing the process's own directory: once that is deleted, pyftpdlib fails every CWD."""
        os.scandir(path).close()
        self.cwd = self.fs2ftp(path)


class _Dos(_Filesystem):
    def format_list(self, basedir: str, listing: list[str], ignore_err: bool = True) -> Iterator[bytes]:
        """As IIS does, in local time."""
        for name in listing:
            found = os.stat(os.path.join(basedir, name))
            when = time.strftime("%m-%d-%y  %I:%M%p", time.localtime(found.st_mtime))
            kind = "      <DIR>         " if stat.S_ISDIR(found.st_mode) else f"{found.st_size:20}"
            yield f"{when} {kind} {name}\r\n".encode("utf-8", "surrogateescape")


class _Distributed(FTPHandler):  # type: ignore[misc]
    """As servers that are many machines: PRET says before EPSV or PASV what the data connection will be for."""

    proto_cmds = FTPHandler.proto_cmds | {"PRET": {"perm": None, "auth": True, "arg": True, "help": "PRET command"}}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._extra_feats.append("PRET")
        self._announced = ""

    def ftp_PRET(self, line: str) -> None:
        """Take note, or say that there is no such file."""
        verb, _, path = line.partition(" ")
        if verb in ("RETR", "MLSD") and path and not os.path.exists(self.fs.ftp2fs(path)):
            self.respond("550 No such file or directory.")
            return
        self._announced = line
        self.respond("200 OK, planning to use that.")

    def ftp_EPSV(self, line: str) -> None:
        """Only after PRET."""
        if self._announced:
            super().ftp_EPSV(line)
        else:
            self.respond("503 PRET first.")

    def process_command(self, cmd: str, *arguments: Any, **options: Any) -> Any:
        """A transfer must be what was announced, and is announced once."""
        if cmd in ("RETR", "STOR", "APPE", "MLSD", "LIST", "NLST"):
            announced, self._announced = self._announced, ""
            if announced.partition(" ")[0] != cmd:
                self.respond("503 PRET said something else.")
                return None
        return super().process_command(cmd, *arguments, **options)


def main(config: dict[str, Any]) -> None:
    """Serve until killed. ``without`` lists commands that the server shall not know; ``pret``: it wants PRET."""
    authorizer = DummyAuthorizer()
    authorizer.add_user(config["user"], config["password"], config["root"], perm="elradfmwMT")
    base = _Distributed if config.get("pret") else TLS_FTPHandler if config.get("certificate") else FTPHandler
    handler = type("Handler", (base,), {})
    handler.authorizer = authorizer
    handler.abstracted_fs = _Dos if config.get("dos") else _Filesystem
    handler.timeout = 600
    handler.use_sendfile = False
    if config.get("certificate"):
        handler.certfile = config["certificate"]
        handler.tls_control_required = handler.tls_data_required = True
    handler.proto_cmds = {k: v for k, v in base.proto_cmds.items() if k not in config.get("without", ())}
    handler.masquerade_address = config.get("masquerade")
    server = FTPServer((config.get("host", "127.0.0.1"), config["port"]), handler)
    server.max_cons_per_ip = config.get("max_per_ip", 0)
    server.serve_forever(handle_exit=False)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

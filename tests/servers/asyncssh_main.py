"""An asyncssh server as a process: ``python asyncssh_main.py '{"port": …, "root": …, …}'``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import asyncssh


async def main(config: dict[str, Any]) -> None:
    """Serve until killed."""

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (config["user"], config["password"])

    class Files(asyncssh.SFTPServer):
        def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(chan, chroot=config["root"])

    await asyncssh.create_server(
        Server, "127.0.0.1", config["port"], server_host_keys=[config["host_key"]], sftp_factory=Files
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

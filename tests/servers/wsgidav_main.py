"""A WsgiDAV server as a process: ``python wsgidav_main.py '{"port": …, "root": …, …}'``."""

from __future__ import annotations

import json
import sys
from typing import Any

from cheroot.wsgi import Server
from wsgidav import __version__
from wsgidav.wsgidav_app import WsgiDAVApp


def main(config: dict[str, Any]) -> None:
    """Serve until killed."""
    app = WsgiDAVApp({
        "provider_mapping": {"/": config["root"]},
        "simple_dc": {"user_mapping": {"*": {config["user"]: {"password": config["password"]}}}},
        "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
        "lock_storage": True,
        "property_manager": True,
        "verbose": 1,
    })  # fmt: skip
    name = f"WsgiDAV/{__version__} {Server.version}"  # as its own program says
    Server(("127.0.0.1", config["port"]), app, numthreads=16, server_name=name).start()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

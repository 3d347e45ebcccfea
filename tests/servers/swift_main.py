"""OpenStack Swift as a process: ``/usr/bin/python3 swift_main.py PORT FOLDER TOKEN``.

The account, container, object and proxy servers of Debian's python3-swift, in one process, on one disk with one
replica. Whoever asks must show the token: Swift's own tokens need a Keystone, or memcached. Runs with the system's
Python, which the package belongs to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import eventlet

eventlet.monkey_patch()

from eventlet import listen, wsgi  # noqa: E402
from swift.common import utils  # noqa: E402

utils.HASH_PATH_SUFFIX = b"of the tests"  # what /etc/swift/swift.conf would say

from swift.account import server as account  # noqa: E402
from swift.common.middleware import catch_errors, container_quotas, copy, dlo, slo  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.container import server as container  # noqa: E402
from swift.obj import server as objects  # noqa: E402
from swift.proxy import server as proxy  # noqa: E402

App = Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]


def only_with(token: str, app: App) -> App:
    """The login."""

    def answer(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        if environ.get("HTTP_X_AUTH_TOKEN") != token:
            start("401 Unauthorized", [("Content-Length", "0")])
            return [b""]
        environ["swift.authorize"] = lambda request: None
        environ["swift_owner"] = True
        return app(environ, start)

    return answer


def main(port: int, folder: Path, token: str) -> None:
    """Serve until killed."""
    (folder / "devices" / "disk").mkdir(parents=True)
    (folder / "proxy.conf").write_text("[app:proxy-server]\nuse = egg:swift#proxy\n")
    settings = {
        "devices": str(folder / "devices"), "swift_dir": str(folder), "mount_check": "false", "log_level": "WARNING",
        "workers": "0", "disable_fallocate": "true", "account_autocreate": "true",
    }  # fmt: skip
    pool = eventlet.GreenPool(1000)
    for name, kind in (("account", account), ("container", container), ("object", objects)):
        socket = listen(("127.0.0.1", 0))
        at = {"ip": "127.0.0.1", "port": socket.getsockname()[1]}
        builder = RingBuilder(2, 1, 0)
        builder.add_dev({
            "region": 1, "zone": 1, "weight": 1, "device": "disk", **at,
            "replication_ip": at["ip"], "replication_port": at["port"],
        })  # fmt: skip
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{name}.ring.gz"))
        pool.spawn(wsgi.server, socket, kind.app_factory(settings), log_output=False)
    app = proxy.app_factory({**settings, "__name__": "proxy-server", "__file__": str(folder / "proxy.conf")})
    for middleware in (container_quotas, dlo, slo, copy):
        app = middleware.filter_factory(settings)(app)
    app = catch_errors.filter_factory(settings)(only_with(token, app))
    wsgi.server(listen(("127.0.0.1", port)), app, log_output=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

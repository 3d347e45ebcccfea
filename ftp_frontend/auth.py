"""Who may log in, as what, and how often one may try.

`Authenticator` is what the server asks; `SingleUser` is the one for ``--user`` and ``--pass``, the auth proxy
is in :mod:`.auth_proxy`. `Gate` counts connections and failed logins by address, from any thread.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

from mountcore.errors import Denied
from mountcore.vfs import Vfs

from .quota import Allowance
from .rates import Rate

READING = "elr"
"""pyftpdlib's letters: change directory, list, retrieve."""
EVERYTHING = "elradfmwMT"
DELAY_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a login may do, by path: the rule of the nearest directory above counts."""

    everywhere: str = EVERYTHING
    below: Mapping[str, str] = field(default_factory=dict)
    """``/``-rooted path to letters."""

    def letters(self, path: str) -> str:
        """The letters that count at a path."""
        while self.below and path:
            if path in self.below:
                return self.below[path]
            if path == "/":
                break
            path = path.rpartition("/")[0] or "/"
        return self.everywhere


@dataclass(frozen=True, slots=True)
class Account:
    """What a login opens."""

    vfs: Vfs
    permissions: Permissions = field(default_factory=Permissions)
    home: str = "/"
    """The first working directory."""
    rate: Rate | None = None
    """Bytes per second up and down of all this user's transfers together; None: what the server says."""
    allowance: Allowance | None = None
    """How much may be kept in the storage."""


class Seat(Protocol):
    """One login that lasts; ended once."""

    @property
    def account(self) -> Account:
        """What it opens."""

    async def end(self) -> None:
        """The session is over."""


class Authenticator(Protocol):
    """Decides who may log in. On the trio thread."""

    async def login(self, user: str, password: str, client_ip: str) -> Seat:
        """Let in, or raise Denied; another error of storage says that nobody can log in now."""


@final
class _Everyone:
    """The seat of a login that costs nothing."""

    def __init__(self, account: Account) -> None:
        self.account = account

    async def end(self) -> None:
        """Nothing was taken."""


@final
class SingleUser:
    """One user name and password. The empty password accepts any, as rclone's does."""

    def __init__(self, vfs: Vfs, user: str, password: str) -> None:
        self._user = user.encode()
        self._password = password.encode()
        self._seat = _Everyone(Account(vfs, Permissions(READING if vfs.settings.read_only else EVERYTHING)))

    def __repr__(self) -> str:
        return f"<SingleUser {self._user.decode()!r}>"

    @property
    def open_to_all(self) -> bool:
        """Whether anybody can log in who knows, or guesses, the name."""
        return not self._password

    async def login(self, user: str, password: str, client_ip: str) -> Seat:
        """See `Authenticator`. Takes the same time whichever of the two is wrong."""
        given = user.encode("utf-8", "surrogateescape"), password.encode("utf-8", "surrogateescape")
        right_user = hmac.compare_digest(given[0], self._user)
        right_password = hmac.compare_digest(given[1], self._password) or not self._password
        if self._user == b"anonymous" and given[0] == b"ftp":
            right_user = True
        if not (right_user and right_password):
            raise Denied("", "wrong user name or password")
        return self._seat


@final
class Gate:
    """Connections and failed logins by address. From any thread."""

    def __init__(self, *, connections: int, per_address: int, delay: float, ban_after: int, ban_time: float) -> None:
        self._connections = connections
        self._per_address = per_address
        self._delay = delay
        self._ban_after = ban_after
        self._ban_time = ban_time
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._total = 0
        self._failures: dict[str, list[float]] = {}
        self._banned: dict[str, float] = {}

    def enter(self, address: str, *, proxy: bool = False) -> str:
        """Count a connection in; answers "" or why it is turned away (and then it is not counted).

        One from a ``proxy`` is nobody's yet: `behind` says whose.
        """
        with self._lock:
            if proxy and self._connections and self._total >= self._connections:
                return "421 Too many connections. Service temporarily unavailable."
            if proxy:
                self._total += 1
                return ""
            if self._banned and self._banned.get(address, 0.0) > time.monotonic():
                return "421 Too many failed logins; come back later."
            if self._connections and self._total >= self._connections:
                return "421 Too many connections. Service temporarily unavailable."
            if self._per_address and self._open.get(address, 0) >= self._per_address:
                return "421 Too many connections from the same IP address."
            self._open[address] = self._open.get(address, 0) + 1
            self._total += 1
        return ""

    def behind(self, address: str) -> str:
        """A connection from a proxy is this client's; as `enter`. Where it is turned away, it is counted out."""
        with self._lock:
            self._total -= 1
        return self.enter(address)

    def leave(self, address: str = "") -> None:
        """Count a connection out; without an address one of a proxy, of which nobody knows whose it is."""
        with self._lock:
            self._total -= 1
            if not address:
                return
            left = self._open.get(address, 1) - 1
            if left:
                self._open[address] = left
            else:
                self._open.pop(address, None)

    def failed(self, address: str) -> float:
        """Note a failed login; answers how long the reply should take."""
        now = time.monotonic()
        with self._lock:
            for known in [a for a, times in self._failures.items() if now - times[-1] > self._ban_time]:
                del self._failures[known]
            times = [t for t in self._failures.get(address, []) if now - t <= self._ban_time]
            times.append(now)
            self._failures[address] = times[-1000:]
            if self._ban_after and len(times) >= self._ban_after:
                for known in [a for a, until in self._banned.items() if until < now]:
                    del self._banned[known]
                self._banned[address] = now + self._ban_time
            return float(min(DELAY_LIMIT, self._delay * 2 ** min(len(times) - 1, 16)))

    def succeeded(self, address: str) -> None:
        """Note a login that was right: earlier mistakes are forgiven."""
        with self._lock:
            self._failures.pop(address, None)

"""Users and their storage from a program of the operator's: rclone's ``--auth-proxy`` contract, and more.

The program is started without a shell, gets one JSON object on its standard input::

    {"user": "me", "pass": "secret", "client_ip": "192.0.2.7"}

and answers with one on its standard output: the storage's ``type``, ``_root`` and options, all values strings
(numbers and booleans will do). ``_obscure`` lists, with commas, the options whose values are plain; other
secret options are obscured, as in rclone.conf. A non-zero exit refuses the login. What is ours alone:

    _read_only       true: nothing can be changed
    _permissions     letters out of elradfmwMT, or an object of path to letters
    _home            first working directory
    _max_sessions    of this user at once, from this process
    _expires         seconds after which the program is asked again, even in use
    _quota           how much the storage may hold: a number of bytes, or a size like 10G
    _bwlimit         as --user-bwlimit, for this user: RATE or UP:DOWN
    _vfs_…           any VFS option, for the storage, if this login is the first to open it

Invariants: a failure is never remembered; identical logins at the same time are one run of the program; the
memory is keyed by the user and a keyed hash of password and address, compared in constant time, so that a password
is neither kept nor guessed from it; storage is shared by its identity, not by the login. The trio thread only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import trio

from mountcore.errors import Denied, Refused, TimedOut
from mountcore.options import bandwidth, boolean, vfs_settings
from mountcore.quantity import parse_size
from mountcore.remotes.obscure import reveal
from mountcore.remotes.registry import open_remote, types
from mountcore.service import Core
from mountcore.vfs import Vfs

from .auth import EVERYTHING, READING, Account, Permissions, Seat
from .proxy_program import ProxyMode, ProxySettings, Stream, parse, run_once
from .quota import Allowance

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Runs of the program at the same time."""
SWEEP = 10.0


@dataclass(eq=False)
class _Known:
    """An answer that is remembered, with its storage open."""

    account: Account
    digest: bytes
    """Of the password and the address, keyed."""
    max_sessions: int
    expires_at: float
    sessions: int = 0
    used_at: float = field(default_factory=trio.current_time)


class _Run:
    """One question that the program is looking at, and how many more wait for its answer."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.others = 0
        self.known: _Known | None = None
        self.problem: OSError | None = None


@final
class _ProxySeat:
    def __init__(self, proxy: AuthProxy, known: _Known) -> None:
        self.account = known.account
        self._proxy = proxy
        self._known: _Known | None = known

    async def end(self) -> None:
        if self._known is not None:
            known, self._known = self._known, None
            await self._proxy.left(known)


@final
class AuthProxy:
    """Asks the program; see the module. `run` has to run while logins are taken."""

    def __init__(self, core: Core, settings: ProxySettings, vfs_texts: Mapping[str, str]) -> None:
        self._core = core
        self._settings = settings
        self._texts = dict(vfs_texts)
        vfs_settings(self._texts)  # refused now rather than at the first login
        self._hash_key = secrets.token_bytes(32)
        self._known: dict[str, _Known] = {}
        self._allowances: weakref.WeakValueDictionary[tuple[str, int], Allowance] = weakref.WeakValueDictionary()
        """By storage and limit: logins to one storage count together."""
        self._asking: dict[str, _Run] = {}
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._stream = Stream(settings)

    async def run(self) -> None:
        """Forget answers that are not used any more; on leaving, all of them."""
        try:
            while True:
                await trio.sleep(min(SWEEP, max(1.0, self._settings.remember / 4)))
                now = trio.current_time()
                for key, known in list(self._known.items()):
                    idle = not known.sessions and now - known.used_at >= self._settings.remember
                    if idle or now >= known.expires_at:
                        await self._forget(key)
        finally:
            with trio.CancelScope(shield=True):
                for key in list(self._known):
                    await self._forget(key)
                await self._stream.aclose()

    async def login(self, user: str, password: str, client_ip: str) -> Seat:
        """See `Authenticator`."""
        digest = self._digest(user, password, client_ip)
        key = f"{user}-{digest.hex()}"
        known = self._known.get(key)
        if known is not None and not hmac.compare_digest(known.digest, digest):
            known = None
        if known is not None and trio.current_time() >= known.expires_at:
            await self._forget(key)
            known = None
        if known is None:
            known = await self._ask_once(key, digest, user, password, client_ip)
        else:
            known.sessions += 1
        known.used_at = trio.current_time()
        if known.max_sessions and known.sessions > known.max_sessions:
            await self.left(known)
            raise Denied("", f"more than {known.max_sessions} sessions of this user")
        return _ProxySeat(self, known)

    async def left(self, known: _Known) -> None:
        """A session is over."""
        known.sessions -= 1
        known.used_at = trio.current_time()
        if not known.sessions and known not in self._known.values():
            await self._core.detach(known.account.vfs)

    def _digest(self, user: str, password: str, client_ip: str) -> bytes:
        message = f"{user}\0{password}\0{client_ip}".encode("utf-8", "surrogateescape")
        return hmac.new(self._hash_key, message, hashlib.sha256).digest()

    async def _forget(self, key: str) -> None:
        known = self._known.pop(key)
        if not known.sessions:
            await self._core.detach(known.account.vfs)

    async def _ask_once(self, key: str, digest: bytes, user: str, password: str, client_ip: str) -> _Known:
        """One run for all who ask the same at the same time. A session is counted for each of them."""
        while (run := self._asking.get(key)) is not None:
            run.others += 1
            try:
                await run.done.wait()
            except trio.Cancelled:
                run.others -= 1
                if run.known is not None:
                    await self.left(run.known)
                raise
            if run.known is not None:
                return run.known
            if run.problem is not None:
                raise run.problem
        run = self._asking[key] = _Run()
        try:
            known = run.known = await self._ask(digest, user, password, client_ip)
        except OSError as problem:
            run.problem = problem
            raise
        finally:
            del self._asking[key]
            run.done.set()
        known.sessions = 1 + run.others
        if self._settings.remember:
            self._known[key] = known
        return known

    async def _ask(self, digest: bytes, user: str, password: str, client_ip: str) -> _Known:
        question = {"user": user, "pass": password, "client_ip": client_ip}
        async with self._limit:
            try:
                with trio.fail_after(self._settings.timeout):
                    if self._settings.mode is ProxyMode.STREAM:
                        text = await self._stream.ask(json.dumps(question), password)
                    else:
                        text = await run_once(self._settings.command, json.dumps(question), password)
            except trio.TooSlowError:
                log.warning("the auth proxy did not answer within %g seconds", self._settings.timeout)
                raise TimedOut("", "the auth proxy did not answer in time") from None
        try:
            return await self._open(parse(text), digest)
        except Refused as problem:
            log.warning("the auth proxy's answer for user %r cannot be used: %s", user, problem)
            raise Denied("", "the auth proxy's answer cannot be used") from None

    async def _open(self, answer: dict[str, Any], digest: bytes) -> _Known:
        """Open the storage that the program named."""
        ours = {name: answer.pop(name) for name in list(answer) if name.startswith("_")}
        kind = str(answer.pop("type", ""))
        if not kind or "_root" not in ours:
            raise Refused("it needs 'type' and '_root'")
        texts = {name: _text(name, value) for name, value in answer.items()}
        remote = open_remote(kind, _plain(kind, texts, _text("_obscure", ours.get("_obscure", ""))), str(ours["_root"]))
        vfs_texts = dict(self._texts)
        rate = bandwidth(_text("_bwlimit", ours["_bwlimit"])) if "_bwlimit" in ours else None
        quota = _quota(ours["_quota"]) if "_quota" in ours else None
        vfs_texts |= {k[1:].replace("_", "-"): _text(k, v) for k, v in ours.items() if k.startswith("_vfs_")}
        permissions = _permissions(ours)
        home = _text("_home", ours.get("_home", "/"))
        sessions = _number("_max_sessions", ours.get("_max_sessions", 0))
        expires = _number("_expires", ours.get("_expires", 0))
        vfs = await self._core.attach(remote, vfs_settings(vfs_texts))
        if vfs.settings.read_only:
            permissions = Permissions(READING)
        until = trio.current_time() + expires if expires else float("inf")
        allowance = self._allowance(vfs, quota) if quota is not None else None
        return _Known(Account(vfs, permissions, home, rate, allowance), digest, int(sessions), until)

    def _allowance(self, vfs: Vfs, quota: int) -> Allowance:
        key = vfs.remote.identity, quota
        found = self._allowances.get(key)
        if found is None or not found.of(vfs):
            found = self._allowances[key] = Allowance(vfs, quota)
        return found


def _text(name: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case _:
            raise Refused(f"{name!r} is neither a string nor a number or boolean")


def _quota(value: object) -> int:
    """A number is bytes, a text a size as in options."""
    size = parse_size(value) if isinstance(value, str) else int(_number("_quota", value))
    if not size:
        raise Refused("'_quota' is not a size like 10G; for nothing at all there is _read_only")
    return size


def _number(name: str, value: object) -> float:
    try:
        number = float(_text(name, value))
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise Refused(f"{name!r} is not a number from 0")
    return number


def _plain(kind: str, values: dict[str, str], obscure: str) -> dict[str, str]:
    """The options as the adapters want them: secrets revealed."""
    typed = {name.strip() for name in obscure.split(",")}
    known = types().get(kind)
    hidden = {option.name for option in known.options if option.secret} if known is not None else set()
    return {
        name: reveal(value) if name in hidden and name not in typed and value else value
        for name, value in values.items()
    }


def _permissions(ours: Mapping[str, Any]) -> Permissions:
    given = ours.get("_permissions", EVERYTHING)
    rules = {str(path): str(letters) for path, letters in given.items()} if isinstance(given, dict) else {"/": given}
    allowed = READING if boolean(_text("_read_only", ours.get("_read_only", False))) else EVERYTHING
    for path, letters in rules.items():
        if not path.startswith("/") or not isinstance(letters, str) or set(letters) - set(EVERYTHING):
            raise Refused(f"'_permissions' are letters out of {EVERYTHING}, or an object of /path to letters")
    kept = {path: "".join(c for c in letters if c in allowed) for path, letters in rules.items()}
    everywhere = kept.pop("/", READING)
    return Permissions(everywhere, {path.rstrip("/"): letters for path, letters in kept.items()})

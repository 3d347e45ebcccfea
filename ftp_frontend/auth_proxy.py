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
    _bwlimit         as --bwlimit, for the storage
    _vfs_…           any VFS option, for the storage, if this login is the first to open it

Invariants: a failure is never remembered; identical logins at the same time are one run of the program; the
memory is keyed by the user and a keyed hash of password and address, so that a password is neither kept nor
guessed from it; storage is shared by its identity, not by the login. The trio thread only.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import hmac
import json
import logging
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import trio

from mountcore.errors import Denied, Refused, StorageError, TimedOut, Unreachable
from mountcore.options import boolean, vfs_settings
from mountcore.remotes.obscure import reveal
from mountcore.remotes.registry import open_remote, types
from mountcore.service import Core

from .auth import EVERYTHING, READING, Account, Permissions, Seat

log = logging.getLogger(__name__)

ANSWER_LIMIT = 1 << 20
"""Bytes that the program may answer, and complain."""
AT_ONCE = 16
"""Runs of the program at the same time."""
SWEEP = 10.0


class ProxyMode(enum.Enum):
    """How the program is run."""

    PROCESS = "process"
    """Once for every login."""
    STREAM = "stream"
    """Kept running: a line in, a line out; ``{"error": "why"}`` refuses."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The program and its bounds, in seconds."""

    command: tuple[str, ...]
    mode: ProxyMode = ProxyMode.PROCESS
    timeout: float = 30.0
    remember: float = 300.0

    @classmethod
    def of(cls, command: str, mode: ProxyMode, timeout: float, remember: float) -> ProxySettings:
        """From the options; raises :class:`Refused` for a program that is not there."""
        try:
            words = shlex.split(command)
        except ValueError as problem:
            raise Refused(f"--auth-proxy: {problem}") from None
        if not words or shutil.which(words[0]) is None:
            raise Refused(f"--auth-proxy: {words[0] if words else ''!r} is not a program that can be started")
        return cls(tuple(words), mode, timeout, remember)


@dataclass(eq=False)
class _Known:
    """An answer that is remembered, with its storage open."""

    account: Account
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
        self._asking: dict[str, _Run] = {}
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._stream = _Stream(settings)

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
        key = self._key(user, password, client_ip)
        known = self._known.get(key)
        if known is not None and trio.current_time() >= known.expires_at:
            await self._forget(key)
            known = None
        if known is None:
            known = await self._ask_once(key, user, password, client_ip)
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

    def _key(self, user: str, password: str, client_ip: str) -> str:
        message = f"{password}\0{client_ip}".encode("utf-8", "surrogateescape")
        return f"{user}-{hmac.new(self._hash_key, message, hashlib.sha256).hexdigest()}"

    async def _forget(self, key: str) -> None:
        known = self._known.pop(key)
        if not known.sessions:
            await self._core.detach(known.account.vfs)

    async def _ask_once(self, key: str, user: str, password: str, client_ip: str) -> _Known:
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
            known = run.known = await self._ask(user, password, client_ip)
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

    async def _ask(self, user: str, password: str, client_ip: str) -> _Known:
        question = {"user": user, "pass": password, "client_ip": client_ip}
        async with self._limit:
            try:
                with trio.fail_after(self._settings.timeout):
                    if self._settings.mode is ProxyMode.STREAM:
                        text = await self._stream.ask(json.dumps(question), password)
                    else:
                        text = await _run_once(self._settings.command, json.dumps(question), password)
            except trio.TooSlowError:
                log.warning("the auth proxy did not answer within %g seconds", self._settings.timeout)
                raise TimedOut("", "the auth proxy did not answer in time") from None
        try:
            return await self._open(_parse(text))
        except Refused as problem:
            log.warning("the auth proxy's answer for user %r cannot be used: %s", user, problem)
            raise Denied("", "the auth proxy's answer cannot be used") from None

    async def _open(self, answer: dict[str, Any]) -> _Known:
        """Open the storage that the program named."""
        ours = {name: answer.pop(name) for name in list(answer) if name.startswith("_")}
        kind = str(answer.pop("type", ""))
        if not kind or "_root" not in ours:
            raise Refused("it needs 'type' and '_root'")
        texts = {name: _text(name, value) for name, value in answer.items()}
        remote = open_remote(kind, _plain(kind, texts, _text("_obscure", ours.get("_obscure", ""))), str(ours["_root"]))
        if "_quota" in ours:
            raise Refused("'_quota' is not supported; refusing rather than ignoring it")
        vfs_texts = dict(self._texts)
        if "_bwlimit" in ours:
            vfs_texts["bwlimit"] = _text("_bwlimit", ours["_bwlimit"])
        vfs_texts |= {k[1:].replace("_", "-"): _text(k, v) for k, v in ours.items() if k.startswith("_vfs_")}
        permissions = _permissions(ours)
        home = _text("_home", ours.get("_home", "/"))
        sessions = _number("_max_sessions", ours.get("_max_sessions", 0))
        expires = _number("_expires", ours.get("_expires", 0))
        vfs = await self._core.attach(remote, vfs_settings(vfs_texts))
        if vfs.settings.read_only:
            permissions = Permissions(READING)
        until = trio.current_time() + expires if expires else float("inf")
        return _Known(Account(vfs, permissions, home), int(sessions), until)


def _parse(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        raise Refused("it is not JSON") from None
    if not isinstance(answer, dict):
        raise Refused("it is not a JSON object")
    return answer


def _text(name: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case _:
            raise Refused(f"{name!r} is neither a string nor a number or boolean")


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


def _masked(text: str, password: str) -> str:
    return text.replace(password, "***") if password else text


async def _run_once(command: tuple[str, ...], question: str, password: str) -> str:
    """One run of the program; Denied when it says no."""
    try:
        process = await trio.lowlevel.open_process(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except OSError as problem:
        log.warning("the auth proxy cannot be started: %s", problem.strerror)
        raise Unreachable("", "the auth proxy cannot be started") from None
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output: dict[str, bytes] = {}
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process.stdin, question)
            nursery.start_soon(_read, process.stdout, output, "out")
            nursery.start_soon(_read, process.stderr, output, "err")
        status = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()
    complaint = _masked(output["err"].decode(errors="replace").strip(), password)
    if complaint:
        log.info("auth proxy: %s", complaint[:2000])
    if status:
        raise Denied("", "the auth proxy refused")
    if len(output["out"]) > ANSWER_LIMIT:
        raise StorageError("", "the auth proxy answers too much")
    return output["out"].decode(errors="replace")


async def _feed(stream: trio.abc.SendStream, question: str) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # a program that does not read may answer all the same
        await stream.send_all(question.encode("utf-8", "surrogateescape") + b"\n")
    await stream.aclose()


async def _read(stream: trio.abc.ReceiveStream, output: dict[str, bytes], name: str) -> None:
    """Everything up to a little over the limit; what comes after is dropped."""
    data = b""
    while piece := await stream.receive_some(1 << 16):
        if len(data) <= ANSWER_LIMIT:
            data += piece
    output[name] = data


@final
class _Stream:
    """The program, kept running; started again when it ended."""

    def __init__(self, settings: ProxySettings) -> None:
        self._command = list(settings.command)
        self._process: trio.Process | None = None
        self._turn = trio.Lock()
        self._rest = b""

    async def ask(self, question: str, password: str) -> str:
        """One line out, one line in; Denied for ``{"error": …}``."""
        async with self._turn:
            try:
                line = await self._exchange(question.encode("utf-8", "surrogateescape") + b"\n")
            except (OSError, trio.BrokenResourceError) as problem:
                await self._kill()
                log.warning("the auth proxy ended: %s", problem)
                raise Unreachable("", "the auth proxy ended") from None
            except BaseException:  # whatever of the answer is still to come must not be taken for the next one's
                with trio.CancelScope(shield=True):
                    await self._kill()
                raise
        text = line.decode(errors="replace")
        answer = _parse(text)
        if "error" in answer:
            log.info("auth proxy: %s", _masked(str(answer["error"]), password)[:2000])
            raise Denied("", "the auth proxy refused")
        return text

    async def _exchange(self, question: bytes) -> bytes:
        if self._process is None or self._process.poll() is not None:
            await self._kill()
            self._process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send_all(question)
        while b"\n" not in self._rest:
            piece = await process.stdout.receive_some(1 << 16)
            if not piece or len(self._rest) > ANSWER_LIMIT:
                raise trio.BrokenResourceError("no complete answer")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def _kill(self) -> None:
        process, self._process, self._rest = self._process, None, b""
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()

    async def aclose(self) -> None:
        """End the program."""
        await self._kill()

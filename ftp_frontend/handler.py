"""A session: its control connection, what state it is in, and how commands get to the methods that do them.

Used by the server, which runs each session in a thread and loop of its own. The commands are in
:mod:`.login_commands`, :mod:`.session_commands` (data connections, transfers), :mod:`.file_commands` and
:mod:`.extra_commands`; they answer by `respond`, or by raising: `Answer` with a reply, or an error of the
core, which becomes one.

While a password is being looked at, an upload being committed, or a storage that is slow asked for something, only
NOOP and STAT are carried out, and ABOR gives up what is waited for; whatever else arrives waits until that reply was
sent, so that replies come in the order of the commands.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from . import commands
from .auth import Account, Seat
from .channel import PIECE
from .filesystem import FileSystem, Opened, Staged, Storage
from .library import FTPHandler
from .loop import SessionLoop
from .ports import plain_address
from .replies import one_line, refusal
from .tls import CONTROL_TICKETS, Secured
from .transfer import DataChannel
from .transfer_log import Transfer

T = TypeVar("T")
logger = logging.getLogger(__name__)

LINE_LIMIT = 8192
"""Bytes of a command line; more than a path of 4096 bytes needs."""
DEFERRED_LIMIT = 64
STRANGE_LIMIT = 20
"""Commands nobody knows that are answered before a client that has not logged in is sent away."""
_TELNET = re.compile(rb"\xff(?:(\xff)|[\xfb-\xfe].?|[\xf0-\xfa])?", re.DOTALL)
_BREAK = re.compile("[\r\n\0]")


class Answer(Exception):
    """Ends a command with this reply."""


class Gone(Exception):
    """The session ended while a command waited."""


class Handler(Secured, FTPHandler):  # type: ignore[misc]
    """What all commands share."""

    ioloop: SessionLoop
    data_channel: DataChannel | None
    fs: FileSystem
    username: str
    connected: bool
    producer_fifo: collections.deque[Any]
    remote_ip: str
    authenticated: bool
    attempted_logins: int
    _in_buffer: list[bytes]
    _in_buffer_len: int
    _restart_position: int
    _rnfr: str | None
    _current_type: str
    _dtp_acceptor: Any
    _dtp_connector: Any
    _in_dtp_queue: tuple[Any, str] | None
    _out_dtp_queue: tuple[Any, bool, Any, str] | None
    proto_cmds = commands.COMMANDS
    dtp_handler = DataChannel
    unicode_errors = "surrogateescape"
    use_gmt_times = True
    auth_failed_timeout = 0
    quiet = staticmethod(logger.debug)
    loud = staticmethod(logger.info)

    def __init__(self, conn: Any, server: Any, ioloop: Any = None) -> None:
        self.account: Account | None = None
        self.seat: Seat | None = None
        self.compression: int | None = None
        """The level of MODE Z; None in MODE S."""
        self.shared_rate: Any = None
        """The meters of all sessions of this user."""
        self.storage: Storage
        self.data_protected = False
        self.tls_context: Any = None
        self.tls_reuse_required = False
        self.keep_partial = False
        self.data_timeout = 300.0
        self.passive_range: tuple[int, int] | None = None
        self._deferred: collections.deque[tuple[str, str, str]] = collections.deque()
        self._resuming = self._given_up = False
        self.judging = False
        """A password is being looked at."""
        self._overlong = False
        self._strange = 0
        self._held: list[bytes] | None = None
        self._buffer: memoryview | None = None
        server.prepare(self)
        super().__init__(conn, server, ioloop)
        self.peer_ip = self.remote_ip = plain_address(self.remote_ip)
        """Who is connected: a load balancer, if ``remote_ip`` is somebody behind it."""
        self._available_facts = list(commands.FACTS)
        self._current_facts = list(commands.DEFAULT_FACTS)

    @property
    def buffer(self) -> memoryview:
        """Where uploads are received; made when first wanted."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(PIECE))
        return self._buffer

    def call(self, operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a core operation and wait; only this command waits. Raises Gone if the client does not any more."""
        return self._still_here(self.ioloop.call(operation, *args))

    def attempt(self, at_once: Callable[..., T | None], operation: Callable[..., Awaitable[T]], *args: object) -> T:
        """`call`, where a plain function may have the answer at once."""
        return self._still_here(self.ioloop.attempt(at_once, operation, *args))

    def _still_here(self, result: T) -> T:
        if not self._closed:
            return result
        if isinstance(result, Opened):
            self.ioloop.ask(result.handle.close, then=lambda done: None)
        elif isinstance(result, Staged):
            self.ioloop.ask(result.stage.discard, then=lambda done: None)
        raise Gone

    # from bytes to commands

    def readable(self) -> bool:
        return self.handshaking or self.connected

    def handle_read_event(self) -> None:
        if self.handshaking:
            self._handshake()
        else:
            self.handle_read()

    def handle(self) -> None:
        """Greet; with implicit TLS, once that is up."""
        if self.server.implicit:
            self.start_tls(self.server.certificates, self.tls_context, tickets=CONTROL_TICKETS)
        else:
            super().handle()

    def on_secured(self) -> None:
        if self.server.implicit:
            self.data_protected = True
            super().handle()

    def on_insecure(self, problem: Exception) -> None:
        self.log(f"TLS handshake failed: {problem}")
        self.close()

    def collect_incoming_data(self, data: bytes) -> None:
        if self._overlong:
            return
        self._in_buffer.append(data)
        self._in_buffer_len += len(data)
        if self._in_buffer_len > LINE_LIMIT:
            self._overlong = True
            self._in_buffer, self._in_buffer_len = [], 0

    def found_terminator(self) -> None:
        if self._overlong:
            self._overlong = False
            self.respond("500 Command too long.")
            return
        super().found_terminator()

    def decode(self, bytes: bytes) -> str:
        """A line as text: telnet commands taken out (RFC 1123 §4.1.2.12), UTF-8, else the fallback encoding."""
        if b"\xff" in bytes:
            bytes = _TELNET.sub(rb"\1", bytes)
        fallback = self.server.settings.fallback_encoding
        try:
            return bytes.decode("utf-8")
        except UnicodeDecodeError:
            if fallback:
                return bytes.decode(fallback, "replace")
            return bytes.decode("utf-8", "surrogateescape")

    def push(self, data: str) -> None:
        line = data.encode("utf-8", "surrogateescape")
        if self._held is not None:
            self._held.append(line)
        else:
            self._say(line)

    def _say(self, line: bytes) -> None:
        """Send it at once where that can be; the library's way for the rest, and for connections that broke."""
        if not self.producer_fifo and not self._closed and not self.handshaking and not self.secured:
            with contextlib.suppress(OSError):
                line = line[self.socket.send(line) :]
        if line:
            super(FTPHandler, self).push(line)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send what is replied meanwhile at once; nothing may be waited for meanwhile.

        Of a small file all is then said in one segment, and the client wakes once.
        """
        self._held = []
        try:
            yield
        finally:
            self._let_out()

    def _let_out(self) -> None:
        held, self._held = self._held, None
        if held and not self._closed:
            self._say(b"".join(held))

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        if self.busy and (cmd not in commands.MEANWHILE or arg):
            if cmd.endswith("ABOR") and self.ioloop.give_up():
                self._given_up = True
            if len(self._deferred) < DEFERRED_LIMIT:
                self._deferred.append((line, cmd, arg))
            else:
                self.respond("421 Too many commands at once.")
                self.close_when_done()
            return
        self._carry_out(line, cmd, arg)

    @property
    def busy(self) -> bool:
        """Whether the reply to an earlier command has to come first."""
        return (
            self.judging or bool(self.ioloop.waiting) or (self.data_channel is not None and self.data_channel.settling)
        )

    def resume(self) -> None:
        """What was waited for has ended: a login, or a transfer."""
        if self._resuming:
            return
        self._resuming = True
        try:
            while self._deferred and not self._closed and not self.busy:
                self._carry_out(*self._deferred.popleft())
        finally:
            self._resuming = False

    def _carry_out(self, line: str, cmd: str, arg: str) -> None:
        if _BREAK.search(line):
            self.respond("501 A line break or NUL in a command.")
            return
        if cmd == "SITE" and arg:
            word, _, rest = arg.partition(" ")
            cmd, arg = f"SITE {word.upper()}", rest
        facts = self.proto_cmds.get(cmd) or self.proto_cmds.get(cmd[-4:] if cmd[-4:] in commands.URGENT else "")
        if facts is None:
            self._unknown(cmd)
            return
        if cmd not in self.proto_cmds:
            cmd = cmd[-4:]
        shown = "***" if cmd in commands.SECRET else arg
        self.logline(f"<- {cmd} {shown}")
        if facts["arg"] is not None and bool(arg) is not facts["arg"]:
            self.respond(
                f"501 Syntax error: command {'needs an argument' if facts['arg'] else 'does not accept arguments'}."
            )
        elif not self.authenticated and (facts["auth"] or (cmd == "STAT" and arg)):
            self.respond("530 Log in with USER and PASS first.")
        else:
            self.process_command(cmd, arg)

    def _unknown(self, cmd: str) -> None:
        if cmd in commands.FOREIGN and not self.authenticated:
            self.log("a web browser, or somebody who uses one, talks to the FTP port")
            self.close()
            return
        self._strange += 1
        if self._strange > STRANGE_LIMIT and not self.authenticated:
            self.respond("421 Too many unknown commands.")
            self.close_when_done()
            return
        self.respond(f'500 Command "{one_line(cmd)[:40]}" not understood.')

    def process_command(self, cmd: str, *args: Any, **kwargs: Any) -> None:
        """Carry a command out and make a reply of what it raises."""
        if self._closed:
            return
        self._last_response = ""
        try:
            getattr(self, "ftp_" + cmd.replace(" ", "_"))(*args, **kwargs)
        except Answer as answer:
            self.respond(str(answer))
        except OSError as problem:
            self.respond("426 Given up: ABOR." if self._given_up else refusal(problem))
        except UnicodeError:
            self.respond("553 The name cannot be stored.")
        except Gone:
            return
        if self._last_response and not self._closed:
            shown = "***" if cmd in commands.SECRET else (args[0] if args else "")
            self.log_cmd(cmd, shown, int(self._last_response[:3]), self._last_response[4:])
        if self._deferred and not self.ioloop.waiting:
            self._given_up = False
            self.resume()

    # replies and logs

    def respond(self, resp: str, logfun: Callable[[str], None] = logger.debug) -> None:
        if self._closed:
            return
        self._last_response = resp
        self.push(resp + "\r\n")
        if logger.isEnabledFor(logging.DEBUG):
            self.log(f"-> {resp}", logfun)
        elif logger.isEnabledFor(logging.INFO):
            self.log(resp[4:], logfun)

    def log(self, msg: str, logfun: Callable[[str], None] = logger.info) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        logfun(f"{self.remote_ip}:{self.remote_port} [{one_line(self.username)}] {one_line(msg)}")

    def logline(self, msg: str, logfun: Callable[[str], None] = logger.debug) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            self.log(msg, logfun)

    def log_exception(self, instance: object) -> None:
        logger.exception("%s [%s]: a fault in the server", self.remote_ip, one_line(self.username))

    def log_transfer(self, cmd: str, filename: str, receive: bool, completed: bool, elapsed: float, bytes: int) -> None:
        """A transfer of a file has ended."""
        self.log(f"{cmd} {filename} completed={completed:d} bytes={bytes} seconds={elapsed}")
        if self.server.transfers is not None:
            self.server.transfers.note(
                Transfer(
                    user=self.username, client=self.remote_ip, command=cmd, path=filename, bytes=bytes,
                    seconds=elapsed, upload=receive, text=self._current_type == "a", complete=completed,
                    encrypted=self.data_protected, anonymous=self.username in ("anonymous", "ftp"),
                    reply=one_line(self._last_response),
                )
            )  # fmt: skip

    # the path of a command

    def path(self, text: str, permission: str) -> str:
        """The path that the client named, if this login may do that there."""
        path = self.fs.ftpnorm(text or self.fs.cwd)
        self.allow(path, permission)
        return path

    def allow(self, path: str, permission: str) -> None:
        """Raise the refusal of what this login may not do."""
        assert self.account is not None
        if permission not in self.account.permissions.letters(path):
            raise Answer("550 Not enough privileges.")

    # the end

    def shut_down(self) -> None:
        """The server stops."""
        if self._closed:
            return
        self.respond("421 The server is shutting down.")
        self.close()

    def handle_timeout(self) -> None:
        if self.handshaking:
            self.close()
            return
        if self.ioloop.waiting:  # the client waits for us
            self._idler = self.ioloop.call_later(self.timeout, self.handle_timeout, _errback=self.handle_error)
            return
        super().handle_timeout()

    def close(self) -> None:
        if self._closed:
            return
        self._let_out()
        self.ioloop.give_up()
        channel = self.data_channel
        if channel is not None and channel.active:
            channel.lost_control()
        super().close()
        self.data_channel = None
        self._out_dtp_queue = self._in_dtp_queue = None
        self.leave()

    def leave(self) -> None:
        """Give the login back."""
        self.authenticated = False
        self.account = None
        if self.seat is not None:
            seat, self.seat = self.seat, None
            self.ioloop.ask(seat.end, then=lambda result: None)

    def _on_dtp_close(self) -> None:
        if self._closed:
            self.data_channel = None
        else:
            super()._on_dtp_close()

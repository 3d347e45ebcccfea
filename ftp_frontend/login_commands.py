"""Commands about who is there and how well it is protected: login, logout, TLS.

Part of a session (see :mod:`.handler`), in its thread. A password is looked at without waiting: commands that
follow are kept until its answer was sent.
"""

from __future__ import annotations

from typing import Any

import outcome

from mountcore.errors import Denied

from .auth import Seat
from .files import as_os_error
from .filesystem import FileSystem, Storage
from .handler import Answer, Handler
from .replies import explain
from .settings import TlsMode
from .tls import CONTROL_TICKETS


class LoginCommands(Handler):
    """See the module."""

    # login

    def ftp_USER(self, line: str) -> None:
        if self.server.settings.tls.mode is TlsMode.REQUIRE and not self.secured:
            raise Answer("530 TLS is required; send AUTH TLS first.")
        super().ftp_USER(line)

    def ftp_PASS(self, line: str) -> None:
        if self.authenticated:
            raise Answer("503 User already authenticated.")
        if not self.username:
            raise Answer("503 Login with USER first.")
        self.judging = True
        self.ioloop.ask(self.server.authenticator.login, self.username, line, self.remote_ip, then=self._judged)

    def _judged(self, result: outcome.Outcome[Seat]) -> None:
        if self._closed:
            if isinstance(result, outcome.Value):
                self.ioloop.ask(result.value.end, then=lambda ended: None)
            return
        if isinstance(result, outcome.Value):
            self._seated(result.value)
            return
        assert isinstance(result, outcome.Error)
        problem = as_os_error(result.error)
        if isinstance(problem, Denied):
            self.log("failed login", self.loud)
            self._delay_refusal("530 Authentication failed.")
        else:
            self.log(f"nobody can log in: {explain(problem)}", self.loud)
            self._delay_refusal("530 Login is not possible now.")

    def _seated(self, seat: Seat) -> None:
        self.seat, self.account = seat, seat.account
        self.storage = Storage(seat.account.vfs, self.server.settings.acknowledge, seat.account.allowance)
        self.shared_rate = self.server.rates.of(self.username, seat.account.rate)
        self.fs = FileSystem(seat.account.home, self)
        self.authenticated = True
        self.attempted_logins = 0
        self.server.gate.succeeded(self.remote_ip)
        self.respond("230 Login successful.")
        self.log("logged in", self.loud)
        self.on_login(self.username)
        self._judgement_given()

    def _delay_refusal(self, reply: str) -> None:
        self.attempted_logins += 1
        self.on_login_failed(self.username, "")
        self.username = ""
        self.call_later(self.server.gate.failed(self.remote_ip), self._refuse_login, reply)

    def _refuse_login(self, reply: str) -> None:
        if self.attempted_logins >= self.max_login_attempts:
            self.respond(f"{reply[:-1]}; disconnecting.")
            self.close_when_done()
        else:
            self.respond(reply)
            self._judgement_given()

    def _judgement_given(self) -> None:
        """Take up the commands that came while the password was looked at."""
        self.judging = False
        self.resume()

    def flush_account(self) -> None:
        self._withdraw()
        super().flush_account()
        self.leave()

    def ftp_REIN(self, line: str) -> None:
        self.flush_account()
        self.respond("230 Ready for new user.")

    def ftp_QUIT(self, line: str) -> None:
        self._withdraw()
        self.respond("221 Goodbye.")
        if self.data_channel is not None and self.data_channel.active:
            self._quit_pending = True
            self.del_channel()
        else:
            self._shutdown_connecting_dtp()
            self.close_when_done()

    # TLS

    def ftp_AUTH(self, line: str) -> None:
        if self.server.certificates is None:
            raise Answer("502 TLS is not set up here.")
        if self.secured:
            raise Answer("503 Already using TLS.")
        if line.upper() not in ("TLS", "TLS-C", "SSL", "TLS-P"):
            raise Answer("504 Unknown mechanism; use TLS.")
        if self.ac_in_buffer or self.authenticated:
            # what came in clear before TLS must not be taken for something said inside it
            self.respond("503 Nothing may be sent between AUTH and TLS, and AUTH comes before USER.")
            self.close_when_done()
            return
        self.respond(f"234 AUTH {line.upper()} successful.")
        self.username = ""
        self.start_tls(self.server.certificates, self.tls_context, tickets=CONTROL_TICKETS)

    def ftp_PBSZ(self, line: str) -> None:
        if not self.secured:
            raise Answer("503 PBSZ not allowed on insecure control connection.")
        self.respond("200 PBSZ=0 successful.")

    def ftp_PROT(self, line: str) -> None:
        if not self.secured:
            raise Answer("503 PROT not allowed on insecure control connection.")
        match line.upper():
            case "C" if self.server.settings.tls.mode is TlsMode.REQUIRE:
                self.respond("534 Data connections have to be private here.")
            case "C":
                self.data_protected = False
                self.respond("200 Protection set to Clear.")
            case "P":
                self.data_protected = True
                self.respond("200 Protection set to Private.")
            case "S" | "E":
                self.respond(f"536 PROT {line.upper()} unsupported (use C or P).")
            case _:
                self.respond("504 Unrecognized PROT type (use C or P).")

    def ftp_CCC(self, line: str) -> None:
        self.respond("534 The control connection stays encrypted.")

    def _withdraw(self) -> bool:
        """Forget a transfer that waits for its data connection."""
        files: list[Any] = []
        if self._out_dtp_queue is not None:
            files.append(self._out_dtp_queue[2])
        if self._in_dtp_queue is not None:
            files.append(self._in_dtp_queue[0])
        self._out_dtp_queue = self._in_dtp_queue = None
        for file in files:
            if file is not None:
                file.close()
        return bool(files)

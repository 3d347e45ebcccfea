"""What is said on control connections, for people: in the log at level DEBUG, and on stderr where that was asked for.

No password is in either. On stderr host and user name are masked too, unless the options say otherwise.
"""

from __future__ import annotations

import logging
import sys
from typing import final

from .options import FtpOptions

log = logging.getLogger(__name__)
MASK = "***"
LOGIN = ("USER", "PASS", "ACCT")
_SECRET = LOGIN[1:]


@final
class Console:
    """The transcript of one control connection."""

    def __init__(self, options: FtpOptions) -> None:
        self._options = options
        self.quiet = not options.console and not log.isEnabledFor(logging.DEBUG)
        """Nobody listens, now that the connection begins."""
        self._name = f"{id(self) >> 4 & 0xFFFF:04x}"
        self._private = [text for text in (options.user, options.host, options.proxy and options.proxy.host) if text]

    def sent(self, verb: str, argument: str) -> None:
        """A command, about to be sent."""
        if verb in _SECRET:
            argument = MASK
        self._tell(">", f"{verb} {argument}".rstrip())

    def received(self, line: str) -> None:
        """The last line of a reply."""
        self._tell("<", line)

    def without_password(self, line: str) -> str:
        """A line that came before the login was done: servers exist that repeat the password there."""
        password = self._options.password
        return line.replace(password, MASK) if password else line

    def _tell(self, direction: str, text: str) -> None:
        log.debug("%s %s %s", self._name, direction, text)
        if self._options.console:
            if not self._options.console_private:
                for word in self._private:
                    text = text.replace(word, MASK)
            shown = text.encode("utf-8", "backslashreplace").decode()
            print(f"ftp {self._name} {direction} {shown}", file=sys.stderr, flush=True)

"""Commands about files and directories: listing, facts, times, names.

Part of a session (see :mod:`.handler`), in its thread. Each command is one trip into the core.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from mountcore.errors import InvalidName, NameTooLong, NotDirectory, NotFound
from mountcore.remotes.protocol import Kind

from .filesystem import Found
from .handler import Answer
from .library import AsyncChat
from .listing import (
    Entry,
    Lines,
    Names,
    facts_line,
    facts_of,
    has_pattern,
    list_line,
    matching,
    modify,
    without_options,
)
from .replies import explain, quoted
from .session_commands import SessionCommands

_UTIME = re.compile(r"(?P<path>.+) [0-9]{12,14} (?P<modified>[0-9]{12,14}) [0-9]{12,14} UTC", re.DOTALL)
"""The other form of SITE UTIME: times of access, change and creation (ncftp, Pure-FTPd)."""


class FileCommands(SessionCommands):
    """See the module."""

    # listings

    def _details(self, entries: Sequence[Entry]) -> Sequence[Found]:
        return self.ioloop.call_in_turn(self.storage.details, entries)

    def _entries(self, argument: str) -> tuple[str, list[Entry] | None, Found | None]:
        """What a listing command names: letters of options, the entries of a directory (or of a pattern), or one file.

        Sorted by name.
        """
        options, rest = without_options(argument)
        path = self.path(rest, "l")
        pattern = posixpath.basename(path)
        try:
            found = self.attempt(self.storage.try_entry, self.storage.entry, path)
        except NotFound:
            if not has_pattern(pattern):
                raise
            inside = self.call(self.storage.listing, posixpath.dirname(path))
            return options, sorted(matching(inside, pattern)), None
        if found.attributes.kind is Kind.DIRECTORY and "d" not in options:
            return options, sorted(self.call(self.storage.listing, path), key=_name), None
        return options, None, found

    def ftp_LIST(self, line: str) -> None:
        self._ready_for_transfer()
        _, entries, found = self._entries(line)
        make = partial(list_line, now=time.time())
        if entries is None:
            assert found is not None
            self.push_dtp_data(make(found), cmd="LIST")
        else:
            self.push_dtp_data(Lines(entries, self._details, make), isproducer=True, cmd="LIST")

    def ftp_NLST(self, line: str) -> None:
        self._ready_for_transfer()
        _, entries, found = self._entries(line)
        if entries is None:
            assert found is not None
            names = [without_options(line)[1] or found.name]
        else:
            names = [name for name, _ in entries]
            prefix, _, last = without_options(line)[1].rpartition("/")
            if prefix and has_pattern(last):
                names = [f"{prefix}/{name}" for name in names]
        self.push_dtp_data(Names(names), isproducer=True, cmd="NLST")

    def ftp_MLSD(self, line: str) -> None:
        self._ready_for_transfer()
        path = self.path(line, "l")
        try:
            entries = self.call(self.storage.listing, path)
        except NotDirectory:
            raise Answer("501 Not a directory.") from None  # RFC 3659 §7.2.1
        assert self.account is not None
        make = partial(facts_line, facts=self._current_facts, letters=self.account.permissions.letters(path))
        self.push_dtp_data(Lines(sorted(entries, key=_name), self._details, make), isproducer=True, cmd="MLSD")

    def ftp_MLST(self, line: str) -> None:
        path = self.path(line, "l")
        found = self.attempt(self.storage.try_entry, self.storage.entry, path)
        assert self.account is not None
        facts = facts_of(found, self._current_facts, self.account.permissions.letters(path))
        self.push(f'250-Listing "{path}":\r\n {facts} {path}\r\n')
        self.respond("250 End MLST.")

    def ftp_STAT(self, line: str) -> None:
        if not line:
            self.push("211-FTP server status:\r\n" + "".join(f" {item}\r\n" for item in self.session_state()))
            self.respond("211 End of status.")
            return
        _, entries, found = self._entries(line)
        make = partial(list_line, now=time.time())
        self.push(f'213-Status of "{self.fs.ftpnorm(without_options(line)[1])}":\r\n')
        lines = Lines(entries, self._details, make) if entries is not None else None
        if lines is not None:
            AsyncChat.push_with_producer(self, lines)
        elif found is not None:
            self.push(make(found).decode("utf-8", "surrogateescape"))
        self.respond("213 End of status.")

    # facts of one file

    def _file(self, path: str) -> Found:
        found = self.attempt(self.storage.try_entry, self.storage.entry, path)
        if found.attributes.kind is not Kind.FILE:
            raise Answer(f"550 {path} is not retrievable.")
        return found

    def ftp_SIZE(self, line: str) -> None:
        path = self.path(line, "l")
        if self._current_type == "a":
            raise Answer("550 SIZE not allowed in ASCII mode.")
        self.respond(f"213 {self._file(path).attributes.size}")

    def ftp_MDTM(self, line: str) -> None:
        stamp, _, rest = line.partition(" ")
        if rest and len(stamp) >= 14 and stamp[:14].isdigit():
            try:
                self._file(self.path(line, "l"))
            except NotFound:  # not a file's name, so a time to set, as clients do where there is no MFMT
                self._set_time(stamp, rest, "213 {time}")
                return
        self.respond(f"213 {modify(self._file(self.path(line, 'l')).attributes.mtime_ns)}")

    def ftp_MFMT(self, line: str) -> None:
        stamp, blank, rest = line.partition(" ")
        if not blank:
            raise Answer("501 Syntax error: command needs two arguments.")
        self._set_time(stamp, rest, "213 Modify={time}; {path}.")

    def ftp_MFF(self, line: str) -> None:
        facts, blank, rest = line.partition(" ")
        wanted = dict(part.partition("=")[::2] for part in facts.split(";") if part)
        if not blank or not wanted:
            raise Answer("501 Syntax: MFF Modify=YYYYMMDDHHMMSS; path.")
        known = {name.lower(): value for name, value in wanted.items()}
        if unknown := set(known) - {"modify", "unix.mode"}:
            raise Answer(f"504 {', '.join(sorted(unknown))} cannot be changed.")
        if "unix.mode" in known:
            self._chmod(known["unix.mode"], rest)
        if "modify" in known:
            self._set_time(known["modify"], rest, "")
        self.respond(f"213 {facts} {self.path(rest, 'l')}")

    def ftp_SITE_UTIME(self, line: str) -> None:
        if (named := _UTIME.fullmatch(line)) is not None:
            stamp, rest = named["modified"], named["path"]
        else:
            stamp, blank, rest = line.partition(" ")
            if not blank:
                raise Answer("501 Syntax error: command needs two arguments.")
        self._set_time(stamp if len(stamp) > 12 else stamp + "00", rest, "200 SITE UTIME successful.")

    def _set_time(self, stamp: str, name: str, reply: str) -> None:
        path = self.path(name, "T")
        whole, _, fraction = stamp.partition(".")
        try:
            if len(whole) != 14 or not (whole + fraction).isdigit():
                raise ValueError
            parts = (whole[:4], *(whole[at : at + 2] for at in range(4, 14, 2)))
            year, month, day, hour, minute, second = map(int, parts)
            seconds = int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
        except ValueError:
            raise Answer("501 Invalid time format; expected: YYYYMMDDHHMMSS.") from None
        nanoseconds = int(fraction[:9].ljust(9, "0")) if fraction else 0
        mtime_ns = self.attempt(self.storage.try_set_mtime, self.storage.set_mtime, path, seconds * 10**9 + nanoseconds)
        if reply:
            self.respond(reply.format(time=modify(mtime_ns), path=path))

    def ftp_SITE_CHMOD(self, line: str) -> None:
        mode, blank, rest = line.partition(" ")
        if not blank:
            raise Answer("501 Syntax error: command needs two arguments.")
        self._chmod(mode, rest)
        self.respond("200 SITE CHMOD successful.")

    def _chmod(self, mode: str, name: str) -> None:
        path = self.path(name, "M")
        if not 3 <= len(mode) <= 4 or any(c not in "01234567" for c in mode):
            raise Answer("501 Invalid SITE CHMOD format.")
        self.attempt(self.storage.try_chmod, self.storage.chmod, path, int(mode, 8))

    def ftp_SITE_SYMLINK(self, line: str) -> None:
        try:
            target, name = shlex.split(line)
        except ValueError:
            raise Answer("501 Syntax: SITE SYMLINK target link, names with blanks in quotes.") from None
        self.call(self.storage.symlink, self.path(name, "w"), target)
        self.respond("200 SITE SYMLINK successful.")

    # names

    def ftp_MKD(self, line: str) -> None:
        path = self.path(line, "m")
        self.call(self.storage.mkdir, path)
        self.respond(f"257 {quoted(path)} directory created.")

    def ftp_RMD(self, line: str) -> None:
        path = self.path(line, "d")
        if path == "/":
            raise Answer("550 Can't remove root directory.")
        self.call(self.storage.rmdir, path)
        self.respond("250 Directory removed.")

    def ftp_DELE(self, line: str) -> None:
        self.call(self.storage.remove, self.path(line, "d"))
        self.respond("250 File removed.")

    def ftp_RNFR(self, line: str) -> None:
        path = self.path(line, "f")
        if path == "/":
            raise Answer("550 Can't rename home directory.")
        self.call(self.storage.exists, path)
        self._rnfr = path
        self.respond("350 Ready for destination name.")

    def ftp_RNTO(self, line: str) -> None:
        source, self._rnfr = self._rnfr, None
        if source is None:
            raise Answer("503 Bad sequence of commands: use RNFR first.")
        path = self.path(line, "f")
        if path == "/":
            raise Answer("550 Can't replace the home directory.")
        try:
            self.call(self.storage.rename, source, path)
        except (InvalidName, NameTooLong) as problem:
            raise Answer(f"553 {explain(problem)}.") from None
        self.respond("250 Renaming ok.")


def _name(entry: Entry) -> str:
    return entry[0]

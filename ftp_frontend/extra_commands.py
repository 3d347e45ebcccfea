"""Commands beyond RFC 959: features and options, digests, free space, greetings between programs.

Part of a session (see :mod:`.handler`), in its thread. A digest is made of the cache file's bytes, read by
this thread; the session waits for it, no other does.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from .channel import PIECE
from .commands import DEFAULT_FACTS, FACTS, TLS_COMMANDS
from .file_commands import FileCommands
from .filesystem import STEP
from .handler import Answer, Gone
from .library import FTPHandler
from .settings import TlsMode


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


#: the names of the IANA registry that draft-bryan-ftp-hash uses
DIGESTS: dict[str, Callable[[], Digest]] = {
    "SHA-256": hashlib.sha256,
    "SHA-512": hashlib.sha512,
    "SHA-1": lambda: hashlib.sha1(usedforsecurity=False),
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
    "CRC32": _Crc32,
}
#: those that storage may know, by their names in hashlib
AT_STORAGE = {"SHA-256": "sha256", "SHA-512": "sha512", "SHA-1": "sha1", "MD5": "md5", "CRC32": "crc32"}
_RANGED = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>.+?))(?:\s+(?P<start>\d+)(?:\s+(?P<stop>\d+))?)?\s*')


class Commands(FileCommands):
    """All commands: what the server makes a session of."""

    _digest = "SHA-256"
    _level = 6

    def ftp_FEAT(self, line: str) -> None:
        facts = "".join(f"{fact}{'*' if fact in self._current_facts else ''};" for fact in FACTS)
        digests = ";".join(f"{name}{'*' if name == self._digest else ''}" for name in DIGESTS)
        features = [
            "AVBL", "CLNT", "CSID", "EPRT", "EPSV", f"HASH {digests}", "HOST", "LANG EN*", "MDTM",
            "MFF Modify;UNIX.mode;", "MFMT", f"MLST {facts}", "REST STREAM", "SIZE", "SITE CHMOD;SYMLINK;UTIME", "TVFS",
            "UTF8", "XCRC", "XMD5", "XSHA1", "XSHA256", "XSHA512",
        ]  # fmt: skip
        if self.server.settings.mode_z:
            features.append("MODE Z")
        if self.server.certificates is not None:
            features += ["AUTH TLS", "PBSZ", "PROT"]
        self.push("211-Features supported:\r\n" + "".join(f" {feature}\r\n" for feature in sorted(features)))
        self.respond("211 End FEAT.")

    def ftp_OPTS(self, line: str) -> None:
        command, _, value = line.partition(" ")
        match command.upper():
            case "UTF8" | "UTF-8" if value.upper() in ("", "ON"):
                self.respond("200 Always in UTF8 mode.")
            case "UTF8" | "UTF-8":
                self.respond("504 Always in UTF8 mode.")
            case "MLST":
                if " " in value:
                    raise Answer("501 Invalid number of arguments.")
                if value and ";" not in value:
                    raise Answer("501 Invalid argument.")
                wanted = [name.lower() for name in value.split(";")]
                self._current_facts = [fact for fact in FACTS if fact.lower() in wanted]
                self.respond("200 MLST OPTS " + "".join(f"{fact};" for fact in self._current_facts))
            case "HASH" if not value:
                self.respond(f"200 {self._digest}")
            case "HASH":
                if value.upper() not in DIGESTS:
                    raise Answer(f"501 Unknown digest; there are {', '.join(DIGESTS)}.")
                self._digest = value.upper()
                self.respond(f"200 {self._digest}")
            case "MODE" if self.server.settings.mode_z:
                words = value.upper().split()
                if len(words) != 3 or words[:2] != ["Z", "LEVEL"] or words[2] not in "123456789":
                    raise Answer("501 Syntax: OPTS MODE Z LEVEL 1-9.")
                self._level = int(words[2])
                if self.compression is not None:
                    self.compression = self._level
                self.respond(f"200 MODE Z LEVEL {self._level}")
            case _:
                raise Answer(f"501 Unsupported command {command!r}; there are UTF8, MLST, HASH and MODE.")

    def ftp_MODE(self, line: str) -> None:
        match line.upper():
            case "S":
                self.compression = None
            case "Z" if self.server.settings.mode_z:
                self.compression = self._level
            case "B" | "C" | "Z":
                raise Answer("504 Unimplemented MODE type.")
            case _:
                raise Answer("501 Unrecognized MODE type.")
        self.respond(f"200 Transfer mode set to: {line.upper()}")

    def flush_account(self) -> None:
        super().flush_account()
        self._current_facts, self._digest = list(DEFAULT_FACTS), "SHA-256"
        self.compression, self._level = None, 6

    # digests

    def _pieces(self, path: str, start: int, stop: int | None) -> Iterator[bytes]:
        opened = self.call(self.storage.open, path, start)
        try:
            end = opened.size if stop is None else min(stop, opened.size)
            position, fd = start, opened.handle.fileno()
            while position < end:
                if fd < 0:
                    data = self.call(opened.handle.read, position, min(STEP, end - position))
                    yield data
                    position += len(data)
                    continue
                present = min(end, self.call(opened.handle.lease, position, STEP))
                if self.ioloop.attend():
                    raise Answer("426 Given up.")
                if self._closed:
                    raise Gone
                while position < present:
                    data = os.pread(fd, min(PIECE, present - position), position)
                    yield data
                    position += len(data)
        finally:
            self.ioloop.ask(opened.handle.close, then=lambda result: None)

    def _digest_of(self, name: str, kind: str, start: int = 0, stop: int | None = None) -> tuple[str, str]:
        """The path and the digest."""
        path = self.path(name, "r")
        if not start and stop is None and kind in AT_STORAGE:
            told = self.call(self.storage.told_digest, path, AT_STORAGE[kind])
            if told:
                return path, told
        digest = DIGESTS[kind]()
        for data in self._pieces(path, start, stop):
            if not data:
                raise Answer("450 The file became shorter while it was read.")
            digest.update(data)
        return path, digest.hexdigest()

    def ftp_HASH(self, line: str) -> None:
        path, value = self._digest_of(line, self._digest)
        size = self.call(self.storage.stat, path).size
        self.respond(f"213 {self._digest} 0-{size} {value} {path}")

    def _x_digest(self, line: str, kind: str) -> None:
        """``XCRC "path" start stop``: quotes and range may be left out."""
        match = _RANGED.fullmatch(line)
        if line.startswith('"') and match is not None:
            stop = match["stop"]
            _, value = self._digest_of(match["quoted"], kind, int(match["start"] or 0), int(stop) if stop else None)
        else:
            _, value = self._digest_of(line, kind)
        self.respond(f"250 {value.upper()}")

    def ftp_XCRC(self, line: str) -> None:
        self._x_digest(line, "CRC32")

    def ftp_XMD5(self, line: str) -> None:
        self._x_digest(line, "MD5")

    def ftp_XSHA1(self, line: str) -> None:
        self._x_digest(line, "SHA-1")

    def ftp_XSHA256(self, line: str) -> None:
        self._x_digest(line, "SHA-256")

    def ftp_XSHA512(self, line: str) -> None:
        self._x_digest(line, "SHA-512")

    # greetings and the like

    def ftp_AVBL(self, line: str) -> None:
        self.path(line, "l")
        self.respond(f"213 {self.call(self.storage.free)}")

    def ftp_CLNT(self, line: str) -> None:
        self.log(f"client is {line[:100]}")
        self.respond("200 Noted.")

    def ftp_CSID(self, line: str) -> None:
        self.respond("200 Name=portside;")

    def ftp_HOST(self, line: str) -> None:
        if self.authenticated or self.username:
            raise Answer("503 HOST comes before USER.")
        self.respond("220 Host accepted.")

    def ftp_LANG(self, line: str) -> None:
        if line and line.lower().partition("-")[0] != "en":
            raise Answer("504 Replies are in English only.")
        self.respond("200 Replies are in English.")

    def ftp_ACCT(self, line: str) -> None:
        self.respond("202 No account is needed.")

    def ftp_SITE(self, line: str) -> None:
        raise Answer("501 See SITE HELP.")

    def ftp_HELP(self, line: str) -> None:
        known = self.proto_cmds
        hidden = TLS_COMMANDS if self.server.settings.tls.mode is TlsMode.OFF else frozenset()
        if line:
            if line.upper() not in known:
                raise Answer("501 Unrecognized command.")
            self.respond(f"214 {known[line.upper()]['help']}")
            return
        names = sorted(name for name in known if " " not in name and name not in hidden)
        rows = ["".join(f" {name:<7}" for name in names[i : i + 8]).rstrip() for i in range(0, len(names), 8)]
        self.push("214-The following commands are recognized:\r\n" + "".join(f"{row}\r\n" for row in rows))
        self.respond("214 Help command successful.")

    def ftp_SITE_HELP(self, line: str) -> None:
        FTPHandler.ftp_SITE_HELP(self, f"SITE {line}" if line else line)

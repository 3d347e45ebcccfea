"""One connection to an SMB server, with its session and share. Blocking; used by several threads at once.

Every wait for an answer is bounded. After one that did not come the link is broken: it is closed, and whoever
waits on it gets an error. What must happen together travels in one compound request.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

from smbprotocol.connection import Connection
from smbprotocol.exceptions import NoMoreFiles, NoSuchFile, SMBException
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2QueryDirectoryResponse,
    SMB2QueryInfoRequest,
    SMB2QueryInfoResponse,
    SMB2SetInfoRequest,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from ...errors import StorageError, TimedOut
from .failures import speaking, translated
from .options import SmbOptions

logging.getLogger("smbprotocol").setLevel(logging.CRITICAL)  # it writes tracebacks; what matters comes as errors

Access = FilePipePrinterAccessMask
PIECE = 1 << 20
CREDIT = 1 << 16
"""Bytes that the server lets pass for one credit."""
CREDITS = 512
DEPTH = 2
"""Pieces of one transfer that are on their way at once."""
PARALLEL = 8
DIRECTORY = 0x10
"""Of the attributes."""
_EPOCH = 116_444_736_000_000_000
_FILE, _FILE_SYSTEM = 1, 2
_ENTRY = struct.Struct("<II6QII")
_INFO = struct.Struct("<6QI")
SHARE_ALL = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says of a file or directory."""

    size: int
    mtime_ns: int
    directory: bool
    name: str = ""


def file_time(mtime_ns: int) -> int:
    """100 ns since 1601; 0 would mean to leave it."""
    return max(1, mtime_ns // 100 + _EPOCH)


@final
class _Connection(Connection):  # type: ignore[misc]
    """One that waits no longer than it may."""

    patience = 60.0

    def receive(self, request: Any, wait: bool = True, timeout: Any = None, resolve_symlinks: bool = True) -> Any:
        return super().receive(request, wait, timeout or self.patience, resolve_symlinks)


@final
class Link:
    """See the module. Connects when made; raises :class:`StorageError`."""

    def __init__(self, options: SmbOptions) -> None:
        self._broken = False
        self.used = time.monotonic()
        connection = _Connection(uuid.uuid4(), options.host, options.port, require_signing=True)
        self._connection = connection
        user = f"{options.domain}\\{options.user}" if options.domain else options.user
        try:
            with speaking(""):
                connection.patience = options.connect_timeout
                connection.connect(timeout=options.connect_timeout)
                self._bound_sending(options.timeout)
                session = Session(connection, user, options.password, require_encryption=False, auth_protocol="ntlm")
                session.connect()
                host = f"{options.host.replace(':', '-')}.ipv6-literal.net" if ":" in options.host else options.host
                self._tree = TreeConnect(session, rf"\\{host}\{options.share}")
                self._tree.connect()
                connection.echo(sid=session.session_id, timeout=options.connect_timeout, credit_request=CREDITS)
                connection.patience = options.timeout
        except BaseException:
            self.close()
            raise
        self._session = session
        credits = connection.sequence_window["high"] - connection.sequence_window["low"]
        most = max(1, credits // (PARALLEL * DEPTH)) * CREDIT if connection.supports_multi_credit else CREDIT
        self.read_piece = min(PIECE, most, connection.max_read_size)
        self.write_piece = min(PIECE, most, connection.max_write_size)

    @property
    def usable(self) -> bool:
        """Whether it makes sense to ask on it."""
        return not self._broken and bool(self._connection.transport.connected)

    @property
    def busy(self) -> bool:
        """Whether an answer is outstanding or a file is open: a reader that has paused, a listing half-way."""
        return bool(self._connection.outstanding_requests or self._session.open_table)

    def _bound_sending(self, seconds: float) -> None:
        whole, part = divmod(seconds, 1)
        transport = self._connection.transport
        sock: socket.socket = transport._sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole), int(part * 1e6)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Hang up: sessions end with their connection. Whoever waits gets an error."""
        self._broken = True
        with suppress(SMBException, OSError):
            if self._connection.transport is not None:
                self._connection.disconnect(close=False)

    # requests

    def post(self, path: str, *messages: Any) -> list[Any]:
        """Send messages about one file, as one compound request."""
        with self._speaking(path):
            sid, tid = self._session.session_id, self._tree.tree_connect_id
            if len(messages) == 1:
                return [self._connection.send(messages[0], sid, tid)]
            return list(self._connection.send_compound(list(messages), sid, tid, related=True))

    def answers(self, path: str, waits: list[tuple[Callable[[Any], Any], Any]]) -> list[Any]:
        """The answers to them, all waited for; raises the first error."""
        found: list[Any] = []
        first: StorageError | None = None
        for receive, request in waits:
            try:
                with self._speaking(path):
                    found.append(receive(request))
            except StorageError as problem:
                first = first or problem
        if first is not None:
            raise first
        return found

    def _speaking(self, path: str) -> _Speaking:
        return _Speaking(self, path)

    def open(
        self, path: str, wire: str, access: int, *, disposition: int = CreateDisposition.FILE_OPEN,
        options: int = 0, share: int = SHARE_ALL,
    ) -> tuple[Open, Found]:  # fmt: skip
        """Open or make a file; :meth:`shut` it."""
        file = Open(self._tree, wire)
        access |= Access.FILE_READ_ATTRIBUTES
        create, created = file.create(
            ImpersonationLevel.Impersonation, access, 0, share, disposition, options, send=False
        )
        query = _query(file, _FILE, 34, 56)
        requests = self.post(path, create, query)
        try:
            _, info = self.answers(path, [(created, requests[0]), (self._info, requests[1])])
        except BaseException:
            if file.connected:
                self.shut(path, file)
            raise
        return file, _found(info)

    def once(
        self, path: str, wire: str, access: int, *steps: tuple[int, int, bytes],
        disposition: int = CreateDisposition.FILE_OPEN, options: int = 0,
    ) -> None:  # fmt: skip
        """Open, change as ``steps`` say (see :meth:`change`), and close, all in one request."""
        file = Open(self._tree, wire)
        create, created = file.create(
            ImpersonationLevel.Impersonation, access, 0, SHARE_ALL, disposition, options, send=False
        )
        close, closed = file.close(send=False)
        changes = [_change(file, *step) for step in steps]
        requests = self.post(path, create, *changes, close)
        waits = [created, *(self._connection.receive for _ in steps), closed]
        self.answers(path, list(zip(waits, requests, strict=True)))

    def look(self, path: str, wire: str, options: int = 0) -> Found:
        """What is there, in one request."""
        file = Open(self._tree, wire)
        create, created = file.create(
            ImpersonationLevel.Impersonation, Access.FILE_READ_ATTRIBUTES, 0, SHARE_ALL, CreateDisposition.FILE_OPEN,
            options, send=False,
        )  # fmt: skip
        close, closed = file.close(send=False)
        requests = self.post(path, create, _query(file, _FILE, 34, 56), close)
        _, info, _ = self.answers(path, list(zip((created, self._info, closed), requests, strict=True)))
        return _found(info)

    def room(self, wire: str) -> tuple[int, int]:
        """Bytes of the volume, and those that this user may still fill."""
        file, _ = self.open("", wire, Access.FILE_READ_ATTRIBUTES)
        try:
            requests = self.post("", _query(file, _FILE_SYSTEM, 7, 32))
            [info] = self.answers("", [(self._info, requests[0])])
        finally:
            self.shut("", file)
        total, free, _, sectors, sector = struct.unpack("<qqqII", info[:32])
        return total * sectors * sector, free * sectors * sector

    def change(self, path: str, file: Open, information: int, content: bytes) -> None:
        """Set information of an open file: a class of MS-FSCC §2.4 and its content."""
        requests = self.post(path, _change(file, _FILE, information, content))
        self.answers(path, [(self._connection.receive, requests[0])])

    def flush(self, path: str, file: Open) -> None:
        """Have the server write it to its disk."""
        with self._speaking(path):
            file.flush()

    def shut(self, path: str, file: Open) -> None:
        """Close a file; errors do not matter any more."""
        with suppress(StorageError), self._speaking(path):
            file.close()

    def scan(self, path: str, file: Open) -> Iterator[list[Found]]:
        """What is in an open directory, some at a time."""
        while True:
            query, _ = file.query_directory("*", 1, 0, max_output=CREDIT, send=False)
            with self._speaking(path):
                [request] = self.post(path, query)
                try:
                    response = self._connection.receive(request)
                except (NoMoreFiles, NoSuchFile):
                    return
                answer = SMB2QueryDirectoryResponse()
                answer.unpack(response["data"].get_value())
                data = answer["buffer"].get_value()
            yield list(_entries(data))

    def _info(self, request: Any) -> bytes:
        answer = SMB2QueryInfoResponse()
        answer.unpack(self._connection.receive(request)["data"].get_value())
        return bytes(answer["buffer"].get_value())


@final
class _Speaking:
    """Errors inside become ours; one that leaves answers outstanding breaks the link."""

    def __init__(self, link: Link, path: str) -> None:
        self._link = link
        self._path = path

    def __enter__(self) -> None:
        self._link.used = time.monotonic()

    def __exit__(self, _kind: object, problem: BaseException | None, _where: object) -> None:
        if problem is None or isinstance(problem, StorageError):
            return
        if isinstance(problem, SMBException | OSError | ValueError | struct.error | KeyError | AttributeError):
            ours = translated(self._path, problem)
            if isinstance(ours, TimedOut) or not isinstance(problem, SMBException):
                self._link.close()
            raise ours from problem


def _query(file: Open, kind: int, information: int, length: int) -> Any:
    message = SMB2QueryInfoRequest()
    message["info_type"] = kind
    message["file_info_class"] = information
    message["file_id"] = file.file_id
    message["output_buffer_length"] = length
    return message


def _change(file: Open, kind: int, information: int, content: bytes) -> Any:
    message = SMB2SetInfoRequest()
    message["info_type"] = kind
    message["file_info_class"] = information
    message["file_id"] = file.file_id
    message["buffer"] = content
    return message


def times(mtime_ns: int) -> tuple[int, int, bytes]:
    """FileBasicInformation: set the time of the last change of the content, and nothing else."""
    return _FILE, 4, struct.pack("<QQQQII", 0, 0, file_time(mtime_ns), 0, 0, 0)


def renamed(wire: str, replace: bool) -> tuple[int, int, bytes]:
    """FileRenameInformation: another name, in the same share."""
    name = wire.encode("utf-16-le")
    return _FILE, 10, struct.pack("<B7xQI", replace, 0, len(name)) + name


DELETED = (_FILE, 13, b"\1")
"""FileDispositionInformation: delete it when it is closed."""
DIRECTORY_FILE, NO_DIRECTORY = CreateOptions.FILE_DIRECTORY_FILE, CreateOptions.FILE_NON_DIRECTORY_FILE


def _found(info: bytes) -> Found:
    _, _, written, _, _, size, attributes = _INFO.unpack_from(info)
    directory = bool(attributes & DIRECTORY)
    return Found(0 if directory else size, (written - _EPOCH) * 100, directory)


def _entries(data: bytes) -> Iterator[Found]:
    at = 0
    while True:
        following, _, _, _, written, _, size, _, attributes, length = _ENTRY.unpack_from(data, at)
        name = data[at + _ENTRY.size : at + _ENTRY.size + length].decode("utf-16-le", "surrogatepass")
        directory = bool(attributes & DIRECTORY)
        if name not in (".", ".."):
            yield Found(0 if directory else size, (written - _EPOCH) * 100, directory, name)
        if not following:
            return
        at += following

"""The control socket of a mount or server: how ``portside umount``, ``status`` and ``uploads`` talk to its process.

A Unix stream socket of mode 0600 in a directory that only this user can enter, named by a hash of the mount
point's real path, or of the address that an FTP server listens on (one for each). A request is one line of JSON,
``{"do": "status"}`` or ``{"do": "unmount"}``; the answer is lines of JSON: any number of ``{"progress": …}``, then
one ``{"done": …}`` or ``{"error": …}``. The peer must be the same user, or root
(SO_PEERCRED).

The serving side runs on trio; the asking side is plain sockets, so that a command starts quickly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .errors import Refused

if TYPE_CHECKING:
    import trio

LINE_LIMIT = 1 << 20
DEFAULT_PORT = 2121
"""Where ``portside serve ftp`` listens unless told otherwise."""
Message = Mapping[str, Any]
Answer = Callable[[Message], Awaitable[None]]
"""Sends one line of an answer."""
Handler = Callable[[Message, Answer], Awaitable[None]]
"""Deals with one request."""


def directories() -> tuple[Path, ...]:
    """Where sockets of this user may be, the preferred place first."""
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    places = []
    if uid == 0:
        places.append(Path("/run/portside"))
    elif runtime.startswith("/"):
        places.append(Path(runtime) / "portside")
    else:
        places.append(Path(f"/run/user/{uid}/portside"))
    return (*places, Path(f"/tmp/portside-{uid}"))  # noqa: S108 - made private, and its owner is checked


def is_server(place: str) -> bool:
    """Whether users mean an FTP server by this, and no mount point: ``ftp://localhost:2121``."""
    return place.startswith("ftp://")


def server_name(host: str, port: int) -> str:
    """What stands in a mount point's place for a server that listens there."""
    return f"ftp://[{host}]:{port}" if ":" in host else f"ftp://{host}:{port}"


def names_of(place: str) -> list[str]:
    """What users may mean by a mount point, or by the URL of a server of this machine; raises :class:`Refused`."""
    if not is_server(place):
        return [real_path(place)]
    try:
        parts = urlsplit(place)
        host, port = parts.hostname or "localhost", parts.port or DEFAULT_PORT
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ValueError, OSError) as problem:
        raise Refused(f"{place}: {problem}; name a server of this machine, like ftp://localhost:2121") from None
    hosts = dict.fromkeys([*(str(where[0]) for *_, where in found), "::", "0.0.0.0"])  # noqa: S104 - a name, no listening
    return [server_name(each, port) for each in hosts]


def socket_name(mountpoint: str) -> str:
    """The name of a mount point's socket. ``mountpoint`` is its real path, or the name of a server."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24] + ".sock"


def real_path(mountpoint: str) -> str:
    """The mount point's path without symbolic links; does not touch the file system that is mounted there."""
    path = os.path.abspath(os.path.expanduser(mountpoint))
    parent, name = os.path.split(path)
    here = os.path.join(os.path.realpath(parent), name)
    return here if mounted_type(here) is not None else os.path.realpath(path)


def mounted_type(real: str) -> str | None:
    """The file system type of what is mounted on top at this path (``fuse.portside``), or None."""
    kind = None
    wanted = os.fsencode(real)
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        if _unescape(fields.split(b" ")[4]) == wanted:
            kind = rest.split(b" ")[0].decode()
    return kind


def _unescape(path: bytes) -> bytes:
    """proc(5): blank, tab, newline and backslash stand in octal."""
    for code, char in ((rb"\040", b" "), (rb"\011", b"\t"), (rb"\012", b"\n"), (rb"\134", b"\\")):
        path = path.replace(code, char)
    return path


@contextlib.asynccontextmanager
async def listening(mountpoint: str, handler: Handler) -> AsyncIterator[Path]:
    """Answer requests about this mount (its real path) or server for as long as the block runs."""
    import trio

    path = _private_directory() / socket_name(mountpoint)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # ours, of a process that is gone: the place is free, or it could not be taken
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        await listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(8)

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            async with stream:
                await _answer(stream, handler)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener, nursery, serve)
            yield path
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


async def _accept(
    listener: trio.socket.SocketType, nursery: trio.Nursery, serve: Callable[[trio.SocketStream], Awaitable[None]]
) -> None:
    import trio

    while True:
        client, _ = await listener.accept()
        nursery.start_soon(serve, trio.SocketStream(client))


async def _answer(stream: trio.SocketStream, handler: Handler) -> None:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    if uid not in (0, os.geteuid()):
        return

    async def send(message: Message) -> None:
        await stream.send_all(json.dumps(message).encode() + b"\n")

    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        part = await stream.receive_some(65536)
        if not part:
            return
        line += part
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise TypeError
    except (ValueError, TypeError):
        await send({"error": "a request is one line with a JSON object"})
        return
    await handler(request, send)


def _private_directory() -> Path:
    """The first directory for sockets that can be had, made if need be."""
    problem = "no place"
    for place in directories():
        try:
            place.mkdir(0o700, exist_ok=True)
            facts = place.lstat()
        except OSError as error:
            problem = f"{place}: {error.strerror}"
            continue
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077:
            return place
        problem = f"{place}: not a directory that only this user can enter"
    raise Refused(f"no directory for the control socket ({problem}); set XDG_RUNTIME_DIR to a private directory")


def ask(mountpoint: str, request: Message) -> Iterator[dict[str, Any]]:
    """The answers of the process that serves this mount (its real path), line by line.

    Raises FileNotFoundError where no process listens for it, ConnectionError if it goes away before the end.
    """
    connection = _connect(mountpoint)
    with connection, connection.makefile("rb") as answers:
        connection.sendall(json.dumps(request).encode() + b"\n")
        for line in answers:
            message = cast(dict[str, Any], json.loads(line))
            yield message
            if "done" in message or "error" in message:
                return
    raise ConnectionResetError("the process that serves the mount ended before it answered")


def _connect(mountpoint: str) -> socket.socket:
    for place in directories():
        path = place / socket_name(mountpoint)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if path.lstat().st_uid != os.geteuid():
                raise FileNotFoundError
            connection.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, PermissionError):
            connection.close()
            continue
        return connection
    raise FileNotFoundError("no process listens")

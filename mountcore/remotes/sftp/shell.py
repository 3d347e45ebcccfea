"""Hashes by the server's own programs, where a command may be run there. On the asyncio loop.

A command is trusted only if the shell is a POSIX one and stands in the same directory as the SFTP session: where
SFTP is confined to another root (ChrootDirectory), the same path would name another file.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping

import asyncssh

from ...errors import Corrupt, TimedOut, Unreachable, Unsupported
from .options import SftpOptions, Shell

PROBE_WITHIN = 5.0
PROBE = "echo portside $((6*7)); pwd -P; for p in md5sum sha1sum sha256sum; do command -v $p && echo has $p; done"
ALGORITHMS = ("md5", "sha1", "sha256")
OUTPUT = 8192
"""Bytes of a command's output that are looked at."""


async def commands(connection: asyncssh.SSHClientConnection, options: SftpOptions, home: str) -> Mapping[str, str]:
    """Which hashes the server computes, and by what command. ``home`` is where the SFTP session stands."""
    named = dict(options.hash_commands)
    if options.shell is Shell.NONE:
        return {}
    found: dict[str, str] = {}
    if len(named) < len(ALGORITHMS) or options.shell is Shell.PROBE:
        try:
            async with asyncio.timeout(PROBE_WITHIN):
                lines = (await _output(connection, PROBE)).decode("utf-8", "surrogateescape").splitlines()
        except (TimeoutError, asyncssh.Error, OSError):
            return {}
        if lines[:1] != ["portside 42"] or (lines[1:2] != [home] and not options.path_override):
            return {}
        found = {name: f"{name}sum" for name in ALGORITHMS if f"has {name}sum" in lines}
    return {name: command for name, command in (found | named).items() if command}


async def digest(
    connection: asyncssh.SSHClientConnection, command: str, path: str, wire: bytes, options: SftpOptions
) -> str:
    """Run a hash command on a file; bounded by the time that its size may take at the server."""
    place = wire.decode("utf-8", "surrogateescape")
    if options.path_override:
        override = options.path_override
        place = f"{override[1:]}/{place}" if override.startswith("@") else f"{override}/{path}"
    try:
        line = f"{command} < {shlex.quote(place)}"
        line.encode()
    except UnicodeEncodeError:
        raise Unsupported(path, "the name is not UTF-8, which a command cannot be given") from None
    try:
        output = await _output(connection, line)
    except TimeoutError:
        raise TimedOut(path, f"{command} did not end") from None
    except asyncssh.ChannelOpenError as problem:
        raise Unsupported(path, f"no command can be run: {problem.reason}") from None
    except asyncssh.Error as problem:
        raise Unreachable(path, problem.reason) from None
    match = re.match(rb"\\?([0-9a-fA-F]{32,128})\b", output)
    if match is None:
        raise Corrupt(path, f"{command} said something else than a hash")
    return match[1].decode("ascii").lower()


async def _output(connection: asyncssh.SSHClientConnection, command: str) -> bytes:
    process = await connection.create_process(command, stdin=asyncssh.DEVNULL, stderr=asyncssh.DEVNULL, encoding=None)
    try:
        output = b""
        while len(output) < OUTPUT and (more := await process.stdout.read(OUTPUT)):
            output += bytes(more)
        return output
    finally:
        process.close()

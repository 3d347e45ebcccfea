"""Names that are not UTF-8, and servers that store such a name as another one. Used by :mod:`.remote`.

pyftpdlib replaces what it cannot decode: the upload succeeds, and the file has a name that nobody asked for. So the
first such name that is to be made has the server tried out, with an empty directory of a name of our own.
"""

from __future__ import annotations

from contextlib import aclosing

from ...errors import InvalidName
from ..partials import partial_name
from ..paths import basename, join, parent
from .session import Session

NOT_RAW = "the server does not keep bytes of a name that are not UTF-8"


def is_raw(path: str) -> bool:
    """Whether a path has bytes in it that are not UTF-8 (PEP 383)."""
    return not path.isascii() and any("\udc80" <= char <= "\udcff" for char in path)


async def check_raw(session: Session, path: str) -> None:
    """Raises `InvalidName` for a name that the server would store as another one."""
    server = session.server
    if not is_raw(basename(path)):
        return
    if server.raw_names is None:
        server.raw_names = await _keeps(session, parent(path))
    if server.raw_names is False:
        raise InvalidName(path, NOT_RAW)


async def _keeps(session: Session, directory: str) -> bool | None:
    """Whether a raw name is listed as it was made; None if the directory takes none, whatever its name."""
    name = partial_name("raw\udcff", hidden=session.server.dot_names)
    reply = await session.connection.command("MKD", await session.at(join(directory, name)))
    if not reply.ok:
        plain = partial_name("raw", hidden=session.server.dot_names)
        other = await session.connection.command("MKD", await session.at(join(directory, plain)))
        if other.ok:
            await session.connection.command("RMD", await session.at(join(directory, plain)))
        return False if other.ok else None
    try:
        async with aclosing(session.listing(directory)) as batches:
            return any([any(entry.name == name for entry in batch) async for batch in batches])
    finally:
        await session.connection.command("RMD", await session.at(join(directory, name)))

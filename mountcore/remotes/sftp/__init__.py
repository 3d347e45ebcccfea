"""SFTP as storage, over asyncssh (SSH: RFC 4251-4254; SFTP version 3 with OpenSSH's extensions, its file PROTOCOL).

``options`` is what the user says. ``dial`` makes SSH connections and knows whom to trust, ``link`` is one connection
with its SFTP session, ``pool`` lends links, ``shell`` runs hash programs; these live on an asyncio loop in a thread of
their own (:mod:`mountcore.remotes.loop`), as do the coroutines of ``names`` and ``transfer``. ``remote`` implements
the port on top, on the trio side.

Many requests travel on one link at once. A cancelled call takes back what it opened; a link on which an answer is
overdue is closed, and whatever waits on it fails with ``TimedOut`` or ``Unreachable``.
"""

from __future__ import annotations

from .remote import SftpRemote, open

__all__ = ["SftpRemote", "open"]

"""FTP as storage: RFC 959, 2228, 2428, 2640, 3659 and 4217, and what servers make of them.

``options`` (what the user says), ``replies`` and ``listing`` (pure) know no network. ``dial``
makes streams, ``connection`` speaks on one control connection, ``pool`` lends connections, ``server`` is
what they learn together about the server; ``remote`` and ``upload`` implement the port on top.

Everything runs on the trio thread, without worker threads: a call that is cancelled closes its sockets, and
nothing of it runs on. A connection is lent to one call at a time and reused only if every reply it owes
has been read.
"""

from __future__ import annotations

from .remote import FtpRemote, open

__all__ = ["FtpRemote", "open"]

"""SMB (Windows shares, Samba, NAS boxes) as storage, over smbprotocol (MS-SMB2: versions 2.0.2 to 3.1.1).

``options`` is what the user says, ``link`` one connection with its session and share, used by several threads at
once; ``keeper`` makes and closes it. ``failures`` turns what a server or the library says into our errors,
``transfer`` moves content. ``remote`` implements the port on top, with blocking calls in worker threads.

The library's layer of files (its ``smbclient``) is not used: it shares its settings and its DFS cache among all who
use it in a process, waits without bounds, and takes several requests for what is one compound request here.
"""

from __future__ import annotations

from .remote import SmbRemote, open

__all__ = ["SmbRemote", "open"]

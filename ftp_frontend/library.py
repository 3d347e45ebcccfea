"""What is used of pyftpdlib, imported in one place, because the library has no types.

Everything from here is ``Any`` to the type checker; the modules that subclass these classes say so at the
class and keep their own state typed. Importing this module also keeps pyftpdlib's two deprecated standard
library modules (or their backports) from printing warnings.
"""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib import exceptions as _exceptions  # type: ignore[import-untyped]
    from pyftpdlib import filesystems as _filesystems
    from pyftpdlib import handlers as _handlers
    from pyftpdlib import ioloop as _ioloop
    from pyftpdlib.handlers.ftp import dispatchers as _dispatchers  # type: ignore[import-untyped]
    from pyftpdlib.handlers.ftp import producers as _producers

AbstractedFS: Any = _filesystems.AbstractedFS
Acceptor: Any = _ioloop.Acceptor
ActiveDTP: Any = _dispatchers.ActiveDTP
AsyncChat: Any = _ioloop.AsyncChat
BufferedIteratorProducer: Any = _producers.BufferedIteratorProducer
DTPHandler: Any = _handlers.DTPHandler
Epoll: Any = _ioloop.Epoll
FTPHandler: Any = _handlers.FTPHandler
PassiveDTP: Any = _dispatchers.PassiveDTP
RetryError: Any = _exceptions._RetryError
DISCONNECTED: frozenset[int] = frozenset(_ioloop._ERRNOS_DISCONNECTED)

"""WebDAV as storage (RFC 4918), with what Nextcloud, ownCloud and rclone's server add to it.

``options`` is what the user says, ``multistatus`` reads answers (pure), ``remote`` and ``upload`` implement the port
on :mod:`mountcore.remotes.web`. Everything runs on the trio thread: a call that is cancelled closes its socket.
"""

from __future__ import annotations

from .remote import WebDav, open

__all__ = ["WebDav", "open"]

"""Web sites with index pages as storage to read from: Apache, nginx, lighttpd, ``python -m http.server``, rclone's.

``index`` finds names in a page (pure), ``remote`` implements the port on :mod:`mountcore.remotes.web`. Nothing can be
changed. A page says nothing reliable about sizes and times, so each file listed is asked for with HEAD.
"""

from __future__ import annotations

from .remote import HttpIndex, open

__all__ = ["HttpIndex", "open"]

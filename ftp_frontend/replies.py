"""From errors to FTP replies, and from text to reply lines. Pure.

The codes are those of :data:`mountcore.errors.REPLIES`; nothing here invents one.
"""

from __future__ import annotations

import os

from mountcore.errors import StorageError, ftp_code

#: RFC 959 §5.4 has 452, 552 and 553 for uploads only (and 553 for RNTO); elsewhere clients know these
_ELSEWHERE = {452: 451, 552: 550, 553: 550}


def explain(error: OSError) -> str:
    """The reason in one line, without paths of this machine."""
    text = os.strerror(error.errno) if error.errno else "The storage failed"
    if isinstance(error, StorageError) and error.said:
        text = f"{text} ({one_line(error.said)})"
    return text


def refusal(error: OSError) -> str:
    """The reply to a command that failed before a transfer began, or that has none."""
    code = ftp_code(error)
    return f"{_ELSEWHERE.get(code, code)} {explain(error)}."


def upload_refusal(error: OSError) -> str:
    """The reply to an upload that was refused or could not be stored: 450, 451, 452, 550, 552 or 553."""
    return f"{ftp_code(error)} {explain(error)}; nothing was stored."


def download_failure(error: OSError) -> str:
    """The reply to a download that the storage broke off: always 4yz, since the transfer had begun."""
    code = ftp_code(error)
    return f"{code if code < 500 else 451} {explain(error)}; transfer aborted."


def one_line(text: str) -> str:
    """The text without anything that a client could take for the end of a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def quoted(path: str) -> str:
    """A path as in 257 replies: in quotes, those in it doubled (RFC 959, appendix II)."""
    return '"{}"'.format(path.replace('"', '""'))

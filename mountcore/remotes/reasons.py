"""Why a connection could not be made or broke, in words for people. Pure."""

from __future__ import annotations

import ssl

__all__ = ["words"]


def words(problem: BaseException) -> str:
    """What went wrong, without the type's name around it."""
    if isinstance(problem, ssl.SSLError):
        return problem.reason or "TLS error"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    # no address answered: trio says why for each in the cause
    cause = problem.__cause__
    each = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
    reasons = dict.fromkeys(part.strerror for part in each if isinstance(part, OSError) and part.strerror)
    return ", ".join(reasons) or str(problem) or "the connection broke"

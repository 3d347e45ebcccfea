"""What went wrong, for people and scripts: one line and an exit code. Pure.

Exit codes (rclone's where there is one): 0 done; 1 refused or failed; 2 wrong usage; 3 no such directory;
4 no such file; 5 the storage did not answer, or something is still to be uploaded; 6 --immutable says no; 7 the
storage says no for good, or --max-delete does; 8 --max-transfer and 10 --max-duration reached; 9 nothing was
transferred, where --error-on-no-transfer asks; 130 and 143: interrupted, by a second signal where the first drains.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import Denied, NotFound, Refused, StorageError, TimedOut, Unreachable

EXIT_FAILED, EXIT_USAGE, EXIT_NO_DIRECTORY, EXIT_NO_FILE, EXIT_TRY_AGAIN, EXIT_FATAL = 1, 2, 3, 4, 5, 7
EXIT_NO_RETRY, EXIT_LIMIT, EXIT_NOTHING, EXIT_DURATION = 6, 8, 9, 10


class UsageError(Refused):
    """The command line itself makes no sense."""


def leaves(problem: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group of groups; a nursery wraps even a single one."""
    if isinstance(problem, BaseExceptionGroup):
        for part in problem.exceptions:
            yield from leaves(part)
    else:
        yield problem


#: what to do when a remote's root answers with this
REMEDIES: dict[type[StorageError], str] = {
    Unreachable: "check the host and port, and that the server runs",
    TimedOut: "check the host and port, and that the server runs",
    Denied: "check the user, and that the password is right and, in a file, obscured (portside obscure)",
    NotFound: "name a directory that is there",
}


def about_remote(problem: StorageError, label: str) -> None:
    """Note which remote this was about, and the remedy; :func:`describe` says both."""
    problem.add_note(label)
    if "; " in problem.said:
        return  # it says what to do itself
    for kind, remedy in REMEDIES.items():
        if isinstance(problem, kind):
            problem.add_note(remedy)
            break


def describe(problem: BaseException) -> str:
    """One line for people: what, about which thing, and what to do."""
    label, *remedies = getattr(problem, "__notes__", [])[:2] or [""]
    if isinstance(problem, StorageError) and problem.said and isinstance(problem, Unreachable):
        text = f"cannot be reached: {problem.said}"  # strerror would name one cause of many
    elif isinstance(problem, OSError) and problem.strerror:
        about = problem.filename if not isinstance(problem, StorageError) else problem.path
        text = f"{about}: {problem.strerror}" if about else problem.strerror
    else:
        text = str(problem) or type(problem).__name__
    text = "; ".join([text, *remedies])
    return " ".join((f"{label}: {text}" if label else text).split())


def exit_code(problem: BaseException) -> int:
    """The exit code for a problem; see the module."""
    match problem:
        case UsageError():
            return EXIT_USAGE
        case NotFound():
            return EXIT_NO_DIRECTORY
        case StorageError(retriable=True):
            return EXIT_TRY_AGAIN
        case Denied():
            return EXIT_FATAL
    return EXIT_FAILED

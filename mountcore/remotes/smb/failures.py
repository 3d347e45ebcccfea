"""What a server or smbprotocol says, as one of our errors (MS-ERREF §2.3: NTSTATUS values)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
from smbprotocol.header import NtStatus

from ...errors import (
    Busy,
    Corrupt,
    Denied,
    Exists,
    InvalidName,
    IsDirectory,
    NameTooLong,
    NoSpace,
    NotDirectory,
    NotEmpty,
    NotFound,
    Quota,
    ReadOnly,
    StorageError,
    TimedOut,
    TooLarge,
    Unreachable,
    Unsupported,
)

LOGIN = "the server refuses the login; check user, pass and domain"
GONE = {
    NtStatus.STATUS_NETWORK_NAME_DELETED,
    NtStatus.STATUS_USER_SESSION_DELETED,
    0xC000035C,  # STATUS_NETWORK_SESSION_EXPIRED
    0xC000020C,  # STATUS_CONNECTION_DISCONNECTED
}
"""The server has forgotten the session or share, and has done nothing: a new connection helps."""
_ERRORS: dict[int, tuple[type[StorageError], str]] = {
    NtStatus.STATUS_OBJECT_NAME_NOT_FOUND: (NotFound, ""),
    NtStatus.STATUS_OBJECT_PATH_NOT_FOUND: (NotFound, ""),
    NtStatus.STATUS_OBJECT_NAME_COLLISION: (Exists, ""),
    NtStatus.STATUS_FILE_IS_A_DIRECTORY: (IsDirectory, ""),
    NtStatus.STATUS_NOT_A_DIRECTORY: (NotDirectory, ""),
    NtStatus.STATUS_DIRECTORY_NOT_EMPTY: (NotEmpty, ""),
    NtStatus.STATUS_OBJECT_NAME_INVALID: (InvalidName, "the server refuses the name"),
    NtStatus.STATUS_OBJECT_PATH_INVALID: (InvalidName, "the server refuses the name"),
    NtStatus.STATUS_OBJECT_PATH_SYNTAX_BAD: (InvalidName, "the server refuses the name"),
    0xC0000106: (NameTooLong, ""),
    NtStatus.STATUS_ACCESS_DENIED: (Denied, "the server does not allow it"),
    NtStatus.STATUS_CANNOT_DELETE: (Denied, "the file is read-only, or in use"),
    NtStatus.STATUS_PRIVILEGE_NOT_HELD: (Denied, ""),
    0xC00000A2: (ReadOnly, "the share is read-only"),
    NtStatus.STATUS_SHARING_VIOLATION: (Busy, "somebody else has it open"),
    NtStatus.STATUS_DELETE_PENDING: (Busy, "it is being deleted"),
    0xC0000054: (Busy, "somebody else has locked it"),
    NtStatus.STATUS_DISK_FULL: (NoSpace, "there is no room left on the share"),
    0xC0000044: (Quota, "the quota on the share is used up"),
    0xC0000904: (TooLarge, ""),
    NtStatus.STATUS_LOGON_FAILURE: (Denied, LOGIN),
    NtStatus.STATUS_WRONG_PASSWORD: (Denied, LOGIN),
    NtStatus.STATUS_PASSWORD_EXPIRED: (Denied, "the password has run out; set a new one at the server"),
    0xC0000224: (Denied, "the server wants a new password for this user first"),
    0xC0000064: (Denied, LOGIN),
    0xC000006E: (Denied, "the account is restricted, for example to a password that is not empty"),
    0xC0000072: (Denied, "the account is disabled at the server"),
    0xC0000193: (Denied, "the account has run out at the server"),
    0xC0000234: (Denied, "the account is locked at the server, after too many wrong passwords"),
    0xC000015B: (Denied, "the account may not log in over the network"),
    NtStatus.STATUS_BAD_NETWORK_NAME: (Denied, "the server has no such share; the path begins with the share's name"),
    NtStatus.STATUS_NOT_SUPPORTED: (Unsupported, ""),
    NtStatus.STATUS_IO_TIMEOUT: (TimedOut, ""),
    NtStatus.STATUS_INSUFFICIENT_RESOURCES: (Unreachable, "the server has too much to do"),
    NtStatus.STATUS_INSUFF_SERVER_RESOURCES: (Unreachable, "the server has too much to do"),
    NtStatus.STATUS_REQUEST_NOT_ACCEPTED: (Unreachable, "the server takes no more connections"),
    NtStatus.STATUS_SERVER_UNAVAILABLE: (Unreachable, ""),
    **dict.fromkeys(GONE, (Unreachable, "the server has ended the session")),
}


def translated(path: str, problem: Exception) -> StorageError:
    """The library's exception as one of ours."""
    if isinstance(problem, SMBResponseException):
        status = int(problem.status)
        kind, said = _ERRORS.get(status, (StorageError, f"the server says 0x{status:08X}"))
        return kind(path, said)
    if isinstance(problem, SMBAuthenticationError):
        return Denied(path, LOGIN)
    text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    if text.startswith("Connection timeout"):
        return TimedOut(path, "the server does not answer")
    if "authenticated as a guest" in text:
        return Denied(path, "the server lets this user in as a guest only; check user and pass")
    if "signature" in text:
        return Corrupt(path, "the server's answer has a wrong signature")
    return Unreachable(path, text)


@contextmanager
def speaking(path: str) -> Iterator[None]:
    """What goes wrong inside is between us and the server; never anybody's own file."""
    try:
        yield
    except StorageError:
        raise
    except (SMBException, OSError, ValueError) as problem:
        raise translated(path, problem) from problem

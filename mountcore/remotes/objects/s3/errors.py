"""What an S3 server's refusal means: its error document, as one of our errors with the remedy. Pure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from ....errors import (
    Busy,
    Corrupt,
    Denied,
    Exists,
    InvalidName,
    NameTooLong,
    NoSpace,
    NotEmpty,
    NotFound,
    Quota,
    Stale,
    StorageError,
    TooLarge,
    Unreachable,
    Unsupported,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success, read."""

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    """Where the bucket is, if the server says."""


class PastTheEnd(StorageError):
    """A range begins behind an object's end; never leaves this package."""


_KEYS = "check access_key_id and secret_access_key"
_BY_CODE: dict[str, tuple[type[StorageError], str]] = {
    "NoSuchKey": (NotFound, ""),
    "NoSuchBucket": (NotFound, "there is no such bucket"),
    "NoSuchUpload": (Busy, "the upload was ended by somebody else"),
    "AccessDenied": (Denied, "these keys are not allowed to do this"),
    "AllAccessDisabled": (Denied, "the bucket is closed to everybody"),
    "AccountProblem": (Denied, "there is a problem with the account"),
    "InvalidAccessKeyId": (Denied, f"the access key is not known; {_KEYS}"),
    "SignatureDoesNotMatch": (Denied, f"the signature does not match; {_KEYS}"),
    "ExpiredToken": (Denied, "the credentials have expired; get new ones"),
    "ExpiredTokenException": (Denied, "the credentials have expired; get new ones"),
    "TokenRefreshRequired": (Denied, "the credentials have expired; get new ones"),
    "InvalidToken": (Denied, "the session token is not valid; get new credentials"),
    "RequestTimeTooSkewed": (Denied, "this machine's clock is wrong; set it (timedatectl set-ntp true)"),
    "AuthorizationHeaderMalformed": (Denied, "the signature is for another region; set region"),
    "IllegalLocationConstraintException": (Denied, "the bucket is in another region; set region"),
    "PermanentRedirect": (Denied, "the bucket is at another endpoint; set endpoint or region"),
    "TemporaryRedirect": (Unreachable, "the bucket is being moved"),
    "InvalidRequest": (Denied, ""),
    "PreconditionFailed": (Stale, "the file has changed"),
    "ConditionalRequestConflict": (Busy, "somebody else stores it right now"),
    "OperationAborted": (Busy, "another change of it is under way"),
    "InvalidObjectState": (Denied, "the file is archived (Glacier); restore it first"),
    "ObjectNotInActiveTierError": (Denied, "the file is archived; restore it first"),
    "KeyTooLongError": (NameTooLong, ""),
    "KeyTooLong": (NameTooLong, ""),
    "XMinioInvalidObjectName": (InvalidName, ""),
    "XMinioParentIsObject": (InvalidName, "a file is in the way"),
    "InvalidBucketName": (InvalidName, "not a name that a bucket can have"),
    "EntityTooLarge": (TooLarge, ""),
    "QuotaExceeded": (Quota, "the quota is used up"),
    "XMinioAdminBucketQuotaExceeded": (Quota, "the bucket's quota is used up"),
    "XMinioStorageFull": (NoSpace, "the storage is full"),
    "InsufficientStorage": (NoSpace, "the storage is full"),
    "TooManyBuckets": (Quota, ""),
    "BucketAlreadyExists": (Exists, "the name of the bucket is taken, by somebody in the world"),
    "BucketAlreadyOwnedByYou": (Exists, ""),
    "BucketNotEmpty": (NotEmpty, ""),
    "SlowDown": (Unreachable, "too many requests"),
    "ServiceUnavailable": (Unreachable, ""),
    "InternalError": (Unreachable, ""),
    "RequestTimeout": (Unreachable, "the server waited too long for the content"),
    "BadDigest": (Corrupt, "the content was damaged on the way"),
    "XAmzContentSHA256Mismatch": (Corrupt, "the content was damaged on the way"),
    "IncompleteBody": (Unreachable, ""),
    "NotImplemented": (Unsupported, ""),
    "MethodNotAllowed": (Denied, ""),
    "NotModified": (Stale, ""),
    "InvalidRange": (PastTheEnd, ""),
}
_BY_STATUS: dict[int, tuple[type[StorageError], str]] = {
    301: _BY_CODE["PermanentRedirect"],
    307: _BY_CODE["PermanentRedirect"],
    401: (Denied, f"the server wants a login; {_KEYS}"),
    403: (Denied, f"not allowed; {_KEYS}, and what they may do"),
    404: (NotFound, ""),
    405: (Denied, "the server does not allow it"),
    408: (Unreachable, ""),
    409: (Busy, ""),
    412: (Stale, "the file has changed"),
    413: (TooLarge, ""),
    416: (PastTheEnd, ""),
    429: (Unreachable, "too many requests"),
    501: (Unsupported, ""),
    507: (NoSpace, "the storage is full"),
}


def parse(status: int, headers: dict[str, str], body: bytes) -> Refusal:
    """Read an error document; one that cannot be read leaves the status to speak."""
    code = message = region = ""
    try:
        for element in ET.fromstring(body) if body.lstrip()[:1] == b"<" else ():  # noqa: S314 - expat bounds entities
            match element.tag.rpartition("}")[2]:
                case "Code":
                    code = (element.text or "").strip()
                case "Message":
                    message = (element.text or "").strip()
                case "Region":
                    region = (element.text or "").strip()
    except ET.ParseError:
        pass
    region = headers.get("x-amz-bucket-region", "") or region
    if not region and (match := re.search(r"expecting '([a-z0-9-]+)'", message)):
        region = match[1]
    return Refusal(status, code, message, region)


def error(refusal: Refusal, place: str) -> StorageError:
    """Our error for it; ``place`` says which server and bucket."""
    kind, remedy = _BY_CODE.get(refusal.code) or _BY_STATUS.get(refusal.status) or (None, "")
    if kind is None:
        kind = Unreachable if refusal.status >= 500 else StorageError
    if refusal.code == "AccessDenied" and re.search(r"request time", refusal.message):  # gofakes3, of a slow clock
        kind, remedy = _BY_CODE["RequestTimeTooSkewed"]
    said = ": ".join(filter(None, (refusal.code or f"HTTP {refusal.status}", refusal.message[:200])))
    if refusal.region and kind is Denied:
        remedy = f"the bucket is in region {refusal.region}; set region = {refusal.region}"
    return kind("", f"{place}: {f'{remedy} ({said})' if remedy else said}")

"""Signatures of S3 requests: AWS Signature Version 4, in headers and in URLs. Pure.

Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference; the tests have its examples.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()
_UNSIGNED_HEADERS = frozenset({"authorization", "content-length", "user-agent", "expect", "connection"})


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials; in no repr."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires_at: float | None = None
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where and when a signature holds."""

    region: str
    moment: datetime
    service: str = "s3"

    @property
    def stamp(self) -> str:
        """``20130524T000000Z``"""
        return self.moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")

    def __str__(self) -> str:
        return f"{self.stamp[:8]}/{self.region}/{self.service}/aws4_request"


def encode(text: str, safe: str = "") -> str:
    """Percent-encoding as the signature wants it."""
    return quote(text, safe=safe + "-_.~")


def query_string(query: Mapping[str, str]) -> str:
    """A query, encoded and in order."""
    return "&".join(f"{encode(k)}={encode(v)}" for k, v in sorted(query.items()))


def signed_headers(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    payload_hash: str,
    keys: Keys | None,
    scope: Scope,
) -> dict[str, str]:
    """``headers`` (with ``host``) and what makes the request authentic; ``path`` is encoded already."""
    found = dict(headers) | {"x-amz-content-sha256": payload_hash, "x-amz-date": scope.stamp}
    if keys is None:
        return dict(headers)
    if keys.session_token:
        found["x-amz-security-token"] = keys.session_token
    names, canonical = _canonical_headers(found)
    request = "\n".join((method, path, query_string(query), canonical, names, payload_hash))
    signature = _signature(request, keys, scope)
    found["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return found


def presigned_query(method: str, path: str, host: str, lifetime: int, keys: Keys, scope: Scope) -> str:
    """The query of a URL that works without a login for ``lifetime`` seconds."""
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{keys.access_key_id}/{scope}",
        "X-Amz-Date": scope.stamp,
        "X-Amz-Expires": str(lifetime),
        "X-Amz-SignedHeaders": "host",
    }
    if keys.session_token:
        query["X-Amz-Security-Token"] = keys.session_token
    request = "\n".join((method, path, query_string(query), f"host:{host}\n", "host", UNSIGNED))
    return f"{query_string(query)}&X-Amz-Signature={_signature(request, keys, scope)}"


def _canonical_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    lines = sorted(
        (name.lower(), " ".join(value.split()))
        for name, value in headers.items()
        if name.lower() not in _UNSIGNED_HEADERS
    )
    return ";".join(name for name, _ in lines), "".join(f"{name}:{value}\n" for name, value in lines)


def _signature(request: str, keys: Keys, scope: Scope) -> str:
    text = "\n".join(("AWS4-HMAC-SHA256", scope.stamp, str(scope), hashlib.sha256(request.encode()).hexdigest()))
    key = _key(keys.secret_access_key, scope.stamp[:8], scope.region, scope.service)
    return hmac.new(key, text.encode(), "sha256").hexdigest()


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    """The signing key of a day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key

"""OAuth tokens as rclone.conf keeps them: JSON with an access token, and one that renews it.

Used by storage whose library asks for a token each time. Blocking; called in worker threads.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypedDict, final
from urllib.parse import urlencode

from ..errors import Denied, Refused, Unreachable
from .words import Words

EARLY = timedelta(minutes=5)
_WITHIN = 30.0


class Credential(TypedDict):
    """What obstore wants of a provider."""

    token: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    """One token; in no repr."""

    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    expires_at: datetime | None = None

    @classmethod
    def parse(cls, kind: str, text: str) -> Token:
        """From rclone's ``token = {"access_token":…,"refresh_token":…,"expiry":…}``."""
        try:
            found = json.loads(text)
            expiry = found.get("expiry", "")
            moment = datetime.fromisoformat(_readable(expiry)) if expiry else None
            token = cls(found.get("access_token", ""), found.get("refresh_token", ""), moment)
        except (ValueError, AttributeError, TypeError):
            raise Refused(f"{kind}: token is not the JSON that rclone writes; run: rclone config reconnect") from None
        if not token.access and not token.refresh:
            raise Refused(f"{kind}: token has neither access_token nor refresh_token")
        return token

    @property
    def fresh(self) -> bool:
        """Whether it can be used for a while."""
        return bool(self.access) and (self.expires_at is None or self.expires_at - EARLY > datetime.now(UTC))


@final
class Tokens:
    """Gives the access token, renewed when it runs out."""

    def __init__(self, kind: str, token: Token, url: str, client_id: str, client_secret: str) -> None:
        self._kind = kind
        self._token = token
        self._url = url
        self._client = (client_id, client_secret)
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, kind: str, words: Words, url: str) -> Tokens:
        """From a remote's options ``token``, ``client_id``, ``client_secret``, ``token_url``."""
        token = Token.parse(kind, words.text("token"))
        url = words.text("token_url") or url
        return cls(kind, token, url, words.text("client_id"), words.text("client_secret"))

    def __call__(self) -> Credential:
        with self._lock:
            if not self._token.fresh:
                self._token = self._renewed()
            return {"token": self._token.access, "expires_at": self._token.expires_at}

    def _renewed(self) -> Token:
        client_id, client_secret = self._client
        if not self._token.refresh or not client_id:
            raise Denied(
                "", f"{self._kind}: the token has expired, and it can be renewed only with the client_id and "
                "client_secret that it was made with; make a new one with your own (rclone config reconnect)"
            )  # fmt: skip
        form = {
            "grant_type": "refresh_token", "refresh_token": self._token.refresh,
            "client_id": client_id, "client_secret": client_secret,
        }  # fmt: skip
        request = urllib.request.Request(self._url, urlencode(form).encode())  # noqa: S310 - the user's token_url
        try:
            with urllib.request.urlopen(request, timeout=_WITHIN) as answer:  # noqa: S310
                found = json.loads(answer.read(1 << 16))
            return Token(
                str(found["access_token"]),
                str(found.get("refresh_token", self._token.refresh)),
                datetime.now(UTC) + timedelta(seconds=int(found.get("expires_in", 3600))),
            )
        except urllib.error.HTTPError as problem:
            raise Denied("", f"{self._kind}: the token was not renewed (HTTP {problem.code}); make a new one") from None
        except OSError as problem:
            raise Unreachable("", f"{self._kind}: the token could not be renewed ({problem})") from problem
        except (ValueError, KeyError, TypeError):
            raise Denied("", f"{self._kind}: {self._url} answered no token") from None


def _readable(text: str) -> str:
    """Go writes nanoseconds, which Python reads to microseconds only."""
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    if not dot:
        return head
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits) :]}"

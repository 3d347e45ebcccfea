"""What Azure's and Google's storage have in common in how obstore is set up. Pure, but for certificates read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from obstore import exceptions as failures

from ...errors import Refused
from ..protocol import Remote
from ..words import Words
from .remote import Objects
from .through_obstore import Place, ThroughObstore

T = TypeVar("T")


def container_of(kind: str, root: str) -> str:
    """The first part of the root."""
    name = root.strip("/").partition("/")[0]
    if not name:
        raise Refused(f"{kind}: name the bucket (container): remote:bucket or remote:bucket/path")
    return name


def client_options(words: Words, endpoint: str) -> Any:
    """Waits and whom to trust. No limit on a whole request: a large file takes its time, each of its reads may not."""
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=words.duration("connect_timeout", 60.0)),
        "read_timeout": timedelta(seconds=words.duration("timeout", 60.0)),
        "timeout": timedelta(days=7),
        "user_agent": "portside",
        "allow_http": endpoint.startswith("http://"),
    }
    if words.flag("no_check_certificate"):
        options["allow_invalid_certificates"] = True
    if path := words.text("ca_cert"):
        try:
            options["root_certificate"] = Path(path).read_bytes()
        except OSError as problem:
            raise Refused(f"ca_cert: cannot use {path!r} ({problem.strerror})") from problem
    return options


RETRIES: Any = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
}
"""Few: what may be asked again is asked again by `guard`."""


def finished(kind: str, make: Callable[[], T]) -> T:
    """A store; what obstore does not accept is the user's to correct."""
    try:
        return make()
    except (failures.BaseError, ValueError, TypeError, OSError) as problem:
        text = str(problem).partition("\n\nDebug source:")[0]
        raise Refused(f"{kind}: {' '.join(text.split())[:200]}") from None


def finished_remote(place: Place, root: str, words: Words) -> Remote:
    """The port on top of a store."""
    return Objects(ThroughObstore(place), root, server_times=words.flag("use_server_modtime"))

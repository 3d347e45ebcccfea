"""What a process is to serve, decided and checked as far as possible before anything is started.

Used by the commands that serve: ``mount``, ``serve`` and ``gateway`` make the same plan, of one part or several.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Refused
from ..options import vfs_settings
from ..remotes.conf import Config, Located, open_located
from ..remotes.protocol import Remote
from ..settings import VfsSettings
from .arguments import front_end_values, vfs_texts

if TYPE_CHECKING:  # the command says what is missing before it loads trio
    from ..remotes.replaceable import Replaceable


@dataclass(frozen=True, slots=True)
class Configured:
    """Where a remote was configured, to look there again."""

    remote: Replaceable
    words: str
    located: Located = field(repr=False)
    config: Callable[[], Config]
    """Reads the configuration as it is now."""

    async def reload(self) -> tuple[Configured, bool]:
        """Go on with the options that the configuration has now; answers whether they are others.

        Raises :class:`Refused` where they make no sense, or it would be another storage.
        """
        located = self.config().locate(self.words)
        if located == self.located:
            return self, False
        remote = open_located(located)
        if remote.identity != self.remote.identity:
            await remote.aclose()
            raise Refused(f"{self.words}: the configuration names another storage now; restart to use that one")
        await self.remote.replace(remote)
        return dataclasses.replace(self, located=located), True


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """One mount or one FTP server."""

    kind: str
    """``mount`` or ``ftp``."""
    label: str
    """The remote as the user named it, without secrets."""
    remote: Remote | None
    """None for an FTP server whose users bring their own."""
    settings: VfsSettings
    values: Mapping[str, object]
    """The front end's own options, parsed."""
    mountpoint: str = ""
    vfs_texts: Mapping[str, str] = field(default_factory=dict)
    """What ``settings`` was made of; an auth proxy's storages get the same, with changes."""
    configured: Configured | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one process serves, and how it ends."""

    front_ends: tuple[FrontEnd, ...]
    drain_timeout: float | None = None
    quiet: bool = False
    ready: Callable[[], None] = lambda: None
    """Called when everything answers."""


def open_config(values: Mapping[str, object]) -> Config:
    """The user's configuration; ``--config`` names another file."""
    environ: Mapping[str, str] = os.environ
    if values.get("password-command"):
        environ = {**os.environ, "PORTSIDE_PASSWORD_COMMAND": str(values["password-command"])}
    return Config(Path(str(values["config"])).expanduser().absolute() if values["config"] else None, environ)


def as_seconds(value: object) -> float | None:
    """A parsed duration option."""
    return value if isinstance(value, float) else None


def front_end(
    kind: str, config: Config, words: str | None, own: Mapping[str, str], vfs: Mapping[str, str], mountpoint: str = ""
) -> FrontEnd:
    """One part of a plan from texts: the front end's ``own`` options, and those of the file system.

    Opens the remote without contacting it. Raises :class:`Refused`.
    """
    values = front_end_values(kind, own)
    texts = vfs_texts(vfs)
    settings = vfs_settings(texts)
    if words is None:
        return FrontEnd(kind, "", None, settings, values, mountpoint, texts)
    from ..remotes.replaceable import Replaceable

    remote = Replaceable(config.open(words))
    configured = Configured(remote, words, config.locate(words), config.again)
    return FrontEnd(kind, config.label(words), remote, settings, values, mountpoint, texts, configured)


def check_together(front_ends: list[FrontEnd], places: list[str]) -> list[FrontEnd]:
    """One storage has one core and so one set of options; and nothing is mounted twice in one place.

    ``places`` says where each part was asked for, for messages.
    """
    checked: list[FrontEnd] = []
    seen: dict[str, tuple[FrontEnd, str]] = {}
    points: dict[str, str] = {}
    for part, place in zip(front_ends, places, strict=True):
        if part.mountpoint:
            if part.mountpoint in points:
                raise Refused(f"{place}: {part.mountpoint} is the mount point of {points[part.mountpoint]} already")
            points[part.mountpoint] = place
        if part.remote is not None:
            first, first_place = seen.setdefault(part.remote.identity, (part, place))
            if first.settings != part.settings:
                names = ", ".join(_differences(first.settings, part.settings))
                raise Refused(
                    f"{place}: the same storage as {first_place} with other options ({names}); one storage has one "
                    "cache, so give both the same, or put them into [vfs]"
                )
        checked.append(part)
    return checked


def _differences(a: VfsSettings, b: VfsSettings) -> list[str]:
    names: list[str] = []
    for part in dataclasses.fields(VfsSettings):
        left, right = getattr(a, part.name), getattr(b, part.name)
        if left != right and dataclasses.is_dataclass(left):
            names += [
                f"{part.name}.{inner.name}"
                for inner in dataclasses.fields(left)
                if getattr(left, inner.name) != getattr(right, inner.name)
            ]
        elif left != right:
            names.append(part.name)
    return names

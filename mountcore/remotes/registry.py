"""Which storage types there are and what options each takes: one table of facts.

Used by the configuration reader, the command line's help and error messages, and the auth proxy. Adapters
are named as ``module:function`` strings and imported only when wanted, so that starting does not pay for
storage that is not used.

An adapter's function is ``open(options: dict[str, str], root: str) -> Remote``: it validates the values
(:class:`~mountcore.errors.Refused` names the option and the accepted grammar), does no network and keeps
secrets out of ``identity`` and ``repr``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from ..errors import Refused
from .protocol import Remote


@dataclass(frozen=True, slots=True)
class RemoteOption:
    """One option of a storage type, as in rclone.conf."""

    name: str
    help: str
    default: str = ""
    required: bool = False
    secret: bool = False
    """Obscured in configuration files, masked when shown."""
    sensitive: bool = False
    """In configuration files as it is (as with rclone), masked when shown."""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteType:
    """A storage type: its name in configuration, what it is, where its adapter lives."""

    name: str
    help: str
    adapter: str
    options: tuple[RemoteOption, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Options of rclone that cannot be honoured and must not be passed over, and why."""
    extra: str = "all"
    """Of pyproject.toml: what to install for it."""
    also: tuple[str, ...] = ()
    """Other names of it: rclone's."""
    wraps: str = ""
    """The option that names another remote, which this type stands around: its adapter gets it as ``inner``."""

    def option(self, name: str) -> RemoteOption:
        """The option of that name; raises :class:`Refused` with the nearest name."""
        for option in self.options:
            if option.name == name:
                return option
        if name in self.refused:
            raise Refused(f"storage type {self.name!r} has no option {name!r}: {self.refused[name]}")
        near = difflib.get_close_matches(name, [o.name for o in self.options], 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise Refused(f"storage type {self.name!r} has no option {name!r}{hint}")


def types() -> dict[str, RemoteType]:
    """All storage types by name."""
    from . import facts

    return {name: kind for kind in facts.TYPES for name in (kind.name, *kind.also)}


def configurable() -> dict[str, RemoteType]:
    """What a remote in a configuration file may be, by name: a storage type, or another name for a remote."""
    from . import facts

    return {**types(), facts.ALIAS.name: facts.ALIAS}


def kinds() -> list[RemoteType]:
    """What is `configurable`, each once, in order."""
    return [kind for name, kind in sorted(configurable().items()) if name == kind.name]


def unknown(kind: str, known: Iterable[str]) -> Refused:
    """The error for a type that there is not: what became of it, or the nearest name."""
    from . import facts

    if kind in facts.UNSERVED:
        return Refused(f"storage type {kind!r}: {facts.UNSERVED[kind]}")
    near = difflib.get_close_matches(kind, known, 1)
    hint = f", did you mean {near[0]!r}?" if near else f"; known types: {', '.join(sorted(known))}"
    return Refused(f"unknown storage type {kind!r}{hint}")


def open_remote(kind: str, options: dict[str, str], root: str, inner: Remote | None = None) -> Remote:
    """Open a storage of type ``kind`` with plain (already revealed) option values, rooted at ``root``.

    ``inner`` is what a type with :attr:`RemoteType.wraps` stands around.
    """
    known = types()
    if kind not in known:
        raise unknown(kind, known)
    facts = known[kind]
    for name in options:
        facts.option(name)
    values = {option.name: options.get(option.name, option.default) for option in facts.options}
    for option in facts.options:
        if option.required and not values[option.name]:
            raise Refused(f"storage type {kind!r} needs option {option.name!r} ({option.help})")
    module, _, function = facts.adapter.partition(":")
    try:
        opener = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as problem:
        if not problem.name or problem.name.startswith("mountcore"):
            raise
        raise Refused(
            f"storage type {kind!r} needs the package {problem.name!r}; run: pip install 'portside[{facts.extra}]'"
        ) from None
    if facts.wraps:
        if inner is None:
            raise Refused(f"storage type {kind!r} stands around another remote; configure it by name")
        return cast(Remote, opener(values, root, inner))
    return cast(Remote, opener(values, root))

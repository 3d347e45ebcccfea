"""What changed, told to whoever subscribed: the way in which one front end learns of another's doings.

Used by the Vfs, which announces, and by front ends, which subscribe (the mount tells the kernel).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import final

from .tree import Node

ORIGIN: ContextVar[object] = ContextVar("origin", default=None)
"""Who is changing things: a front end sets it for its tasks, and finds it in `Change.origin`."""


class ChangeKind(enum.Enum):
    """What changed."""

    ENTRY = "entry"
    """A name appeared, went, or stands for something else now."""
    CONTENT = "content"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. ``parent`` is 0 for a file without a name, ``inode`` 0 for a name that went."""

    what: ChangeKind
    parent: int
    name: str
    inode: int
    origin: object
    """None for what nobody here did: the remote was found to be different."""


@final
class Announcer:
    """Tells changes to listeners, on the trio thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Change], None]] = []

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Be told of every change; a listener must not block. Answers how to stop that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def entry(self, parent: Node, name: str, node: Node | None, *, gone: Node | None = None) -> None:
        """A name stands for ``node`` now, or for nothing; ``gone`` is what it stood for."""
        self._tell(Change(ChangeKind.ENTRY, parent.inode, name, node.inode if node else 0, ORIGIN.get()))
        if gone is not None:
            self.node(ChangeKind.ATTRIBUTES, gone)

    def node(self, what: ChangeKind, node: Node) -> None:
        """The node has other attributes, or other content."""
        self._tell(Change(what, node.parent.inode if node.parent else 0, node.name, node.inode, ORIGIN.get()))

    def found_entry(self, parent: Node, name: str, node: Node | None) -> None:
        """Like `entry`, for what the remote was found to have: whoever asked first has to be told as well."""
        self._tell(Change(ChangeKind.ENTRY, parent.inode, name, node.inode if node else 0, None))

    def found_node(self, what: ChangeKind, node: Node) -> None:
        """Like `node`, for what the remote was found to have."""
        self._tell(Change(what, node.parent.inode if node.parent else 0, node.name, node.inode, None))

    def _tell(self, change: Change) -> None:
        for listener in list(self._listeners):
            listener(change)

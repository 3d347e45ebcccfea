"""The table of storage types. Each type's options live beside its adapter's documentation here."""

from __future__ import annotations

from .registry import RemoteType

TYPES: tuple[RemoteType, ...] = (
    RemoteType("local", "A folder of this machine", "mountcore.remotes.local:open"),
    RemoteType("memory", "Files in this process's memory, gone when it ends", "mountcore.remotes.memory:open"),
)

"""Which nodes the kernel knows, and how often it was told of each. Used by `operations` alone.

The kernel counts every name it is given (lookup, create, a readdirplus entry) and gives the count back with
FORGET (fuse(4)). Until then an inode number must mean the same node, also after the name is gone: a SETATTR
may follow an UNLINK.
"""

from __future__ import annotations

from typing import final

from mountcore.errors import Stale
from mountcore.vfs import Node


@final
class Inodes:
    """Inode number → node, for as long as the kernel holds it."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._known: dict[int, Node] = {}
        self._times: dict[int, int] = {}
        """How often the kernel was told, where that is more than once: of most it is told in one listing."""

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, inode: int) -> Node:
        """The node; Stale for a number that the kernel cannot have from us."""
        found = self._known.get(inode)
        if found is not None:
            return found
        if inode == self._root.inode:
            return self._root
        raise Stale("", f"inode {inode} is not known")

    def __contains__(self, inode: int) -> bool:
        return inode in self._known or inode == self._root.inode

    def remember(self, node: Node) -> None:
        """The kernel is told of the node once more."""
        number = node.inode
        if number in self._known:
            self._times[number] = self._times.get(number, 1) + 1
        elif node is not self._root:
            self._known[number] = node

    def forget(self, inode: int, times: int) -> bool:
        """The kernel gives back ``times`` of what it was told; answers whether it knows the number no more."""
        if inode not in self._known:
            return False
        left = self._times.pop(inode, 1) - times
        if left > 1:
            self._times[inode] = left
        if left > 0:
            return False
        del self._known[inode]
        return True

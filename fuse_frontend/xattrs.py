"""Extended attributes: our own, about the state of files, and those that the storage keeps.

    getfattr -d FILE                                  # with --xattr
    setfattr -n user.portside.pin -v 1 FILE           # always

===========================  ====================================================================================
``user.portside.status``     ``clean``, ``dirty`` (open for writing), ``queued``, ``uploading 37%``, ``held``,
                             ``failed: reason``, ``conflict`` (one of two versions that were both kept)
``user.portside.cached``     bytes that are in the cache, and how much of the file that is: ``1048576 25%``
``user.portside.etag``       the storage's tag of the content, where it has one
``user.portside.remote``     where it is
``user.portside.pin``        1 if the cache keeps it whatever its bounds; written: 1 keeps it, and fetches what is
                             missing; 0 does not. Of a directory: all below it
``user.portside.upload``     written: upload now, return when it is stored, or with the error
``user.portside.refresh``    written: look at the storage again (a file: at its directory)
===========================  ====================================================================================

Other names that begin with ``user.`` are kept where the storage keeps them. ENOTSUP for the rest when they are set,
ENODATA when they are asked for; that costs no request to the storage.
"""

from __future__ import annotations

import errno
import os
import re
from typing import final

from mountcore.accounting import Upload, UploadState
from mountcore.errors import NotFound, Unsupported
from mountcore.remotes.protocol import Kind
from mountcore.vfs import Node, Vfs

USER = "user."
PREFIX = "user.portside."
XATTR_CREATE, XATTR_REPLACE = 1, 2
"""Flags of setxattr(2)."""
_NO = frozenset({b"", b"0", b"no", b"off", b"false"})
_CONFLICT = re.compile(r" \(conflict .+ \d{4}-\d\d-\d\dT[\d.]+\)(\.[^.]*)?$")


@final
class Xattrs:
    """The attributes of every node of a Vfs."""

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs

    def _own(self, node: Node) -> list[str]:
        """Those about state that can be read."""
        if node.kind is not Kind.FILE:
            return [PREFIX + "remote", PREFIX + "pin"]
        names = [PREFIX + name for name in ("status", "cached", "remote", "pin")]
        if node.version is not None and node.version.tag:
            names.append(PREFIX + "etag")
        return names

    def try_names(self, node: Node) -> list[str] | None:
        """All that can be read; None where the storage has to be asked: use `names`."""
        return None if self._vfs.remote.caps.attributes else self._own(node)

    async def names(self, node: Node) -> list[str]:
        """All that can be read."""
        if not self._vfs.remote.caps.attributes:
            return self._own(node)
        return self._own(node) + [USER + name for name in await self._vfs.extended(node)]

    def try_get(self, node: Node, name: str) -> bytes | None:
        """The value; None where the storage has to be asked: use `get`. OSError with ENODATA if there is none."""
        if name.startswith(USER) and not name.startswith(PREFIX) and self._vfs.remote.caps.attributes:
            return None
        if name not in self._own(node):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        match name.removeprefix(PREFIX):
            case "status":
                text = self._status(node)
            case "cached":
                text = self._cached(node)
            case "etag":
                text = node.version.tag if node.version is not None else ""
            case "pin":
                text = "1" if self._vfs.pinned(node) else "0"
            case _:
                text = f"{self._vfs.remote.identity.rstrip('/')}/{node.path()}"
        return text.encode("utf-8", "surrogateescape")

    async def get(self, node: Node, name: str) -> bytes:
        """The value; OSError with ENODATA if there is no such attribute."""
        found = self.try_get(node, name)
        if found is None:
            found = (await self._vfs.extended(node)).get(name.removeprefix(USER))
        if found is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return found

    async def set(self, node: Node, name: str, value: bytes, flags: int = 0) -> None:
        """Keep a value, or do what writing it asks for. ``flags`` are setxattr(2)'s."""
        match name:
            case "user.portside.upload" if node.kind is Kind.FILE:
                await self._vfs.settle(node)
            case "user.portside.refresh":
                await self._vfs.refresh(node if node.kind is Kind.DIRECTORY else node.parent)
            case "user.portside.pin":
                self._vfs.pin(node, value.strip().lower() not in _NO)
            case _ if name.startswith(USER) and not name.startswith(PREFIX):
                await self._keep(node, name.removeprefix(USER), value, flags)
            case _:
                raise Unsupported(node.path(), f"the attribute {name} cannot be set")

    async def _keep(self, node: Node, name: str, value: bytes, flags: int) -> None:
        if flags:
            there = name in await self._vfs.extended(node)
            if flags & XATTR_CREATE and there:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            if flags & XATTR_REPLACE and not there:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        await self._vfs.set_extended(node, name, value)

    async def remove(self, node: Node, name: str) -> None:
        """Take a value away; ENODATA if there is none."""
        if name == "user.portside.pin":
            self._vfs.pin(node, False)
        elif name.startswith(USER) and not name.startswith(PREFIX) and self._vfs.remote.caps.attributes:
            try:
                await self._vfs.set_extended(node, name.removeprefix(USER), None)
            except NotFound as problem:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from problem
        elif name in self._own(node):
            raise Unsupported(node.path(), f"the attribute {name} cannot be removed")
        else:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def _status(self, node: Node) -> str:
        if (upload := self._vfs.upload_of(node)) is not None:
            return _words(upload)
        return "conflict" if _CONFLICT.search(node.name) else "clean"

    def _cached(self, node: Node) -> str:
        item = node.item or (self._vfs.store.get(node.path()) if node.linked else None)
        held = item.spans.total if item is not None else 0
        size = self._vfs.attributes(node).size
        return f"{held} {100 * held // size if size else 100}%"


def _words(upload: Upload) -> str:
    match upload.state:
        case UploadState.OPEN:
            return "dirty"
        case UploadState.WAITING:
            return "queued"
        case UploadState.UPLOADING:
            return f"uploading {100 * upload.sent // upload.size if upload.size else 100}%"
        case UploadState.RETRYING:
            return f"failed: {upload.error}"
        case UploadState.HELD:
            return "held"

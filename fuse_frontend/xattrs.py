"""State shown as extended attributes of files and directories: ``getfattr -d FILE``, ``setfattr -n … -v now FILE``.

===========================  ====================================================================================
``user.portside.status``     ``clean``, ``dirty`` (open for writing), ``queued``, ``uploading 37%``, ``held``,
                             ``failed: reason``
``user.portside.cached``     bytes that are in the cache, and how much of the file that is: ``1048576 25%``
``user.portside.etag``       the storage's tag of the content, where it has one
``user.portside.remote``     where it is
``user.portside.upload``     written: upload now, return when it is stored, or with the error
``user.portside.refresh``    written: look at the storage again (a file: at its directory)
===========================  ====================================================================================

Nothing else is kept: ENOTSUP for other attributes that are set, ENODATA for those that are asked for.
"""

from __future__ import annotations

import errno
import os
from typing import final

from mountcore.accounting import Upload, UploadState
from mountcore.errors import Unsupported
from mountcore.remotes.protocol import Kind
from mountcore.vfs import Node, Vfs

PREFIX = "user.portside."


@final
class Xattrs:
    """The attributes of every node of a Vfs."""

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs

    def names(self, node: Node) -> list[str]:
        """Those that can be read."""
        if node.kind is not Kind.FILE:
            return [PREFIX + "remote"]
        names = [PREFIX + name for name in ("status", "cached", "remote")]
        if node.version is not None and node.version.tag:
            names.append(PREFIX + "etag")
        return names

    def get(self, node: Node, name: str) -> bytes:
        """The value; OSError with ENODATA if there is no such attribute."""
        if name not in self.names(node):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        match name.removeprefix(PREFIX):
            case "status":
                text = self._status(node)
            case "cached":
                text = self._cached(node)
            case "etag":
                text = node.version.tag if node.version is not None else ""
            case _:
                text = f"{self._vfs.remote.identity.rstrip('/')}/{node.path()}"
        return text.encode("utf-8", "surrogateescape")

    async def set(self, node: Node, name: str) -> None:
        """Do what writing the attribute asks for; the value does not matter."""
        match name:
            case "user.portside.upload" if node.kind is Kind.FILE:
                await self._vfs.settle(node)
            case "user.portside.refresh":
                await self._vfs.refresh(node if node.kind is Kind.DIRECTORY else node.parent)
            case _:
                raise Unsupported(node.path(), f"the attribute {name} cannot be kept")

    def remove(self, node: Node, name: str) -> None:
        """Nothing can be removed."""
        if name in self.names(node):
            raise Unsupported(node.path(), f"the attribute {name} cannot be removed")
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def _status(self, node: Node) -> str:
        path = node.path()
        for upload in self._vfs.snapshot().uploads:
            if upload.path == path:
                return _words(upload)
        return "clean"

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

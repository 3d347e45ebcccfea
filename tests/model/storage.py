"""What a storage really holds, looked at past the core: the judge of every test that uploads."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

from mountcore.remotes.protocol import Kind, Remote, Span

Content = dict[str, bytes | None]
"""Every path below the root; None stands for a directory."""


def content_of_folder(root: Path) -> Content:
    """All files and directories below a folder, byte for byte."""
    found: Content = {}
    for directory, folders, files in os.walk(root):
        base = os.path.relpath(directory, root)
        prefix = "" if base == "." else base + "/"
        found.update({prefix + name: None for name in folders})
        found.update({prefix + name: (Path(directory) / name).read_bytes() for name in files})
    return found


async def content_of_remote(remote: Remote, directory: str = "") -> Content:
    """The same through the port, for storage that has no folder to look into."""
    found: Content = {}
    async with aclosing(remote.list(directory)) as listing:
        entries = [entry async for entry in listing]
    for entry in entries:
        path = f"{directory}/{entry.name}" if directory else entry.name
        if entry.kind is Kind.DIRECTORY:
            found[path] = None
            found.update(await content_of_remote(remote, path))
        else:
            async with remote.read(path, Span(0, entry.size), None) as body:
                found[path] = b"".join([piece async for piece in body])
    return found

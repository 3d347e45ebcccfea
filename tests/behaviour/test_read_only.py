"""A mount of storage that can only be read: everything is there, and nothing can be changed."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path

import pytest
from fuse.mounting import mounted, need_fuse, spoken
from model.storage import content_of_folder

from mountcore.remotes.registry import open_remote
from mountcore.settings import CacheSettings, VfsSettings
from tests.servers import INDEX_SERVERS

from .doors import MountDoor, forget_everything, walk


@pytest.mark.parametrize("name", INDEX_SERVERS)
def test_a_site_is_only_read(name: str, tmp_path: Path) -> None:
    need_fuse()
    with ExitStack() as stack:
        server = stack.enter_context(INDEX_SERVERS[name]())
        for path, data in {"a.txt": b"a\n", "sub/big": bytes(range(256)) * 9000, "sub/deep/ü +%.md": b"x"}.items():
            (server.root / path).parent.mkdir(parents=True, exist_ok=True)
            (server.root / path).write_bytes(data)
        settings = VfsSettings(cache=CacheSettings(directory=tmp_path / "cache", write_back=0.05))
        mount = stack.enter_context(
            mounted(open_remote("http", dict(server.options), ""), tmp_path, settings, spoken("direct"))
        )
        door = MountDoor(
            str(mount.path), lambda base: content_of_folder(server.root / base),
            lambda: None, lambda: mount.run(forget_everything, mount.vfs),
        )  # fmt: skip
        for _ in range(2):
            assert walk(door) == door.stored()
            door.forget()
        before = door.stored()
        for change in (
            lambda: door.write("new", b"x"), lambda: door.append("a.txt", b"x"), lambda: door.mkdir("dir"),
            lambda: door.remove("a.txt"), lambda: door.rename("a.txt", "b.txt"), lambda: door.rmdir("sub/deep"),
        ):  # fmt: skip
            with door.refused(errno.EROFS):
                change()
        assert not mount.run(mount.vfs.drain)
        assert walk(door) == door.stored() == before

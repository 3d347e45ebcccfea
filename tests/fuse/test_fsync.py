"""``--fsync``: what is true when fsync(2) returns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuse_frontend.command import OPTIONS
from mountcore.errors import Refused, Unreachable
from mountcore.options import parse_values
from mountcore.settings import CacheSettings, VfsSettings
from tests.model.faulty import Faulty
from tests.model.scene import folder

from .mounting import mounted


def settings(place: Path) -> VfsSettings:
    return VfsSettings(cache=CacheSettings(directory=place / "cache", write_back=3600))


@pytest.mark.parametrize("where", ["local", "remote"])
def test_fsync_returns_when_the_file_is_where_it_was_asked_for(tmp_path: Path, where: str) -> None:
    store = tmp_path / "store"
    with mounted(folder(store), tmp_path, settings(tmp_path), {"fsync": where}) as mount:
        with (mount.path / "file").open("wb", buffering=0) as file:
            file.write(b"synced")
            os.fsync(file.fileno())
            assert (store / "file").exists() is (where == "remote")
            if where == "remote":
                assert (store / "file").read_bytes() == b"synced"
            file.write(b" and more")
        assert (mount.path / "file").read_bytes() == b"synced and more"
        assert not mount.run(mount.vfs.drain)
    assert (store / "file").read_bytes() == b"synced and more"


def test_fsync_answers_what_the_storage_answered(tmp_path: Path) -> None:
    remote: Faulty = folder(tmp_path / "store")
    with (
        mounted(remote, tmp_path, settings(tmp_path), {"fsync": "remote"}) as mount,
        (mount.path / "file").open("wb", buffering=0) as file,
    ):
        file.write(b"synced")
        remote.down = Unreachable()
        with pytest.raises(OSError, match="No route to host"):
            os.fsync(file.fileno())
        remote.down = None
        os.fsync(file.fileno())
        assert (tmp_path / "store" / "file").read_bytes() == b"synced"


def test_another_word_is_refused() -> None:
    with pytest.raises(Refused, match="local, remote"):
        parse_values(OPTIONS, {"fsync": "there"})

"""Every test here runs against a real kernel mount, through each of the sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mountcore.remotes.registry import open_remote

from .mounting import SESSIONS, Mount, mounted, spoken


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs /dev/fuse."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.fuse)


@pytest.fixture(params=SESSIONS)
def session(request: pytest.FixtureRequest) -> str:
    """Which way to talk to the kernel."""
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder behind the remote."""
    place = tmp_path / "store"
    place.mkdir()
    return place


@pytest.fixture
def mount_here(tmp_path: Path, store: Path, session: str) -> Iterator[Callable[..., Mount]]:
    """Mount the store with options; unmounted at the end of the test."""
    with ExitStack() as stack:

        def mount(settings: object = None, **options: str) -> Mount:
            texts = {**spoken(session), **{name.replace("_", "-"): value for name, value in options.items()}}
            return stack.enter_context(mounted(open_remote("local", {}, str(store)), tmp_path, settings, texts))

        yield mount


@pytest.fixture
def mount(mount_here: Callable[..., Mount]) -> Mount:
    """The store, mounted with the defaults."""
    return mount_here()

"""One Vfs per storage in a process, whoever uses it: shared, counted, closed when idle, drained at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mountcore.cache.opening import open_store
from mountcore.errors import NotFound, Refused, Unreachable
from mountcore.remotes.registry import open_remote
from mountcore.service import Core, open_core

from . import live
from .faulty import Faulty
from .scene import edit, folder, memory, settings, until

pytestmark = pytest.mark.trio


async def test_whoever_reaches_a_storage_gets_the_same_view_of_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "link").symlink_to(store)
    ways = [str(store), f"{store}/", f"{tmp_path}/x/../store", str(tmp_path / "link")]
    async with open_core() as core:
        views = [await core.attach(open_remote("local", {}, way), settings(tmp_path / "cache")) for way in ways]
        assert len({id(view) for view in views}) == 1
        assert views[0].users == 4
        assert len(core.views()) == 1
        await live.write_file(views[0], "f", b"seen by all")
        assert await live.read_file(views[3], "f") == b"seen by all"
        assert not (store / "f").exists(), "before it is uploaded"


async def test_users_of_one_ftp_server_do_not_share_and_one_users_ways_do() -> None:
    def identity(kind: str = "ftp", root: str = "", **options: str) -> str:
        return open_remote(kind, {"host": "ftp.example.com", "user": "anna", "pass": "x", **options}, root).identity

    same = identity()
    assert identity(**{"pass": "another"}) == same
    assert identity(port="21") == same
    assert identity(user="bert") != same
    assert identity(port="2121") != same
    assert identity(root="sub") != same
    assert "x" not in same.replace("example", "")


async def test_different_storages_have_different_caches(tmp_path: Path) -> None:
    async with open_core() as core:
        one, other = memory(), memory()
        views = [await core.attach(remote, settings(tmp_path)) for remote in (one, other)]
        assert views[0] is not views[1]
        await live.write_file(views[0], "f", b"one")
        with pytest.raises(NotFound):
            await views[1].resolve("f")
        assert views[0].store.directory != views[1].store.directory


async def closed(core: Core) -> None:
    """Wait until no view is open."""
    await until(lambda: not core.views(), "the last view is closed")


async def test_it_is_closed_when_the_last_user_has_gone_and_can_be_opened_again(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"content")
    async with open_core() as core:
        first = await core.attach(remote, settings(tmp_path))
        second = await core.attach(remote, settings(tmp_path))
        await core.detach(first)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert core.views() == (second,)
        await core.detach(second)
        await closed(core)
        open_store(tmp_path, remote.identity).close()  # nobody holds the lock
        again = await core.attach(remote, settings(tmp_path))
        assert again is not first
        assert await live.read_file(again, "f") == b"content"


async def test_it_stays_until_everything_is_stored(tmp_path: Path) -> None:
    remote = memory()
    async with open_core() as core:
        view = await core.attach(remote, settings(tmp_path))
        await live.write_file(view, "f", b"content")
        gate = remote.gate("put", "f")
        await core.detach(view)
        await gate.entered.wait()
        assert core.views() == (view,)
        gate.release()
        await closed(core)
        assert (await remote.inner.stat("f")).size == 7


async def test_who_comes_back_while_it_waits_keeps_it_open(tmp_path: Path) -> None:
    remote = memory()
    async with open_core() as core:
        view = await core.attach(remote, settings(tmp_path))
        await live.write_file(view, "f", b"content")
        gate = remote.gate("put", "f")
        await core.detach(view)
        await gate.entered.wait()
        assert await core.attach(remote, settings(tmp_path)) is view
        gate.release()
        await until(lambda: not view.snapshot().uploads)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert core.views() == (view,)
        assert await live.read_file(view, "f") == b"content"


async def test_who_comes_while_it_is_being_closed_gets_a_new_one(tmp_path: Path) -> None:
    remote = memory()
    await edit(remote, "f", b"content")
    async with open_core() as core:
        view = await core.attach(remote, settings(tmp_path))
        for _ in range(20):
            await core.detach(view)
            view = await core.attach(remote, settings(tmp_path))
            assert await live.read_file(view, "f") == b"content"
        assert core.views() == (view,)
        assert view.users == 1


async def test_a_storage_that_is_down_is_not_hammered_while_it_waits(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock  # time passes by itself
    remote = memory()
    async with open_core() as core:
        view = await core.attach(remote, settings(tmp_path, write_back=1.0))
        await live.write_file(view, "f", b"content")
        remote.rule("put", times=4, before=Unreachable("f", "down"))
        began = trio.current_time()
        await core.detach(view)
        while core.views():  # noqa: ASYNC110 - on a clock of its own
            await trio.sleep(0.5)
        assert remote.asked("put") == 5
        assert trio.current_time() - began > 1 + 2 + 4 + 8


async def test_an_attempt_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    class Counted(Faulty):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    remote = Counted(folder(tmp_path / "store").inner)
    async with open_core() as core:
        remote.down = Unreachable("", "down")
        with pytest.raises(Unreachable):
            await core.attach(remote, settings(tmp_path / "cache"))
        assert core.views() == ()
        assert remote.closed == 1
        remote.down = None
        view = await core.attach(remote, settings(tmp_path / "cache"))
        assert view.users == 1
        with pytest.raises(Refused, match="in use by process"):
            async with open_core() as other:
                await other.attach(remote, settings(tmp_path / "cache"))
        assert await live.names(view) == set()
    assert remote.closed == 3


async def test_many_who_come_at_once_open_it_once(tmp_path: Path) -> None:
    remote = memory()
    async with open_core() as core:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(core.attach, remote, settings(tmp_path))
        (view,) = core.views()
        assert view.users == 20
        assert remote.asked("stat", "") == 1

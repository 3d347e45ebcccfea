"""What every option of the FTP remote changes, and how it meets real servers in their odd moments."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from conftest import PLAIN_FTP, Place, Servers, fresh, own
from sources import Content, entries, fetch, put

from mountcore.errors import Busy, Denied, StorageError, TimedOut, Unreachable, Unsupported
from mountcore.remotes.ftp import FtpRemote
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.protocol import ANYTHING, Kind, Remote, Span
from mountcore.remotes.registry import open_remote
from tests.servers import Tls, proftpd, proxies, pure_ftpd, pyftpdlib, rclone, vsftpd
from tests.servers.scripted import ScriptedFtp, scripted

pytestmark = pytest.mark.trio
FILE = "250-\r\n type=file;size=1;modify=20240101000000; x\r\n250 End"
FEATURES = "211-\r\n SIZE\r\n UTF8\r\n MFMT\r\n MLST type*;size*;modify*;\r\n211 End"


async def round_trip(remote: Remote) -> None:
    """Everything that takes a data connection."""
    await put(remote, "f", b"content" * 10_000)
    assert await fetch(remote, "f") == b"content" * 10_000
    assert await fetch(remote, "f", Span(7, 14)) == b"content"
    assert "f" in await entries(remote)
    await put(remote, "empty")
    assert await fetch(remote, "empty") == b""


def scripted_remote(server: ScriptedFtp, **options: str) -> FtpRemote:
    return FtpRemote(parse(server.options | {"timeout": "20s"} | options))


# servers that go away, and log-ins


@pytest.mark.parametrize("ftp_place", PLAIN_FTP, indirect=True)
async def test_a_server_that_is_down_says_nothing_about_files(ftp_place: Place) -> None:
    server = ftp_place.server
    assert server is not None
    remote = FtpRemote(parse(server.options), ftp_place.root)
    await put(remote, "f", b"x")
    server.stop()
    try:
        for attempt in (remote.stat("f"), fetch(remote, "f"), entries(remote), put(remote, "g"), remote.remove("f")):
            with pytest.raises(Unreachable) as caught:
                await attempt
            assert f"127.0.0.1:{server.port}" in str(caught.value)
    finally:
        server.start()
    assert await fetch(remote, "f") == b"x"
    await remote.aclose()


async def test_an_unknown_host() -> None:
    remote = open_remote("ftp", {"host": "no-such-host.invalid", "connect_timeout": "5s"}, "")
    with pytest.raises(StorageError, match="no-such-host") as caught:
        await remote.stat("")
    assert caught.value.retriable


@pytest.mark.parametrize("ftp_place", ["pyftpdlib", "vsftpd", "proftpd", "rclone"], indirect=True)
async def test_a_wrong_login_is_denied(ftp_place: Place) -> None:
    remote = ftp_place.open(user="somebody", **{"pass": "wrong"})
    with pytest.raises(Denied, match="login of 'somebody' was refused") as caught:
        await remote.stat("")
    assert "wrong" not in str(caught.value)


# TLS


@pytest.mark.parametrize("ftp_place", ["vsftpd-tls", "vsftpd-tls-implicit", "proftpd-tls"], indirect=True)
async def test_certificates_are_checked(ftp_place: Place) -> None:
    with pytest.raises(Denied, match="certificate"):
        await ftp_place.open(ca_cert="").stat("")
    await ftp_place.open(ca_cert="", no_check_certificate="true").stat("")


@pytest.mark.parametrize("ftp_place", ["vsftpd-tls", "proftpd-tls", "pyftpdlib-tls"], indirect=True)
@pytest.mark.parametrize("options", [{"disable_tls13": "true"}, {"allow_insecure_tls_ciphers": "true"}])
async def test_tls_variants(ftp_place: Place, options: dict[str, str]) -> None:
    await round_trip(ftp_place.open(**options))


@pytest.mark.parametrize("ftp_place", ["vsftpd-tls", "proftpd-tls"], indirect=True)
async def test_without_session_reuse_strict_servers_refuse(ftp_place: Place) -> None:
    with pytest.raises(StorageError):
        await put(ftp_place.open(tls_cache_size="0"), "f", b"x")


async def test_no_tls_where_it_was_asked_for_is_an_error(servers: Servers, tmp_path: Path) -> None:
    place = fresh("pure-ftpd", servers, tmp_path)
    with pytest.raises((Unsupported, Unreachable)):
        await place.open(explicit_tls="true").stat("")
    with pytest.raises((Unreachable, TimedOut)):
        await place.open(tls="true", connect_timeout="1s").stat("")


async def test_data_in_the_clear_is_refused_under_tls() -> None:
    """rclone's server encrypts the commands and sends the files in the clear."""
    with rclone(tls=Tls.IMPLICIT) as server, pytest.raises(Unsupported, match="no protected data connections"):
        await open_remote("ftp", server.options, "").stat("")


# data connections


@pytest.mark.parametrize(
    "ftp_place", ["pyftpdlib", "vsftpd", "proftpd", "pure-ftpd", "rclone", "vsftpd-tls", "proftpd-tls"], indirect=True
)
async def test_active_mode(ftp_place: Place) -> None:
    remote = ftp_place.open(active="true")
    await round_trip(remote)
    await remote.aclose()


async def test_a_masqueraded_address_is_not_needed() -> None:
    with pyftpdlib(masquerade="10.99.99.99") as server:
        await round_trip(open_remote("ftp", server.options | {"disable_epsv": "true"}, ""))


@pytest.mark.parametrize("kind", ["socks", "http"])
async def test_proxies(kind: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh("pyftpdlib", servers, tmp_path)
    served: list[str] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, proxies.tolerant(getattr(proxies, kind), served), listeners)
        for password, works in ((proxies.PASSWORD, True), ("wrong", False)):
            address = f"{quote(proxies.USER)}:{quote(password, safe='')}@127.0.0.1:{port}"
            option = {"socks_proxy": address} if kind == "socks" else {"http_proxy": f"http://{address}"}
            remote = place.open(**option)
            if works:
                await round_trip(remote)
            else:
                with pytest.raises(Unreachable) as caught:
                    await remote.stat("")
                assert "wrong" not in str(caught.value)
            await remote.aclose()
        nursery.cancel_scope.cancel()
    assert len(served) > 5


# the rest of the options


async def test_disable_mlsd_lists_with_list(servers: Servers, tmp_path: Path) -> None:
    place = fresh("pyftpdlib", servers, tmp_path)
    await put(place.open(), ".hidden", b"x")
    await put(place.open(), "f", b"x", mtime_ns=1_600_000_000_000_000_000)
    assert (await entries(place.open()))["f"].resolution_ns == 10**9
    assert (await entries(place.open(disable_mlsd="true")))["f"].resolution_ns > 10**9
    async with scripted(data={"LIST": b""}) as server:
        await entries(scripted_remote(server, force_list_hidden="true"))
        await entries(scripted_remote(server, disable_mlsd="true"))
        assert server.told("LIST") == ["-a", "-a", ""]


async def test_disable_utf8_leaves_the_server_as_it_is() -> None:
    async with scripted({"FEAT": FEATURES, "MLST": FILE}) as server:
        await scripted_remote(server).stat("f")
        assert server.told("OPTS") == ["UTF8 ON"]
        await scripted_remote(server, disable_utf8="true").stat("f")
        assert server.told("OPTS") == ["UTF8 ON"]


async def test_writing_mdtm() -> None:
    async with scripted({"FEAT": FEATURES, "MLST": FILE, "MFMT": "213 ok", "MDTM": "213 ok"}) as server:
        await scripted_remote(server).set_mtime("f", 10**18)
        assert (server.told("MFMT"), server.told("MDTM")) == (["20010909014640 /f"], [])
        await scripted_remote(server, writing_mdtm="true").set_mtime("f", 10**18)
        assert (server.told("MFMT"), server.told("MDTM")) == (["20010909014640 /f"], ["20010909014640 /f"])


async def test_no_check_upload_asks_nothing() -> None:
    async with scripted({"MLST": "550 Permission denied"}) as server:
        with pytest.raises(StorageError):
            await put(scripted_remote(server), "f", b"x")
        looked = len(server.told("MLST"))
        await put(scripted_remote(server, no_check_upload="true"), "f", b"x")
        assert len(server.told("MLST")) == looked > 0


async def test_concurrency_bounds_the_connections() -> None:
    async with scripted({"MLST": FILE}) as server:
        remote = scripted_remote(server, concurrency="2")
        assert remote.caps.parallelism == 2
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(remote.stat, "f")
        assert server.connections == 2


async def test_when_all_connections_are_in_use_the_wait_is_bounded() -> None:
    async with scripted({"MLST": FILE}, data={"RETR": b"x" * 20_000_000}) as server:
        remote = scripted_remote(server, concurrency="1", timeout="200ms")
        async with remote.read("f", Span(0, 100), None):
            with pytest.raises(Busy):
                await remote.stat("f")
        assert (await remote.stat("f")).size == 1


async def test_idle_connections_are_closed() -> None:
    async with scripted({"MLST": FILE}) as server:
        ended = trio.Event()
        served = server.serve

        async def serve(control: trio.SocketStream) -> None:
            await served(control)
            ended.set()

        server.serve = serve  # type: ignore[method-assign]
        remote = scripted_remote(server, idle_timeout="100ms")
        await remote.stat("f")
        with trio.fail_after(5):
            await ended.wait()
        await remote.stat("f")
        assert server.connections == 2
        lasting = scripted_remote(server, idle_timeout="0")
        await lasting.stat("f")
        await lasting.stat("f")
        assert server.connections == 3


@pytest.mark.parametrize("option", ["shut_timeout", "close_timeout"])
async def test_waits_for_the_end_of_a_transfer_are_bounded(option: str) -> None:
    async with scripted({"MLST": FILE}, data={"RETR": b"x" * 20_000_000}, final={"STOR": "", "RETR": ""}) as server:
        remote = scripted_remote(server, **{option: "200ms"})
        with trio.fail_after(10):
            if option == "shut_timeout":
                with pytest.raises(TimedOut):
                    await put(remote, "f", b"x")
            else:
                async with remote.read("f", Span(0, 10), None):
                    pass  # the server is silent about it: the connection is given up
                await remote.stat("f")
                assert server.connections == 2


async def test_roots(servers: Servers, tmp_path: Path) -> None:
    place = fresh("proftpd", servers, tmp_path)
    await place.open().mkdir("sub")
    for root in (f"{place.root}/sub", f"/{place.root}/sub", f"./{place.root}/x/../sub/"):
        remote = open_remote("ftp", place.options, root)
        await put(remote, "f", root.encode())
        assert await fetch(place.open(), "sub/f") == root.encode()


# what is on the servers' disks


@pytest.mark.parametrize("ftp_place", PLAIN_FTP, indirect=True)
async def test_links_are_what_they_lead_to(ftp_place: Place) -> None:
    assert ftp_place.disk is not None
    ftp_place.make("f", b"12345")
    (ftp_place.disk / "d").mkdir()
    for name, target in (("to-file", "f"), ("to-folder", "d"), ("to-nothing", "absent")):
        os.symlink(target, ftp_place.disk / name)
        own(ftp_place.disk / name)
    remote = ftp_place.open()
    listed = await entries(remote)
    assert {"f", "d"} <= listed.keys()
    if "to-file" in listed:  # rclone's server shows no links
        assert (listed["to-file"].kind, listed["to-file"].size) == (Kind.FILE, 5)
        assert (await remote.stat("to-file")).kind is Kind.FILE
        assert await fetch(remote, "to-file") == b"12345"
        assert listed["to-folder"].kind is Kind.DIRECTORY
        assert (await remote.stat("to-folder")).kind is Kind.DIRECTORY
    else:
        assert ftp_place.name == "rclone"
    await remote.aclose()


@pytest.mark.parametrize("ftp_place", ["vsftpd", "proftpd", "pure-ftpd"], indirect=True)
async def test_names_that_are_not_utf8(ftp_place: Place) -> None:
    assert ftp_place.disk is not None
    name = os.fsdecode(b"caf\xe9")
    ftp_place.make(name, b"latin")
    remote = ftp_place.open()
    assert list(await entries(remote)) == [name]
    assert await fetch(remote, name) == b"latin"
    await remote.rename(name, "café")
    assert list(await entries(remote)) == ["café"]
    await remote.aclose()


async def test_names_with_a_leading_dot_may_be_forbidden() -> None:
    with pure_ftpd(arguments=["-x"]) as server:
        remote = open_remote("ftp", server.options, "")
        await remote.put("f", Content(b"x"), expect=ANYTHING, mtime_ns=None)
        assert await fetch(remote, "f") == b"x"
        assert [path.name for path in server.root.iterdir()] == ["f"]


async def test_a_limit_on_connections_is_learned_from_a_real_server() -> None:
    with (
        pure_ftpd(arguments=["-C", "2"]) as pure,
        proftpd(lines=["MaxClientsPerHost 2"]) as pro,
        vsftpd(config={"max_per_ip": "2"}) as very_secure,
    ):
        for server in (pure, pro, very_secure):
            remote = open_remote("ftp", server.options, "")
            await put(remote, "f", b"x")
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(remote.stat, "f")
            assert remote.caps.parallelism <= 8
            await remote.aclose()

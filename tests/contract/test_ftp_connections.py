"""How the FTP remote connects: encryption and whom it trusts, data connections of every type, what it shows of them."""

from __future__ import annotations

import hashlib
import logging
import ssl
from pathlib import Path

import pytest
import trio
from conftest import Place, Servers, fresh
from sources import entries, fetch, put

from mountcore.errors import Busy, Denied, InvalidName, StorageError, Unsupported
from mountcore.remotes.ftp import FtpRemote
from mountcore.remotes.ftp.options import parse
from mountcore.remotes.protocol import Remote, Span
from mountcore.remotes.registry import open_remote
from tests.servers import Tls, proftpd, rclone
from tests.servers.certificate import make_certificate
from tests.servers.scripted import ScriptedFtp, scripted

pytestmark = pytest.mark.trio
FILE = "250-\r\n type=file;size=1;modify=20240101000000; x\r\n250 End"
QUICK = {"timeout": "2s", "connect_timeout": "2s", "shut_timeout": "2s"}


async def round_trip(remote: Remote) -> None:
    """Everything that takes a data connection."""
    await put(remote, "f", b"content" * 10_000)
    assert await fetch(remote, "f", Span(7, 14)) == b"content"
    assert await fetch(remote, "f") == b"content" * 10_000
    assert "f" in await entries(remote)
    await remote.aclose()


def scripted_remote(server: ScriptedFtp, **options: str) -> FtpRemote:
    return FtpRemote(parse(server.options | QUICK | options))


def digest(path: Path, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, ssl.PEM_cert_to_DER_cert(path.read_text())).hexdigest()


# encryption


@pytest.mark.parametrize(("name", "mode"), [("pyftpdlib", "none"), ("vsftpd-tls", "explicit"), ("proftpd-tls", "auto"),
                                            ("vsftpd-tls-implicit", "implicit")])  # fmt: skip
async def test_encryption_by_name(servers: Servers, tmp_path: Path, name: str, mode: str) -> None:
    place = fresh(name, servers, tmp_path)
    plain = {key: value for key, value in place.options.items() if key not in ("tls", "explicit_tls")}
    await round_trip(open_remote("ftp", plain | {"encryption": mode}, place.root))


async def test_auto_goes_on_in_the_clear_where_tls_is_refused_and_says_so(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = fresh("pyftpdlib", servers, tmp_path)
    await round_trip(place.open(encryption="auto"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "in the clear" in warnings[0]


@pytest.mark.parametrize("mode", ["explicit", "implicit"])
async def test_the_login_is_never_in_the_clear_where_encryption_was_asked_for(mode: str) -> None:
    async with scripted({"AUTH": "502 what?"}) as server:
        with pytest.raises(StorageError):
            await scripted_remote(server, encryption=mode).stat("f")
        assert [line for line in server.heard if line.startswith(("USER", "PASS"))] == []


async def test_auto_does_not_fall_back_from_a_certificate_that_is_not_trusted(servers: Servers, tmp_path: Path) -> None:
    place = fresh("proftpd-tls", servers, tmp_path)
    options = {"host": place.options["host"], "port": place.options["port"], "user": "u", "encryption": "auto"}
    with pytest.raises(Denied, match="certificate"):
        await open_remote("ftp", options, "").stat("")


async def test_text_before_the_handshake_is_not_taken_as_protected() -> None:
    async with scripted({"AUTH": b"234 go\r\n230 in\r\n"}) as server:
        with pytest.raises(StorageError):
            await scripted_remote(server, encryption="explicit").stat("f")
        assert server.told("PASS") == []


@pytest.mark.parametrize("versions", ["tls12", "tls13", "tls12,tls13", "None"])
async def test_tls_versions(servers: Servers, tmp_path: Path, versions: str) -> None:
    await round_trip(fresh("proftpd-tls", servers, tmp_path).open(tls_versions=versions))


async def test_a_server_with_another_tls_version_is_refused() -> None:
    with proftpd(tls=Tls.EXPLICIT, lines=["TLSProtocol TLSv1.2"]) as server:
        await open_remote("ftp", server.options | {"tls_versions": "tls12"}, "").stat("")
        with pytest.raises(StorageError, match="TLS"):
            await open_remote("ftp", server.options | QUICK | {"tls_versions": "tls13"}, "").stat("")


def serving(*files: Path, key: Path) -> ssl.SSLContext:
    """A server's context that shows a chain."""
    chain = key.parent / "chain.pem"
    chain.write_text("".join(file.read_text() for file in files))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("ftp_place", ["vsftpd-tls-implicit", "proftpd-tls"], indirect=True)
async def test_a_certificate_is_accepted_by_its_hash(ftp_place: Place, algorithm: str) -> None:
    assert ftp_place.server is not None
    assert ftp_place.server.certificate is not None
    own = digest(ftp_place.server.certificate.certificate, algorithm)
    await round_trip(ftp_place.open(ca_cert="", certificate_hash=f"{'0' * 40};{own}"))
    with pytest.raises(Denied, match="certificate"):
        await ftp_place.open(ca_cert="", certificate_hash="0" * 40).stat("")
    await round_trip(ftp_place.open(certificate_hash="0" * 40))  # trusted the usual way


async def test_a_certificate_is_accepted_by_who_signed_it(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = make_certificate(tmp_path / "one"), make_certificate(tmp_path / "other")
    pin = {"encryption": "implicit", "certificate_hash": digest(one.authority)}
    async with scripted({"MLST": FILE}, tls=serving(one.certificate, one.authority, key=one.key)) as server:
        assert (await scripted_remote(server, **pin).stat("f")).size == 1
    # a chain that shows what was pinned, while somebody else signed
    async with scripted({"MLST": FILE}, tls=serving(other.certificate, one.authority, key=other.key)) as server:
        with pytest.raises(Denied, match="certificate"):
            await scripted_remote(server, **pin).stat("f")
        assert server.heard == []


async def test_an_expired_certificate_is_rejected_whatever_its_hash(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, expired=True)
    async with scripted({"MLST": FILE}, tls=serving(made.certificate, key=made.key)) as server:
        options = {"encryption": "implicit", "certificate_hash": digest(made.certificate)}
        with pytest.raises(Denied, match="expired"):
            await scripted_remote(server, **options).stat("f")
        assert (await scripted_remote(server, no_check_certificate="true", **options).stat("f")).size == 1


async def test_clear_data_for_servers_that_cannot_do_better() -> None:
    """rclone's server encrypts the commands and sends the files in the clear."""
    with rclone(tls=Tls.IMPLICIT) as server:
        with pytest.raises(Unsupported, match="clear_data"):
            await open_remote("ftp", server.options, "").stat("")
        await round_trip(open_remote("ftp", server.options | {"clear_data": "true"}, ""))


async def test_commands_in_the_clear_after_the_login() -> None:
    with proftpd(tls=Tls.EXPLICIT, lines=["TLSRequired auth+data"]) as server:
        await round_trip(open_remote("ftp", server.options | {"clear_commands": "true"}, ""))


# data connections

ON_THE_WIRE = {
    "auto_passive": "EPSV", "epsv": "EPSV", "pasv": "PASV", "pasvex": "PASV", "pasvuse": "PASV", "auto_active": "EPRT",
    "port": "PORT", "eprt": "EPRT",
}  # fmt: skip


@pytest.mark.parametrize("kind", ON_THE_WIRE)
@pytest.mark.parametrize("name", ["pyftpdlib", "vsftpd", "proftpd", "pure-ftpd", "rclone", "proftpd-tls"])
async def test_every_type_of_data_connection(
    servers: Servers, tmp_path: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = fresh(name, servers, tmp_path)
    with caplog.at_level(logging.DEBUG, logger="mountcore.remotes.ftp.console"):
        await round_trip(place.open(data_connection=kind))
    said = {verb for verb in set(ON_THE_WIRE.values()) if f"> {verb}" in caplog.text}
    assert said == {ON_THE_WIRE[kind]}


async def test_automatic_types_remember_what_was_refused() -> None:
    async with scripted({"EPSV": "502 what?", "EPRT": "502 what?", "PASV": "425 no", "PORT": "425 no"}) as server:
        for options, first, second in (({}, "EPSV", "PASV"), ({"active": "true"}, "EPRT", "PORT")):
            remote = scripted_remote(server, **options)
            for _ in range(3):
                with pytest.raises(StorageError):
                    await fetch(remote, "f")
            assert (len(server.told(first)), len(server.told(second))) == (1, 3)


async def test_explicit_types_do_not_try_another() -> None:
    async with scripted({"EPSV": "502 what?", "EPRT": "502 what?"}) as server:
        for kind in ("epsv", "eprt"):
            with pytest.raises(StorageError, match="502"):
                await fetch(scripted_remote(server, data_connection=kind), "f")
        assert server.told("PASV") == server.told("PORT") == []


async def test_a_port_of_epsv_that_leads_nowhere_gives_way_to_pasv(servers: Servers, tmp_path: Path) -> None:
    place = fresh("pyftpdlib", servers, tmp_path)
    await put(place.open(), "f", b"x")
    (closed,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = closed.socket.getsockname()[1]
    await closed.aclose()
    async with scripted({"EPSV": f"229 (|||{port}|)", "PASV": "425 seen"}) as server:
        with pytest.raises(StorageError, match="425 seen"):
            await fetch(scripted_remote(server), "f")


async def test_active_ports(servers: Servers, tmp_path: Path) -> None:
    place = fresh("proftpd", servers, tmp_path)
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    (free,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port, free_port = (listener.socket.getsockname()[1] for listener in (taken, free))
    await free.aclose()
    await round_trip(place.open(active="true", active_ports=str(free_port)))
    with pytest.raises(Busy, match="active_ports"):
        await fetch(place.open(active="true", active_ports=str(port)), "f")
    await taken.aclose()


async def test_noop_keeps_the_control_connection_alive() -> None:
    """Its replies come before or after that of the transfer, or never; none is taken for another."""
    for noop, settled in (("200 ok", True), ("502 what?", True), ("", False)):
        content = b"x" * 3_000_000
        async with scripted({"MLST": FILE, "NOOP": noop}, data={"RETR": content}) as server:
            remote = scripted_remote(server, keep_alive="1ms", close_timeout="200ms")
            assert await fetch(remote, "f", Span(0, len(content)), None) == content
            assert (await remote.stat("f")).size == 1
            assert server.connections == (1 if settled else 2)
            assert bool(server.told("NOOP"))


async def test_a_transfer_whose_end_is_never_confirmed() -> None:
    """Some servers never send 226: done, if they go on to answer the next command."""
    async with scripted({"MLST": FILE}, data={"MLSD": b"type=file;size=1; f\r\n"}, final={"MLSD": b""}) as server:
        remote = scripted_remote(server, shut_timeout="400ms")
        assert list(await entries(remote)) == ["f"]
        assert (await remote.stat("f")).size == 1


# names


@pytest.mark.parametrize("ftp_place", ["pyftpdlib-list", "vsftpd", "proftpd", "pure-ftpd", "rclone"], indirect=True)
async def test_cwd_names(ftp_place: Place, caplog: pytest.LogCaptureFixture) -> None:
    remote = ftp_place.open(cwd_names="true")
    with caplog.at_level(logging.DEBUG, logger="mountcore.remotes.ftp.console"):
        await remote.mkdir("d")
        await remote.mkdir("d/e")
        stored = await put(remote, "d/e/f", b"12345")
        await put(remote, "d/e/f", b"1234567", stored.version)
        assert await fetch(remote, "d/e/f") == b"1234567"
        assert list(await entries(remote, "d/e")) == ["f"]
        assert (await remote.stat("d/e/f")).size == 7
        await remote.rename("d/e/f", "d/g")
        await remote.rename("d/g", "d/h")
        await remote.remove("d/h")
        await remote.rmdir("d/e")
        assert list(await entries(remote, "d")) == []
    arguments = [line.partition(verb)[2] for line in caplog.messages for verb in ("> STOR ", "> RETR ", "> DELE ")]
    assert not [argument for argument in arguments if "/" in argument]
    await remote.aclose()


@pytest.mark.parametrize("ftp_place", ["vsftpd", "proftpd", "pure-ftpd"], indirect=True)
async def test_another_charset(ftp_place: Place) -> None:
    assert ftp_place.disk is not None
    remote = ftp_place.open(charset="cp1251")
    await put(remote, "файл", b"x")
    assert list(await entries(remote)) == ["файл"]
    assert (ftp_place.disk / "файл".encode("cp1251").decode("utf-8", "surrogateescape")).exists()
    with pytest.raises(InvalidName, match="cp1251"):
        await put(remote, "日本", b"x")
    await remote.aclose()


async def test_absolute_paths(servers: Servers, tmp_path: Path) -> None:
    place = fresh("proftpd", servers, tmp_path)
    await put(open_remote("ftp", place.options | {"absolute_path": "true"}, place.root), "f", b"x")
    async with scripted({"PWD": '257 "/home/u" is here', "MLST": FILE}) as server:
        for options, wanted in (({}, "/home/u/a/f"), ({"absolute_path": "true"}, "/a/f")):
            await FtpRemote(parse(server.options | options), "a").stat("f")
            assert server.told("MLST")[-1] == wanted


# uploads, and what is shown


async def test_the_upload_delay_comes_before_the_check() -> None:
    async with scripted({"MLST": FILE}) as server:
        began = trio.current_time()
        await put(scripted_remote(server, upload_delay="300ms"), "f", b"x")
        assert trio.current_time() - began >= 0.3
        assert [line.split()[0] for line in server.heard][-4:] == ["STOR", "MLST", "RNFR", "RNTO"]


@pytest.mark.parametrize("private", [False, True])
async def test_the_console_shows_what_is_said_without_secrets(
    private: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = "530 the password hush-hush of captain at 127.0.0.1 is wrong"
    async with scripted({"PASS": reply}) as server:
        options = {"user": "captain", "pass": "hush-hush", "log_to_console": "true"}
        with pytest.raises(Denied) as caught:
            await scripted_remote(server, log_private_info=str(private).lower(), **options).stat("f")
    shown = capsys.readouterr().err
    assert "> USER" in shown
    assert "< 530" in shown
    assert "hush-hush" not in shown + str(caught.value)
    assert ("captain" in shown, "127.0.0.1" in shown) == (private, private)


async def test_the_console_is_silent_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted({"MLST": FILE}) as server:
        await scripted_remote(server).stat("f")
    assert capsys.readouterr().err == ""

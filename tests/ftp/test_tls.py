"""TLS: what is demanded, what is refused, and that nothing is lost or smuggled in."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountcore.errors import Refused
from mountcore.remotes.memory import Memory
from tests.servers.certificate import Certificate, make_certificate

from .conftest import eventually, fetch, store
from .serving import Served, serving
from .test_clients import rclone, run
from .test_transfers import last_reply


class Tls(ftplib.FTP_TLS):
    """ftplib, resuming the session of the control connection on data connections if told to."""

    resume = False

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int]:
        sock, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:  # type: ignore[attr-defined]
            session = self.sock.session if self.resume else None  # type: ignore[union-attr]
            sock = self.context.wrap_socket(sock, server_hostname=self.host, session=session)
        return sock, size or 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def texts(certificate: Certificate) -> dict[str, str]:
    return {"cert": str(certificate.certificate), "key": str(certificate.key)}


@pytest.fixture(scope="module")
def explicit(texts: dict[str, str]) -> Iterator[Served]:
    with serving(lambda: Memory(""), ftp_texts=texts) as served:
        yield served


def context(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.authority))


def secure(served: Served, certificate: Certificate, *, private: bool = True, login: bool = True) -> Tls:
    client = Tls(context=context(certificate), timeout=20, encoding="utf-8")
    client.connect("localhost", served.port)
    if login:
        client.login(served.user, served.password)
        if private:
            client.prot_p()
    return client


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("resume", [True, False])
def test_transfers(
    explicit: Served, certificate: Certificate, private: bool, version: ssl.TLSVersion, resume: bool
) -> None:
    client = Tls(context=context(certificate), timeout=20)
    client.context.maximum_version = version
    client.resume = resume
    client.connect("localhost", explicit.port)
    client.login(explicit.user, explicit.password)
    if private:
        client.prot_p()
    data = os.urandom(5_000_001)
    client.storbinary("STOR t", io.BytesIO(data))
    assert fetch(client, "t") == data
    assert fetch(client, "t", rest=5_000_000) == data[-1:]
    store(client, "empty", b"")
    assert fetch(client, "empty") == b""
    assert "t" in client.nlst()
    assert ("private" in client.sendcmd("STAT")) is private
    client.quit()


def test_plain_clients_are_welcome_unless_tls_is_required(explicit: Served, texts: dict[str, str]) -> None:
    with explicit.connect() as ftp:
        store(ftp, "plain", b"x")
    required = {**texts, "tls": "require"}
    with serving(lambda: Memory(""), ftp_texts=required) as served, pytest.raises(ftplib.error_perm, match="530"):
        served.connect()


def test_data_has_to_be_private_where_tls_is_required(texts: dict[str, str], certificate: Certificate) -> None:
    required = {**texts, "tls": "require"}
    with (
        serving(lambda: Memory(""), ftp_texts=required) as served,
        secure(served, certificate, private=False) as client,
    ):
        with pytest.raises(ftplib.error_perm, match="521"):
            client.sendcmd("PASV")
        client.prot_p()
        store(client, "f", b"x")
        with pytest.raises(ftplib.error_perm, match="534"):
            client.sendcmd("PROT C")


def test_what_is_sent_before_tls_is_not_taken_for_something_said_inside(explicit: Served) -> None:
    with socket.create_connection((explicit.host, explicit.port), timeout=20) as sock:
        assert sock.recv(100).startswith(b"220")
        sock.sendall(b"AUTH TLS\r\nUSER injected\r\n")
        assert sock.recv(100).startswith(b"503")
        assert sock.recv(100) == b""


def test_stripping_is_refused(explicit: Served, certificate: Certificate) -> None:
    with secure(explicit, certificate) as client:
        for command, code in (("CCC", "534"), ("AUTH TLS", "503"), ("PROT X", "504"), ("PROT S", "536")):
            client.putcmd(command)
            assert last_reply(client)[:3] == code
    with explicit.connect() as ftp:
        for command, code in (("PBSZ 0", "503"), ("PROT P", "503"), ("AUTH KERBEROS", "504")):
            ftp.putcmd(command)
            assert last_reply(ftp)[:3] == code


def test_a_handshake_that_fails_is_522(explicit: Served, certificate: Certificate) -> None:
    with secure(explicit, certificate) as client:
        sock, _ = ftplib.FTP.ntransfercmd(client, "STOR f")
        sock.sendall(b"this is no TLS, and it is long enough to be seen as such")
        assert last_reply(client)[:3] == "522"
        sock.close()
        sock, _ = ftplib.FTP.ntransfercmd(client, "STOR f")
        sock.close()
        assert last_reply(client)[:3] == "522"
        assert "f" not in client.nlst()


def test_a_reset_during_a_private_upload_publishes_nothing(explicit: Served, certificate: Certificate) -> None:
    with secure(explicit, certificate) as client:
        store(client, "reset", b"old")
        sock = client.transfercmd("STOR reset")
        sock.sendall(b"x" * 100_000)
        eventually(lambda: "received: 100000" in client.sendcmd("STAT"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert last_reply(client)[:3] == "426"
        assert fetch(client, "reset") == b"old"


@pytest.mark.parametrize("strict", [False, True])
def test_an_end_without_close_notify(texts: dict[str, str], certificate: Certificate, strict: bool) -> None:
    options = {**texts, "tls-strict-end": str(strict).lower()}
    with serving(lambda: Memory(""), ftp_texts=options) as served, secure(served, certificate) as client:
        sock = client.transfercmd("STOR f")
        sock.sendall(b"x" * 1000)
        sock.close()  # without unwrap()
        assert last_reply(client)[:3] == ("426" if strict else "226")
        assert client.nlst() == ([] if strict else ["f"])


def test_reuse_of_the_session_can_be_required(texts: dict[str, str], certificate: Certificate) -> None:
    with serving(lambda: Memory(""), ftp_texts={**texts, "tls-session-reuse": "require"}) as served:
        with secure(served, certificate) as client:
            client.transfercmd("STOR f").close()
            assert last_reply(client)[:3] == "522"
            client.resume = True
            for number in range(3):
                store(client, f"f{number}", b"x")
            assert len(client.nlst()) == 3
        with secure(served, certificate) as other, secure(served, certificate) as thief:
            other.voidcmd("NOOP")
            thief.voidcmd("NOOP")
            sock, _ = ftplib.FTP.ntransfercmd(thief, "NLST")
            stolen = other.sock.session  # type: ignore[union-attr]
            with contextlib.suppress(OSError):
                sock = other.context.wrap_socket(sock, server_hostname="localhost", session=stolen)
            assert last_reply(thief)[:3] == "522"
            sock.close()


def test_implicit_on_a_second_address(texts: dict[str, str], certificate: Certificate) -> None:
    with serving(lambda: Memory(""), ftp_texts={**texts, "addr-implicit": "127.0.0.1:0"}) as served:
        assert len(served.addresses) == 2
        with served.connect() as ftp:
            store(ftp, "f", b"shared")
        curl = shutil.which("curl")
        assert curl is not None
        got = run(
            curl, "-sS", "--cacert", certificate.authority, "-u", f"{served.user}:{served.password}",
            f"ftps://localhost:{served.addresses[1][1]}/f",
        )  # fmt: skip
        assert got == "shared"


def test_old_versions_are_refused(texts: dict[str, str], certificate: Certificate) -> None:
    with serving(lambda: Memory(""), ftp_texts={**texts, "min-tls": "1.3"}) as served:
        old = Tls(context=context(certificate), timeout=20)
        old.context.maximum_version = ssl.TLSVersion.TLSv1_2
        old.connect("localhost", served.port)
        with pytest.raises(OSError, match=r"(?i)alert|version|EOF"):
            old.auth()
        old.close()
        with secure(served, certificate) as new:
            assert "TLSv1.3" in new.sendcmd("STAT")


def test_client_certificates(texts: dict[str, str], certificate: Certificate) -> None:
    options = {**texts, "client-ca": str(certificate.authority), "min-tls": "1.2"}
    with serving(lambda: Memory(""), ftp_texts=options) as served:
        nobody = Tls(context=context(certificate), timeout=20)
        nobody.connect("localhost", served.port)
        with pytest.raises((OSError, EOFError)):
            nobody.login("harbour", "x")
        nobody.close()
        known = Tls(context=context(certificate), timeout=20)
        known.context.load_cert_chain(certificate.certificate, certificate.key)
        known.connect("localhost", served.port)
        known.login(served.user, served.password)
        known.prot_p()
        store(known, "f", b"x")
        known.quit()


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    first = make_certificate(tmp_path)
    options = {"cert": str(first.certificate), "key": str(first.key)}
    with serving(lambda: Memory(""), ftp_texts=options) as served:
        with secure(served, first):
            pass
        first.certificate.write_text("damaged")
        with secure(served, first):
            pass  # the old one goes on
        second = make_certificate(tmp_path)
        with secure(served, second):
            pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cert": "/nonexistent"}, "/nonexistent"),
        ({"tls": "explicit"}, "--cert"),
        ({"key": "/nonexistent"}, "--cert"),
        ({"addr-implicit": "127.0.0.1:0"}, "--cert"),
        ({"cert": "/etc/hostname"}, "PEM"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said), serving(lambda: Memory(""), ftp_texts=given):
        pass


def test_two_hundred_uploads_from_several_tls_libraries_arrive_whole(
    explicit: Served, certificate: Certificate, tmp_path: Path
) -> None:
    """Go (rclone), GnuTLS (lftp), OpenSSL (curl, Python); each closes its connections in a way of its own."""
    source = tmp_path / "source"
    content = random.Random(5).randbytes(3_000_003)
    source.write_bytes(content)
    folders = {name: tmp_path / name for name in ("go", "gnutls")}
    for folder in folders.values():
        folder.mkdir()
        for number in range(60):
            os.link(source, folder / f"u{number}")
    rclone(explicit, "explicit", "copy", folders["go"], "REM:go")
    settings = f"set ssl:ca-file {certificate.authority}; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; "
    login = f"open -u '{explicit.user}','{explicit.password}' ftp://localhost:{explicit.port}; "
    lftp = shutil.which("lftp") or pytest.skip("not installed: lftp")
    run(lftp, "--norc", "-c", f"{settings}{login} mirror -R -P4 '{folders['gnutls']}' gnutls",
        env={**os.environ, "LC_ALL": "C.UTF-8"})  # fmt: skip
    uploads = [f"ftp://localhost:{explicit.port}/curl/u{number}" for number in range(40)]
    words = [word for url in uploads for word in ("-T", str(source), url)]
    subprocess.run(
        ["curl", "-sS", "--ssl-reqd", "--ftp-create-dirs", "--cacert", str(certificate.authority), "-u",
         f"{explicit.user}:{explicit.password}", *words],
        check=True, timeout=60,
    )  # fmt: skip

    def python(first: int) -> None:
        with secure(explicit, certificate) as client:
            for number in range(first, first + 10):
                client.storbinary(f"STOR python{number}", io.BytesIO(content))

    threads = [threading.Thread(target=python, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with explicit.connect() as ftp:
        ftp.voidcmd("TYPE I")
        expected = [f"go/u{n}" for n in range(60)] + [f"gnutls/u{n}" for n in range(60)]
        expected += [f"curl/u{n}" for n in range(40)] + [f"python{n}" for n in range(40)]
        assert len(expected) == 200
        digests = {name: ftp.sendcmd(f"XMD5 {name}") for name in expected}
    assert len(set(digests.values())) == 1

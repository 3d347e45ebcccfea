"""Options of the FTP server: what they accept, what they refuse, and that they do something."""

from __future__ import annotations

import ftplib
import socket
from pathlib import Path

import pytest

from ftp_frontend.auth import SingleUser
from ftp_frontend.command import OPTIONS, ftp_settings
from ftp_frontend.settings import FtpSettings, TlsMode
from mountcore.commands.arguments import Parser, given
from mountcore.errors import Refused
from mountcore.options import parse_values
from mountcore.remotes.memory import Memory

from .conftest import store
from .serving import serving


def settings(**given: str) -> FtpSettings:
    return ftp_settings(parse_values(OPTIONS, given))


def test_defaults_are_rclones() -> None:
    default = settings()
    assert default.addresses == (("localhost", 2121),)
    assert default.passive_ports == (30000, 32000)
    assert default.tls.mode is TlsMode.OFF
    values = parse_values(OPTIONS, {})
    assert (values["user"], values["pass"]) == ("anonymous", "")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (":2121", (("", 2121),)),
        ("[::1]:2121", (("::1", 2121),)),
        ("192.0.2.1:21, :2121", (("192.0.2.1", 21), ("", 2121))),
        ("example.org:0", (("example.org", 0),)),
    ],
)
def test_addresses(text: str, wanted: object) -> None:
    assert settings(addr=text).addresses == wanted


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("addr", "localhost"), ("addr", "::1:2121"), ("addr", "host:99999"), ("addr", ""), ("addr", "a b:1"),
        ("passive_port", "5-3"), ("passive_port", "70000-80000"), ("passive_port", "80-90"), ("passive_port", "x"),
        ("passive_port", "32000-30000"), ("public_ip", "not/an/address"), ("public_ip", "nonsense=1.2.3.4"),
        ("tls", "sometimes"), ("min_tls", "1.4"), ("idle_timeout", "soon"), ("max_connections", "-1"),
        ("fallback_encoding", "klingon"), ("banner", "two\nlines"), ("ftp_upload_ack", "never"),
        ("auth_proxy_mode", "x"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_name(option: str, text: str) -> None:
    with pytest.raises(Refused, match=f"--{option.replace('_', '-')}"):
        settings(**{option: text})


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match=address), serving(lambda: Memory(""), ftp_texts={"addr": address}):
            pass


def test_an_address_of_another_machine_is_refused() -> None:
    with (
        pytest.raises(Refused, match="no such address"),
        serving(lambda: Memory(""), ftp_texts={"addr": "192.0.2.1:0"}),
    ):
        pass


def test_several_addresses() -> None:
    with serving(lambda: Memory(""), ftp_texts={"addr": "127.0.0.1:0,127.0.0.2:0"}) as served:
        assert [host for host, _ in served.addresses] == ["127.0.0.1", "127.0.0.2"]
        for address in served.addresses:
            with socket.create_connection(address) as sock:
                assert sock.recv(100).startswith(b"220")


def test_the_password_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from the file\nsecond line\n")
    with serving(lambda: Memory(""), ftp_texts={"pass": "", "pass-file": str(file)}) as served:
        for password, code in (("from the file", b"230"), ("second line", b"530")):
            with socket.create_connection((served.host, served.port)) as sock:
                sock.recv(100)
                sock.sendall(b"USER harbour\r\n")
                sock.recv(100)
                sock.sendall(f"PASS {password}\r\n".encode())
                assert sock.recv(100).startswith(code)
    missing = {"pass": "", "pass-file": "/nonexistent"}
    with pytest.raises(Refused, match="/nonexistent"), serving(lambda: Memory(""), ftp_texts=missing):
        pass


def test_the_banner() -> None:
    with serving(lambda: Memory(""), ftp_texts={"banner": "Ahoy"}) as served, served.connect() as ftp:
        assert ftp.getwelcome() == "220 Ahoy"


def test_no_password_in_a_repr() -> None:
    with serving(lambda: Memory("")) as served:
        assert served.vfs is not None
        assert "swordfish" not in repr(SingleUser(served.vfs, "me", "swordfish"))


def test_uploads_can_be_acknowledged_by_the_storage() -> None:
    remote = Memory("")
    texts = {"ftp-upload-ack": "remote"}
    with serving(lambda: remote, {"vfs-write-back": "1h"}, texts) as served, served.connect() as ftp:
        store(ftp, "f", b"safe")
        assert served.run(remote.stat, "f").size == 4


def test_read_only() -> None:
    with serving(lambda: Memory(""), {"read-only": "true"}) as served, served.connect() as ftp:
        for command in ("MKD d", "DELE f", "STOR f", "APPE f", "RNFR f", "MFMT 20200101000000 f"):
            with pytest.raises(ftplib.error_perm, match="550"):
                ftp.sendcmd(command)
        assert dict(ftp.mlsd("", ["perm"])) == {}


def test_several_addresses_may_be_given_one_by_one() -> None:
    parser = Parser("serve ftp", "")
    parser.add_table("FTP", OPTIONS)
    words = ["--addr", "127.0.0.1:0", "--addr", "[::1]:0"]
    words += ["--public-ip", "10.0.0.0/8=10.0.0.1", "--public-ip", "192.0.2.1"]
    values = parse_values(OPTIONS, given(parser.parse_args(words), OPTIONS))
    assert values["addr"] == (("127.0.0.1", 0), ("::1", 0))
    assert [public.address for public in values["public-ip"]] == ["10.0.0.1", "192.0.2.1"]
    with serving(lambda: Memory(""), ftp_texts={"addr": "127.0.0.1:0,[::1]:0"}) as served:
        assert {host for host, _ in served.addresses} == {"127.0.0.1", "::1"}
        for host, port in served.addresses:
            with ftplib.FTP(timeout=20) as ftp:
                ftp.connect(host, port)
                assert ftp.login(served.user, served.password).startswith("230")

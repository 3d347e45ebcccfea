"""What users may say about an FTP server, and what is refused."""

from __future__ import annotations

import pytest

from mountcore.errors import Refused
from mountcore.remotes.facts import TYPES
from mountcore.remotes.ftp.data import passive_host
from mountcore.remotes.ftp.options import DataConnection, Proxy, parse
from mountcore.remotes.registry import open_remote

FACTS = next(kind for kind in TYPES if kind.name == "ftp")


def test_the_defaults_in_the_table_are_the_defaults() -> None:
    table = {option.name: option.default for option in FACTS.options}
    assert parse(table | {"host": "h", "user": "u"}) == parse({"host": "h", "user": "u"})


CHANGES = {
    "port": "2121", "user": "else", "pass": "word", "tls": "true", "explicit_tls": "true",
    "no_check_certificate": "true", "ca_cert": "/x", "client_cert": "/x", "tls_cache_size": "0",
    "disable_tls13": "true", "allow_insecure_tls_ciphers": "true", "concurrency": "3", "active": "true",
    "disable_epsv": "true", "disable_mlsd": "true", "disable_utf8": "true", "force_list_hidden": "true",
    "writing_mdtm": "true", "no_check_upload": "true", "connect_timeout": "3s", "timeout": "3s",
    "idle_timeout": "0", "close_timeout": "3s", "shut_timeout": "3s", "socks_proxy": "p", "http_proxy": "http://p",
    "encoding": "Ctl", "host": "other", "encryption": "explicit", "clear_data": "true", "clear_commands": "true",
    "certificate_hash": "ab" * 20, "tls_versions": "tls12", "data_connection": "pasv", "active_ports": "50000-50010",
    "charset": "latin-1", "absolute_path": "true", "cwd_names": "true", "upload_delay": "1s", "keep_alive": "1m",
    "log_to_console": "true", "log_private_info": "true", "temporary_name": ".{name}.tmp",
}  # fmt: skip


@pytest.mark.parametrize("name", [o.name for o in FACTS.options if o.name not in ("ask_password", "client_key")])
def test_every_option_changes_something(name: str) -> None:
    plain = {"host": "h", "user": "u"}
    assert parse(plain | {name: CHANGES[name]}) != parse(plain)


@pytest.mark.parametrize(
    ("name", "value"),
    [("host", ""), ("host", "h:21"), ("host", "ftp://h"), ("port", "70000"), ("port", "x"), ("tls", "maybe"),
     ("concurrency", "-1"), ("timeout", "0"), ("timeout", "soon"), ("user", "a\r\nDELE x"), ("pass", "a\nb"),
     ("socks_proxy", "user:secret@"), ("http_proxy", "p:80"), ("encoding", "Everything"), ("client_key", "/x"),
     ("ask_password", "true"), ("encryption", "perhaps"), ("certificate_hash", "abc"), ("tls_versions", "ssl3"),
     ("data_connection", "telepathy"), ("active_ports", "9-1"), ("active_ports", "x"), ("charset", "utf-16"),
     ("charset", "klingon"), ("temporary_name", "x.tmp"), ("temporary_name", "{name}"), ("temporary_name", "a/{name}"),
     ("upload_delay", "soon"), ("keep_alive", "-1")],
)  # fmt: skip
def test_nonsense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Refused, match=name) as caught:
        parse({"host": "h", "user": "u"} | {name: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "pair",
    [{"tls": "true", "explicit_tls": "true"}, {"socks_proxy": "p", "http_proxy": "http://p"},
     {"socks_proxy": "p", "active": "true"}, {"encryption": "none", "tls": "true"},
     {"encryption": "implicit", "explicit_tls": "true"}, {"active": "true", "data_connection": "epsv"},
     {"data_connection": "epsv", "disable_epsv": "true"}, {"tls_versions": "tls13", "disable_tls13": "true"}],
)  # fmt: skip
def test_contradictions_are_refused(pair: dict[str, str]) -> None:
    with pytest.raises(Refused):
        parse({"host": "h", "user": "u"} | pair)


def test_proxies() -> None:
    assert parse({"host": "h", "socks_proxy": "me:p%40ss@p:9005"}).proxy == Proxy("socks", "p", 9005, "me", "p@ss")
    assert parse({"host": "h", "http_proxy": "http://p"}).proxy == Proxy("http", "p", 80)


def test_passwords_are_in_no_repr() -> None:
    options = parse({"host": "h", "user": "u", "pass": "hush", "socks_proxy": "me:hush@p"})
    assert "hush" not in repr(options)


@pytest.mark.parametrize(
    ("options", "port"),
    [({}, 21), ({"tls": "true"}, 21), ({"encryption": "implicit"}, 990), ({"encryption": "explicit"}, 21),
     ({"encryption": "implicit", "port": "21"}, 21)],
)  # fmt: skip
def test_the_port_follows_the_encryption(options: dict[str, str], port: int) -> None:
    assert parse({"host": "h"} | options).port == port


@pytest.mark.parametrize("word", ["PASVEX", "PassiveExtended", "pasvex"])
def test_words_of_other_programs(word: str) -> None:
    assert parse({"host": "h", "data_connection": word}).data is DataConnection.PASVEX


def test_hashes_of_certificates_in_every_form() -> None:
    sha1, sha256 = "AB:" * 19 + "AB", "cd" * 32
    assert parse({"host": "h", "certificate_hash": f"{sha1};{sha256}"}).pins == {"ab" * 20, sha256}


@pytest.mark.parametrize(
    ("kind", "told", "host", "used"),
    [("pasv", "10.0.0.5", "203.0.113.9", "203.0.113.9"), ("pasv", "127.0.0.1", "10.0.0.1", "10.0.0.1"),
     ("pasv", "8.8.4.4", "8.8.8.8", "8.8.4.4"), ("pasvex", "8.8.4.4", "8.8.8.8", "8.8.8.8"),
     ("auto_passive", "8.8.4.4", "8.8.8.8", "8.8.8.8"), ("pasvuse", "10.0.0.5", "8.8.8.8", "10.0.0.5")],
)  # fmt: skip
def test_whose_address_counts_in_passive_mode(kind: str, told: str, host: str, used: str) -> None:
    assert passive_host(DataConnection(kind), told, host) == used


@pytest.mark.parametrize(
    ("root", "end"),
    [("", "/"), ("a/b/", "/a/b"), ("/a", "//a"), ("/", "//"), ("a/./b/../c", "/a/c")],
)
def test_identity_says_server_user_and_root(root: str, end: str) -> None:
    remote = open_remote("ftp", {"host": "::1", "user": "me@home", "pass": "hush"}, root)
    assert remote.identity == f"ftp://me%40home@[::1]:21{end}"


@pytest.mark.parametrize("root", ["..", "a/../../b", "a\r\nb"])
def test_a_root_cannot_leave_or_break_the_line(root: str) -> None:
    with pytest.raises(Refused):
        open_remote("ftp", {"host": "h"}, root)

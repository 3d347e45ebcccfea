"""The five spellings of a remote, and rclone's quoting in connection strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountcore.errors import Refused
from mountcore.remotes.address import Address, parse_address
from mountcore.remotes.registry import types


@pytest.mark.parametrize(
    ("words", "name", "kind", "options", "path"),
    [
        ("photos:2024/May", "photos", "", {}, "2024/May"),
        ("photos:", "photos", "", {}, ""),
        ("my photos@home.+:x:y", "my photos@home.+", "", {}, "x:y"),
        ("photos,concurrency=2:2024", "photos", "", {"concurrency": "2"}, "2024"),
        (":memory:", "", "memory", {}, ""),
        (":ftp,host=h,tls,port=2121:a/b", "", "ftp", {"host": "h", "tls": "true", "port": "2121"}, "a/b"),
        (
            """:ftp,host="::1",pass='it''s, this: "one"':p""",
            "",
            "ftp",
            {"host": "::1", "pass": 'it\'s, this: "one"'},
            "p",
        ),
        (":ftp,host=,user=a:", "", "ftp", {"host": "", "user": "a"}, ""),
        (":ftp,user=a'b\"c:", "", "ftp", {"user": "a'b\"c"}, ""),
        ("/srv/a:b", "", "local", {}, "/srv/a:b"),
        ("./a:b", "", "local", {}, "./a:b"),
        ("a/b,c:d", "", "local", {}, "a/b,c:d"),
        ("folder", "", "local", {}, "folder"),
        ("folder, with comma", "", "local", {}, "folder, with comma"),
        ("file:///a%20b/c", "", "local", {}, "/a b/c"),
    ],
)
def test_spellings(words: str, name: str, kind: str, options: dict[str, str], path: str) -> None:
    assert parse_address(words) == Address(name, kind, options, path=path)


@pytest.mark.parametrize(
    ("words", "options", "path"),
    [
        ("ftp://h/a/b", {"host": "h"}, "a/b"),
        ("ftp://h", {"host": "h"}, ""),
        ("FTP://u:p%40%3A%2F@h:2121/a%20b", {"host": "h", "port": "2121", "user": "u", "pass": "p@:/"}, "a b"),
        ("ftp://u:a:b@c@h/", {"host": "h", "user": "u", "pass": "a:b@c"}, ""),
        ("ftp://u:@h/%2Fabs", {"host": "h", "user": "u", "pass": ""}, "/abs"),
        ("ftp://u@h//abs/x;type=i", {"host": "h", "user": "u"}, "/abs/x"),
        ("ftp://u@[::1]:21/x%3Fy#z", {"host": "::1", "port": "21", "user": "u"}, "x?y#z"),
        ("ftps://u@h/", {"host": "h", "user": "u", "encryption": "implicit"}, ""),
        ("ftpes://u@h/", {"host": "h", "user": "u", "encryption": "explicit"}, ""),
        ("aftp://u@h/a", {"host": "h", "user": "u", "absolute_path": "true"}, "a"),
        ("ftp://h/a?auth-username=me&auth-password=a%26b+c", {"host": "h", "user": "me", "pass": "a&b c"}, "a"),
        ("ftp://u@h/?auth-username=me&auth-password=x", {"host": "h", "user": "u", "pass": "x"}, ""),
        ("ftp://u:p@h/a?passive=yes", {"host": "h", "user": "u", "pass": "p", "data_connection": "auto_passive"}, "a"),
        ("ftp://h/?passive=no", {"host": "h", "data_connection": "auto_active"}, ""),
        ("ftp://h?Passive=", {"host": "h", "data_connection": "auto_active"}, ""),
        (
            "ftp://h/?concurrency=3&idle-timeout=5m&force_list_hidden",
            {"host": "h", "concurrency": "3", "idle_timeout": "5m", "force_list_hidden": "true"},
            "",
        ),
        ("ftps://h/?ftp-encryption-mode=Explicit", {"host": "h", "encryption": "Explicit"}, ""),
        ("ftp://h/?use-ssl&ftp-regular", {"host": "h", "encryption": "explicit", "data_connection": "auto_active"}, ""),
        (
            "aftp://h/x?aftp-relative-path=true&aftp-use-cwd-names",
            {"host": "h", "absolute_path": "false", "cwd_names": "true"},
            "x",
        ),
        ("ftp://h/?host=elsewhere", {"host": "h"}, ""),
    ],
)
def test_urls_are_decoded_and_their_secrets_are_plain(words: str, options: dict[str, str], path: str) -> None:
    address = parse_address(words)
    assert (address.kind, dict(address.options), address.path, address.plain) == ("ftp", options, path, True)


@pytest.mark.parametrize(
    "words",
    [
        "", ":", "::", ":ftp", ":ftp,host=x", ":ftp,host='x:", ":ftp,host='x'y:", ":ftp,,:", ":ftp,=x:",
        ":ftp,ho st=x:", ":/x", ":a/b:c", "-name:x", " name:x", "na*me:x", "ftp://", "ftp:///x", "ftp://h:0/", "ftp://h:x/",
        "gopher://h/", "file://other/x", "a\0b", "ftp://u%0A@h/",
    ],
)  # fmt: skip
def test_nonsense_is_refused(words: str) -> None:
    with pytest.raises(Refused):
        parse_address(words)


def test_a_url_without_a_user_is_anonymous_unless_something_says_who() -> None:
    address = parse_address("ftp://h/")
    assert (dict(address.options), dict(address.fallback)) == ({"host": "h"}, {"user": "anonymous"})


DUPLICATI = [
    "data-connection-type=PASVEX", "encryption-mode=Auto", "ssl-protocols=Tls12", "use-cwd-names", "upload-delay=5s",
    "log-to-console", "log-privateinfo-to-console",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["ftp", "aftp"])
def test_duplicatis_names_are_options_of_ours(scheme: str) -> None:
    common = "accept-any-ssl-certificate&accept-specified-ssl-hash=ab&disable-upload-verify=true&short-timeout=9s"
    query = "&".join([common, *(f"{scheme}-{name}" for name in DUPLICATI)])
    options = dict(parse_address(f"{scheme}://h/?{query}").options)
    ftp = types()["ftp"]
    assert all(ftp.option(name) for name in options)
    options.pop("absolute_path", "")
    assert options == {
        "host": "h", "no_check_certificate": "true", "certificate_hash": "ab", "no_check_upload": "true",
        "connect_timeout": "9s", "data_connection": "PASVEX", "encryption": "Auto", "tls_versions": "Tls12",
        "cwd_names": "true", "upload_delay": "5s", "log_to_console": "true", "log_private_info": "true",
    }  # fmt: skip


@pytest.mark.parametrize("query", ["ftp-encryption-mode=explicit&use-ssl=false", "a=1&a=2", "a=%0A", "use-ssl=s3cret"])
def test_parameters_that_make_no_sense_are_refused(query: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_address(f"ftp://h/?{query}")
    assert "s3cret" not in str(refused.value)


@given(st.text(st.characters(blacklist_characters="\0\n", blacklist_categories=("Cs",))), st.sampled_from("'\""))
def test_any_value_survives_quoting(value: str, quote: str) -> None:
    words = f":ftp,pass={quote}{value.replace(quote, quote * 2)}{quote},host=h:path"
    assert dict(parse_address(words).options) == {"pass": value, "host": "h"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("ftp://u:pw@h:21/a", "ftp://u@h:21/a"), ("ftpes://u@[::1]/", "ftpes://u@[::1]/"), ("n,pass=x:a", "n:a"),
        (":ftp,host=h,pass=x:a", ":ftp,host=h:a"), (":memory:", ":memory:"), ("/a/b", "/a/b"),
    ],
)  # fmt: skip
def test_how_it_is_called_in_messages(words: str, shown: str) -> None:
    assert str(parse_address(words)) == shown


def test_secrets_are_in_no_text_about_it() -> None:
    for words in ("ftp://u:s3cret@h/x", ":ftp,host=h,pass=s3cret:x", "name,pass=s3cret:x"):
        address = parse_address(words)
        assert "s3cret" not in f"{address} {address!r}"


def test_refusals_quote_no_option_value() -> None:
    with pytest.raises(Refused) as refused:
        parse_address(":ftp,host=h,pass=s3cret")
    assert "s3cret" not in str(refused.value)

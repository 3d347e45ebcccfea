"""The five spellings of a remote, and rclone's quoting in connection strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountcore.errors import Refused
from mountcore.remotes.address import Address, parse_address


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
    assert parse_address(words) == Address(name, kind, options, path)


@pytest.mark.parametrize(
    ("words", "options", "path"),
    [
        ("ftp://h/a/b", {"host": "h", "user": "anonymous"}, "a/b"),
        ("ftp://h", {"host": "h", "user": "anonymous"}, ""),
        ("FTP://u:p%40%3A%2F@h:2121/a%20b", {"host": "h", "port": "2121", "user": "u", "pass": "p@:/"}, "a b"),
        ("ftp://u:a:b@c@h/", {"host": "h", "user": "u", "pass": "a:b@c"}, ""),
        ("ftp://u:@h/%2Fabs", {"host": "h", "user": "u", "pass": ""}, "/abs"),
        ("ftp://u@h//abs/x;type=i", {"host": "h", "user": "u"}, "/abs/x"),
        ("ftp://u@[::1]:21/x?y#z", {"host": "::1", "port": "21", "user": "u"}, "x?y#z"),
        ("ftps://u@h/", {"host": "h", "user": "u", "tls": "true"}, ""),
        ("ftpes://u@h/", {"host": "h", "user": "u", "explicit_tls": "true"}, ""),
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

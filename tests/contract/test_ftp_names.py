"""Names on the wire: rclone's replacements, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Servers, fresh
from hypothesis import given
from hypothesis import strategies as st
from sources import put

from mountcore.errors import Exists, InvalidName, NotFound, Refused
from mountcore.remotes.encoding import DEFAULT, NameEncoding

TRICKY = st.text(alphabet="ab .‛\n\r\t\x01␊␠␁\x7f␡.．:：/／*＊", min_size=1, max_size=6).filter(lambda n: "/" not in n)
ENCODINGS = [
    NameEncoding(),
    NameEncoding.parse("None"),
    NameEncoding.parse("Ctl,Colon,Asterisk,LeftSpace,RightSpace,RightPeriod,LeftCrLfHtVt"),
]


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("plain", "plain"),
        ("line\nbreak", "line␊break"),
        ("return\r", "return␍"),
        ("tab\t", "tab␉"),
        ("del\x7f", "del␡"),
        ("end ", "end␠"),
        (" start", " start"),
        ("a␊b", "a‛␊b"),
        ("a␠b", "a␠b"),
        ("a␠", "a‛␠"),
        ("‛", "‛"),
        ("‛␊", "‛‛␊"),
        ("／", "／"),
        ("．．", "．．"),
        ("caf\udce9", "caf\udce9"),
    ],
)
def test_the_default_is_rclones(name: str, wire: str) -> None:
    encoding = NameEncoding.parse(DEFAULT)
    assert encoding == NameEncoding()
    assert encoding.encode(name) == wire
    assert encoding.decode(wire) == name


@pytest.mark.parametrize(
    ("words", "name", "wire"),
    [
        ("Colon", "a:b", "a：b"),
        ("Asterisk,Question", "*?", "＊？"),
        ("LeftSpace", "  a", "␠ a"),
        ("LeftPeriod", ".a.", "．a."),
        ("RightPeriod", ".a.", ".a．"),
        ("LeftTilde", "~a~", "～a~"),
        ("BackSlash", "a\\b", "a＼b"),
        ("Ctl", "end ", "end "),
    ],
)
def test_the_option_changes_what_is_replaced(words: str, name: str, wire: str) -> None:
    encoding = NameEncoding.parse(words)
    assert encoding.encode(name) == wire
    assert encoding.decode(wire) == name
    assert NameEncoding().encode(name) != wire or words == "Ctl"


def test_unknown_words_are_refused() -> None:
    with pytest.raises(Refused, match="Colon"):
        NameEncoding.parse("Ctl,Nonsense")


@given(TRICKY, st.sampled_from(ENCODINGS))
def test_names_come_back_or_are_refused(name: str, encoding: NameEncoding) -> None:
    try:
        wire = encoding.encode(name)
    except InvalidName:
        assert "‛" in name
        return
    assert not set(wire) & set("\r\n\0")
    assert encoding.decode(wire) == name


@given(TRICKY.filter(lambda n: not set(n) & set("\r\n")), st.sampled_from(ENCODINGS))
def test_what_the_server_has_can_be_addressed_or_is_hidden(wire: str, encoding: NameEncoding) -> None:
    name = encoding.decode(wire)
    if name is None:
        assert "‛" in wire
    else:
        assert encoding.encode(name) == wire


@pytest.mark.parametrize("wire", ["a ", "a\x01b", "a\x7f"])
def test_what_other_programs_stored_is_found(wire: str) -> None:
    name = NameEncoding().decode(wire)
    assert name is not None
    assert NameEncoding().encode(name) == wire


@pytest.mark.trio
@pytest.mark.parametrize("name", ["proftpd", "vsftpd", "pyftpdlib"])
async def test_a_folder_with_a_star_in_its_name(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    remote = place.open()
    for folder in ("*", "a*b"):
        await remote.mkdir(folder)
        with pytest.raises(Exists):
            await remote.mkdir(folder)
        await put(remote, f"{folder}/f", b"x")
    with pytest.raises(NotFound):
        await remote.mkdir("absent/*")
    assert sorted(path.name for path in place.disk.iterdir()) == ["*", "a*b"]
    await remote.aclose()

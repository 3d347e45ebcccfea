"""Names that a storage cannot hold are refused before anything is to be stored, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LONG_TAIL, OBJECT_NAMES, OWN, PLAIN, Place, Servers, fresh
from sources import entries, put

from mountcore.errors import InvalidName, NameTooLong, NotFound, StorageError, Unreachable
from mountcore.remotes.protocol import Remote

pytestmark = pytest.mark.trio
EVERYWHERE = pytest.mark.parametrize("place", [*OWN, "crypt", *PLAIN, *OBJECT_NAMES, *LONG_TAIL], indirect=True)
NAMES = {
    "ordinary": "a name.txt",
    "255 letters": "x" * 255,
    "255 bytes": "é" * 127 + "x",
    "encrypted too long": "x" * 150,
    "colons": "a:b",
    "trailing dot": "end.",
    "device": "nul.txt",
    "backslash": "a\\b",
    "not UTF-8": "caf\udce9",
    "replaced, and then too long": ":" * 200,
    "pictures, and then too long": "\x01" * 200,
    "replaced, and then just not": ":" * 80,
    "pictures, and then just not": "\x01" * 80,
    "a mix that is not read back": "‛\x01",
    "another mix": "‛‛FF\udcff",
    "line break": "a\nb",
    "blank at the end": "a ",
}
_RAW = ("not UTF-8", "another mix")
_ODD = ("pictures, and then too long", "pictures, and then just not", "a mix that is not read back", "line break")
RULES_OF_THEIR_OWN: dict[str, dict[tuple[str, ...], type[StorageError]]] = {
    "pure-ftpd": {("backslash",): InvalidName},
    "pyftpdlib": {_RAW: InvalidName},
    "pyftpdlib-list": {_RAW: InvalidName},
    "wsgidav": {_RAW: Unreachable},
    "rclone-sftp": {_ODD: NotFound},
    "rclone-webdav": {_ODD: NotFound},
    "moto-markers": {_ODD: NotFound},
}
"""What only the server knows, and tells when the file is stored; or what it loses, or does not survive."""
TAKES_MORE = {("rclone", "pictures, and then too long")}
"""It takes the stand-ins for what they stand for, and so does not find them too long."""


@EVERYWHERE
@pytest.mark.parametrize("what", NAMES)
async def test_what_is_not_refused_is_stored_under_its_name(remote: Remote, place: Place, what: str) -> None:
    name = NAMES[what]
    await remote.mkdir("d")
    path = f"d/{name}"
    try:
        remote.check_name(path)
    except (InvalidName, NameTooLong):
        if (place.name, what) not in TAKES_MORE:
            with pytest.raises(StorageError):
                await put(remote, path, b"content")
            assert await entries(remote, "d") == {}
        return
    own = RULES_OF_THEIR_OWN.get(place.name, {})
    refusals = tuple(kind for which, kind in own.items() if what in which)
    try:
        await put(remote, path, b"content")
    except refusals:
        return
    assert set(await entries(remote, "d")) == {name}


@pytest.mark.parametrize(
    ("name", "options", "place", "kind"),
    [
        ("x" * 150, {}, "crypt", NameTooLong),
        ("nul.txt", {}, "smb", InvalidName),
        (":" * 200, {}, "smb", NameTooLong),
        ("caf\udce9", {}, "smb", InvalidName),
        ("\x01" * 200, {}, "vsftpd", NameTooLong),
        ("‛\x01", {}, "vsftpd", InvalidName),
        ("日本", {"charset": "latin-1"}, "vsftpd", InvalidName),
        ("caf\udce9", {}, "opendal-fs", InvalidName),
        ("d/" * 600 + "x", {}, "moto", NameTooLong),
        ("‛\x01", {}, "azurite", InvalidName),
        ("d/" * 2048 + "x", {}, "local", NameTooLong),
        ("d/" * 2048 + "x", {}, "sshd", NameTooLong),
    ],
    indirect=["place"],
    ids=lambda value: value[:12].encode("unicode-escape").decode() if isinstance(value, str) else "",
)
async def test_what_the_storage_cannot_hold_is_refused_without_asking_it(
    place: Place, name: str, options: dict[str, str], kind: type[StorageError]
) -> None:
    remote = place.open(**options)
    try:
        await remote.stat("")
        with pytest.raises(kind):
            remote.check_name(name)
        with pytest.raises(StorageError):
            await put(remote, name, b"content")
    finally:
        await remote.aclose()


async def test_a_server_that_replaces_bytes_is_found_out_once(servers: Servers, tmp_path: Path) -> None:
    place = fresh("pyftpdlib", servers, tmp_path)
    remote = place.open()
    try:
        await remote.stat("")
        remote.check_name("caf\udce9")  # nothing is known yet
        for _ in range(2):
            with pytest.raises(InvalidName):
                await put(remote, "caf\udce9", b"content")
            with pytest.raises(InvalidName):
                remote.check_name("caf\udce9")
        with pytest.raises(InvalidName):
            await remote.mkdir("caf\udce9")
        assert place.disk is not None
        assert list(place.disk.iterdir()) == []
    finally:
        await remote.aclose()

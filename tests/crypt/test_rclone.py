"""Encrypted files in rclone's format: what either writes, the other reads; checked with the rclone program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mountcore.errors import Corrupt, Denied, Refused
from mountcore.remotes.crypt.content import PLAIN, plain_size, sealed_size
from mountcore.remotes.crypt.keys import make_keys
from mountcore.remotes.crypt.names import Encoding, NameMode, Names, NotOurs
from mountcore.remotes.obscure import obscure
from mountcore.remotes.protocol import Remote, Span
from mountcore.remotes.registry import open_remote
from tests.files.conftest import Here, content, rclone
from tests.servers.command import Portside

SIZES = (0, 1, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, 3 * PLAIN + 17)
NAMES = ["a", "report.txt", "ü.txt", "日本語", "with blank", "UPPER lower 123", "!bang!", "🚢", "x" * 140, "é\u0301",
         "a.b.c", "0", "ÿÀ", "\u4e00\u9fff", "tab\there"]  # fmt: skip
PASSWORDS = ("pässword one", "salty")
CASES = {
    "standard": {},
    "base64": {"filename_encoding": "base64"},
    "plain directories": {"directory_name_encryption": "false"},
    "obfuscate": {"filename_encryption": "obfuscate"},
    "off": {"filename_encryption": "off"},
    "off, no suffix": {"filename_encryption": "off", "suffix": "none"},
    "names only": {"no_data_encryption": "true"},
    "no salt": {"password2": ""},
}  # fmt: skip


def section(store: Path, **options: str) -> str:
    values = {
        "type": "crypt",
        "remote": str(store),
        "password": obscure(PASSWORDS[0]),
        "password2": obscure(PASSWORDS[1]),
    }
    return "[enc]\n" + "".join(f"{key} = {value}\n" for key, value in (values | options).items() if value)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    root = tmp_path / "plain"
    for size in SIZES:
        path = root / "sizes" / f"s{size}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    for name in NAMES:
        (root / "names" / name).parent.mkdir(exist_ok=True)
        (root / "names" / name).write_bytes(name.encode())
    (root / "d ü/inner/deep").mkdir(parents=True)
    (root / "d ü/inner/deep/f.txt").write_bytes(b"deep")
    return root


@pytest.mark.parametrize("case", CASES)
def test_both_ways(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plain: Path, case: str) -> None:
    store, conf = tmp_path / "store", tmp_path / "portside.conf"
    store.mkdir()
    conf.touch(0o600)
    conf.write_text(section(store, **CASES[case]))
    monkeypatch.setenv("PORTSIDE_CONFIG", str(conf))
    config = {"RCLONE_CONFIG": str(conf)}
    done = rclone("copy", plain, "enc:theirs", **config)
    assert done.returncode == 0, done.stderr
    back = here.run("copy", "enc:theirs", tmp_path / "back", "-v")
    assert back.returncode == 0, back.stderr
    assert content(tmp_path / "back") == content(plain)
    assert here.run("copy", plain, "enc:ours").returncode == 0
    assert rclone("copy", "enc:ours", tmp_path / "again", **config).returncode == 0
    assert content(tmp_path / "again") == content(plain)
    listed = [here.run("lsf", "-R", f"enc:{who}").stdout.decode() for who in ("ours", "theirs")]
    ours, theirs = (sorted(text.splitlines()) for text in listed)
    assert ours == theirs == sorted(f"{p.relative_to(plain)}{'/' * p.is_dir()}" for p in plain.rglob("*"))
    if case == "standard":
        assert not any(name.encode() in b"".join(p.name.encode() for p in store.rglob("*")) for name in NAMES[1:5])
        assert rclone("cryptcheck", plain, "enc:ours", **config).returncode == 0
    if case != "names only":
        assert not any(b"deep" in path.read_bytes() for path in store.rglob("*") if path.is_file())


@pytest.mark.parametrize("mode", ["standard", "obfuscate"])
def test_names_are_spelled_as_rclone_spells_them(tmp_path: Path, mode: str) -> None:
    config = tmp_path / "conf"
    config.write_text(section(tmp_path, filename_encryption=mode))
    theirs: list[str] = []
    for some in (NAMES[:7], NAMES[7:-1]):  # it takes a few at a time, and a tab as it is, which its copies do not
        done = rclone("cryptdecode", "--reverse", "enc:", *some, RCLONE_CONFIG=str(config))
        assert done.returncode == 0, done.stderr
        theirs += [line.rpartition(" \t ")[2] for line in done.stdout.decode().splitlines()]
    names = Names(make_keys(*PASSWORDS), NameMode(mode))
    assert [names.file(name) for name in NAMES[:-1]] == theirs
    assert [names.file_name(name) for name in theirs] == NAMES[:-1]


def test_names_that_are_not_ours() -> None:
    for names in (Names(make_keys(*PASSWORDS)), Names(make_keys(*PASSWORDS), encoding=Encoding.BASE64)):
        for name in ("readme.txt", "", "abc", "=", "a" * 26, "ö", names.file("x")[:-1]):
            with pytest.raises(NotOurs):
                names.file_name(name)
    with pytest.raises(NotOurs):
        Names(make_keys("another", "salt")).file_name(Names(make_keys(*PASSWORDS)).file("report.txt"))


def test_sizes_are_told_from_sizes() -> None:
    for size in (*SIZES, 10**12):
        assert plain_size(sealed_size(size)) == size
    for impossible in (0, 31, 33, 32 + 16, 32 + PLAIN + 16 + 5):
        assert plain_size(impossible) is None


def opened(store: Path, password: str = PASSWORDS[0], **options: str) -> Remote:
    values = {"remote": "x:", "password": password, "password2": PASSWORDS[1]} | options
    return open_remote("crypt", values, "", open_remote("local", {}, str(store)))


@pytest.fixture
def written(portside: Portside, tmp_path: Path, plain: Path) -> Path:
    """What rclone has encrypted."""
    store = tmp_path / "store"
    config = tmp_path / "conf"
    config.write_text(section(store))
    assert rclone("copy", plain / "sizes", "enc:", RCLONE_CONFIG=str(config)).returncode == 0
    return store


async def fetch(remote: Remote, path: str, span: Span) -> bytes:
    async with remote.read(path, span, None) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.trio
async def test_ranges_across_blocks(written: Path, plain: Path) -> None:
    remote = opened(written)
    name = f"s{SIZES[-1]}"
    whole = (plain / "sizes" / name).read_bytes()
    edges = (0, 1, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, 3 * PLAIN, len(whole) - 1, len(whole), len(whole) + 9)
    for start in edges:
        for stop in edges:
            if start <= stop:
                assert await fetch(remote, name, Span(start, stop)) == whole[start:stop], (start, stop)


@pytest.mark.trio
async def test_a_damaged_block_is_an_error_or_zeros(written: Path, plain: Path) -> None:
    name = f"s{SIZES[-1]}"
    remote = opened(written)
    stored = max(written.iterdir(), key=lambda path: path.stat().st_size)  # noqa: ASYNC240
    data = bytearray(stored.read_bytes())
    data[32 + PLAIN + 16 + 100] ^= 1  # in the second block
    stored.write_bytes(data)
    whole = (plain / "sizes" / name).read_bytes()
    assert await fetch(remote, name, Span(0, PLAIN)) == whole[:PLAIN]
    with pytest.raises(Corrupt, match="block 1"):
        await fetch(remote, name, Span(0, len(whole)))
    assert await fetch(opened(written, pass_bad_blocks="true"), name, Span(0, len(whole))) == (
        whole[:PLAIN] + bytes(PLAIN) + whole[2 * PLAIN :]
    )
    stored.write_bytes(b"not encrypted at all" + data[20:])
    with pytest.raises(Corrupt, match="not an encrypted file"):
        await fetch(opened(written), name, Span(0, 5))


@pytest.mark.trio
async def test_with_the_wrong_password_nothing_looks_empty(written: Path) -> None:
    remote = opened(written, "wrong")
    with pytest.raises(Denied, match="password"):
        _ = [entry async for entry in remote.list("")]
    (written / "readme.txt").write_bytes(b"not ours")
    names = [entry.name async for entry in opened(written).list("")]
    assert "readme.txt" not in names
    assert len(names) == len(SIZES)
    with pytest.raises(Denied, match="strict_names"):
        _ = [entry async for entry in opened(written, strict_names="true").list("")]


def test_sync_from_the_wrong_password_deletes_nothing(portside: Portside, written: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "plain", tmp_path / "copy")
    before = content(tmp_path / "copy")
    portside.configure(section(written, password=obscure("wrong")))
    done = portside.run("sync", "enc:", tmp_path / "copy")
    assert done.returncode != 0
    assert "password" in done.stderr
    assert content(tmp_path / "copy") == before


@pytest.mark.parametrize(
    ("options", "mentions"),
    [({"filename_encryption": "rot13"}, "standard, obfuscate, off"), ({"filename_encoding": "base32768"}, "base32768"),
     ({"directory_name_encryption": "maybe"}, "true nor false"), ({"remote": ""}, "'remote'"),
     ({"remote": "enc:"}, "circle"), ({"remote": "nobody:"}, "'nobody'"), ({"hotel": "x"}, "'hotel'")],
)  # fmt: skip
def test_options_that_make_no_sense(portside: Portside, tmp_path: Path, options: dict[str, str], mentions: str) -> None:
    portside.configure(section(tmp_path, **options))
    assert mentions in portside.refusal("ls", "enc:")


@pytest.mark.parametrize("kind", ["union", "chunker"])
def test_wrappers_that_are_not_there_are_refused_by_name(portside: Portside, kind: str) -> None:
    portside.configure(f"[wrapped]\ntype = {kind}\nupstreams = a: b:\nremote = a:\n")
    text = portside.refusal("ls", "wrapped:")
    assert kind in text
    assert "not supported" in text
    with pytest.raises(Refused, match="not supported"):
        open_remote(kind, {}, "")


def test_nested(portside: Portside, tmp_path: Path) -> None:
    """Crypt around an alias around crypt, and a name for a directory in it."""
    (tmp_path / "store").mkdir()
    once = section(tmp_path / "store")
    portside.configure(
        once + "[in]\ntype = alias\nremote = enc:vault\n"
        + section(Path("in:again")).replace("[enc]", "[twice]") + "[short]\ntype = alias\nremote = twice:d\n"
    )  # fmt: skip
    assert portside.run("rcat", "short:f", stdin="secret").returncode == 0
    assert portside.run("cat", "twice:d/f").stdout == "secret"
    assert rclone("cat", "twice:d/f", RCLONE_CONFIG=str(portside.config)).stdout == b"secret"
    assert portside.run("lsf", "enc:vault").stdout.count("/") == 1


def test_mounted(portside: Portside, tmp_path: Path, mountpoint: Path) -> None:
    """Programs write at any offset through a mount, and rclone reads what is stored."""
    store = tmp_path / "store"
    store.mkdir()
    portside.configure(section(store))
    portside.mount("enc:", mountpoint, "--vfs-write-back", "50ms")
    (mountpoint / "d").mkdir()
    expected = bytearray(os.urandom(3 * PLAIN + 100))
    (mountpoint / "d/f").write_bytes(expected)
    with (mountpoint / "d/f").open("r+b") as file:
        for offset in (0, PLAIN - 3, 2 * PLAIN + 1):
            file.seek(offset)
            file.write(b"changed")
            expected[offset : offset + 7] = b"changed"
    (mountpoint / "d/f").rename(mountpoint / "g")
    (mountpoint / "empty").touch()
    assert portside.run("umount", mountpoint).returncode == 0
    config = {"RCLONE_CONFIG": str(portside.config)}
    assert rclone("cat", "enc:g", **config).stdout == bytes(expected)
    assert sorted(rclone("lsf", "-R", "enc:", **config).stdout.decode().split()) == ["d/", "empty", "g"]
    portside.mount("enc:", mountpoint, "--cache-dir", tmp_path / "fresh")
    with (mountpoint / "g").open("rb") as file:
        file.seek(2 * PLAIN)
        assert file.read(50) == bytes(expected[2 * PLAIN : 2 * PLAIN + 50])
    assert portside.run("umount", mountpoint).returncode == 0

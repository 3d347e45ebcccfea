"""Commands, seen from a client: what they do and how they answer."""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import re
import zlib
from functools import partial
from pathlib import Path

import pytest

from mountcore.remotes.memory import Memory
from mountcore.remotes.protocol import ANYTHING
from mountcore.remotes.registry import open_remote

from .conftest import fetch, store
from .serving import Served, serving
from .storage import Bytes


def refused(ftp: ftplib.FTP, command: str, code: str) -> str:
    with pytest.raises(ftplib.Error) as caught:
        ftp.sendcmd(command)
    reply = str(caught.value)
    assert reply[:3] == code, reply
    return reply


# files


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_001])
def test_what_is_stored_comes_back(client: ftplib.FTP, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert store(client, "a file", data).startswith("226")
    assert client.size("a file") == size
    assert fetch(client, "a file") == data


def test_stor_replaces(client: ftplib.FTP) -> None:
    store(client, "f", b"long content")
    store(client, "f", b"short")
    assert fetch(client, "f") == b"short"


def test_appe_appends_and_creates(client: ftplib.FTP) -> None:
    store(client, "f", b"one", "APPE")
    store(client, "f", b"two", "APPE")
    assert fetch(client, "f") == b"onetwo"


def test_rest_and_stor_overwrite_from_there(client: ftplib.FTP) -> None:
    store(client, "f", b"0123456789")
    store(client, "f", b"XX", rest=4)
    assert fetch(client, "f") == b"0123XX6789"
    store(client, "f", b"YYYY", rest=8)
    assert fetch(client, "f") == b"0123XX67YYYY"


def test_rest_survives_epsv_and_is_used_once(client: ftplib.FTP) -> None:
    store(client, "f", b"0123456789")
    client.sendcmd("REST 7")
    client.sendcmd("EPSV")
    assert fetch(client, "f") == b"789"
    assert fetch(client, "f") == b"0123456789"


def test_rest_beyond_the_end(client: ftplib.FTP) -> None:
    store(client, "f", b"abc")
    assert fetch(client, "f", rest=3) == b""
    with pytest.raises(ftplib.error_perm, match="554"):
        fetch(client, "f", rest=4)
    with pytest.raises(ftplib.error_perm, match="554"):
        store(client, "f", b"x", rest=4)
    refused(client, "REST -1", "501")
    refused(client, "REST 99999999999999999999999", "501")


def test_retr_of_what_cannot_be_had(client: ftplib.FTP) -> None:
    client.mkd("d")
    with pytest.raises(ftplib.error_perm, match="550"):
        fetch(client, "missing")
    with pytest.raises(ftplib.error_perm, match="550"):
        fetch(client, "d")
    with pytest.raises(ftplib.error_perm, match="550"):
        store(client, "d", b"x")
    with pytest.raises(ftplib.error_perm, match="550"):
        store(client, "missing/f", b"x")


def test_a_name_that_is_too_long_is_553(client: ftplib.FTP) -> None:
    with pytest.raises(ftplib.error_perm, match="553"):
        store(client, "x" * 300, b"x")


def test_stou_finds_a_name(client: ftplib.FTP) -> None:
    reply = []
    with client.transfercmd("STOU") as data:
        data.sendall(b"unique")
    reply.append(client.voidresp())
    with client.transfercmd("STOU base") as data:
        data.sendall(b"other")
    reply.append(client.voidresp())
    names = client.nlst()
    assert len(names) == 2
    assert names[0].startswith("base.")
    assert fetch(client, names[0]) == b"other"
    assert fetch(client, names[1]) == b"unique"


def test_ascii_type(client: ftplib.FTP) -> None:
    client.voidcmd("TYPE A N")
    with client.transfercmd("STOR t") as data:
        for piece in (b"one\r", b"\ntwo\r\n", b"bare\rcr\n", b"end\r"):
            data.sendall(piece)
    client.voidresp()
    client.voidcmd("TYPE I")
    assert fetch(client, "t") == b"one\ntwo\nbare\rcr\nend\r"
    client.voidcmd("TYPE A")
    assert fetch_ascii(client, "t") == b"one\r\ntwo\r\nbare\rcr\r\nend\r"
    refused(client, "SIZE t", "550")
    refused(client, "REST 3", "501")


def fetch_ascii(client: ftplib.FTP, name: str) -> bytes:
    with client.transfercmd(f"RETR {name}") as data:
        got = b"".join(iter(lambda: data.recv(65536), b""))
    client.voidresp()
    return got


def test_ascii_across_pieces(client: ftplib.FTP) -> None:
    data = (b"x" * 1023 + b"\n") * 2000
    store(client, "t", data)
    client.voidcmd("TYPE A")
    assert fetch_ascii(client, "t") == data.replace(b"\n", b"\r\n")


# names


def test_rename_onto_an_existing_file(client: ftplib.FTP) -> None:
    store(client, "a", b"new")
    store(client, "b", b"old")
    client.rename("a", "b")
    assert fetch(client, "b") == b"new"
    assert client.nlst() == ["b"]


def test_rename_of_a_directory_and_into_it(client: ftplib.FTP) -> None:
    client.mkd("d")
    store(client, "d/f", b"x")
    client.rename("d", "e")
    assert fetch(client, "e/f") == b"x"
    with pytest.raises(ftplib.error_perm):
        client.rename("e", "e/inside")
    refused(client, "RNTO x", "503")
    refused(client, "RNFR missing", "550")


def test_directories(client: ftplib.FTP) -> None:
    home = client.pwd()
    assert client.mkd('a "quoted" one') == f'{home}/a "quoted" one'
    client.cwd('a "quoted" one')
    assert client.pwd() == f'{home}/a "quoted" one'
    client.sendcmd("CDUP")
    assert client.pwd() == home
    refused(client, 'MKD a "quoted" one', "550")
    store(client, 'a "quoted" one/f', b"")
    refused(client, 'RMD a "quoted" one', "550")
    client.delete('a "quoted" one/f')
    client.rmd('a "quoted" one')
    refused(client, "CWD gone", "550")
    store(client, "file", b"")
    refused(client, "CWD file", "550")
    refused(client, "RMD /", "550")
    refused(client, "RNFR /", "550")


@pytest.mark.parametrize("path", ["/..", "/../../etc", "../../../..", "/a/../../..", "//..//", "/./.."])
def test_nothing_is_above_the_root(client: ftplib.FTP, path: str) -> None:
    client.sendcmd("MLST " + path) if path != "/../../etc" else refused(client, "MLST " + path, "550")
    store(client, "/../../../escaped", b"x")
    assert fetch(client, "/escaped") == b"x"


@pytest.mark.parametrize(
    "name", ["ümläut", "e\u0301", "日本語", "-dash", " lead", "trail ", "a;b", "100%", "[x]*", "🚢"]
)
def test_odd_names(client: ftplib.FTP, name: str) -> None:
    store(client, name, b"content")
    assert client.nlst() == [name]
    assert [n for n, _ in client.mlsd()] == [name]
    assert fetch(client, name) == b"content"
    client.rename(name, "plain")
    client.rename("plain", name)
    client.delete(name)
    assert client.nlst() == []


def test_names_of_old_clients_are_read_in_the_fallback_encoding() -> None:
    with serving(lambda: Memory(""), ftp_texts={"fallback-encoding": "latin-1"}) as served, served.connect() as ftp:
        ftp.encoding = "latin-1"
        store(ftp, "caf\xe9", b"old")
        ftp.encoding = "utf-8"
        assert ftp.nlst() == ["caf\xe9"]
        assert fetch(ftp, "caf\xe9") == b"old"


def test_a_name_that_is_no_utf8_keeps_its_bytes_or_is_refused(client: ftplib.FTP) -> None:
    client.encoding = "latin-1"
    with contextlib.suppress(ftplib.error_perm):
        store(client, "caf\xe9", b"x")
        with client.transfercmd("NLST") as data:
            assert data.recv(100) == b"caf\xe9\r\n"
        client.voidresp()
    assert client.lastresp in ("226", "553")
    assert client.sendcmd("NOOP").startswith("200")


# listings


def test_listings_agree(client: ftplib.FTP) -> None:
    names = [f"f{i:04d}" for i in range(600)]
    client.mkd("many")
    client.cwd("many")
    for name in names[:20]:
        store(client, name, name.encode())
    client.mkd("z")
    wanted = [*names[:20], "z"]
    lines: list[str] = []
    client.retrlines("LIST", lines.append)
    assert [line.split()[-1] for line in lines] == wanted
    assert client.nlst() == wanted
    facts = dict(client.mlsd())
    assert list(facts) == wanted
    assert facts["f0003"]["size"] == "5"
    assert facts["f0003"]["type"] == "file"
    assert facts["z"]["type"] == "dir"
    assert re.fullmatch(r"0\d{3}", facts["f0003"]["unix.mode"])
    assert len({fact["unique"] for fact in facts.values()}) == len(wanted)


def test_mlsd_lines_end_in_crlf(client: ftplib.FTP) -> None:
    store(client, "f", b"")
    with client.transfercmd("MLSD") as data:
        assert data.recv(4096).endswith(b" f\r\n")
    client.voidresp()


@pytest.mark.parametrize("options", ["-a", "-l", "-la", "-al", "-aL", "-l -a", "-R"])
def test_list_knows_the_options_of_ls(client: ftplib.FTP, options: str) -> None:
    client.mkd("d")
    store(client, "d/f", b"")
    for command in (f"LIST {options} d", f"NLST {options} d"):
        lines: list[str] = []
        client.retrlines(command, lines.append)
        assert [line.split()[-1] for line in lines] == ["f"]
    assert "f" in client.sendcmd(f"STAT {options} d")


def test_list_of_a_file_and_patterns(client: ftplib.FTP) -> None:
    for name in ("a.txt", "b.txt", "c.jpg", ".hidden.txt", "lite[ral]"):
        store(client, name, b"")
    assert client.nlst("*.txt") == ["a.txt", "b.txt"]
    assert client.nlst("[ab].*") == ["a.txt", "b.txt"]
    assert client.nlst("lite[ral]") == ["lite[ral]"]
    assert client.nlst("c.jpg") == ["c.jpg"]
    assert client.nlst("*.none") == []
    with pytest.raises(ftplib.error_perm, match="550"):
        client.nlst("missing")
    with pytest.raises(ftplib.error_perm, match="501"):
        list(client.mlsd("c.jpg"))


def test_facts_can_be_chosen(client: ftplib.FTP) -> None:
    store(client, "f", b"123")
    assert client.sendcmd("OPTS MLST size;nonsense;TYPE;") == "200 MLST OPTS type;size;"
    assert " type=file;size=3; " in client.sendcmd("MLST f")
    assert client.sendcmd("OPTS MLST") == "200 MLST OPTS "
    refused(client, "OPTS MLST size", "501")


# times


def test_times_are_set_and_shown(client: ftplib.FTP) -> None:
    store(client, "f", b"x")
    assert client.sendcmd("MFMT 20200102030405 f").startswith("213 Modify=20200102030405; ")
    assert client.sendcmd("MDTM f") == "213 20200102030405"
    assert dict(client.mlsd())["f"]["modify"] == "20200102030405"
    assert client.sendcmd("MDTM 20210102030405 f") == "213 20210102030405"
    client.sendcmd("MFF Modify=20220102030405; f")
    assert client.sendcmd("MDTM f") == "213 20220102030405"
    client.sendcmd("SITE UTIME 202301020304 f")
    assert client.sendcmd("MDTM f") == "213 20230102030400"
    store(client, "of two words", b"x")
    client.sendcmd("SITE UTIME of two words 20240102030405 20240202030405 20240302030405 UTC")
    assert client.sendcmd("MDTM of two words") == "213 20240202030405"
    refused(client, "SITE UTIME f 20240102030405 20249902030405 20240302030405 UTC", "501")
    refused(client, "MFMT 2020 f", "501")
    refused(client, "MFMT 20209902030405 f", "501")
    refused(client, "MFMT 20200102030405", "501")
    refused(client, "MFF Colour=red; f", "504")
    refused(client, "MDTM missing", "550")


# digests, space, state


def test_digests(client: ftplib.FTP) -> None:
    data = bytes(range(256)) * 40000
    store(client, "d", data)
    home = client.pwd()
    sha = hashlib.sha256(data).hexdigest()
    assert client.sendcmd("HASH d") == f"213 SHA-256 0-{len(data)} {sha} {home}/d"
    assert client.sendcmd("OPTS HASH MD5") == "200 MD5"
    assert hashlib.md5(data).hexdigest() in client.sendcmd("HASH d")
    assert client.sendcmd("XMD5 d") == f"250 {hashlib.md5(data).hexdigest().upper()}"
    assert client.sendcmd("XSHA1 d") == f"250 {hashlib.sha1(data).hexdigest().upper()}"
    assert client.sendcmd("XSHA256 d") == f"250 {sha.upper()}"
    assert client.sendcmd('XCRC "d" 100 300') == f"250 {zlib.crc32(data[100:300]):08X}"
    refused(client, "OPTS HASH ROT13", "501")
    refused(client, "HASH missing", "550")


def test_digests_come_from_the_storage_where_the_file_is_not_here() -> None:
    remote = Memory("")
    data = b"far away" * 1000
    with serving(lambda: remote, {"vfs-write-back": "1h"}) as served:
        served.run(partial(remote.put, "f", Bytes(data), expect=ANYTHING, mtime_ns=None))
        with served.connect() as ftp:
            ftp.voidcmd("TYPE I")
            assert ftp.sendcmd("XSHA1 f") == f"250 {hashlib.sha1(data).hexdigest().upper()}"
            assert served.vfs is not None
            assert served.vfs.counters.fetched_bytes == 0, "it was fetched for that"
            assert ftp.sendcmd("XCRC f") == f"250 {zlib.crc32(data):08X}", "which this storage does not have"
            assert served.vfs.counters.fetched_bytes == len(data)
            store(ftp, "f", b"newer, and only here")
            assert ftp.sendcmd("XSHA1 f") == f"250 {hashlib.sha1(b'newer, and only here').hexdigest().upper()}"


def test_space_and_greetings(client: ftplib.FTP) -> None:
    assert int(client.sendcmd("AVBL")[4:]) > 0
    assert client.sendcmd("CLNT test").startswith("200")
    assert client.sendcmd("SYST").startswith("215 UNIX")
    assert client.sendcmd("OPTS UTF8 ON").startswith("200")
    assert client.sendcmd("LANG en-GB").startswith("200")
    refused(client, "LANG de", "504")
    refused(client, "HOST example.org", "503")
    assert client.sendcmd("HELP RETR").startswith("214")
    assert "CHMOD" in client.sendcmd("SITE HELP")
    assert client.sendcmd("STRU F").startswith("200")
    assert client.sendcmd("MODE S").startswith("200")
    refused(client, "MODE Z", "504")
    refused(client, "TYPE E", "504")


def test_every_feature_is_a_command(client: ftplib.FTP) -> None:
    listed = {line.split()[0] for line in client.sendcmd("FEAT").splitlines()[1:-1]}
    for name in listed - {"TVFS", "UTF8", "SITE"}:
        assert client.sendcmd(f"HELP {name}").startswith("214")


def test_state_of_the_session(client: ftplib.FTP) -> None:
    assert "TYPE: Binary" in client.sendcmd("STAT")
    client.sendcmd("PASV")
    assert "waiting for connection" in client.sendcmd("STAT")


def test_rein_logs_out_and_stays(server: Served) -> None:
    with server.connect() as ftp:
        assert ftp.sendcmd("REIN").startswith("230")
        refused(ftp, "PWD", "530")
        ftp.login(server.user, server.password)
        assert ftp.pwd() == "/"


def test_chmod_says_what_it_cannot(client: ftplib.FTP) -> None:
    store(client, "f", b"")
    mode = dict(client.mlsd())["f"]["unix.mode"]
    assert client.sendcmd(f"SITE CHMOD {mode[-3:]} f").startswith("200")
    refused(client, "SITE CHMOD 9 f", "501")
    refused(client, "SITE CHMOD 640", "501")


def test_syntax_errors(client: ftplib.FTP) -> None:
    refused(client, "RETR", "501")
    refused(client, "PWD now", "501")
    refused(client, "NONSENSE", "500")
    refused(client, "SITE NONSENSE", "500")
    store(client, "f", b"")
    refused(client, "RETR f", "425")
    refused(client, "STOR f", "425")
    refused(client, "NLST", "425")


def test_a_name_that_the_storage_cannot_hold_is_553_before_anything_is_sent(tmp_path: Path) -> None:
    """Encrypted, a name of 150 bytes is longer than any disk takes."""
    inner = open_remote("local", {}, str(tmp_path))
    remote = open_remote("crypt", {"remote": "x:", "password": "one"}, "", inner)
    with serving(remote) as served, contextlib.closing(served.connect()) as ftp:
        for command in ("STOR", "APPE"):
            with pytest.raises(ftplib.error_perm, match=r"^553"):
                store(ftp, "x" * 150, b"content", command)
        with pytest.raises(ftplib.error_perm, match=r"^553"):
            store(ftp, ".mine.portside-01234567.partial", b"content")
        store(ftp, "short", b"content")
        ftp.sendcmd("RNFR short")
        refused(ftp, "RNTO " + "x" * 150, "553")
        refused(ftp, "MKD " + "x" * 150, "550")
        assert ftp.nlst() == ["short"]

"""One voyage through everything the port promises, on every server in every form: TLS, IPv6, and crippled ones."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
from conftest import PLAIN, Servers, fresh, own
from sources import Content, entries, fetch, put

from mountcore.errors import Exists, NotEmpty, NotFound, Stale, StorageError
from mountcore.remotes.protocol import ABSENT, ANYTHING, Entry, Kind, Remote, Span, Version
from mountcore.remotes.registry import open_remote
from tests.servers import FtpServer, Tls, proftpd, proxies, pure_ftpd, pyftpdlib, rclone, vsftpd
from tests.servers.process import find_program
from tests.servers.scripted import scripted

pytestmark = pytest.mark.trio
Starter = Callable[[], AbstractContextManager[FtpServer]]
BIG = bytes(range(256)) * 4096
WHEN = 1_500_000_000 * 10**9
DIGESTS = ["LoadModule mod_digest.c", "DigestEngine on"]

FORMS: dict[str, tuple[Starter, dict[str, str]]] = {
    "pyftpdlib, explicit TLS": (lambda: pyftpdlib(tls=Tls.EXPLICIT), {}),
    "vsftpd, explicit TLS, reuse required": (lambda: vsftpd(tls=Tls.EXPLICIT, config={"require_ssl_reuse": "YES"}), {}),
    "vsftpd, implicit TLS 1.2": (lambda: vsftpd(tls=Tls.IMPLICIT), {"tls_versions": "tls12"}),
    "vsftpd, explicit TLS 1.3": (lambda: vsftpd(tls=Tls.EXPLICIT), {"tls_versions": "tls13"}),
    "proftpd, explicit TLS, reuse required": (lambda: proftpd(tls=Tls.EXPLICIT), {}),
    "proftpd, implicit TLS 1.2": (lambda: proftpd(tls=Tls.IMPLICIT), {"tls_versions": "tls12"}),
    "proftpd, digests": (lambda: proftpd(lines=DIGESTS), {}),
    "pure-ftpd, explicit TLS": (lambda: pure_ftpd(tls=Tls.EXPLICIT), {}),
    "pure-ftpd, explicit TLS, for data too": (lambda: pure_ftpd(tls=Tls.EXPLICIT, arguments=["-Y", "3"]), {}),
    "rclone, implicit TLS": (lambda: rclone(tls=Tls.IMPLICIT), {"clear_data": "true"}),
    "pyftpdlib, IPv6": (lambda: pyftpdlib(host="::1"), {}),
    "vsftpd, IPv6": (lambda: vsftpd(host="::1"), {}),
    "proftpd, IPv6, TLS": (lambda: proftpd(host="::1", tls=Tls.EXPLICIT), {}),
    "pure-ftpd, IPv6": (lambda: pure_ftpd(host="::1"), {}),
    "rclone, IPv6": (lambda: rclone(host="::1"), {}),
    "proftpd, IPv6, active": (lambda: proftpd(host="::1"), {"active": "true"}),
    "no MLSD": (lambda: pyftpdlib(without=["MLSD", "MLST"]), {}),
    "no EPSV": (lambda: pyftpdlib(without=["EPSV", "EPRT"]), {}),
    "no UTF-8": (lambda: pyftpdlib(without=["OPTS"]), {"disable_utf8": "true"}),
    "no times": (lambda: pyftpdlib(without=["MLSD", "MLST", "MDTM", "MFMT"]), {}),
    "no REST": (lambda: pyftpdlib(without=["REST"]), {}),
    "no SIZE": (lambda: pyftpdlib(without=["SIZE"]), {}),
    "nothing but RFC 959": (
        lambda: pyftpdlib(
            without=["MLSD", "MLST", "EPSV", "EPRT", "FEAT", "OPTS", "SIZE", "MDTM", "MFMT", "REST", "HASH", "SITE"]
        ),
        {},
    ),
    "listings of DOS": (lambda: pyftpdlib(without=["MLSD", "MLST"], dos=True), {}),
    "PRET": (lambda: pyftpdlib(pret=True), {}),
    "PRET, LIST": (lambda: pyftpdlib(pret=True, without=["MLSD", "MLST"]), {}),
    "two connections": (lambda: vsftpd(config={"max_per_ip": "2"}), {"concurrency": "8"}),
}


@contextmanager
def opened(server: FtpServer, **options: str) -> Iterator[Remote]:
    """A remote on its root, with patience for a busy machine."""
    yield open_remote("ftp", server.options | {"timeout": "20s", "shut_timeout": "20s"} | options, "")


async def tree(remote: Remote) -> dict[str, Entry]:
    async with aclosing(cast(AsyncGenerator[tuple[str, Entry], None], remote.list_tree(""))) as found:
        return {f"{place}/{entry.name}".lstrip("/"): entry async for place, entry in found}


async def voyage(remote: Remote) -> None:
    """Everything, once."""
    assert await entries(remote) == {}
    for directory in ("d", "d/e f", "d/empty"):
        await remote.mkdir(directory)
    with pytest.raises(Exists):
        await remote.mkdir("d")
    first = await put(remote, "d/file", BIG, expect=ABSENT, mtime_ns=WHEN)
    assert first.size == len(BIG)
    if remote.caps.set_mtime:
        assert first.mtime_ns == WHEN
    assert await fetch(remote, "d/file", version=first.version) == BIG
    assert await fetch(remote, "d/file", Span(1000, 500_000), first.version) == BIG[1000:500_000]
    assert await fetch(remote, "d/file", Span(len(BIG) - 3, len(BIG) + 10)) == BIG[-3:]
    with pytest.raises(Stale):
        await put(remote, "d/file", b"x", expect=ABSENT)
    with pytest.raises(Stale):
        await put(remote, "d/file", b"x", expect=Version(3))
    await put(remote, "d/file", b"second", expect=first.version)
    assert await fetch(remote, "d/file") == b"second"
    await put(remote, "d/e f/ sämtliche (1)", b"")
    listed = await entries(remote, "d")
    assert {name: (entry.kind, entry.size) for name, entry in listed.items()} == {
        "e f": (Kind.DIRECTORY, 0), "empty": (Kind.DIRECTORY, 0), "file": (Kind.FILE, 6),
    }  # fmt: skip
    assert (await remote.stat("d/file")).version.matches(listed["file"].version)
    assert set(await tree(remote)) == {"d", "d/e f", "d/empty", "d/file", "d/e f/ sämtliche (1)"}
    for name in remote.caps.hashes & hashlib.algorithms_available:
        assert await remote.hash("d/file", name) == hashlib.new(name, b"second").hexdigest()
    await remote.rename("d/file", "d/e f/moved")
    await remote.rename("d/e f", "g")
    assert await fetch(remote, "g/moved") == b"second"
    with pytest.raises(NotFound):
        await remote.stat("d/file")
    with pytest.raises(NotEmpty):
        await remote.rmdir("g")

    async def together(number: int) -> None:
        content = f"content {number}".encode() * 100
        await put(remote, f"g/{number}", content)
        assert await fetch(remote, f"g/{number}") == content

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(together, number)
    for name in await entries(remote, "g"):
        await remote.remove(f"g/{name}")
    for directory in ("g", "d/empty", "d"):
        await remote.rmdir(directory)
    assert await entries(remote) == {}


@pytest.mark.parametrize("form", FORMS)
async def test_everything_on_every_server(form: str) -> None:
    starter, options = FORMS[form]
    with starter() as server, opened(server, **options) as remote:
        await voyage(remote)
        if form == "proftpd, digests":
            assert {"md5", "sha1", "sha256"} <= remote.caps.hashes
        if form == "two connections":
            assert remote.caps.parallelism <= 2
        await remote.aclose()


@pytest.mark.parametrize("without", [(), ("MLSD", "MLST")], ids=["MLSD", "LIST"])
async def test_what_is_asked_ahead_of_a_server_with_pret_may_be_refused(without: tuple[str, ...]) -> None:
    with pyftpdlib(pret=True, without=without) as server, opened(server, concurrency="1") as remote:
        await put(remote, "file", b"content")
        for _ in range(3):
            assert set(await entries(remote)) == {"file"}
            with trio.fail_after(10):
                with pytest.raises(NotFound):
                    await entries(remote, "missing")
                with pytest.raises(NotFound):
                    await fetch(remote, "missing")
                assert await fetch(remote, "file") == b"content"
        await remote.aclose()


async def test_a_server_that_cuts_connections_at_random(servers: Servers, tmp_path: Path) -> None:
    """Every call ends, in the right answer or an error; what is there at last is whole."""
    place = fresh("vsftpd", servers, tmp_path)
    assert place.disk is not None
    chance = random.Random(20)
    done = False
    async with trio.open_nursery() as nursery:
        relay = proxies.Relay()
        port = await relay.start(nursery)
        remote = place.open(socks_proxy=f"127.0.0.1:{port}", shut_timeout="2s", timeout="2s")

        async def saboteur() -> None:
            while True:
                await trio.sleep(chance.uniform(0.005, 0.1))
                relay.cut()

        nursery.start_soon(saboteur)
        nursery.cancel_scope.deadline = trio.current_time() + 50
        files = {f"f{number}": os.urandom(chance.choice([10, 5000, 4_000_000])) for number in range(12)}
        for name, content in files.items():
            while True:  # bounded by the test's own time: on a busy machine hardly a login lives long enough
                try:
                    await remote.put(name, Content(content), expect=ANYTHING, mtime_ns=None)
                    break
                except StorageError as problem:
                    if not problem.retriable:
                        raise
            while True:
                try:
                    assert await fetch(remote, name, Span(0, len(content)), Version(len(content))) == content
                    break
                except StorageError as problem:
                    if not problem.retriable:
                        raise
        done = True
        nursery.cancel_scope.cancel()
    assert done, "it never came to an end"
    assert relay.cuts > 2
    for name, content in files.items():
        assert (place.disk / name).read_bytes() == content


@pytest.mark.parametrize("name", PLAIN[:5])
async def test_rclone_sees_the_same_tree(servers: Servers, tmp_path: Path, name: str) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.disk is not None
    assert place.server is not None
    folders = [place.disk, place.disk / "a b", place.disk / "a b/[c]", place.disk / "ünï"]
    for folder in folders[1:]:
        folder.mkdir()
        own(folder)
    names = ["x", "two  spaces", " leading", "#hash", "100%", "quote'\"", "日本", "semi;colon", "-dash", "a;b=c", "~t"]
    for number, folder in enumerate(folders):
        for wanted in names:
            place.make(str((folder / wanted).relative_to(place.disk)), b"x" * number, mtime=1_600_000_000 + number)
    secret = subprocess.run(  # noqa: ASYNC221 - nothing else runs
        [find_program("rclone"), "obscure", "-"], input=place.server.password.encode(), capture_output=True, check=True
    ).stdout.decode().strip()  # fmt: skip
    words = (
        f":ftp,host={place.server.host},port={place.server.port},user={place.server.user},pass={secret}:{place.root}"
    )
    command = [find_program("rclone"), "--config", str(tmp_path / "none"), "lsjson", "-R", words]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: ASYNC221
    remote = place.open()
    ours = await tree(remote)
    assert {entry["Path"]: (entry["IsDir"], max(entry["Size"], 0)) for entry in theirs} == {
        path: (entry.kind is Kind.DIRECTORY, entry.size) for path, entry in ours.items()
    }
    if name in ("pyftpdlib", "proftpd", "pure-ftpd"):
        for entry in ours.values():
            assert entry.kind is Kind.DIRECTORY or entry.mtime_ns == (1_600_000_000 + entry.size) * 10**9
    await remote.aclose()
    shutil.rmtree(place.disk)


async def test_free_space_and_digests_as_servers_tell_them() -> None:
    features = "211-\r\n AVBL\r\n HASH SHA-256*;MD5\r\n XSHA1 filename\r\n211 End"
    answers = {
        "FEAT": features, "AVBL": "213 123456", "XSHA1": f"250 {'AB' * 20}", "OPTS": "200 ok",
        "HASH": f"213 MD5 0-6 {'0123456789abcdef' * 2} name",
    }  # fmt: skip
    async with scripted(answers) as server:
        remote = open_remote("ftp", server.options, "")
        assert (await remote.usage()).free == 123456
        assert remote.caps.hashes == {"sha1", "sha256", "md5"}
        assert await remote.hash("f", "sha1") == "ab" * 20
        assert await remote.hash("f", "md5") == "0123456789abcdef" * 2
        assert "HASH MD5" in server.told("OPTS")

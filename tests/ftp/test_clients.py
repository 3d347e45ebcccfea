"""Programs that people use, against our server: plain, explicit and implicit TLS."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from mountcore.remotes.memory import Memory
from mountcore.remotes.obscure import obscure
from tests.servers.certificate import Certificate, make_certificate

from .serving import Served, serving


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"not installed: {name}")
    return found


def run(*words: str | Path, timeout: float = 60, ok: bool = True, **options: object) -> str:
    done = subprocess.run(  # type: ignore[call-overload]
        list(map(str, words)), capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    assert not ok or done.returncode == 0, f"{words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return str(done.stdout + done.stderr)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session", params=["off", "explicit", "implicit"])
def tls(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def everybody(tls: str, certificate: Certificate) -> Iterator[Served]:
    texts = {"tls": tls, "passive-port": "40000-40400"}
    if tls != "off":
        texts |= {"cert": str(certificate.certificate), "key": str(certificate.key)}
    with serving(lambda: Memory(""), ftp_texts=texts) as served:
        yield served


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files, empty and large and oddly named."""
    root = tmp_path / "tree"
    (root / "sub dir" / "deeper").mkdir(parents=True)
    (root / "empty").write_bytes(b"")
    (root / "ümläut 日本.txt").write_bytes("text ✓\r\n".encode())
    (root / "sub dir" / "random").write_bytes(random.Random(7).randbytes(5_000_000))
    for number in range(40):
        (root / "sub dir" / "deeper" / f"file {number}").write_bytes(os.urandom(number * 37))
    return root


def same(a: Path, b: Path) -> bool:
    return not run("diff", "-r", a, b)


# curl


def curl(
    served: Served, tls: str, certificate: Certificate, *words: str | Path, path: str = "", ok: bool = True
) -> str:
    scheme = "ftps" if tls == "implicit" else "ftp"
    extra = ["--ssl-reqd"] if tls == "explicit" else []
    return run(
        program("curl"), "-sS", "--fail", "-m", "50", "--cacert", certificate.authority, *extra,
        "-u", f"{served.user}:{served.password}", *words,
        f"{scheme}://localhost:{served.port}/{quote(path)}", ok=ok,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["--ftp-pasv", "--disable-epsv", "-P-", "--disable-eprt"])
def test_curl(everybody: Served, tls: str, certificate: Certificate, tmp_path: Path, way: str) -> None:
    if tls != "off" and way in ("-P-", "--disable-eprt"):
        pytest.skip("curl 7.88 cannot do active mode with TLS")
    words = {"-P-": ["-P", "127.0.0.1"], "--disable-eprt": ["-P", "127.0.0.1", "--disable-eprt"]}.get(way, [way])
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    go = [*words, "--ftp-create-dirs"]
    curl(everybody, tls, certificate, *go, "-T", source, path="curl dir/ä.bin")
    curl(everybody, tls, certificate, *go, "-o", target, path="curl dir/ä.bin")
    assert target.read_bytes() == source.read_bytes()
    curl(everybody, tls, certificate, *go, "-a", "-T", source, path="curl dir/ä.bin")
    target.write_bytes(source.read_bytes())
    curl(everybody, tls, certificate, *go, "-C", "-", "-o", target, path="curl dir/ä.bin")
    assert target.read_bytes() == source.read_bytes() * 2
    assert "ä.bin" in curl(everybody, tls, certificate, *go, path="curl dir/")
    curl(everybody, tls, certificate, *go, "-r", "10-19", "-o", target, path="curl dir/ä.bin")
    assert target.read_bytes() == source.read_bytes()[10:20]
    quoted = ["-Q", "-DELE /curl dir/ä.bin", "-Q", "-RMD /curl dir"]
    curl(everybody, tls, certificate, *words, *quoted, path="/")


# lftp


def lftp(served: Served, tls: str, certificate: Certificate, script: str, *, ok: bool = True) -> str:
    settings = (
        f"set ssl:ca-file {certificate.authority}; set net:max-retries 1; set net:timeout 20; set cmd:fail-exit yes; "
        f"set ftp:ssl-force {'true' if tls == 'explicit' else 'false'}; set ftp:ssl-protect-data yes; "
        f"set ftp:ssl-allow {'no' if tls == 'off' else 'yes'}; "
    )
    scheme = "ftps" if tls == "implicit" else "ftp"
    login = f"open -u '{served.user}','{served.password}' {scheme}://localhost:{served.port}; "
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return run(program("lftp"), "--norc", "-c", settings + login + script, ok=ok, env=environment)


def test_lftp_mirrors_both_ways(
    everybody: Served, tls: str, certificate: Certificate, tree: Path, tmp_path: Path
) -> None:
    back = tmp_path / "back"
    lftp(everybody, tls, certificate, f"mirror -R -P4 '{tree}' lftp; mirror -P4 lftp '{back}'")
    assert same(tree, back)
    (tree / "empty").write_bytes(b"not any more")
    (tree / "ümläut 日本.txt").unlink()
    lftp(everybody, tls, certificate, f"mirror -R --delete '{tree}' lftp; mirror --delete lftp '{back}'")
    assert same(tree, back)


def test_lftp_resumes(everybody: Served, tls: str, certificate: Certificate, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(2_000_000)
    (tmp_path / "f").write_bytes(content)
    half = tmp_path / "half"
    half.mkdir()
    (half / "f").write_bytes(content[:777_777])
    script = f"put '{half}/f' -o resumed; reput '{tmp_path}/f' -o resumed; lcd '{half}'; get -c resumed -o f; "
    lftp(everybody, tls, certificate, script + "cat resumed | cat > whole; rm resumed; cls")
    assert (half / "f").read_bytes() == content
    assert (half / "whole").read_bytes() == content


# wget and ncftp


def test_wget(everybody: Served, tls: str, certificate: Certificate, tree: Path, tmp_path: Path) -> None:
    if tls != "off":
        pytest.skip("Debian's wget checks names of FTPS certificates with what it was built with")
    lftp(everybody, tls, certificate, f"mirror -R '{tree}' wget")
    run(
        program("wget"), "-q", "-r", "-nH", "--no-remove-listing", "-P", tmp_path / "got", "--user", everybody.user,
        "--password", everybody.password, f"ftp://localhost:{everybody.port}/wget/",
    )  # fmt: skip
    assert (tmp_path / "got" / "wget" / "sub dir" / "random").read_bytes() == (tree / "sub dir/random").read_bytes()


def test_ncftp(everybody: Served, tls: str, tree: Path, tmp_path: Path) -> None:
    if tls != "off":
        pytest.skip("ncftp has no TLS")
    login = ["-u", everybody.user, "-p", everybody.password, "-P", str(everybody.port)]
    run(program("ncftpput"), *login, "-m", "-R", "localhost", "/ncftp", tree)
    back = tmp_path / "back"
    back.mkdir()
    run(program("ncftpget"), *login, "-R", "localhost", back, "/ncftp/tree")
    assert (back / "tree" / "sub dir" / "random").read_bytes() == (tree / "sub dir/random").read_bytes()
    assert "empty" in run(program("ncftpls"), *login, "ftp://localhost/ncftp/tree/")


# tnftp


def test_tnftp(everybody: Served, tls: str, tree: Path, tmp_path: Path) -> None:
    if tls != "off":
        pytest.skip("tnftp has no TLS for FTP")
    source = tree / "sub dir" / "random"
    script = (
        f"open localhost {everybody.port}\nuser {everybody.user} {everybody.password.replace(' ', chr(92) + ' ')}\n"
        f'binary\nmkdir tnftp\ncd tnftp\nput "{source}" random\nappend "{source}" random\nls\nsize random\n'
        f"modtime random\nrename random renamed\nget renamed {tmp_path}/back\n"
        f"restart 4999000\nget renamed {tmp_path}/tail\ndelete renamed\ncd /\nrmdir tnftp\nbye\n"
    )
    said = run(program("tnftp"), "-n", "-v", "-p", input=script, cwd=tmp_path)
    assert "10000000" in said, said
    assert (tmp_path / "back").read_bytes() == source.read_bytes() * 2, said
    assert "250 Directory removed." in said


# aioftp

AIOFTP = """
import asyncio, pathlib, ssl, sys
import aioftp

host, port, user, password, mode, tree, back = sys.argv[1:]


async def main():
    context = None
    if mode == "implicit":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with aioftp.Client.context(host, int(port), user, password, ssl=context) as client:
        await client.make_directory("aioftp")
        await client.upload(tree, "aioftp", write_into=True)
        names = {str(path) async for path, info in client.list("aioftp", recursive=True)}
        assert "aioftp/sub dir/random" in names, names
        await client.rename("aioftp/empty", "aioftp/moved")
        assert await client.is_file("aioftp/moved")
        async with client.download_stream("aioftp/sub dir/random", offset=4_999_990) as stream:
            assert len(await stream.read()) == 10
        await client.rename("aioftp/moved", "aioftp/empty")
        await client.download("aioftp", back, write_into=True)
        await client.remove("aioftp")
        assert not await client.exists("aioftp")


asyncio.run(main())
"""


def test_aioftp(everybody: Served, tls: str, tree: Path, tmp_path: Path) -> None:
    if tls == "explicit":
        pytest.skip("aioftp makes the handshake of a data connection before it sends the command (its issue 186)")
    run(
        sys.executable, "-c", AIOFTP, "localhost", str(everybody.port), everybody.user, everybody.password, tls, tree,
        tmp_path / "back",
    )  # fmt: skip
    assert same(tree, tmp_path / "back")


# rclone


def rclone(served: Served, tls: str, *words: str | Path, ok: bool = True, tls13: bool = True) -> str:
    flag = {"off": "", "explicit": ",explicit_tls=true", "implicit": ",tls=true"}[tls]
    flag += "" if tls13 else ",disable_tls13=true"
    remote = (
        f":ftp,host=localhost,port={served.port},user={served.user},pass={obscure(served.password)},"
        f"no_check_certificate=true{flag}:"
    )
    return run(
        program("rclone"), "--config", "/dev/null", "--retries", "1", *[str(w).replace("REM:", remote) for w in words],
        ok=ok, timeout=100,
    )  # fmt: skip


def test_rclone_syncs_and_checks(everybody: Served, tls: str, tree: Path, tmp_path: Path) -> None:
    rclone(everybody, tls, "sync", tree, "REM:rclone")
    rclone(everybody, tls, "check", "--download", tree, "REM:rclone")
    rclone(everybody, tls, "sync", "REM:rclone", tmp_path / "back")
    assert same(tree, tmp_path / "back")
    assert abs((tmp_path / "back/empty").stat().st_mtime - (tree / "empty").stat().st_mtime) <= 1
    assert "nothing to transfer" in rclone(everybody, tls, "-v", "sync", tree, "REM:rclone")
    rclone(everybody, tls, "moveto", "REM:rclone/empty", "REM:rclone/moved")
    rclone(everybody, tls, "purge", "REM:rclone")


def test_rclone_finds_what_names_can_be(everybody: Served, tls: str) -> None:
    words = ["--check-control", "--check-normalization", "--check-streaming"]
    said = rclone(everybody, tls, "test", "info", *words, "REM:i")
    assert "canStream = true" in said
    assert "canReadUnnormalized   = true" in said


@pytest.mark.parametrize("tls13", [True, False])
def test_large_uploads_from_rclone_arrive_whole(everybody: Served, tls: str, tls13: bool, tmp_path: Path) -> None:
    """With session tickets on the data connection, TLS 1.3 lost the end of every upload."""
    source = tmp_path / "big"
    source.write_bytes(random.Random(3).randbytes(20_000_000))
    for number in range(6):
        rclone(everybody, tls, "copyto", source, f"REM:big{number}", tls13=tls13)
    for number in range(6):
        assert f'"Size":{20_000_000}' in rclone(everybody, tls, "lsjson", f"REM:big{number}")
    rclone(everybody, tls, "copyto", "REM:big0", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    for number in range(6):
        rclone(everybody, tls, "deletefile", f"REM:big{number}")

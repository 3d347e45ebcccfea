"""``portside publish`` to real FTP servers, beside the real Lektor: what one has published, the other goes on from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from mountcore.errors import Refused
from mountcore.publish import listing
from mountcore.publish.target import target_of_project, target_words
from mountcore.remotes.partials import is_ours
from tests.servers import FtpServer, Tls, proftpd, pure_ftpd, pyftpdlib, vsftpd
from tests.servers.command import Portside, until
from tests.servers.faultproxy import Fault, fault_proxy

LEKTOR = Path(sys.prefix) / "lektor" / "bin" / "lektor"
_SERVERS = {
    "pyftpdlib": pyftpdlib,
    "vsftpd": vsftpd,
    "proftpd": proftpd,
    "pure-ftpd": pure_ftpd,
    "vsftpd-tls": lambda: vsftpd(tls=Tls.EXPLICIT),
}


def url(server: FtpServer, path: str, scheme: str = "ftp", port: int | None = None) -> str:
    login = f"{quote(server.user, safe='')}:{quote(server.password, safe='')}"
    return f"{scheme}://{login}@{server.host}:{port or server.port}{path}"


@pytest.fixture(params=list(_SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[FtpServer]:
    with _SERVERS[request.param]() as running:
        yield running


@pytest.fixture
def plain() -> Iterator[FtpServer]:
    with pyftpdlib() as running:
        yield running


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


SITE = {
    "index.html": b"<img src=img/boat.png>",
    "blog/index.html": b"<a href=one/>one</a>",
    "blog/one/index.html": b"one",
    "img/boat.png": bytes(range(256)) * 2000,
    "style.css": b"a { color: red }",
    "a b/ü.txt": b"umlaut",
    ".htaccess": b"deny from none",
}
LEFT_OUT = {".git/config": b"no", ".hidden": b"no", "img/Thumbs.db": b"no", "desktop.ini": b"no"}


def stored(root: Path) -> dict[str, bytes]:
    """What is published, without the listing, and without what a killed upload left (no listing of ours shows it)."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".lektor" not in path.parts and not is_ours(path.name)
    }


def place(server: FtpServer, name: str = "site") -> tuple[Path, str]:
    """A new directory on the server: where it really is, and its path there."""
    folder = server.root / name
    folder.mkdir()
    shutil.chown(folder, "daemon")
    return folder, f"/{name}"


def checksums(root: Path) -> dict[str, str]:
    return listing.parse((root / ".lektor" / "listing").read_bytes())


def test_a_site_is_published_changed_and_pruned(portside: Portside, tmp_path: Path, server: FtpServer) -> None:
    site = tmp_path / "site"
    write(site, SITE | LEFT_OUT)
    folder, path = place(server)
    scheme = "sftp" if server.tls is Tls.EXPLICIT else "ftp"
    words = url(server, path, scheme)
    if server.certificate is not None:
        words += f"?ca_cert={quote(str(server.certificate.authority))}"
    done = portside.run("publish", site, words)
    assert done.returncode == 0, done.stderr
    assert stored(folder) == SITE
    assert checksums(folder) == {name: hashlib.sha1(data).hexdigest() for name, data in SITE.items()}

    done = portside.run("publish", site, words)
    assert done.returncode == 0
    assert "nothing to publish" in done.stderr

    (site / "index.html").write_bytes(b"changed")
    (site / "blog/one/index.html").unlink()
    (site / "new.html").write_bytes(b"new")
    done = portside.run("publish", site, words, "-v")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 files" in done.stderr
    expected = {name: data for name, data in SITE.items() if name != "blog/one/index.html"}
    assert stored(folder) == expected | {"index.html": b"changed", "new.html": b"new"}
    assert not (folder / "blog" / "one").exists(), "a folder that is empty goes"
    data = (folder / ".lektor" / "listing").read_bytes()
    assert data == listing.whole(listing.parse(data)), "sorted, without duplicates"


def lektor_site(home: Path, target: str) -> Path:
    """A small project for the real Lektor."""
    write(
        home,
        {
            "Site.lektorproject": f"[project]\nname = Site\n[servers.production]\ntarget = {target}\n".encode(),
            "models/page.ini": b"[model]\nname = Page\n[fields.title]\ntype = string\n",
            "templates/page.html": b"<h1>{{ this.title }}</h1>",
            "content/contents.lr": b"title: Home\n",
            "content/blog/contents.lr": b"title: Blog\n",
            "assets/style.css": b"a { color: red }",
            "assets/img/boat.png": bytes(range(256)) * 100,
        },
    )
    return home


def lektor(home: Path, *argv: object) -> str:
    if not LEKTOR.exists():
        assert not os.environ.get("CI"), "scripts/test installs Lektor"
        pytest.skip("Lektor is not installed; scripts/test installs it")
    environ = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([LEKTOR, *map(str, argv)], cwd=home, env=environ, capture_output=True, text=True, timeout=100,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_lektor_has_deployed_goes_on_and_the_other_way_round(
    portside: Portside, tmp_path: Path, plain: FtpServer
) -> None:
    folder, path = place(plain)
    # Lektor does not decode what stands in a URL
    credentials = ["--username", plain.user, "--password", plain.password]
    target = f"ftp://{plain.host}:{plain.port}{path}"
    home, built = lektor_site(tmp_path / "home", target), tmp_path / "built"
    lektor(home, "build", "-O", built)
    lektor(home, "deploy", "production", "-O", built, *credentials)
    deployed = stored(folder)
    assert deployed["style.css"] == b"a { color: red }"

    argv = ("publish", built, target, *credentials)
    done = portside.run(*argv)
    assert done.returncode == 0, done.stderr
    assert "nothing to publish" in done.stderr, "all of it is there already"

    (home / "content/blog/contents.lr").write_text("title: Changed\n")
    (home / "content/more").mkdir()
    (home / "content/more/contents.lr").write_text("title: More\n")
    lektor(home, "build", "-O", built)
    done = portside.run(*argv)
    assert "2 of 2 files" in done.stderr, done.stderr
    assert stored(folder)["blog/index.html"] == b"<h1>Changed</h1>\n"

    before = {name: os.stat(folder / name).st_mtime_ns for name in stored(folder)}
    lektor(home, "deploy", "production", "-O", built, *credentials)
    assert {name: os.stat(folder / name).st_mtime_ns for name in stored(folder)} == before, "nothing was uploaded again"
    (home / "content/blog/contents.lr").write_text("title: By Lektor\n")
    lektor(home, "build", "-O", built)
    lektor(home, "deploy", "production", "-O", built, *credentials)
    done = portside.run(*argv)
    assert "nothing to publish" in done.stderr
    assert stored(folder)["blog/index.html"] == b"<h1>By Lektor</h1>\n"


def test_the_target_and_the_credentials_come_from_where_lektor_has_them(
    portside: Portside, tmp_path: Path, plain: FtpServer
) -> None:
    folder, path = place(plain)
    target = f"ftp://{plain.host}:{plain.port}{path}?passive=yes"
    site = tmp_path / "project" / "site"
    write(site, SITE)
    project = f"[servers.a]\ntarget = {target}\n[servers.b]\ntarget = ftp://nowhere.invalid/\n"
    (tmp_path / "project" / "My.lektorproject").write_text(project)
    portside.environ |= {"LEKTOR_DEPLOY_USERNAME": plain.user, "LEKTOR_DEPLOY_PASSWORD": plain.password}
    assert "name one with --server" in portside.refusal("publish", site)
    done = portside.run("publish", site, "--server", "a")
    assert done.returncode == 0, done.stderr
    assert stored(folder) == SITE
    for name in ("LEKTOR_DEPLOY_USERNAME", "LEKTOR_DEPLOY_PASSWORD"):
        del portside.environ[name]
    netrc = tmp_path / ".netrc"
    netrc.touch(0o600)
    netrc.write_text(f'machine {plain.host}\nlogin {plain.user}\npassword "{plain.password}"\n')
    done = portside.run("publish", site, f"ftp://{plain.user}@{plain.host}:{plain.port}{path}")
    assert "nothing to publish" in done.stderr, done.stderr


def test_a_trial_run_does_nothing(portside: Portside, tmp_path: Path) -> None:
    site, target = tmp_path / "site", tmp_path / "target"
    target.mkdir()
    write(site, SITE)
    done = portside.run("publish", site, target, "--dry-run")
    assert done.returncode == 0
    assert "style.css: Skipped upload" in done.stderr
    assert list(target.iterdir()) == []


def test_every_option_changes_something(portside: Portside, tmp_path: Path) -> None:
    site, target = tmp_path / "site", tmp_path / "target"
    target.mkdir()
    write(site, SITE | LEFT_OUT)
    assert portside.run("publish", site, target, "--hidden", "--listing-file", "sums/list").returncode == 0
    assert (target / ".hidden").exists()
    assert (target / ".git" / "config").exists()
    assert not (target / "img" / "Thumbs.db").exists()
    assert len(listing.parse((target / "sums" / "list").read_bytes())) == len(SITE) + 2
    (site / "style.css").unlink()
    assert portside.run("publish", site, target, "--listing-file", "sums/list", "--no-delete").returncode == 0
    assert (target / "style.css").exists()
    done = portside.run("publish", site, target, "--listing-file", "sums/list", "--progress", "--transfers", "1")
    assert done.returncode == 0
    assert not (target / "style.css").exists()
    assert not (target / ".hidden").exists()


def test_a_listing_that_is_wrong_is_healed(portside: Portside, tmp_path: Path) -> None:
    site, target = tmp_path / "site", tmp_path / "target"
    target.mkdir()
    write(site, SITE)
    assert portside.run("publish", site, target).returncode == 0
    (target / "style.css").unlink()
    (target / "index.html").write_bytes(b"somebody edited this")
    assert "nothing to publish" in portside.run("publish", site, target).stderr
    assert portside.run("publish", site, target, "--verify").returncode == 0
    assert stored(target) == SITE
    (target / ".lektor" / "listing").unlink()
    assert f"{len(SITE)} of {len(SITE)} files" in portside.run("publish", site, target).stderr, "a full upload"


@pytest.mark.parametrize("append", [True, False], ids=["appends", "rewrites"])
def test_names_of_every_kind(portside: Portside, tmp_path: Path, append: bool) -> None:
    site, target = tmp_path / "site", tmp_path / "target"
    target.mkdir()
    odd = {"a|b.html": b"1", "line\nbreak": b"2", "%7C": b"3", " blank ": b"4", os.fsdecode(b"\xff.txt"): b"5"}
    write(site, odd)
    words = str(target) if append else f":alias,remote='{target}':"
    assert portside.run("publish", site, words).returncode == 0
    assert stored(target) == odd
    assert "nothing to publish" in portside.run("publish", site, words).stderr
    (site / "a|b.html").unlink()
    assert portside.run("publish", site, words).returncode == 0
    assert not (target / "a|b.html").exists()


def test_what_fails_is_not_recorded_and_pages_wait_for_it(portside: Portside, tmp_path: Path, plain: FtpServer) -> None:
    site = tmp_path / "site"
    write(site, SITE)
    folder, path = place(plain)
    assert portside.run("publish", site, url(plain, path)).returncode == 0
    (site / "img/boat.png").write_bytes(b"another boat")
    (site / "index.html").write_bytes(b"about another boat")
    (site / "style.css").unlink()
    with fault_proxy(plain.port, ftp=True) as proxy:
        proxy.fault = Fault("answer", command=r"STOR .*boat", reply="550 not this one")
        done = portside.run("publish", site, url(plain, path, port=proxy.port))
    assert done.returncode == 1
    assert "img/boat.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert stored(folder) == SITE, "the old site is whole"
    assert checksums(folder)["img/boat.png"] == hashlib.sha1(SITE["img/boat.png"]).hexdigest()
    done = portside.run("publish", site, url(plain, path))
    assert done.returncode == 0, done.stderr
    assert stored(folder)["index.html"] == b"about another boat"
    assert "style.css" not in stored(folder)


def test_an_interrupted_run_goes_on(portside: Portside, tmp_path: Path, plain: FtpServer) -> None:
    site = tmp_path / "site"
    write(site, {f"f{number:03}.bin": bytes([number]) * 50_000 for number in range(60)})
    folder, path = place(plain)
    with fault_proxy(plain.port, ftp=True) as proxy:
        proxy.fault = Fault("slow", rate=400_000)
        running = portside.start("publish", site, url(plain, path, port=proxy.port), "-v")
        until(lambda: len(stored(folder)) > 5, "some files are there")
        running.process.send_signal(signal.SIGKILL)
        running.ended()
    assert 0 < len(checksums(folder)) < 60
    done = portside.run("publish", site, url(plain, path))
    assert done.returncode == 0
    match = re.search(r"(\d+) of (\d+) files", done.stderr)
    assert match is not None
    assert int(match[2]) < 60, "what was there was not uploaded again"
    assert len(stored(folder)) == 60


@pytest.mark.parametrize("server", ["pyftpdlib", "vsftpd"], indirect=True)
def test_uploads_are_called_as_lektor_calls_them(portside: Portside, tmp_path: Path, server: FtpServer) -> None:
    site = tmp_path / "site"
    write(site, {"big.bin": os.urandom(8 << 20), "small.txt": b"x", "taken.txt": b"y", "sub/old.txt": b"z"})
    folder, path = place(server)
    write(folder, {".taken.txt.tmp": b"of somebody else", "sub/.old.txt.tmp": b"left behind", ".other.tmp": b"hm"})
    for name in (".taken.txt.tmp", "sub", "sub/.old.txt.tmp"):
        shutil.chown(folder / name, "daemon")
    with fault_proxy(server.port, ftp=True) as proxy:
        words = url(server, path, port=proxy.port)
        proxy.fault = Fault("slow", rate=4 << 20, after=1 << 20)
        running = portside.start("publish", site, words)
        until(lambda: (folder / ".big.bin.tmp").exists() and (folder / ".big.bin.tmp").stat().st_size > 2 << 20, "half")
        running.process.send_signal(signal.SIGKILL)
        running.ended()
        inode = (folder / ".big.bin.tmp").stat().st_ino
        proxy.fault = None
        stop = threading.Event()
        growing = threading.Thread(target=grow, args=(folder / ".taken.txt.tmp", stop))
        growing.start()
        done = portside.run("publish", site, words)
        stop.set()
        growing.join()
        assert done.returncode == 0, done.stderr
    assert (folder / "big.bin").read_bytes() == (site / "big.bin").read_bytes()
    assert (folder / "big.bin").stat().st_ino == inode, "it began anew"
    assert (folder / ".taken.txt.tmp").read_bytes().startswith(b"of somebody else...")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    expected = [".lektor/listing", ".other.tmp", ".taken.txt.tmp", "big.bin", "small.txt", "sub/old.txt", "taken.txt"]
    assert names == expected


def grow(path: Path, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        with path.open("ab") as file:
            file.write(b".")


def test_a_site_with_such_names_is_published(portside: Portside, tmp_path: Path, plain: FtpServer) -> None:
    site = tmp_path / "site"
    write(site, {"a.txt": b"1", ".a.txt.tmp": b"2"})
    folder, path = place(plain)
    assert portside.run("publish", site, url(plain, path), "--hidden").returncode == 0
    (site / "a.txt").write_bytes(b"3")
    assert portside.run("publish", site, url(plain, path), "--hidden").returncode == 0
    assert stored(folder) == {"a.txt": b"3", ".a.txt.tmp": b"2"}


def test_what_makes_no_sense_is_refused(portside: Portside, tmp_path: Path, plain: FtpServer) -> None:
    empty, site = tmp_path / "empty", tmp_path / "site"
    empty.mkdir()
    write(site, SITE)
    assert "nothing to publish" in portside.refusal("publish", empty, tmp_path)
    assert "no such folder" in portside.refusal("publish", tmp_path / "nowhere", tmp_path)
    assert "TARGET is needed" in portside.refusal("publish", site, code=2)
    assert "no such directory" in portside.refusal("publish", site, url(plain, "/nowhere"))
    assert "--listing-file" in portside.refusal("publish", site, tmp_path, "--listing-file", "../x")
    assert "user name" in portside.refusal("publish", site, tmp_path, "--username", "me")
    wrong = f"ftp://{plain.user}:wrong@{plain.host}:{plain.port}/"
    assert ":wrong@" not in portside.refusal("publish", site, wrong)


def test_certificates_are_checked_unless_told_otherwise(portside: Portside, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write(site, SITE)
    with vsftpd(tls=Tls.EXPLICIT) as running:
        folder, path = place(running)
        assert "certificate" in portside.refusal("publish", site, url(running, path, "ftps"))
        done = portside.run("publish", site, url(running, path, "ftps"), "--insecure")
        assert done.returncode == 0, done.stderr
        assert stored(folder) == SITE


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("ftp://u:p@h/site", "ftp://u:p@h/site?absolute_path=true"),
        ("ftps://h:2121/s?passive=no", "ftpes://h:2121/s?passive=no&absolute_path=true"),
        ("sftp://u@h", "ftpes://u@h"),
        ("ssh+sftp://u@h/s", "sftp://u@h/s"),
        ("mine:site", "mine:site"),
    ],
)
def test_targets_are_lektors(words: str, meant: str) -> None:
    assert target_words(words, environ={}) == meant


def test_credentials_given_win_over_the_url() -> None:
    assert target_words("ftp://a:b@h", username="c@d", password="e:f", environ={}) == "ftp://c%40d:e%3Af@h"


def test_disabled_servers_of_a_project_are_none(tmp_path: Path) -> None:
    project = tmp_path / "a.lektorproject"
    project.write_text("[servers.x]\ntarget = ftp://x/\nenabled = no\n[servers.y]\ntarget = ftp://y/\n")
    assert target_of_project(project) == "ftp://y/"
    with pytest.raises(Refused, match="no server 'x'"):
        target_of_project(project, "x")


def test_pages_come_after_what_they_refer_to(portside: Portside, tmp_path: Path, plain: FtpServer) -> None:
    """Looked at all the while: the front page changes last, and what is deleted goes after it."""
    site = tmp_path / "site"
    write(site, SITE)
    folder, path = place(plain)
    assert portside.run("publish", site, url(plain, path)).returncode == 0
    write(site, {"index.html": b"new front", "img/new.png": b"new picture" * 10_000, "new/index.html": b"new page"})
    (site / "style.css").unlink()
    wrong: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            styled = (folder / "style.css").exists()  # looked at first: it goes after the front page has changed
            front = (folder / "index.html").read_bytes()
            if front == b"new front" and not (
                (folder / "img/new.png").exists() and (folder / "new/index.html").exists()
            ):
                wrong.append("the front page was changed before what it refers to was there")
            if front != b"new front" and not styled:
                wrong.append("the old front page has lost its style")

    thread = threading.Thread(target=look)
    thread.start()
    done = portside.run("publish", site, url(plain, path))
    stop.set()
    thread.join()
    assert done.returncode == 0
    assert not wrong
    assert (folder / "index.html").read_bytes() == b"new front"

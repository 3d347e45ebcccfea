"""``portside status`` and ``portside uploads`` for a process that serves FTP alone."""

from __future__ import annotations

import ftplib
import io
import json
import signal
import stat
import sys
from pathlib import Path

import pytest

from mountcore.control import names_of, server_name

from .conftest import Portside, Running, free_port, until

NEVER = ("--vfs-write-back", "1h")


def serve(portside: Portside, *words: object) -> Running:
    running = portside.start("serve", "ftp", *words)
    running.wait_until_says(r"portside: serving ")
    return running


def put(port: int, *names: str, user: str = "anonymous", password: str = "x") -> None:
    with ftplib.FTP(timeout=20) as ftp:
        ftp.connect("127.0.0.1", port)
        ftp.login(user, password)
        for name in names:
            ftp.storbinary(f"STOR {name}", io.BytesIO(b"written here"))


@pytest.mark.parametrize("named", ["localhost", "127.0.0.1", "[::1]"])
def test_uploads_of_a_server_are_shown_and_changed(portside: Portside, named: str, tmp_path: Path) -> None:
    folder, port = tmp_path / "folder", free_port()
    folder.mkdir()
    running = serve(portside, folder, "--addr", f"127.0.0.1:{port}", "--addr", f"[::1]:{port}", *NEVER)
    place = f"ftp://{named}:{port}"
    put(port, "a", "b", "c")
    status = json.loads(portside.run("status", place, "--json").stdout)
    assert status["pid"] == running.process.pid
    assert f"ftp://127.0.0.1:{port}" in status["mountpoint"]
    assert sorted(upload["path"] for upload in status["uploads"]) == ["a", "b", "c"]
    assert "3 files" in portside.run("status", place).stdout
    assert portside.run("uploads", place, "--hold", "/a").stdout == "held: a\n"
    assert portside.run("uploads", place, "--now", "b").stdout == "uploading: b\n"
    until(lambda: (folder / "b").exists(), "b is stored")
    assert portside.run("uploads", place, "--discard", "/c", "--yes").stdout == "discarded: c\n"
    assert portside.refusal("uploads", place, "--now", "../a").endswith(f"../a is not below {place}")
    left = json.loads(portside.run("uploads", place, "--json").stdout)["uploads"]
    assert [(upload["path"], upload["state"]) for upload in left] == [("a", "held")]
    assert portside.run("uploads", place, "--release", "/").returncode == 0
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert "no FTP server of yours listens there" in portside.refusal("status", place)


def test_a_server_on_every_address_is_found_by_each(portside: Portside, tmp_path: Path) -> None:
    port = free_port()
    serve(portside, tmp_path, "--addr", f":{port}")
    for host in ("localhost", "127.0.0.1", ""):
        assert portside.run("status", f"ftp://{host}:{port}").returncode == 0


def test_two_servers_on_one_port_of_two_addresses_are_told_apart(portside: Portside, tmp_path: Path) -> None:
    port = free_port()
    for number in (1, 2):
        (tmp_path / f"folder{number}").mkdir()
        serve(portside, tmp_path / f"folder{number}", "--addr", f"127.0.0.{number}:{port}")
    for number in (1, 2):
        status = json.loads(portside.run("status", f"ftp://127.0.0.{number}:{port}", "--json").stdout)
        assert status["remote"].endswith(f"folder{number}")


def test_of_users_with_storages_of_their_own_each_is_shown(portside: Portside, tmp_path: Path) -> None:
    script = tmp_path / "proxy.py"
    script.write_text(
        "import json, sys\nuser = json.load(sys.stdin)['user']\n"
        f"print(json.dumps({{'type': 'local', '_root': '{tmp_path}/' + user}}))\n"
    )
    port = free_port()
    serve(portside, "--auth-proxy", f"{sys.executable} {script}", "--addr", f"127.0.0.1:{port}", *NEVER)
    for user in ("anna", "bert"):
        (tmp_path / user).mkdir()
        put(port, f"from-{user}", user=user)
    place = f"ftp://127.0.0.1:{port}"
    status = json.loads(portside.run("status", place, "--json").stdout)
    shown = {storage["remote"].rpartition("/")[2]: storage["uploads"][0]["path"] for storage in status["storages"]}
    assert shown == {"anna": "from-anna", "bert": "from-bert"}
    said = portside.run("status", place).stdout
    assert "2 storages" in said
    assert "from-anna" in said
    uploads = json.loads(portside.run("uploads", place, "--json").stdout)["uploads"]
    assert sorted(upload["path"] for upload in uploads) == ["from-anna", "from-bert"]
    assert "storages of their own" in portside.refusal("uploads", place, "--now", "from-anna")


def test_its_sockets_are_the_users_alone_and_gone_at_the_end(portside: Portside, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    portside.environ["XDG_RUNTIME_DIR"] = str(runtime)
    port = free_port()
    running = serve(portside, tmp_path, "--addr", f"127.0.0.1:{port}")
    places = [Path(place) for place in ("/run/portside", f"{runtime}/portside")]
    before = {sock for place in places if place.exists() for sock in place.glob("*.sock")}
    assert before
    assert all(stat.S_IMODE(sock.lstat().st_mode) == 0o600 for sock in before)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert len([sock for sock in before if sock.exists()]) < len(before)


@pytest.mark.parametrize("place", ["ftp://localhost:port", "ftp://no.such.host.invalid:21", "ftp://[::1:2121"])
def test_what_is_no_address_is_refused(portside: Portside, place: str) -> None:
    assert place in portside.refusal("status", place)


def test_names() -> None:
    assert server_name("::1", 2121) == "ftp://[::1]:2121"
    assert names_of("ftp://127.0.0.1")[0] == "ftp://127.0.0.1:2121"

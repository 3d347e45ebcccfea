"""Users from a program: rclone's contract, with the program that we ship as an example and with hostile ones."""

from __future__ import annotations

import ftplib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mountcore.errors import Refused
from mountcore.remotes.obscure import obscure

from .conftest import eventually, fetch, store
from .serving import Served, serving

EXAMPLE = Path(__file__).resolve().parents[2] / "scripts" / "proxy_example.py"


def login(served: Served, user: str, password: str) -> ftplib.FTP:
    client = ftplib.FTP(timeout=20)
    client.connect(served.host, served.port)
    client.login(user, password)
    client.voidcmd("TYPE I")
    return client


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Two users of one storage, one of whom only reads, and a third with a storage of his own."""

    def entry(password: str, folder: str, **more: object) -> dict[str, object]:
        made = subprocess.run(
            [sys.executable, EXAMPLE, "--hash"], input=password + "\n", text=True, capture_output=True, check=True
        )
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        return {"password": made.stdout.strip(), "storage": {"type": "local", "_root": str(root), **more}}

    file = tmp_path / "users.json"
    file.write_text(
        json.dumps(
            {
                "alice": entry("Alice's pässword", "shared"),
                "amir": entry("pw", "shared", _read_only=True),
                "bob": entry("pw", "bob", _home="/in", _max_sessions=1),
            }
        )
    )
    (tmp_path / "bob" / "in").mkdir()
    return file


def proxy(tmp_path: Path, body: str) -> str:
    """A program that counts its runs, and then does ``body`` with ``question``."""
    script = tmp_path / "proxy.py"
    script.write_text(
        "import json, os, sys, time\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
        "question = json.load(sys.stdin)\n" + body
    )
    return f"{sys.executable} {script}"


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text()) if (tmp_path / "runs").exists() else 0


def local(tmp_path: Path, **more: object) -> str:
    return f"print(json.dumps({ {'type': 'local', '_root': str(tmp_path), **more}!r}))\n"


@pytest.mark.parametrize("mode", ["process", "stream"])
def test_the_example(users: Path, mode: str) -> None:
    command = f"{sys.executable} {EXAMPLE} {users}"
    with serving(None, ftp_texts={"auth-proxy": command, "auth-proxy-mode": mode}) as served:
        with login(served, "alice", "Alice's pässword") as alice, login(served, "amir", "pw") as amir:
            store(alice, "f", b"hers")
            assert fetch(amir, "f") == b"hers"  # one storage, so one view of it, before anything is uploaded
            for command in ("STOR", "APPE", "DELE", "MKD"):
                with pytest.raises(ftplib.error_perm, match="550"):
                    amir.sendcmd(f"{command} f")
            with login(served, "bob", "pw") as bob:
                assert bob.pwd() == "/in"
                assert bob.nlst("/") == ["in"]
                with pytest.raises(ftplib.error_perm, match="530"):
                    login(served, "bob", "pw")
            eventually(lambda: login_works(served, "bob", "pw"))
        for wrong in (("alice", "pw"), ("nobody", "pw"), ("alice", "")):
            with pytest.raises(ftplib.error_perm, match="530"):
                login(served, *wrong)


def login_works(served: Served, user: str, password: str) -> bool:
    try:
        login(served, user, password).quit()
    except ftplib.error_perm:
        return False
    return True


def test_the_question_is_rclones(tmp_path: Path) -> None:
    command = proxy(tmp_path, f"json.dump(question, open({str(tmp_path / 'asked')!r}, 'w'))\n" + local(tmp_path))
    with serving(None, ftp_texts={"auth-proxy": command}) as served, login(served, "me", "sécret \"'{}"):
        asked = json.loads((tmp_path / "asked").read_text())
    assert asked == {"user": "me", "pass": "sécret \"'{}", "client_ip": "127.0.0.1"}


def test_answers_are_remembered_and_shared_but_failures_are_not(tmp_path: Path) -> None:
    body = "time.sleep(0.5)\nif question['pass'] != 'right': sys.exit('no')\n" + local(tmp_path)
    with serving(None, ftp_texts={"auth-proxy": proxy(tmp_path, body), "ban-after": "0"}) as served:
        threads = [threading.Thread(target=login_works, args=(served, "me", "right")) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert login_works(served, "me", "right")
        assert runs(tmp_path) == 1
        assert not login_works(served, "me", "wrong")
        assert not login_works(served, "me", "wrong")
        assert runs(tmp_path) == 3


def test_remembering_can_be_turned_off_and_ends(tmp_path: Path) -> None:
    texts = {"auth-proxy": proxy(tmp_path, local(tmp_path)), "auth-proxy-cache": "0s"}
    with serving(None, ftp_texts=texts) as served:
        assert login_works(served, "me", "x")
        assert login_works(served, "me", "x")
        assert runs(tmp_path) == 2
    texts["auth-proxy-cache"] = "1s"
    with serving(None, ftp_texts=texts) as served:
        with login(served, "me", "x") as held:
            time.sleep(2.5)  # the time that is remembered has passed, but the session is open
            assert login_works(served, "me", "x")
            assert runs(tmp_path) == 3
            assert held.pwd() == "/"
        eventually(lambda: not served.run(storages, served))
        assert login_works(served, "me", "x")
        assert runs(tmp_path) == 4


async def storages(served: Served) -> int:
    return len(served.core.views())


@pytest.mark.parametrize(
    "body",
    [
        "sys.exit(1)",
        "print('not JSON')",
        "print('[]')",
        "print('{}')",
        "print(json.dumps({'type': 'local'}))",
        "print(json.dumps({'type': 'nonsense', '_root': ''}))",
        "print(json.dumps({'type': 'local', '_root': '/nonexistent/place'}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', 'nested': {}}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_permissions': 'xyz'}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_quota': '1G'}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_vfs_cache_mode': 'sideways'}))",
        "print('x' * 3_000_000)",
        "time.sleep(60)",
        "os.kill(os.getpid(), 9)",
    ],
)
def test_bad_answers_refuse_the_login_and_nothing_else(
    tmp_path: Path, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = {"auth-proxy": proxy(tmp_path, body + "\n"), "auth-proxy-timeout": "1500ms"}
    with serving(None, ftp_texts=texts) as served:
        assert not login_works(served, "me", "top secret")
        assert "top secret" not in caplog.text


def test_complaints_are_logged_without_the_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    command = proxy(tmp_path, "sys.exit('no such user as ' + repr(question))\n")
    with serving(None, ftp_texts={"auth-proxy": command}) as served:
        assert not login_works(served, "me", "top secret")
    assert "no such user" in caplog.text
    assert "top secret" not in caplog.text


def test_permissions_by_path(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rules = {"/": "elr", "/in": "elw"}
    command = proxy(tmp_path, local(tmp_path, _permissions=rules))
    with serving(None, ftp_texts={"auth-proxy": command}) as served, login(served, "me", "x") as ftp:
        store(ftp, "in/f", b"x")
        for refused in ("STOR f", "DELE in/f", "RETR in/f", "MKD in/d"):
            with pytest.raises(ftplib.error_perm, match="550"):
                ftp.sendcmd(refused)


def test_secrets_are_plain_or_obscured_as_it_says(tmp_path: Path, server: Served) -> None:
    def answer(password: str, **more: str) -> str:
        options = {"type": "ftp", "_root": "", "host": server.host, "port": server.port, "user": server.user}
        return f"print(json.dumps({ {**options, 'pass': password, **more}!r}))\n"

    for body in (answer(server.password, _obscure="pass"), answer(obscure(server.password))):
        command = proxy(tmp_path, body)
        with serving(None, ftp_texts={"auth-proxy": command}) as served, login(served, "me", "x") as ftp:
            assert ftp.sendcmd("MLST /").startswith("250")


@pytest.mark.parametrize("command", ["/nonexistent/program", "'unbalanced", ""])
def test_a_program_that_is_not_there_is_refused(command: str) -> None:
    with pytest.raises(Refused, match="auth-proxy"), serving(None, ftp_texts={"auth-proxy": command}):
        pass

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
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_quota': '-1G'}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_quota': 0}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_bwlimit': 'fast'}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_max_sessions': 'many'}))",
        "print(json.dumps({'type': 'local', '_root': '/tmp', '_expires': -1}))",
        "print(json.dumps({'type': ['local'], '_root': '/tmp'}))",
        "print(json.dumps({'type': 'local', '_root': None}))",
        "print('[' * 100000)",
        "print('{' + ','.join(f'\"k{i}\": 1' for i in range(20000)) + '}')",
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


def test_numbers_and_booleans_will_do(tmp_path: Path) -> None:
    options = {"_read_only": False, "_max_sessions": 3, "_expires": 3600, "_quota": 10**9, "_vfs_write_back": "1h"}
    command = proxy(tmp_path, local(tmp_path, **options))
    with serving(None, ftp_texts={"auth-proxy": command}) as served, login(served, "me", "x") as ftp:
        store(ftp, "f", b"x")
        (vfs,) = served.core.views()
        assert vfs.settings.cache.write_back == 3600


def test_an_answer_expires_also_while_it_is_used(tmp_path: Path) -> None:
    command = proxy(tmp_path, local(tmp_path, _expires=1))
    with serving(None, ftp_texts={"auth-proxy": command}) as served, login(served, "me", "x"):
        eventually(lambda: login_works(served, "me", "x") and runs(tmp_path) == 2)


def test_a_quota(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "old").mkdir(parents=True)
    (root / "old" / "f").write_bytes(b"x" * 4000)
    command = proxy(tmp_path, local(root, _quota=10_000))
    with serving(None, ftp_texts={"auth-proxy": command}) as served, login(served, "me", "x") as ftp:
        assert ftp.sendcmd("AVBL") == "213 6000"
        store(ftp, "a", b"a" * 5000)
        with pytest.raises(ftplib.error_perm, match="552"):
            store(ftp, "b", b"b" * 1001)
        assert "b" not in ftp.nlst()
        store(ftp, "a", b"A" * 6000)  # what is replaced makes room
        with pytest.raises(ftplib.error_perm, match="552"):
            store(ftp, "a", b"more", "APPE")
        assert fetch(ftp, "a") == b"A" * 6000
        with login(served, "you", "y") as other:  # another login, the same storage
            assert other.sendcmd("AVBL") == "213 0"
        ftp.delete("old/f")
        store(ftp, "a", b"m" * 4000, "APPE")
        assert ftp.sendcmd("AVBL") == "213 0"


def test_a_user_has_a_rate_of_his_own(tmp_path: Path) -> None:
    rates = "{'slow': '64K', 'fast': 'off'}[question['user']]"
    body = f"print(json.dumps({{'type': 'local', '_root': {str(tmp_path)!r}, '_bwlimit': {rates}}}))\n"
    texts = {"auth-proxy": proxy(tmp_path, body), "user-bwlimit": "1K"}
    with serving(None, ftp_texts=texts) as served:
        seconds = {}
        for user in ("slow", "fast"):
            with login(served, user, "x") as ftp:
                start = time.monotonic()
                store(ftp, user, b"x" * (96 << 10))
                seconds[user] = time.monotonic() - start
        assert seconds["slow"] > 1.0
        assert seconds["fast"] < seconds["slow"]


def test_tenants_see_nothing_of_each_other(tmp_path: Path) -> None:
    """The same user name with another password, or another name: another storage, cache and listing."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"secret of {name}").write_text(name)
    body = f"root = {str(tmp_path)!r} + '/' + question['pass']\nprint(json.dumps({{'type': 'local', '_root': root}}))\n"
    with (
        serving(None, ftp_texts={"auth-proxy": proxy(tmp_path, body)}) as served,
        login(served, "me", "one") as one,
        login(served, "me", "two") as two,
    ):
        assert one.nlst() == ["secret of one"]
        assert two.nlst() == ["secret of two"]
        store(one, "f", b"1")
        store(two, "f", b"22")
        assert (fetch(one, "f"), fetch(two, "f")) == (b"1", b"22")
        for path in ("../two/f", "/../two/f", "secret of two"):
            with pytest.raises(ftplib.error_perm, match="550"):
                one.sendcmd(f"MDTM {path}")
        assert len(served.core.views()) == 2


def test_thirty_seconds_of_one_login_are_nobody_elses(tmp_path: Path) -> None:
    body = (
        f"if question['user'] == 'slow':\n    open({str(tmp_path / 'began')!r}, 'w').close()\n    time.sleep(30)\n"
        + local(tmp_path)
    )
    with serving(None, ftp_texts={"auth-proxy": proxy(tmp_path, body)}) as served:
        waiting = ftplib.FTP(timeout=60)
        waiting.connect(served.host, served.port)
        waiting.sendcmd("USER slow")
        waiting.putcmd("PASS x")
        eventually((tmp_path / "began").exists)
        for number in range(5):
            start = time.monotonic()
            assert login_works(served, f"user{number}", "x")
            assert time.monotonic() - start < 15
        assert waiting.sendcmd("NOOP").startswith("200")
        waiting.close()


def test_a_flood_is_stopped_at_the_bound_and_not_at_the_end(tmp_path: Path) -> None:
    with serving(None, ftp_texts={"auth-proxy": proxy(tmp_path, "while True: print('x' * 60000)\n")}) as served:
        start = time.monotonic()
        assert not login_works(served, "me", "x")
        assert time.monotonic() - start < 20, "it was read until the time was over"


def test_a_program_that_became_unusable_is_no_way_in(tmp_path: Path) -> None:
    command = proxy(tmp_path, local(tmp_path))
    script = tmp_path / "program"
    script.write_text(f"#!/bin/sh\nexec {command}\n")
    script.chmod(0o755)
    with serving(None, ftp_texts={"auth-proxy": str(script), "auth-proxy-cache": "0"}) as served:
        assert login_works(served, "me", "x")
        script.write_text("#!/nonexistent/interpreter\n")
        assert not login_works(served, "me", "x")
        script.unlink()
        assert not login_works(served, "me", "x")


@pytest.mark.parametrize("mode", ["process", "stream"])
def test_no_form_of_the_password_reaches_the_log(tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    script = tmp_path / "proxy.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    question = json.loads(line)\n"
        "    for form in (line, repr(question), question['pass'], json.dumps(question['pass'])):\n"
        "        print('no:', form, file=sys.stderr, flush=True)\n"
        "    print(json.dumps({'error': 'not ' + repr(question)}), flush=True)\n"
        f"    if {mode!r} == 'process': sys.exit(1)\n"
    )
    texts = {"auth-proxy": f"{sys.executable} {script}", "auth-proxy-mode": mode}
    with serving(None, ftp_texts=texts) as served:
        for password in ("quotes \" and ' and \\\\ in it", "Ünïcode-Geheimnis", "plain-secret"):
            assert not login_works(served, "me", password)
    assert "no:" in caplog.text
    for part in ("and ' and", "nicode-Geh", "u00dcn", "plain-secret"):
        assert part not in caplog.text


def test_a_stream_that_dies_is_started_again(tmp_path: Path) -> None:
    script = tmp_path / "proxy.py"
    script.write_text(
        "import json, os, sys, time\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
        "for line in sys.stdin:\n"
        "    user = json.loads(line)['user']\n"
        "    if user == 'die': os._exit(3)\n"
        "    if user == 'garbage': print('nonsense', flush=True)\n"
        "    if user == 'flood': print('x' * 5_000_000, flush=True)\n"
        "    if user == 'hang': time.sleep(60)\n"
        f"    print(json.dumps({{'type': 'local', '_root': {str(tmp_path)!r}}}), flush=True)\n"
    )
    texts = {
        "auth-proxy": f"{sys.executable} {script}", "auth-proxy-mode": "stream", "auth-proxy-timeout": "2s",
        "auth-proxy-cache": "0",
    }  # fmt: skip
    with serving(None, ftp_texts=texts) as served:
        assert login_works(served, "me", "x")
        for user in ("die", "garbage", "flood", "hang"):
            assert not login_works(served, user, "x")
            assert login_works(served, "me", "x"), f"nobody can log in any more after {user}"
        assert 2 <= runs(tmp_path) <= 5

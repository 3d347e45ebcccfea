"""``portside config``: each action, and the wizard on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import time
from pathlib import Path

import pytest

from mountcore.remotes.conffile import read_file
from mountcore.remotes.obscure import obscure, reveal
from tests.servers.command import PASSWORD, FtpStorage, Portside


def test_create_show_update_delete(portside: Portside) -> None:
    created = portside.run("config", "create", "box", "ftp", "host=h.example", "user", "me", "pass=hunter2")
    assert created.returncode == 0, created.stderr
    assert "list of processes" in created.stderr
    assert "hunter2" not in created.stderr + portside.config.read_text()
    assert stat.S_IMODE(portside.config.stat().st_mode) == 0o600
    values = read_file(portside.config)["box"].values
    assert reveal(values["pass"]) == "hunter2"
    shown = portside.run("config", "show", "box:").stdout
    assert shown.splitlines() == ["[box]", "type = ftp", "host = h.example", "user = me", "pass = *** ENCRYPTED ***"]
    assert portside.run("config", "update", "box", "port=2121", "user=").returncode == 0
    assert portside.run("config", "show").stdout.splitlines()[2:] == [
        "host = h.example", "pass = *** ENCRYPTED ***", "port = 2121",
    ]  # fmt: skip
    already = obscure("other one")
    assert portside.run("config", "update", "box", f"pass={already}").returncode == 0
    assert read_file(portside.config)["box"].values["pass"] == already
    assert portside.run("config", "password", "box", stdin="third\n").returncode == 0
    assert reveal(read_file(portside.config)["box"].values["pass"]) == "third"
    assert portside.run("config", "delete", "box").returncode == 0
    assert read_file(portside.config) == {}


def test_an_alias_is_made_like_any_remote(portside: Portside, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("content")
    assert "remote" in portside.run("config", "create", "short", "alias").stderr
    made = portside.run("config", "create", "short", "alias", f"remote={tmp_path}/there")
    assert made.returncode == 0, made.stderr
    assert portside.run("config", "show", "short").stdout.splitlines()[1:] == [
        "type = alias",
        f"remote = {tmp_path}/there",
    ]
    assert portside.run("cat", "short:file").stdout == "content"
    listed = [line.split()[0] for line in portside.run("config", "providers").stdout.splitlines()]
    assert "alias" in listed
    assert len(listed) == len(set(listed))


def test_list_and_file(portside: Portside) -> None:
    portside.configure("[mine]\ntype = memory\n")
    rclone = portside.home / "config/rclone/rclone.conf"
    rclone.parent.mkdir()
    rclone.write_text("[theirs]\ntype = local\n[new-kind]\ntype = newest\npass_phrase = s\nplain = p\n")
    portside.environ["PORTSIDE_CONFIG_ENV_TYPE"] = "memory"
    rows = json.loads(portside.run("config", "list", "--json").stdout)
    assert [(row["name"], row["type"], Path(row["source"]).name) for row in rows] == [
        ("env", "memory", "environment"), ("mine", "memory", "portside.conf"), ("new-kind", "newest", "rclone.conf"),
        ("theirs", "local", "rclone.conf"),
    ]  # fmt: skip
    assert re.search(r"^mine: +memory +/", portside.run("config", "list").stdout, re.MULTILINE)
    shown = portside.run("config", "show", "new-kind").stdout
    assert "pass_phrase = *** ENCRYPTED ***" in shown
    assert "plain = p" in shown
    done = portside.run("config", "file")
    assert done.stdout.strip() == str(portside.config)
    assert "rclone.conf is read too" in done.stderr


def test_touch_sets_the_mode(portside: Portside) -> None:
    portside.configure("[mine]\ntype = memory\n")
    portside.config.chmod(0o644)
    assert portside.run("config", "touch").returncode == 0
    assert stat.S_IMODE(portside.config.stat().st_mode) == 0o600
    assert portside.config.read_text() == "[mine]\ntype = memory\n"
    other = portside.home / "other.conf"
    assert portside.run("config", "create", "mm", "memory", "--config", other).returncode == 0
    assert list(read_file(other)) == ["mm"]


def test_providers(portside: Portside) -> None:
    assert re.search(r"^ftp +An FTP server", portside.run("config", "providers").stdout, re.MULTILINE)
    kinds = json.loads(portside.run("config", "providers", "--json").stdout)
    ftp = next(kind for kind in kinds if kind["Name"] == "ftp")
    assert next(option for option in ftp["Options"] if option["Name"] == "pass")["IsPassword"]
    assert "explicit_tls" in portside.run("config", "providers", "ftp").stdout


@pytest.mark.parametrize(
    ("words", "mentions"),
    [("creat x ftp", "did you mean 'create'?"), ("create box ftpp host=h", "did you mean 'ftp'?"),
     ("create box ftp hots=h", "did you mean 'host'?"), ("create box ftp", "'host'"),
     ("create box ftp host=h port=many", "port"), ("create -x ftp host=h", "-x"), ("create b/x ftp host=h", "'b/x'"),
     ("create mine memory", "config update"), ("update nobody host=h", "'nobody'"), ("update min x=1", "did you mean"),
     ("update mine bogus=1", "no option 'bogus'"), ("update mine type=ftp", "type"), ("delete nobody", "nobody"),
     ("password mine host", "no option 'host'"), ("wizard", "config create"), ("create box ftp host", "host"),
     ("providers ftpp", "did you mean 'ftp'?"), ("show nobody", "'nobody'"),
     ("create box ftp host=h tls=maybe", "tls")],
)  # fmt: skip
def test_what_makes_no_sense_changes_nothing(portside: Portside, words: str, mentions: str) -> None:
    portside.configure("[mine]\ntype = memory\n")
    assert mentions in portside.refusal("config", *words.split())
    assert portside.config.read_text() == "[mine]\ntype = memory\n"


class Terminal:
    """The command on a pseudo-terminal that is its controlling one."""

    def __init__(self, portside: Portside, *argv: object) -> None:
        self.said = ""
        self._seen = 0
        pid, self._master = pty.fork()
        if not pid:
            os.chdir(portside.home)
            command = portside.argv(*argv)
            os.execvpe(command[0], command, portside.environ | {"PYTHONFAULTHANDLER": "1"})
        self.pid = pid

    def expect(self, pattern: str, patience: float = 30.0) -> None:
        """Read until this is said, after what was expected before."""
        deadline = time.monotonic() + patience
        while not (found := re.search(pattern, self.said[self._seen :], re.DOTALL)):
            assert time.monotonic() < deadline, f"{pattern!r} not in {self.said!r}"
            ready, _, _ = select.select([self._master], [], [], 0.5)
            if ready:
                try:
                    data = os.read(self._master, 65536)
                except OSError:
                    data = b""
                assert data, f"ended before {pattern!r}: {self.said!r}"
                self.said += data.decode(errors="replace")
        self._seen += found.end()

    def answer(self, pattern: str, text: str) -> None:
        self.expect(pattern)
        os.write(self._master, text.encode() + b"\n")

    def ended(self, patience: float = 30.0) -> int:
        """Its exit code; where it does not end, what it is doing is said."""
        deadline = time.monotonic() + patience
        try:
            while True:
                ready, _, _ = select.select([self._master], [], [], 0.5)
                if not ready and time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGABRT)
                    deadline += patience
                if ready and not (data := os.read(self._master, 65536)):
                    break
                self.said += data.decode(errors="replace") if ready else ""
        except OSError:
            pass  # the terminal is gone with the process
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_the_wizard_tries_before_it_saves(portside: Portside, storage: FtpStorage) -> None:
    portside.configure("# keep this\n[old]\ntype = memory\n")
    terminal = Terminal(portside, "config")
    terminal.expect("There are: old")
    terminal.answer("Name of the remote", "bad/name")
    terminal.answer("Name of the remote", "box")
    terminal.answer("Type", "fttp")
    terminal.expect("did you mean 'ftp'")
    terminal.answer("Type", "ftp")
    terminal.answer(r"host: .*Value", "")
    terminal.answer("It is needed.*Value", "127.0.0.1")
    terminal.answer(r"port: .*Value", str(storage.port))
    terminal.answer(r"user: .*Value", "me")
    terminal.answer(r"pass: .*leave it empty.*pass \[n\]", "y")
    terminal.answer("pass: ", "mistyped")
    terminal.answer("again: ", "other")
    terminal.answer("The two differ.*pass: ", "wrong password")
    terminal.answer("again: ", "wrong password")
    terminal.answer(r"tls: .*Value", "")
    terminal.answer(r"explicit_tls: .*Value", "")
    terminal.answer("other .* options", "n")
    terminal.answer("does not work: .*What now", "e")
    terminal.answer("Change something", "y")
    for name in ("host", "port", "user"):
        terminal.answer(rf"{name}: .*Value \[", "")
    terminal.answer("Keep the one there is", "n")
    terminal.answer("pass", "1")
    terminal.answer("pass: ", PASSWORD)
    terminal.answer("again: ", PASSWORD)
    terminal.answer(r"tls: .*Value", "")
    terminal.answer(r"explicit_tls: .*Value", "")
    terminal.answer("other .* options", "n")
    terminal.answer("It answers.*Save it", "y")
    assert terminal.ended() == 0, terminal.said
    assert PASSWORD not in terminal.said
    assert "wrong password" not in terminal.said
    assert portside.config.read_text().startswith("# keep this\n[old]\ntype = memory\n")
    assert read_file(portside.config)["box"].values.keys() == {"type", "host", "port", "user", "pass"}
    assert portside.run("ls", "box:").returncode == 0


def test_the_wizard_left_saves_nothing(portside: Portside) -> None:
    portside.configure("[old]\ntype = memory\n")
    terminal = Terminal(portside, "config", "wizard", "box")
    terminal.answer("Type", "\x04")
    assert terminal.ended() == 1
    assert "nothing was saved" in terminal.said
    assert "Traceback" not in terminal.said
    interrupted = Terminal(portside, "config", "wizard", "box")
    interrupted.answer("Type", "\x03")
    assert interrupted.ended() == 130, interrupted.said
    assert "Traceback" not in interrupted.said
    assert portside.config.read_text() == "[old]\ntype = memory\n"


def test_a_generated_password_and_saving_all_the_same(portside: Portside) -> None:
    terminal = Terminal(portside, "config", "wizard", "box")
    terminal.answer("Type", "ftp")
    terminal.answer(r"host: .*Value", "no-such-host.invalid")
    terminal.answer(r"port: .*Value", "")
    terminal.answer(r"user: .*Value", "me")
    terminal.answer(r"pass \[n\]", "g")
    terminal.expect(r"It is: \S+")
    terminal.answer(r"tls: .*Value", "")
    terminal.answer(r"explicit_tls: .*Value", "")
    terminal.answer("other .* options", "n")
    terminal.answer("does not work: .*What now", "s")
    assert terminal.ended() == 0, terminal.said
    made = re.search(r"It is: (\S+)", terminal.said)
    assert made is not None
    assert reveal(read_file(portside.config)["box"].values["pass"]) == made[1]


def test_reconnect_asks_for_the_password_that_is_refused(portside: Portside, storage: FtpStorage) -> None:
    portside.configure(storage.section("box"))
    assert "answers" in portside.run("config", "reconnect", "box").stderr
    portside.configure(storage.section("box", password="old one"))
    wrong = portside.run("config", "reconnect", "box", stdin="still wrong\n")
    assert wrong.returncode == 7
    assert "nothing was saved" in wrong.stderr
    done = portside.run("config", "reconnect", "box", stdin=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    assert portside.run("ls", "box:").returncode == 0
    storage.stop()
    assert portside.run("config", "reconnect", "box").returncode == 5

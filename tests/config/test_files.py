"""Configuration files: changed without loss, private, and rclone's read as they are, encrypted ones too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mountcore.errors import Refused
from mountcore.remotes.conf import Config
from mountcore.remotes.conffile import Draft, change_file, read_file
from mountcore.remotes.obscure import obscure, reveal
from tests.files.conftest import rclone
from tests.servers.command import PASSWORD, ROOT, FtpStorage, Portside

TEXT = """\
# my remotes

[photos]
type = ftp
# the old one was slow
host = a.example
user=me

[other]
type = local
"""


def test_a_change_keeps_what_it_does_not_touch() -> None:
    draft = Draft(TEXT)
    draft.set("photos", {"host": "b.example", "port": "2121", "user": ""})
    assert draft.text() == TEXT.replace("a.example", "b.example").replace("user=me\n", "port = 2121\n")
    draft.set("new", {"type": "memory"})
    assert draft.text().endswith("[other]\ntype = local\n\n[new]\ntype = memory\n")
    draft.delete("photos")
    assert draft.text() == "# my remotes\n\n[other]\ntype = local\n\n[new]\ntype = memory\n"
    with pytest.raises(Refused, match="line break"):
        draft.set("new", {"x": "a\n[evil]"})


def test_the_file_is_private_and_a_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "portside.conf"
    real.parent.mkdir()
    real.write_text(TEXT)
    real.chmod(0o644)
    link = tmp_path / "portside.conf"
    link.symlink_to(real)
    change_file(link, lambda draft: draft.set("other", {"description": "x"}))
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert "description = x" in real.read_text()
    change_file(tmp_path / "a" / "b" / "new.conf", lambda draft: draft.set("m", {"type": "memory"}))
    assert stat.S_IMODE((tmp_path / "a" / "b" / "new.conf").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_of_many_writers_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "portside.conf"
    program = (
        "import sys; from pathlib import Path; from mountcore.remotes.conffile import change_file\n"
        "for n in range(20): change_file(Path(sys.argv[1]), lambda d: d.set(f'{sys.argv[2]}{n}', {'type': 'memory'}))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(path), who], env=os.environ | {"PYTHONPATH": str(ROOT)})
        for who in ("aa", "bb", "cc")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sorted(read_file(path)) == sorted(f"{who}{n}" for who in ("aa", "bb", "cc") for n in range(20))
    assert [name for name in os.listdir(tmp_path) if name not in ("portside.conf", ".portside.conf.lock")] == []


def rclone_config(path: Path, *words: str, **environ: str) -> None:
    done = rclone("config", *words, RCLONE_CONFIG=str(path), **environ)
    assert done.returncode == 0, done.stderr


def test_a_file_that_rclone_wrote_is_used_unchanged(portside: Portside, storage: FtpStorage, tmp_path: Path) -> None:
    """With a password that rclone obscured, in rclone's own place; and it is not touched."""
    theirs = portside.home / "config" / "rclone" / "rclone.conf"
    theirs.parent.mkdir()
    rclone_config(theirs, "create", "box", "ftp", "host=127.0.0.1", f"port={storage.port}", "user=me",
                  f"pass={PASSWORD}", "--obscure")  # fmt: skip
    rclone_config(theirs, "create", "inner", "alias", "remote=box:deep")
    before = theirs.read_bytes()
    assert PASSWORD.encode() not in before
    (storage.folder / "deep").mkdir()
    (storage.folder / "deep/file").write_bytes(b"hello")
    assert portside.run("cat", "inner:file").stdout == "hello"
    assert portside.run("config", "update", "box", "concurrency=2").returncode == 0
    assert theirs.read_bytes() == before, "portside writes its own file"
    assert portside.run("cat", "box:deep/file").stdout == "hello"
    assert "concurrency = 2" in portside.config.read_text()


def test_what_portside_writes_is_used_by_rclone(portside: Portside, storage: FtpStorage) -> None:
    done = portside.run("config", "create", "box", "ftp", "host=127.0.0.1", f"port={storage.port}", "user=me", "pass=-",
                        stdin=PASSWORD + "\n")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (storage.folder / "file").write_bytes(b"hello")
    theirs = rclone("cat", "box:file", RCLONE_CONFIG=str(portside.config))
    assert theirs.stdout == b"hello", theirs.stderr


@pytest.fixture
def sealed(portside: Portside, storage: FtpStorage) -> Path:
    """An rclone.conf that the rclone program encrypted with the passphrase ``sésame & co``."""
    path = portside.home / "config" / "rclone" / "rclone.conf"
    path.parent.mkdir()
    rclone_config(path, "create", "box", "ftp", "host=127.0.0.1", f"port={storage.port}", "user=me", f"pass={PASSWORD}",
                  "--obscure")  # fmt: skip
    rclone_config(path, "encryption", "set", "--password-command", 'printf %s "sésame & co"')
    assert b"RCLONE_ENCRYPT_V0:" in path.read_bytes()
    (storage.folder / "file").write_bytes(b"hello")
    return path


def test_an_encrypted_file_opens_with_its_passphrase(portside: Portside, sealed: Path) -> None:
    assert "--password-command" in portside.refusal("cat", "box:file")
    for name in ("RCLONE_CONFIG_PASS", "PORTSIDE_CONFIG_PASS"):
        portside.environ[name] = "sésame & co"
        assert portside.run("cat", "box:file").stdout == "hello"
        del portside.environ[name]
    for name in ("RCLONE_PASSWORD_COMMAND", "PORTSIDE_PASSWORD_COMMAND"):
        portside.environ[name] = 'printf %s "sésame & co"'
        assert portside.run("cat", "box:file").stdout == "hello"
        del portside.environ[name]
    assert portside.run("cat", "box:file", "--password-command", 'printf %s "sésame & co"').stdout == "hello"
    assert "box:" in portside.run("config", "list", "--password-command", 'printf %s "sésame & co"').stdout
    portside.environ["RCLONE_CONFIG_PASS"] = "wrong horse"
    text = portside.refusal("cat", "box:file")
    assert str(sealed) in text
    assert "does not open" in text
    assert "wrong horse" not in text
    del portside.environ["RCLONE_CONFIG_PASS"]
    assert "false" in portside.refusal("cat", "box:file", "--password-command", "false")


def test_an_encrypted_file_is_never_written(portside: Portside, sealed: Path) -> None:
    before = sealed.read_bytes()
    portside.environ["RCLONE_CONFIG_PASS"] = "sésame & co"
    portside.environ["PORTSIDE_CONFIG"] = str(sealed)
    assert "encrypted" in portside.refusal("config", "create", "other", "memory")
    assert sealed.read_bytes() == before


def test_a_damaged_encrypted_file(tmp_path: Path) -> None:
    path = tmp_path / "rclone.conf"
    for text, mentions in {"RCLONE_ENCRYPT_V0:\n!!!": "damaged", "RCLONE_ENCRYPT_V9:\nabcd": "V9",
                           "RCLONE_ENCRYPT_V0:\nYWJj": "does not open"}.items():  # fmt: skip
        path.write_text(text)
        with pytest.raises(Refused, match=mentions):
            read_file(path, environ={"RCLONE_CONFIG_PASS": "x"})


def test_the_password_of_an_ftp_server_from_netrc(portside: Portside, storage: FtpStorage) -> None:
    netrc = portside.home / ".netrc"
    netrc.write_text(f'machine 127.0.0.1 login me password "{PASSWORD}"\nmachine other login x password y\n')
    netrc.chmod(0o600)
    (storage.folder / "file").write_bytes(b"hello")
    portside.configure(f"[box]\ntype = ftp\nhost = 127.0.0.1\nport = {storage.port}\n")
    done = portside.run("cat", "box:file")
    assert done.stdout == "hello", done.stderr
    netrc.chmod(0o644)
    text = portside.refusal("cat", "box:file")
    assert f"chmod 600 {netrc}" in text
    portside.configure(storage.section("box"))
    assert portside.run("cat", "box:file").stdout == "hello", "not asked where there is a password"


def test_a_secret_from_the_keyring(tmp_path: Path, portside: Portside, storage: FtpStorage) -> None:
    """A keyring of our own: the desktop's is not there in a test."""
    (portside.home / "vault.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Vault(KeyringBackend):\n"
        "    priority = 1\n"
        f"    def get_password(self, service, name): return {{('box', 'me'): {PASSWORD!r}}}.get((service, name))\n"
        "    def set_password(self, service, name, password): raise NotImplementedError\n"
        "    def delete_password(self, service, name): raise NotImplementedError\n"
    )
    portside.environ |= {"PYTHON_KEYRING_BACKEND": "vault.Vault", "PYTHONPATH": f"{ROOT}:{portside.home}"}
    (storage.folder / "file").write_bytes(b"hello")
    section = f"[box]\ntype = ftp\nhost = 127.0.0.1\nport = {storage.port}\nuser = me\npass = keyring:box/NAME\n"
    portside.configure(section.replace("NAME", "me"))
    done = portside.run("cat", "box:file")
    assert done.stdout == "hello", done.stderr
    portside.configure(section.replace("NAME", "nobody"))
    assert "keyring set box nobody" in portside.refusal("cat", "box:file")


def test_precedence_is_rclones(tmp_path: Path) -> None:
    """Words over the environment, that over the file: asked of the rclone program, by the address that it dials."""
    password = obscure(PASSWORD)
    (tmp_path / "conf").write_text(f"[box]\ntype = ftp\nhost = 127.0.0.7\nport = 7\npass = {password}\n")
    base = {"HOME": str(tmp_path), "RCLONE_CONFIG": str(tmp_path / "conf")}
    cases: list[tuple[dict[str, str], str, str]] = [
        ({}, "box:", "127.0.0.7:7"),
        ({"RCLONE_FTP_HOST": "127.0.0.8"}, "box:", "127.0.0.8:7"),
        ({"RCLONE_CONFIG_BOX_HOST": "127.0.0.9"}, "box:", "127.0.0.9:7"),
        ({"RCLONE_CONFIG_BOX_HOST": "127.0.0.9", "RCLONE_FTP_PORT": "8"}, "box,port=2:", "127.0.0.9:2"),
    ]
    for environ, words, dialled in cases:
        found = Config(environ=base | environ).locate(words).options
        assert f"{found['host']}:{found['port']}" == dialled
        said = rclone("lsd", words, "--low-level-retries", "1", **(base | environ)).stderr.decode()
        assert f'"{dialled}"' in said


def test_obscured_both_ways_with_the_rclone_program() -> None:
    theirs = rclone("obscure", PASSWORD).stdout.decode().strip()
    assert reveal(theirs) == PASSWORD
    assert rclone("reveal", obscure(PASSWORD)).stdout.decode().rstrip("\n") == PASSWORD

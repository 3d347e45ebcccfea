"""Where a remote's description comes from, and what is said when it makes no sense."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mountcore.errors import Refused
from mountcore.remotes.conf import Config
from mountcore.remotes.conffile import read_file
from mountcore.remotes.obscure import obscure


class Home:
    """A home directory with configuration files, and an environment."""

    def __init__(self, home: Path) -> None:
        self.environ = {"HOME": str(home)}
        self.own = home / ".config" / "portside" / "portside.conf"
        self.rclone = home / ".config" / "rclone" / "rclone.conf"
        for file in (self.own, self.rclone):
            file.parent.mkdir(parents=True)

    def write(self, file: Path, text: str, mode: int = 0o600) -> None:
        file.write_text(text)
        file.chmod(mode)

    def config(self) -> Config:
        return Config(environ=self.environ)

    def refusal(self, words: str) -> str:
        with pytest.raises(Refused) as refused:
            self.config().locate(words)
        return str(refused.value)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_own_file_wins_over_rclones(home: Home) -> None:
    home.write(home.own, "# mine\n[box]\ntype = ftp\nhost = own.example\n")
    home.write(home.rclone, "[box]\ntype = ftp\nhost = other.example\n[extra]\ntype = local\n")
    config = home.config()
    assert config.locate("box:a").options["host"] == "own.example"
    assert config.locate("extra:/srv").kind == "local"
    assert config.names() == ["box", "extra"]


def test_environment_wins_over_files_and_words_over_all(home: Home) -> None:
    home.write(home.own, "[my-box]\ntype = ftp\nhost = file\nuser = file\nport = 1\nconcurrency = 1\n")
    home.environ |= {
        "PORTSIDE_CONFIG_MY_BOX_HOST": "portside-env",
        "RCLONE_CONFIG_MY_BOX_HOST": "rclone-env",
        "RCLONE_CONFIG_MY_BOX_USER": "rclone-env",
        "RCLONE_FTP_PORT": "2",
        "PORTSIDE_CONFIG_MY_BOX_CONCURRENCY": "2",
        "PORTSIDE_CONFIG_MY_BOX_PASS": obscure("sesame"),
    }
    assert dict(home.config().locate("my-box,concurrency=3:").options) == {
        "host": "portside-env", "user": "rclone-env", "port": "2", "concurrency": "3", "pass": "sesame",
    }  # fmt: skip


def test_a_remote_that_is_only_in_the_environment(home: Home) -> None:
    home.environ |= {"RCLONE_CONFIG_CLOUD_TYPE": "ftp", "RCLONE_CONFIG_CLOUD_HOST": "h"}
    assert home.config().locate("cloud:x").options == {"host": "h"}
    assert home.config().names() == ["cloud"]


def test_secrets_are_obscured_in_files_and_connection_strings_and_plain_in_urls(home: Home) -> None:
    hidden = obscure("sesame")
    home.write(home.own, f"[box]\ntype=ftp\nhost=h\npass = {hidden}\n")
    config = home.config()
    for words in ("box:", f":ftp,host=h,pass={hidden}:", "ftp://u:sesame@h/"):
        located = config.locate(words)
        assert located.options["pass"] == "sesame"
        assert "sesame" not in repr(located)


def test_aliases_are_followed_and_paths_joined(home: Home) -> None:
    home.write(
        home.own,
        "[box]\ntype=ftp\nhost=h\n[cat]\ntype=alias\nremote=box:pets/\n[kitten]\ntype=alias\nremote=cat:small\n",
    )
    located = home.config().locate("kitten:one.jpg")
    assert (located.kind, located.root, located.options["host"]) == ("ftp", "pets/small/one.jpg", "h")


def test_aliases_in_a_circle(home: Home) -> None:
    home.write(home.own, "[a]\ntype=alias\nremote=b:\n[b]\ntype=alias\nremote=a:\n")
    assert "circle" in home.refusal("a:")


def test_unknown_remote_names_near_ones(home: Home) -> None:
    home.write(home.own, "[photos]\ntype=local\n")
    text = home.refusal("fotos:")
    assert "'fotos'" in text
    assert "did you mean 'photos:'?" in text
    assert str(home.own) in text


def test_forgotten_colon(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    home.write(home.own, "[photos]\ntype=local\n")
    assert "photos:" in home.refusal("photos")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[box\ntype = ftp\n", 1),
        ("type = ftp\n", 1),
        ("[box]\ntype = ftp\n\nwhat is this\n", 4),
        ("[box]\n= value\n", 2),
        ("[]\n", 1),
    ],
)
def test_malformed_file_names_file_and_line(home: Home, text: str, line: int) -> None:
    home.write(home.own, text)
    assert f"{home.own}:{line}:" in home.refusal("box:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[box]\ntype = ftpp\nhost=h\n", "did you mean 'ftp'?"),
        ("[box]\nhost=h\n", "has no 'type'"),
        ("[box]\ntype=ftp\nhots=h\n", "did you mean 'host'?"),
        ("[box]\ntype=ftp\nhost=h\npass=plain\n", "portside obscure"),
        ("[box]\ntype=alias\n", "needs 'remote'"),
    ],
)
def test_wrong_sections(home: Home, text: str, expected: str) -> None:
    home.write(home.own, text)
    assert expected in home.refusal("box:")


def test_options_that_only_rclone_knows_are_passed_over(home: Home) -> None:
    home.write(home.rclone, "[box]\ntype=ftp\ndescription=the box\nhost=h\nfancy_new_thing=1\n")
    assert home.config().locate("box:").options == {"host": "h"}


@pytest.mark.parametrize(
    "head", ["RCLONE_ENCRYPT_V0:\nabc", "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc"]
)
def test_encrypted_rclone_config_without_a_passphrase_is_refused_with_the_remedy(home: Home, head: str) -> None:
    home.write(home.rclone, head + "d")
    text = home.refusal("box:")
    assert str(home.rclone) in text
    assert "--password-command" in text


def test_open_file_mode_is_warned_about_once_a_secret_is_used(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.write(home.own, f"[box]\ntype=ftp\nhost=h\npass={obscure('sesame')}\n[free]\ntype=ftp\nhost=h\n", 0o644)
    with caplog.at_level(logging.WARNING):
        home.config().locate("free:")
        assert not caplog.messages
        home.config().locate("box:")
    assert [f"chmod 600 {home.own}" in message for message in caplog.messages] == [True]


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "no.conf"
    with pytest.raises(Refused, match=r"no\.conf"):
        Config(missing, environ={})
    with pytest.raises(Refused, match=r"no\.conf"):
        Config(environ={"PORTSIDE_CONFIG": str(missing)})


def test_no_files_at_all(tmp_path: Path) -> None:
    assert Config(environ={"HOME": str(tmp_path)}).names() == []


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    file.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(Refused, match="UTF-8"):
        read_file(file)


def test_open_gives_a_remote(home: Home, tmp_path: Path) -> None:
    home.write(home.own, "[here]\ntype=local\n")
    assert home.config().open(f"here:{tmp_path}").identity == home.config().open(str(tmp_path)).identity


def test_a_proxy_stands_in_files_as_it_is(home: Home) -> None:
    home.write(home.rclone, "[box]\ntype=ftp\nhost=h\nsocks_proxy=me:pw@proxy:1080\n")
    assert home.config().locate("box:").options["socks_proxy"] == "me:pw@proxy:1080"

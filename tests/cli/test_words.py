"""Help, version, options and where their values come from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mountcore.cli import COMMANDS
from mountcore.commands.arguments import PROCESS_OPTIONS, Parser, from_environment, given
from mountcore.commands.failures import UsageError
from mountcore.errors import Refused
from mountcore.options import VFS_OPTIONS
from mountcore.remotes.obscure import reveal

from .conftest import Portside


@pytest.mark.parametrize("command", [*COMMANDS, "serve ftp"])
def test_every_command_has_help(portside: Portside, command: str) -> None:
    done = portside.run(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: portside ")
    assert not done.stderr


def test_help_of_mount_names_every_option_with_its_default(portside: Portside) -> None:
    text = " ".join(portside.run("mount", "--help").stdout.split())
    for option in (*VFS_OPTIONS, *PROCESS_OPTIONS):
        assert f"--{option.name} " in text
        if option.name not in ("cache-dir", "umask"):  # their defaults are the environment's
            assert option.flag or not option.default or f"(default {option.default})" in text


def test_help_of_the_whole_lists_every_command(portside: Portside) -> None:
    text = portside.run("--help").stdout
    assert all(f"  {name} " in text for name in COMMANDS)


def test_no_command_shows_help_and_fails(portside: Portside) -> None:
    done = portside.run()
    assert done.returncode == 2
    assert "usage: portside" in done.stderr


@pytest.mark.parametrize("argv", [["--version"], ["version"], ["--help"], ["obscure", "--help"]])
def test_quick_commands_load_nothing_heavy(portside: Portside, argv: list[str]) -> None:
    code = f"import sys, mountcore.cli; mountcore.cli.main({argv!r})" if "--help" not in argv[1:] else (
        f"import sys, contextlib, mountcore.cli\nwith contextlib.suppress(SystemExit): mountcore.cli.main({argv!r})"
    )  # fmt: skip
    heavy = {"trio", "pyfuse3", "pyftpdlib", "rich", "cryptography", "ssl", "asyncio"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(*({heavy!r} & set(sys.modules)), file=sys.stderr)"],
        capture_output=True, text=True, env=portside.environ, check=True,
    )  # fmt: skip
    assert done.stderr.split() == []
    assert done.stdout


def test_a_mount_loads_what_it_needs_before_it_answers(portside: Portside, mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [sys.executable, "-Ximporttime", "-m", "mountcore.cli", "mount", tmp_path / "folder", mountpoint, "--daemon"],
        capture_output=True, text=True, env=portside.environ, check=True,
    )  # fmt: skip
    portside.run("umount", mountpoint)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "fuse_frontend.session_direct" in loaded
    for heavy in (
        "asyncio", "asyncssh", "cryptography", "email", "http", "mountcore.files", "mountcore.remotes.ftp",
        "mountcore.remotes.web", "obstore", "opendal", "pyftpdlib", "pyfuse3", "rich", "smbprotocol", "tomllib", "xml",
    ):  # fmt: skip
        assert heavy not in loaded


def test_obscure_reads_a_pipe(portside: Portside) -> None:
    done = portside.run("obscure", stdin="sesame\n")
    assert reveal(done.stdout.strip()) == "sesame"


def test_command_line_wins_over_environment_and_ours_over_rclones() -> None:
    parser = Parser("test", "")
    parser.add_table("options", VFS_OPTIONS)
    args = parser.parse(["--transfers", "9"])
    environ = {
        "PORTSIDE_TRANSFERS": "1",
        "RCLONE_TRANSFERS": "2",
        "RCLONE_DIR_CACHE_TIME": "3m",
        "PORTSIDE_UMASK": "077",
    }
    assert from_environment(VFS_OPTIONS, environ) | given(args, VFS_OPTIONS) == {
        "transfers": "9", "dir-cache-time": "3m", "umask": "077",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "value"), [(["--read-only", "x"], "true"), (["x", "--read-only=false"], "false"), (["x"], None)]
)
def test_flags_take_a_value_only_with_an_equals_sign(argv: list[str], value: str | None) -> None:
    parser = Parser("test", "")
    parser.add_argument("remote")
    parser.add_table("options", VFS_OPTIONS)
    args = parser.parse(argv)
    assert args.remote == "x"
    assert given(args, VFS_OPTIONS).get("read-only") == value


def test_after_two_dashes_nothing_is_an_option() -> None:
    parser = Parser("test", "")
    parser.add_argument("remote")
    parser.add_table("options", VFS_OPTIONS)
    assert parser.parse(["--", "--read-only"]).remote == "--read-only"


def test_options_are_not_guessed_from_a_beginning() -> None:
    parser = Parser("test", "")
    parser.add_table("options", VFS_OPTIONS)
    with pytest.raises(UsageError, match="--vfs-write"):
        parser.parse(["--vfs-write", "1s"])


def test_usage_errors_are_refusals() -> None:
    assert issubclass(UsageError, Refused)

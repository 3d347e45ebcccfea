"""Obscured passwords, against the rclone binary."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountcore.errors import Refused
from mountcore.remotes.obscure import obscure, reveal

PASSWORDS = ["", "hello", "pa ss,wörd:'\"", "-leading", "x" * 300, "日本語"]


@pytest.fixture(scope="session")
def rclone() -> str:
    found = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if found is None:
        pytest.skip("not installed: rclone")
    return found


@given(st.text(st.characters(blacklist_categories=("Cs",))))
def test_round_trip(password: str) -> None:
    assert reveal(obscure(password)) == password


@pytest.mark.parametrize("password", PASSWORDS)
def test_rclone_reveals_ours(rclone: str, password: str) -> None:
    text = obscure(password)
    if text.startswith("-"):
        text = obscure(password)
    got = subprocess.run([rclone, "reveal", "--", text], capture_output=True, text=True, check=True).stdout
    assert got.removesuffix("\n") == password


@pytest.mark.parametrize("password", [p for p in PASSWORDS if p])
def test_rclones_are_revealed(rclone: str, password: str) -> None:
    run = subprocess.run([rclone, "obscure", "-"], input=password, capture_output=True, text=True, check=True)
    assert reveal(run.stdout.strip()) == password


def test_a_config_that_rclone_wrote_is_used_unchanged(rclone: str, tmp_path: Path) -> None:
    from mountcore.remotes.conf import Config

    file = tmp_path / "rclone.conf"
    subprocess.run(
        [rclone, "--config", str(file), "config", "create", "box", "ftp", "host=127.0.0.1", "user=me", "pass=s3 cret",
         "--obscure", "--non-interactive"],
        check=True, capture_output=True,
    )  # fmt: skip
    located = Config(environ={"RCLONE_CONFIG": str(file), "HOME": str(tmp_path)}).locate("box:in/box")
    assert located.kind == "ftp"
    assert located.root == "in/box"
    assert {"host": "127.0.0.1", "user": "me", "pass": "s3 cret"}.items() <= dict(located.options).items()


@pytest.mark.parametrize("text", ["hello", "not base64!", "AAAA", "é"])
def test_what_is_not_obscured_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(Refused) as refused:
        reveal(text)
    assert text not in str(refused.value)
    assert "portside obscure" in str(refused.value)

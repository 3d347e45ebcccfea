"""The completion script, in a real bash."""

from __future__ import annotations

import subprocess

import pytest

from .conftest import Portside


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("mov", {"move", "moveto"}), ("copy --dry", {"--dry-run"}), ("mount --vfs-cache-mo", {"--vfs-cache-mode"}),
     ("config upd", {"update"}), ("ls pho", {"photos:"}), ("sync --max-del", {"--max-delete"}),
     ("ls ./fi", {"./file"})],
)  # fmt: skip
def test_completes(portside: Portside, typed: str, offered: set[str]) -> None:
    portside.configure("[photos]\ntype = memory\n[other]\ntype = memory\n")
    (portside.home / "file").touch()
    script = portside.home / "completion"
    script.write_text(portside.run("completion", "bash").stdout)
    words = ["portside", *typed.split()]
    line = f"""
        source {script}
        COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
        _portside
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=portside.environ, check=True, cwd=portside.home
    )
    assert set(done.stdout.split()) == offered
    assert done.stderr == ""


def test_only_shells_that_are_known(portside: Portside) -> None:
    assert "bash" in portside.refusal("completion", "fish")

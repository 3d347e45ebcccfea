"""The guide says what the program does."""

from __future__ import annotations

import importlib.util
import re

from mountcore.cli import COMMANDS
from mountcore.commands import failures

from .conftest import ROOT

GUIDE = ROOT / "docs" / "GUIDE.md"


def test_its_tables_of_options_are_the_programs() -> None:
    spec = importlib.util.spec_from_file_location("guide_options", ROOT / "scripts" / "guide_options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = GUIDE.read_text()
    assert module.rewritten(text) == text, "run: python scripts/guide_options.py"


def test_it_has_every_command() -> None:
    text = GUIDE.read_text()
    assert [name for name in COMMANDS if f"portside {name}" not in text and name != "version"] == []


def test_its_exit_codes_are_the_programs() -> None:
    text = GUIDE.read_text()
    codes = {value for name, value in vars(failures).items() if name.startswith("EXIT_")}
    table = text[text.index("## Exit codes") : text.index("## All options")]
    assert codes | {0} == {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_documents_do_not_name_this_machine() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        assert not re.search(r"/work/|/opt/pv|/root/", document.read_text()), document


def test_every_test_that_the_promises_name_exists() -> None:
    root = GUIDE.parent.parent
    text = (root / "docs" / "SEMANTICS.md").read_text()
    named = set(re.findall(r"`((?:tests|benchmarks)/[\w/]+(?:\.py|/))`", text))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (root / name).exists()] == []
    there = "\n".join(file.read_text() for file in (root / "tests").rglob("*.py"))
    functions = set(re.findall(r"`(test_\w+)`", text))
    assert len(functions) > 30
    assert [name for name in sorted(functions) if f"def {name}(" not in there] == []
    for section in text.split("\n## ")[1:]:
        title = section.splitlines()[0]
        known = title in ("Tenets", "Where we depart from rclone", "The mount, call by call")
        assert known or "Tests: " in section, f"the promises of {title!r} name no test"

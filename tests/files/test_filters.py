"""Filter rules decide as rclone's do, over a corpus of names and patterns, files and directories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mountcore.errors import Refused
from mountcore.files.filters import Filter, FilterSettings
from mountcore.files.places import Place
from mountcore.files.tally import Tally
from mountcore.files.walk import Walker
from mountcore.remotes.local import Local
from mountcore.remotes.protocol import Kind

from .conftest import rclone

NAMES = [
    "a.txt", "b.TXT", "file.jpg", "file1.jpg", "file.jpeg", "a,b", "x{y}", "q?", "s*r", "br[1]", "b1", "b2", "pl+us",
    "do.t", "(par)", "do$llar", "ca^ret", "pi|pe", ".dot", "ü.txt", "dir/a.txt", "dir/sub/a.txt", "dir/sub/deep/z.jpg",
    "dir/file.jpg", "other/dir/a.txt", "other/b1", "dir2/a.txt", "sp ace/a b.txt", "back\\slash", "x/y/z/w/v.txt",
    "afile.jpg", "dir/ab", "dir/abc", "dir/a/b/c", "a-b-c", "tilde~", "ends.", "x/a.jpg", "x/b.png", "x/y/c.gif",
]  # fmt: skip
PATTERNS = [
    "*", "**", "*.txt", "/*.txt", "a.txt", "/a.txt", "dir/a.txt", "/dir/a.txt", "dir/**", "/dir/**", "dir/*", "dir/",
    "/dir/", "**/a.txt", "*.jpg", "file*.jpg", "file?.jpg", "file.jp{g,eg}", "*.{jpg,png,gif}", "{dir,x}/**", "b[12]",
    "b[!1]", "b[^1]", "[a-c]*", "br\\[1\\]", "s\\*r", "q\\?", "x\\{y\\}", "a\\,b", "a,b", "pl+us", "do.t", "(par)",
    "do$llar", "ca^ret", "pi|pe", ".*", "ü.*", "sp ace/**", "back\\\\slash", "x/**/v.txt", "/x/*/z/**", "dir/sub/",
    "sub/**", "sub/", "{{.*\\.jpe?g}}", "{{[ab]\\d?}}", "dir/{{a.*}}", "{a,b}*", "d*/a.txt", "**b**", "/*/*", "*/",
    "/*/",
    "*/a.txt", "x/y/**", "/other/dir/", "{dir/sub,x/y}/**", "*.[jJ][pP][gG]", "ends.", "???", "dir**", "/dir*/**",
    "a[b", "a]b", "{a", "a}", "***", "{a,{b}}", "{d{i,o}r,x}/*", "{x,{dir,other}/b1}",
    "[[:alpha:]]*", "[[:digit:]a]*", "[]a]*", "*~", "{*.txt,*.jpg}", "**/sub/**",
]  # fmt: skip
RULES = [
    ["- *.jpg", "+ dir/**", "- **"], ["+ *.txt", "- *"], ["+ /dir/**", "- /**"], ["- dir/sub/**", "+ dir/**", "- *"],
    ["+ *.jpg", "+ */", "- *"], ["- *.txt", "!", "- *.jpg"], ["- /dir/", "+ *.txt", "- **"],
    ["+ dir/sub/deep/*", "- *"],
    ["- {{.*a.*}}"], ["+ x/y/", "- *"], ["+ /x/**", "- /**"], ["+ **/a.txt", "- **"], ["- **/", "+ *"],
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


async def chosen(root: Path, settings: FilterSettings) -> set[str]:
    """What `lsf -R` would show: files, and directories with a slash."""
    remote = Local(str(root))
    place = Place(remote, "", entry=await remote.stat(""))
    found: set[str] = set()
    async with Walker(Tally(print), Filter(settings)).walk(place) as directories:
        async for listed in directories:
            found |= {path + "/" * (entry.kind is Kind.DIRECTORY) for path, entry in listed.items()}
    return found


def theirs(root: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    return rclone("lsf", "-R", *options, root)


@pytest.mark.trio
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_one_pattern(corpus: Path, pattern: str) -> None:
    for option, settings in {
        "--include": FilterSettings(include=(pattern,)),
        "--exclude": FilterSettings(exclude=(pattern,)),
    }.items():
        done = theirs(corpus, option, pattern)
        if done.returncode:
            with pytest.raises(Refused) as refusal:
                Filter(settings)
            assert pattern in str(refusal.value)
        else:
            assert await chosen(corpus, settings) == set(done.stdout.decode().splitlines()), option


@pytest.mark.trio
@pytest.mark.parametrize("rules", RULES, ids=" ".join)
async def test_rules_in_order(corpus: Path, rules: list[str]) -> None:
    options = [word for rule in rules for word in ("--filter", rule)]
    done = theirs(corpus, *options)
    assert done.returncode == 0
    assert await chosen(corpus, FilterSettings(rules=tuple(rules))) == set(done.stdout.decode().splitlines())


@pytest.mark.trio
async def test_include_then_exclude_then_filter(corpus: Path) -> None:
    done = theirs(corpus, "--filter", "- b*", "--exclude", "dir/**", "--include", "*.txt", "--ignore-case")
    settings = FilterSettings(include=("*.txt",), exclude=("dir/**",), rules=("- b*",), ignore_case=True)
    assert await chosen(corpus, settings) == set(done.stdout.decode().splitlines())


@pytest.mark.trio
@pytest.mark.parametrize("option", ["include-from", "exclude-from", "filter-from", "files-from", "files-from-raw"])
async def test_from_files(corpus: Path, tmp_path: Path, option: str) -> None:
    rules = tmp_path / "rules"
    sign = "- " if option == "filter-from" else ""
    rules.write_text(f"# a comment\n; another\n\n  {sign}dir/a.txt  \n{sign}x/y/c.gif\n")
    done = theirs(corpus, f"--{option}", str(rules))
    field = {"filter-from": "rules_from"}.get(option, option.replace("-", "_"))
    found = await chosen(corpus, FilterSettings(**{field: (str(rules),)}))  # type: ignore[arg-type]
    expected = set(done.stdout.decode().splitlines())
    if option.startswith("files-from"):  # rclone shows the directories of the files, too
        expected = {name for name in expected if not name.endswith("/")}
    assert found == expected


def test_a_rule_that_is_none() -> None:
    with pytest.raises(Refused, match="'x y' is not a filter rule"):
        Filter(FilterSettings(rules=("x y",)))
    with pytest.raises(Refused, match="no/such/file"):
        Filter(FilterSettings(include_from=("no/such/file",)))

"""A tree drawn with lines, as tree(1) and rclone draw it. Pure, but for what gathers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import final

from ..remotes.paths import basename, join
from ..remotes.protocol import Entry, Kind
from .places import Place
from .walk import Walker


@final
@dataclass(slots=True)
class Branch:
    """A directory with what is in it."""

    entry: Entry
    below: list[Branch] = field(default_factory=list)
    size: int = 0
    """Of all files in it."""


async def gather(walker: Walker, place: Place) -> Branch:
    """The whole tree; memory holds it all."""
    root = Branch(Entry("", Kind.DIRECTORY))
    branches = {"": root}
    waiting: dict[str, list[Branch]] = {}
    async with walker.walk(place) as directories:
        async for listed in directories:
            made = [Branch(entry, size=0 if entry.kind is Kind.DIRECTORY else entry.size) for entry in listed.entries]
            waiting[listed.directory] = made
            for branch in made:
                if branch.entry.kind is Kind.DIRECTORY:
                    branches[join(listed.directory, branch.entry.name)] = branch
    for directory, made in waiting.items():
        branches[directory].below = made
    return root


def add_up(root: Branch) -> None:
    """Give every directory the size of what is in it."""
    order, stack = [], [root]
    while stack:
        branch = stack.pop()
        order.append(branch)
        stack += branch.below
    for branch in reversed(order):
        if branch.entry.kind is Kind.DIRECTORY:
            branch.size = sum(each.size for each in branch.below)


def count(root: Branch) -> tuple[int, int]:
    """Directories below the root, and files."""
    directories = files = 0
    stack = [*root.below]
    while stack:
        branch = stack.pop()
        if branch.entry.kind is Kind.DIRECTORY:
            directories += 1
        else:
            files += 1
        stack += branch.below
    return directories, files


def draw(
    root: Branch, label: Callable[[Branch, str], str], key: Callable[[Branch], object], *, reverse: bool = False
) -> Iterator[str]:
    """The lines below the root. ``label`` gets a branch and its path."""
    stack: list[Iterator[tuple[Branch, str, str, str]]] = [_lines(root, "", "", key, reverse)]
    while stack:
        line = next(stack[-1], None)
        if line is None:
            stack.pop()
            continue
        branch, path, indent, knee = line
        yield f"{indent}{knee}{label(branch, path)}"
        if branch.below:
            deeper = indent + ("    " if knee.startswith("└") else "│   ")
            stack.append(_lines(branch, path, deeper, key, reverse))


def _lines(
    branch: Branch, path: str, indent: str, key: Callable[[Branch], object], reverse: bool
) -> Iterator[tuple[Branch, str, str, str]]:
    children = sorted(branch.below, key=key, reverse=reverse)  # type: ignore[arg-type]
    for number, child in enumerate(children, 1):
        knee = "└── " if number == len(children) else "├── "
        yield child, join(path, basename(child.entry.name)), indent, knee

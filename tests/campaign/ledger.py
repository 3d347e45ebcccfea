"""What portside promised: the content of each file after the last operation that returned, and what is allowed
while one has not. Every file has one writer, so that the order of operations on it is known."""

from __future__ import annotations

from dataclasses import dataclass, field

Content = bytes | None
"""None: there is no such file."""


@dataclass
class Ledger:
    """The files of one writer."""

    files: dict[str, Content] = field(default_factory=dict)
    allowed: dict[str, list[Content]] = field(default_factory=dict)
    """Of files under a change that has not returned, or was answered with an error: what they may be."""
    mixed: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    """Of those that the writer itself changes in place: old and new content, of which each byte may be either."""
    moved: list[tuple[frozenset[str], bytes]] = field(default_factory=list)
    """Of renames that have not returned: what was renamed, which must be under one of these names."""
    promises: int = 0
    history: dict[str, list[str]] = field(default_factory=dict)
    """Of each file what was done last, for complaints."""

    def begin(self, after: dict[str, Content], *, mixed: tuple[bytes, bytes] | None = None) -> None:
        """A change starts; ``after`` is what it will have made of each file. ``mixed``: see the field."""
        for path, content in after.items():
            self.allowed.setdefault(path, [self.files.get(path)]).append(content)
            if mixed is not None:
                self.mixed[path] = mixed
            self.history.setdefault(path, []).append(f"to be {_sizes([content])}{' with another' * (len(after) == 2)}")
        if len(after) == 2:
            (content,) = (content for content in after.values() if content is not None)
            self.moved.append((frozenset(after), content))

    def returned(self, after: dict[str, Content]) -> None:
        """It has returned: this, and nothing else, is promised."""
        for path, content in after.items():
            self.files[path] = content
            self.allowed.pop(path, None)
            self.mixed.pop(path, None)
            self.history.setdefault(path, []).append("done")
        self.moved.clear()
        self.promises += 1

    def complaints(self, found: dict[str, bytes]) -> list[str]:
        """What is wrong with the files as they are; they are what is promised from here on."""
        wrong = [
            f"{' and '.join(sorted(paths))}: what was being renamed is under neither name"
            for paths, content in self.moved
            if all(found.get(path) != content for path in paths)
        ]
        self.moved.clear()
        for path in sorted({*self.files, *self.allowed}):
            complaint = self.complaint(path, found.get(path))
            if complaint is not None:
                wrong.append(complaint)
        return wrong

    def complaint(self, path: str, found: Content) -> str | None:
        """What is wrong with a file, if anything; what is found is what is promised from here on."""
        promised = self.files.get(path)
        possible = self.allowed.pop(path, [promised])
        mixed = self.mixed.pop(path, None)
        if found in possible or (mixed is not None and found is not None and _mixture(found, *mixed)):
            self.files[path] = found
            return None
        return f"{describe(path, found, possible)}; {', '.join(self.history.get(path, [])[-6:])}"


def _mixture(found: bytes, old: bytes, new: bytes) -> bool:
    """Whether each byte is the old or the new one, or a hole between them, of a length in between."""
    if not min(len(old), len(new)) <= len(found) <= max(len(old), len(new)):
        return False
    columns = zip(found, old.ljust(len(found), b"\0"), new.ljust(len(found), b"\0"), strict=False)
    return all(byte in (one, other, 0) for byte, one, other in columns)


def describe(path: str, found: Content, possible: list[Content]) -> str:
    """Where a file parts from the nearest thing that it may be."""
    if found is None:
        return f"{path}: gone; promised are {_sizes(possible)}"
    whole = [content for content in possible if content is not None]
    if not whole:
        return f"{path}: {len(found)} bytes where nothing may be"

    def agreement(content: bytes) -> int:
        pairs = zip(found, content, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(found), len(content)))

    nearest = max(whole, key=agreement)
    return f"{path}: {len(found)} bytes, {_sizes(possible)} allowed; differs from {agreement(nearest)} on"


def _sizes(possible: list[Content]) -> str:
    return " or ".join("nothing" if content is None else f"{len(content)} bytes" for content in possible)

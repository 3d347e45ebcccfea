"""Glob patterns as rclone reads them, as regular expressions. Pure.

``*`` and ``?`` stop at ``/``, ``**`` does not; ``[a-z]`` is a class, ``{a,b}`` a choice (choices nest), ``{{…}}`` a
regular expression, ``\\`` makes the next character plain. A pattern that begins with ``/`` is about the whole path,
any other about its end, from a ``/`` on.
"""

from __future__ import annotations

import re

from ..errors import Refused

#: a choice with ``**``, ``/`` or a choice in it, or a regular expression: which directories it reaches cannot be told
_TOO_HARD = re.compile(r"\{[^{}]*(?:\*\*|/)[^{}]*\}|\{[^{}]*\{")
#: the classes of POSIX that a pattern may name
_NAMED = {
    "alpha": "A-Za-z", "digit": "0-9", "alnum": "0-9A-Za-z", "upper": "A-Z", "lower": "a-z", "space": r"\s",
    "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f", "word": r"\w", "blank": r" \t",
}  # fmt: skip
_PLAIN_IN_GLOB = frozenset(".+()|^$")


def compile_glob(glob: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """The expression whose `search` decides; raises :class:`Refused` that quotes the pattern."""
    try:
        body = _translated(glob.removeprefix("/"))
        start = "^" if glob.startswith("/") else "(?:^|/)"
        return re.compile(f"{start}{body}$(?!\n)", re.DOTALL | (re.IGNORECASE if ignore_case else 0))
    except re.error as problem:
        raise Refused(f"{glob!r} is not a pattern: {problem}") from None


def directory_globs(glob: str) -> list[str]:
    """Patterns of the directories that must be looked into to find what ``glob`` matches, each with a final ``/``."""
    if _TOO_HARD.search(glob):
        return ["/**"]
    glob = re.sub("/{2,}", "/", glob)
    found: list[str] = []
    while True:
        slash, stars = glob.rfind("/"), glob.rfind("**")
        at, what = (stars, "**") if stars > slash else (slash, "")
        if at < 0:
            return found or ["/**"]
        glob = glob[:at]
        wanted = f"{glob}{what}/"
        if not found or found[-1] != wanted:
            found.append(wanted)


def _translated(glob: str) -> str:
    out: list[str] = []
    at, end = 0, len(glob)
    choices = 0
    while at < end:
        char = glob[at]
        if char == "*":
            stars = at
            while at < end and glob[at] == "*":
                at += 1
            if at - stars > 2:
                raise Refused(f"{glob!r} is not a pattern: too many stars, at most two stand together")
            out.append("[^/]*" if at - stars == 1 else ".*")
            continue
        if char == "\\":
            if at + 1 == end:
                raise Refused(f"{glob!r} is not a pattern: nothing follows the last backslash")
            out.append(re.escape(glob[at + 1]))
            at += 2
            continue
        if char == "[":
            close = _class_end(glob, at)
            out.append(_class(glob[at : close + 1]))
            at = close + 1
            continue
        if glob.startswith("{{", at):
            close = glob.find("}}", at + 2)
            if close < 0:
                raise Refused(f"{glob!r} is not a pattern: '{{{{' without '}}}}'")
            while glob.startswith("}}}", close):
                close += 1
            out.append(f"(?:{glob[at + 2 : close]})")
            at = close + 2
            continue
        if char == "{":
            choices += 1
            out.append("(?:")
        elif char == "}":
            if not choices:
                raise Refused(f"{glob!r} is not a pattern: '}}' without '{{'")
            choices -= 1
            out.append(")")
        elif char == "]":
            raise Refused(f"{glob!r} is not a pattern: ']' without '['")
        elif char == ",":
            out.append("|" if choices else ",")
        elif char == "?":
            out.append("[^/]")
        elif char in _PLAIN_IN_GLOB:
            out.append("\\" + char)
        else:
            out.append(re.escape(char))
        at += 1
    if choices:
        raise Refused(f"{glob!r} is not a pattern: '{{' without '}}'")
    return "".join(out)


def _class(text: str) -> str:
    """A class as Python writes it: named ones spelled out, a lone ``[`` escaped."""
    for name, members in _NAMED.items():
        text = text.replace(f"[:{name}:]", members)
    return "[" + re.sub(r"(?<!\\)\[", r"\[", text[1:])


def _class_end(glob: str, at: int) -> int:
    """Where the class that begins at ``at`` ends; classes like ``[[:alpha:]]`` nest."""
    depth = 0
    for place in range(at, len(glob)):
        if glob[place] == "[":
            depth += 1
        elif glob[place] == "]":
            depth -= 1
            if not depth:
                return place
    raise Refused(f"{glob!r} is not a pattern: '[' without ']'")

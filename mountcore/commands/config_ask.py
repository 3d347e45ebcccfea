"""Questions on the terminal: secrets twice and unseen, choices by number or name, yes or no."""

from __future__ import annotations

import getpass
import secrets
import sys
from collections.abc import Sequence

from ..errors import Refused

WORDS = 20
"""Bytes of chance in a generated password."""


def secret_from_user(what: str) -> str:
    """A secret: asked twice on a terminal, else the next line of standard input."""
    if not sys.stdin.isatty():
        secret = sys.stdin.readline().rstrip("\r\n")
        if not secret:
            raise Refused(f"{what}: standard input has nothing")
        return secret
    while True:
        secret = getpass.getpass(f"{what}: ")
        if not secret:
            raise Refused(f"{what}: it is empty")
        if getpass.getpass(f"{what}, again: ") == secret:
            return secret
        print("The two differ.")


def ask(question: str, default: str = "") -> str:
    """A line; the default for an empty one."""
    shown = f" [{default}]" if default else ""
    try:
        answer = input(f"{question}{shown}: ").strip()
    except EOFError:
        raise Refused("the input ended; nothing was saved") from None
    return answer or default


def choose(question: str, answers: Sequence[tuple[str, str]], default: str = "") -> str:
    """One of several, by its key, its number or its whole word."""
    for number, (key, text) in enumerate(answers, 1):
        print(f" {number:2} / {text}\n    \\ ({key})")
    while True:
        answer = ask(question, default)
        for number, (key, _) in enumerate(answers, 1):
            if answer in (key, str(number)):
                return key
        print(f"{answer!r} is none of them.")


def yes(question: str, *, default: bool) -> bool:
    """y or n."""
    while True:
        answer = ask(f"{question} (y/n)", "y" if default else "n").lower()
        if answer in ("y", "yes", "n", "no"):
            return answer[0] == "y"
        print("Answer y or n.")


def new_secret(what: str, *, required: bool) -> str:
    """A secret of the user's own, a generated one, or none."""
    answers = [("y", "type my own"), ("g", "make one up"), ("n", "leave it empty")]
    match choose(what, answers if not required else answers[:2], "y" if required else "n"):
        case "y":
            return secret_from_user(what)
        case "g":
            made = secrets.token_urlsafe(WORDS)
            print(f"It is: {made}\nWrite it down: it is not shown again.")
            return made
    return ""

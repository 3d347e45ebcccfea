"""``portside config wizard``: asks for a remote, tries it, and saves it; and ``reconnect``, which tries one again."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from typing import final

import trio

from ..errors import Denied, Refused, StorageError, TimedOut
from ..remotes.address import NAME
from ..remotes.conf import Config
from ..remotes.conffile import Draft, change_file
from ..remotes.obscure import obscure
from ..remotes.protocol import Kind
from ..remotes.registry import RemoteOption, RemoteType, configurable, kinds
from .config_ask import ask, choose, new_secret, secret_from_user, yes
from .failures import EXIT_FAILED, describe, exit_code, leaves
from .logs import printable, say

TRY_WITHIN = 60.0
#: what most users must say; the rest is asked only of those who want to see it
USUAL = frozenset({
    "host", "port", "user", "tls", "explicit_tls", "url", "vendor", "provider", "access_key_id", "region", "endpoint",
    "key_file", "account", "remote", "filename_encryption", "directory_name_encryption", "domain", "bucket", "nounc",
})  # fmt: skip


@final
class Wizard:
    """One conversation."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def run(self, name: str | None) -> int:
        """Ask, try, save; answers the exit code. An end of input saves nothing."""
        if not sys.stdin.isatty():
            raise Refused("the wizard asks questions and needs a terminal; for scripts: portside config create")
        names = self._config.names()
        if names:
            print(f"There are: {', '.join(names)}")
        name = self._name(name)
        before = dict(self._config.own()[name].values) if name in self._config.own() else {}
        if before:
            print(f"{name!r} is there already; what you leave empty stays as it is.")
        kind = self._kind(before.get("type", ""))
        values = {**before, "type": kind.name}
        while True:
            self._options(kind, values)
            print(f"\n[{name}]")
            for key, value in values.items():
                hidden = any(o.name == key and (o.secret or o.sensitive) for o in kind.options)
                print(f"{key} = {'***' if hidden else printable(value)}")
            if self._accepted(name, values):
                self._save(name, values)
                print(f"Saved. Use it as {name}: for example: portside ls {name}:")
                return 0
            if not yes("Change something?", default=True):
                print("Nothing was saved.")
                return EXIT_FAILED

    def _name(self, name: str | None) -> str:
        while True:
            answer = (name or ask("Name of the remote")).removesuffix(":")
            name = None
            if NAME.fullmatch(answer) and len(answer) > 1:
                return answer
            print("A name is made of letters, digits and _ . + @ - (two at least).")

    def _kind(self, before: str) -> RemoteType:
        known = configurable()
        if before in known:
            return known[before]
        print("Where are the files?")
        choice = kinds()
        for number, kind in enumerate(choice, 1):
            print(f" {number:2} / {kind.help}\n    \\ ({kind.name})")
        while True:
            answer = ask("Type")
            if answer in known:
                return known[answer]
            if answer.isdecimal() and 1 <= int(answer) <= len(choice):
                return choice[int(answer) - 1]
            near = difflib.get_close_matches(answer, known, 1)
            print(f"There is no type {answer!r}{f'; did you mean {near[0]!r}?' if near else '.'}")

    def _options(self, kind: RemoteType, values: dict[str, str]) -> None:
        usual = [option for option in kind.options if _is_usual(option)]
        for option in usual:
            self._option(option, values)
        rest = [option for option in kind.options if option not in usual]
        if rest and yes(f"Look at the other {len(rest)} options?", default=False):
            for option in rest:
                self._option(option, values)

    def _option(self, option: RemoteOption, values: dict[str, str]) -> None:
        print(f"\n{option.name}: {option.help}" + (" (needed)" if option.required else ""))
        for example in option.examples:
            print(f"  for example {example}")
        before = values.get(option.name, "")
        if option.secret or option.sensitive:
            if before and yes("Keep the one there is?", default=True):
                return
            secret = new_secret(option.name, required=option.required)
            if secret:
                values[option.name] = obscure(secret) if option.secret else secret
            else:
                values.pop(option.name, None)
            return
        while True:
            answer = ask("Value", before or option.default)
            if answer or not option.required:
                break
            print("It is needed.")
        if answer and answer != option.default:
            values[option.name] = answer
        else:
            values.pop(option.name, None)

    def _accepted(self, name: str, values: Mapping[str, str]) -> bool:
        """Try the remote; what fails is saved only if the user insists."""
        while True:
            print("Trying it …")
            problem = attempt(self._config.trial(name, values), name)
            if problem is None:
                print("It answers.")
                return yes("Save it?", default=True)
            print(f"It does not work: {printable(describe(problem))}")
            answers = [("e", "edit"), ("r", "try again"), ("s", "save it all the same"), ("q", "quit without saving")]
            match choose("What now", answers, "e"):
                case "s":
                    return True
                case "e":
                    return False
                case "q":
                    raise Refused("nothing was saved")

    def _save(self, name: str, values: Mapping[str, str]) -> None:
        def change(draft: Draft) -> None:
            draft.delete(name)
            draft.set(name, values)

        change_file(self._config.path, change)


def _is_usual(option: RemoteOption) -> bool:
    return option.required or option.secret or option.name in USUAL


def attempt(config: Config, name: str) -> Exception | None:
    """Ask the remote for its root; None if it answers."""

    async def look() -> None:
        remote = config.open(f"{name}:")
        try:
            with trio.move_on_after(TRY_WITHIN) as scope:
                if (await remote.stat("")).kind is not Kind.DIRECTORY:
                    raise Refused(f"{name}: is a file; a remote is a directory")
            if scope.cancelled_caught:
                raise TimedOut("", f"no answer within {TRY_WITHIN:g} s")
        finally:
            with trio.CancelScope(shield=True):
                await remote.aclose()

    try:
        trio.run(look)
    except (StorageError, Refused) as problem:
        return problem
    except ExceptionGroup as group:
        return next((p for p in leaves(group) if isinstance(p, StorageError | Refused)), group)
    return None


def reconnect(config: Config, name: str) -> int:
    """Try a remote; where the login is refused and it has a password, ask for another one and save that."""
    kind = config.locate(f"{name}:").kind
    problem = attempt(config, name)
    if problem is None:
        say(f"{name}: answers")
        return 0
    secret = next((option for option in configurable()[kind].options if option.secret), None)
    section = config.section(name)
    if not isinstance(problem, Denied) or secret is None or section is None:
        say(f"{name}: {describe(problem)}")
        return exit_code(problem)
    say(f"{name}: {describe(problem)}")
    values = {**section.values, secret.name: obscure(secret_from_user(f"{name}: {secret.name}"))}
    problem = attempt(config.trial(name, values), name)
    if problem is not None:
        say(f"{name}: {describe(problem)}; nothing was saved")
        return exit_code(problem)
    change_file(config.path, lambda draft: draft.set(name, values))
    say(f"{name}: answers; saved")
    return 0

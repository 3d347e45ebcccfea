"""``portside config``: look at the configuration, and change portside's own file.

Secrets are shown masked. Given as words they are obscured before they are stored, and the user is told that the list
of processes showed them; ``key=-`` reads one from the terminal or standard input instead. rclone.conf is read and
never written: changing a remote that only it has copies the remote into portside's file first.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import Refused
from ..remotes.address import NAME
from ..remotes.conf import Config
from ..remotes.conffile import Draft, change_file
from ..remotes.keeping import KEYRING
from ..remotes.obscure import looks_obscured, obscure
from ..remotes.registry import RemoteType, configurable, kinds
from . import logs
from .arguments import PROCESS_OPTIONS, Parser, process_values
from .config_ask import secret_from_user
from .failures import UsageError
from .plan import open_config

MASK = "*** ENCRYPTED ***"
"""As rclone shows a password."""
_OPTIONS = tuple(option for option in PROCESS_OPTIONS if option.name != "drain-timeout")


def _list(config: Config, args: Any) -> int:
    own = config.own()
    rows = []
    for name in config.names():
        section = config.section(name)
        where = "environment" if section is None else str(config.path if name in own else config.rclone_path)
        kind = section.values.get("type", "") if section else config.locate(f"{name}:").kind
        rows.append({"name": name, "type": kind, "source": where})
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max((len(row["name"]) for row in rows), default=0) + 1
    for row in rows:
        print(f"{row['name'] + ':':<{width}}  {row['type']:<10}  {row['source']}")
    return 0


def _show(config: Config, args: Any) -> int:
    names = [args.name.removesuffix(":")] if args.name else config.names()
    for number, name in enumerate(names):
        section = _section(config, name)
        print("\n" * (number > 0) + f"[{name}]")
        for key, value in section.items():
            print(f"{key} = {MASK if _is_secret(section, key) and value else value}")
    return 0


def _create(config: Config, args: Any) -> int:
    name = _fresh_name(args.name)
    if name in config.own() and not args.force:
        raise Refused(f"there is a remote {name!r} already; change it with: portside config update {name} option=value")
    facts = _type(args.type)
    values = {"type": args.type} | _given(facts, args.options, args)
    _save(config, name, values, fresh=True)
    return 0


def _update(config: Config, args: Any) -> int:
    name = args.name.removesuffix(":")
    section = _section(config, name)
    facts = _type(section.get("type", ""))
    changes = _given(facts, args.options, args)
    _save(config, name, changes if name in config.own() else {**section, **changes})
    return 0


def _password(config: Config, args: Any) -> int:
    name = args.name.removesuffix(":")
    section = _section(config, name)
    facts = _type(section.get("type", ""))
    option = facts.option(args.option)
    if not option.secret:
        raise Refused(f"option {args.option!r} is not a password; use: portside config update {name} {args.option}=…")
    changes = {args.option: obscure(secret_from_user(f"{name}: {args.option}"))}
    _save(config, name, changes if name in config.own() else {**section, **changes})
    return 0


def _delete(config: Config, args: Any) -> int:
    name = args.name.removesuffix(":")
    if name not in config.own():
        section = config.section(name)
        where = f"it is in {section.place}, which portside does not write" if section else "there is no such remote"
        raise Refused(f"{name!r} is not in {config.path}: {where}")
    change_file(config.path, lambda draft: draft.delete(name))
    return 0


def _providers(config: Config, args: Any) -> int:
    chosen = [_type(args.type)] if args.type else kinds()
    if args.json:
        print(json.dumps([_facts(kind) for kind in chosen], indent=2, ensure_ascii=False))
        return 0
    for kind in chosen:
        print(f"{kind.name:<12}  {kind.help}")
        for option in kind.options if args.type else ():
            marks = [word for word, on in (("needed", option.required), ("obscured", option.secret)) if on]
            default = f" (default {option.default})" if option.default else ""
            print(f"  {option.name:<26}  {option.help}{default}{f' ({chr(44).join(marks)})' if marks else ''}")
    return 0


def _facts(kind: RemoteType) -> dict[str, object]:
    return {
        "Name": kind.name, "Description": kind.help,
        "Options": [
            {"Name": o.name, "Help": o.help, "DefaultStr": o.default, "Required": o.required, "IsPassword": o.secret,
             "Sensitive": o.secret or o.sensitive, "Examples": list(o.examples)}
            for o in kind.options
        ],
    }  # fmt: skip


def _file(config: Config, args: Any) -> int:
    print(config.path)
    if not config.path.exists():
        logs.say("there is no such file yet; 'portside config wizard' or 'portside config create' makes it")
    if config.rclone_path.exists():
        logs.say(f"{config.rclone_path} is read too, and never written")
    return 0


def _touch(config: Config, args: Any) -> int:
    change_file(config.path, lambda draft: None)
    return 0


def _wizard(config: Config, args: Any) -> int:
    from .config_wizard import Wizard

    return Wizard(config).run(args.name)


def _reconnect(config: Config, args: Any) -> int:
    from .config_wizard import reconnect

    return reconnect(config, args.name.removesuffix(":"))


#: action → (what does it, what it is for, its arguments)
ACTIONS: dict[str, tuple[Callable[[Config, Any], int], str, str]] = {
    "wizard": (_wizard, "Ask for everything, try the remote, and save it", "[NAME]"),
    "list": (_list, "List the remotes, and where each is configured", ""),
    "show": (_show, "Show a remote, or all, with passwords masked", "[NAME]"),
    "create": (_create, "Make a remote: NAME TYPE [OPTION=VALUE …]; OPTION=- asks", "NAME TYPE OPTIONS"),
    "update": (_update, "Change options of a remote; OPTION= takes one away", "NAME OPTIONS"),
    "password": (_password, "Ask for a password of a remote and save it", "NAME [OPTION]"),
    "delete": (_delete, "Delete a remote", "NAME"),
    "reconnect": (_reconnect, "Try a remote; ask for its password anew where it is refused", "NAME"),
    "providers": (_providers, "List the storage types, or the options of one", "[TYPE]"),
    "file": (_file, "Print where the configuration is", ""),
    "touch": (_touch, "Make the file if there is none, and set its mode", ""),
}


def run(argv: list[str]) -> int:
    """Do what the first word says; without one, the wizard."""
    if not argv and os.isatty(0):
        argv = ["wizard"]
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, ACTIONS))
        print("usage: portside config ACTION …\n\nLook at the configuration, and change portside's own file.\n")
        print("\n".join(f"  {name:<{width}}  {about}" for name, (_, about, _) in ACTIONS.items()))
        return 0 if argv else 2
    if argv[0] not in ACTIONS:
        near = difflib.get_close_matches(argv[0], ACTIONS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ACTIONS)}"
        raise UsageError(f"config has no action {argv[0]!r}; {hint}")
    action, about, arguments = ACTIONS[argv[0]]
    parser = Parser(f"config {argv[0]}", about)
    for word in arguments.split():
        name = word.strip("[]").lower()
        if name == "options":
            parser.add_argument("options", metavar="OPTION=VALUE", nargs="*")
        else:
            default = "pass" if name == "option" else None
            parser.add_argument(name, metavar=name.upper(), nargs="?" if word[0] == "[" else None, default=default)
    if argv[0] in ("list", "providers"):
        parser.add_argument("--json", action="store_true", help="as JSON")
    if argv[0] in ("create", "update"):
        parser.add_argument("--no-obscure", action="store_true", help="passwords given are obscured already")
        parser.add_argument(
            "--obscure", action="store_true", help="passwords given are as typed, whatever they look like"
        )
    if argv[0] == "create":
        parser.add_argument("--force", action="store_true", help="replace a remote of that name")
    parser.add_table("options", _OPTIONS)
    args = parser.parse(argv[1:])
    values = process_values(args)
    logs.set_up(values, args.verbose)
    return action(_config(values), args)


def _config(values: Mapping[str, object]) -> Config:
    """The configuration; a file that --config names need not be there yet."""
    path = values["config"] or os.environ.get("PORTSIDE_CONFIG")
    if path and not os.path.exists(os.path.expanduser(str(path))):
        change_file(Path(str(path)).expanduser().absolute(), lambda draft: None)
    return open_config(values)


def _section(config: Config, name: str) -> Mapping[str, str]:
    section = config.section(name)
    if section is None:
        config.locate(f"{name}:")  # says what is wrong with the name
        raise Refused(f"remote {name!r} is in the environment alone, and can be changed only there")
    return section.values


def _fresh_name(name: str) -> str:
    name = name.removesuffix(":")
    if not NAME.fullmatch(name) or len(name) < 2:
        raise Refused(f"{name!r} cannot be the name of a remote: letters, digits, and _ . + @ - inside; two at least")
    return name


def _type(kind: str) -> RemoteType:
    known = configurable()
    if kind not in known:
        near = difflib.get_close_matches(kind, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known types: {', '.join(sorted(known))}"
        raise Refused(f"unknown storage type {kind!r}; {hint}")
    return known[kind]


def _is_secret(section: Mapping[str, str], key: str) -> bool:
    facts = configurable().get(section.get("type", ""))
    found = next((option for option in facts.options if option.name == key), None) if facts else None
    if found is not None:
        return found.secret or found.sensitive
    return any(word in key for word in ("pass", "secret", "token", "key_pem"))  # of a type that is not known here


def _given(facts: RemoteType, words: list[str], args: Any) -> dict[str, str]:
    """Options from the command line: ``key=value``, or as rclone also takes them, ``key value``."""
    pairs: list[tuple[str, str]] = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise UsageError(f"{word!r}: write option=value")
            value = following
        pairs.append((key, value))
    values: dict[str, str] = {}
    for key, value in pairs:
        if key == "type":
            raise Refused("the type of a remote cannot be changed; make another one")
        option = facts.option(key)
        if value == "-" and (option.secret or option.sensitive):
            value = secret_from_user(key)
            value = obscure(value) if option.secret else value
        elif (option.secret or option.sensitive) and value and not value.startswith(KEYRING):
            logs.say(f"option {key!r}: the list of processes showed it to everybody; {key}=- asks for it instead")
            if option.secret and not args.no_obscure and (args.obscure or not looks_obscured(value)):
                value = obscure(value)
        values[key] = value
    return values


def _save(config: Config, name: str, values: Mapping[str, str], *, fresh: bool = False) -> None:
    """Check that the remote can be opened (no network) and write it."""
    before = {} if fresh else dict(config.own()[name].values if name in config.own() else {})
    whole = {key: value for key, value in {**before, **values}.items() if value}
    remote = config.trial(name, whole).open(f"{name}:")
    del remote

    def change(draft: Draft) -> None:
        if fresh:
            draft.delete(name)
        draft.set(name, values)

    change_file(config.path, change)

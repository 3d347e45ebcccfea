"""``portside completion bash``: a script that completes commands, options and the names of remotes.

Made of what each command's ``--help`` says, once, when it is printed: completing itself starts no program.
"""

from __future__ import annotations

import contextlib
import io
import re

from ..errors import Refused
from .arguments import Parser
from .table import COMMANDS, command

_SHELLS = ("bash", "zsh")
_SCRIPT = """\
# portside's completion for bash; in zsh after: autoload -U +X bashcompinit && bashcompinit
_portside() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}} remotes
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case $word in
    -*)
        case $command in
{options}
        esac
        ;;
    *)
        if [ "$command" = config ] && [ "$COMP_CWORD" = 2 ]; then
            COMPREPLY=($(compgen -W "{actions}" -- "$word"))
            return
        fi
        local home=${{XDG_CONFIG_HOME:-$HOME/.config}}
        remotes=$(sed -n 's/^\\[\\(.*\\)\\]$/\\1:/p' "${{PORTSIDE_CONFIG:-$home/portside/portside.conf}}" \\
            "${{RCLONE_CONFIG:-$home/rclone/rclone.conf}}" 2>/dev/null)
        COMPREPLY=($(compgen -W "$remotes" -- "$word") $(compgen -f -- "$word"))
        ;;
    esac
}}
complete -o nospace -F _portside portside
"""


def run(argv: list[str]) -> int:
    """Print the script."""
    parser = Parser(
        "completion",
        "Print a completion script for a shell: put it where the shell looks, or load it with\n"
        '  eval "$(portside completion bash)"',
    )
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=" or ".join(_SHELLS))
    parser.parse(argv)
    from .config import ACTIONS

    cases = []
    for name in COMMANDS:
        words = sorted(options_of(name))
        if words:
            cases.append(f'        {name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")) ;;')
    print(_SCRIPT.format(commands=" ".join(COMMANDS), options="\n".join(cases), actions=" ".join(ACTIONS)), end="")
    return 0


def options_of(name: str) -> set[str]:
    """The long options of a command; none where what it needs is not installed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit, Refused):
        command(name)(["ftp", "--help"] if name == "serve" else ["--help"])
    return set(re.findall(r"--[a-z][a-z0-9-]+", said.getvalue()))

"""`completion`: a script with which a shell completes commands, flags and their values.

The script is made from the parser, is static, and starts no program while somebody types.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable
from typing import Final

from .words import PROGRAM

__all__ = ["SHELLS", "run_completion"]

FOLDERS: Final = frozenset({"DIR"})
"""Placeholders of arguments that are folders."""
NOT_FILES: Final = frozenset({"RANGE", "WORDS", "TEXT", "N", "ADDRESS", "URL", "MODEL", "NAME", "COMMAND"})
"""Placeholders of arguments that are no files. All others complete with the names of files."""


def run_completion(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from .parser import build_parser

    print(SHELLS[arguments.shell](build_parser()))
    return 0


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    return (action for action in parser._actions if action.option_strings)


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _kind(action: argparse.Action) -> str:
    """The kind of the argument's values: `words`, `folders`, `files`, or `nothing` that a shell could complete."""
    if action.choices is not None:
        return "words"
    name = action.metavar if isinstance(action.metavar, str) else (action.dest or "").upper()
    return "folders" if name in FOLDERS else "nothing" if name in NOT_FILES else "files"


def _words(action: argparse.Action) -> str:
    return " ".join(str(choice) for choice in action.choices or ())


def _positional(parser: argparse.ArgumentParser) -> argparse.Action | None:
    found = (a for a in parser._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction))
    return next(found, None)


# -- bash and zsh

_OF_KIND: Final = {"folders": '$(compgen -d -- "$word")', "files": '$(compgen -f -- "$word")', "nothing": ""}


def _bash(parser: argparse.ArgumentParser) -> str:
    """For bash."""
    commands = _commands(parser)
    lines = [
        "_deepseek_ocr_mcp() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="" each',
        '  for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        '    [[ $each != -* ]] && { command="$each"; break; }',
        "  done",
        "  COMPREPLY=()",
        '  case "$command" in',
    ]
    for name, command in commands.items():
        lines += [f"    {name})", *_bash_values(command), "      ;;"]
    names = " ".join([*commands, *(option for action in _options(parser) for option in action.option_strings)])
    lines += [
        f'    *) COMPREPLY=($(compgen -W {shlex.quote(names)} -- "$word")) ;;',
        "  esac",
        "}",
        f"complete -o filenames -F _deepseek_ocr_mcp {PROGRAM}",
    ]
    return "\n".join(lines)


def _bash_values(command: argparse.ArgumentParser) -> list[str]:
    lines = ['      case "$before" in']
    for action in _options(command):
        if _takes_value(action):
            lines.append(f"        {'|'.join(action.option_strings)}) COMPREPLY=({_bash_words(action)}); return ;;")
    lines += ["      esac"]
    options = " ".join(option for action in _options(command) for option in action.option_strings)
    lines.append(f'      [[ $word == -* ]] && {{ COMPREPLY=($(compgen -W "{options}" -- "$word")); return; }}')
    if (positional := _positional(command)) is not None:
        lines.append(f"      COMPREPLY=({_bash_words(positional)})")
    return lines


def _bash_words(action: argparse.Action) -> str:
    kind = _kind(action)
    return f'$(compgen -W "{_words(action)}" -- "$word")' if kind == "words" else _OF_KIND[kind]


def _zsh(parser: argparse.ArgumentParser) -> str:
    """For zsh, which can run functions of bash."""
    return f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_bash(parser)}"


# -- fish


def _fish(parser: argparse.ArgumentParser) -> str:
    """For fish."""
    commands = _commands(parser)
    lines = [f"complete -c {PROGRAM} -f"]
    lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -a {shlex.quote(' '.join(commands))}")
    for name, command in commands.items():
        condition = f"-n '__fish_seen_subcommand_from {name}'"
        for action in _options(command):
            lines.append(f"complete -c {PROGRAM} {condition} {_fish_option(action)}")
        if (positional := _positional(command)) is not None and _fish_value(positional):
            lines.append(f"complete -c {PROGRAM} {condition} {_fish_value(positional)}")
    return "\n".join(lines)


def _fish_option(action: argparse.Action) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in action.option_strings]
    return " ".join([*names, *(["-r", _fish_value(action)] if _takes_value(action) else [])]).strip()


def _fish_value(action: argparse.Action) -> str:
    match _kind(action):
        case "words":
            return f"-a {shlex.quote(_words(action))}"
        case "folders":
            return "-a '(__fish_complete_directories)'"
        case "files":
            return "-F"
        case _:
            return ""


SHELLS: Final[dict[str, Callable[[argparse.ArgumentParser], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""The shells by name, each with the function that makes its script."""

"""`xds completion SHELL`: what a shell needs to complete commands, flags and their values, made from the table of settings.

What belongs here: one function a shell, from the table to a script. The scripts start no program, so that the Tab key answers at once.
Flags without effect are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xds.cli.arguments import COMMANDS, SHELLS, Parsed, flags_of
from xds.config import BOOL, FILE, FOLDER, FOLDERS, INERT, Flag, Kind

_FOLDERS: tuple[Kind[Any], ...] = (FOLDER, FOLDERS)


def run(parsed: Parsed) -> int:
    """Print the script of a shell."""
    print(_SCRIPTS[parsed.positional[0]](), end="")
    return 0


def _flags(command: str) -> Iterable[Flag]:
    return (flag for flag in flags_of(command) if flag.group != INERT)


def _summary(text: str) -> str:
    """The first sentence of a help text, without marks of code."""
    return text.replace("`", "").partition(". ")[0].removesuffix(".")


def _bash() -> str:
    """A function for `complete -F`. Bash splits `--flag=value` at "=", so that the flag stands two words before the value."""
    cases = []
    for command, what in COMMANDS.items():
        valued = [(flag, flag.kind_in(command)) for flag in _flags(command) if flag.kind_in(command) is not BOOL]
        cases += [f'    "{command} {flag.name}") {_bash_values(kind)} ;;' for flag, kind in valued]
        names = " ".join(flag.name for flag in _flags(command))
        rest = _bash_words(" ".join(SHELLS)) if command == "completion" else _bash_found("-f" if what.folders else '-W ""')
        cases.append(f'    "{command} "*) case $word in -*) {_bash_words(names)} ;; *) {rest} ;; esac ;;')
    return "\n".join(
        (
            "_xds() {",
            "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}",
            '  if [ "$word" = "=" ]; then word=""; elif [ "$before" = "=" ]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi',
            "  COMPREPLY=()",
            f'  if [ "$COMP_CWORD" = 1 ]; then {_bash_words(" ".join(COMMANDS))}; return; fi',
            '  case "${COMP_WORDS[1]} $before" in',
            *cases,
            "  esac",
            "}",
            "complete -o filenames -F _xds xds",
            "",
        )
    )


def _bash_words(words: str) -> str:
    return _bash_found(f'-W "{words}"')


def _bash_found(what: str) -> str:
    return f'mapfile -t COMPREPLY < <(compgen {what} -- "$word")'


def _bash_values(kind: Kind[Any]) -> str:
    if kind.words:
        return _bash_words(" ".join(kind.words))
    if kind in _FOLDERS:
        return _bash_found("-d")
    return _bash_found("-f") if kind is FILE else ":"


def _zsh() -> str:
    """A function for the file `_xds` in `$fpath`, which may be read by `source` as well."""
    lines = ["#compdef xds", "_xds() {", "  local -a commands", "  commands=("]
    lines += [f"    {_quoted(f'{name}:{_summary(command.does)}')}" for name, command in COMMANDS.items()]
    lines += ["  )", "  if (( CURRENT == 2 )); then _describe command commands; return; fi", "  case $words[2] in"]
    for command, what in COMMANDS.items():
        rest = f"*:shell:({' '.join(SHELLS)})" if command == "completion" else "*:file:_files" if what.folders else "*::word:"
        specs = [*(_zsh_flag(flag, command) for flag in _flags(command)), rest]
        lines += [
            f"    {command}) shift words; (( CURRENT-- )); _arguments \\",
            *(f"      {_quoted(spec)} \\" for spec in specs),
            "      ;;",
        ]
    lines += ["  esac", "}", 'if [ "$funcstack[1]" = "_xds" ]; then _xds "$@"; else compdef _xds xds; fi', ""]
    return "\n".join(lines)


def _zsh_flag(flag: Flag, command: str) -> str:
    kind = flag.kind_in(command)
    about = _summary(flag.does).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    if kind is BOOL:
        return f"{flag.name}[{about}]"
    many = "*" if kind.many else ""
    files = "_files -/" if kind in _FOLDERS else "_files" if kind is FILE else ""
    values = f"({' '.join(kind.words)})" if kind.words else files
    return f"{many}{flag.name}=[{about}]:{kind.metavar.replace(':', ' ')}:{values}"


def _fish() -> str:
    """One line a command and a flag."""
    lines = ["complete -c xds -f"]
    for command, what in COMMANDS.items():
        lines.append(f"complete -c xds -n __fish_use_subcommand -a {command} -d {_fish_quoted(_summary(what.does))}")
        seen = f"-n '__fish_seen_subcommand_from {command}'"
        if command == "completion":
            lines.append(f"complete -c xds {seen} -a '{' '.join(SHELLS)}'")
        if what.folders:
            lines.append(f"complete -c xds {seen} -F")
        lines += [f"complete -c xds {seen} -l {flag.name[2:]}{_fish_values(flag, command)}" for flag in _flags(command)]
    return "\n".join((*lines, ""))


def _fish_values(flag: Flag, command: str) -> str:
    kind = flag.kind_in(command)
    about = f" -d {_fish_quoted(_summary(flag.does))}"
    if kind is BOOL:
        return about
    if kind.words:
        return f" -x -a '{' '.join(kind.words)}'{about}"
    if kind in _FOLDERS:
        return f" -x -a '(__fish_complete_directories)'{about}"
    return f" -r -F{about}" if kind is FILE else f" -x{about}"


def _quoted(text: str) -> str:
    """A word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS: Mapping[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}

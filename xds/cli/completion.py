"""`xds completion SHELL`: what a shell needs to complete commands, flags and their values, made from the table of settings.

What belongs here: one function a shell, from the table to a script. The scripts start no program, so that the Tab key answers at once.
Flags without effect are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from xds.cli.arguments import COMMANDS, Command, Parsed, flags_of
from xds.config import INERT, Flag
from xds.flag_kinds import BOOL, FILE, FOLDER, FOLDERS, Kind

_FOLDERS: tuple[Kind[Any], ...] = (FOLDER, FOLDERS)


def run(parsed: Parsed) -> int:
    """Print the script of a shell."""
    print(_SCRIPTS[parsed.positional[0]](), end="")
    return 0


_GENERAL: Mapping[str, str] = {"help": "Show the flags of a command.", "version": "Print the version."}
"""What stands in the place of a command as well."""


def _flags(command: str) -> Iterable[Flag]:
    return (flag for flag in flags_of(command) if flag.group != INERT)


def _words() -> Mapping[str, str]:
    """What may come first, each with a sentence."""
    return {**{name: command.does for name, command in COMMANDS.items()}, **_GENERAL}


def _spelled(flag: Flag) -> list[str]:
    return [*([f"-{flag.short}"] if flag.short else []), flag.name]


def offered(words: Sequence[str]) -> tuple[list[str], bool]:
    """What may stand in the place of the last word, after the ones before it, and whether names of files may as well."""
    *before, begun = words
    command = COMMANDS.get(before[0]) if before else None
    if command is None:
        choice, files = list(_words() if not before else COMMANDS if before == ["help"] else ()), False
    elif found := [flag for flag in _flags(command.name) if before[-1] in _spelled(flag) and flag.kind_in(command.name) is not BOOL]:
        kind = found[0].kind_in(command.name)
        choice, files = list(kind.words), kind is FILE or kind in _FOLDERS
    elif begun.startswith("-"):
        choice, files = [flag.name for flag in _flags(command.name)], False
    else:
        choice, files = list(command.words), command.folders
    return [word for word in choice if word.startswith(begun)], files


def _summary(text: str) -> str:
    """The first sentence of a help text, without marks of code."""
    return text.replace("`", "").partition(". ")[0].removesuffix(".")


def _bash() -> str:
    """A function for `complete -F`. Bash splits `--flag=value` at "=", so that the flag stands two words before the value."""
    cases = [f'    "help "*) {_bash_words(" ".join(COMMANDS))} ;;']
    for command, what in COMMANDS.items():
        for flag in _flags(command):
            if (kind := flag.kind_in(command)) is not BOOL:
                before = "|".join(f'"{command} {name}"' for name in _spelled(flag))
                cases.append(f"    {before}) {_bash_values(kind)} ;;")
        names = " ".join(flag.name for flag in _flags(command))
        rest = _bash_found(" ".join([*(["-f"] if what.folders else []), f'-W "{" ".join(what.words)}"']))
        cases.append(f'    "{command} "*) case $word in -*) {_bash_words(names)} ;; *) {rest} ;; esac ;;')
    return "\n".join(
        (
            "_xds() {",
            "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}",
            '  if [ "$word" = "=" ]; then word=""; elif [ "$before" = "=" ]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi',
            "  COMPREPLY=()",
            f'  if [ "$COMP_CWORD" = 1 ]; then {_bash_words(" ".join(_words()))}; return; fi',
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
    lines += [f"    {_quoted(f'{name}:{_summary(does)}')}" for name, does in _words().items()]
    lines += ["  )", "  if (( CURRENT == 2 )); then _describe command commands; return; fi", "  case $words[2] in"]
    lines.append(f"    help) compadd {' '.join(COMMANDS)} ;;")
    for command, what in COMMANDS.items():
        specs = [*(_zsh_flag(name, flag, command) for flag in _flags(command) for name in _spelled(flag)), _zsh_rest(what)]
        lines += [
            f"    {command}) shift words; (( CURRENT-- )); _arguments \\",
            *(f"      {_quoted(spec)} \\" for spec in specs),
            "      ;;",
        ]
    lines += ["  esac", "}", 'if [ "$funcstack[1]" = "_xds" ]; then _xds "$@"; else compdef _xds xds; fi', ""]
    return "\n".join(lines)


def _zsh_rest(what: Command) -> str:
    """The words that are no flags."""
    listed = f"({' '.join(what.words)})"
    if what.folders and what.words:
        return f"*:word:{{_alternative {_quoted(f'words:word:{listed}')} files:file:_files}}"
    if what.folders:
        return "*:file:_files"
    return f"*:word:{listed}" if what.words else "*::word:"


def _zsh_flag(name: str, flag: Flag, command: str) -> str:
    kind = flag.kind_in(command)
    about = _summary(flag.does).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    if kind is BOOL:
        return f"{name}[{about}]"
    many, equals = "*" if kind.many else "", "=" if name == flag.name else ""
    files = "_files -/" if kind in _FOLDERS else "_files" if kind is FILE else ""
    values = f"({' '.join(kind.words)})" if kind.words else files
    return f"{many}{name}{equals}[{about}]:{kind.metavar.replace(':', ' ')}:{values}"


def _fish() -> str:
    """One line a command and a flag."""
    lines = ["complete -c xds -f"]
    for name, does in _words().items():
        lines.append(f"complete -c xds -n __fish_use_subcommand -a {name} -d {_fish_quoted(_summary(does))}")
    lines.append(f"complete -c xds -n '__fish_seen_subcommand_from help' -a '{' '.join(COMMANDS)}'")
    for command, what in COMMANDS.items():
        seen = f"-n '__fish_seen_subcommand_from {command}; and not __fish_seen_subcommand_from help'"
        if what.words:
            lines.append(f"complete -c xds {seen} -a '{' '.join(what.words)}'")
        if what.folders:
            lines.append(f"complete -c xds {seen} -F")
        lines += [f"complete -c xds {seen} {_fish_names(flag)}{_fish_values(flag, command)}" for flag in _flags(command)]
    return "\n".join((*lines, ""))


def _fish_names(flag: Flag) -> str:
    return f"-l {flag.name[2:]}" + (f" -s {flag.short}" if flag.short else "")


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

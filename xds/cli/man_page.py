"""The page that `man xds` shows, made from the same tables as the help texts.

`python -m xds.cli.man_page > docs/xds.1` generates it; the wheel installs it where man looks. What does not belong here: the texts of
commands and flags (`arguments.py`, `xds.config`). Source: man(7), groff_man(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from xds import __version__
from xds.cli.arguments import COMMANDS
from xds.cli.manual import EXIT_CODES, SIGNALS, TRACEBACK, default_of
from xds.config import ALL, INERT, Flag, flags

_ABOUT = "An Envoy management server for Kubernetes Ingress, the drop-in successor to ingress-nginx."
_WRITTEN = (
    "A value is written --flag VALUE or --flag=VALUE, a boolean --flag, --flag=true or --flag=false. Where a flag is not given, its "
    "environment variable counts: --http-port is XDS_HTTP_PORT. Durations are written as Go writes them: 500ms, 30s, 1m30s."
)


def page() -> str:
    """The page, in the man macros of roff."""
    lines = [
        f'.TH XDS 1 "" "xds {__version__}" "User Commands"',
        ".SH NAME",
        f"xds \\- {_text(_ABOUT[0].lower() + _ABOUT[1:].rstrip('.'))}",
    ]
    lines += [".SH SYNOPSIS", ".B xds", ".I COMMAND", "[flags]", ".SH COMMANDS"]
    for command in COMMANDS.values():
        lines += [".TP", f".B {_text(f'{command.name} {command.usage}'.strip())}", _text(command.does)]
    lines += [".SH FLAGS", _text(_WRITTEN)]
    members = flags()
    for group in dict.fromkeys(flag.group for flag in members if flag.group != INERT):
        lines += [f'.SS "{_text(group)}"', *(line for flag in members if flag.group == group for line in _flag(flag))]
    inert = ", ".join(flag.name for flag in members if flag.group == INERT)
    lines += [f'.SS "{_text(INERT)}"', _text(f"{inert}.")]
    lines += [".SH EXIT STATUS", *(line for code, what in EXIT_CODES for line in (".TP", f".B {code}", _text(what)))]
    lines += [".PP", _text(TRACEBACK)]
    return "\n".join([*lines, ".SH SIGNALS", _text(SIGNALS.replace("`", "")), ".SH SEE ALSO", ".BR kubectl (1)"]) + "\n"


def _flag(flag: Flag) -> Iterator[str]:
    short = f"-{flag.short}, " if flag.short else ""
    default = default_of(flag, "")
    takers = "" if flag.commands == ALL else f" For {', '.join(flag.commands)}."
    yield ".TP"
    yield f".B {_text(f'{short}{flag.name} {flag.kind.metavar}'.strip())}"
    yield _text(flag.does + (f" The default is {default}." if default else "") + takers)


def _text(text: str) -> str:
    """Text of which nothing is a request or an escape of roff. Hyphens are those that can be copied into a shell."""
    escaped = re.sub(r"\s+", " ", text).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    plain = re.sub(r"[^\x20-\x7e]", lambda found: f"\\[u{ord(found[0]):04X}]", escaped)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    print(page(), end="")

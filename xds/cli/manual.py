"""The manual of the command line, made from the table of settings: help texts, and docs/flags.md; and where docs/metrics.md comes from.

`python -m xds.cli.manual flags > docs/flags.md` generates the page; `metrics` does the same.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from xds.cli.arguments import COMMANDS, flags_of
from xds.config import ALL, INERT, RESERVED, Flag, Flags, flags
from xds.flag_kinds import BOOL

WIDTH = 100
"""Columns of a help text; where the terminal has fewer, it is narrower."""
_COLUMN = 36
_PAGE_WIDTH = 140
EXIT_CODES = (
    ("0", "Done."),
    ("1", "Not done, or errors were found; standard error has the reason."),
    ("2", "Wrong usage."),
    ("130", "Ctrl-C (SIGINT) while a command worked."),
    ("141", "The reader of standard output has closed it."),
)
"""What commands end with, and what it means."""
TRACEBACK = "With XDS_TRACEBACK=1 in the environment an internal error shows its traceback."
SIGNALS = (
    "`xds serve` and `xds up` end in order, and with 0, at SIGTERM, SIGINT (Ctrl-C) or SIGHUP (a terminal that is closed); `xds up` ends "
    "its Envoy too, and on Linux Envoy ends as well where `xds up` itself is killed. They serve on for `--shutdown-grace-period` before; a "
    "second signal cuts that short. `xds authz` and `xds metrics` end at the same signals, with 0. Under `nohup` SIGHUP is ignored. "
    "Nothing needs a signal to be read again: files, certificates and folders are followed."
)


def overview(width: int = WIDTH) -> str:
    """What `xds help` prints: the commands."""
    lines = ["An Envoy management server for Kubernetes Ingress.", "", "Usage: xds COMMAND [flags]", ""]
    for command in COMMANDS.values():
        lines += _entry(f"  {command.name} {command.usage}".rstrip(), command.does, min(48, width // 2), width)
    flags_text = "Flags are written --flag value or --flag=value. `xds COMMAND --help` shows those of a command; each is an"
    return "\n".join([*lines, "", *textwrap.wrap(f"{flags_text} environment variable as well: --http-port is XDS_HTTP_PORT.", width)])


def command_help(command: str, width: int = WIDTH) -> str:
    """What `xds COMMAND --help` prints. Flags without effect are only named."""
    what = COMMANDS[command]
    usage = f"Usage: xds {command} {what.usage}".rstrip() + " [flags]"
    lines = [*textwrap.wrap(usage, width, subsequent_indent="  ", break_on_hyphens=False), "", *textwrap.wrap(what.does, width)]
    for group, members in _grouped(flags_of(command)):
        lines += ["", f"{group}:"]
        if group == INERT:
            names = textwrap.wrap(", ".join(flag.name for flag in members), width - 2, break_on_hyphens=False)
            lines += [f"  {line}" for line in [*names, "(docs/flags.md has the reasons)"]]
            continue
        for flag in members:
            default = default_of(flag, command)
            kind = flag.kind_in(command)
            shown = "" if not default or (kind is BOOL and default == "false") else f" (default {default})"
            short = f"-{flag.short}, " if flag.short else ""
            lines += _entry(f"  {short}{flag.name} {kind.metavar}".rstrip(), flag.does + shown, _COLUMN, width)
    return "\n".join(lines)


def flags_page() -> str:
    """The page docs/flags.md."""
    lines = [
        "# Flags",
        "",
        "This page is made from the table in `xds/config.py` by `python -m xds.cli.manual flags > docs/flags.md`.",
        "",
        "A value is written `--flag value` or `--flag=value`; a boolean `--flag`, `--flag=true` or `--flag=false`. One dash does as well",
        "as two, and `_` as well as `-`. Where a flag is not given, its environment variable counts; an empty variable counts as none.",
        "`XDS_MANIFESTS` has a `:` between folders, `XDS_FROM` and `XDS_TO` have a space between URLs. Durations are written as Go writes",
        "them: `500ms`, `30s`, `1m30s`.",
        "",
        "Flags that ingress-nginx has keep their names and defaults. Names that neither it nor this page knows end with exit code 2.",
    ]
    lines += ["", "## Exit codes and signals", "", *_table(["exit code", "what it means"]), *(_row([*each]) for each in EXIT_CODES)]
    lines += ["", TRACEBACK, "", *textwrap.wrap(SIGNALS, _PAGE_WIDTH, break_on_hyphens=False)]
    for group, members in _grouped(flags()):
        lines += ["", f"## {group}", ""]
        if group == INERT:
            lines += ["These flags of ingress-nginx are read and checked; each that is given is answered by a line on standard error.", ""]
            lines += _table(["flag", "environment variable", "default", "why it has no effect"])
            lines += [_row([*_names(flag), flag.no_effect]) for flag in members]
        else:
            lines += _table(["flag", "environment variable", "default", "what it does", "commands"])
            lines += [_row([*_names(flag), _does(flag), _takers(flag)]) for flag in members]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """docs/metrics.md: what a control plane has in its registry. Imported here, for help needs no server."""
    from xds.app import ControlPlane
    from xds.web.page import page

    return page(ControlPlane(Flags(manifests=(Path(),))).registry)


def _grouped(members: Iterable[Flag]) -> Iterator[tuple[str, list[Flag]]]:
    """Flags by group; the table has those of a group together."""
    for group, flags_in_group in itertools.groupby(members, key=lambda flag: flag.group):
        yield group, list(flags_in_group)


def _table(titles: list[str]) -> list[str]:
    return [_row(titles), "|" + "---|" * len(titles)]


def _row(cells: list[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _names(flag: Flag) -> list[str]:
    short = f", `-{flag.short}`" if flag.short else ""
    metavar = f" {flag.kind.metavar}" if flag.kind.metavar else ""
    defaults = [_code(default_of(flag, ""))]
    defaults += [f"{_code(default_of(flag, command))} in `xds {command}`" for command in flag.instead]
    return [f"`{flag.name}{metavar}`{short}", _code(flag.variable), ", ".join(filter(None, defaults))]


def _does(flag: Flag) -> str:
    return flag.does + (" Kept free of tcp-services and udp-services." if flag.reserves and flag.group != RESERVED else "")


def _takers(flag: Flag) -> str:
    return "all" if flag.commands == ALL else ", ".join(flag.commands)


def default_of(flag: Flag, command: str) -> str:
    """The default of a flag in a command ("" for what holds in most), in words; "" where there is none."""
    default: str = flag.kind_in(command).show(flag.default_in(command))
    if flag.with_manifests is not None:
        return f"{default}, but {flag.kind.show(flag.with_manifests)} with --manifests"
    return ", else ".join([*(f"${variable}" for variable in flag.fallbacks), default])


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _entry(head: str, text: str, column: int, width: int) -> list[str]:
    """A name and, in a column of its own, what it is."""
    body = textwrap.wrap(text, width - column, break_on_hyphens=False)
    if len(head) > column - 2:
        return [head, *(" " * column + line for line in body)]
    return [f"{head:<{column}}{body[0]}", *(" " * column + line for line in body[1:])]


PAGES: dict[str, Callable[[], str]] = {"flags": flags_page, "metrics": metrics_page}
"""What can be written, by the name of its file in docs/."""

if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")

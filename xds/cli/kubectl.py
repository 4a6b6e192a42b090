"""`kubectl xds …`: the same commands as a plugin of kubectl. What asks a running server is asked in the server's own pod.

What belongs here: which words are kubectl's, which commands are carried into the pod, and how. kubectl finds the program by its name,
kubectl-xds, on the PATH, and passes on what follows "xds". Source: Kubernetes, Extend kubectl with plugins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from xds import cli
from xds.addresses import DASHBOARD_ADDRESS, parse_address
from xds.cli.completion import offered
from xds.config import Failure

Option = tuple[str, str]
"""An option of kubectl by its long name, and its value."""
NAMESPACE, DEPLOYMENT = "ingress-xds", "xds"
"""Where the overlays, and the chart as docs/install.md has it, put the management server."""
_EVERYWHERE = "--all-namespaces"
_SHORT = {"-n": "--namespace", "-s": "--server", "-A": _EVERYWHERE}
_SWITCHES = (_EVERYWHERE, "--disable-compression", "--insecure-skip-tls-verify", "--match-server-version", "--warnings-as-errors")
_VALUED = (
    *("--namespace", "--context", "--kubeconfig", "--kuberc", "--cluster", "--user", "--server", "--tls-server-name", "--request-timeout"),
    *("--as", "--as-group", "--as-uid", "--as-user-extra", "--token", "--username", "--password", "--cache-dir"),
    *("--certificate-authority", "--client-certificate", "--client-key", "--deployment"),
)
"""What every command of kubectl takes (`kubectl options`), and `--deployment` for a server of another name."""
_REPEATED = ("--as-group", "--as-user-extra")
"""Those of them that kubectl takes several times; of others the last one counts."""
_ASKING = ("status", "history")
_ABOUT = """
As a plugin of kubectl: status, history, check --live, explain URL live and dashboard ask the management server in its pod,
deployment/xds in the namespace ingress-xds, or what --deployment and -n name. They take the options of kubectl (--context,
--kubeconfig, …), in front and behind. Everything else runs here.
"""


def main() -> int:
    """Replace this process by kubectl where a running server is asked, else run the command here; returns its exit code."""
    given, words = split(sys.argv[1:])
    if words[:1] in ([], ["help"], ["--help"], ["-h"]):
        code = cli.main(words)
        print(_ABOUT if len(words) < 2 else "", end="")
        return code
    behind, rest = split(words, behind=True)
    if rest == ["dashboard"]:
        return _open_dashboard([*given, *behind])
    if not asks_a_server(rest):
        return cli.main(words) if not given else _refuse(given[0][0], words[0])
    command = carried([*given, *behind], rest)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted: the words go on as they are
    except OSError as error:
        print(f"kubectl xds: kubectl cannot be started: {error.strerror}.", file=sys.stderr)
        return 1


def complete() -> int:
    """Print what may stand in the place of the last word, as kubectl wants it of a plugin; returns the exit code.

    kubectl calls `kubectl_complete-xds` with what follows "xds". The last line is ":0" where names of files may stand there too, else ":4".
    Source: Kubernetes, kubectl plugins; cobra's ShellCompDirective.
    """
    *before, begun = sys.argv[1:] or [""]
    words, files = offered([*split(before, behind=True)[1], begun])
    print("\n".join([*words, f":{0 if files else 4}"]))
    return 0


def split(words: Sequence[str], *, behind: bool = False) -> tuple[list[Option], list[str]]:
    """The options of kubectl in front of the command, or `behind` it, by their long names, and all other words.

    `--all-namespaces` is one that changes nothing: a server is asked about all of its namespaces.
    """
    rest = list(words)
    given: list[Option] = []
    other: list[str] = []
    while rest:
        name, value = _option(rest[0])
        if name in _SWITCHES:
            given += [(name, "true" if value is None else value)] if name != _EVERYWHERE else []
        elif name in _VALUED and (value is not None or len(rest) > 1):
            given.append((name, rest.pop(1) if value is None else value))
        elif behind and rest[0] != "--":
            other.append(rest[0])
        else:
            break
        rest.pop(0)
    return given, other + rest


def _option(word: str) -> tuple[str, str | None]:
    """An option by its long name, and the value that the same word has: `--namespace=edge`, `-n=edge`, `-nedge`."""
    if (long := _SHORT.get(word[:2])) and word[2:]:
        return long, word[2:].removeprefix("=")
    name, equals, value = word.partition("=")
    return _SHORT.get(name, name), value if equals else None


def _refuse(option: str, command: str) -> int:
    """An option that names a cluster must not be ignored: another one would be asked, or none."""
    print(f"kubectl xds: {option} has no effect on {command}, which runs here and not in the server's pod.", file=sys.stderr)
    return 2


def asks_a_server(words: Sequence[str]) -> bool:
    """Whether a command asks a running server, and does not itself name where that is."""
    if not words or any(word.partition("=")[0] in ("--debug-address", "--help", "-h") for word in words):
        return False
    command, *rest = words
    return command in _ASKING or (command == "check" and "--live" in rest) or (command == "explain" and "live" in rest[1:])


def carried(given: Iterable[Option], words: Sequence[str]) -> list[str]:
    """The call of kubectl that runs a command beside the server."""
    return [*called(given, "exec"), "--", "xds", *words]


def called(given: Iterable[Option], verb: str) -> list[str]:
    """The beginning of a call of kubectl about the server's pod."""
    options = [("--namespace", NAMESPACE), *given]
    last = dict(options)
    own = [(name, last[name]) for name in last if name not in _REPEATED] + [each for each in options if each[0] in _REPEATED]
    place = f"deployment/{last.get('--deployment', DEPLOYMENT)}"
    return ["kubectl", *(f"{name}={value}" for name, value in own if name != "--deployment"), verb, place]


def _open_dashboard(given: Iterable[Option]) -> int:
    """A browser is here, not in the pod."""
    from xds.cli import dashboard

    try:
        return dashboard.forwarded(dashboard.port_forward(given, parse_address(DASHBOARD_ADDRESS).port))
    except Failure as error:
        print(f"kubectl xds: {error}", file=sys.stderr)
        return 1

"""`kubectl xds …`: the same commands as a plugin of kubectl. What asks a running server is asked in the server's own pod.

What belongs here: which words are kubectl's, which commands are carried into the pod, and how. kubectl finds the program by its name,
kubectl-xds, on the PATH, and passes on what follows "xds". Source: Kubernetes, Extend kubectl with plugins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from xds import cli
from xds.config import DASHBOARD_ADDRESS, Failure, parse_address

NAMESPACE, DEPLOYMENT = "ingress-xds", "xds"
"""Where the overlays, and the chart as docs/install.md has it, put the management server."""
_VALUED = ("-n", "--namespace", "--context", "--kubeconfig", "--cluster", "--user", "--deployment")
"""Flags that may stand in front of the command: kubectl's own, and `--deployment` for a server of another name."""
_ASKING = ("status", "history")


def main() -> int:
    """Replace this process by kubectl where a running server is asked, else run the command here; returns its exit code."""
    given, words = split(sys.argv[1:])
    if words == ["dashboard"]:
        return _open_dashboard(given)
    if not asks_a_server(words):
        return cli.main(words)
    command = carried(given, words)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted: the words go on as they are
    except OSError as error:
        print(f"kubectl xds: kubectl cannot be started: {error.strerror}.", file=sys.stderr)
        return 1


def split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The flags in front of the command, by name, and the command with all that follows it."""
    rest, given = list(words), {}
    while rest:
        name, equals, value = rest[0].partition("=")
        if name not in _VALUED or (not equals and len(rest) == 1):
            break
        given["--namespace" if name == "-n" else name] = value if equals else rest.pop(1)
        rest.pop(0)
    return given, rest


def asks_a_server(words: Sequence[str]) -> bool:
    """Whether a command asks a running server, and does not itself name where that is."""
    if not words or any(word.partition("=")[0] in ("--debug-address", "--help", "-h") for word in words):
        return False
    command, *rest = words
    return command in _ASKING or (command == "check" and "--live" in rest) or (command == "explain" and "live" in rest[1:])


def carried(given: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """The call of kubectl that runs a command beside the server."""
    return [*called(given, "exec"), "--", "xds", *words]


def called(given: Mapping[str, str], verb: str) -> list[str]:
    """The beginning of a call of kubectl about the server's pod."""
    own = {"--namespace": NAMESPACE, **{name: value for name, value in given.items() if name != "--deployment"}}
    place = f"deployment/{given.get('--deployment', DEPLOYMENT)}"
    return ["kubectl", *(f"{name}={value}" for name, value in own.items()), verb, place]


def _open_dashboard(given: Mapping[str, str]) -> int:
    """A browser is here, not in the pod."""
    from xds.cli import dashboard

    try:
        return dashboard.forwarded(dashboard.port_forward(given, parse_address(DASHBOARD_ADDRESS).port))
    except Failure as error:
        print(f"kubectl xds: {error}", file=sys.stderr)
        return 1

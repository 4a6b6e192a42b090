"""From the command line to Flags: flags in the form of Go programs, then the environment, then the rules between flags.

What belongs here: the commands and what they take, reading words, and the sentences for what cannot be. What does not belong here:
what a flag is called, means and defaults to (`xds.config`), and everything that opens a file or a socket.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from xds.addresses import LONGEST_SOCKET_PATH, PRIVATE, RUNNING, SocketAddress, parse_address, parse_origin
from xds.config import LIVE, RUN, Flag, Flags, UsageError, flags, has_dashboard
from xds.flag_kinds import BOOL, FILE, FOLDER, FOLDERS, OBJECT, PORT, Kind, parse_bool
from xds.request_metrics import unknown_metrics


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `xds`. `usage` is what follows its name; `folders`: it takes folders of manifests without a flag as well.

    `words` are what else it takes that is no flag, as far as that is known beforehand.
    """

    name: str
    usage: str
    does: str
    folders: bool = False
    words: tuple[str, ...] = ()


SHELLS = ("bash", "zsh", "fish")
"""The shells that `xds completion` knows."""
_OBJECTS = {"ingress": 2, "configmap": 3}
"""The kinds of objects that `xds status` takes, and the number of words for each."""
_COMMANDS = (
    Command("up", "[DIR …]", "Run the management server together with a local Envoy. Ctrl-C stops both.", folders=True),
    Command("serve", "--manifests DIR … | --kubeconfig FILE", "Run the management server; in a pod, from the API server of its cluster."),
    Command("bootstrap", "[--xds-address ADDRESS]", "Print the bootstrap with which an Envoy finds the management server."),
    Command(
        "authz",
        "[--authz-address SOCKET]",
        "Run the authorisation service beside an Envoy: it verifies passwords, and gets password files from the management server.",
    ),
    Command(
        "metrics",
        "[--stats-address SOCKET]",
        "Serve the metrics of requests that an Envoy counts, under the names that they have in ingress-nginx, beside that Envoy.",
    ),
    Command("certgen", "", "Make the certificates of xDS in a cluster as Secrets, and renew those that end soon."),
    Command("translate", "DIR … | FILE … | -", "Print the Envoy resources that manifests become.", folders=True),
    Command(
        "check",
        "DIR … | FILE … | - | --live",
        "Report what will not work as written; exit code 1 if there is an error. `-` is standard input: helm template CHART | xds check -",
        folders=True,
    ),
    Command(
        "explain",
        "URL [DIR … | FILE … | - | live]",
        "Show which Ingress, rule, Service and endpoints answer a URL, and why.",
        folders=True,
        words=("live",),
    ),
    Command(
        "rehearse",
        "--from URL --to URL DIR … | FILE … | - | --kubeconfig FILE",
        "Ask ingress-nginx and our Envoy for the same, and report where their answers differ, by cause; exit code 1 where a difference is "
        "not a known one.",
        folders=True,
    ),
    Command(
        "status",
        "[ingress NAMESPACE/NAME | configmap NAMESPACE/NAME PORT]",
        "Show which Envoys are connected, what each has accepted, and what was rejected. For an Ingress, or an entry of the tcp-services "
        "or udp-services ConfigMap, show on which Envoys it is in effect as it is now.",
        words=tuple(_OBJECTS),
    ),
    Command("history", "", "Show the last changes: what caused them, what they touched, how long they took, and who rejected them."),
    Command(
        "dashboard",
        "[cluster]",
        "Open the page of the fleet in a browser; with `cluster` that of the management server in a cluster, through kubectl port-forward.",
        words=("cluster",),
    ),
    Command(
        "completion", "bash | zsh | fish", "Print a script with which a shell completes commands, flags and their values.", words=SHELLS
    ),
)
COMMANDS: Mapping[str, Command] = {command.name: command for command in _COMMANDS}


class Parsed(NamedTuple):
    """`positional` are the words that are no flags, as typed.

    The folders among them are in `settings.manifests` too. `notices` are sentences.
    """

    settings: Flags
    positional: tuple[str, ...]
    notices: tuple[str, ...]


class _Given(NamedTuple):
    """A value, and the name that it was given by: a flag as it was typed, or an environment variable."""

    by: str
    value: Any


def parse(command: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Parsed:
    """The settings for a command, from the words after its name and from the environment; flags win.

    Raises UsageError, with one sentence, for everything that cannot be. `command` is a key of COMMANDS.
    """
    given, positional = _read_words(command, arguments)
    if any(given[word].value for word in ("help", "version") if word in given):
        return Parsed(_settings(command, given, {}), positional, ())
    _place_folders(command, given, positional)
    _read_environment(command, given, environment)
    settings = _settings(command, given, environment)
    _check(command, settings, given, environment)
    return Parsed(settings, positional, tuple(_notices(command, settings, given)))


@functools.cache
def flags_of(command: str) -> tuple[Flag, ...]:
    """The flags that a command takes, in the order of the table."""
    return tuple(flag for flag in flags() if command in flag.commands)


@functools.cache
def _by_name(command: str) -> Mapping[str, Flag]:
    """Names without leading dashes; `_` and `-` mean the same in them, as klog's flags are written with `_`."""
    names = {flag.name.lstrip("-"): flag for flag in flags_of(command)}
    return names | {flag.short: flag for flag in flags_of(command) if flag.short}


def _read_words(command: str, arguments: Sequence[str]) -> tuple[dict[str, _Given], tuple[str, ...]]:
    """The values of flags, by field, and the other words. A later value replaces an earlier one, unless a flag takes many."""
    given: dict[str, _Given] = {}
    positional: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            positional.extend(words)
        elif word == "-" or not word.startswith("-"):
            positional.append(word)
        else:
            flag, text = _read_flag(command, word)
            if text is None:
                text = "true" if flag.kind is BOOL else next(words, None)
            by = word.partition("=")[0]
            if text is None:
                raise UsageError(f"{by} needs a value: {flag.kind_in(command).expects}.")
            value = _value(command, flag, by, text)
            if flag.kind.many and flag.field in given:
                value = given[flag.field].value + value
            given[flag.field] = _Given(by, value)
    return given, tuple(positional)


def _read_flag(command: str, word: str) -> tuple[Flag, str | None]:
    """The flag that a word names and the value that the word itself holds: `--flag=value`, or `-v2` for a flag of one letter."""
    names = _by_name(command)
    body = word.removeprefix("-").removeprefix("-")
    name, equals, text = body.partition("=")
    flag = names.get(name.replace("_", "-"))
    if flag is not None:
        return flag, text if equals else None
    letter = names.get(body[:1])
    if letter is not None and not word.startswith("--") and letter.kind is not BOOL:
        try:
            letter.kind_in(command).parse(body[1:])
        except ValueError:
            pass
        else:
            return letter, body[1:]
    raise UsageError(_unknown(command, word.partition("=")[0], name))


def _unknown(command: str, by: str, name: str) -> str:
    elsewhere = next((flag for flag in flags() if flag.name == f"--{name.replace('_', '-')}"), None)
    if elsewhere is not None:
        takers = ", ".join(f"xds {taker}" for taker in elsewhere.commands)
        return f"{by} is no flag of xds {command}; it belongs to {takers}."
    near = difflib.get_close_matches(name[:60], [flag.name.lstrip("-") for flag in flags_of(command)], n=1)
    hint = f"did you mean --{near[0]}?" if near else f"`xds {command} --help` lists its flags."
    return f"unknown flag {_quoted(by)}; {hint}"


def _value(command: str, flag: Flag, by: str, text: str) -> Any:
    kind = flag.kind_in(command)
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text) and kind not in _FILES:
        raise UsageError(f"{by}: {_quoted(text)} is not UTF-8.")
    try:
        return kind.parse(text)
    except ValueError:
        raise UsageError(f"{by}: {_quoted(text)} is not {kind.expects}.") from None


_FILES: tuple[Kind[Any], ...] = (FILE, FOLDER, FOLDERS)
"""Their names are bytes to the system; everything else ends in messages, whose strings are UTF-8."""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://")


def _read_environment(command: str, given: dict[str, _Given], environment: Mapping[str, str]) -> None:
    """Add what only the environment gives. An empty variable counts as none; folders have `:` between them.

    For a Service called xds-http the kubelet sets XDS_HTTP_PORT=tcp://… in every pod of its namespace: that is no setting.
    """
    for flag in flags_of(command):
        text = environment.get(flag.variable, "")
        if flag.field in given or not text or (flag.kind is PORT and _SERVICE_LINK.match(text)):
            continue
        if flag.kind.many:
            values = [_value(command, flag, flag.variable, part) for part in text.split(flag.kind.between) if part]
            given[flag.field] = _Given(flag.variable, tuple(itertools.chain.from_iterable(values)))
        else:
            given[flag.field] = _Given(flag.variable, _value(command, flag, flag.variable, text))


def _place_folders(command: str, given: dict[str, _Given], positional: tuple[str, ...]) -> None:
    """Check the words that are no flags, and add the folders among them to those of --manifests."""
    folders = positional[1:] if command == "explain" else positional
    if command == "explain" and not positional:
        raise UsageError("name a URL, as in `xds explain http://example.com/ ./manifests`.")
    if command == "explain" and folders == ("live",):
        return
    if command == "status":
        _check_object(positional)
        return
    if command == "completion":
        _check_shell(positional)
        return
    if command == "dashboard" and positional in ((), ("cluster",)):
        return
    if folders and not COMMANDS[command].folders:
        raise UsageError(_stray(command, folders[0]))
    if "" in folders:
        raise UsageError("the name of a folder is empty.")
    if folders:
        paths = tuple(Path(folder) for folder in folders)
        before = given["manifests"].value if "manifests" in given else ()
        given["manifests"] = _Given(given["manifests"].by if before else "DIR", before + paths)


def _check_object(words: tuple[str, ...]) -> None:
    """Check the words that name an object, if there are any."""
    if not words:
        return
    kind, *rest = words
    if kind not in _OBJECTS:
        raise UsageError(_stray("status", kind))
    example = "`xds status ingress default/web`" if kind == "ingress" else "`xds status configmap ingress-xds/xds-tcp-services 5432`"
    if len(words) != _OBJECTS[kind]:
        raise UsageError(f"{_quoted(' '.join(words))} is not one object; name it as in {example}.")
    try:
        found = OBJECT.parse(rest[0])
    except ValueError:
        found = ""
    if not found:
        raise UsageError(f"{_quoted(rest[0])} is not {OBJECT.expects}.")


def _check_shell(words: tuple[str, ...]) -> None:
    """Check the one word that names a shell."""
    if len(words) != 1 or words[0] not in SHELLS:
        raise UsageError(f"name a shell, one of {', '.join(SHELLS)}, as in `source <(xds completion bash)`.")


def _stray(command: str, word: str) -> str:
    try:
        parse_bool(word)
    except ValueError:
        hint = "folders are named with --manifests" if command == "serve" else f"`xds {command} --help` lists its flags"
    else:
        hint = "true and false are joined to their flag by =, as in --update-status=false"
    return f"{_quoted(word)} is no argument of xds {command}; {hint}."


def _settings(command: str, given: Mapping[str, _Given], environment: Mapping[str, str]) -> Flags:
    values = {}
    for flag in flags_of(command):
        if flag.field in given:
            values[flag.field] = given[flag.field].value
        elif flag.with_manifests is not None and "manifests" in given:
            values[flag.field] = flag.with_manifests
        else:
            values[flag.field] = _fallback(command, flag, environment)
    return dataclasses.replace(Flags(), **values)


def _fallback(command: str, flag: Flag, environment: Mapping[str, str]) -> Any:
    """The default. An invalid variable of the system is ignored: it was not set for this program."""
    for variable in flag.fallbacks:
        try:
            return flag.kind_in(command).parse(environment[variable])
        except (KeyError, ValueError):
            continue
    return flag.default_in(command)


_EXCLUSIVE = (
    ("watch_namespace", "watch_namespace_selector"),
    ("publish_service", "publish_status_address"),
    ("manifests", "kubeconfig"),
    ("manifests", "apiserver_host"),
    ("live", "manifests"),
)


def _check(command: str, settings: Flags, given: Mapping[str, _Given], environment: Mapping[str, str]) -> None:
    """What must hold between flags; raises UsageError."""
    for one, other in _EXCLUSIVE:
        if getattr(settings, one) and getattr(settings, other):
            raise UsageError(f"{given[one].by} and {given[other].by} exclude each other.")
    _check_source(command, settings, environment)
    _check_webhook(command, settings)
    if command == "rehearse":
        _check_sides(settings)
    _check_sockets(settings, given)
    _check_ports(command, settings)
    if command in ("up", "serve", "bootstrap"):
        _check_xds_address(command, settings)


def _check_source(command: str, settings: Flags, environment: Mapping[str, str]) -> None:
    if command not in ("up", "serve", "translate", "check", "certgen", "rehearse"):
        return
    if settings.manifests or settings.live:
        return
    if command not in LIVE:
        if command == "up":
            raise UsageError(
                "name a folder of manifests, as in `xds up ./manifests`; the objects of an API server are served by `xds serve`."
            )
        raise UsageError(f"name a folder or a file of manifests, as in `xds {command} ./manifests`, or - for standard input.")
    if settings.kubeconfig or settings.apiserver_host or "KUBERNETES_SERVICE_HOST" in environment:
        return
    if command == "certgen":
        raise UsageError("name an API server with --kubeconfig; this process does not run in a pod.")
    example = "xds serve --manifests ./manifests" if command == "serve" else f"xds {command} ./manifests"
    raise UsageError(f"name a folder of manifests, as in `{example}`, or an API server with --kubeconfig.")


def _check_webhook(command: str, settings: Flags) -> None:
    """An API server asks over https only."""
    files = settings.validating_webhook_certificate and settings.validating_webhook_key
    if command in RUN and settings.validating_webhook and not files:
        raise UsageError("--validating-webhook needs --validating-webhook-certificate and --validating-webhook-key.")


_STANDARD_INPUT = {Path("-"), Path("/dev/stdin")}


def _check_sides(settings: Flags) -> None:
    """Both sides are asked by the same schemes, one address each."""
    schemes = []
    for name, given in (("--from", settings.from_), ("--to", settings.to)):
        found = [parse_origin(each).scheme for each in given]
        if not found:
            raise UsageError(f"{name} is missing; name an address, as in {name} http://10.0.0.5:80.")
        if len(set(found)) < len(found):
            raise UsageError(f"{name} has two addresses for one scheme; give one for http, and one for https.")
        schemes.append(set(found))
    if schemes[0] != schemes[1]:
        raise UsageError("--from and --to have different schemes; give both an address for http, or for https, or for each.")
    if set(settings.from_) == set(settings.to):
        raise UsageError("--from and --to are the same.")
    if settings.access_log in _STANDARD_INPUT and not _STANDARD_INPUT.isdisjoint(settings.manifests):
        raise UsageError("the objects and the access log cannot both be standard input; put one of them into a file.")


def _check_sockets(settings: Flags, given: Mapping[str, _Given]) -> None:
    """The path of a Unix socket has a limit of the kernel."""
    for field in ("xds_address", "debug_address", "admin_address", "probe_address", "authz_address"):
        length = len(os.fsencode(getattr(settings, field).removeprefix("unix:")))
        if field in given and length > LONGEST_SOCKET_PATH and getattr(settings, field).startswith("unix:"):
            raise UsageError(f"{given[field].by}: the path has {length} bytes, and that of a Unix socket may have {LONGEST_SOCKET_PATH}.")


def _check_ports(command: str, settings: Flags) -> None:
    """No two listeners on one port of one machine. `serve` runs beside no Envoy, so its ports and Envoy's do not meet."""
    traffic = [("--http-port", SocketAddress(settings.listen_address, settings.http_port))]
    traffic += [("--https-port", SocketAddress(settings.listen_address, settings.https_port))]
    own = [("--healthz-port", SocketAddress(settings.healthz_host or "::", settings.healthz_port))]
    own += _named("--xds-address", settings.xds_address) + _named("--debug-address", settings.debug_address)
    own += _named("--dashboard-address", settings.dashboard_address) + _named("--validating-webhook", settings.validating_webhook)
    admin = _named("--admin-address", settings.admin_address)
    probe = _named("--probe-address", settings.probe_address)
    together = {"up": [traffic + own + admin], "serve": [traffic, own], "bootstrap": [admin + probe]}.get(command, [])
    for group in together:
        for (one, here), (other, there) in itertools.combinations(group, 2):
            if _collide(here, there):
                raise UsageError(f"{one} and {other} are both {here.path or here.port}; each needs its own.")


def _named(flag: str, address: str) -> list[tuple[str, SocketAddress]]:
    """The address of a flag; none where it is off, or a socket of its own kind."""
    return [(flag, parse_address(address))] if address not in ("", PRIVATE, RUNNING) else []


def _collide(one: SocketAddress, other: SocketAddress) -> bool:
    if one.path or other.path:
        return one.path == other.path
    every = ("::", "0.0.0.0")  # noqa: S104 - compared, not bound
    return one.port == other.port != 0 and (one.host == other.host or one.host in every or other.host in every)


def _check_xds_address(command: str, settings: Flags) -> None:
    """Secrets travel over it, so beyond this machine both sides must prove who they are (xDS rules I4, I6)."""
    if settings.xds_address == PRIVATE:
        return
    address = parse_address(settings.xds_address)
    tls = (settings.xds_tls_cert, settings.xds_tls_key, settings.xds_tls_ca)
    if any(tls) and not all(tls):
        raise UsageError("--xds-tls-cert, --xds-tls-key and --xds-tls-ca go together: give all three or none.")
    if command == "bootstrap":
        if not address.path and (address.port == 0 or address.host in ("::", "0.0.0.0")):  # noqa: S104 - refused, not bound
            raise UsageError(f"--xds-address: {address} is not where an Envoy can find a server; name its host and port.")
        if any(tls) and not (settings.xds_server_name or address.host):
            raise UsageError(
                "--xds-server-name is needed: an --xds-address that is a Unix socket has no host to compare with a certificate."
            )
    elif not address.loopback and command == "up":
        raise UsageError(f"--xds-address: {address} reaches beyond this machine, and xds up serves its own Envoy only; see xds serve.")
    elif not address.loopback and not all(tls):
        raise UsageError(
            f"--xds-address: {address} reaches beyond this machine; that needs --xds-tls-cert, --xds-tls-key and --xds-tls-ca."
        )


def _notices(command: str, settings: Flags, given: Mapping[str, _Given]) -> Iterator[str]:
    """A sentence for each given flag that has no effect, and for each dangerous one."""
    for flag in flags_of(command):
        if flag.field not in given:
            continue
        if flag.no_effect:
            yield f"{given[flag.field].by} has no effect: {flag.no_effect}"
        elif flag.reports and settings.manifests:
            yield f"{given[flag.field].by} has no effect with {given['manifests'].by}: there is no API server to write to."
    if command in RUN and settings.dashboard_address and not has_dashboard(settings):
        address = settings.dashboard_address
        yield f"--dashboard-address: {address} reaches beyond this machine, so there is no dashboard: --dashboard-names is not given."
    if command in RUN and (unknown := unknown_metrics(settings.exclude_socket_metrics)):
        yield f"--exclude-socket-metrics: there is no request metric named {unknown[0][:80]!r}; docs/metrics.md has their names."
    if settings.allowed_endpoints and settings.manifests:
        by, folder = given["allowed_endpoints"].by, given["manifests"].by
        yield f"{by} has no effect with {folder}: there all endpoints are allowed but our own sockets, from which nothing is excepted."
    if command == "bootstrap" and not settings.xds_tls_ca and not parse_address(settings.xds_address).loopback:
        yield f"--xds-address: without --xds-tls flags keys are sent to {settings.xds_address} in plaintext, which xds serve refuses."
    if command == "bootstrap" and settings.xds_tls_ca and not settings.output_dir:
        yield "Envoy reads the files of the --xds-tls flags once, when it starts; with --output-dir it follows their renewal."

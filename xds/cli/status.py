"""`xds status`: the fleet, and how far an object is, asked of a running management server."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from xds.cli.arguments import Parsed
from xds.cli.live import ask
from xds.cli.printing import columns, plural, show, show_json, text
from xds.config import Flags, UsageError
from xds.debug import v1
from xds.debug.documents import STATUS_VERSION, fleet_document, programmed_document, short, with_beside
from xds.json_forms import Json

_KINDS = {"ingress": "Ingress", "configmap": "ConfigMap"}
_SEVERITIES = {v1.Severity.ERROR: "errors", v1.Severity.WARNING: "warnings", v1.Severity.NOTE: "notes"}


def run(parsed: Parsed) -> int:
    """Print the fleet; or how far an object is, and then 1 where not every Envoy has it. Raises Failure where there is no response."""
    settings = parsed.settings
    if not parsed.positional:
        if settings.wait or settings.resource_version:
            raise UsageError("--wait and --resource-version are about one object; name it, as in `xds status ingress default/web --wait`.")
        found = _fleet(settings.debug_address)
        _print(found, _fleet_lines(found), settings)
        return 0
    found = _object(settings, *parsed.positional)
    _print(found, _object_lines(found), settings)
    return 0 if found["programmed"] else 1


def _print(found: Json, lines: Iterator[Text], settings: Flags) -> None:
    if settings.output == "json":
        show_json(found)
    else:
        show(lines)


# The fleet


def _fleet(address: str) -> Json:
    """Everything about the fleet that one replica knows."""
    fleet = ask(address, "Fleet", v1.FleetRequest(), v1.FleetResponse)
    problems = ask(address, "Problems", v1.ProblemsRequest(), v1.ProblemsResponse).problems
    unfinished: list[v1.ProgrammedResponse] = []
    if fleet.ready:
        unfinished = ask(address, "ListProgrammed", v1.ListProgrammedRequest(unfinished=True), v1.ListProgrammedResponse).objects
    return fleet_document(fleet) | {
        "unfinished": [programmed_document(found) for found in unfinished],
        "problems": {name: sum(p.severity is severity for p in problems) for severity, name in _SEVERITIES.items()},
    }


def _fleet_lines(found: Json) -> Iterator[Text]:
    state = ("serving", "green") if found["ready"] else ("not serving yet", "yellow")
    yield text(f"xds {found['xds']} on {found['replica']}: ", state)
    for sentence in found["waiting"]:
        yield text("  ", sentence)
    for kind, seconds in found["staleness_seconds"].items():
        if seconds > 60:
            yield text("  ", (f"{kind}: no response of the API server for {seconds:.0f} s", "yellow"))
    yield text("")
    yield from columns(("TYPE", "RESOURCES", "VERSION"), [(p["type"], str(p["resources"]), p["version"]) for p in found["published"]])
    yield text("")
    if found["envoys"]:
        titles = ("ENVOY", "CLUSTER", "AGENT", "PEER", "WIRE", "CONNECTED SINCE", "STATE")
        yield from columns(titles, [_envoy_row(envoy) for envoy in found["envoys"]])
    else:
        yield text("No Envoy is connected.")
    for envoy in found["envoys"]:
        for node, of_type in [(each["node"], of_type) for each in with_beside(envoy) for of_type in each["types"]]:
            if of_type["rejection"]:
                about = ", ".join(of_type["rejection"]["resources"][:5])
                yield text(("rejected ", "bold red"), f" {node} {of_type['type']} ({about}): {of_type['rejection']['error']}")
    if found["unfinished"]:
        yield text("")
        yield text((f"Not on every Envoy: {plural(len(found['unfinished']), 'object')}", "bold"))
    for one in found["unfinished"]:
        yield text("  ", f"{_name(one)}: on {one['accepted']} of {plural(one['envoys'], 'Envoy')}", *_why(one))
    yield text("")
    counts = ", ".join(plural(number, name.removesuffix("s")) for name, number in found["problems"].items())
    yield text((counts, "bold"), "; `xds check --live` lists them.")


def _envoy_row(envoy: Json) -> tuple[str | tuple[str, str], ...]:
    types = [t for each in with_beside(envoy) for t in each["types"]]
    behind = [t["type"] for t in types if not t["in_sync"]]
    rejected = [t["type"] for t in types if t["rejection"]]
    state = ("in sync", "green")
    if behind:
        state = (f"behind: {', '.join(behind)}", "yellow")
    if rejected:
        state = (f"rejected: {', '.join(rejected)}", "bold red")
    only = f" ({envoy['only']} only)" if envoy["only"] else ""
    return (
        envoy["node"],
        envoy["cluster"] or "-",
        envoy["agent"] or "-",
        envoy["peer"],
        envoy["wire"] + only,
        envoy["since"] or "-",
        state,
    )


# One object


def _object(settings: Flags, kind: str, name: str, entry: str = "") -> Json:
    namespace, _, name = name.partition("/")
    request = v1.ProgrammedRequest(
        namespace=namespace,
        name=name,
        kind=_KINDS[kind],
        entry=entry,
        wait=settings.wait,
        timeout_seconds=settings.timeout,
        resource_version=settings.resource_version,
    )
    wait = settings.timeout if settings.wait else 0.0
    found = ask(settings.debug_address, "Programmed", request, v1.ProgrammedResponse, wait=wait)
    resources = [
        {"type": short(r.type_url), "name": r.name, "piece": r.piece or None, "version": r.version or None} for r in found.resources
    ]
    return {"version": STATUS_VERSION} | programmed_document(found) | {"resources": resources}


def _name(found: Json) -> str:
    entry = f" {found['entry']}" if found["entry"] else ""
    return f"{found['object']['kind']} {found['object']['namespace']}/{found['object']['name']}{entry}"


def _why(found: Json) -> Iterator[str | tuple[str, str]]:
    """Why not every Envoy has it."""
    if found["held"]:
        yield "; "
        yield (f"held back, because Envoy rejects it: {found['held']}", "bold red")
    elif found["waiting"]:
        more = len(found["waiting"]) - 5
        yield f"; not on {', '.join(found['waiting'][:5])}{f' and {more} more' if more > 0 else ''}"
    elif not found["envoys"]:
        yield "; no Envoy is connected"


def _object_lines(found: Json) -> Iterator[Text]:
    style = "bold green" if found["programmed"] else "bold yellow"
    done = f"programmed on {found['accepted']} of {plural(found['envoys'], 'Envoy')}"
    version = f" as of resourceVersion {found['resource_version']}" if found["resource_version"].isdecimal() else ""
    unread = not found["programmed"] and not found["waiting"] and not found["held"] and found["envoys"] and found["resources"]
    late = "; the management server has not read its latest version yet" if unread else ""
    broken = "" if found["resources"] else "; nothing of it has an effect: `xds check --live` shows why"
    yield text((f"{_name(found)}: {done}", style), f"{version}{late}{broken}", *_why(found))
    for rejection in found["rejections"]:
        yield text(("rejected ", "bold red"), f" {rejection['node']} {rejection['type']}: {rejection['error']}")
    if found["resources"]:
        yield text("")
        rows = [(r["type"], r["name"], r["piece"] or "", r["version"] or "absent") for r in found["resources"]]
        yield from columns(("TYPE", "RESOURCE", "PIECE", "VERSION"), rows)

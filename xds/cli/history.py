"""`xds history`: the last changes and what became of them, asked of a running management server."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from xds.cli.arguments import Parsed
from xds.cli.live import ask
from xds.cli.printing import columns, plural, show, show_json, text
from xds.debug import v1
from xds.debug.documents import history_document
from xds.json_forms import Json

_NAMED = 2
"""Causes and names of a type that a line has room for."""


def run(parsed: Parsed) -> int:
    """Print the changes, newest first. Raises Failure where there is no response."""
    found = ask(parsed.settings.debug_address, "History", v1.HistoryRequest(), v1.HistoryResponse)
    document = history_document(found)
    if parsed.settings.output == "json":
        show_json(document)
    else:
        show(_lines(document["changes"]))
    return 0


def _lines(changes: list[Json]) -> Iterator[Text]:
    if not changes:
        yield text("Nothing was published yet.")
        return
    rows = [
        (str(c["number"]), c["time"] or "-", _causes(c), _resources(c), f"{c['build_milliseconds']:.1f} ms", _accepted(c)) for c in changes
    ]
    yield from columns(("NUMBER", "TIME", "CAUSE", "RESOURCES", "BUILT IN", "ACCEPTED AFTER"), rows)
    for change in changes:
        for rejection in change["rejections"]:
            yield text(("rejected ", "bold red"), f" {change['number']} by {rejection['node']} {rejection['type']}: {rejection['error']}")
        if (more := change["rejections_total"] - len(change["rejections"])) > 0:
            yield text(("rejected ", "bold red"), f" {change['number']} by {plural(more, 'other stream')}")


def _causes(change: Json) -> str:
    named = [f"{c['object']['kind']} {_path(c['object'])} {c['verb']}" for c in change["causes"][:_NAMED]]
    more = change["causes_total"] - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])]) or "the clock, or a generated certificate"


def _path(about: Json) -> str:
    return f"{about['namespace']}/{about['name']}" if about["namespace"] else str(about["name"])


def _resources(change: Json) -> str:
    return "; ".join(_names(found) for found in change["resources"])


def _names(found: Json) -> str:
    more = found["total"] - _NAMED
    return f"{found['type']} {', '.join(found['names'][:_NAMED])}{f' and {more} more' if more > 0 else ''}"


def _accepted(change: Json) -> str | tuple[str, str]:
    if change["waiting"]:
        return ("waiting", "yellow")
    if change["accepted_milliseconds"] is None:
        return "no Envoy"
    return f"{change['accepted_milliseconds']:.1f} ms"

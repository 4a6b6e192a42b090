"""`xds rehearse`: ask ingress-nginx and our Envoy for the same, and report where their answers differ, by cause."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import math
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any, BinaryIO, cast

from rich.text import Text

from xds.addresses import parse_origin
from xds.cli.arguments import Parsed
from xds.cli.check import ours
from xds.cli.printing import STYLES, plural, show, show_json, text
from xds.config import Failure, Flags, UsageError
from xds.json_forms import Json
from xds.kube.reading import STANDARD_INPUT
from xds.model import Via
from xds.nginx.log_format import DEFAULT, Escape
from xds.offline import Loaded, load, load_from_api
from xds.problem import Ref, Severity
from xds.rehearse.access_log import LONGEST_LINE, BadFormat, Tally, logged, reader
from xds.rehearse.asking import Interview, Side
from xds.rehearse.derive import Scene, derived, scene
from xds.rehearse.inquiries import Inquiry
from xds.rehearse.report import Context, Tallied, document
from xds.units.memo import Recorder

_MOST_LINES = 10_000_000
"""Lines of an access log that are read."""
_PACKED = b"\x1f\x8b"
"""How a file of gzip begins."""
_MOST_GROUPS = 50
"""Unexplained differences that are printed for people."""


def run(parsed: Parsed) -> int:
    """Print what differs; 1 if something differs that is no known difference.

    Raises UsageError for a log format that cannot be read, and Failure where objects or the log cannot be read, or a side not reached.
    """
    found = asyncio.run(_rehearsed(parsed.settings))
    if parsed.settings.output == "json":
        show_json(found)
    else:
        show(_lines(found))
    return 0 if all(group["known"] for group in found["differences"]) else 1


async def _rehearsed(settings: Flags) -> Json:
    loaded = load(settings) if settings.manifests else await load_from_api(settings)
    read = Recorder(loaded.tables.build)
    ingresses = ours(loaded)
    vias = [via for via in (Via.HTTP, Via.HTTPS) if any(parse_origin(each).scheme == via.value for each in settings.to)]
    stage = scene(read, ingresses, loaded.tables.hosts.values.keys(), vias, settings.allow)
    context = Context(read, loaded.problems, settings.annotations_prefix, settings.configmap)
    found, tally = Tallied(context), Tally() if settings.access_log else None
    with ExitStack() as opened:
        inquiries = _inquiries(stage, loaded, settings, tally, opened)
        await _ask(itertools.islice(inquiries, settings.max_requests), settings, found)
        complete = next(inquiries, None) is None
    if found.unanswered == found.requests:
        raise Failure("no request was answered by either side." if found.requests else _why_nothing(settings, tally))
    return document(found, (settings.from_, settings.to), ingresses, complete=complete, log=tally)


def _why_nothing(settings: Flags, tally: Tally | None) -> str:
    """A sentence; about an access log with what became of its lines."""
    if tally is None:
        return f"nothing was asked: no host is there{' that --allow allows' if settings.allow else ''}."
    if not tally.lines:
        return f"nothing was asked: {settings.access_log} has no line."
    counts = [f"{plural(count, 'request')} for {reason}" for reason, count in sorted(tally.unasked.items())]
    if tally.unreadable:
        counts.append(f"{plural(tally.unreadable, 'line')} without the form of {_named_format(settings)}")
    return f"nothing was asked of {plural(tally.lines, 'line')} of {settings.access_log}; left out are {', '.join(counts)}."


def _named_format(settings: Flags) -> str:
    if settings.configmap:
        return f"log-format-upstream of ConfigMap {settings.configmap}"
    return "ingress-nginx' default log-format-upstream (--configmap names the ConfigMap that has another one)"


async def _ask(inquiries: Iterator[Inquiry], settings: Flags, found: Tallied) -> None:
    async with Interview(_side("--from", settings.from_), _side("--to", settings.to), settings.rate, settings.backend_header) as both:
        async with aclosing(both.ask(inquiries)) as exchanges:
            async for each in exchanges:
                found.add(each.inquiry, each.theirs, each.ours)
        for host, inquiry in sorted(found.certificates.items()):
            found.add_certificates(inquiry, *await both.certificates(host))


def _side(name: str, addresses: tuple[str, ...]) -> Side:
    return Side(name, {found.scheme: (found.host, found.port) for found in map(parse_origin, addresses)})


def _inquiries(stage: Scene, loaded: Loaded, settings: Flags, tally: Tally | None, opened: ExitStack) -> Iterator[Inquiry]:
    """Those of the access log, else those that are made of objects."""
    if settings.access_log is None or tally is None:
        return derived(stage)
    found = loaded.world.get(("ConfigMap", *settings.configmap.split("/", 1))) if settings.configmap else None
    keys = found.data if found else {}
    escapes = {Escape.NONE: "log-format-escape-none", Escape.JSON: "log-format-escape-json"}
    escape = next((each for each, key in escapes.items() if keys.get(key, "").strip() == "true"), Escape.DEFAULT)
    try:
        read = reader(keys.get("log-format-upstream", "") or DEFAULT, escape)
    except BadFormat as error:
        raise UsageError(f"log-format-upstream of ConfigMap {settings.configmap} {error}.") from None
    return logged(stage, _read_lines(settings.access_log, *_opened(settings.access_log, opened)), read, tally)


def _opened(path: Path, opened: ExitStack) -> tuple[BinaryIO, float]:
    """The access log, unpacked where it is packed by gzip, and how many bytes of it are read. Raises Failure where it cannot be read.

    What is asked here may be written into the same file, so it is read to its present end.
    """
    try:
        file = opened.enter_context((Path("/dev/stdin") if path == STANDARD_INPUT else path).open("rb"))
        if file.peek(len(_PACKED)).startswith(_PACKED):
            return cast(BinaryIO, opened.enter_context(gzip.open(file))), math.inf
        about = os.fstat(file.fileno())
    except OSError as error:
        raise Failure(f"--access-log: {path} cannot be read: {error.strerror}.") from None
    return file, about.st_size if stat.S_ISREG(about.st_mode) else math.inf


def _read_lines(path: Path, file: BinaryIO, end: float) -> Iterator[bytes]:
    """The lines of the access log. Raises Failure where it cannot be read to its end."""
    try:
        yield from _log_lines(file, end)
    except (OSError, EOFError, zlib.error) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "it is no whole gzip file"
        raise Failure(f"--access-log: {path} cannot be read to its end: {what}.") from None


def _log_lines(file: BinaryIO, end: float) -> Iterator[bytes]:
    """The lines before a position; of a longer one than can be read the beginning, which is none of the format."""
    for _ in range(_MOST_LINES):
        if end < math.inf and file.tell() >= end:
            return
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)
        yield line


def _lines(found: Json) -> Iterator[Text]:
    unexplained = [group for group in found["differences"] if not group["known"]]
    for group in unexplained[:_MOST_GROUPS]:
        yield from _group(group)
    if len(unexplained) > _MOST_GROUPS:
        yield text(f"differs  {len(unexplained) - _MOST_GROUPS} more; -o json has all.")
    for group in _joined(found["differences"]):
        yield from _known(group)
    yield from (text(line) for line in _remarks(found))
    summary = found["summary"]
    sides = f"{' and '.join(found['from'])}, and to {' and '.join(found['to'])}"
    yield text(
        f"{plural(summary['requests'], 'request')} to {sides}, about {summary['rules_asked']} of {plural(summary['rules'], 'path')}."
    )
    if summary["unanswered"]:
        yield text(f"{plural(summary['unanswered'], 'request')} of those were answered by neither side.")
    if summary["server_errors"]:
        errors = plural(summary["server_errors"], "request")
        yield text(f"{errors} of those got an error (5xx) from both sides, which proves nothing about the backend.")
    counts = f"{summary['alike']} answered alike, {summary['known']} with known differences, {summary['differing']} otherwise"
    if summary["certificates"]:
        counts += f"; {plural(summary['certificates'], 'host')} with another certificate"
    good = all(group["known"] for group in found["differences"])
    yield text((counts, "bold green" if good else "bold red"), ".")


def _group(group: Json) -> Iterator[Text]:
    yield text(("differs  ", "bold red"), (_who(group), "bold"), f": {group['field']} of {plural(group['requests'], 'answer')}")
    for kind in ("annotations", "keys"):
        if written := ", ".join(f"{each['name']}: {_short(each['value'], 60)}" for each in group[kind]):
            yield text(f"         {'annotation' if kind == 'annotations' else 'ConfigMap'} {written}")
    for problem in group["problems"]:
        yield text("         ", (problem["severity"], STYLES[Severity(problem["severity"])]), f" {problem['sentence']}")
    yield from _examples(group["examples"])


def _joined(groups: Iterable[Json]) -> Iterator[Json]:
    """Those of one known difference as one, with the first of them and their number."""
    by_id: dict[str, list[Json]] = {}
    for group in groups:
        if group["known"]:
            by_id.setdefault(group["known"]["id"], []).append(group)
    for same in by_id.values():
        yield same[0] | {"requests": sum(group["requests"] for group in same), "others": len(same) - 1}


def _known(group: Json) -> Iterator[Text]:
    others = f", and {plural(group['others'], 'other rule')}" if group["others"] else ""
    yield text(("known    ", "cyan"), f"{group['known']['id']}: {group['known']['sentence']}")
    yield text(f"         {group['field']} of {plural(group['requests'], 'answer')}: {_who(group)}{others}")
    yield from _examples(group["examples"][:1])


def _who(group: Json) -> str:
    about = group["object"]
    if about is None:
        return "no Ingress"
    place = f" ({about['place']['file']}:{about['place']['line']})" if about["place"] else ""
    return f"{Ref(about['kind'], about['namespace'], about['name'])}{place} {group['rule']}"


def _examples(examples: Iterable[Json]) -> Iterator[Text]:
    for example in examples:
        headers = "".join(f" {each['name']}: {each['value']}" for each in example["headers"])
        yield text(f"         {example['method']} {_short(example['url'], 120)}{headers}")
        yield text(f"           from {_value(example['from'])}")
        yield text(f"           to   {_value(example['to'])}")


def _value(value: str | None) -> str:
    return "(none)" if value is None else _short(" | ".join(value.split("\n")), 120)


def _short(value: str, most: int) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"


def _remarks(found: Json) -> Iterator[str]:
    for each in found["unsteady"]:
        yield f"Not compared: {each['field']} of {plural(each['requests'], 'answer')}, in which a side's own answers differ."
    log: dict[str, Any] | None = found["log"]
    if log:
        yield f"{plural(log['lines'], 'line')} of the access log; {log['unreadable']} are not in the form of log-format-upstream."
        for each in log["unasked"]:
            yield f"Not asked: {plural(each['requests'], 'request')}, for {each['reason']}."
    if not found["summary"]["complete"]:
        yield "--max-requests was reached; there are more."

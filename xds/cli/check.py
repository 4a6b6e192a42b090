"""`xds check`: what will not work as written, and how near each annotation in use comes to what ingress-nginx does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.text import Text

from xds.cli.arguments import Parsed
from xds.cli.printing import plural, problem_line, show, show_json, text
from xds.cli.remarks import Judged, judged
from xds.config import Flags
from xds.json_forms import object_json, place_json, problem_json
from xds.kube.objects import Ingress
from xds.kube.world import World
from xds.nginx.feature import Declared, Fidelity
from xds.nginx.registry import known_annotations, known_keys
from xds.offline import Loaded, load
from xds.problem import Place, Problem, Ref, Severity
from xds.translate.selection import claimed
from xds.units.memo import Unit

VERSION = 1
"""Of the JSON form; docs/schemas/check.schema.json describes it."""
UNKNOWN = "unknown"
_UNREADABLE = ("annotation-value", "annotation-part")
"""Codes of values that cannot be read, or of which a part has no effect."""
_STYLES = {Fidelity.EXACT.value: "green", Fidelity.APPROXIMATE.value: "cyan", Fidelity.IGNORED.value: "dim"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """An annotation or ConfigMap key in use: its count, the count of unreadable values, and our verdict on it."""

    name: str
    count: int
    unreadable: int
    fidelity: str
    reason: str


def run(parsed: Parsed) -> int:
    """Print all Problems and verdicts; 1 if something is an error.

    Raises Failure where a folder cannot be read, or there is no response.
    """
    if parsed.settings.live:
        return _run_live(parsed.settings)
    loaded = load(parsed.settings)
    found = judged(loaded, parsed.settings)
    if parsed.settings.output == "json":
        show_json(as_json(loaded, found, parsed.settings))
    else:
        show(_lines(loaded, found, parsed.settings))
    return 1 if loaded.faults or any(p.severity is Severity.ERROR for p in found.problems) else 0


def _run_live(settings: Flags) -> int:
    """The Problems of a running server, including those of Envoys. There is no list of annotations."""
    from xds.cli.live import ask, problem_of  # gRPC takes longer to import than a folder to read
    from xds.debug import v1

    answer = ask(settings.debug_address, "Problems", v1.ProblemsRequest(), v1.ProblemsResponse)
    problems = tuple(problem_of(found) for found in answer.problems)
    count = Counter(p.severity for p in problems)
    if settings.output == "json":
        listed = [problem_json(p) for p in _sorted(problems)]
        summary = {f"{severity.value}s": count[severity] for severity in Severity}
        show_json({"version": VERSION, "summary": summary, "problems": listed})
    else:
        show(_problem_lines(problems, lambda about: None))
        numbers = ", ".join(plural(count[severity], severity.value) for severity in Severity)
        show([text((numbers, "bold")) if problems else text(("No problems found", "bold green"), ".")])
    return 1 if count[Severity.ERROR] else 0


def as_json(loaded: Loaded, found: Judged, settings: Flags) -> dict[str, Any]:
    """The whole judgement."""
    annotations, keys = _annotations(loaded, settings), _keys(loaded, settings)
    return {
        "version": VERSION,
        "summary": _summary(loaded, found),
        "problems": [problem_json(p) for p in _sorted(found.problems)],
        "conflicts": [problem_json(p) for p in _sorted(found.problems) if p.code == "conflict"],
        "remarks": list(found.remarks),
        "annotations": [_verdict_json(v) for v in annotations],
        "config": [_verdict_json(v) for v in keys],
        "others": [object_json(o) | {"place": place_json(place_of(loaded.world, o))} for o in _others(loaded)],
        "faults": list(loaded.faults),
    }


def place_of(world: World, about: Ref) -> Place | None:
    """Where an object was read."""
    found = world.get(about)
    place: Place | None = found.meta.place if found else None
    return place


def ours(loaded: Loaded) -> list[Ingress]:
    """The Ingresses that are of our class, canaries among them."""
    return [i for i in loaded.world.objects(Ingress) if loaded.tables.build.value(Unit(claimed, (i.meta.namespace, i.meta.name)))]


def _others(loaded: Loaded) -> list[Ref]:
    """The Ingresses of other controllers: of another class, or in namespaces that are not watched."""
    taken = {(i.meta.namespace, i.meta.name) for i in ours(loaded)}
    names = ((i.meta.namespace, i.meta.name) for i in loaded.world.objects(Ingress))
    return [Ref("Ingress", *name) for name in names if name not in taken]


def _summary(loaded: Loaded, found: Judged) -> dict[str, int]:
    count = Counter(p.severity for p in found.problems)
    return {
        "ingresses": len(ours(loaded)),
        "others": len(_others(loaded)),
        "errors": count[Severity.ERROR] + len(loaded.faults),
        "warnings": count[Severity.WARNING],
        "notes": count[Severity.NOTE],
        "conflicts": sum(p.code == "conflict" for p in found.problems),
    }


def _annotations(loaded: Loaded, settings: Flags) -> list[Verdict]:
    prefix = settings.annotations_prefix + "/"
    used: dict[str, list[str]] = {}
    for key, value in (pair for item in ours(loaded) for pair in item.meta.annotations.items()):
        if key.startswith(prefix):
            used.setdefault(key.removeprefix(prefix), []).append(value)
    bad = Counter(p.field.removeprefix(f"metadata.annotations[{prefix}")[:-1] for p in loaded.problems if p.code in _UNREADABLE)
    return _verdicts(used, bad, known_annotations())


def _keys(loaded: Loaded, settings: Flags) -> list[Verdict]:
    found = loaded.world.get(("ConfigMap", *settings.configmap.split("/", 1))) if settings.configmap else None
    bad = Counter(p.field.removeprefix("data[")[:-1] for p in loaded.problems if p.code == "key-value")
    return _verdicts({key: [value] for key, value in found.data.items()} if found else {}, bad, known_keys())


def _verdicts(used: Mapping[str, list[str]], bad: Counter[str], known: Mapping[str, Declared[Any]]) -> list[Verdict]:
    """The most used first."""
    found = []
    for name in sorted(used, key=lambda name: (-len(used[name]), name)):
        declared = known.get(name)
        verdict, reason = (declared.fidelity.value, declared.reason) if declared else (UNKNOWN, "")
        if declared and all(_asks_for_nothing(declared, value) for value in used[name]):
            verdict, reason = Fidelity.EXACT.value, ""
        found.append(Verdict(name, len(used[name]), bad[name], verdict, reason))
    return found


def _asks_for_nothing(declared: Declared[Any], value: str) -> bool:
    """Whether a value asks for what holds without it, of a name that has no effect: `proxy-http-version: "1.1"`."""
    if declared.fidelity is not Fidelity.REFUSED:
        return False
    try:
        return bool(declared.read(value) == declared.default)
    except ValueError:
        return False


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.name,
        "count": verdict.count,
        "unreadable": verdict.unreadable,
        "fidelity": verdict.fidelity,
        "reason": verdict.reason,
    }


def _sorted(problems: tuple[Problem, ...]) -> list[Problem]:
    """By object, the worst of each first."""
    return sorted(problems, key=lambda p: (p.about, p.severity.rank, p.field, p.code))


def _lines(loaded: Loaded, found: Judged, settings: Flags) -> Iterator[Text]:
    for fault in loaded.faults:
        yield text(("error    ", "bold red"), fault)
    yield from _problem_lines(found.problems, lambda about: place_of(loaded.world, about))
    yield from _verdict_lines("Annotations in use", _annotations(loaded, settings))
    yield from _verdict_lines(f"Keys of ConfigMap {settings.configmap}", _keys(loaded, settings))
    yield from (text(remark) for remark in found.remarks)
    yield _last_line(loaded, found)


def _problem_lines(problems: tuple[Problem, ...], where: Callable[[Ref], Place | None]) -> Iterator[Text]:
    """Under a headline for each object."""
    for about, found in groupby(_sorted(problems), key=lambda p: p.about):
        listed = list(found)
        place = next((p.place for p in listed if p.place), None) or where(about)
        yield text((str(about), "bold"), f"  {place}" if place else "")
        yield from map(problem_line, listed)
        yield text("")


def _verdict_lines(title: str, verdicts: list[Verdict]) -> Iterator[Text]:
    if not verdicts:
        return
    width = min(50, max(len(v.name) for v in verdicts))
    yield text((title, "bold"))
    for v in verdicts:
        reason = f": {v.reason}" if v.reason else ""
        unreadable = f" ({v.unreadable} unreadable)" if v.unreadable else ""
        yield text(f"  {v.name:{width}} {v.count:5}×  ", (v.fidelity, _STYLES.get(v.fidelity, "red")), f"{reason}{unreadable}")
    yield text("")


def _last_line(loaded: Loaded, found: Judged) -> Text:
    summary = _summary(loaded, found)
    served = plural(summary["ingresses"], "Ingress")
    others = f" ({plural(summary['others'], 'other')} left to other controllers)" if summary["others"] else ""
    if not found.problems and not loaded.faults:
        return text(("No problems found", "bold green"), f": {served}{others}.")
    conflicts = f" ({plural(summary['conflicts'], 'conflict')})" if summary["conflicts"] else ""
    errors, warnings, notes = (plural(summary[f"{kind}s"], kind) for kind in ("error", "warning", "note"))
    return text((f"{errors}{conflicts}, {warnings}, {notes}", "bold"), f" in {served}{others}.")

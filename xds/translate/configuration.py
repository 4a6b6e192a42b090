"""The settings of one Ingress (its annotations, as the features read them), and the ConfigMap that has the defaults for all.

What does not belong here: reading one annotation (its Feature), and which of several Ingresses decides about a host
(`xds.translate.claims`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from xds.kube.objects import ConfigMap, Ingress
from xds.kube.world import Reader, config_map, ingress, refused_edit, report_about, settings
from xds.model import CLOSED, LEFT_OUT, Settings
from xds.nginx import hints, registry
from xds.nginx.feature import Annotation, Barred, Closed, Complaint, Declared, Fidelity, Forbidden, Key, Unreadable
from xds.problem import Problem, Ref, Severity
from xds.translate.references import References

_VERDICT = {
    Fidelity.REFUSED: (Severity.ERROR, "cannot be supported and has no effect"),
    Fidelity.IGNORED: (Severity.NOTE, "is accepted and needs no effect here"),
}
_CODES = {Unreadable.CLOSES: "annotation-closes", Unreadable.PARTLY: "annotation-part"}
MOST_UNKNOWN = 100
"""Unknown names in one object that are reported one by one."""
_MOST_LISTED = 8
"""Names in one sentence."""
_LONGEST_KEPT = 2_000
"""Characters of annotations up to which is kept what features read of them."""
_MOST_NEAREST = 10
"""Unknown names for which similar known ones are searched, which takes a millisecond each."""


@dataclass(frozen=True)
class Configuration:
    """The ConfigMap's values by key, and the settings of an Ingress without annotations."""

    keys: Settings
    defaults: Settings


def configuration(read: Reader) -> Configuration:
    """The content of the ConfigMap of `--configmap`; ingress-nginx's defaults where there is none."""
    found = flagged(read, "--configmap", settings(read).configmap, "the defaults hold")
    values: dict[str, Any] = {}
    if found:
        values, complaints = registry.read_keys(found.data)
        _report_keys(read, found, complaints)
        _follow(read, found, values)
    defaults, _ = registry.read_settings({}, values)
    return Configuration(Settings(values), defaults)


def _follow(read: Reader, found: ConfigMap, values: dict[str, Any]) -> None:
    """Put what ConfigMaps hold in place of the keys that name them."""
    for name, key in sorted(registry.known_keys().items()):
        if key.of_config_map is None or name not in values:
            continue
        written: str = values.pop(name)
        other = config_map(read, *written.split("/", 1))
        if other is None:
            faults: Sequence[str] = ("which does not exist; it has no effect",)
        else:
            values[name], faults = key.of_config_map(other.data)
        for fault in faults:
            sentence = f"{name} names ConfigMap {written}, {fault}."
            report_about(read, found, f"data[{name}]", "key-value", sentence)


def flagged(read: Reader, flag: str, name: str, otherwise: str) -> ConfigMap | None:
    """The ConfigMap ("namespace/name", or "") that a flag names. Where it is missing a Problem states what holds `otherwise`."""
    if not name:
        return None
    about = Ref("ConfigMap", *name.split("/", 1))
    found = config_map(read, about.namespace, about.name)
    if found is None:
        read.report(Problem(about, "", "config-map-missing", f"{flag} names this ConfigMap, but it does not exist; {otherwise}."))
    return found


def ingress_settings(read: Reader, namespace: str, name: str) -> Settings:
    """The settings that the features read from one Ingress: its annotations, over the ConfigMap's defaults. A Unit."""
    found = ingress(read, namespace, name)
    if found is None:
        return read.unit(configuration).defaults
    edit = refused_edit(read, namespace, name)
    if edit is None:
        return _settings_of(read, found)
    if _annotations(read, found).refused:
        return _left_out(read, edit.written, _annotations(read, edit.written).refused)
    return _instead_of(read, edit.written, found)


@dataclass(frozen=True)
class _Annotations:
    """What features read of the annotations of one Ingress alone: `own` are those without prefix, `refused` what leaves it out."""

    own: Mapping[str, str]
    values: Settings
    complaints: Sequence[Complaint]
    refused: Sequence[Forbidden]


def refusals(read: Reader, item: Ingress) -> Sequence[Forbidden]:
    """Why an Ingress with these annotations is left out, as if it were not there; nothing where it is served."""
    return _annotations(read, item).refused


def _annotations(read: Reader, item: Ingress) -> _Annotations:
    base = read.unit(configuration)
    prefix = settings(read).annotations_prefix + "/"
    own = {key.removeprefix(prefix): value for key, value in item.meta.annotations.items() if key.startswith(prefix)}
    if not own:
        return _Annotations(own, base.defaults, (), ())
    known = registry.known_annotations()
    allowed = {key: value for key, value in own.items() if key not in known or not _missing(read, known[key])}
    values, complaints = _read(tuple(sorted(allowed.items())), base.keys, validated=settings(read).enable_annotation_validation)
    refused = [Forbidden(fault.name, fault.sentence) for fault in complaints if fault.then is Unreadable.LEAVES_OUT]
    return _Annotations(own, values, complaints, registry.forbidden(own, base.defaults) or refused)


def _read(own: tuple[tuple[str, str], ...], keys: Settings, *, validated: bool) -> tuple[Settings, Sequence[Complaint]]:
    """What features read of these annotations. If they are short, it is the same object for all Ingresses that have them alike."""
    is_short = sum(len(name) + len(text) for name, text in own) <= _LONGEST_KEPT
    return _read_once(own, keys, validated=validated) if is_short else registry.read_settings(dict(own), keys, validated=validated)


@lru_cache(maxsize=1024)
def _read_once(own: tuple[tuple[str, str], ...], keys: Settings, *, validated: bool) -> tuple[Settings, Sequence[Complaint]]:
    """It takes a third of a millisecond, and most Ingresses have annotations in common with others."""
    values, complaints = registry.read_settings(dict(own), keys, validated=validated)
    return values, tuple(complaints)


def _instead_of(read: Reader, written: Ingress, last: Ingress) -> Settings:
    """The settings of the last valid form of an Ingress, which stays while how it is written now is refused.

    An access rule that the edit adds or changes cannot be kept, so the paths are closed: they must not stay open in spite of it.
    """
    before, after = _annotations(read, last), _annotations(read, written)
    closes = registry.tightens(before.values, after.values, {each.name for each in after.refused})
    then = "what was valid before stays in effect until that is fixed"
    if closes:
        then = "what was valid before lacks an access rule of this edit, so its paths answer 503 until that is fixed"
    for each in after.refused[:MOST_UNKNOWN]:
        _report(read, written, each.name, "edit-refused", f"{each.name[:80]} {each.sentence}; {then}.")
    values = _settings_of(read, last)
    return Settings({**values, CLOSED: f"{after.refused[0].name[:80]} {after.refused[0].sentence}"}) if closes else values


def _settings_of(read: Reader, found: Ingress) -> Settings:
    base = read.unit(configuration)
    _report_prefixes(read, found)
    annotations = _annotations(read, found)
    own, complaints = annotations.own, annotations.complaints
    if not own:
        return base.defaults
    if annotations.refused:
        return _left_out(read, found, annotations.refused)
    crosses = registry.asks("by_reference", base.defaults)
    values, faults = registry.resolved(annotations.values, found, References(read, found.meta.namespace, crosses=crosses))
    unreadable = {fault.name for fault in (*complaints, *faults)}
    for fault in (*complaints, *faults):
        code, then = _consequence(fault)
        _report(read, found, fault.name, code, f"{fault.name} {fault.sentence}; {then}.")
    paths = [path.path for rule in found.rules for path in rule.paths]
    idle = registry.without_effect(own, values)
    _report_idle(read, found, {key: own[key] for key in sorted(idle)})
    known = registry.known_annotations()
    for key in sorted(own.keys() & known.keys() - unreadable - idle):
        if (beside := known[key].beside) and known[key].asks(own[key]) and not registry.is_set(beside, own):
            _report(read, found, key, "annotation-alone", f"{key} has no effect without {beside}.", Severity.WARNING)
        _judge(read, found, key, known[key], own[key], paths)
    _report_unknown(read, found, sorted(own.keys() - known.keys()))
    return values


def _consequence(fault: Complaint | Closed | Barred) -> tuple[str, str]:
    """The code of a Problem, and what follows from the fault."""
    if isinstance(fault, Barred):
        return "annotation-closes", fault.then
    then = Unreadable.CLOSES if isinstance(fault, Closed) else fault.then
    return _CODES.get(then, "annotation-value"), then.value


def _left_out(read: Reader, item: Ingress, forbidden: Sequence[Forbidden]) -> Settings:
    """The settings of an Ingress that is left out; what else may be wrong with it does not matter."""
    for each in forbidden[:MOST_UNKNOWN]:
        sentence = f"{each.name[:80]} {each.sentence}; the Ingress is left out, as in ingress-nginx."
        _report(read, item, each.name, "annotation-forbidden", sentence)
        _report_outlook(read, item, each.name)
    return Settings({LEFT_OUT: f"{forbidden[0].name[:80]} {forbidden[0].sentence}"})


def _report_outlook(read: Reader, item: Ingress, name: str) -> None:
    """Report what would become of a value if it were allowed, where an annotation can say that."""
    known = registry.known_annotations().get(name)
    if known is None or known.outlook is None:
        return
    try:
        sentence = known.outlook(known.read(item.meta.annotations[f"{settings(read).annotations_prefix}/{name}"]))
    except ValueError:
        return  # it is left out for that alone
    _report(read, item, name, "annotation-outlook", sentence, Severity.NOTE)


def _report_unknown(read: Reader, item: Ingress, names: Sequence[str]) -> None:
    for number, name in enumerate(names[:MOST_UNKNOWN]):
        sentence = f"{name} is no annotation of ingress-nginx{_instead(name) if number < _MOST_NEAREST else ''}; it has no effect."
        _report(read, item, name, "annotation-unknown", sentence, Severity.WARNING)
    if len(names) > MOST_UNKNOWN:
        sentence = f"{len(names) - MOST_UNKNOWN:,} more annotations are none of ingress-nginx, and have no effect."
        report_about(read, item, "metadata.annotations", "annotation-unknown", sentence, Severity.WARNING)


def _report_idle(read: Reader, item: Ingress, idle: Mapping[str, str]) -> None:
    """Annotations of an Ingress that only offers its backends, in one sentence: often they are a copy of those that do hold."""
    known = registry.known_annotations()
    names = [name for name, text in idle.items() if known[name].asks(text)]
    if not names:
        return
    rules = [name for name in names if registry.protects(name)]
    sentence = f"This Ingress claims no paths, so its {listed(names)} {'has' if len(names) == 1 else 'have'} no effect: "
    sentence += f"the Ingress that claims a path decides{', access rules included' if rules else ''}."
    severity = Severity.WARNING if rules else Severity.NOTE
    report_about(read, item, "metadata.annotations", "annotation-of-offer", sentence, severity)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many the first."""
    shown, more = list(names[:_MOST_LISTED]), len(names) - _MOST_LISTED
    last = f"{more} more" if more > 0 else shown.pop() if len(shown) > 1 else ""
    return f"{', '.join(shown)} and {last}" if last else shown[0]


def _report_prefixes(read: Reader, item: Ingress) -> None:
    """Report annotations under a prefix that resembles ours. ingress-nginx ignores them silently, also those that restrict access."""
    ours = settings(read).annotations_prefix
    prefixes = sorted({key.rpartition("/")[0] for key in item.meta.annotations})[:MOST_UNKNOWN]
    mistaken = {prefix: what for prefix in prefixes if (what := hints.prefix(prefix, ours))}
    if not mistaken:
        return
    found = [key for key in sorted(item.meta.annotations) if key.rpartition("/")[0] in mistaken]
    for key in found[:MOST_UNKNOWN]:
        prefix, _, name = key.rpartition("/")
        severity = Severity.WARNING if hints.protects(name) else Severity.NOTE
        sentence = f"{prefix}/ is {mistaken[prefix]}; the annotation has no effect, while those of {ours}/ have."
        report_about(read, item, f"metadata.annotations[{key}]", "annotation-prefix", sentence, severity)


def _judge(read: Reader, item: Ingress, name: str, known: Annotation[Any], value: str, paths: list[str]) -> None:
    """Report what is not supported of an annotation, or differs; nothing where its value is what holds anyway."""
    if not known.needs_verdict(value, paths):
        return
    if missing := _missing(read, known):
        sentence = f"{name} has no effect without {missing}, as in ingress-nginx."
        _report(read, item, name, "annotation-verdict", sentence, Severity.WARNING if known.switch else Severity.NOTE)
        _report_outlook(read, item, name)
    elif known.fidelity in _VERDICT:
        severity, verdict = _verdict(known)
        _report(read, item, name, "annotation-verdict", f"{name} {verdict}{_because(known, value)}.", severity)
    elif known.fidelity is Fidelity.APPROXIMATE and (because := _because(known, value)):
        _report(read, item, name, "annotation-approximate", f"{name} works nearly as in ingress-nginx{because}.", Severity.NOTE)


def _missing(read: Reader, known: Annotation[Any]) -> str:
    """The flag or key that is not set, without which an annotation has no effect; "" for none."""
    if known.flag and not getattr(settings(read), known.flag):
        return f"the flag --{known.flag.replace('_', '-')}"
    return f"the ConfigMap key {known.switch}" if known.switch and not read.unit(configuration).keys.get(known.switch) else ""


def _report(read: Reader, item: Ingress, name: str, code: str, sentence: str, severity: Severity = Severity.ERROR) -> None:
    field = f"metadata.annotations[{settings(read).annotations_prefix}/{name}]"
    report_about(read, item, field, code, sentence, severity)


def _report_keys(read: Reader, found: ConfigMap, complaints: list[Complaint]) -> None:
    for c in complaints:
        closes = "all paths without a value of their own answer 503"
        as_said = (Unreadable.CLOSES_ALL, Unreadable.PARTLY, Unreadable.AS_WRITTEN)
        then = closes if c.then is Unreadable.CLOSES else c.then.value if c.then in as_said else "the default holds"
        report_about(read, found, f"data[{c.name}]", "key-value", f"{c.name} {c.sentence}; {then}.")
    known = registry.known_keys()
    unknown = sorted(found.data.keys() - known.keys())
    for number, name in enumerate(unknown[:MOST_UNKNOWN]):
        near = _nearest(name, known) if number < _MOST_NEAREST else ""
        sentence = f"{name[:80]} is no key of ingress-nginx's ConfigMap{near}; it has no effect."
        report_about(read, found, f"data[{name[:80]}]", "key-unknown", sentence, Severity.WARNING)
    if len(unknown) > MOST_UNKNOWN:
        sentence = f"{len(unknown) - MOST_UNKNOWN:,} more keys are none of ingress-nginx's ConfigMap, and have no effect."
        report_about(read, found, "data", "key-unknown", sentence, Severity.WARNING)
    for name in sorted(found.data.keys() & known.keys() - {c.name for c in complaints}):
        _judge_key(read, found, known[name])


def _judge_key(read: Reader, found: ConfigMap, known: Key[Any]) -> None:
    """Report what is not supported of a key, or differs; nothing where its value is what holds anyway."""
    text = found.data[known.name]
    if not known.needs_verdict(text):
        return
    if known.fidelity in _VERDICT:
        severity, verdict = _verdict(known)
        sentence = f"{known.name} {verdict}{_because(known, text)}."
        report_about(read, found, f"data[{known.name}]", "key-verdict", sentence, severity)
    elif known.fidelity is Fidelity.APPROXIMATE and (because := _because(known, text)):
        sentence = f"{known.name} works nearly as in ingress-nginx{because}."
        report_about(read, found, f"data[{known.name}]", "key-approximate", sentence, Severity.NOTE)


def _verdict(known: Declared[Any]) -> tuple[Severity, str]:
    """The severity of a name's having no effect, and the text about it."""
    severity, words = _VERDICT[known.fidelity]
    return (Severity.NOTE if known.tuning else severity), words


def _instead(name: str) -> str:
    """A hint at what to write in place of an unknown annotation; "" for none."""
    if text := hints.hint(name):
        return f": {text}"
    if name in registry.known_keys():
        return ": it is a key of the ConfigMap, for all Ingresses"
    return _nearest(name, registry.known_annotations())


def _because(known: Declared[Any], text: str) -> str:
    """The reason of a verdict, as the end of a sentence; "" where there is none."""
    reason = known.because(known.read(text)) if known.because else known.reason
    return f": {reason.rstrip('.')}" if reason else ""


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:80], names, 1, 0.8)
    return f" (did you mean {near[0]}?)" if near else ""

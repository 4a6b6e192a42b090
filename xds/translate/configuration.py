"""The ConfigMap of the whole cluster, and the settings of one Ingress: annotations read by all features."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xds.kube.objects import ConfigMap, Ingress, Ref, ref
from xds.kube.world import Reader, config_map, ingress, settings
from xds.model import Problem, Settings, Severity
from xds.nginx import _registry as registry
from xds.nginx._feature import Complaint, Declared, Fidelity

_VERDICT = {
    Fidelity.LATER: (Severity.ERROR, "is not yet supported and has no effect"),
    Fidelity.CLOSES: (Severity.ERROR, "is not yet supported"),
    Fidelity.REFUSED: (Severity.ERROR, "cannot be supported and has no effect"),
    Fidelity.IGNORED: (Severity.NOTE, "is accepted and needs no effect here"),
}


@dataclass(frozen=True)
class Configuration:
    """The ConfigMap's values by key, and what an Ingress without annotations gets."""

    keys: Mapping[str, Any]
    defaults: Settings


def configuration(read: Reader) -> Configuration:
    """What the ConfigMap of `--configmap` says; the defaults of ingress-nginx where there is none."""
    found = flagged(read, "--configmap", settings(read).configmap, "the defaults hold")
    values: dict[str, Any] = {}
    if found:
        values, complaints = registry.read_keys(found.data)
        _report_keys(read, found, complaints)
    defaults, _ = registry.read_settings({}, values)
    return Configuration(values, defaults)


def flagged(read: Reader, flag: str, name: str, otherwise: str) -> ConfigMap | None:
    """The ConfigMap ("namespace/name", or "") that a flag names; a Problem where it is not there, with what holds `otherwise`."""
    if not name:
        return None
    about = Ref("ConfigMap", *name.split("/", 1))
    found = config_map(read, about.namespace, about.name)
    if found is None:
        read.report(Problem(about, "", "config-map-missing", f"{flag} names this ConfigMap, but it does not exist; {otherwise}."))
    return found


def ingress_settings(read: Reader, namespace: str, name: str) -> Settings:
    """What the features read from one Ingress: its annotations over the ConfigMap's defaults."""
    base = read.unit(configuration)
    found = ingress(read, namespace, name)
    if found is None:
        return base.defaults
    prefix = settings(read).annotations_prefix + "/"
    own = {key.removeprefix(prefix): value for key, value in found.meta.annotations.items() if key.startswith(prefix)}
    if not own:
        return base.defaults
    values, complaints = registry.read_settings(own, base.keys)
    for complaint in complaints:
        _report(read, found, prefix, complaint.name, "annotation-value", f"{complaint.name} {complaint.sentence}; it has no effect.")
    for key in sorted(own):
        _judge(read, found, prefix, key, own[key])
    return values


def _judge(read: Reader, item: Ingress, prefix: str, name: str, value: str) -> None:
    """The verdict on an annotation that does not do, or not quite, what it says; none where it says what holds anyway."""
    known = registry.known_annotations().get(name)
    if known is None:
        sentence = f"{name} is no annotation of ingress-nginx{_nearest(name, registry.known_annotations())}; it has no effect."
        _report(read, item, prefix, name, "annotation-unknown", sentence, Severity.WARNING)
    elif known.is_default(value):
        return
    elif known.fidelity in _VERDICT:
        severity, verdict = _VERDICT[known.fidelity]
        _report(read, item, prefix, name, "annotation-verdict", f"{name} {verdict}{_because(known)}.", severity)
    elif known.fidelity is Fidelity.APPROXIMATE and known.reason:
        _report(
            read, item, prefix, name, "annotation-approximate", f"{name} works nearly as in ingress-nginx{_because(known)}.", Severity.NOTE
        )


def _report(read: Reader, item: Ingress, prefix: str, name: str, code: str, sentence: str, severity: Severity = Severity.ERROR) -> None:
    read.report(Problem(ref(item), f"metadata.annotations[{prefix}{name}]", code, sentence, severity, item.meta.place))


def _report_keys(read: Reader, found: ConfigMap, complaints: list[Complaint]) -> None:
    about = Ref("ConfigMap", found.meta.namespace, found.meta.name)
    for c in complaints:
        read.report(Problem(about, f"data[{c.name}]", "key-value", f"{c.name} {c.sentence}; the default holds.", place=found.meta.place))
    known = registry.known_keys()
    for name in sorted(found.data):
        if name not in known:
            sentence = f"{name[:80]} is no key of ingress-nginx's ConfigMap{_nearest(name, known)}; it has no effect."
            read.report(Problem(about, f"data[{name[:80]}]", "key-unknown", sentence, Severity.WARNING, found.meta.place))
        elif known[name].fidelity in _VERDICT and not known[name].is_default(found.data[name]):
            severity, verdict = _VERDICT[known[name].fidelity]
            sentence = f"{name} {verdict}{_because(known[name])}."
            read.report(Problem(about, f"data[{name}]", "key-verdict", sentence, severity, found.meta.place))


def _because(known: Declared[Any]) -> str:
    return f": {known.reason.rstrip('.')}" if known.reason else ""


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:80], names, 1, 0.8)
    return f" (did you mean {near[0]}?)" if near else ""

"""All features, found by being in `xds.nginx.features` when somebody first asks; and reading with them.

What does not belong here: the contract of a feature (`xds.nginx.feature`), and the name of any.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import xds.nginx.features
from xds.kube.objects import Ingress
from xds.kube.world import hosts_of
from xds.model import CLOSED, Cluster, Location, Respond, Route, Settings, Stream, VirtualHost
from xds.nginx.access import SATISFY
from xds.nginx.feature import (
    Annotation,
    Barred,
    Closed,
    Complaint,
    Feature,
    FilterPlace,
    Forbidden,
    Key,
    Notes,
    Objects,
    Phase,
    Role,
    Scope,
    Unreadable,
    Written,
)
from xds.nginx.known import ANNOTATIONS, KEYS
from xds.nginx.values import boolean, readable


@cache
def features() -> Mapping[str, Feature[Any]]:
    """Every feature by the name of its module, in the order of phase and name."""
    names = [module.name for module in pkgutil.iter_modules(xds.nginx.features.__path__)]
    found = {name: import_module(f"xds.nginx.features.{name}").FEATURE for name in names}
    return dict(sorted(found.items(), key=lambda item: (item[1].phase, item[0])))


@cache
def with_hook(hook: str) -> tuple[tuple[str, Callable[..., Any]], ...]:
    """The name of each feature that has a hook, and the hook, in the order of phase and name."""
    found = ((name, getattr(feature, hook)) for name, feature in features().items())
    return tuple((name, call) for name, call in found if call is not None)


@cache
def having(hook: str) -> frozenset[str]:
    """The names of the features that have a hook."""
    return frozenset(name for name, _ in with_hook(hook))


@cache
def annotations_with_hook(hook: str) -> frozenset[str]:
    """The names of the annotations of all features that have a hook."""
    return frozenset(a.name for feature in features().values() if getattr(feature, hook) is not None for a in feature.annotations)


@cache
def cluster_features() -> frozenset[str]:
    """The names of the features whose settings make clusters differ."""
    return frozenset(name for name, feature in features().items() if feature.cluster)


@cache
def aside_features() -> frozenset[str]:
    """The names of the features that draw nothing but clusters which they want beside those of Services."""
    return frozenset(name for name, feature in features().items() if feature.on_cluster is not None and not feature.cluster)


def drawn_by(policy: Mapping[str, Any], base: Settings) -> dict[str, Any]:
    """The settings that a cluster is drawn with: its policy, over what everybody or its Ingress has; but see `aside_features`."""
    return {**{name: setting for name, setting in base.items() if name not in aside_features()}, **policy}


@cache
def sharing() -> frozenset[str]:
    """The names of the features whose filters have something in the route table (`Feature.shared`)."""
    return frozenset(name for name, _ in with_hook("shared"))


def cluster_name(wanted: Cluster) -> str:
    """`<namespace>/<service>/<port>`, and `~` with 8 hex digits where the policy is not the one that everybody gets.

    Of an ExternalName `<namespace>/<service>/<port>@<namespace>/<ingress>`. Envoy would answer 503 under a new name until the DNS has been
    asked, so what an Ingress says must not change it. A dot would end the name in statistics; it is written "_", which no Ingress has. In
    place of a Service stands the host that an annotation names, if it names one: with "_" for dots and colons, which no Service has.
    """
    plain = f"{wanted.namespace}/{wanted.service or re.sub('[.:]', '_', wanted.host)}/{wanted.port}"
    if wanted.asked_by:
        plain += f"@{wanted.asked_by.namespace}/{wanted.asked_by.name.replace('.', '_')}"
    if not wanted.policy and wanted.protocol == "TCP" and not wanted.send_proxy and not wanted.by_address:
        return plain
    how = "PROXY" if wanted.send_proxy else "address" if wanted.by_address else ""
    return f"{plain}~{_digits(wanted.policy, wanted.protocol, how, wanted.host)}"


@lru_cache(maxsize=1024)
def _digits(policy: tuple[tuple[str, Any], ...], protocol: str, how: str, host: str) -> str:
    """Made of names of features, their keys and words of the stream ConfigMaps, so that no change of the code renames a cluster.

    Thousands of clusters share a policy, and each one's name is asked for many times.
    """
    keys = [(name, cluster_key(name, setting)) for name, setting in policy]
    differing = json.dumps([keys, protocol, how, *([host] if host else [])])
    return hashlib.blake2b(differing.encode(), digest_size=4).hexdigest()


def cluster_key(name: str, setting: Any) -> str | None:
    """What stands for a feature's setting in the names of clusters; None where the feature has nothing to say."""
    return None if setting is None else features()[name].cluster_key(setting)


def besides(location: Location) -> tuple[Cluster, ...]:
    """The clusters that the features want for a location, beside those of its routes."""
    wanted = (clusters(location.settings[name], location) for name, clusters in with_hook("clusters") if name in location.settings)
    return tuple(dict.fromkeys(cluster for some in wanted for cluster in some))


def drawn(location: Location, route: Route) -> tuple[Route, ...]:
    """What the features make of a location's route: those that act late in a request are asked first, so that the early ones see it all.

    What is closed answers 503, before any redirect, as ingress-nginx does.
    """
    if CLOSED in location.settings:
        return (replace(route, action=Respond(503)),)
    routes: tuple[Route, ...] = (route,)
    for name, draw in reversed(with_hook("routes")):
        if name in location.settings or (location.offers and features()[name].role):
            routes = draw(location.settings.get(name), location, routes)
    return routes


def stream(defaults: Settings, entry: Stream) -> Stream:
    """What the features make of an entry of the tcp- or udp-services ConfigMap."""
    for name, on_stream in with_hook("on_stream"):
        if name in defaults:
            entry = on_stream(defaults[name], entry)
    return entry


def asks(hook: str, settings: Mapping[str, Any]) -> bool:
    """Whether one of these settings is a yes to a hook that only answers a question, such as `by_address`."""
    for name, answer in with_hook(hook):  # noqa: SIM110 - a generator takes twice as long, and each host is asked seven times
        if name in settings and answer(settings[name]):
            return True
    return False


def role(own: Settings) -> Role:
    """What an Ingress with these settings does with its paths."""
    offers = any(name in own and its_role(own[name]) is Role.OFFERS for name, its_role in with_hook("role"))
    return Role.OFFERS if offers else Role.CLAIMS


@cache
def upstream_features() -> frozenset[str]:
    """The names of the features that are about a Service alone, whichever path leads to it."""
    about = {name: {a.scope for a in feature.annotations} for name, feature in features().items() if feature.role is None}
    return frozenset(name for name, scopes in about.items() if scopes == {Scope.UPSTREAM})


@lru_cache(maxsize=1024)
def offered(location: Settings, offering: Settings) -> Settings:
    """What holds for requests of a location that go to an offered backend: all that is not about the Service itself."""
    kept = {name: setting for name, setting in location.items() if name not in upstream_features()}
    return Settings(kept | {name: offering[name] for name in upstream_features() & offering.keys()})


def before_younger(own: Settings, younger: Mapping[str, Any]) -> Settings:
    """Those of the settings of an Ingress that hold for its host although younger Ingresses have some, too."""
    yields = dict(with_hook("yields"))
    return Settings({name: each for name, each in own.items() if name not in younger or name not in yields or not yields[name](each)})


@cache
def everywhere() -> frozenset[str]:
    """The names of the features whose settings hold where no other host and path does, too."""
    return frozenset(name for name, feature in features().items() if feature.everywhere)


@cache
def host_features() -> frozenset[str]:
    """The names of the features whose settings hold for a whole host."""
    return frozenset(name for name, feature in features().items() if feature.by_host)


def for_host(own: Settings) -> Settings:
    """Those of the settings of an Ingress that hold for its whole hosts."""
    stays = dict(with_hook("stays"))
    found = (name for name in host_features() if name in own)
    return Settings({name: own[name] for name in found if name not in stays or not stays[name](own[name])})


def on_path(settings: Settings, path: str) -> Settings:
    """What of the settings of an Ingress holds on one of its paths."""
    changed = {name: hook(settings[name], path) for name, hook in with_hook("on_path") if name in settings}
    if all(setting == settings[name] for name, setting in changed.items()):
        return settings
    return Settings({name: setting for name, setting in {**settings, **changed}.items() if setting is not None})


def is_plain(settings: Settings) -> bool:
    """Whether settings say nothing that has to be known of a whole host: what holds for all of it, access rules, further names."""
    return _beyond_paths().isdisjoint(settings)


@cache
def _beyond_paths() -> frozenset[str]:
    return frozenset((*host_features(), *_access_features(), *(name for name, _ in with_hook("names")), CLOSED))


def guarded(settings: Settings) -> bool:
    """Whether an access rule protects the paths that have these settings, or they are closed."""
    return bool(rules(settings))


def rules(settings: Settings) -> tuple[tuple[str, object], ...]:
    """The access rules among the settings of a location: what the features of that phase say, and whether one of them is enough.

    To be closed is one, for whatever reason.
    """
    found = tuple((name, settings[name]) for name in _access_features() if name in settings)
    if found and SATISFY in settings:
        found = (*found, (SATISFY, settings[SATISFY]))
    return (*found, (CLOSED, True)) if CLOSED in settings else found


def tightens(before: Settings, after: Settings, refused: Set[str]) -> bool:
    """Whether an edit of annotations adds an access rule, or changes one to what is not known to be as strict.

    Both are settings of annotations alone. A rule of which an annotation is `refused` may be any; the one before will do, if there was one.
    """
    if (CLOSED in after and CLOSED not in before) or (SATISFY in before and SATISFY not in after):
        return True
    for name, feature in features().items():
        if not _keeps_out(feature):
            continue
        if not refused.isdisjoint(each.name for each in feature.annotations):
            if name not in before:
                return True
        elif name in after and (name not in before or after[name] != before[name]):
            return True
    return False


def is_set(name: str, annotations_: Mapping[str, str]) -> bool:
    """Whether an annotation is there, can be read, and is another value than what holds anyway."""
    known = known_annotations()[name]
    try:
        text = annotations_.get(name, "")
        return bool(readable(text)) and bool(known.read(text) != known.default)
    except ValueError:
        return False


def protects(name: str) -> bool:
    """Whether an annotation is an access rule."""
    found = known_annotations().get(name)
    if found is None:
        return False
    return any(found in feature.annotations for feature in features().values() if _keeps_out(feature))


def _keeps_out(feature: Feature[Any]) -> bool:
    return feature.phase is Phase.ACCESS or feature.place is FilterPlace.ACCESS


@cache
def known_annotations() -> Mapping[str, Annotation[Any]]:
    """Every annotation that is known, by name (aliases too): those of the features, and those that only have a verdict."""
    declared = {a.name: a for feature in features().values() for a in feature.annotations}
    aliases = {a.alias: a for a in declared.values() if a.alias}
    return {**{a.name: a for a in ANNOTATIONS}, **aliases, **declared}


@cache
def known_keys() -> Mapping[str, Key[Any]]:
    """Every ConfigMap key that is known, by name."""
    declared = {k.name: k for feature in features().values() for k in feature.keys}
    declared |= {a.key.name: a.key for feature in features().values() for a in feature.annotations if a.key}
    return {**{k.name: k for k in KEYS}, **declared}


def read_keys(data: Mapping[str, str]) -> tuple[dict[str, Any], list[Complaint]]:
    """The values of the keys that features have; what could not be read keeps its default."""
    values: dict[str, Any] = {}
    complaints: list[Complaint] = []
    for name, key in known_keys().items():
        if name in data and name in _feature_keys():
            try:
                if not data[name] and key.parse is boolean and key.default:
                    values[name] = False  # to mapstructure, by which ingress-nginx reads its ConfigMap
                    complaints.append(Complaint(name, 'is empty, which is "false" to ingress-nginx', Unreadable.AS_WRITTEN))
                elif text := readable(data[name]):
                    values[name] = key.parse(text)
                    complaints += [Complaint(name, fault, key.faulty) for fault in (key.faults(values[name]) if key.faults else ())]
            except ValueError as error:
                complaints.append(Complaint(name, str(error), key.unreadable))
                if key.unreadable in (Unreadable.CLOSES, Unreadable.CLOSES_ALL):
                    values[name] = complaints[-1]  # it closes the paths of whoever asks for it (`Notes.key`)
    return values, complaints


def closes_all(key_values: Mapping[str, Any]) -> bool:
    """Whether a key that could not be read closes all paths, those of no Ingress as well."""
    return any(isinstance(each, Complaint) and each.then is Unreadable.CLOSES_ALL for each in key_values.values())


def read_settings(
    annotations_: Mapping[str, str], key_values: Mapping[str, Any], *, validated: bool = True
) -> tuple[Settings, list[Complaint]]:
    """What all features read from the annotations of an Ingress (without prefix) over the ConfigMap's values.

    Of an Ingress that offers its paths, what is not about its Services only matters where it leaves the Ingress out (`without_effect`).
    Where nothing is `validated`, as --enable-annotation-validation=false asks for, nothing is left out for a value that cannot be read:
    it has no effect, and that of an access rule closes its paths.
    """
    found, complaints = _read(annotations_, key_values, validated=validated)
    if role(found) is Role.OFFERS and (idle := without_effect(annotations_, found)):
        refused = [fault for fault in complaints if fault.name in idle and fault.then is Unreadable.LEAVES_OUT]
        kept = {name: text for name, text in annotations_.items() if name not in idle}
        found, complaints = _read(kept, key_values, validated=validated)
        complaints += refused
    return (found, complaints) if validated else _unvalidated(found, complaints)


def without_effect(annotations_: Iterable[str], own: Settings) -> frozenset[str]:
    """The annotations, of these names, that have no effect because the Ingress has no paths of its own."""
    if role(own) is Role.CLAIMS:
        return frozenset()
    known = known_annotations()
    return frozenset(name for name in annotations_ if name in known and known[name].scope is not Scope.UPSTREAM)


def _read(annotations_: Mapping[str, str], key_values: Mapping[str, Any], *, validated: bool) -> tuple[Settings, list[Complaint]]:
    notes = Notes(annotations_, key_values, validated=validated)
    found = Settings({name: setting for name, feature in features().items() if (setting := feature.read(notes)) is not None})
    for annotation in _checked_only():
        notes.own(annotation)
    if notes.closed:
        found[CLOSED] = _sentences(notes.closed)
    return found, notes.complaints


@cache
def _checked_only() -> tuple[Annotation[Any], ...]:
    """Annotations without a feature whose bad values have consequences all the same."""
    declared = {each.name for feature in features().values() for each in feature.annotations}
    return tuple(each for each in ANNOTATIONS if each.unreadable is not Unreadable.IDLE and each.name not in declared)


def _unvalidated(values: Settings, complaints: Iterable[Complaint]) -> tuple[Settings, list[Complaint]]:
    found = [
        replace(fault, then=Unreadable.CLOSES if protects(fault.name) else Unreadable.IDLE)
        if fault.then is Unreadable.LEAVES_OUT
        else fault
        for fault in complaints
    ]
    closed = [fault for fault in found if fault.then is Unreadable.CLOSES]
    return (Settings({**values, CLOSED: _sentences(closed)}) if closed else values), found


def forbidden(annotations_: Mapping[str, str], defaults: Settings) -> list[Forbidden]:
    """What of the annotations (without prefix) leaves their Ingress out, by the settings of the ConfigMap alone."""
    known = known_annotations()
    written = [Written(name, text, known[name].risk if name in known else None) for name, text in sorted(annotations_.items())]
    return [each for name, forbids in with_hook("forbids") if name in defaults for each in forbids(defaults[name], written)]


def secrets_of(cluster: Cluster) -> tuple[str, ...]:
    """The SDS secrets that a cluster refers to by its policy."""
    asked = ((setting, features()[name].cluster_secrets) for name, setting in cluster.policy if setting is not None)
    return tuple(secret for setting, hook in asked if hook for secret in hook(setting))


def of_host(settings: Iterable[Settings], host: VirtualHost) -> VirtualHost:
    """What the features make of a host with all of its routes, by the settings of its Ingresses, oldest first."""
    everything = list(settings)
    for name, hook in with_hook("on_host"):
        if own := [each[name] for each in everything if name in each]:
            host = hook(own, host)
    return host


def resolved(settings: Settings, item: Ingress, objects: Objects) -> tuple[Settings, list[Complaint | Closed | Barred]]:
    """The settings with what features read of other objects, and what came in the way."""
    if having("resolve").isdisjoint(settings):
        return settings, []
    made = Settings(settings)
    faults: list[Complaint | Closed | Barred] = []
    for name, resolve in with_hook("resolve"):
        if name not in settings:
            continue
        found = resolve(settings[name], item, objects)
        if isinstance(found, (Complaint, Closed)):
            del made[name]
            faults.append(found)
        elif isinstance(found, Barred):
            made[name] = found.setting
            faults.append(found)
        else:
            made[name] = found
    if closed := [fault for fault in faults if isinstance(fault, Closed)]:
        made[CLOSED] = "; ".join([*([made[CLOSED]] if CLOSED in made else []), _sentences(closed)])
    return made, faults


def further_names(item: Ingress, prefix: str) -> Iterator[tuple[str, str]]:
    """The names that an Ingress gives to its hosts, each with that host, as far as its annotations tell."""
    own = {key.removeprefix(prefix): value for key, value in item.meta.annotations.items() if key.startswith(prefix)}
    for name, names in with_hook("names"):
        feature = features()[name]
        if own.keys().isdisjoint(a.name for a in feature.annotations) or (setting := feature.read(Notes(own, {}))) is None:
            continue
        for host in hosts_of(item):
            yield from ((given.host, host) for given in names(setting, host))


def _sentences(faults: Iterable[Complaint | Closed]) -> str:
    return "; ".join(dict.fromkeys(f"{fault.name} {fault.sentence}" for fault in faults))


@cache
def _access_features() -> tuple[str, ...]:
    return tuple(name for name, feature in features().items() if feature.phase is Phase.ACCESS)


@cache
def _feature_keys() -> frozenset[str]:
    return frozenset(known_keys()) - {k.name for k in KEYS}

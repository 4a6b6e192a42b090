"""What Ingresses claim on a host: which of them count, their paths in order of precedence, and whether those are regular expressions.

What belongs here: what must be known of a host before any of its paths is translated (`xds.translate.hosts`). An Ingress is read once,
however many hosts it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xds.kube.objects import Backend, Ingress, Rule, ref
from xds.kube.world import MOST_RULES, MOST_WILDCARDS, Reader, ingress, ingresses_of, report_about, rules_with_effect, settings
from xds.model import Settings
from xds.nginx import registry
from xds.nginx.feature import Role
from xds.nginx.registry import before_younger, for_host, host_features, on_path, with_hook
from xds.problem import Severity
from xds.translate.configuration import ingress_settings
from xds.translate.paths import EXACT
from xds.translate.selection import served_as

MOST_PATHS = 5_000
"""Paths of one Ingress, over all of its rules, that have an effect. Envoy parses each again at every change of the route table."""

Where = tuple[str, str]
"""What Ingresses claim of a host: a path as configured, and "Exact" or "Prefix"."""
ROOT: Where = ("/", "Prefix")
"""What a default backend answers for."""
DEFAULT_BACKEND = "spec.defaultBackend"
"""The field of a default backend."""

_NO_SETTINGS = Settings()
_FEW = 8
"""Rules of an Ingress up to which they are scanned for each host; with more an index pays off."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A path of an Ingress on its way to a Location; `field` names it in the Ingress, `number` counts the paths before it."""

    item: Ingress
    path: str
    type: str
    backend: Backend
    field: str
    number: int = 0

    @property
    def where(self) -> Where:
        """What is claimed. A path without a type, or of type ImplementationSpecific, is a Prefix (nginx 4.1)."""
        return (self.path, EXACT if self.type == EXACT else "Prefix")

    def part(self, name: str) -> str:
        """The field of a part of it, `path` or one below `backend`. A default backend is the backend itself, and has no path."""
        if self.field != DEFAULT_BACKEND:
            return f"{self.field}.{name}"
        return DEFAULT_BACKEND + (name.removeprefix("backend") if name.startswith("backend") else "")


def serving(read: Reader, host: str) -> list[Ingress]:
    """The Ingresses whose rules for a host (in lower case) have an effect, oldest first.

    With `--host-ownership` these are the Ingresses of one namespace: that of the oldest.
    """
    ours = claimants(read, host)
    if len(ours) < 2 or not settings(read).host_ownership:
        return ours
    return [item for item in ours if item.meta.namespace == ours[0].meta.namespace]


def claimants(read: Reader, host: str) -> list[Ingress]:
    """All Ingresses of our class that claim paths of a host, oldest first, whichever namespace owns it."""
    return [*read.unit(by_role, host).claiming]


def offering(read: Reader, host: str) -> list[Ingress]:
    """The Ingresses that offer their backends for paths of a host, oldest first.

    With `--host-ownership` these are those of the namespace that owns the host: nobody else decides where its requests go.
    """
    ours = offerers(read, host)
    if not ours or not settings(read).host_ownership:
        return ours
    owners = claimants(read, host)
    return [item for item in ours if not owners or item.meta.namespace == owners[0].meta.namespace]


def offerers(read: Reader, host: str) -> list[Ingress]:
    """All Ingresses of our class that offer anything for a host, oldest first, whichever namespace owns it."""
    return [*read.unit(by_role, host).offering]


class ByRole(NamedTuple):
    """The Ingresses of our class that claim paths of a host, and those that offer anything for it, oldest first.

    `is_plain`: none of those that claim says anything that has to be known of a host as a whole (`registry.is_plain`).
    """

    claiming: tuple[Ingress, ...]
    offering: tuple[Ingress, ...]
    is_plain: bool


def by_role(read: Reader, host: str) -> ByRole:
    """Who has what role on a host. A Unit: each host asks many times."""
    roles = [(read.unit(served_as, i.meta.namespace, i.meta.name), i) for i in ingresses_of(read, host)]
    claiming = tuple([i for role, i in roles if role is Role.CLAIMS])
    is_plain = all(registry.is_plain(settings_of(read, item)) for item in claiming)
    return ByRole(claiming, tuple([i for role, i in roles if role is Role.OFFERS]), is_plain)


def is_plain(read: Reader, host: str) -> bool:
    """Whether nothing has to be known of a host as a whole: it has no `host_settings`, no rules that guard paths, and no further names."""
    return read.unit(by_role, host).is_plain


def claims_of(read: Reader, item: Ingress, host: str) -> Iterator[Claim]:
    """The paths that an Ingress claims on a host, in the order of the Ingress."""
    for r, before, rule in rules_of(read, item, host):
        for p, path in enumerate(rule.paths):
            yield Claim(item, path.path or "/", path.type, path.backend, f"spec.rules[{r}].http.paths[{p}]", before + p)


def claims_in_order(item: Ingress) -> Iterator[tuple[str, Claim]]:
    """All paths of an Ingress that may have an effect, in the order of the Ingress, each with its host."""
    for r, before, rule in _numbered(item):
        for p, path in enumerate(rule.paths[: max(0, MOST_PATHS - before)]):
            yield rule.host.lower(), Claim(item, path.path or "/", path.type, path.backend, f"spec.rules[{r}].http.paths[{p}]", before + p)


def offers_in_order(item: Ingress) -> Iterator[tuple[str, Claim]]:
    """The same of an Ingress that offers its backends: its default backend is for what no host and path takes."""
    if item.default_backend and not item.rules:
        yield "", Claim(item, *ROOT, item.default_backend, DEFAULT_BACKEND)
    yield from claims_in_order(item)


def rules_of(read: Reader, item: Ingress, host: str) -> Iterable[tuple[int, int, Rule]]:
    """The rules of an Ingress for a host: the index of each, the number of paths before it, and the rule."""
    if len(item.rules) <= _FEW:
        return [numbered for numbered in _numbered(item) if numbered[2].host.lower() == host]
    return read.unit(rules_by_host, item.meta.namespace, item.meta.name).get(host, ())


def rules_by_host(read: Reader, namespace: str, name: str) -> Mapping[str, tuple[tuple[int, int, Rule], ...]]:
    """`rules_of` for every host of an Ingress that has many. A Unit."""
    found: dict[str, list[tuple[int, int, Rule]]] = {}
    item = ingress(read, namespace, name)
    for numbered in _numbered(item) if item else ():
        found.setdefault(numbered[2].host.lower(), []).append(numbered)
    if item and len(item.rules) > MOST_RULES:
        sentence = f"The Ingress has {len(item.rules):,} rules; those after the first {MOST_RULES:,} have no effect: split it into several."
        report_about(read, item, "spec.rules", "too-many-rules", sentence)
    if item and (count := sum(rule.host.startswith("*.") for rule in item.rules)) > MOST_WILDCARDS:
        sentence = (
            f"The Ingress has {count:,} wildcard hosts; those after the first {MOST_WILDCARDS} have no effect: split it into several."
        )
        report_about(read, item, "spec.rules", "too-many-wildcards", sentence)
    return {host: tuple(rules) for host, rules in found.items()}


def _numbered(item: Ingress) -> Iterator[tuple[int, int, Rule]]:
    before = 0
    for number, rule in rules_with_effect(item):
        yield number, before, rule
        before += len(rule.paths)


def settings_of(read: Reader, item: Ingress) -> Settings:
    """The settings that the features read from an Ingress."""
    return read.unit(ingress_settings, item.meta.namespace, item.meta.name)


def settings_on(read: Reader, host: str, claim: Claim) -> Settings:
    """Those that hold on the path that is claimed of a host."""
    return on_host(read, host, on_path(settings_of(read, claim.item), claim.path))


def on_host(read: Reader, host: str, own: Settings) -> Settings:
    """Settings with those that hold for the whole host."""
    found = shared_settings(read, host)
    return Settings({**own, **found}) if found else own


def shared_settings(read: Reader, host: str) -> Settings:
    """The `host_settings`; most hosts have none, and need no Unit to know it."""
    return _NO_SETTINGS if is_plain(read, host) else read.unit(host_settings, host)


def host_settings(read: Reader, host: str) -> Settings:
    """What holds for all paths of a host: of each such feature, the setting of the oldest Ingress that has one. A Unit."""
    found: dict[str, Any] = {}
    for item in reversed(serving(read, host)) if host_features() else ():
        found |= before_younger(for_host(settings_of(read, item)), found)
    return Settings(found)


def claimed(read: Reader, host: str) -> Mapping[Where, tuple[Claim, ...]]:
    """All that is claimed of a host, by whom, oldest first; a default backend claims ROOT where no rule does. A Unit."""
    ours = serving(read, host)
    found: dict[Where, list[Claim]] = {}
    for claim in (claim for item in ours for claim in claims_of(read, item, host)):
        found.setdefault(claim.where, []).append(claim)
    if ROOT not in found and (default := default_claim(host, ours)):
        found[ROOT] = [default]
    return {place: tuple(claims) for place, claims in found.items()}


def default_claim(host: str, ours: Iterable[Ingress]) -> Claim | None:
    """The defaultBackend that has what no path of a host takes: of its first Ingress; without a host, of the first that has no rules."""
    able = list(ours)[:1] if host else [item for item in ours if not item.rules]
    item = next((item for item in able if item.default_backend), None)
    return Claim(item, *ROOT, item.default_backend, DEFAULT_BACKEND) if item and item.default_backend else None


def has_regex(read: Reader, claims: Iterable[Claim]) -> bool:
    """Whether one of a host's paths makes all of them regular expressions (nginx 4.1). Of several claims of a path the first counts."""
    hooks = with_hook("regex")
    taken: dict[Where, Claim] = {}
    for claim in claims:
        if taken.setdefault(claim.where, claim) is not claim:
            continue
        own = settings_of(read, claim.item)
        if any(name in own and regex(own[name], claim.path, claim.type == EXACT) for name, regex in hooks):
            return True
    return False


def is_regex_host(read: Reader, host: str) -> bool:
    """`has_regex` for a host by name. A Unit."""
    return has_regex(read, (claim for item in serving(read, host) for claim in claims_of(read, item, host)))


def report_foreign(read: Reader, host: str, all_of: list[Ingress]) -> None:
    """What Ingresses of other namespaces have on a host: errors where `--host-ownership` is set, else notes."""
    owner = all_of[0]
    where = f'Host "{host}"' if host else "What no other host takes"
    whose = f"{where} belongs to namespace {owner.meta.namespace}, whose {ref(owner)} claimed it first"
    for item in (i for i in all_of if i.meta.namespace != owner.meta.namespace):
        if not settings(read).host_ownership:
            sentence = f"{whose}. What this Ingress does to it would have no effect with --host-ownership."
            report_about(read, item, "spec.rules", f"foreign-host:{host}", sentence, Severity.NOTE)
            continue
        fields = [claim.part("path") for claim in claims_of(read, item, host)] or [DEFAULT_BACKEND]
        for field in fields:
            sentence = f"{whose}; this has no effect, nor has the tls section for it (--host-ownership)."
            report_about(read, item, field, f"foreign-host:{host}", sentence)


def report_claim(read: Reader, claim: Claim, field: str, code: str, sentence: str, severity: Severity = Severity.ERROR) -> None:
    """Report a Problem about a field of what a claim is made from."""
    report_about(read, claim.item, claim.part(field), code, sentence, severity)

"""The budget of regular expressions of one Ingress, and of one host: Envoy compiles all of a route table at each change of it.

Costs are those of `xds.patterns.regex.cost`, in microseconds of Envoy's time. An Ingress spends its budget in the order of its rules, a
host in that of its Ingresses, oldest first. After it is exhausted no further path with an expression is compiled or served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from xds.kube.objects import ref
from xds.kube.world import Reader, ingress, report_about
from xds.model import Cluster, Forward, Location, Offer, PathMatch, Redirect, Route
from xds.nginx import registry
from xds.nginx.registry import drawn, guarded, with_hook
from xds.patterns import regex, spelling
from xds.problem import Ref
from xds.translate import guards, paths
from xds.translate.certificates import redirects_to_https
from xds.translate.claims import (
    MOST_PATHS,
    Claim,
    claimed,
    claims_in_order,
    is_regex_host,
    offers_in_order,
    serving,
    settings_of,
    settings_on,
)

OF_INGRESS = 5_000
"""The budget of an Ingress: 5 ms at each change of the table, enough for some 80 usual paths that are redirected and rewritten."""

OF_HOST = 20_000
"""The budget of a host, for all of its Ingresses."""

MOST_CLOSURES = 3
"""First path segments for which left-out paths with access rules are closed one by one; beyond that, all together."""

LONGEST_START = 50
"""Characters of a closed prefix: it is an expression, too."""

REFUSED = 5
"""The cost of a path that cannot be served: checking it takes time all the same."""
_SOMEWHERE = Forward(Cluster("", "", 0))


class Allowance:
    """What is left of a budget. After one cost that exceeds it nothing more can be spent: so that what comes first is what is served."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def spend(self, cost: int) -> bool:
        """Whether the cost could be spent."""
        self._left = -1 if cost > self._left else self._left - cost
        return self._left >= 0


def _has_expressions(read: Reader, host: str, claim: Claim, *, as_regex: bool) -> bool:
    """Whether Envoy compiles an expression for a path of a host."""
    if as_regex:
        return True
    if not registry.having("patterns").isdisjoint(settings_on(read, host, claim)):
        return True
    return bool(spelling.pattern(_match(read, host, claim, as_regex=False)))


def _match(read: Reader, host: str, claim: Claim, *, as_regex: bool) -> PathMatch:
    """The match of a valid path, in all spellings where access rules require that."""
    guard = guards.guard_of(read, host)
    match = paths.match(claim.path, claim.type, as_regex=as_regex)
    return guard.widened(match) if guard else match


def costs(read: Reader, namespace: str, name: str) -> Mapping[str, int]:
    """The costs of the paths with expressions that are within the budget of an Ingress: field → cost. A Unit."""
    found: dict[str, int] = {}
    item = ingress(read, namespace, name)
    allowance = Allowance(OF_INGRESS)
    hosts: dict[str, tuple[bool, bool]] = {}
    for host, claim in claims_in_order(item) if item else ():
        if host not in hosts:
            hosts[host] = (read.unit(is_regex_host, host), read.unit(is_redirected, host))
        as_regex, tls = hosts[host]
        if not _has_expressions(read, host, claim, as_regex=as_regex):
            continue
        cost = _cost(read, host, claim, as_regex=as_regex, tls=tls)
        if not allowance.spend(cost):
            break
        found[claim.field] = cost
    return found


def costs_of_offers(read: Reader, namespace: str, name: str) -> Mapping[str, int]:
    """The costs of the offers that are within the budget of an Ingress: field → cost, 0 for what Envoy compiles nothing of. A Unit.

    An offer makes more routes of a path that another Ingress claims. They count against the Ingress that offers, so that it takes nothing
    of the budget of the other one; where several claim the path, the dearest counts.
    """
    found: dict[str, int] = {}
    item = ingress(read, namespace, name)
    allowance = Allowance(OF_INGRESS)
    for host, claim in offers_in_order(item) if item else ():
        rivals = read.unit(claimed, host).get(claim.where, ())
        cost = max((_surplus(read, host, rival, claim) for rival in rivals), default=0)
        if cost and not allowance.spend(cost):
            break
        found[claim.field] = cost
    return found


def is_redirected(read: Reader, host: str) -> bool:
    """Whether plain http to a host is redirected to https. A Unit: a host may be that of many Ingresses."""
    return redirects_to_https(read, host, serving(read, host))


def _surplus(read: Reader, host: str, claim: Claim, offered: Claim) -> int:
    """What the expressions of a claimed path cost more because of an offer."""
    as_regex, tls = read.unit(is_regex_host, host), read.unit(is_redirected, host)
    if paths.fault(claim.path, as_regex=as_regex):
        return 0
    match = _match(read, host, claim, as_regex=as_regex)
    own, others = settings_on(read, host, claim), settings_of(read, offered.item)
    location = Location(host, claim.path, match, tls, ref(claim.item), claim.field, own)
    offer = Offer(_SOMEWHERE, ref(offered.item), offered.field, others, registry.offered(own, others))
    alone = Route(match, _SOMEWHERE, location.origin, location.rule, settings=own)
    before = drawn(location, alone)
    after = drawn(replace(location, offers=(offer,)), alone)
    surplus = sum(map(cost_of, after)) - sum(map(cost_of, before))
    return surplus + guards.surcharge(match, own, surplus, routes=len(after) - len(before))


def _cost(read: Reader, host: str, claim: Claim, *, as_regex: bool, tls: bool) -> int:
    if paths.fault(claim.path, as_regex=as_regex):
        return REFUSED
    match = _match(read, host, claim, as_regex=as_regex)
    own = settings_on(read, host, claim)
    location = Location(host, claim.path, match, tls, ref(claim.item), claim.field, own)
    cost = sum(map(cost_of, drawn(location, Route(match, _SOMEWHERE, location.origin, location.rule, settings=own))))
    return cost + guards.surcharge(match, own, cost)


def cost_of(route: Route) -> int:
    """The cost of a route's expressions."""
    pattern = spelling.pattern(route.match)
    own = regex.cost(pattern) if pattern else 0
    if isinstance(route.action, Redirect) and route.action.pattern:
        own += regex.cost(route.action.pattern)
    hooks = ((route.settings[name], patterns) for name, patterns in with_hook("patterns") if name in route.settings)
    drawn_on_it = [pattern for setting, patterns in hooks for pattern in patterns(setting, route)]
    headers = [header.value for header in route.headers if header.regex and header.value not in drawn_on_it]
    return own + sum(map(regex.cost, (*drawn_on_it, *headers)))


@dataclass(slots=True)
class LeftOut:
    """Paths of one Ingress that a host is served without: the first of them, the longest, and their common prefix."""

    first: Claim
    longest: str
    start: str

    def add(self, path: str, start: str) -> None:
        """One more."""
        self.longest = max(self.longest, path, key=len)
        differs = (n for n, (ours, other) in enumerate(zip(self.start, start, strict=False)) if ours != other)
        self.start = self.start[: next(differs, min(len(self.start), len(start)))]


def admit(read: Reader, host: str, claims: Iterable[Claim], allowance: Allowance, *, as_regex: bool) -> tuple[list[Claim], list[LeftOut]]:
    """The claims that a host is served with, and the paths that are left out of each Ingress: excess, over budget, or invalid.

    `allowance` is the host's; what is left of it may be spent on offers.
    """
    admitted: list[Claim] = []
    out: dict[Ref, dict[str, LeftOut]] = {}
    excess: dict[tuple[Ref, str], list[Claim]] = {}
    for claim in claims:
        about = ref(claim.item)
        if why := _excess(read, host, claim, allowance, as_regex=as_regex):
            excess.setdefault((about, why), []).append(claim)
        elif fault := paths.fault(claim.path, as_regex=as_regex):
            sentence = f"The path {claim.path[:80]!r} {fault}; it has no effect."
            report_about(read, claim.item, claim.part("path"), "path", sentence)
        else:
            admitted.append(claim)
            continue
        if not claim.path.startswith("/"):
            continue  # no request has such a path, so there is nothing to close
        _leave_out(out.setdefault(about, {}), claim, _start(claim.path, as_regex=as_regex))
    _report_excess(read, host, excess)
    for groups in out.values():
        _report_closed(read, host, list(groups.values()))
    return admitted, [each for groups in out.values() for each in groups.values()]


def admit_offers(read: Reader, host: str, offers: Iterable[Claim], allowance: Allowance) -> list[Claim]:
    """The offers that a host is served with. Of one that is left out nothing is closed: the path's own backend has its requests."""
    admitted: list[Claim] = []
    excess: dict[tuple[Ref, str], list[Claim]] = {}
    for claim in offers:
        cost = read.unit(costs_of_offers, claim.item.meta.namespace, claim.item.meta.name).get(claim.field)
        if claim.number >= MOST_PATHS:
            why = "too-many-paths"
        elif cost is None:
            why = "regex-budget"
        else:
            why = "" if cost == 0 or allowance.spend(cost) else "regex-budget-of-host"
        if why:
            excess.setdefault((ref(claim.item), why), []).append(claim)
        else:
            admitted.append(claim)
    _report_excess(read, host, excess)
    return admitted


def _leave_out(groups: dict[str, LeftOut], claim: Claim, start: str) -> None:
    """Group left-out paths by their first segments; those beyond MOST_CLOSURES in one group, so that few routes replace thousands."""
    segment = start[: start.find("/", 1) + 1] or start
    if segment not in groups and len(groups) >= MOST_CLOSURES:
        segment = ""
    groups.setdefault(segment, LeftOut(claim, claim.path, start)).add(claim.path, start)


def _excess(read: Reader, host: str, claim: Claim, allowance: Allowance, *, as_regex: bool) -> str:
    """The limit that a path exceeds: a key of `_LIMITS`, or ""."""
    if claim.number >= MOST_PATHS:
        return "too-many-paths"
    if not _has_expressions(read, host, claim, as_regex=as_regex):
        return ""
    cost = read.unit(costs, claim.item.meta.namespace, claim.item.meta.name).get(claim.field)
    if cost is None:
        return "regex-budget"
    return "" if allowance.spend(cost) else "regex-budget-of-host"


_LIMITS = {
    "too-many-paths": f"an Ingress has {MOST_PATHS:,} paths at most: split it into several",
    "regex-budget": "the regular expressions before it use up the Ingress' budget of Envoy's time, 5 ms at each change: "
    "use fewer, shorter ones, or plain paths",
    "regex-budget-of-host": "the regular expressions before it, and of older Ingresses, use up the host's budget of Envoy's time, "
    "20 ms at each change: use fewer, shorter ones, or plain paths",
}


def _report_excess(read: Reader, host: str, excess: Mapping[tuple[Ref, str], Sequence[Claim]]) -> None:
    for (_, why), claims in excess.items():
        first = claims[0]
        which = "This path has" if len(claims) == 1 else f"This path and {len(claims) - 1:,} after it have"
        sentence = f"{which} no effect: {_LIMITS[why]}."
        report_about(read, first.item, f"{first.field}.path", f"{why}:{host}", sentence)


def _report_closed(read: Reader, host: str, out: Sequence[LeftOut]) -> None:
    item = out[0].first.item
    if guarded(settings_of(read, item)):
        what = f'of host "{host}"' if host else "of no other host"
        starts = " or ".join(f'"{each.start}"' for each in out)
        taken = f"all requests {what} that begin with {starts} and that no path before them takes"
        sentence = f"Paths of this Ingress are left out, and it has an access rule: in their place, {taken} are answered with 503."
        report_about(read, item, "spec.rules", f"closed:{host}", sentence)


def _start(path: str, *, as_regex: bool) -> str:
    """The common prefix of all requests that a path would have matched, at least "/"; expressions match without regard to case."""
    return regex.literal_start(path.lower() if as_regex else path)[:LONGEST_START] or "/"

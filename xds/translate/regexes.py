"""What regular expressions one Ingress, and one host, may have Envoy compile: an Envoy compiles all of a table at each change of anything.

Costs are those of `xds.patterns.regex.cost`, in microseconds. An Ingress spends in the order of its rules, a host in that of its
Ingresses, the oldest first. Of what comes after the budget is spent nothing is compiled or served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xds.kube.objects import ref
from xds.kube.world import Reader, ingress
from xds.model import Cluster, Forward, Location, PathMatch, Redirect, Route
from xds.nginx.registry import drawn, guarded, with_hook
from xds.patterns import regex, spelling
from xds.problem import Problem, Ref
from xds.translate import guards, paths
from xds.translate.certificates import redirects_to_https
from xds.translate.claims import MOST_PATHS, Claim, claims_in_order, is_regex_host, serving, settings_of

OF_INGRESS = 5_000
"""The budget of an Ingress: 5 ms of each rebuilding of a table, some 80 paths of the usual kind that are redirected and rewritten."""

OF_HOST = 20_000
"""The budget of a host, for all of its Ingresses."""

MOST_CLOSURES = 3
"""First segments of protected paths that are left out of a host, each of which is closed by itself."""

_LONGEST_START = 50
"""Characters of what is closed: a closed path is an expression, too."""

_REFUSED = 5
"""The price of a path that cannot be served: somebody has looked at it all the same."""
_SOMEWHERE = Forward(Cluster("", "", 0))


class Purse:
    """What is left of a budget. Once a price was too high, nothing is paid any more, so that what comes first is served."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    @property
    def is_empty(self) -> bool:
        """Whether nothing more can be paid."""
        return self._left < 0

    def pay(self, price: int) -> bool:
        """Whether this could be paid."""
        self._left = -1 if price > self._left else self._left - price
        return self._left >= 0


def _has_expressions(read: Reader, host: str, claim: Claim, *, as_regex: bool) -> bool:
    """Whether a path of a host makes Envoy compile anything."""
    if as_regex or any(name in settings_of(read, claim.item) for name, _ in with_hook("patterns")):
        return True
    return bool(spelling.pattern(_match(read, host, claim, as_regex=False)))


def _match(read: Reader, host: str, claim: Claim, *, as_regex: bool) -> PathMatch:
    """The match of an acceptable path, in all spellings where an access rule wants that."""
    guard = read.unit(guards.guard, host)
    match = paths.match(claim.path, claim.type, as_regex=as_regex)
    return guard.widened(match) if guard else match


def prices(read: Reader, namespace: str, name: str) -> Mapping[str, int]:
    """What those paths of an Ingress cost that it can afford: field → price. A Unit; a path that has to be paid and is not here is not."""
    found: dict[str, int] = {}
    item = ingress(read, namespace, name)
    purse = Purse(OF_INGRESS)
    hosts: dict[str, tuple[bool, bool]] = {}
    for host, claim in claims_in_order(item) if item else ():
        if host not in hosts:
            hosts[host] = (read.unit(is_regex_host, host), redirects_to_https(read, host, serving(read, host)))
        as_regex, tls = hosts[host]
        if not _has_expressions(read, host, claim, as_regex=as_regex):
            continue
        price = _price(read, host, claim, as_regex=as_regex, tls=tls)
        if not purse.pay(price):
            break
        found[claim.field] = price
    return found


def _price(read: Reader, host: str, claim: Claim, *, as_regex: bool, tls: bool) -> int:
    if paths.fault(claim.path, as_regex=as_regex):
        return _REFUSED
    match = _match(read, host, claim, as_regex=as_regex)
    own = settings_of(read, claim.item)
    location = Location(host, claim.path, match, tls, ref(claim.item), claim.field, own)
    price = sum(map(cost_of, drawn(location, Route(match, _SOMEWHERE, location.origin, location.rule, settings=own))))
    return price + guards.surcharge(match, own, price)


def cost_of(route: Route) -> int:
    """What the expressions of a route cost."""
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
    """Paths of one Ingress that a host is served without: the first of them, the longest, and a text that all begin with."""

    first: Claim
    longest: str
    start: str

    def add(self, path: str, start: str) -> None:
        """One more."""
        self.longest = max(self.longest, path, key=len)
        differs = (n for n, (ours, other) in enumerate(zip(self.start, start, strict=False)) if ours != other)
        self.start = self.start[: next(differs, min(len(self.start), len(start)))]


def admit(read: Reader, host: str, claims: Iterable[Claim], *, as_regex: bool) -> tuple[list[Claim], list[LeftOut]]:
    """The claims that a host is served with, and what is left out of each Ingress: too many, too dear, or no paths at all."""
    admitted: list[Claim] = []
    out: dict[Ref, dict[str, LeftOut]] = {}
    excess: dict[tuple[Ref, str], list[Claim]] = {}
    purse = Purse(OF_HOST)
    for claim in claims:
        about = ref(claim.item)
        if why := _excess(read, host, claim, purse, as_regex=as_regex):
            excess.setdefault((about, why), []).append(claim)
        elif fault := paths.fault(claim.path, as_regex=as_regex):
            sentence = f"The path {claim.path[:80]!r} {fault}; it has no effect."
            read.report(Problem(about, f"{claim.field}.path", "path", sentence, place=claim.item.meta.place))
        else:
            admitted.append(claim)
            continue
        if not claim.path.startswith("/"):
            continue  # no request has such a path
        _leave_out(out.setdefault(about, {}), claim, _start(claim.path, as_regex=as_regex))
    _report_excess(read, host, excess)
    for groups in out.values():
        _report_closed(read, host, list(groups.values()))
    return admitted, [each for groups in out.values() for each in groups.values()]


def _leave_out(groups: dict[str, LeftOut], claim: Claim, start: str) -> None:
    """Paths are left out by their first segments; of many, the later ones together, so that few routes take the place of thousands."""
    segment = start[: start.find("/", 1) + 1] or start
    if segment not in groups and len(groups) >= MOST_CLOSURES:
        segment = ""
    groups.setdefault(segment, LeftOut(claim, claim.path, start)).add(claim.path, start)


def _excess(read: Reader, host: str, claim: Claim, purse: Purse, *, as_regex: bool) -> str:
    """Which limit a path exceeds: a key of `_LIMITS`, or ""."""
    if claim.number >= MOST_PATHS:
        return "too-many-paths"
    if not _has_expressions(read, host, claim, as_regex=as_regex):
        return ""
    price = read.unit(prices, claim.item.meta.namespace, claim.item.meta.name).get(claim.field)
    if price is None:
        return "regex-budget"
    return "" if purse.pay(price) else "regex-budget-of-host"


_LIMITS = {
    "too-many-paths": f"an Ingress has {MOST_PATHS:,} paths at most: split it into several",
    "regex-budget": "the regular expressions before it take all that one Ingress may take of Envoy's time, 5 ms at each change: "
    "use fewer, shorter ones, or plain paths",
    "regex-budget-of-host": "the regular expressions before it, and of older Ingresses, take all that one host may take of Envoy's time, "
    "20 ms at each change: use fewer, shorter ones, or plain paths",
}


def _report_excess(read: Reader, host: str, excess: Mapping[tuple[Ref, str], Sequence[Claim]]) -> None:
    for (about, why), claims in excess.items():
        first = claims[0]
        which = "This path has" if len(claims) == 1 else f"This path and {len(claims) - 1:,} after it have"
        sentence = f"{which} no effect: {_LIMITS[why]}."
        read.report(Problem(about, f"{first.field}.path", f"{why}:{host}", sentence, place=first.item.meta.place))


def _report_closed(read: Reader, host: str, out: Sequence[LeftOut]) -> None:
    item = out[0].first.item
    if guarded(settings_of(read, item)):
        what = f'of host "{host}"' if host else "of no other host"
        starts = " or ".join(f'"{each.start}"' for each in out)
        taken = f"all requests {what} that begin with {starts} and that no path before them takes"
        sentence = f"Paths of this Ingress are left out, and it has an access rule: in their place, {taken} are answered with 503."
        read.report(Problem(ref(item), "spec.rules", f"closed:{host}", sentence, place=item.meta.place))


def _start(path: str, *, as_regex: bool) -> str:
    """What all requests begin with that a path would have taken (regular expressions take them in any case), and no less than "/"."""
    return regex.literal_start(path.lower() if as_regex else path)[:_LONGEST_START] or "/"

"""What Ingresses offer for paths that others claim: which offer joins which path, and which has no effect (nginx 4.12).

An Ingress whose role is Role.OFFERS, a canary, claims nothing. Each of its paths joins the path of the same host, text and type that
another Ingress has claimed; of several offers for one path the first counts. Which requests go there is a matter of the Feature that has
the role; where they go, of `xds.translate.hosts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from xds.kube.objects import Ingress, ref
from xds.kube.world import Reader, report_about
from xds.model import Action, Forward, Location, Route
from xds.problem import Severity
from xds.translate.claims import Claim, Where, claimants, claims_of, offerers, offering, offers_in_order, report_claim, report_foreign
from xds.translate.regexes import Allowance, admit_offers

NOBODY = "offer-unclaimed-host"
"""The code, before the host, of offers for a host that no Ingress claims."""

Joining = Mapping[Where, Sequence[Claim]]


def joining(read: Reader, host: str, allowance: Allowance) -> Joining:
    """The offers for the paths of a host, those that come first before others: as far as that the host and their Ingresses can afford."""
    found: dict[Where, list[Claim]] = {}
    wanted = [claim for item in offering(read, host) for claim in _offers_of(read, item, host)]
    for claim in admit_offers(read, host, wanted, allowance):
        found.setdefault(claim.where, []).append(claim)
    return found


def _offers_of(read: Reader, item: Ingress, host: str) -> list[Claim]:
    """The paths that an Ingress offers something for; its default backend is offered for what no host and path takes."""
    if item.rules and item.default_backend:
        sentence = "An Ingress that claims no paths offers its default backend only where it has no rules; this one has no effect."
        report_about(read, item, "spec.defaultBackend", "offer-default", sentence, Severity.WARNING)
    return list(claims_of(read, item, host)) if item.rules else [claim for _, claim in offers_in_order(item)]


def report_none_served(read: Reader, host: str) -> None:
    """Offers for a host that is not served, for nobody claims it."""
    for item in offering(read, host):
        sentence = f'No Ingress claims host "{host}", so this canary has no primary there, and no effect.'
        first = next(iter(_offers_of(read, item, host)), None)
        field = first.field if first else "spec.rules"
        report_about(read, item, field, f"{NOBODY}:{host}", sentence)


def first(
    read: Reader, offering: Sequence[Claim], action: Action, leads_to: Callable[[Claim], Action]
) -> tuple[Claim | None, Action | None]:
    """The offer that counts for a path whose own backend is `action`, and where it leads: the first that leads elsewhere."""
    for number, claim in enumerate(offering):
        to = leads_to(claim)
        if _is_same(to, action):
            sentence = "The backend is the one that the path has anyway; this canary has no effect."
            report_claim(read, claim, "backend", "offer-same", sentence, Severity.WARNING)
            continue
        for other in offering[number + 1 :]:
            sentence = f"{ref(claim.item)} ({claim.field}) is a canary of this path, and comes first; this one has no effect."
            report_claim(read, other, "path", "offer-conflict", sentence)
        return claim, to
    return None, None


def _is_same(one: Action, other: Action) -> bool:
    if not isinstance(one, Forward) or not isinstance(other, Forward):
        return False
    ours, theirs = one.cluster, other.cluster
    return (ours.namespace, ours.service, ours.port) == (theirs.namespace, theirs.service, theirs.port)


def report_unclaimed(read: Reader, host: str, joined: Joining, claimed: Collection[Where]) -> None:
    """The offers for paths that nobody claims."""
    for place, offers in joined.items():
        for claim in offers if place not in claimed else ():
            report_claim(read, claim, "path", "offer-unclaimed", _unclaimed(host, place, claimed))


def _unclaimed(host: str, place: Where, claimed: Collection[Where]) -> str:
    path, kind = place
    other = "Prefix" if kind == "Exact" else "Exact"
    where = f'of host "{host}"' if host else "of no host"
    instead = f"; it is claimed as {other}" if (path, other) in claimed else ""
    return f"No Ingress claims the path {path[:80]!r} ({kind}) {where}{instead}. So this canary has no primary there, and no effect."


def report_unasked(read: Reader, location: Location, routes: Sequence[Route], claim: Claim) -> None:
    """An offer to which no request goes: it asks for none, as when a release begins, or the location's Ingress forwards none (`routes`)."""
    if any(isinstance(route.action, Forward) for route in routes):
        sentence = "No request goes to this canary: its annotations ask for none."
        report_claim(read, claim, "path", "offer-idle", sentence, Severity.NOTE)
    else:
        sentence = f"{location.origin} answers all requests of this path by itself; this canary gets none."
        report_claim(read, claim, "path", "offer-unasked", sentence, Severity.WARNING)


def report_foreigners(read: Reader, host: str) -> None:
    """Offers of other namespaces than the one that owns the host (`--host-ownership`)."""
    others = offerers(read, host)
    owners = claimants(read, host) if others else []
    if owners and any(item.meta.namespace != owners[0].meta.namespace for item in others):
        report_foreign(read, host, [owners[0], *others])

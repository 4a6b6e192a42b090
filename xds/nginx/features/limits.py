"""limit-rps, limit-rpm, limit-connections: how many requests one client may send to the paths of an Ingress, and have open there.

A route says which buckets its requests take tokens from, and how many (`xds.nginx.buckets`); a filter of the listener has the buckets
(`limit_req_status_code`). Another one has open requests counted by the authorisation service (`xds.nginx.open_requests`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.core.v3 import Metadata, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, Rbac
from envoy_data_plane.envoy.config.route.v3 import FilterConfig
from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct, Value

from xds.kube.objects import Ingress
from xds.model import Forward, Respond, Route
from xds.nginx import open_requests
from xds.nginx.buckets import MULTIPLIERS, NOTE, RPM, RPS, UNITS, Limit, limit
from xds.nginx.feature import Annotation, Complaint, Feature, Fidelity, FilterPlace, Key, Notes, Objects, Phase, Unreadable
from xds.nginx.messages import CACHED, from_ranges
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS, ranges, whole
from xds.wire.encode import encode, pack

COUNTER = "limits"
"""The name of the listener's filter."""
SHAPE, COST = "shape", "cost"
"""The keys of a limit in the metadata of a route."""
_DEFAULT_BACKEND = Respond(404)
"""ingress-nginx has a backend of its own for this, and counts these requests."""


def _natural(text: str) -> int:
    """A number of requests; 0 and less set no limit, as in ingress-nginx."""
    return max(0, whole(-(10**18), 10**18)(text))


def _is_odd(multiplier: int, _paths: Collection[str]) -> bool:
    return multiplier not in MULTIPLIERS


_SEPARATE = "requests over http, over https and websockets are counted apart, and so is each certificate's filter chain"
LIMIT_RPS = Annotation(
    "limit-rps",
    _natural,
    "Requests a second that one client address may send to all paths and hosts of the Ingress together.",
    "10",
    0,
    Fidelity.APPROXIMATE,
    _SEPARATE,
    unreadable=Unreadable.LEAVES_OUT,
)
LIMIT_RPM = Annotation(
    "limit-rpm",
    _natural,
    "The same in requests a minute; both may hold at once.",
    "300",
    0,
    Fidelity.APPROXIMATE,
    _SEPARATE,
    unreadable=Unreadable.LEAVES_OUT,
)
LIMIT_BURST_MULTIPLIER = Annotation(
    "limit-burst-multiplier",
    whole(1, 10**9),
    "For how many seconds or minutes requests may come at once.",
    "3",
    5,
    Fidelity.APPROXIMATE,
    "bursts are exact where it is 1, 2, 3, 5 or 10; else they are the nearest of those for which Envoy has buckets",
    _is_odd,
)
LIMIT_CONNECTIONS = Annotation(
    "limit-connections",
    _natural,
    "Requests that one client address may have open on all paths and hosts of the Ingress together.",
    "20",
    0,
    Fidelity.APPROXIMATE,
    "the authorisation service counts, so nothing is limited while it is away, and beyond 3,000 open requests of one Envoy",
    unreadable=Unreadable.LEAVES_OUT,
)
LIMIT_CONN_STATUS_CODE = Key(
    "limit-conn-status-code",
    whole(400, 599),
    "The status for requests over limit-connections.",
    "429",
    503,
)
LIMIT_ALLOWLIST = Annotation[tuple[str, ...]](
    "limit-allowlist",
    ranges,
    "Client addresses without a limit, as IP addresses and CIDR ranges.",
    "10.0.0.0/8",
    (),
    alias="limit-whitelist",
    unreadable=Unreadable.LEAVES_OUT,
)


@dataclass(frozen=True, slots=True)
class Limited:
    """The limits of the Ingress `location` ("namespace/name"), and the ranges of clients that they are not for.

    `open` is how many requests a client may have open, 0 for any number; `refusal` is the status for those beyond.
    """

    limits: tuple[Limit, ...]
    open: int
    refusal: int
    exempt: tuple[str, ...]
    location: str = ""


def _read(notes: Notes) -> Limited | None:
    """Every annotation is read in any case, so that a bad value is seen before there is a limit."""
    multiplier, exempt = notes.get(LIMIT_BURST_MULTIPLIER), notes.get(LIMIT_ALLOWLIST)
    rates = ((RPS, notes.get(LIMIT_RPS)), (RPM, notes.get(LIMIT_RPM)))
    limits = tuple(limit(unit, rate, multiplier) for unit, rate in rates if rate)
    most = notes.get(LIMIT_CONNECTIONS)
    return Limited(limits, most, notes.key(LIMIT_CONN_STATUS_CODE), exempt) if limits or most else None


def _resolve(found: Limited, item: Ingress, _objects: Objects) -> Limited | Complaint:
    """As in ingress-nginx, all paths of an Ingress count together. Not where they would make a table that takes Envoy long to read."""
    made = replace(found, location=f"{item.meta.namespace}/{item.meta.name}")
    size = len(encode(_counted(made.exempt, made.location))) * item.most_locations
    if size > LONGEST_IN_ALL_LOCATIONS:
        most = f"{LONGEST_IN_ALL_LOCATIONS:,}"
        return Complaint(
            LIMIT_ALLOWLIST.name, f"comes to {size:,} bytes on all paths and hosts together, more than {most}; nothing is limited"
        )
    return made


def _is_counted(route: Route) -> bool:
    """Not what nginx answers before it counts: redirects, and that there are no endpoints."""
    return isinstance(route.action, Forward) or route.action == _DEFAULT_BACKEND


def _on_route(found: Limited, route: Route, envoy: EnvoyRoute) -> None:
    if not _is_counted(route):
        return
    envoy.metadata = envoy.metadata or Metadata()
    if found.limits:
        limits = {each.per: each for each in found.limits}
        envoy.metadata.filter_metadata |= {in_route(unit.name): _takes(limits.get(unit.name)) for unit in UNITS}
        envoy.typed_per_filter_config[COUNTER] = _switched_on()
    if found.open:
        envoy.metadata.filter_metadata[open_requests.ROUTE] = _may_open(found.open, found.refusal)
        envoy.typed_per_filter_config[open_requests.FILTER] = _switched_on()


def in_route(unit: str) -> str:
    """The namespace of a limit in the metadata of a route, by the name of its unit."""
    return f"xds.limit.{unit}"


@lru_cache(maxsize=CACHED)
def _takes(found: Limit | None) -> Struct:
    """Without a limit there is no shape, so nothing is counted; but Envoy reads the cost in any case, and logs where there is none."""
    cost = {COST: Value(string_value=str(found.cost if found else 1))}
    return Struct(fields={SHAPE: Value(string_value=found.shape), **cost} if found else cost)


@lru_cache(maxsize=CACHED)
def _may_open(most: int, refusal: int) -> Struct:
    fields = {open_requests.MOST: most, open_requests.STATUS: refusal}
    return Struct(fields={key: Value(string_value=str(value)) for key, value in fields.items()})


@cache
def _switched_on() -> AnyMessage:
    return pack(FilterConfig(config=AnyMessage()))


def _filters(found: Limited, route: Route) -> tuple[TypedExtensionConfig, ...]:
    return (_counted(found.exempt, found.location),) if _is_counted(route) else ()


@lru_cache(maxsize=CACHED)
def _counted(exempt: tuple[str, ...], location: str) -> TypedExtensionConfig:
    """Rules that refuse nobody: for whom they are, the name of their policy is noted in the metadata of the request."""
    client = Principal(not_id=from_ranges(exempt)) if exempt else Principal(any=True)
    rules = Rbac(policies={location: Policy(permissions=[Permission(any=True)], principals=[client])})
    return TypedExtensionConfig(name=COUNTER, typed_config=pack(RbacFilter(shadow_rules=rules, shadow_rules_stat_prefix=NOTE)))


FEATURE = Feature(
    read=_read,
    annotations=(LIMIT_RPS, LIMIT_RPM, LIMIT_BURST_MULTIPLIER, LIMIT_CONNECTIONS, LIMIT_ALLOWLIST),
    keys=(LIMIT_CONN_STATUS_CODE,),
    phase=Phase.LIMIT,
    resolve=_resolve,
    on_route=_on_route,
    filters=_filters,
    place=FilterPlace.LIMIT,
)

"""allowlist-source-range and denylist-source-range: the client addresses that may come, and those that may not.

Who the client is, is decided before (`xds.nginx.features.real_ip`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, PrincipalSet, Rbac
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter

from xds.kube.objects import Ingress
from xds.model import Forward, Respond, Route, Settings
from xds.nginx.access import noting, satisfies_any
from xds.nginx.feature import Annotation, Closed, Feature, FilterPlace, Key, Notes, Objects, Phase, Risk, Unreadable
from xds.nginx.messages import CACHED, from_ranges
from xds.nginx.values import LONGEST_IN_ALL_LOCATIONS, ranges
from xds.wire.encode import encode, pack

NAME = "source-range"
_EVERYBODY = ("0.0.0.0/0", "::/0")
_DEFAULT_BACKEND = Respond(404)
"""ingress-nginx has a backend of its own for this, so that the lists hold for it as well."""


def _allowed(text: str) -> tuple[str, ...]:
    """The ranges that may come; none where everybody may, as cert-manager's challenge solvers have it."""
    found = ranges(text)
    return () if found == _EVERYBODY else found


ALLOWLIST = Annotation[tuple[str, ...]](
    "allowlist-source-range",
    _allowed,
    "The only client addresses that are allowed, as IP addresses and CIDR ranges; all others get 403.",
    "10.0.0.0/8, 2001:db8::/32",
    (),
    risk=Risk.MEDIUM,
    key=Key[tuple[str, ...]](
        "whitelist-source-range",
        _allowed,
        "The only client addresses that are allowed on paths whose Ingress has no such list of its own.",
        "10.0.0.0/8",
        (),
        unreadable=Unreadable.CLOSES,
    ),
    alias="whitelist-source-range",
    unreadable=Unreadable.CLOSES,
)
DENYLIST = Annotation[tuple[str, ...]](
    "denylist-source-range",
    ranges,
    "Client addresses that are denied, even if they are in the allow list: they get 403.",
    "192.0.2.0/24",
    (),
    risk=Risk.MEDIUM,
    key=Key[tuple[str, ...]](
        "denylist-source-range",
        ranges,
        "Client addresses that are denied on paths whose Ingress has no such list of its own.",
        "192.0.2.0/24",
        (),
        unreadable=Unreadable.CLOSES,
    ),
    unreadable=Unreadable.CLOSES,
)


@dataclass(frozen=True, slots=True)
class SourceRanges:
    """Ranges as `xds.nginx.values.ranges` has them; with nothing `allowed`, everybody is who is not denied."""

    allowed: tuple[str, ...]
    denied: tuple[str, ...]


def lists_of(settings: Settings) -> SourceRanges | None:
    """The lists among the settings of a route."""
    return settings.get("source_ranges")


def _read(notes: Notes) -> SourceRanges | None:
    found = SourceRanges(notes.get(ALLOWLIST), notes.get(DENYLIST))
    return found if found.allowed or found.denied else None


def _resolve(found: SourceRanges, item: Ingress, _objects: Objects) -> SourceRanges | Closed:
    """Not where the lists, on so many paths, would make a table that takes Envoy long to read."""
    size = len(encode(_access(found))) * item.most_locations
    if size > LONGEST_IN_ALL_LOCATIONS:
        name = (ALLOWLIST if len(found.allowed) > len(found.denied) else DENYLIST).name
        return Closed(name, f"comes to {size:,} bytes on all paths and hosts together, which is more than {LONGEST_IN_ALL_LOCATIONS:,}")
    return found


def _filters(found: SourceRanges, route: Route) -> tuple[TypedExtensionConfig, ...]:
    """What nginx answers before it looks at addresses stays: redirects, and that there are no endpoints.

    Where another rule may let clients in (`satisfy: any`), nobody is refused here. Whoever is only not denied still has to ask.
    """
    if satisfies_any(route.settings):
        return (_noted(found),) if found.allowed else ()
    if isinstance(route.action, Forward) or route.action == _DEFAULT_BACKEND:
        return (_access(found),)
    return ()


@lru_cache(maxsize=CACHED)
def _access(found: SourceRanges) -> TypedExtensionConfig:
    return TypedExtensionConfig(name=NAME, typed_config=pack(RbacFilter(rules=_rules(found))))


@lru_cache(maxsize=CACHED)
def _noted(found: SourceRanges) -> TypedExtensionConfig:
    return TypedExtensionConfig(name=NAME, typed_config=pack(noting(_rules(found))))


def _rules(found: SourceRanges) -> Rbac:
    """One policy: the client is among those who are allowed, and not among those who are denied."""
    conditions = [Principal(not_id=from_ranges(found.denied))] if found.denied else []
    conditions += [from_ranges(found.allowed)] if found.allowed else []
    principal = conditions[0] if len(conditions) == 1 else Principal(and_ids=PrincipalSet(ids=conditions))
    policy = Policy(permissions=[Permission(any=True)], principals=[principal])
    return Rbac(policies={NAME: policy})


FEATURE = Feature(
    read=_read,
    annotations=(ALLOWLIST, DENYLIST),
    phase=Phase.ACCESS,
    resolve=_resolve,
    filters=_filters,
    place=FilterPlace.ACCESS,
)

"""Which Ingress owns each path of a host, who else wants it, and where it leads.

What belongs here: a row for each path, from the claims of a host (`xds.translate.claims`). What does not: which of them a request takes
(`xds.explain.route_of`), and searching them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xds.kube.objects import Backend, ref
from xds.kube.world import Reader, ingresses_of
from xds.problem import Ref
from xds.translate import further_names
from xds.translate.claims import Where, claimants, claimed, claims_of, offering, offers_in_order


class OwnedPath(NamedTuple):
    """A path of a host ("" for the catch-all) and the Ingress that has it.

    `backend` is "service:port" as the rule has it. `others` claim the path as well, in vain; `canaries` get some of its requests.
    `name_of` is the host whose further name this is, with all of its paths; "" for a host that a rule has.
    """

    host: str
    path: str
    type: str
    owner: Ref
    backend: str
    others: tuple[Ref, ...] = ()
    canaries: tuple[Ref, ...] = ()
    name_of: str = ""


def owned_paths(read: Reader, host: str) -> list[OwnedPath]:
    """The paths of a host by path and type; of a further name one row that names its host."""
    found = claimed(read, host)
    if not found:
        return list(_of_further_name(read, host))
    alone = len(ingresses_of(read, host)) < 2  # so it is with most, of which there may be thousands
    wanted, offered = ({}, {}) if alone else (_wanted(read, host), _offered(read, host))
    rows = []
    for where, (first, *_) in sorted(found.items()):
        owner = ref(first.item)
        others = tuple(about for about in wanted.get(where, ()) if about != owner)
        rows.append(OwnedPath(host, *where, owner, backend_words(first.backend), others, tuple(offered.get(where, ()))))
    return rows


def _wanted(read: Reader, host: str) -> dict[Where, dict[Ref, None]]:
    """Who claims each path, be it in vain."""
    found: dict[Where, dict[Ref, None]] = {}
    for item in claimants(read, host):
        for claim in claims_of(read, item, host):
            found.setdefault(claim.where, {})[ref(item)] = None
    return found


def _offered(read: Reader, host: str) -> dict[Where, dict[Ref, None]]:
    """Whose canaries join each path."""
    found: dict[Where, dict[Ref, None]] = {}
    for item in offering(read, host):
        for name, claim in offers_in_order(item):
            if name == host:
                found.setdefault(claim.where, {})[ref(item)] = None
    return found


def _of_further_name(read: Reader, host: str) -> Iterator[OwnedPath]:
    given = read.unit(further_names.given, host) if host else None
    if given is not None:
        to = f"redirect to {given.host}" if given.name.redirect else ""
        yield OwnedPath(host, "/", "Prefix", ref(given.item), to, name_of=given.host)


def backend_words(backend: Backend) -> str:
    """A backend as people write it: "web:80"."""
    if backend.resource:
        return backend.resource
    return f"{backend.service}:{backend.port}" if backend.port else backend.service

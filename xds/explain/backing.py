"""What stands behind a route as JSON: the Service, its endpoints with their health, and the certificate.

What belongs here: one object or list for each. What does not: which route answers (`xds.explain.route_of`).
"""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime

from xds.certificates.pairs import Pair
from xds.json_forms import Json, object_json, place_json
from xds.kube.objects import Endpoint
from xds.kube.world import Reader, service, settings, slices_of
from xds.model import Cluster, Terminate
from xds.problem import Ref
from xds.translate.backends import Address, addresses, external_address
from xds.translate.certificates import DEFAULT, certificate


def service_json(read: Reader, about: Ref, port: str) -> Json:
    """A Service that was meant, whether or not it exists, and the port of it as it was written."""
    item = service(read, about.namespace, about.name)
    place = place_json(item.meta.place if item else None)
    return object_json(about) | {"place": place, "port": port, "exists": item is not None, "type": item.type if item else None}


def endpoints_json(read: Reader, about: Ref, wanted: Cluster | None) -> list[Json]:
    """Those that Envoy has, with what it makes of them, and those that are left out as they are not ready."""
    item = service(read, about.namespace, about.name)
    if wanted and (external := external_address(item, wanted)):
        return [{"address": external.ip, "port": external.port, "health": "resolved by Envoy"}]
    live = addresses(read, wanted) if wanted else ()
    slices = list(slices_of(read, about.namespace, about.name))
    going = {ip for piece in slices for e in piece.endpoints if not e.ready for ip in e.addresses}
    listed = [{"address": a.ip, "port": a.port, "health": _health(a, going)} for a in live]
    known = {a.ip for a in live}
    unready = {ip for piece in slices for e in piece.endpoints if _is_out(e) for ip in e.addresses}
    return listed + [{"address": ip, "port": None, "health": "not ready"} for ip in sorted(unready - known)]


def certificate_json(read: Reader, tls: Terminate) -> Json:
    """The certificate that Envoy shows for a host with this TLS; `secret` is None for the one that is made at the start."""
    secret = tls.certificate or settings(read).default_ssl_certificate
    pair = read.unit(certificate, *secret.split("/", 1)) if secret else None
    if not isinstance(pair, Pair):
        return {"name": DEFAULT, "secret": None, "names": [], "not_after": None}
    until = datetime.fromtimestamp(pair.not_after, UTC).isoformat().replace("+00:00", "Z")
    about = object_json(Ref("Secret", *secret.split("/", 1)))
    return {"name": tls.certificate or DEFAULT, "secret": about, "names": list(pair.names), "not_after": until}


def _health(address: Address, going: Container[str]) -> str:
    """`going` are addresses that are not ready. Where no other is, one that terminates is given requests all the same."""
    if address.draining:
        return "draining"
    return "terminating" if address.ip in going else "ready"


def _is_out(endpoint: Endpoint) -> bool:
    return not endpoint.ready and not (endpoint.serving and endpoint.terminating)

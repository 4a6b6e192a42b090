"""default-backend: the Service that answers instead of 503 where the one of a path has no endpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace

from envoy_data_plane.envoy.config.route.v3 import Route as EnvoyRoute

from xds.kube.objects import Ingress, Service, ServicePort
from xds.model import Cluster, Forward, Location, Respond, Route
from xds.nginx.feature import Annotation, Complaint, Feature, Objects, Phase, Scope, Unreadable
from xds.nginx.messages import formatted, overwriting
from xds.nginx.values import matching, shown

NAME = "default_backend"
DEFAULT_BACKEND = Annotation(
    "default-backend",
    matching(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "name of a Service"),
    "The Service of the same namespace that answers, on its first port, where that of a path is missing or has no endpoints.",
    "fallback",
    "",
    scope=Scope.LOCATION,
    unreadable=Unreadable.LEAVES_OUT,
)


@dataclass(frozen=True, order=True, slots=True)
class Fallback:
    """Who answers instead; `instead_of` is the backend for which it answers, its Service and port as they are written.

    `external`: a Service of type ExternalName.
    """

    service: str
    namespace: str = ""
    ingress: str = ""
    port: int = 0
    instead_of: tuple[str, int | str] | None = None
    external: bool = False

    @property
    def cluster(self) -> Cluster:
        """Where its Service is."""
        return Cluster(self.namespace, self.service, self.port, external=self.external)


def _resolve(wanted: Fallback, item: Ingress, objects: Objects) -> Fallback | Complaint:
    found = objects.service(item.meta.namespace, wanted.service)
    if found is None:
        return Complaint(DEFAULT_BACKEND.name, f"names Service {item.meta.namespace}/{wanted.service}, which does not exist")
    about = f"names Service {item.meta.namespace}/{wanted.service}"
    first = next((port for port in found.ports if port.protocol == "TCP"), None)
    if first is None:
        return Complaint(DEFAULT_BACKEND.name, f"{about}, which has no TCP port")
    external = found.type == "ExternalName"
    if external and (why := _unreachable(found, first, objects)):
        return Complaint(DEFAULT_BACKEND.name, f"{about}, which {why}")
    return Fallback(wanted.service, item.meta.namespace, item.meta.name, first.port, external=external)


def _unreachable(found: Service, first: ServicePort, objects: Objects) -> str:
    """Why nothing is sent to what a Service of type ExternalName stands for, as the end of a sentence; "" where it is."""
    host = objects.external_host(found)
    if not host:
        return "stands for no name here"
    why = objects.refusal(host, first.target_number)
    return f"stands for {shown(host)}, which {why}" if why else ""


def _routes(wanted: Fallback, location: Location, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Asked before all others, when there is but the route to the backend: what cannot be reached answers 503."""
    if not wanted.port or [route.action for route in routes] != [Respond(503)]:
        return routes
    there = replace(wanted, instead_of=location.backend)
    return (replace(routes[0], action=Forward(wanted.cluster), settings=location.settings.but(**{NAME: there})),)


def _on_forward(wanted: Fallback, _route: Route, envoy: EnvoyRoute) -> None:
    if wanted.instead_of is None:
        return
    service, port = wanted.instead_of
    headers = {"X-Code": "503", "X-Namespace": wanted.namespace, "X-Ingress-Name": wanted.ingress}
    headers |= {"X-Service-Name": service, "X-Service-Port": str(port)}
    envoy.request_headers_to_add += [overwriting(name, text) for name, text in headers.items()]
    envoy.request_headers_to_remove.append("X-Format")  # a client without Accept chooses none
    envoy.request_headers_to_add.append(formatted("X-Format", "%REQ(accept)%"))


FEATURE = Feature(
    read=lambda notes: Fallback(name) if (name := notes.get(DEFAULT_BACKEND)) else None,
    annotations=(DEFAULT_BACKEND,),
    phase=Phase.BALANCER,
    resolve=_resolve,
    routes=_routes,
    on_forward=_on_forward,
    falls_back=lambda wanted: wanted.port > 0,
)

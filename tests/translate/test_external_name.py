"""Where an ExternalName may lead, and what a path answers whose ExternalName is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds.config import Flags
from xds.kube.objects import Backend, Ingress, Meta, Rule, Service, ServicePort
from xds.kube.objects import Path as IngressPath
from xds.kube.world import World
from xds.model import Cluster, Forward, Respond, VirtualHost
from xds.problem import Ref
from xds.translate.hosts import virtual_host
from xds.units.memo import Build, Unit

FOLDER = Flags(watch_ingress_without_class=True, manifests=(Path("manifests"),))
API_SERVER = Flags(watch_ingress_without_class=True)
LOOPBACK = (
    *("localhost", "LocalHost", "localhost.", "app.localhost", "ip6-localhost", "localhost4", "localhost.localdomain"),
    *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:7f00:1"),
)
BEYOND = ("example.com", "localhost.example.com", "mylocalhost", "10.0.0.1", "2001:db8::1")
PORT = ServicePort(8080, "web")
WEB = Ref("Ingress", "default", "web")


def asked(settings: Flags, name: str, port: int | str = 80, ports: tuple[ServicePort, ...] = ()) -> tuple[object, list[str]]:
    """What becomes of the path of an Ingress that leads to an ExternalName, and the sentences of all Problems."""
    backend = Backend("outside", port)
    world = World(settings)
    put = (
        Service(meta=Meta(namespace="default", name="outside"), type="ExternalName", external_name=name, ports=ports),
        Ingress(meta=Meta(namespace="default", name="web"), rules=(Rule("a.test", (IngressPath("/", "Prefix", backend),)),)),
    )
    build = Build(world.get)
    world.apply(put)
    build.keep(Unit(virtual_host, ("a.test",)))
    found = build.value(Unit(virtual_host, ("a.test",)))
    assert isinstance(found, VirtualHost), build.faults
    (route,) = found.routes
    return route.action, [str(problem) for problems in build.problems.values() for problem in problems]


@pytest.mark.parametrize("name", LOOPBACK)
def test_loopback_is_refused_where_the_objects_come_from_a_cluster(name: str) -> None:
    action, problems = asked(API_SERVER, name)
    assert action == Respond(503)
    assert [p for p in problems if "Service default/outside leads to an address that endpoints may not have; the path answers 503." in p]
    assert [p for p in problems if p.startswith("Service default/outside spec.externalName: ") and "which no endpoint may be" in p]


@pytest.mark.parametrize("name", LOOPBACK)
def test_loopback_is_where_everything_is_with_a_folder(name: str) -> None:
    assert asked(FOLDER, name) == (Forward(Cluster("default", "outside", 80, external=True, asked_by=WEB)), [])


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("settings", [FOLDER, API_SERVER], ids=["folder", "API server"])
def test_what_is_beyond_loopback_is_reached(settings: Flags, name: str) -> None:
    assert asked(settings, name) == (Forward(Cluster("default", "outside", 80, external=True, asked_by=WEB)), [])


@pytest.mark.parametrize("name", [*BEYOND, "localhost"])
def test_a_flag_refuses_all_of_them(name: str) -> None:
    flags = Flags(watch_ingress_without_class=True, manifests=FOLDER.manifests, disable_svc_external_name=True)
    action, problems = asked(flags, name)
    assert action == Respond(503)
    assert len(problems) == 1


@pytest.mark.parametrize("name", ["", " ", "."])
def test_no_name_leads_nowhere(name: str) -> None:
    assert asked(API_SERVER, name)[0] == Respond(503)


@pytest.mark.parametrize(
    ("port", "ports", "number"),
    [(443, (), 443), ("443", (), 443), (443, (PORT,), 443), ("web", (PORT,), 8080), (8080, (PORT,), 8080)],
)
def test_the_port_need_not_be_declared(port: int | str, ports: tuple[ServicePort, ...], number: int) -> None:
    assert asked(API_SERVER, "example.com", port, ports) == (
        Forward(Cluster("default", "outside", number, external=True, asked_by=WEB)),
        [],
    )


@pytest.mark.parametrize("port", ["web", 0, 65536, ""])
def test_a_port_that_is_none_is_a_problem(port: int | str) -> None:
    action, problems = asked(API_SERVER, "example.com", port)
    assert action == Respond(503)
    assert [p for p in problems if f"Service default/outside {'has no port' if port else 'is named without a port'}" in p]

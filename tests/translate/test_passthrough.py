"""Where TLS of a host ends: whom ssl-passthrough leads to, who decides, and what may not be led to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from xds.config import Flags
from xds.kube.objects import (
    Backend,
    ConfigMap,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Meta,
    Object,
    Path,
    Rule,
    Service,
    ServicePort,
    Tls,
)
from xds.kube.world import World
from xds.model import Cluster, HostTls, Passthrough, Terminate
from xds.problem import Problem
from xds.translate.hosts import virtual_host
from xds.units.memo import Build, Unit

FLAGS = Flags(watch_ingress_without_class=True, enable_ssl_passthrough=True, https_port=8443, pod_namespace="ingress-xds")
PASS = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
HOST = "a.example.com"


def ingress(name: str, *paths: tuple[str, str], namespace: str = "one", passes: bool = True, day: int = 1, more: str = "") -> Ingress:
    """With paths ("/", "Exact") or so, in the order of their days."""
    annotations = (PASS if passes else {}) | ({f"nginx.ingress.kubernetes.io/{more}": "true"} if more else {})
    meta = Meta(namespace=namespace, name=name, created=f"2026-01-{day:02}T00:00:00Z", annotations=annotations)
    return Ingress(meta=meta, rules=(Rule(HOST, tuple(Path(path, kind, Backend("web", 443)) for path, kind in paths)),))


def backend(namespace: str = "one", ip: str = "10.0.0.1", port: int = 8443, *, cluster_ip: str = "10.96.0.1") -> list[Object]:
    ports = (ServicePort(443, "tls", port),)
    service = Service(meta=Meta(namespace=namespace, name="web"), ports=ports, cluster_ips=(cluster_ip,) if cluster_ip else ())
    meta = Meta(namespace=namespace, name="web-1")
    return [service, EndpointSlice(meta=meta, service="web", ports=(EndpointPort("tls", port),), endpoints=(Endpoint((ip,)),))]


def tls_of(put: Iterable[Object], flags: Flags = FLAGS) -> tuple[HostTls, list[Problem]]:
    world = World(flags)
    world.apply(put)
    build, unit = Build(world.get), Unit(virtual_host, (HOST,))
    found = build.value(unit)
    assert not build.faults
    return found.tls, [problem for problems in build.problems.values() for problem in problems]


def passed(namespace: str = "one") -> HostTls:
    return Passthrough(Cluster(namespace, "web", 443, by_address=True))


@pytest.mark.parametrize("kind", ["Prefix", "ImplementationSpecific"])
def test_it_leads_to_the_service_of_the_root_whatever_else_the_host_has(kind: str) -> None:
    found, problems = tls_of([ingress("i", ("/", kind)), *backend()])
    assert (found, problems) == (passed(), [])
    found, problems = tls_of([ingress("i", ("/x", "Prefix"), ("/", kind), ("/", "Exact")), *backend()])
    assert (found, [p.code for p in problems]) == (passed(), [f"tls-passthrough-paths:{HOST}"])


def test_an_exact_root_is_not_the_root() -> None:
    found, problems = tls_of([ingress("i", ("/", "Exact")), *backend()])
    assert (found, [p.code for p in problems]) == (Passthrough(None), [f"tls-passthrough:{HOST}"])


def test_the_oldest_ingress_decides_and_the_root_may_be_of_another() -> None:
    asks, has_root = ingress("i", ("/x", "Prefix"), day=1), ingress("j", ("/", "Prefix"), namespace="two", passes=False, day=2)
    assert tls_of([asks, has_root, *backend(), *backend("two")])[0] == passed("two")
    younger = ingress("i", ("/x", "Prefix"), day=3)
    found, problems = tls_of([younger, has_root, *backend(), *backend("two")])
    assert found == Terminate()
    assert [(p.about.name, p.code) for p in problems if "passthrough" in p.code] == [("i", f"tls-passthrough:{HOST}")]


def test_with_host_ownership_another_namespace_neither_decides_nor_is_led_to() -> None:
    owned = Flags(watch_ingress_without_class=True, enable_ssl_passthrough=True, host_ownership=True)
    asks, foreign = ingress("i", ("/x", "Prefix"), day=1), ingress("j", ("/", "Prefix"), namespace="two", day=2)
    assert tls_of([asks, foreign, *backend(), *backend("two")], owned)[0] == Passthrough(None)
    owner = ingress("i", ("/x", "Prefix"), passes=False, day=1)
    assert tls_of([owner, foreign, *backend(), *backend("two")], owned)[0] == Terminate()


def test_a_canary_neither_decides_nor_is_led_to() -> None:
    canary, primary = ingress("c", ("/", "Prefix"), day=1, more="canary"), ingress("i", ("/", "Prefix"), day=2, passes=False)
    assert tls_of([canary, primary, *backend()])[0] == Terminate()
    assert (
        tls_of([ingress("c", ("/", "Prefix"), day=1, passes=False, more="canary"), ingress("i", ("/", "Prefix"), day=2), *backend()])[0]
        == passed()
    )


def ours(ip: str) -> list[Object]:
    """The Service of the Envoys, in the namespace of the control plane."""
    return backend("ingress-xds", ip, cluster_ip="10.96.0.99")


@pytest.mark.parametrize(("ip", "port", "expected"), [("10.9.9.9", 8443, None), ("10.9.9.9", 9443, 443), ("10.9.9.8", 8443, 443)])
def test_a_service_of_a_stranger_that_leads_to_our_envoys_is_refused(ip: str, port: int, expected: int | None) -> None:
    """By slices that somebody wrote by hand; whatever the address of the Service is."""
    found, problems = tls_of([ingress("i", ("/", "Prefix")), *backend("one", ip, port), *ours("10.9.9.9")])
    assert isinstance(found, Passthrough)
    assert (found.cluster.port if found.cluster else None) == expected
    assert any("leads back to this Envoy" in p.sentence for p in problems) is (expected is None)


def test_a_port_of_the_tcp_services_is_a_way_back_as_well() -> None:
    """An entry may lead to the port for TLS, from where it would come in again."""
    flags = dataclasses.replace(FLAGS, tcp_services_configmap="one/tcp")
    tcp = ConfigMap(meta=Meta(namespace="one", name="tcp"), data={"9000": "ingress-xds/web:443"})
    for port, expected in ((9000, Passthrough(None)), (9001, passed())):
        put = [ingress("i", ("/", "Prefix")), *backend("one", "10.9.9.9", port), *ours("10.9.9.9"), tcp]
        assert tls_of(put, flags)[0] == expected


def test_nothing_is_wrong_with_a_secret_that_is_not_served() -> None:
    asks = ingress("i", ("/", "Prefix"))
    beside = Ingress(meta=asks.meta, rules=asks.rules, tls=(Tls((HOST,), "missing"),))
    assert tls_of([beside, *backend()]) == (passed(), [])
    ends_here = Ingress(meta=ingress("i", passes=False).meta, rules=asks.rules, tls=beside.tls)
    found, problems = tls_of([ends_here, *backend()])
    assert (found, [p.code for p in problems]) == (Terminate(), [f"secret-missing:{HOST}"])


def test_access_rules_that_do_not_hold_for_it_say_so() -> None:
    guarded = ingress("i", ("/", "Prefix"))
    rules = {"nginx.ingress.kubernetes.io/denylist-source-range": "192.0.2.0/24"}
    meta = Meta(namespace="one", name="i", annotations={**guarded.meta.annotations, **rules})
    found, problems = tls_of([Ingress(meta=meta, rules=guarded.rules), *backend()])
    assert found == passed()
    field = "metadata.annotations[nginx.ingress.kubernetes.io/denylist-source-range]"
    assert (f"tls-passthrough-access:{HOST}", field) in [(p.code, p.field) for p in problems]

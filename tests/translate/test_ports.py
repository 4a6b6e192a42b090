"""Which port of an endpoint answers where a Service's port and its targetPort differ: every kind of Service, every way to ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.config import Flags
from xds.kube.objects import ConfigMap, Endpoint, EndpointPort, EndpointSlice, Meta, Object, Service, ServicePort
from xds.kube.world import World
from xds.model import Cluster
from xds.translate.backends import (
    Address,
    Destination,
    Reach,
    addresses,
    destination,
    external_address,
    find_port,
    stream_destination,
)
from xds.translate.endpoint_addresses import denied
from xds.translate.streams import streams
from xds.units.memo import Recorder
from xds.units.tables import Tables

WEB = Meta(namespace="n", name="web")
IP = "10.0.0.1"
BY_ADDRESS = (True,)
PORTS = (
    ServicePort(80, "http", 8080),
    ServicePort(443, "https", "tls"),
    ServicePort(8080, "alt", 9090),
    ServicePort(53, "dns", 5353, "UDP"),
    ServicePort(53, "dns-tcp", 5354),
    ServicePort(7000, "same"),
)
SLICE = (
    EndpointPort("http", 8080),
    EndpointPort("https", 8443),
    EndpointPort("alt", 9090),
    EndpointPort("dns", 5353, "UDP"),
    EndpointPort("dns-tcp", 5354),
    EndpointPort("same", 7000),
)


def world(*objects: Object) -> Recorder:
    """What Units read."""
    made = World(Flags())
    made.apply(objects, ())
    return Recorder(Tables(made).build)


def web(ports: Sequence[ServicePort] = PORTS, kind: str = "ClusterIP", **more: object) -> Service:
    return Service(meta=WEB, type=kind, ports=tuple(ports), **more)  # type: ignore[arg-type]


def behind(*ports: EndpointPort) -> EndpointSlice:
    meta = Meta(namespace="n", name="web-1")
    return EndpointSlice(meta=meta, service="web", address_type="IPv4", ports=ports, endpoints=(Endpoint((IP,)),))


def asked(read: Recorder, port: int | str, protocol: str = "") -> tuple[Destination, tuple[int, ...]]:
    """Where an Ingress leads, or (with a protocol) an entry of a ConfigMap, and the ports of the endpoints behind it."""
    found = read.unit(stream_destination, "n", "web", port, protocol) if protocol else read.unit(destination, "n", "web", port)
    if found.reach not in (Reach.LIVE, Reach.EXTERNAL):
        return found, ()
    wanted = Cluster("n", "web", found.port, protocol=protocol or "TCP")
    external = external_address(read(("Service", "n", "web")), wanted)
    return found, (external.port,) if external else tuple(a.port for a in addresses(read, wanted))


KINDS = [web(), web(headless=True), web(kind="NodePort"), web(kind="LoadBalancer", cluster_ips=("10.9.9.9",))]


@pytest.mark.parametrize("found", KINDS, ids=["cluster-ip", "headless", "node-port", "load-balancer"])
@pytest.mark.parametrize(
    ("port", "number", "endpoint"),
    [
        (80, 80, 8080),
        ("http", 80, 8080),
        (443, 443, 8443),
        ("https", 443, 8443),
        ("tls", 443, 8443),
        (8080, 80, 8080),
        (9090, 8080, 9090),
        ("alt", 8080, 9090),
        (53, 53, 5354),
        ("dns-tcp", 53, 5354),
        ("same", 7000, 7000),
    ],
)
def test_an_ingress_asks_by_number_name_or_target_port(found: Service, port: int | str, number: int, endpoint: int) -> None:
    """The first port that has any of these wins: 8080 is the targetPort of 80."""
    assert asked(world(found, behind(*SLICE)), port) == (Destination(Reach.LIVE, number), (endpoint,))


@pytest.mark.parametrize(
    ("port", "protocol", "number", "endpoint"),
    [
        (80, "TCP", 80, 8080),
        ("https", "TCP", 443, 8443),
        (8080, "TCP", 8080, 9090),
        (53, "UDP", 53, 5353),
        (53, "TCP", 53, 5354),
        ("dns", "UDP", 53, 5353),
    ],
)
def test_an_entry_of_a_config_map_asks_by_number_or_name(port: int | str, protocol: str, number: int, endpoint: int) -> None:
    assert asked(world(web(), behind(*SLICE)), port, protocol) == (Destination(Reach.LIVE, number), (endpoint,))


@pytest.mark.parametrize(("port", "protocol"), [("tls", "TCP"), (9090, "TCP"), ("dns", "TCP"), (80, "UDP"), (1, "TCP"), (0, "TCP")])
def test_an_entry_that_names_no_port_of_its_protocol_leads_nowhere(port: int | str, protocol: str) -> None:
    assert asked(world(web(), behind(*SLICE)), port, protocol) == (Destination(Reach.NO_PORT), ())


@pytest.mark.parametrize("protocol", ["", "TCP"])
@pytest.mark.parametrize(
    ("port", "number", "endpoint"),
    [
        (80, 80, 8080),
        ("http", 80, 8080),
        (443, 443, 443),
        ("https", 443, 443),
        (8080, 8080, 9090),
        ("dns-tcp", 53, 5354),
        ("same", 7000, 7000),
        (1234, 1234, 1234),
    ],
)
def test_an_external_name_has_its_target_port_and_an_undeclared_port_stands_for_itself(
    port: int | str, number: int, endpoint: int, protocol: str
) -> None:
    away = web(kind="ExternalName", external_name="example.org")
    assert asked(world(away), port, protocol) == (Destination(Reach.EXTERNAL, number), (endpoint,))


def test_an_external_name_has_its_target_port_over_udp() -> None:
    assert asked(world(web(kind="ExternalName", external_name="example.org")), "dns", "UDP") == (Destination(Reach.EXTERNAL, 53), (5353,))


@pytest.mark.parametrize("port", ["tls", "nothing", 0, 65536])
def test_an_external_name_is_not_reached_by_what_is_no_port_of_it(port: int | str) -> None:
    assert asked(world(web(kind="ExternalName", external_name="example.org")), port) == (Destination(Reach.NO_PORT), ())


def test_an_external_name_whose_target_is_out_of_range_has_no_port() -> None:
    away = web([ServicePort(80, "", 70000)], "ExternalName", external_name="example.org")
    assert asked(world(away), 80) == (Destination(Reach.NO_PORT), ())


def test_with_service_upstream_the_services_own_port_is_asked() -> None:
    read = world(web(cluster_ips=("10.9.9.9",)), behind(*SLICE))
    assert read.unit(destination, "n", "web", "http", *BY_ADDRESS) == Destination(Reach.LIVE, 80)
    assert addresses(read, Cluster("n", "web", 80, (("service_upstream", True),))) == (Address("10.9.9.9", 80),)


@pytest.mark.parametrize(
    ("declared", "ports", "found"),
    [
        (ServicePort(80, "", 8080), [EndpointPort("", 9000)], [9000]),
        (ServicePort(80, "", 8080), [EndpointPort("x", 9000)], [9000]),
        (ServicePort(80, "", 8080), [EndpointPort("x", 9000), EndpointPort("y", 9001)], [9000, 9001]),
        (ServicePort(80, "", "web"), [EndpointPort("x", 9000)], [9000]),
        (ServicePort(80, "http", 8080), [EndpointPort("http", 9000), EndpointPort("x", 8080)], [9000]),
        (ServicePort(80, "http", 8080), [EndpointPort("x", 9000)], [8080]),
        (ServicePort(80, "http", "web"), [EndpointPort("x", 9000)], []),
        (ServicePort(80, "http"), [EndpointPort("x", 9000)], [80]),
        (ServicePort(80, "http", 8080), [EndpointPort("http", None)], [8080]),
        (ServicePort(80, "http", 8080), [], [8080]),
        (ServicePort(80, "http", "web"), [], []),
        (ServicePort(80, "http", 8080), [EndpointPort("http", 9000, "UDP")], []),
    ],
)
def test_slices_that_are_written_by_hand(declared: ServicePort, ports: list[EndpointPort], found: list[int]) -> None:
    """Names that do not match, no names, no ports: as ingress-nginx finds them."""
    assert sorted(asked(world(web([declared]), behind(*ports)), 80)[1]) == found


numbers = st.integers(1, 65535)
declared_ports = st.builds(ServicePort, numbers, st.sampled_from(["", "a", "b"]), st.one_of(st.just(0), numbers, st.just("n")))


@given(st.lists(declared_ports, min_size=1, max_size=4), st.sampled_from(["ClusterIP", "ExternalName"]), st.data())
def test_every_way_to_ask_leads_to_a_port_that_the_service_declares(ports: list[ServicePort], kind: str, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(ports))
    read = world(web(ports, kind, external_name="example.org"), behind(*(EndpointPort(p.name, 1000 + n) for n, p in enumerate(ports))))
    for port in filter(None, (one.port, one.name)):
        for protocol in ("", "TCP"):
            found, endpoints = asked(read, port, protocol)
            assert found.reach in (Reach.LIVE, Reach.EXTERNAL)
            assert found.port in {p.port for p in ports}
            assert endpoints


@given(
    st.lists(declared_ports, max_size=4),
    st.sampled_from(["http", "https", "tls", "", 0]) | st.integers(1, 4) | st.integers(1, 4).map(str),
    st.sampled_from(["TCP", "UDP"]),
    st.booleans(),
)
def test_many_ports_are_looked_up_as_few_are(ports: list[ServicePort], wanted: int | str, protocol: str, by_target: bool) -> None:
    ports = [*ports, ServicePort(1, "http", "tls"), ServicePort(2, "tls", 3, protocol), ServicePort(3, "", 1)]
    others = [ServicePort(60_000 + n, f"other-{n}", 61_000 + n) for n in range(30)]
    few, many = web(ports), web([*ports, *others])
    found = [find_port(world(each), each, wanted, protocol, by_target=by_target) for each in (few, many)]
    assert found[0] == found[1]


def test_a_config_map_leads_to_the_port_that_it_names() -> None:
    """Both have 8080: one as port, one as targetPort."""
    flags = Flags(tcp_services_configmap="n/tcp")
    made = World(flags)
    made.apply([web(), behind(*SLICE), ConfigMap(meta=Meta(namespace="n", name="tcp"), data={"9999": "n/web:8080"})], ())
    tables = Tables(made)
    tables.apply(())
    assert {cluster.port for cluster in tables.clusters.values} == {8080}


@pytest.mark.parametrize("protocol", ["", "TCP"])
@pytest.mark.parametrize("host", ["127.0.0.1", "example.org"])
def test_a_target_port_leads_to_no_socket_of_ours(host: str, protocol: str) -> None:
    """An address is refused for both. A name is judged by Envoy where HTTP is spoken, and refused for TCP, where Envoy does not judge."""
    flags = Flags(manifests=(Path("manifests"),), admin_address="127.0.0.1:9901", tcp_services_configmap="n/tcp")
    made = World(flags)
    away = web([ServicePort(80, "", 9901)], "ExternalName", external_name=host)
    made.apply([away, ConfigMap(meta=Meta(namespace="n", name="tcp"), data={"9999": "n/web:80"})], ())
    read = Recorder(Tables(made).build)
    if protocol:
        assert streams(read, protocol) == ()
    elif host == "127.0.0.1":
        assert asked(read, 80)[0].reach is Reach.NOT_REACHABLE
    else:
        assert denied(read, asked(read, 80)[1][0]).own

"""Addresses that nothing is sent to, by every way in which an object may name one."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.cli.arguments import parse
from xds.config import Flags
from xds.kube.objects import Backend, ConfigMap, Endpoint, EndpointPort, EndpointSlice, Ingress, Meta, Object, Rule, Service, ServicePort
from xds.kube.objects import Path as IngressPath
from xds.kube.world import OWN_ADDRESSES, World
from xds.model import Cluster
from xds.problem import Problem
from xds.snapshot import ENDPOINT, Snapshot
from xds.translate.backends import Reach, addresses, destination
from xds.translate.endpoint_addresses import RANGES, Denied, denied, own_ports, refusal, rules
from xds.translate.streams import streams
from xds.units.memo import Build, Unit
from xds.units.tables import Tables

FOLDER = Flags(manifests=(Path("manifests"),))
API_SERVER = Flags()
BOTH = pytest.mark.parametrize("flags", [FOLDER, API_SERVER], ids=["folder", "API server"])
OUR_PORTS = {
    18000: "--xds-address",
    18001: "--debug-address",
    18002: "--dashboard-address",
    10254: "--healthz-port",
    9901: "--admin-address",
}
HERE = ("127.0.0.1", "127.0.0.7", "127.255.0.1", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "::", "::ffff:0.0.0.0", "0.0.0.5")
MACHINE = ("192.0.2.77", "2001:db8::77")
UPSTREAM = (("service_upstream", True),)
FLAGS = Flags(
    manifests=FOLDER.manifests,
    xds_address="127.0.0.1:18000",
    debug_address="127.0.0.1:18001",
    dashboard_address="127.0.0.1:18002",
    healthz_port=10254,
    admin_address="127.0.0.1:9901",
)


def meta(name: str, namespace: str = "default") -> Meta:
    return Meta(namespace=namespace, name=name)


def web(number: int, **more: object) -> Service:
    return Service(meta=meta("web"), ports=(ServicePort(80, "http", number),), **more)  # type: ignore[arg-type]


def piece(ips: Sequence[str], number: int, *, legacy: bool = False, protocol: str = "TCP", namespace: str = "default") -> EndpointSlice:
    ports, endpoints = (EndpointPort("http", number, protocol),), tuple(Endpoint((ip,)) for ip in ips)
    return EndpointSlice(meta=meta("web-1", namespace), service="web", ports=ports, endpoints=endpoints, legacy=legacy)


def built(
    flags: Flags, put: Iterable[Object], function: Callable[..., object], *arguments: object
) -> tuple[object, dict[tuple[str, str], str]]:
    """The value of a Unit, and the sentences of all Problems by object and field."""
    world = World(flags, {OWN_ADDRESSES: frozenset(MACHINE)})
    build = Build(world.get)
    world.apply(put)
    unit = Unit(function, arguments)  # type: ignore[arg-type]
    build.keep(unit)
    value = build.value(unit)
    assert not build.faults
    found: list[Problem] = [p for problems in build.problems.values() for p in problems]
    return value, {(str(p.about), p.field): p.sentence for p in found}


def by_slices(flags: Flags, ips: Sequence[str], number: int, *, legacy: bool = False) -> tuple[list[str], dict[tuple[str, str], str]]:
    value, problems = built(flags, [web(number), piece(ips, number, legacy=legacy)], addresses, Cluster("default", "web", 80))
    return [address.ip for address in value], problems  # type: ignore[attr-defined]


def is_refused(flags: Flags, ip: str, port: int, protocol: str = "TCP") -> bool:
    return bool(built(flags, (), lambda read: refusal(read, rules(read), ip, port, protocol))[0])


@BOTH
@pytest.mark.parametrize("port", OUR_PORTS)
@pytest.mark.parametrize("ip", [*HERE, *MACHINE])
def test_our_own_sockets_are_never_endpoints(flags: Flags, ip: str, port: int) -> None:
    excepted = Flags(manifests=flags.manifests, admin_address="127.0.0.1:9901", allowed_endpoints=("0.0.0.0/0", "::/0"))
    assert is_refused(excepted, ip, port)


@pytest.mark.parametrize("port", OUR_PORTS)
def test_the_same_numbers_elsewhere_and_other_numbers_here_are_nobody_elses_business(port: int) -> None:
    assert not [ip for ip in ("10.0.0.1", "192.0.2.78", "2001:db8::78") for flags in (FLAGS, API_SERVER) if is_refused(flags, ip, port)]
    assert not [ip for ip in (*HERE, *MACHINE) if is_refused(FLAGS, ip, port + 5)]
    assert not is_refused(FLAGS, "127.0.0.1", port, "UDP")


def test_a_socket_that_is_no_port_or_off_takes_none() -> None:
    flags = Flags(
        manifests=FOLDER.manifests,
        xds_address="unix:/run/xds.sock",
        debug_address="",
        dashboard_address="",
        admin_address="unix:/run/admin.sock",
    )
    assert not [port for port in (18000, 18001, 18002, 9901) if is_refused(flags, "127.0.0.1", port)]
    assert is_refused(flags, "127.0.0.1", 10254)


@pytest.mark.parametrize("legacy", [False, True], ids=["EndpointSlice", "Endpoints"])
def test_each_refused_endpoint_is_a_problem_of_its_object_and_the_others_go_on(legacy: bool) -> None:
    kind = "Endpoints" if legacy else "EndpointSlice"
    found, problems = by_slices(API_SERVER, ["10.0.0.1", "127.0.0.1", "10.0.0.2", "169.254.169.254"], 8080, legacy=legacy)
    assert found == ["10.0.0.1", "10.0.0.2"]
    assert problems == {
        (f"{kind} default/web-1", "endpoints[1].addresses[0]"): "The address '127.0.0.1' is loopback, which no endpoint may be "
        "(--allowed-endpoints lists exceptions); this endpoint is left out.",
        (f"{kind} default/web-1", "endpoints[3].addresses[0]"): "The address '169.254.169.254' is link-local, which no endpoint may be "
        "(--allowed-endpoints lists exceptions); this endpoint is left out.",
    }


def test_a_slice_of_thousands_of_bad_addresses_is_as_many_problems_as_somebody_may_read() -> None:
    found, problems = by_slices(API_SERVER, [f"127.0.{n // 250}.{n % 250}" for n in range(5000)], 8080)
    assert (found, len(problems)) == ([], 21)
    assert problems["EndpointSlice default/web-1", "endpoints"] == "4980 more addresses are left out, for reasons like these."


def test_in_a_folder_loopback_is_where_applications_are() -> None:
    ips = ["127.0.0.1", "127.0.0.9", "169.254.3.3", "::1"]
    assert by_slices(FOLDER, ips, 8080) == (sorted(ips), {})
    found, problems = by_slices(FOLDER, ips, 18000)
    assert found == ["169.254.3.3"]
    assert problems["EndpointSlice default/web-1", "endpoints[0].addresses[0]"] == (
        "The address '127.0.0.1' is ours, and there, on port 18000, this program or its Envoy itself listens (--xds-address); "
        "this endpoint is left out."
    )


@pytest.mark.parametrize("flags", [API_SERVER, FOLDER], ids=["API server", "folder"])
def test_the_addresses_of_a_service_itself_are_judged_too(flags: Flags) -> None:
    bad = web(10254, cluster_ips=("127.0.0.1", "10.96.0.1"))
    bad = Service(meta=bad.meta, ports=(ServicePort(10254, "http"),), cluster_ips=bad.cluster_ips)
    value, problems = built(flags, [bad], addresses, Cluster("default", "web", 10254, UPSTREAM))
    assert [address.ip for address in value] == ["10.96.0.1"]  # type: ignore[attr-defined]
    assert list(problems) == [("Service default/web", "spec.clusterIPs[0]")]
    value, _ = built(flags, [bad], destination, "default", "web", 10254, 1)
    assert value.reach is Reach.LIVE  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "cluster", [Cluster("default", "web", 80, UPSTREAM), Cluster("default", "web", 80, by_address=True)], ids=["http", "TLS"]
)
@pytest.mark.parametrize("bad", ["169.254.169.254", "127.0.0.1"])
def test_the_address_of_a_service_with_a_refused_endpoint_is_passed_by(bad: str, cluster: Cluster) -> None:
    """Behind it kube-proxy would choose that endpoint as well: also one that becomes ready before anybody here knows."""
    there = web(8080, cluster_ips=("10.96.0.1",))
    for ready in (True, False):
        endpoints = (Endpoint(("10.0.0.1",)), Endpoint((bad,), ready=ready))
        slices = EndpointSlice(meta=meta("web-1"), service="web", ports=(EndpointPort("http", 8080),), endpoints=endpoints)
        value, problems = built(API_SERVER, [there, slices], addresses, cluster)
        assert [(address.ip, address.port) for address in value] == [("10.0.0.1", 8080)]  # type: ignore[attr-defined]
        assert "requests go directly to the others" in problems["Service default/web", "spec.clusterIPs"]
    value, problems = built(API_SERVER, [there, piece(["10.0.0.1"], 8080)], addresses, cluster)
    assert ([(address.ip, address.port) for address in value], problems) == ([("10.96.0.1", 80)], {})  # type: ignore[attr-defined]


@BOTH
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "app.localhost", "ip6-localhost", "::1", "::ffff:127.0.0.1", *MACHINE])
def test_an_external_name_that_says_where_it_leads_is_judged(flags: Flags, name: str) -> None:
    outside = Service(meta=meta("outside"), type="ExternalName", external_name=name)
    value, problems = built(flags, [outside], destination, "default", "outside", 18000)
    assert value.reach is Reach.NOT_REACHABLE  # type: ignore[attr-defined]
    assert list(problems) == [("Service default/outside", "spec.externalName")]


@pytest.mark.parametrize("way", ["path", "default backend", "--default-backend-service", "TCP", "UDP"])
def test_whatever_leads_to_a_service_is_given_no_address_that_is_refused(way: str) -> None:
    """All of them ask for the endpoints of a cluster, and a Service that has no others is as one without any."""
    protocol = "UDP" if way == "UDP" else "TCP"
    flags = Flags(watch_ingress_without_class=True, tcp_services_configmap="default/tcp", udp_services_configmap="default/udp")
    flags = dataclasses.replace(flags, default_backend_service="default/web") if way.startswith("--") else flags
    to_web = Backend("web", 80)
    put: list[Object] = [Service(meta=meta("web"), ports=(ServicePort(80, "http", 8080, protocol),))]
    match way:
        case "path":
            put.append(Ingress(meta=meta("i"), rules=(Rule("", (IngressPath("/", "Prefix", to_web),)),)))
        case "default backend":
            put.append(Ingress(meta=meta("i"), default_backend=to_web))
        case "TCP" | "UDP":
            put.append(ConfigMap(meta=meta(way.lower()), data={"9000": "default/web:80"}))
    for ips, expected in ((["127.0.0.1", "169.254.169.254"], None), (["127.0.0.1", "10.0.0.1"], b"10.0.0.1")):
        tables, snapshot = Tables(world := World(flags)), Snapshot()
        tables.apply(world.apply([*put, piece(ips, 8080, protocol=protocol)])).publish(snapshot)
        bodies = b"".join(found.body for found in snapshot[ENDPOINT].values())
        assert (expected is None, b"127.0.0.1" in bodies, b"169.254" in bodies) == (not snapshot[ENDPOINT], False, False)
        assert expected is None or expected in bodies


@pytest.mark.parametrize("name", ["127.1", "0x7f000001", "2130706433", "127.000.000.001", "0177.0.0.1", "x.7", "169.254.43518"])
def test_an_address_in_a_spelling_of_its_own_is_no_name(name: str) -> None:
    outside = Service(meta=meta("outside"), type="ExternalName", external_name=name)
    value, problems = built(API_SERVER, [outside], destination, "default", "outside", 80)
    assert value.reach is Reach.NOT_REACHABLE  # type: ignore[attr-defined]
    assert "in a spelling of its own" in problems["Service default/outside", "spec.externalName"]
    for other in ("web7", "7.example", "x.7a", "0x7.example"):
        outside = Service(meta=meta("outside"), type="ExternalName", external_name=other)
        assert built(API_SERVER, [outside], destination, "default", "outside", 80)[0].reach is Reach.EXTERNAL  # type: ignore[attr-defined]


def ours(namespace: str) -> list[Object]:
    """The Service of the control plane, as the API server has it, and its pod."""
    found = Service(meta=meta("web", namespace), ports=(ServicePort(18000),), cluster_ips=("10.96.7.7",))
    return [found, piece(["10.9.9.9", "2001:db8::9"], 18000, namespace=namespace)]


@pytest.mark.parametrize("ip", ["10.9.9.9", "2001:db8::9", "2001:DB8:0::9", "10.96.7.7"])
def test_in_a_cluster_our_own_pods_are_known_by_the_slices_of_our_namespace(ip: str) -> None:
    for port, expected in ((18000, True), (10254, True), (8080, False)):
        value, problems = built(API_SERVER, [*ours("ingress-xds"), web(port), piece([ip], port)], addresses, Cluster("default", "web", 80))
        assert (not value, bool(problems)) == (expected, expected)
    foreign = [*ours("elsewhere"), web(18000), piece([ip], 18000)]
    assert built(API_SERVER, foreign, addresses, Cluster("default", "web", 80))[0]


def test_endpoints_come_back_when_our_pod_has_another_address() -> None:
    world = World(API_SERVER)
    build = Build(world.get)
    world.apply([*ours("ingress-xds"), web(18000), piece(["10.9.9.9"], 18000)])
    unit = Unit(addresses, (Cluster("default", "web", 80),))
    build.keep(unit)
    assert build.value(unit) == ()
    assert unit in build.stale_kept(world.apply([piece(["10.9.9.10"], 18000, namespace="ingress-xds")]))
    assert [address.ip for address in build.value(unit)] == ["10.9.9.9"]


def test_a_stream_that_leads_to_envoys_own_stream_is_a_loop_without_an_end() -> None:
    flags = Flags(manifests=FOLDER.manifests, tcp_services_configmap="default/tcp", udp_services_configmap="default/udp")
    maps = [ConfigMap(meta=meta("tcp"), data={"9000": "default/web:80", " 9001": "default/none:80"})]
    maps.append(ConfigMap(meta=meta("udp"), data={"53": "default/web:80"}))
    for number, expected in ((9000, 0), (9001, 0), (9002, 1), (53, 1)):
        value, problems = built(flags, [*maps, web(number), piece(["127.0.0.1"], number)], streams, "TCP")
        assert len(value) == expected  # type: ignore[arg-type]
        said = problems.get(("ConfigMap default/tcp", "data[9000]"), "")
        assert ("Service default/web leads back to a TCP port of this ConfigMap; the port 9000 stays closed." in said) is (expected == 0)
    datagrams = Service(meta=meta("web"), ports=(ServicePort(80, "http", 53, "UDP"),))
    by_udp = [*maps, datagrams, piece(["127.0.0.1"], 53, protocol="UDP")]
    assert built(flags, by_udp, streams, "UDP")[0] == ()


@BOTH
def test_a_stream_to_a_name_at_a_port_of_ours_is_closed_for_nobody_judges_where_it_leads(flags: Flags) -> None:
    flags = Flags(manifests=flags.manifests, tcp_services_configmap="default/tcp")
    for name, number, expected in (("x.example", 18000, 0), ("x.example", 18005, 1), ("10.0.0.1", 18000, 1)):
        outside = Service(meta=meta("outside"), type="ExternalName", external_name=name)
        tcp = ConfigMap(meta=meta("tcp"), data={"9000": f"default/outside:{number}"})
        value, problems = built(flags, [tcp, outside], streams, "TCP")
        assert (len(value), len(problems)) == (expected, 1 - expected)  # type: ignore[arg-type]
        assert expected or "--xds-address" in problems["ConfigMap default/tcp", "data[9000]"]


def test_what_envoy_is_told_of_a_name_are_the_same_rules() -> None:
    apis, world = Flags(allowed_endpoints=("127.0.0.9/32",)), [*ours("ingress-xds")]
    ranges = tuple(text for text, _ in RANGES)
    assert built(apis, world, denied, 443)[0] == Denied(ranges, ("127.0.0.9/32",), ())
    assert built(FOLDER, (), denied, 443)[0] == Denied((), (), ())
    found, _ = built(apis, world, denied, 18000)
    assert isinstance(found, Denied)
    assert {"10.9.9.9/32", "10.96.7.7/32", "2001:db8::9/128", "192.0.2.77/32", "::ffff:192.0.2.77/128", "127.0.0.0/8", "::1/128"} < set(
        found.own
    )
    assert isinstance(folder := built(FOLDER, (), denied, 18000)[0], Denied)
    assert (folder.ranges, "192.0.2.77/32" in folder.own) == ((), True)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_with_an_api_server_the_special_addresses_are_refused_and_no_others(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    expected = any(ip in ipaddress.ip_network(network) for network, _ in RANGES)
    assert is_refused(API_SERVER, str(ip), port) == expected
    special = ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or getattr(ip, "ipv4_mapped", None) is not None
    assert expected or not special


@given(st.sampled_from(RANGES).flatmap(lambda one: st.ip_addresses(network=one[0])))
def test_every_address_of_every_range_is_refused_and_can_be_excepted(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_refused(API_SERVER, str(ip), 8080)
    assert not is_refused(Flags(allowed_endpoints=(str(ipaddress.ip_network(ip)),)), str(ip), 8080)
    assert not is_refused(FOLDER, str(ip), 8080)


@pytest.mark.parametrize("command", ["translate", "check", "explain"])
def test_commands_that_run_no_server_refuse_what_xds_serve_would(command: str) -> None:
    words = ["http://web.example/", "folder"] if command == "explain" else ["folder"]
    assert own_ports(parse(command, words, {}).settings) == OUR_PORTS


def test_a_unix_socket_takes_no_port_from_anybody() -> None:
    """`xds up` has its ports closed but for those of people and probes, so that an application may use the others' numbers."""
    left = {10254: "--healthz-port", 18002: "--dashboard-address"}
    assert own_ports(parse("up", ["folder"], {}).settings) == left
    sockets = ["--xds-address=unix:/x", "--admin-address=unix:/a", "--debug-address=unix:/d"]
    assert own_ports(parse("up", ["folder", *sockets], {}).settings) == left
    assert own_ports(parse("up", ["folder", "--dashboard-address=off"], {}).settings) == {10254: "--healthz-port"}


def test_the_port_of_metrics_is_ours_only_where_there_are_any() -> None:
    words = ["folder", "--metrics-address=127.0.0.1:10299"]
    assert 10299 not in own_ports(parse("up", words, {}).settings)
    assert own_ports(parse("up", [*words, "--enable-metrics"], {}).settings)[10299] == "--metrics-address"

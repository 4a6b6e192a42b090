"""The tools of these tests, through an Envoy with a configuration of its own."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml

from examples.apps import Address, HttpApp, TcpApp, UdpApp, running
from tests.envoy.harness import (
    Gate,
    GrpcEcho,
    Http1,
    Http2,
    Ports,
    Process,
    ProxyProtocol,
    RawHttp,
    Resetting,
    Silent,
    Site,
    Tcp,
    Tls,
    Udp,
    WebSocket,
    endpoint_slice,
    fetch,
    grpc_call,
    ingress,
    load,
    make_ca,
    make_certificate,
    ports,
    server_context,
    service,
    wait_until,
)

pytestmark = pytest.mark.envoy

NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
MANY = 2000


def cluster(name: str, address: Address, **more: Any) -> dict[str, Any]:
    """A static cluster of one endpoint without limits."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": address[0], "port_value": address[1]}}}}
    limits = {"max_connections": MANY * 2, "max_pending_requests": MANY * 2, "max_requests": MANY * 2}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "load_assignment": assignment, "circuit_breakers": {"thresholds": [limits]}, **more}


def h2c() -> dict[str, Any]:
    """What makes a cluster speak HTTP/2."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    config = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
    return {"typed_extension_protocol_options": {options: config}}


def listener(name: str, port: int, filters: list[dict[str, Any]], **chain: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [{"filters": filters, **chain}]}


def http_filter(routes: dict[str, str]) -> dict[str, Any]:
    """A connection manager; `routes` is host → cluster."""
    router = {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    hosts = [
        {"name": to, "domains": [host], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to, "timeout": "0s"}}]}
        for host, to in routes.items()
    ]
    return {
        "name": "http",
        "typed_config": {
            "@type": f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "none"},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {"name": "routes", "virtual_hosts": hosts},
            "http_filters": [router],
        },
    }


def tcp_filter(to: str) -> dict[str, Any]:
    return {"name": "tcp", "typed_config": {"@type": f"{NETWORK}.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": to}}


def static(listeners: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


async def http_envoy(site: Site, *clusters: dict[str, Any]) -> Address:
    """Start an Envoy whose one listener gives the requests for `<cluster>.test` to the cluster."""
    port = site.ports.take()
    routes = {f"{found['name']}.test": found["name"] for found in clusters}
    await site.static_envoy(static([listener("http", port, [http_filter(routes)])], list(clusters)))
    return "127.0.0.1", port


async def test_a_request_shows_what_the_application_received(site: Site) -> None:
    http = await http_envoy(site, cluster("one", await site.run(HttpApp("one"))))
    answer = await fetch(http, "/a?b=c", host="one.test", method="PUT", headers=[("X-Twice", "1"), ("x-twice", "2")], body=b"12345")
    assert (answer.status, answer.app) == (200, "one")
    said = answer.json()
    assert (said["method"], said["path"], said["body_length"]) == ("PUT", "/a?b=c", 5)
    assert answer.received("X-TWICE") == ["1", "2"]


async def test_requests_may_be_pipelined_on_one_connection(site: Site) -> None:
    http = await http_envoy(site, cluster("one", await site.run(HttpApp("one"))))
    async with await Http1.open(http) as connection:
        await connection.send(b"GET /1 HTTP/1.1\r\nHost: one.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: one.test\r\n\r\n")
        assert [(await connection.receive()).json()["path"] for _ in range(2)] == ["/1", "/2"]


async def test_bodies_come_whole_whatever_their_framing(site: Site) -> None:
    http = await http_envoy(site, cluster("one", await site.run(HttpApp("one"))))
    async with await Http1.open(http) as connection:
        assert len((await connection.request(target="/big/100000", host="one.test")).body) == 100_000
        chunked = await connection.request(target="/chunked/3", host="one.test")
        assert (chunked.header("transfer-encoding"), len(chunked.body)) == ("chunked", 3 * 65536)
        assert (await connection.request("HEAD", "/big/9", host="one.test")).body == b""
        assert (await connection.request(target="/status/204", host="one.test")).status == 204


async def test_http_1_0_without_a_host_can_be_sent(site: Site) -> None:
    http = await http_envoy(site, cluster("none", await site.run(HttpApp("one"))))
    async with await Http1.open(http) as connection:
        await connection.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await connection.receive()).status == 404
        assert await connection.ended()


async def test_websocket_messages_of_every_length_come_back(site: Site) -> None:
    http = await http_envoy(site, cluster("one", await site.run(HttpApp("one"))))
    async with await WebSocket.open(http, host="one.test") as websocket:
        for size in (0, 125, 126, 70_000):
            assert await websocket.ask(b"x" * size) == b"x" * size


async def test_tls_shows_certificate_and_protocol_and_names_the_host_or_not(site: Site) -> None:
    ca = make_ca()
    port = site.ports.take()
    one, other = make_certificate(["one.test"], ca=ca), make_certificate(["other.test"], ca=ca, key="rsa")
    chains = [
        listener("", 0, [http_filter({"*": "one"})], transport_socket=downstream_tls(certificate))["filter_chains"][0]
        for certificate in (one, other)
    ]
    chains[0]["filter_chain_match"] = {"server_names": ["one.test"]}
    inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    https = listener("https", port, []) | {"filter_chains": chains}
    https["listener_filters"] = [{"name": "tls", "typed_config": {"@type": inspector}}]
    await site.static_envoy(static([https], [cluster("one", await site.run(HttpApp("one")))]))
    address = ("127.0.0.1", port)

    async with await Http1.open(address, tls=Tls("one.test", ("http/1.1",), roots=ca.cert_pem)) as connection:
        assert (connection.certificate, connection.alpn, connection.tls_version) == (one.x509, "http/1.1", "TLSv1.3")
    async with await Http1.open(address, tls=Tls()) as connection:
        assert (connection.certificate, connection.alpn) == (other.x509, None)
    async with await Http2.open(address, tls=Tls("one.test")) as h2:
        assert (await h2.request(host="one.test", scheme="https")).app == "one"


def downstream_tls(certificate: Any) -> dict[str, Any]:
    pair = {
        "certificate_chain": {"inline_string": certificate.cert_pem.decode()},
        "private_key": {"inline_string": certificate.key_pem.decode()},
    }
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    common = {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]}
    return {"name": "tls", "typed_config": {"@type": kind, "common_tls_context": common}}


async def test_h2c_and_grpc_pass_with_trailers(site: Site) -> None:
    echo = cluster("grpc", await site.run(GrpcEcho("one")), **h2c())
    http = await http_envoy(site, echo, cluster("one", await site.run(HttpApp("one"))))
    async with await Http2.open(http) as h2:
        answer = await h2.request("POST", "/", host="one.test", body=b"x" * 200_000)
        assert answer.json()["body_length"] == 200_000
        frame = b"\0\0\0\0\2hi"
        headers = [("content-type", "application/grpc"), ("te", "trailers"), ("x-echo", "yes")]
        answer = await h2.request("POST", "/any.Service/Method", host="grpc.test", headers=headers, body=frame)
        assert answer.header("x-echo") == "yes"
        assert ("x-echo-trailer", "yes") in answer.trailers
    assert await grpc_call(http, b"hi", host="grpc.test") == b"one: hi"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await grpc_call(http, b"hi", host="grpc.test", metadata=(("x-status", "5"),))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


async def test_tcp_and_udp_pass(site: Site) -> None:
    tcp, udp = site.ports.take(), site.ports.take()
    clusters = [cluster("tcp", await site.run(TcpApp("one"))), cluster("udp", await site.run(UdpApp("two")))]
    await site.static_envoy(static([listener("tcp", tcp, [tcp_filter("tcp")]), udp_listener(udp, "udp")], clusters))
    async with await Tcp.open(("127.0.0.1", tcp)) as client:
        assert await client.ask("hello") == "one: hello"
    async with await Udp.open(("127.0.0.1", udp)) as session:
        assert await session.ask(b"hello") == b"two: hello"


def udp_listener(port: int, to: str) -> dict[str, Any]:
    route = {
        "name": "route",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route", "cluster": to},
    }
    kind = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig"
    config = {"@type": kind, "stat_prefix": "udp", "matcher": {"on_no_match": {"action": route}}}
    address = {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": port}}
    return {"name": "udp", "address": address, "listener_filters": [{"name": "udp", "typed_config": config}]}


async def test_backends_break_in_the_ways_they_promise(site: Site) -> None:
    raw, resetting, silent = RawHttp(b"HTTP/1.1 418 No\r\nX-oDD: 1\r\nContent-Length: 0\r\n\r\n"), Resetting(), Silent()
    tls = HttpApp("tls", tls=server_context(make_certificate(["tls.test"])))
    direct = [await site.run(app) for app in (raw, resetting, silent, tls)]
    answer = await fetch(direct[0], host="x", headers=[("x-ODD", "1")])
    assert (answer.status, answer.headers[0], b"x-ODD: 1" in raw.heads[0]) == (418, ("X-oDD", "1"), True)
    with pytest.raises(ConnectionResetError):
        await fetch(direct[1], host="x")
    async with await Http1.open(direct[2]) as connection:
        await connection.send(b"GET / HTTP/1.1\r\n\r\n")

        async def hit() -> bool:
            return silent.hits == 1

        await wait_until(hit, "the connection to come")
    assert (await fetch(direct[3], host="x", tls=Tls())).app == "tls"


async def test_a_proxy_header_of_either_version_is_read(site: Site) -> None:
    address = await site.run(ProxyProtocol("one"))
    first = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n"
    second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 10, 0, 0, 1]) + (4711).to_bytes(2) + (80).to_bytes(2)
    for header, version in ((first, "v1"), (second, "v2")):
        async with await Tcp.open(address) as client:
            await client.send(header)
            assert await client.line() == f"{version} TCP4 192.0.2.1 10.0.0.1 4711 80"
            assert await client.ask("hello") == "one: hello"


async def test_two_thousand_requests_are_there_at_the_same_time(site: Site) -> None:
    gate = Gate(MANY)
    http = await http_envoy(site, cluster("gate", await site.run(gate)))

    async def ask(connection: Http1, number: int) -> int:
        return (await connection.request(target=f"/{number}", host="gate.test")).status

    assert set(await load(MANY, lambda: Http1.open(http), ask)) == {200}
    assert gate.most == MANY


async def test_the_admin_page_tells_what_envoy_holds(site: Site) -> None:
    app = await site.run(HttpApp("one"))
    _, port = await http_envoy(site, cluster("one", app))
    assert await site.envoy.listeners() == {"http": f"127.0.0.1:{port}"}
    assert await site.envoy.clusters() == {"one": [f"{app[0]}:{app[1]}"]}
    assert (await site.envoy.stats("^cluster.one.membership_total$")) == {"cluster.one.membership_total": 1}
    assert "BootstrapConfigDump" in await site.envoy.config_dump()


async def test_versions_are_those_that_a_management_server_gave(site: Site) -> None:
    types = "type.googleapis.com/envoy.config"

    def source(name: str, version: str, kind: str, *resources: dict[str, Any]) -> dict[str, Any]:
        found = {"version_info": version, "resources": [{"@type": f"{types}.{kind}", **resource} for resource in resources]}
        path = site.folder.write_text(f"{name}.json", json.dumps(found))
        return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}

    manager = http_filter({})
    del manager["typed_config"]["route_config"]
    routes = source("rds", "2", "route.v3.RouteConfiguration", {"name": "ingress", "virtual_hosts": []})
    manager["typed_config"]["rds"] = {"route_config_name": "ingress", "config_source": routes}
    held = {
        "cds_config": source("cds", "1", "cluster.v3.Cluster", cluster("one", ("127.0.0.1", 9))),
        "lds_config": source("lds", "3", "listener.v3.Listener", listener("http", site.ports.take(), [manager])),
    }
    await site.static_envoy({"node": {"id": "a", "cluster": "b"}, "dynamic_resources": held})
    versions = await site.envoy.settled(lambda versions: bool(versions["route"]), "a route")
    assert versions == {"cluster": {"one": "1"}, "route": {"ingress": "2"}, "listener": {"http": "3"}, "secret": {}}


async def test_a_site_follows_its_folder_after_its_management_server_was_killed_and_came_back(site: Site) -> None:
    one, two = await site.run(HttpApp("one")), await site.run(HttpApp("two"))
    site.folder.write("web.yaml", ingress("web", "a.test", {"/": ("web", 80)}), service("web"))
    site.folder.write("endpoints.yaml", endpoint_slice("web", [one]))
    await site.start()
    await site.until_answered("/", "one", host="a.test")
    assert await site.control_plane.kill() == -signal.SIGKILL
    assert (await site.get("/", host="a.test")).app == "one"
    site.folder.write("endpoints.yaml", endpoint_slice("web", [two]))
    await site.control_plane.start()
    await site.until_answered("/", "two", host="a.test")
    assert (await site.envoy.clusters())["default/web/80"] == [f"{two[0]}:{two[1]}"]


@pytest.mark.parametrize(("kind", "client"), [("http", Http1), ("tcp", Tcp), ("udp", Udp)])
async def test_an_application_runs_from_the_command_line_until_it_is_told_to_stop(tmp_path: Path, kind: str, client: Any) -> None:
    app = Process("app", [sys.executable, "examples/apps.py", kind, "--name", "one", "--port", "0"], tmp_path)
    await app.start()
    line = await app.line("one: ")
    async with await client.open(("127.0.0.1", int(line.split()[-1]))) as opened:
        if kind == "http":
            assert (await opened.request(host="x")).app == "one"
        else:
            assert await opened.ask("x" if kind == "tcp" else b"x") in ("one: x", b"one: x")
    assert (await app.stop(), app.stderr) == (0, [])


async def test_what_is_waited_for_in_vain_is_said_with_what_was_seen() -> None:
    async def look() -> list[int]:
        return []

    with pytest.raises(AssertionError, match=r"waited 0.05 s for the moon; seen last: \[\]"):
        await wait_until(look, "the moon", deadline=0.05)


async def test_a_configuration_that_envoy_refuses_fails_with_its_reason(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        with pytest.raises(AssertionError, match="no_such_field"):
            await site.static_envoy(yaml.safe_dump({"static_resources": {"no_such_field": 1}}))


@pytest.mark.parametrize(
    ("ephemeral", "given"),
    [
        ("32768\t60999\n", range(12_000, 28_000)),
        ("16000 65535", range(12_000, 16_000)),
        ("1024 50000", range(50_001, 65_536)),
        ("1024 65535", range(12_000, 28_000)),
    ],
)
def test_ports_are_none_that_the_system_gives_away(ephemeral: str, given: range) -> None:
    assert ports.outside(ephemeral) == given


async def test_a_port_is_given_out_once_until_it_is_released_and_never_while_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Ports(), Ports()
    port = one.take()
    monkeypatch.setattr(ports, "RANGE", range(port, port + 1))
    with pytest.raises(OSError, match="no free port"):
        other.take()
    one.release()
    assert other.take() == port
    other.release()
    async with running(TcpApp("one"), port=port):
        with pytest.raises(OSError, match="no free port"):
            one.take()

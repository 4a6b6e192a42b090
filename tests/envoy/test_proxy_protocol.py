"""use-proxy-protocol: who the client is where connections begin with a PROXY header, also those of a real Envoy in front."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp
from tests.envoy.harness import Http1, Site, Tls, backend, config_map, fetch, ingress, secret_tls, wait_until
from tests.envoy.harness.http1 import Headers, Response, request_bytes
from tests.envoy.harness.tls import make_certificate

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

KEYS = {"use-proxy-protocol": "true", "proxy-protocol-header-timeout": "2s"}
CLIENT = "PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\r\n"


async def served(site: Site, **keys: str) -> Site:
    app = await site.run(HttpApp("web"))
    site.folder.write(
        "all.yaml",
        *backend("web", app),
        secret_tls("cert", make_certificate(["tls.test"])),
        ingress("open", "open.test", {"/": ("web", 80)}),
        ingress("tls", "tls.test", {"/": ("web", 80)}, tls={"cert": ["tls.test"]}),
        ingress("listed", "listed.test", {"/": ("web", 80)}, {"allowlist-source-range": "192.0.2.1"}),
    )
    change_keys(site, **keys)
    await site.start("--configmap", "default/controller")
    await wait_until(lambda: until_web(site), "the first answer")
    return site


def change_keys(site: Site, **keys: str) -> None:
    site.folder.write("keys.yaml", config_map("controller", KEYS | {name.replace("_", "-"): text for name, text in keys.items()}))


async def until_web(site: Site) -> bool:
    return (await ask(site, CLIENT, host="open.test")).status == 200


async def ask(site: Site, preface: str | bytes, *, host: str, headers: Headers = ()) -> Response:
    async with await Http1.open(site.http) as connection:
        await connection.send(preface.encode() if isinstance(preface, str) else preface)
        await connection.send(request_bytes(host=host, headers=headers))
        return await connection.receive()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site) -> Site:
    return await served(shared_site)


def version_2(source: str, destination: str, port: int) -> bytes:
    v6 = ":" in source
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed + struct.pack("!HH", 4711, port)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x21 if v6 else 0x11]) + struct.pack("!H", len(addresses)) + addresses


@pytest.mark.parametrize(
    ("preface", "client", "port", "scheme"),
    [
        (CLIENT, "192.0.2.1", "80", "http"),
        (CLIENT.replace(" 80", " 443"), "192.0.2.1", "443", "https"),
        (CLIENT.replace(" 80", " 8080"), "192.0.2.1", "8080", "http"),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 5 80\r\n", "2001:db8::1", "80", "http"),
        (version_2("192.0.2.1", "198.51.100.2", 443), "192.0.2.1", "443", "https"),
        (version_2("2001:db8::1", "2001:db8::2", 80), "2001:db8::1", "80", "http"),
        ("PROXY UNKNOWN\r\n", "127.0.0.1", None, "http"),
    ],
)
async def test_the_header_names_the_client_and_the_port_it_came_to(
    site: Site, preface: str | bytes, client: str, port: str | None, scheme: str
) -> None:
    sent = [("X-Forwarded-For", "192.0.2.99"), ("X-Forwarded-Proto", "ftp"), ("X-Forwarded-Port", "1"), ("x-xds-peer", "192.0.2.1")]
    answer = await ask(site, preface, host="open.test", headers=sent)
    assert [answer.received(name) for name in ("X-Real-IP", "X-Forwarded-For")] == [[client], [client]]
    assert [answer.received(name) for name in ("X-Forwarded-Proto", "X-Scheme")] == [[scheme], [scheme]]
    assert answer.received("X-Forwarded-Port") == [port or str(site.http[1])]
    assert answer.received("X-Original-Forwarded-For") == ["192.0.2.99"]
    assert [name for name, _ in answer.json()["headers"] if name.lower().startswith("x-xds")] == []
    assert (await ask(site, preface, host="listed.test", headers=sent)).status == (200 if client == "192.0.2.1" else 403)
    assert (await ask(site, preface, host="tls.test", headers=sent)).status == (200 if scheme == "https" else 308)


@pytest.mark.parametrize("preface", ["", "PROXY NONSENSE\r\n", "GARBAGE"])
async def test_a_connection_without_the_header_is_not_served(site: Site, preface: str) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(preface.encode() + request_bytes(host="open.test"))
        assert await connection.ended()


async def test_the_header_must_come_in_time(site: Site) -> None:
    async with await Http1.open(site.http) as connection:
        await connection.send(b"PROXY TCP4 192.0")
        assert await connection.ended()


def in_front(site: Site, ports: Mapping[int, Address]) -> dict[str, Any]:
    """The bootstrap of an Envoy that passes connections on with a PROXY header before them."""
    listeners, clusters = [], []
    for port, (address, target) in ports.items():
        tcp = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "s",
            "cluster": str(port),
        }
        where = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        listeners.append({"name": str(port), "address": where, "filter_chains": [{"filters": [{"name": "tcp", "typed_config": tcp}]}]})
        endpoint = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": target}}}}
        raw = {"name": "raw", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
        socket = {"name": "proxy", "typed_config": {"@type": kind, "config": {"version": "V2"}, "transport_socket": raw}}
        assignment = {"cluster_name": str(port), "endpoints": [{"lb_endpoints": [endpoint]}]}
        clusters.append({"name": str(port), "type": "STATIC", "load_assignment": assignment, "transport_socket": socket})
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


async def test_an_envoy_in_front_names_its_clients(site: Site) -> None:
    plain, secure = site.ports.take(), site.ports.take()
    await site.static_envoy(in_front(site, {plain: site.http, secure: site.https}))
    answer = await fetch(("127.0.0.1", plain), "/", host="open.test")
    assert (answer.received("X-Real-IP"), answer.received("X-Forwarded-Proto")) == (["127.0.0.1"], ["http"])
    answer = await fetch(("127.0.0.1", secure), "/", host="tls.test", tls=Tls("tls.test"))
    assert (answer.received("X-Real-IP"), answer.received("X-Forwarded-Proto")) == (["127.0.0.1"], ["https"])
    assert answer.received("X-Forwarded-Port") == [str(secure)]


@pytest.mark.asyncio(loop_scope="function")
async def test_a_peer_that_is_no_proxy_of_ours_names_nobody(tmp_path: Any) -> None:
    async with Site(tmp_path) as site:
        await served(site, proxy_real_ip_cidr="10.0.0.0/8,127.0.0.9/32,2001:db8::/32", use_forwarded_headers="true")
        answer = await ask(site, CLIENT, host="open.test", headers=[("X-Forwarded-For", "192.0.2.1")])
        assert answer.received("X-Real-IP") == ["127.0.0.1"]
        assert (await ask(site, CLIENT, host="listed.test")).status == 403
        change_keys(site, proxy_real_ip_cidr="10.0.0.0/8,127.0.0.0/8", use_forwarded_headers="true", compute_full_forwarded_for="true")

        async def believed() -> Response | None:
            found = await ask(site, CLIENT, host="open.test", headers=[("X-Forwarded-For", "203.0.113.5")])
            return found if found.received("X-Forwarded-For") == ["203.0.113.5, 192.0.2.1"] else None

        answer = await wait_until(believed, "the new list of proxies")
        assert answer
        assert answer.received("X-Real-IP") == ["192.0.2.1"], "whom the PROXY header names is no proxy, and names nobody else"
        through = CLIENT.replace("192.0.2.1", "10.9.9.9")
        answer = await ask(site, through, host="open.test", headers=[("X-Forwarded-For", "203.0.113.5, 192.0.2.1")])
        assert answer.received("X-Real-IP") == ["192.0.2.1"], "a proxy that the PROXY header names is believed in turn"

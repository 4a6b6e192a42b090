"""The tcp- and udp-services ConfigMaps: ports that lead straight to pods, and what a bad entry does (nginx 4.7)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from examples.apps import Address, TcpApp, UdpApp
from tests.envoy.harness import (
    Http1,
    Process,
    ProxyProtocol,
    Site,
    Tcp,
    Udp,
    config_map,
    endpoint_slice,
    endpoint_slices,
    run,
    service,
    wait_until,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

PROXY_V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\r\n"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 198, 51, 100, 2]) + (4711).to_bytes(2) + (80).to_bytes(2)


class Streams:
    """A Site whose two ConfigMaps are written anew whenever an entry changes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._entries: dict[str, dict[str, str]] = {"tcp": {}, "udp": {}}

    def put(self, protocol: str, entries: dict[str, str | None]) -> None:
        """Set these entries of a ConfigMap (None: take it out), and leave the others."""
        merged = self._entries[protocol] | {key: value or "" for key, value in entries.items()}
        self._entries[protocol] = {key: value for key, value in merged.items() if value}
        self.site.folder.write(f"{protocol}.yaml", config_map(f"{protocol}-services", self._entries[protocol]))

    async def open(self, target: str, protocol: str = "tcp") -> Address:
        """Lead a port of its own to a target, and wait until Envoy listens there."""
        port = self.site.ports.take()
        self.put(protocol, {str(port): target})
        await self.until_listening(port, protocol)
        return "127.0.0.1", port

    async def until_listening(self, port: int, protocol: str = "tcp") -> None:
        async def look() -> bool:
            return f"{protocol}/{port}" in await self.site.envoy.listeners()

        await wait_until(look, f"Envoy to listen on {protocol}/{port}")

    async def until(self, look: Callable[[], Awaitable[str]], expected: str) -> None:
        """Ask again until this is the answer."""

        async def same() -> bool:
            return await look() == expected

        await wait_until(same, f"the answer {expected!r}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def streams(shared_site: Site) -> AsyncIterator[Streams]:
    """One Envoy for all; each test has ports of its own."""
    site = shared_site
    tcp = [await site.run(TcpApp(name)) for name in ("one", "two", "three")]
    udp = [await site.run(UdpApp(name)) for name in ("one", "two", "three")]
    site.folder.write(
        "services.yaml",
        *(service("one", 7000), endpoint_slice("one", tcp[:1])),
        *(service("two", 7000), endpoint_slice("two", tcp[1:2])),
        *(service("three", 7000), *endpoint_slices("three", tcp)),
        *(service("named", {"lines": 7000, "other": 7001}), endpoint_slice("named", tcp[:1], port_name="lines")),
        *(service("elsewhere", 7000, namespace="other"), endpoint_slice("elsewhere", tcp[:1], namespace="other")),
        *(service("datagrams", 5300, protocol="UDP"), *endpoint_slices("datagrams", udp, protocol="UDP")),
        *(service("one-datagram", 5300, protocol="UDP"), endpoint_slice("one-datagram", udp[:1], protocol="UDP")),
        *(service("proxied", 7000), endpoint_slice("proxied", [await site.run(ProxyProtocol("proxied"))])),
        *(service("empty", 7000), service("external", 0, external_name="localhost")),
    )
    await site.start("--tcp-services-configmap", "default/tcp-services", "--udp-services-configmap", "default/udp-services")
    yield Streams(site)


async def said(address: Address, line: str = "hello") -> str:
    """What a new TCP connection answers."""
    async with await Tcp.open(address) as client:
        return await client.ask(line)


async def answered(address: Address) -> str:
    """What a new UDP session answers."""
    async with await Udp.open(address) as client:
        return (await client.ask(b"hello")).decode()


async def refused(address: Address) -> bool:
    try:
        await (await Tcp.open(address)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("target", ["default/one:7000", "default/named:lines", "default/named:7000", "other/elsewhere:7000"])
async def test_a_port_leads_to_a_service_by_number_or_name_in_any_namespace(streams: Streams, target: str) -> None:
    assert await said(await streams.open(target)) == "one: hello"


async def test_a_udp_port_leads_to_a_service(streams: Streams) -> None:
    assert await answered(await streams.open("default/one-datagram:5300", "udp")) == "one: hello"


async def test_an_external_name_is_a_target(streams: Streams) -> None:
    _, port = await streams.site.run(TcpApp("outside"))
    address = await streams.open(f"default/external:{port}")
    await streams.until(lambda: said(address), "outside: hello")


async def test_both_protocols_may_have_one_port(streams: Streams) -> None:
    port = streams.site.ports.take()
    streams.put("tcp", {str(port): "default/two:7000"})
    streams.put("udp", {str(port): "default/one-datagram:5300"})
    for protocol in ("tcp", "udp"):
        await streams.until_listening(port, protocol)
    assert await said(("127.0.0.1", port)) == "two: hello"
    assert await answered(("127.0.0.1", port)) == "one: hello"


async def test_connections_go_straight_to_the_pods_one_after_the_other(streams: Streams) -> None:
    address = await streams.open("default/three:7000")
    names = Counter([(await said(address)).partition(":")[0] for _ in range(9)])
    assert names == {"one": 3, "two": 3, "three": 3}
    hosts = (await streams.site.envoy.clusters())["default/three/7000"]
    assert len(hosts) == 3


async def test_udp_sessions_go_to_the_pods_one_after_the_other_and_each_stays_with_its_pod(streams: Streams) -> None:
    address = await streams.open("default/datagrams:5300", "udp")
    seen: list[bytes] = []
    for _ in range(6):
        async with await Udp.open(address) as client:
            answers = {(await client.ask(payload)).partition(b":")[0] for payload in (b"1", b"2", b"3")}
            assert len(answers) == 1
            seen += answers
    assert Counter(seen) == {b"one": 2, b"two": 2, b"three": 2}


async def test_silence_is_ended_after_600_seconds_and_a_udp_session_after_ten(streams: Streams) -> None:
    _, tcp = await streams.open("default/one:7000")
    _, udp = await streams.open("default/one-datagram:5300", "udp")
    dump = (await streams.site.envoy.config_dump())["ListenersConfigDump"]["dynamic_listeners"]
    by_name = {found["name"]: found["active_state"]["listener"] for found in dump}
    (chain,) = by_name[f"tcp/{tcp}"]["filter_chains"]
    assert [found["typed_config"]["idle_timeout"] for found in chain["filters"]] == ["600s"]
    assert [found["typed_config"]["idle_timeout"] for found in by_name[f"udp/{udp}"]["listener_filters"]] == ["10s"]


@pytest.mark.parametrize("header", [PROXY_V1, PROXY_V2], ids=["v1", "v2"])
async def test_the_proxy_protocol_is_taken_from_clients(streams: Streams, header: bytes) -> None:
    address = await streams.open("default/proxied:7000:PROXY")
    async with await Tcp.open(address) as client:
        await client.send(header + b"hello\n")
        assert await client.line() == "none"
        assert await client.line() == "proxied: hello"
    await streams.site.envoy.process.line("[192.0.2.1] [")


async def test_a_client_that_sends_no_proxy_header_where_one_is_needed_is_not_served(streams: Streams) -> None:
    address = await streams.open("default/one:7000:proxy")
    async with await Tcp.open(address) as client:
        await client.send(b"hello, here is no header\n")
        assert await client.ended()


async def test_the_proxy_protocol_is_sent_to_pods(streams: Streams) -> None:
    address = await streams.open("default/proxied:7000::PROXY")
    async with await Tcp.open(address) as client:
        ip, port = client.writer.get_extra_info("sockname")
        await client.send(b"hello\n")
        assert await client.line() == f"v1 TCP4 {ip} {address[0]} {port} {address[1]}"
        assert await client.line() == "proxied: hello"


@pytest.mark.parametrize("header", [PROXY_V1, PROXY_V2], ids=["v1", "v2"])
async def test_the_proxy_protocol_is_handed_on_from_clients_to_pods(streams: Streams, header: bytes) -> None:
    address = await streams.open("default/proxied:7000:PROXY:Proxy")
    async with await Tcp.open(address) as client:
        await client.send(header + b"hello\n")
        assert await client.line() == "v1 TCP4 192.0.2.1 198.51.100.2 4711 80"
        assert await client.line() == "proxied: hello"


BAD = [
    ("tcp", "http", "default/one:7000", "is no port"),
    ("tcp", "0", "default/one:7000", "is no port"),
    ("tcp", "65536", "default/one:7000", "is no port"),
    ("tcp", "-1", "default/one:7000", "is no port"),
    ("tcp", "{http_port}", "default/one:7000", "is reserved (--http-port)"),
    ("tcp", "{healthz_port}", "default/one:7000", "is reserved (--healthz-port)"),
    ("tcp", "8181", "default/one:7000", "is reserved (--default-server-port)"),
    ("tcp", "{port}", "default/nothing:7000", "Service default/nothing does not exist"),
    ("tcp", "{port}", "default/one:7001", "Service default/one has no TCP port '7001'"),
    ("tcp", "{port}", "default/one:lines", "Service default/one has no TCP port 'lines'"),
    ("tcp", "{port}", "default/empty:7000", "Service default/empty has no ready endpoint"),
    ("tcp", "{port}", "default/datagrams:5300", "Service default/datagrams has no TCP port '5300'"),
    ("udp", "{port}", "default/one:7000", "Service default/one has no UDP port '7000'"),
    ("udp", "{port}", "default/one-datagram:5300:PROXY", "The PROXY protocol is for TCP only"),
    ("tcp", "{port}", "default/one", "is not of the form namespace/service:port"),
    ("tcp", "{port}", "one:7000", "is not of the form"),
    ("tcp", "{port}", "default/one:7000:PROXY:PROXY:PROXY", "is not of the form"),
    ("tcp", "{port}", "default/one:7000:HTTP", "'HTTP' stands where only PROXY may"),
    ("tcp", "{port}", "DEFAULT/one:7000", "is not of the form"),
    ("tcp", "{port}", "../one:7000", "is not of the form"),
    ("tcp", "{port}", "default/one:", "is not of the form"),
    ("tcp", "0{good}", "default/one:7000", "is there twice"),
]


@pytest.mark.parametrize(("protocol", "key", "target", "why"), BAD)
async def test_a_bad_entry_is_left_out_alone_with_a_problem(streams: Streams, protocol: str, key: str, target: str, why: str) -> None:
    site, good = streams.site, streams.site.ports.take()
    ports = {"http_port": site.http[1], "healthz_port": site.control_plane.health[1], "port": site.ports.take(), "good": good}
    key = key.format_map(ports)
    before = set(await site.envoy.listeners())
    streams.put(protocol, {key: target})
    streams.put("tcp", {str(good): "default/one:7000"})
    await streams.until_listening(good)
    line = await site.control_plane.process.line(f"ConfigMap default/{protocol}-services data[{key}]: ")
    assert why in line
    assert "ERROR" in line
    assert set(await site.envoy.listeners()) - before == {f"tcp/{good}"}
    assert await said(("127.0.0.1", good)) == "one: hello"
    streams.put(protocol, {key: None})


async def test_ports_open_lead_elsewhere_and_close_as_the_configmap_says_and_leave_others_alone(streams: Streams) -> None:
    other = await streams.open("default/one:7000")
    address = await streams.open("default/one:7000")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await Tcp.open(other)) for _ in range(2)]
        clients.append(await stack.enter_async_context(await Tcp.open(address)))
        http = await stack.enter_async_context(await Http1.open(streams.site.http))
        before = await streams.site.envoy.versions()
        streams.put("tcp", {str(address[1]): "default/two:7000"})
        await streams.until(lambda: said(address), "two: hello")
        streams.put("tcp", {str(address[1]): None})

        async def closed() -> bool:
            return await refused(address)

        await wait_until(closed, "the port to be closed")
        streams.put("tcp", {str(address[1]): "default/named:lines"})
        await streams.until_listening(address[1])
        await streams.until(lambda: said(address), "one: hello")
        for client in clients[:2]:
            assert await client.ask("still here") == "one: still here"
        assert (await http.request(host="unknown.test")).status == 404
        now = await streams.site.envoy.versions()
        changed = {name for name in now["listener"] if now["listener"][name] != before["listener"].get(name)}
        assert changed == {f"tcp/{address[1]}"}


async def test_a_port_is_closed_while_its_service_has_no_endpoint(streams: Streams) -> None:
    site, back = streams.site, await streams.site.run(TcpApp("back"))
    site.folder.write("scaled.yaml", service("scaled", 7000), endpoint_slice("scaled", [back]))
    address = await streams.open("default/scaled:7000")
    assert await said(address) == "back: hello"
    site.folder.write("scaled.yaml", service("scaled", 7000), endpoint_slice("scaled", []))

    async def closed() -> bool:
        return await refused(address)

    await wait_until(closed, "the port to be closed")
    await site.control_plane.process.line("Service default/scaled has no ready endpoint")
    site.folder.write("scaled.yaml", service("scaled", 7000), endpoint_slice("scaled", [back]))
    await streams.until(lambda: said(address), "back: hello")


async def test_endpoints_come_and_go_without_touching_the_listener_or_open_connections(streams: Streams) -> None:
    site, first, second = streams.site, await streams.site.run(TcpApp("first")), await streams.site.run(TcpApp("second"))
    site.folder.write("moving.yaml", service("moving", 7000), endpoint_slice("moving", [first]))
    address = await streams.open("default/moving:7000")
    async with await Tcp.open(address) as client:
        assert await client.ask("1") == "first: 1"
        held = await site.envoy.versions()
        site.folder.write("moving.yaml", service("moving", 7000), endpoint_slice("moving", [second]))
        await streams.until(lambda: said(address), "second: hello")
        assert await client.ask("2") == "first: 2"
        assert await site.envoy.versions() == held


async def test_a_udp_port_opens_and_closes_as_the_configmap_says(streams: Streams) -> None:
    address = await streams.open("default/one-datagram:5300", "udp")
    assert await answered(address) == "one: hello"
    streams.put("udp", {str(address[1]): None})

    async def closed() -> bool:
        async with await Udp.open(address) as client:
            try:
                await client.ask(b"hello", timeout=0.2, tries=1)
            except ConnectionRefusedError:
                return True
        return False

    await wait_until(closed, "the port to be closed")


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    missing = [name for name in programs if program(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed (Debian: redis-server, dnsmasq-base, dnsutils)")


def program(name: str) -> str | None:
    """Where a program is; those for administrators are not in everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


@pytest_asyncio.fixture(loop_scope="module")
async def server(streams: Streams) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Starts a program and returns the free port that it was given in place of "{port}"."""
    async with AsyncExitStack() as stack:

        async def start(name: str, *arguments: str) -> int:
            port = streams.site.ports.take()
            found = Process(name, [program(name) or name, *(a.format(port=port) for a in arguments)], streams.site.path)
            streams.site.processes.append(found)
            stack.push_async_callback(found.stop)
            await found.start()
            return port

        yield start


@needs("redis-server", "redis-cli")
async def test_redis_is_reached_through_a_tcp_port(streams: Streams, server: Callable[..., Awaitable[int]]) -> None:
    folder = streams.site.path
    redis = await server(
        "redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)
    )
    streams.site.folder.write("redis.yaml", service("redis", 6379), endpoint_slice("redis", [("127.0.0.1", redis)]))
    address = await streams.open("default/redis:6379")

    async def cli(*words: str) -> str:
        _, out, err = await run(["redis-cli", "-h", address[0], "-p", str(address[1]), *words])
        return (out + err).strip()

    await streams.until(lambda: cli("PING"), "PONG")
    assert await cli("SET", "greeting", "hello through Envoy") == "OK"
    assert await cli("GET", "greeting") == "hello through Envoy"
    big = "x" * 1_000_000
    async with await Tcp.open(address) as client:
        await client.send(f"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${len(big)}\r\n{big}\r\n*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".encode())
        assert [await client.line() for _ in range(2)] == ["+OK", "$1000000"]
        assert (await client.reader.readexactly(len(big))).decode() == big


@needs("dnsmasq", "dig")
async def test_a_dns_server_is_reached_over_udp_and_tcp(streams: Streams, server: Callable[..., Awaitable[int]]) -> None:
    dns = await server(
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="),
        *("--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--edns-packet-max=4096"),
        "--address=/example.test/127.0.0.9",
        *(f"--txt-record=long.test,{number:03}-{'t' * 200}" for number in range(12)),
    )
    both = service("dns", {"dns-tcp": 53})
    both["spec"]["ports"].append({"name": "dns-udp", "port": 53, "protocol": "UDP"})
    where = [("127.0.0.1", dns)]
    slices = (
        endpoint_slice("dns", where, port_name=f"dns-{protocol.lower()}", protocol=protocol, name=f"dns-{protocol.lower()}")
        for protocol in ("TCP", "UDP")
    )
    streams.site.folder.write("dns.yaml", both, *slices)
    _, udp = await streams.open("default/dns:53", "udp")
    _, tcp = await streams.open("default/dns:dns-tcp")

    async def dig(port: int, *words: str) -> str:
        _, out, _ = await run(["dig", "@127.0.0.1", "-p", str(port), "+short", "+time=2", "+tries=2", *words])
        return out.strip()

    await streams.until(lambda: dig(udp, "+notcp", "www.example.test"), "127.0.0.9")
    await streams.until(lambda: dig(tcp, "+tcp", "www.example.test"), "127.0.0.9")
    long = await dig(udp, "+notcp", "+ignore", "+bufsize=4096", "TXT", "long.test")
    assert len(long.splitlines()) == 12

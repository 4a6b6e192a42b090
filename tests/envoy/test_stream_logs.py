"""log-format-stream and its relatives: the line of a TCP connection or a UDP session."""

from __future__ import annotations

import pytest

from examples.apps import TcpApp, UdpApp
from tests.envoy.harness import Site, Tcp, Udp, config_map, endpoint_slice, service, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio]

LINE = (
    "seen 100% $protocol $remote_addr $upstream_addr $proxy_upstream_name "
    "$bytes_sent $bytes_received $upstream_bytes_sent $odd $server_port"
)


async def started(site: Site, **keys: str) -> tuple[int, int, str]:
    """A port of TCP, one of UDP, and where the first leads to."""
    tcp, udp = site.ports.take(), site.ports.take()
    to, datagrams = await site.run(TcpApp("web")), await site.run(UdpApp("dns"))
    site.folder.write(
        "all.yaml",
        *(service("web", 7000), endpoint_slice("web", [to])),
        *(service("dns", 53, protocol="UDP"), endpoint_slice("dns", [datagrams], protocol="UDP")),
        config_map("tcp-services", {str(tcp): "default/web:7000"}),
        config_map("udp-services", {str(udp): "default/dns:53"}),
        config_map("controller", {name.replace("_", "-"): text for name, text in keys.items()}),
    )
    flags = ("--tcp-services-configmap", "default/tcp-services", "--udp-services-configmap", "default/udp-services")
    await site.start(*flags, "--configmap", "default/controller")

    async def listening() -> bool:
        return {f"tcp/{tcp}", f"udp/{udp}"} <= set(await site.envoy.listeners())

    await wait_until(listening, "Envoy to listen")
    return tcp, udp, f"{to[0]}:{to[1]}"


async def ask(port: int) -> None:
    async with await Tcp.open(("127.0.0.1", port)) as client:
        await client.ask("hello")


@pytest.mark.parametrize("on_stderr", [False, True])
async def test_a_connection_has_the_line_that_the_config_map_wants_where_it_wants_it(site: Site, on_stderr: bool) -> None:
    path = {"stream_access_log_path": "/dev/stderr"} if on_stderr else {}
    tcp, udp, to = await started(site, log_format_stream=LINE, **path)
    await ask(tcp)
    line = await site.envoy.process.line("seen 100% TCP")
    assert (line in site.envoy.process.stderr) is on_stderr
    sent, received, upwards = line.split()[6:9]
    assert line == f"seen 100% TCP 127.0.0.1 {to} default-web-7000 {sent} {received} {upwards} - {tcp}"
    assert 0 < int(received) == int(upwards) <= int(sent)
    async with await Udp.open(("127.0.0.1", udp)) as client:
        assert await client.ask(b"hello")


@pytest.mark.parametrize("key", ["disable_access_log", "disable_stream_access_log"])
async def test_there_may_be_no_line(site: Site, key: str) -> None:
    tcp, _, _ = await started(site, **{key: "true"})
    for _ in range(3):
        await ask(tcp)
    await site.envoy.process.stop()
    assert [line for line in (*site.envoy.process.stdout, *site.envoy.process.stderr) if " TCP 200 " in line] == []

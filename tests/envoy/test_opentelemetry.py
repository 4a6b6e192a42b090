"""OpenTelemetry: spans arrive at a collector, and the trace goes on at the backend."""

from __future__ import annotations

import asyncio

import pytest

from examples.apps import HttpApp
from tests.envoy.harness import Collector, Site, backend, config_map, ingress, wait_until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio]

WEB = {"/": ("web", 80)}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENOUGH = 5
"""Spans that Envoy waits for before it sends any."""


async def started(site: Site, **keys: str) -> Collector:
    """Hosts that say nothing, yes and no, and a collector for them."""
    collector = Collector()
    _, port = await site.run(collector)
    data = {"otlp-collector-host": "127.0.0.1", "otlp-collector-port": str(port), "otel-service-name": "the-edge"}
    data |= {name.replace("_", "-"): value for name, value in keys.items()}
    site.folder.write(
        "all.yaml",
        *backend("web", await site.run(HttpApp("web"))),
        config_map("controller", data),
        ingress("usual", "usual.test", WEB),
        ingress("traced", "traced.test", WEB, {"enable-opentelemetry": "true", "opentelemetry-operation-name": "checkout"}),
        ingress("quiet", "quiet.test", WEB, {"enable-opentelemetry": "false", "opentelemetry-operation-name": "silence"}),
    )
    await site.start("--configmap", "default/controller")
    return collector


async def ask(site: Site, host: str, sampled: str = "") -> tuple[str, str]:
    """Ask often enough for spans to be sent; the trace and the flags that the backend got last."""
    parent = [("traceparent", f"00-{TRACE}-{SPAN}-{sampled}")] if sampled else []
    for _ in range(ENOUGH):
        [seen] = (await site.get("/", host=host, headers=parent)).received("traceparent")
    _, trace, _, flags = seen.split("-")
    return trace, flags


async def until_sent(collector: Collector, trace: str) -> bytes:
    """The message with a span of this trace."""

    async def look() -> bytes | None:
        return next((message for message in collector.received if bytes.fromhex(trace) in message), None)

    return await wait_until(look, f"a span of trace {trace}")


async def test_what_an_ingress_asks_for_is_traced_where_the_others_are_not(site: Site) -> None:
    collector = await started(site)
    silent, flags = await ask(site, "usual.test")
    assert flags == "00"
    trace, flags = await ask(site, "traced.test")
    assert flags == "01"
    sent = await until_sent(collector, trace)
    assert (b"checkout" in sent, b"the-edge" in sent) == (True, True)
    assert not any(bytes.fromhex(silent) in message for message in collector.received)


async def test_what_an_ingress_does_not_want_is_not_traced_where_the_others_are(site: Site) -> None:
    collector = await started(site, enable_opentelemetry="true", opentelemetry_operation_name="$request_method $service_name")
    assert (await ask(site, "quiet.test"))[1] == "00"
    assert (await ask(site, "quiet.test", "01"))[1] == "00"
    trace, flags = await ask(site, "usual.test")
    assert flags == "01"
    assert b"GET web" in await until_sent(collector, trace)
    assert not any(b"silence" in message for message in collector.received)


async def test_a_trace_of_a_client_goes_on_as_the_client_says(site: Site) -> None:
    collector = await started(site, enable_opentelemetry="true", otel_sampler="AlwaysOff")
    assert await ask(site, "usual.test", "00") == (TRACE, "00")
    assert await ask(site, "usual.test", "01") == (TRACE, "01")
    assert bytes.fromhex(SPAN) in await until_sent(collector, TRACE)


async def test_a_trace_of_a_client_does_not_count_where_it_is_not_trusted(site: Site) -> None:
    collector = await started(site, enable_opentelemetry="true", opentelemetry_trust_incoming_span="false")
    trace, flags = await ask(site, "usual.test", "00")
    assert (trace != TRACE, flags) == (True, "01")
    assert bytes.fromhex(SPAN) not in await until_sent(collector, trace)


@pytest.mark.parametrize(("sampler", "flags"), [("AlwaysOn", "01"), ("AlwaysOff", "00")])
async def test_a_sampler_decides_alone_where_it_is_not_based_on_the_parent(site: Site, sampler: str, flags: str) -> None:
    await started(site, enable_opentelemetry="true", otel_sampler=sampler, otel_sampler_parent_based="false")
    assert await ask(site, "usual.test", "00" if flags == "01" else "01") == (TRACE, flags)


async def test_a_request_id_stays_as_the_client_sent_it(site: Site) -> None:
    await started(site, enable_opentelemetry="true")
    for sent in ("56a1e1e8-c6dd-47b1-87a9-709c4b94c4de", "not-a-uuid"):
        got = await site.get("/", host="usual.test", headers=[("X-Request-ID", sent)])
        assert got.received("x-request-id") == [sent]


async def test_without_a_collector_nothing_is_added_to_a_request(site: Site) -> None:
    await started(site, otlp_collector_host="", enable_opentelemetry="true")
    assert (await site.get("/", host="traced.test")).received("traceparent") == []


async def test_a_collector_that_is_away_stops_no_request(site: Site) -> None:
    await started(site, otlp_collector_port="9", enable_opentelemetry="true")
    answers = await asyncio.gather(*(site.get("/", host="usual.test") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}

"""What the process tells Prometheus about itself."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from tests.envoy.harness.tls import DAY, NOW, make_certificate
from tests.envoy.harness.waiting import wait_until
from tests.web.site import SETTINGS, Site, ingress, scrape, secret, values
from xds import __version__
from xds.certificates.pairs import Pair, parse
from xds.kube.objects import ConfigMap, Meta
from xds.nginx.registry import known_annotations
from xds.problem import Problem, Ref, Severity
from xds.web.certificate_expiry import Certificates
from xds.web.lag import IDLE_TICK, TICK, Lag, pause
from xds.web.problems import Problems, feature_of
from xds.web.staleness import Staleness

PREFIX = "nginx.ingress.kubernetes.io/"
INGRESS = Ref("Ingress", "default", "web")


@pytest.fixture
def site() -> Site:
    return Site()


async def test_there_are_less_than_a_thousand_series_at_2000_ingresses_with_every_annotation_wrong(site: Site) -> None:
    names = [*known_annotations()]
    many = [
        ingress(f"web-{i}", annotations={PREFIX + names[i % len(names)]: "\x00 {", f"{PREFIX}made-up-{i}": "x"}, tls=f"tls-{i % 40}")
        for i in range(2000)
    ]
    certificates = [secret(f"tls-{i}", make_certificate(["*.test"], not_after=NOW + i * DAY)) for i in range(40)]
    await site.put(*many, *certificates)
    series = [line for line in scrape(site.control_plane.registry).splitlines() if not line.startswith("#")]
    assert len(site.values("xds_certificate_expiry_days")) == 20
    assert sum(site.values("xds_problems").values()) > 2000
    assert len(series) < 1000


async def test_objects_are_counted_by_kind_as_they_come_and_go(site: Site) -> None:
    await site.put(ingress("a"), ingress("b"), ConfigMap(meta=Meta(namespace="default", name="c")))
    await site.put(ingress("a"))
    assert site.values("xds_objects") == {("Ingress",): 2, ("ConfigMap",): 1}
    await site.put(drop=[Ref("Ingress", "default", "a"), Ref("Ingress", "default", "never")])
    assert site.values("xds_objects") == {("Ingress",): 1, ("ConfigMap",): 1}


def test_how_long_ago_the_api_server_has_answered_is_a_series_for_each_kind() -> None:
    registry = CollectorRegistry()
    registry.register(Staleness(lambda _now: {"Secret": 3.0, "Ingress": 1.5}))
    assert values(registry, "xds_source_staleness_seconds") == {("Ingress",): 1.5, ("Secret",): 3.0}


async def test_resources_and_their_bytes_are_those_of_the_snapshot(site: Site) -> None:
    await site.put(ingress("a"), ingress("b"))
    assert site.values("xds_resources") == {("cds",): 0, ("eds",): 0, ("lds",): 2, ("rds",): 1, ("sds",): 1, ("passwords",): 0}
    before = site.values("xds_resource_bytes")
    await site.put(ingress("a-much-longer-name-than-both"))
    after = site.values("xds_resource_bytes")
    assert after[("rds",)] > before[("rds",)] > 0
    assert after[("lds",)] == before[("lds",)] > 0


async def test_a_change_of_resources_is_timed_and_another_one_is_not(site: Site) -> None:
    await site.put(ingress("a"))
    assert site.values("xds_build_seconds_count") == {(): 1}
    await site.put(ingress("a"))
    assert site.values("xds_build_seconds_count") == {(): 1}
    await site.put(ingress("b"))
    assert site.values("xds_build_seconds_count") == {(): 2}


async def test_problems_come_and_go_by_severity_and_by_feature(site: Site) -> None:
    wrong = {f"{PREFIX}proxy-body-size": "huge", f"{PREFIX}made-up": "x"}
    await site.put(ingress("a", annotations=wrong), ingress("b", annotations=wrong))
    found = site.values("xds_problems")
    assert found[("proxy_body_size", "error")] == 2
    assert found[("annotation-unknown", "warning")] == 2
    await site.put(drop=[Ref("Ingress", "default", "a")])
    assert site.values("xds_problems")[("proxy_body_size", "error")] == 1
    await site.put(ingress("b"))
    assert site.values("xds_problems")[("proxy_body_size", "error")] == 0


async def test_a_problem_is_counted_once_however_many_units_report_it(site: Site) -> None:
    problem = Problem(INGRESS, "spec", "empty", "…")
    problems = Problems()
    for _ in range(2):
        problems.add(problem)
    (gauge,) = problems.collect()
    assert [sample.value for sample in gauge.samples] == [1]
    problems.discard(problem)
    problems.discard(problem)
    (gauge,) = problems.collect()
    assert [sample.value for sample in gauge.samples] == [0]


def test_a_problem_that_is_told_anew_with_another_severity_moves() -> None:
    problems = Problems()
    problems.add(Problem(INGRESS, "spec", "empty", "…", Severity.ERROR))
    problems.add(Problem(INGRESS, "spec", "empty", "…", Severity.WARNING))
    (gauge,) = problems.collect()
    assert {sample.labels["severity"]: sample.value for sample in gauge.samples} == {"error": 0, "warning": 1}


@pytest.mark.parametrize(
    ("field", "code", "feature"),
    [
        (f"metadata.annotations[{PREFIX}proxy-body-size]", "annotation-value", "proxy_body_size"),
        ("metadata.annotations[example.org/rewrite-target]", "annotation-value", "rewrite_target"),
        (f"metadata.annotations[{PREFIX}stream-snippet]", "annotation-verdict", "annotation-verdict"),
        (f"metadata.annotations[{PREFIX}anything a user writes]", "annotation-unknown", "annotation-unknown"),
        ("data[proxy-body-size]", "key-value", "proxy_body_size"),
        ("data[no-such-key]", "key-unknown", "key-unknown"),
        ("spec.tls", "tls-host:shop.example.com", "tls-host"),
        ("data[9000]", "stream", "stream"),
    ],
)
def test_the_feature_of_a_problem_is_a_word_of_ours(field: str, code: str, feature: str) -> None:
    assert feature_of(Problem(INGRESS, field, code, "…")) == feature


async def test_a_certificate_that_is_served_is_shown_with_its_secret_its_host_and_its_days(site: Site) -> None:
    await site.put(ingress("web", tls="tls"), secret("tls", make_certificate(["web.test", "a.test"], not_after=NOW + 30 * DAY)))
    assert site.values("xds_certificate_expiry_days") == {("a.test", "default/tls"): pytest.approx(30, abs=0.1)}
    assert site.values("xds_certificates_expiring") == {(): 0}
    await site.put(secret("tls", make_certificate(["web.test"], not_after=NOW + 7 * DAY)))
    assert site.values("xds_certificate_expiry_days") == {("web.test", "default/tls"): pytest.approx(7, abs=0.1)}
    assert site.values("xds_certificates_expiring") == {(): 1}
    await site.put(ingress("web"))
    assert site.values("xds_certificate_expiry_days") == {}


async def test_the_default_certificate_is_the_generated_one_until_that_of_the_flag_is_usable() -> None:
    site = Site(replace(SETTINGS, default_ssl_certificate="default/own"))
    async with site.started(ingress("web")):
        assert [*site.values("xds_certificate_expiry_days")] == [("ingress.local", "default")]
        await site.put(secret("own", make_certificate(["*.example.com"])))
        assert [*site.values("xds_certificate_expiry_days")] == [("*.example.com", "default")]


def test_the_twenty_certificates_that_end_first_are_named_and_all_that_end_soon_are_counted() -> None:
    names = [f"default/tls-{i:02}" for i in range(30)]
    made = parse(secret("tls", make_certificate(["x.test"])))
    assert isinstance(made, Pair)

    def unit(_: object, __: str, name: str) -> Pair:
        return made._replace(not_after=(29 - int(name[-2:])) * 86_400)

    certificates = Certificates(lambda: 0.0)
    certificates.take(names, names, SimpleNamespace(unit=unit))  # type: ignore[arg-type]
    days, soon = certificates.collect()
    assert [sample.labels["secret"] for sample in days.samples] == [f"default/tls-{i:02}" for i in range(29, 9, -1)]
    assert [sample.value for sample in days.samples] == list(range(20))
    assert soon.samples[0].value == 14


async def test_a_loop_that_is_blocked_shows_as_lag() -> None:
    registry = CollectorRegistry()
    async with asynccontextmanager(Lag(registry).watching)(None):
        await looked(registry, 1)
        before = values(registry, "xds_event_loop_lag_seconds_sum")[()]
        asyncio.get_running_loop().call_soon(time.sleep, 0.5)
        await looked(registry, values(registry, "xds_event_loop_lag_seconds_count")[()] + 1)
    assert values(registry, "xds_event_loop_lag_seconds_sum")[()] - before >= 0.5 - IDLE_TICK


def test_a_loop_is_looked_at_seldom_only_while_there_is_little_to_do() -> None:
    assert pause(0.004, 0.05) == IDLE_TICK
    assert pause(0.006, 0.05) == TICK
    assert pause(0.024, 0.25) == IDLE_TICK
    assert pause(0.026, 0.25) == TICK


async def looked(registry: CollectorRegistry, times: float) -> None:
    """Wait until Lag has looked at the loop that many times."""

    async def seen() -> bool:
        return values(registry, "xds_event_loop_lag_seconds_count")[()] >= times

    await wait_until(seen, f"look {times} at the loop")


async def test_a_running_control_plane_is_scraped_and_its_loop_is_watched() -> None:
    site = Site()
    async with site.started(ingress("web")):
        url = f"http://127.0.0.1:{site.control_plane.health_port}"
        async with aiohttp.ClientSession(url) as http, http.get("/metrics") as response:
            text = await response.text()
        assert f'xds_build_info{{version="{__version__}"}} 1.0' in text
        assert 'xds_certificate_expiry_days{host="ingress.local",secret="default"}' in text
        await looked(site.control_plane.registry, 1)
    assert not [task for task in asyncio.all_tasks() if "Lag" in repr(task)]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_process_is_measured(site: Site) -> None:
    text = scrape(site.control_plane.registry)
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "python_gc_collections_total"} <= {
        line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")
    }

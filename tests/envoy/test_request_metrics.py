"""Metrics of requests, from a real Envoy to a real Prometheus: every query of the boards and tools that people have, as they are written.

The queries are those of ingress-nginx' two boards for Grafana ("NGINX Ingress controller", "Request Handling Performance"), of Flagger's
provider for nginx, of Argo Rollouts' and KEDA's examples. Grafana's variables have the value of "All", which is `.*`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from examples.apps import HttpApp
from tests.envoy.harness import Http2, Process, Site, backend, fetch, ingress, make_certificate, secret_tls, wait_until
from tests.envoy.harness.control_plane import XDS
from tests.envoy.harness.prometheus import Prometheus, Sample
from xds import __version__
from xds.request_metrics import STATS_PATH

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

N = "nginx_ingress_controller"
POD = {"pod": "envoy-1", "namespace": "ingress-xds"}
"""What Prometheus' discovery of pods adds: so our own label namespace becomes exported_namespace, as with ingress-nginx."""
TRAFFIC = (
    ("GET", "/", 200, 30, False),
    ("POST", "/", 200, 10, False),
    ("GET", "/status/404", 404, 20, False),
    ("GET", "/cart/status/503", 503, 15, False),
    ("GET", "/slow/sleep/0.03", 200, 5, False),
    ("GET", "/", 200, 30, True),
    ("GET", "/status/500", 500, 10, True),
)
"""Method, target, status of the answer, how often, and whether the canary answers."""
SENT = sum(number for *_, number, _ in TRAFFIC)


class Scraped:
    """An Envoy, `xds metrics` beside it, and two Prometheus: `pods` knows of pods, `bare` adds no labels (as Flagger's own)."""

    def __init__(self, site: Site, metrics: tuple[str, int], pods: Prometheus, bare: Prometheus) -> None:
        self.site = site
        self.metrics = metrics
        self.pods = pods
        self.bare = bare


async def exporter(site: Site, *flags: str) -> tuple[str, int]:
    """Start `xds metrics` beside the Envoy of a site, and return where it listens."""
    address = ("127.0.0.1", site.ports.take())
    listens = ["--stats-address", f"unix:{site.path / 'stats.sock'}", "--metrics-address", f"{address[0]}:{address[1]}"]
    process = Process("metrics", [*XDS, "metrics", *listens, "--controller-pod", "envoy-1", *flags], site.path)
    await site.run_process(process)
    return address


async def envoy_with_statistics(site: Site) -> None:
    """Start the site's Envoy with the socket for `xds metrics`."""
    await site.static_envoy(await site.control_plane.bootstrap(flags=["--stats-address", f"unix:{site.path / 'stats.sock'}"]))


async def page(address: tuple[str, int]) -> str:
    """The exporter's page, once it has one."""

    async def look() -> str:
        response = await fetch(address, "/metrics", host="metrics")
        assert response.status == 200, response.text
        return response.text

    return await wait_until(look, "metrics")


async def send(site: Site, *, all_others: bool) -> None:
    """One of each kind of request, so that Prometheus knows each series before it grows; or all others."""
    for method, target, status, number, canary in TRAFFIC:
        for _ in range(number - 1 if all_others else 1):
            response = await site.get(target, host="shop.test", method=method, headers=[("x-canary", "always")] if canary else [])
            assert response.status == status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scraped(shared_site: Site) -> AsyncIterator[Scraped]:
    site = shared_site
    app, canary = await site.run(HttpApp("web")), await site.run(HttpApp("next"))
    paths = {"/": ("web", 80), "/cart": ("web", 80), "/slow": ("web", 80)}
    site.folder.write("web.yaml", ingress("shop", "shop.test", paths, namespace="shop"))
    notes = {"canary": "true", "canary-by-header": "x-canary"}
    site.folder.write("canary.yaml", ingress("shop-canary", "shop.test", {"/": ("next", 80)}, notes, namespace="shop"))
    site.folder.write("backends.yaml", *backend("web", app, namespace="shop"), *backend("next", canary, namespace="shop"))
    certificate = make_certificate(["secure.test"])
    site.folder.write("secure.yaml", secret_tls("secure", certificate, namespace="shop"))
    site.folder.write("tls.yaml", ingress("secure", "secure.test", {"/": ("none", 80)}, namespace="shop", tls={"secure": ["secure.test"]}))
    await site.start_control_plane("--enable-metrics", "--pod-name=xds-1")
    await envoy_with_statistics(site)
    metrics = await exporter(site)
    await send(site, all_others=False)
    await page(metrics)
    servers = [Prometheus([metrics, site.control_plane.health], site.path, site.ports, labels) for labels in (POD, {})]
    for each in servers:
        await site.run_process(each.process)
        await each.ready()
    pods, bare = servers
    await until_counted(pods, len(TRAFFIC))
    await until_there(pods, f"{N}_ssl_expire_time_seconds")
    await until_counted(bare, len(TRAFFIC))
    await send(site, all_others=True)
    for each in servers:
        await until_counted(each, SENT)
        await until_twice(each)
    yield Scraped(site, metrics, pods, bare)


async def until_counted(prometheus: Prometheus, number: int) -> None:
    async def look() -> bool:
        found = await prometheus.query(f"sum({N}_requests) + 0 * sum({N}_request_duration_seconds_count)")
        durations = await prometheus.query(f"sum({N}_response_duration_seconds_count)")
        assert [value for _, value in (*found, *durations)] == [number, number]
        return True

    await wait_until(look, f"{number} requests in Prometheus")


async def until_there(prometheus: Prometheus, metric: str) -> None:
    async def look() -> bool:
        return bool(await prometheus.query(metric))

    await wait_until(look, f"{metric} in Prometheus")


async def until_twice(prometheus: Prometheus) -> None:
    """Until there are two scrapes after the last change, of which irate() makes a rate."""

    async def look() -> bool:
        found = await prometheus.query(f"min(count_over_time({N}_requests[1m]))")
        return bool(found) and found[0][1] >= 4

    await wait_until(look, "some scrapes")


def of_board(query: str) -> str:
    """A query of a board with all of its variables at "All"."""
    for name in ("controller_class", "controller", "exported_namespace", "namespace", "ingress"):
        query = query.replace(f"${name}", ".*")
    return query


Check = Callable[[Sequence[Sample]], bool]


def positive(found: Sequence[Sample]) -> bool:
    return bool(found) and all(value > 0 and math.isfinite(value) for _, value in found)


def there(found: Sequence[Sample]) -> bool:
    """Something that may be 0, since nothing has happened in the last two scrapes."""
    return bool(found) and all(math.isfinite(value) for _, value in found)


def near(wanted: float, tolerance: float = 0.15) -> Check:
    return lambda found: len(found) == 1 and abs(found[0][1] - wanted) <= tolerance * wanted


def by(label: str, *wanted: str) -> Check:
    """Series with just these values of a label, all positive."""
    return lambda found: positive(found) and {labels.get(label) for labels, _ in found} == set(wanted)


OF_ALL = 'controller_pod=~"$controller",controller_class=~"$controller_class",controller_namespace=~"$namespace"'
OF_INGRESS = f'ingress!="",{OF_ALL},ingress=~"$ingress"'
EXPORTED = f'{OF_INGRESS},exported_namespace=~"$exported_namespace"'
OF_NAMESPACE = 'controller_pod=~"$controller",controller_class=~"$controller_class",namespace=~"$namespace"'
OF_CERTIFICATE = 'kubernetes_pod_name=~"$controller",namespace=~"$namespace",ingress=~"$ingress"'
SUCCESS = 1 - sum(number for _, _, status, number, _ in TRAFFIC if status >= 400) / SENT

CONTROLLER_BOARD: Sequence[tuple[str, Check]] = (
    (f"round(sum(irate({N}_requests{{{OF_NAMESPACE}}}[2m])), 0.001)", there),
    (f'sum(avg_over_time({N}_nginx_process_connections{{{OF_ALL},state="active"}}[2m]))', there),
    (
        f'sum(rate({N}_requests{{{OF_NAMESPACE},status!~"[4-5].*"}}[2m])) / sum(rate({N}_requests{{{OF_NAMESPACE}}}[2m]))',
        near(SUCCESS),
    ),
    (f"avg(irate({N}_success{{{OF_ALL}}}[1m])) * 60", there),
    (f"count({N}_config_last_reload_successful{{{OF_ALL}}} == 1)", near(1)),
    (f'round(sum(irate({N}_requests{{{OF_ALL},ingress=~"$ingress"}}[2m])) by (ingress), 0.001)', there),
    (
        (
            f'sum(rate({N}_requests{{{OF_NAMESPACE},ingress=~"$ingress",status!~"[4-5].*"}}[2m])) by (ingress) / '
            f'sum(rate({N}_requests{{{OF_NAMESPACE},ingress=~"$ingress"}}[2m])) by (ingress)'
        ),
        near(SUCCESS),
    ),
    (f"sum (irate ({N}_request_size_sum{{{OF_ALL}}}[2m]))", there),
    (f"- sum (irate ({N}_response_size_sum{{{OF_ALL}}}[2m]))", there),
    (f"avg({N}_nginx_process_resident_memory_bytes{{{OF_ALL}}}) ", lambda found: 2e7 < found[0][1] < 1e9),
    (f"avg (rate ({N}_nginx_process_cpu_seconds_total{{{OF_ALL}}}[2m])) ", positive),
    *(
        (
            f"histogram_quantile({part}, sum(rate({N}_request_duration_seconds_bucket{{{OF_INGRESS}}}[2m])) by (le, ingress))",
            by("ingress", "shop"),
        )
        for part in ("0.50", "0.90", "0.99")
    ),
    (f"sum(irate({N}_request_size_sum{{{OF_INGRESS}}}[2m])) by (ingress)", there),
    (f"sum(irate({N}_response_size_sum{{{OF_INGRESS}}}[2m])) by (ingress)", there),
    *(
        (f"histogram_quantile({part}, sum(rate({N}_request_duration_seconds_bucket{{{EXPORTED}}}[2m])) by (le))", positive)
        for part in ("0.80", "0.90", "0.99")
    ),
    (f"sum(increase({N}_request_duration_seconds_bucket{{{EXPORTED}}}[2m])) by (le)", there),
    (
        f"avg({N}_ssl_expire_time_seconds{{{OF_CERTIFICATE}}}) by (host) - time()",
        by("host", "secure.test"),
    ),
)
PLACES = {("GET", "/"), ("POST", "/"), ("GET", "/cart"), ("GET", "/slow")}


def in_places(wanted: set[tuple[str, str]]) -> Check:
    """Positive series for these methods and paths of the one host."""

    def check(found: Sequence[Sample]) -> bool:
        seen = {(labels["method"], labels["path"]) for labels, _ in found}
        return positive(found) and seen == wanted and {labels["host"] for labels, _ in found} == {"shop.test"}

    return check


REQUESTS_BOARD: Sequence[tuple[str, Check]] = (
    *(
        (f'histogram_quantile({part}, sum by (le)( rate( {N}_{what}_duration_seconds_bucket{{ ingress =~ "$ingress" }}[5m] ) ))', positive)
        for what in ("request", "response")
        for part in ("0.5", "0.95", "0.99")
    ),
    (f'sum by (method, host, path)( rate( {N}_request_duration_seconds_count{{ ingress =~ "$ingress" }}[5m] ) )', in_places(PLACES)),
    (
        (
            f"histogram_quantile( .5, sum by (le, method, host, path)( "
            f'rate( {N}_response_duration_seconds_bucket{{ ingress =~ "$ingress" }}[5m] ) ))'
        ),
        in_places(PLACES),
    ),
    (
        (
            f'sum by (method, host, path) (rate({N}_request_duration_seconds_count{{ ingress =~ "$ingress", status =~ "[4-5].*" }}[5m])) / '
            f'sum by (method, host, path) (rate({N}_request_duration_seconds_count{{ ingress =~ "$ingress", }}[5m]))'
        ),
        in_places({("GET", "/"), ("GET", "/cart")}),
    ),
    (f'sum by (method, host, path) (rate({N}_response_duration_seconds_sum{{ingress =~ "$ingress"}}[5m]))', in_places(PLACES)),
    (
        f'sum (rate({N}_request_duration_seconds_count{{ingress =~ "$ingress", status =~"[4-5].*",}}[5m])) by(method, host, path, status)',
        by("status", "404", "500", "503"),
    ),
    (
        (
            f'sum ( rate ( {N}_response_size_sum {{ ingress =~ "$ingress", }}[5m] )) by (method, host, path) / '
            f'sum ( rate( {N}_response_size_count {{ ingress =~ "$ingress", }}[5m] )) by (method, host, path)'
        ),
        in_places(PLACES),
    ),
    (f'sum (rate({N}_response_size_bucket{{ ingress =~ "$ingress", }}[5m])) by (le)', positive),
    (
        (
            f'sum ( rate( {N}_ingress_upstream_latency_seconds_sum {{ ingress =~ "$ingress", }}[5m] )) / '
            f'sum ( rate( {N}_ingress_upstream_latency_seconds_count {{ ingress =~ "$ingress", }}[5m] ))'
        ),
        positive,
    ),
    (f'sum by (path)( rate( {N}_request_duration_seconds_count{{ ingress =~ "$ingress" }}[5m] ) )', by("path", "/", "/cart", "/slow")),
)
_SHOP = 'namespace="shop", ingress="shop"'
TOOLS: Sequence[tuple[str, Check]] = (
    # Flagger, request-success-rate and request-duration; the latter in milliseconds
    (
        f'sum( rate( {N}_requests{{ {_SHOP}, status!~"5.*" }}[1m] ) ) / sum( rate( {N}_requests{{ {_SHOP} }}[1m] ) ) * 100',
        near(100 * (1 - 25 / SENT)),
    ),
    (
        (
            f"sum( rate( {N}_ingress_upstream_latency_seconds_sum{{ {_SHOP} }}[1m] ) ) / "
            f"sum( rate( {N}_ingress_upstream_latency_seconds_count{{ {_SHOP} }}[1m] ) ) * 1000"
        ),
        positive,
    ),
    # Flagger's tutorial, and Argo Rollouts: what the canary answers, on the path that is another Ingress'
    (
        (
            f'sum( rate( {N}_requests{{ {_SHOP}, canary!="", status!~"5.*" }}[1m] ) ) / '
            f'sum( rate( {N}_requests{{ {_SHOP}, canary!="" }}[1m] ) ) * 100'
        ),
        near(75),
    ),
    (
        f'histogram_quantile(0.99, sum( rate( {N}_request_duration_seconds_bucket{{ {_SHOP}, canary!="" }}[1m] ) ) by (le) )',
        positive,
    ),
    # KEDA: a trigger's query, which must find one value
    (f'sum(rate({N}_requests{{exported_namespace="", ingress="shop"}}[2m]))', lambda found: len(found) == 1 and positive(found)),
    (f'sum(rate({N}_requests{{service="web"}}[1m]))', lambda found: len(found) == 1 and positive(found)),
    # Argo Rollouts, by Service
    (f'sum(rate({N}_requests{{status=~"5.*",service="web"}}[1m])) / sum(rate({N}_requests{{service="web"}}[1m]))', positive),
)


@pytest.mark.parametrize(
    ("query", "check"), [*CONTROLLER_BOARD, *REQUESTS_BOARD], ids=lambda value: value if isinstance(value, str) else ""
)
async def test_a_query_of_a_board_has_an_answer(query: str, check: Check, scraped: Scraped) -> None:
    found = await scraped.pods.query(of_board(query))
    assert check(found), found


@pytest.mark.parametrize(("query", "check"), TOOLS, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_query_of_a_tool_has_an_answer(query: str, check: Check, scraped: Scraped) -> None:
    found = await scraped.bare.query(query)
    assert check(found), found


@pytest.mark.parametrize(
    ("series", "label", "wanted"),
    [
        (f"{N}_config_hash", "controller_namespace", ["ingress-xds"]),
        (f'{N}_config_hash{{namespace=~"$namespace"}}', "controller_class", ["k8s.io/ingress-nginx"]),
        (f'{N}_config_hash{{namespace=~"$namespace",controller_class=~"$controller_class"}}', "controller_pod", ["envoy-1"]),
        (f"{N}_requests{{{OF_NAMESPACE}}}", "ingress", ["shop"]),
        (f'{N}_requests{{{OF_NAMESPACE}, ingress=~"$ingress"}}', "exported_namespace", ["shop"]),
    ],
)
async def test_a_variable_of_a_board_has_its_values(series: str, label: str, wanted: list[str], scraped: Scraped) -> None:
    assert await scraped.pods.label_values(of_board(series), label) == wanted


async def test_each_request_is_counted_once_by_what_became_of_it(scraped: Scraped) -> None:
    found = await scraped.bare.query(f"sum by (method, path, status, canary) ({N}_requests)")
    counts = {(each["method"], each["path"], each["status"], each.get("canary", "")): value for each, value in found}
    assert counts == {
        ("GET", "/", "200", ""): 30,
        ("POST", "/", "200", ""): 10,
        ("GET", "/", "404", ""): 20,
        ("GET", "/cart", "503", ""): 15,
        ("GET", "/slow", "200", ""): 5,
        ("GET", "/", "200", "shop-next-80"): 30,
        ("GET", "/", "500", "shop-next-80"): 10,
    }


async def test_slow_requests_are_in_the_buckets_of_their_time(scraped: Scraped) -> None:
    found = await scraped.bare.query(f'sum by (le) ({N}_request_duration_seconds_bucket{{path="/slow"}})')
    buckets = {labels["le"]: value for labels, value in found}
    assert sorted(map(float, buckets)) == pytest.approx([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, math.inf])
    assert (buckets["0.025"], buckets["+Inf"]) == (0, 5)
    ((_, spent),) = await scraped.bare.query(f'sum({N}_response_duration_seconds_sum{{path="/slow"}})')
    assert spent >= 5 * 0.03 * 0.95


async def test_sizes_are_exact(scraped: Scraped) -> None:
    """What Envoy says of all its connections is the same, in bytes: no request came from elsewhere."""
    for what, total in (("request", "rx"), ("response", "tx")):
        ((_, counted),) = await scraped.bare.query(f"sum({N}_{what}_size_sum)")
        sent = await scraped.site.envoy.stats(f"^http.http.downstream_cx_{total}_bytes_total$")
        assert counted == sum(sent.values())


async def test_the_controller_says_what_ingress_nginx_says_of_itself(scraped: Scraped) -> None:
    found = await scraped.bare.query(f'{{__name__=~"{N}_(orphan_ingress|leader_election_status|build_info|ssl_certificate_info)"}}')
    named = {labels["__name__"].removeprefix(f"{N}_"): labels for labels, _ in found}
    assert named["orphan_ingress"].items() >= {"namespace": "shop", "ingress": "secure", "type": "no-service"}.items()
    assert named["leader_election_status"].items() >= {"name": "ingress-controller-leader", "controller_pod": "xds-1"}.items()
    assert named["ssl_certificate_info"].items() >= {"host": "secure.test", "secret_name": "secure", "namespace": "shop"}.items()
    assert named["build_info"]["release"] == __version__


@pytest.mark.parametrize(
    "target", ["/", "/stats/prometheus", "/stats?filter=x", f"{STATS_PATH}&usedonly", "/quitquitquit", "/config_dump", "/process/x"]
)
async def test_the_socket_for_metrics_passes_nothing_else_to_the_admin_page(target: str, scraped: Scraped) -> None:
    async def status(method: str, target: str) -> int:
        reader, writer = await asyncio.open_unix_connection(str(scraped.site.path / "stats.sock"))
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        writer.close()
        return int(line.split()[1])

    assert await status("GET", STATS_PATH) == 200
    assert [await status(method, target) for method in ("GET", "POST")] == [404, 404]


async def test_clients_cannot_make_labels(scraped: Scraped) -> None:
    """Neither by hosts and paths of their own, nor by methods that nobody knows. It comes last, for its requests count."""
    site = scraped.site
    for number in range(20):
        assert (await site.get(f"/{number}", host=f"{number}.nowhere.test")).status == 404
        assert (await site.get(f"/only/{number}?{number}", host="SHOP.test:80")).status == 200
    async with await Http2.open(site.http) as client:
        for word, status in (("PROPFIND", 200), ("MKCOL", 200), ("REPORT", 200), ("UNHEARD", 400), ("OF-BEFORE", 400)):
            assert (await client.request(word, "/", host="shop.test")).status == status  # the application knows the first three

    async def look() -> bool:
        text = await page(scraped.metrics)
        lines = [line for line in text.splitlines() if line.startswith(f"{N}_requests{{")]
        assert any('method="OTHER"' in line and line.endswith(" 3") for line in lines)
        assert not any(word in text for word in ("nowhere", "PROPFIND", "UNHEARD", "OF-BEFORE", "/only", "SHOP", ":80"))
        return len(lines) == 9

    await wait_until(look, "the requests in the page")


async def test_the_exporter_waits_for_its_envoy(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        address = await exporter(site)

        async def look() -> bool:
            response = await fetch(address, "/metrics", host="metrics")
            assert response.status == 503
            return "Envoy does not answer" in response.text

        await wait_until(look, "an answer")
        assert (await asyncio.gather(*(fetch(address, "/healthz", host="metrics") for _ in range(3))))[0].status == 200


async def test_what_nothing_is_added_to_is_forgotten_and_counted_anew(tmp_path: Path) -> None:
    """Else the Ingresses of years would fill the room that there is. Here a moment stands for the day."""
    async with Site(tmp_path) as site:
        app = await site.run(HttpApp("web"))
        site.folder.write("web.yaml", ingress("shop", "shop.test", {"/": ("web", 80)}, namespace="shop"))
        site.folder.write("backends.yaml", *backend("web", app, namespace="shop"))
        await site.start_control_plane("--enable-metrics")
        bootstrap = await site.control_plane.bootstrap(flags=["--stats-address", f"unix:{site.path / 'stats.sock'}"])
        assert bootstrap.count("86400s") == 1
        await site.static_envoy(bootstrap.replace("86400s", "5s"))  # as often as Envoy flushes
        metrics = await exporter(site)
        sent = 0

        async def counted() -> float | None:
            lines = [line for line in (await page(metrics)).splitlines() if line.startswith(f"{N}_requests{{") and "shop.test" in line]
            return float(lines[0].rpartition(" ")[2]) if lines else None

        async def is_counted() -> bool:
            nonlocal sent
            await site.get("/", host="shop.test")
            sent += 1
            found = await counted()
            assert found is None or found <= sent, "what was forgotten is not added"
            return found is not None

        async def is_gone() -> bool:
            return await counted() is None

        for _ in range(2):
            sent = 0
            await wait_until(is_counted, "the first count")
            await wait_until(is_gone, "statistics that are forgotten")
